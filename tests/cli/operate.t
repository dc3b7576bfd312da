#!/usr/bin/env perl
# subscriptions show and its actions, dead, replay (SUB-2, SUB-5, SUB-7, SUB-9, RET-7).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my ($rc, $out, $err);

sub show { return decode(tl_ok(['subscriptions', 'show', $_[0] // 'a/b', '--json'])) }

# Claim so many and settle them: the first of those named fail for good.
sub fail_some {
    my ($n, @positions) = @_;
    my $claim = decode(tl_ok(['claim', 'a/b', '--json', '-n', $n]));
    query($db, "SELECT trunkline.ack('$claim->{token}', NULL, '[" . join(',', map { qq({"position": $_, "error": "no good: $_", "verdict": "fail"}) } @positions) . "]')");
    return;
}

sub is_refused {
    my ($code, $message, @arguments) = @_;
    my ($got, $printed, $said) = tl(\@arguments);
    is "$got $printed", "$code ", "exit code of: @arguments";
    like $said, qr/\Atrunkline: error: .*$message/s, 'says why';
    return;
}

tl_ok(['subscribe', 'a/b', 'n.**', '--target', 'https://user:hunter22@example.com/', '--target-option', 'headers={"X-Key": "hunter23"}', '--retry-schedule', '5s,1m']);
tl_ok(['publish', $_ % 2 ? 'n.odd' : 'n.even', qq({"n": $_, "secret": "x"}), '--key', $_ % 2, '--tenant', $_ % 2 ? 'odd' : 'even', '--source', 'here']) for 1 .. 9;

# SUB-9: everything about one.
my $held = decode(tl_ok(['claim', 'a/b', '--json', '-n', 3]));
tl_ok(['ack', $held->{token}, '--fail', 1, '--error', 'no stock']);
query($db, q(UPDATE trunkline.retries SET next_attempt_at = '2099-01-01Z'));
$out = tl_ok(['subscriptions', 'show', 'a/b']);
like $out, qr/^state +active$/m, 'SUB-9 show: state';
like $out, qr/^target +https:\/\/\*\*\*\*\@example\.com\/$/m, 'no password';
like $out, qr/^target_options +\{"headers": \{"X-Key": "\*\*\*\*"\}\}$/m, 'no header';
like $out, qr/^backoff +schedule 00:00:05 00:01:00$/m, 'its policy';
like $out, qr/\nin flight\ntoken .*\n$held->{token} +trunkline claim +0 +2 +0 +1 +until /, 'the lease and who holds it';
like $out, qr/\nwaiting for another attempt\n.*\n1 +1 +2099-01-01 .* no stock\n/, 'the retry';
unlike $out, qr/^slots\n|^dead letters|^replays/m, 'no heading without rows';
my $shown = show();
is_deeply [@$shown{qw(state mode slots cursor behind leased on_failure topic)}], ['active', 'async', 1, 3, 6, 2, 'block_key', 'bus'], 'as JSON' or diag explain $shown;
is $shown->{leases}[0]{owner}, 'trunkline claim', 'leases';
is_deeply [map { "$_->{position} $_->{error_message}" } @{$shown->{retries}}], ['1 no stock'], 'retries';
unlike tl_ok(['subscriptions', @$_, '--json']), qr/hunter/, "no secret: @$_" for ['show', 'a/b'], ['list'];
is decode(tl_ok(['subscriptions', '--json']))->{target}, 'https://****@example.com/', 'but where it goes';

# SUB-2
is tl_ok(['subscriptions', 'pause', 'a/b', '--reason', 'new server']), "paused a/b\n", 'SUB-2 pause';
is tl_ok(['subscriptions', 'pause', 'a/b']), "was paused already: a/b\n", 'again';
like tl_ok(['subscriptions', 'show', 'a/b']), qr/^pause_reason +new server$/m, 'why';
like tl_ok(['subscriptions']), qr/^a\/b .* paused /m, 'in the list';
is decode(tl_ok(['subscriptions', 'resume', 'a/b', '--json']))->{state}, 'active', 'resume, as JSON';
is tl_ok(['subscriptions', 'resume', 'a/b']), "was not paused: a/b\n", 'again';
is_refused(4, 'not stopped by an event', 'subscriptions', 'resume', 'a/b', '--skip');

# SUB-5
is tl_ok(['subscriptions', 'reset', 'a/b', 2]), "a/b goes on after 2; dropped: leases 1, retries 1, replays 0\n", 'SUB-5 reset';
is +(tl(['ack', $held->{token}]))[0], 11, 'the lease is fenced';
is_deeply decode(tl_ok(['subscriptions', 'reset', 'a/b', 'beginning', '--json'])), {cursor => 0, leases => 0, retries => 0, replays => 0}, 'as JSON';
is show()->{cursor}, 0, 'there';
tl_ok(['subscriptions', 'reset', 'a/b', '2000-01-01']);
is show()->{cursor}, 0, 'to a time';

# RET-7
fail_some(9, 1 .. 5);
$out = tl_ok(['dead']);
like $out, qr/\Aid +dead_at +subscription +position +type +state +reason +tries +error\n1 +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +a\/b +1 +n\.odd +dead +rejected +1 +no good: 1\n/, 'RET-7 dead list';
unlike $out, qr/secret/, 'without the payload';
unlike tl_ok(['dead', '--json']), qr/secret/, 'as JSON neither';
sub listed { return join ' ', map { decode($_)->{position} } split /\n/, tl_ok(['dead', 'list', '--json', @_]) }
is listed(), '1 2 3 4 5', 'all';
is listed('--subscription', 'a/b', '--type', 'n.even'), '2 4', 'by type';
is listed('--tenant', 'odd'), '1 3 5', 'by tenant';
is listed('--reason', 'crashed'), '', 'by reason';
is listed('--limit', 2), '1 2', 'so many';
is listed('--after', 3), '4 5', 'read on';
my ($first_at) = tl_ok(['dead']) =~ /^1 +(\S+)/m;
is listed('--since', $first_at), '1 2 3 4 5', 'since a time as it is printed';
is listed('--since', '1h'), '1 2 3 4 5', 'since so long ago';
is listed('--until', '1h'), '', 'until so long ago';
is listed('--since', '2000-01-01', '--until', '2001-01-01T10:00:00Z'), '', 'times';
$out = tl_ok(['dead', 'show', 2]);
like $out, qr/^data +\{"n": 2, "secret": "x"\}$/m, 'show: with the payload';
like $out, qr/\nattempts\nattempt +at +error\n1 +\S+ +no good: 2\n\z/, 'and its attempts';
is decode(tl_ok(['dead', 'show', 2, '--json']))->{event}{data}{n}, 2, 'as JSON';
like tl_ok(['dead', 'stats']), qr/^a\/b +rejected +5 +0 +0 +0 +\d/m, 'stats';
is tl_ok(['dead', 'redrive', '--type', 'n.even', '--dry-run']), "would redrive 2\n", 'dry run';
is tl_ok(['dead', 'redrive', '--type', 'n.even', '--rate', '0.01']), "redriven 2\n", 'redrive';
is query($db, q(SELECT bool_and("position" = 2 OR next_attempt_at > now() + interval '90 s') FROM trunkline.retries)), 't', 'at a rate';
is tl_ok(['dead', 'redrive', 2]), "redriven 0\n", 'again: it is on its way';
is decode(tl_ok(['dead', 'redrive', 1, '--json', '--dry-run']))->{count}, 1, 'as JSON';
is tl_ok(['dead', 'discard', 1, '--note', 'junk']), "discarded 1\n", 'discard';
is tl_ok(['dead', 'resolve', '--subscription', 'a/b', '--limit', 1, '--note', 'by mail']), "resolved 1\n", 'resolve';
is query($db, 'SELECT string_agg(state || coalesce(note, $$$$), $$ $$ ORDER BY dead_letter_id) FROM trunkline.dead_letters'), 'discardedjunk redriven resolvedby mail redriven dead', 'what became of them';
is listed('--state', 'redriven'), '2 4', 'by state';
is listed('--state', 'any'), '1 2 3 4 5', 'in any';
is tl_ok(['dead', 'redrive', '--all', '-q']), "redriven 1\n", 'all that are left';
(undef, undef, $err) = tl(['dead', 'discard', '--all', '--limit', 1]);
is $err, '', 'nothing more: no word of more';
is_refused(2, 'needs ID, a condition or --all', 'dead', $_) for qw(redrive discard resolve);
is_refused(2, 'show needs ID', 'dead', 'show');
is_refused(2, 'number of a dead letter', 'dead', 'show', 'x');
is_refused(5, '99', 'dead', 'show', 99);
is_refused(5, '99', 'dead', 'redrive', 99);
is_refused(5, 'nobody', 'dead', 'list', '--subscription', 'nobody');
is_refused(2, 'pattern', 'dead', 'list', '--type', 'a..b');
is_refused(2, '--since is a time', 'dead', 'list', '--since', $_)
    for 'lately', '2026-02-31', '2026-11-20T24:00:00Z', '2026-11-20T21:40:60', ' 2026- 1- 2', '2026-11-20T21:40:00.Z';
is_refused(2, '1 to 100000', 'dead', 'list', '--limit', 0);
is_refused(2, '--note goes with discard\|resolve', 'dead', 'redrive', 1, '--note', 'x');
is_refused(2, '--rate goes with redrive', 'dead', 'discard', 1, '--rate', 1);
is_refused(2, '--dry-run goes with', 'dead', 'stats', '--dry-run');
is_refused(2, '--state goes with list', 'dead', 'resolve', 1, '--state', 'dead');
is_refused(2, 'unexpected argument "1"', 'dead', 'stats', 1);
is_refused(2, 'exclude each other', 'dead', 'discard', '--all', '--type', 'x');

# Replay.
is tl_ok(['replay', 'start', 'a/b', '--from', 'beginning', '--dry-run']), "would replay 9 events to a/b\n", 'replay: dry run';
is tl_ok(['replay', 'start', 'a/b', '--from', 2, '--to', 5, '--rate', 7]), "replay 1: 3 events to a/b\n", 'start';
like tl_ok(['replay']), qr/^1 +a\/b +1 +2 +5 +7 /m, 'list';
is_deeply decode(tl_ok(['replay', 'start', 'a/b', '--from', 8, '--json'])), {replay_id => 2, events => 1}, 'as JSON';
like tl_ok(['subscriptions', 'show', 'a/b']), qr/\nreplays\n.*\n1 +0 +2 +5 +7 .*\n2 +0 +8 +9 +- /, 'seen in the subscription';
is_refused(4, 'replay under way', 'subscriptions', 'set-slots', 'a/b', 2);
is tl_ok(['replay', 'cancel', $_]), "cancelled $_\n", 'cancel' for 1, 2;
is_refused(5, 'replay 1', 'replay', 'cancel', 1);
is_refused(2, 'number of a replay', 'replay', 'cancel', 'a/b');
is_refused(2, 'needs --from', 'replay', 'start', 'a/b');
is_refused(2, '--from goes with start', 'replay', 'list', '--from', 1);
is_refused(2, '--to is beginning, end', 'replay', 'start', 'a/b', '--from', 1, '--to', 'x');
($rc, $out, $err) = tl(['replay', 'start', 'a/b', '--from', 'end']);
is "$rc $out", '0 ', 'nothing to replay';
like $err, qr/nothing to replay/, 'is said';

# SUB-10, drain.
is tl_ok(['subscriptions', 'set-slots', 'a/b', 3]), "slots changed: a/b\n", 'set-slots';
like tl_ok(['subscriptions', 'show', 'a/b']), qr/\nslots\nslot +cursor .*\n0 +9 .*\n1 +9 .*\n2 +9 /, 'shown one by one';
tl_ok(['subscriptions', 'set-slots', 'a/b', 1]);
is_refused(2, '1 to 256', 'subscriptions', 'set-slots', 'a/b', $_) for 0, 257, 'x';
is_refused(2, 'needs NAME and a number', 'subscriptions', 'set-slots', 'a/b');
is_refused(2, 'needs NAME and beginning', 'subscriptions', 'reset', 'a/b');
is_refused(2, 'PLACE is beginning', 'subscriptions', 'reset', 'a/b', 'soon');
is_refused(2, 'needs NAME', 'subscriptions', 'pause');
is_refused(2, 'unexpected argument "x"', 'subscriptions', 'pause', 'a/b', 'x');
is_refused(2, '--skip goes with resume', 'subscriptions', 'pause', 'a/b', '--skip');
is_refused(5, 'nobody', 'subscriptions', $_, 'nobody') for qw(show pause resume drain delete);
is_refused(5, 'nobody', 'subscriptions', 'reset', 'nobody', 'end');
is tl_ok(['subscriptions', 'drain', 'a/b']), "draining up to 9: a/b\n", 'drain';
like tl_ok(['subscriptions']), qr/^a\/b .* draining /m, 'redriven events are left: draining';

# SUB-7
is_refused(4, 'not settled.*--yes', 'subscriptions', 'delete', 'a/b');
is_refused(4, 'not settled.*--yes', 'unsubscribe', 'a/b');

# Typed on a terminal of its own.
sub on_terminal {
    my ($typed) = @_;
    my $handle = start_program(['python3', '-c', <<'P', $typed, $ENV{TRUNKLINE_BIN}, 'subscriptions', 'delete', 'a/b']);
import os, pty, sys
typed, command = sys.argv[1], sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(command[0], command)
said = b""
while True:
    try:
        part = os.read(terminal, 1000)
    except OSError:
        break
    if not part:
        break
    asked = b"remove it: " in said
    said += part
    if not asked and b"remove it: " in said:
        os.write(terminal, typed.encode() + b"\n")
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
P
    my $code = wait_exit($handle);
    return ($code, slurp($handle->{out}));
}
($rc, $out) = on_terminal('a/c');
is $rc, 4, 'another name typed: refused' or diag $out;
like $out, qr/not settled; they will not be delivered/, 'it asked';
is show()->{name}, 'a/b', 'it is still there';
($rc, $out) = on_terminal('a/b');
is $rc, 0, 'the name typed' or diag $out;
like $out, qr/unsubscribed a\/b/, 'removed';
is_refused(5, 'a/b', 'subscriptions', 'show', 'a/b');
tl_ok(['subscribe', $_, 'n.**', '--start', 'beginning']) for qw(c d);
is tl_ok(['subscriptions', 'delete', 'c', '--yes']), "unsubscribed c\n", 'delete --yes';
is tl_ok(['unsubscribe', 'd', '-y']), "unsubscribed d\n", 'unsubscribe -y';
is listed('--state', 'any'), '1 2 3 4 5', 'dead letters stay';

done_testing;
