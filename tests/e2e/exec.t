#!/usr/bin/env perl
# Commands as targets in full: environment, exit status, output, time-out, concurrency (WRK-6, WRK-10).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
delete $ENV{TRUNKLINE_PG_BINDIR};
my $dir = workdir();
sub subscribe { my ($name, $pattern, $command, @more) = @_; return tl_ok(['subscribe', $name, $pattern, '--target', "exec:$command", @more]) }
sub outcome { my ($name) = @_; return query($db, "SELECT o.state || ':' || coalesce(o.attempts::text, '-') || ':' || coalesce(o.error, '-') FROM trunkline.topic_bus e, trunkline.outcomes(at => e.position) o WHERE o.subscription = '$name' ORDER BY e.position DESC LIMIT 1") }
sub becomes { my ($name, $wanted) = @_; my $got; return wait_for(sub { $got = outcome($name); $got =~ $wanted }) || (diag("$name: $got"), 0)[1] }
sub is_alive { my ($pid) = @_; return slurp("/proc/$pid/stat") =~ /^\d+ \(.*\) ([^ZX])/s }

my $trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
# what the daemon itself was started with is not the event's
my $serve = do {
    local $ENV{TRACEPARENT} = 'stale';
    local $ENV{TRUNKLINE_KEY} = 'stale';
    local $ENV{KEPT} = 'kept';
    start_serve($db, ['--allow-exec', '--exec-timeout', '30s', '--concurrency', 3]);
};
sub ready { my ($name) = @_; return wait_for(sub { slurp($serve->{err}) =~ /event=served subscription=\Q$name\E / }) }

subtest 'environment' => sub {
    subscribe('env', 'env.*', "env -0 > $dir/env.tmp; mv $dir/env.tmp $dir/env");
    my $read = sub { ok wait_for(sub { -e "$dir/env" }), 'it ran'; my %env = map { /^(.*?)=(.*)$/s ? ($1 => $2) : () } split /\0/, slurp("$dir/env"); unlink "$dir/env"; return %env };
    tl_ok(['publish', 'env.full', '1', '--key', "k=\n'\"\$x", '--tenant', 'T', '--source', 'S', '--metadata',
            qq({"a": {"traceparent": "nested"}, "b": ["traceparent", "x\\"y"], "traceparent": "$trace", "tracestate": "v=1"})]);
    my %env = $read->();
    my ($position, $id) = split /\|/, query($db, 'SELECT position, id FROM trunkline.topic_bus ORDER BY position DESC LIMIT 1');
    my $number = query($db, q(SELECT subscription_id FROM trunkline.subscriptions WHERE name = 'env'));
    is_deeply {map { $_ => $env{$_} } grep { /^TRUNKLINE_(?!DB|TEST|BIN|BUILD)|^TRACE/ } keys %env},
        {TRUNKLINE_EVENT_ID => $id, TRUNKLINE_EVENT_TYPE => 'env.full', TRUNKLINE_POSITION => $position, TRUNKLINE_KEY => "k=\n'\"\$x",
            TRUNKLINE_TENANT_ID => 'T', TRUNKLINE_SOURCE => 'S', TRUNKLINE_ATTEMPT => 1, TRUNKLINE_DELIVERY_ID => "$id.$number",
            TRUNKLINE_SUBSCRIPTION => 'env', TRACEPARENT => $trace, TRACESTATE => 'v=1'}, 'WRK-6 what the event has';
    is $env{KEPT}, 'kept', "and the daemon's own";
    tl_ok(['publish', 'env.bare', '1']);
    %env = $read->();
    is_deeply [grep { exists $env{$_} } qw(TRUNKLINE_KEY TRUNKLINE_TENANT_ID TRUNKLINE_SOURCE TRUNKLINE_STREAM TRACEPARENT TRACESTATE)], [],
        'nothing for what it has not, nor from where the daemon was started';
};

subtest 'exit status' => sub {
    subscribe("exit/$_->[0]", "exit.$_->[0]", "echo out; echo err >&2; exit $_->[0]", '--retry-delay', '1h', '--track', 'all')
        for [0], [1], [65], [75], [99], [127];
    ready('exit/127');
    tl_ok(['publish', "exit.$_", '1']) for 0, 1, 65, 75, 99, 127;
    ok becomes('exit/0', qr/^completed:1:-$/), '0: done';
    ok becomes("exit/$_", qr/^retrying:1:exit status $_: out\nerr$/), "$_: tried again, with its output in order" for 1, 75, 127;
    ok becomes('exit/65', qr/^failed:1:exit status 65: out\nerr$/), '65 (EX_DATAERR): a dead letter at once';
    is query($db, q(SELECT reason FROM trunkline.dead_letters WHERE subscription = 'exit/65')), 'rejected', 'rejected';
    ok becomes('exit/99', qr/^skipped:1:/), '99: not for me';
    like slurp($serve->{err}), qr/event=delivery_failed subscription=exit\/65 .*result=rejected reason="exit status 65"/, 'the log says which';
    unlike slurp($serve->{err}), qr/delivery_failed subscription=exit\/99/, 'a skipped one is no failure';
};

subtest 'output' => sub {
    subscribe('noise', 'noise.*', "head -c 3000000 /dev/zero | tr '\\0' x; echo; printf 'a\\001\\033[31mb\\nlast' >&2; exit 1", '--retry-delay', '1h');
    ready('noise');
    tl_ok(['publish', 'noise.one', '1']);
    ok becomes('noise', qr/^retrying:1:exit status 1: x+\na  \[31mb\nlast$/), 'the end of it, without control characters';
    cmp_ok length(outcome('noise')), '<=', 1100, 'bounded';
};

subtest 'time-out' => sub {
    # the command and its child ignore TERM; the child holds the output open
    subscribe('stubborn', 'stubborn.*', "trap '' TERM; echo begun; sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & echo \$! > $dir/child.tmp; mv $dir/child.tmp $dir/child; wait; wait",
        '--timeout', '1s', '--retry-delay', '1h');
    # the command ends on TERM, its child does not
    subscribe('orphan', 'orphan.*', "sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & echo \$! > $dir/orphan.tmp; mv $dir/orphan.tmp $dir/orphan; wait",
        '--timeout', '1s', '--retry-delay', '1h');
    # one that tidies up on TERM, at the first attempt that gets as far as that in its time
    subscribe('polite', 'polite.*', "trap 'echo tidied > $dir/tidied; exit 0' TERM; echo working; while :; do sleep 0.05; done", '--timeout', '1s', '--backoff', 'fixed', '--retry-delay', '10ms', '--max-attempts', 1000);
    ready($_) for qw(stubborn orphan polite);
    tl_ok(['publish', 'polite.one', '1']);
    ok becomes('polite', qr/:timed out after 1000 ms: working/), 'WRK-10 TERM first, a time-out all the same';
    ok wait_for(sub { slurp("$dir/tidied") eq "tidied\n" }), 'it could tidy up';
    tl_ok(['subscriptions', 'pause', 'polite']);
    for my $name (qw(stubborn orphan)) {
        my $file = $name eq 'orphan' ? 'orphan' : 'child';
        for (1 .. 100) { # the first that gets as far as that in its time
            tl_ok(['publish', "$name.one", '1']);
            wait_for(sub { -e "$dir/$file" || outcome($name) =~ /^retrying/ });
            last if -e "$dir/$file";
        }
        ok -e "$dir/$file", "$name: a grandchild runs";
        my ($pid) = slurp("$dir/$file") =~ /(\d+)/;
        # whenever the failure is on record, nothing of the command is left
        my ($was_alive, $state);
        ok wait_for(sub { $state = outcome($name); $was_alive = is_alive($pid); $state =~ /^retrying/ }), 'it ends';
        ok !$was_alive, 'WRK-10 not before the whole group has ended';
        ok becomes($name, qr/^retrying:1:timed out after 1000 ms/), 'WRK-10 then KILL';
        ok !is_alive($pid), 'for the whole group';
    }
};

subtest 'concurrency' => sub {
    mkdir "$dir/$_" for qw(slots ones);
    subscribe('many', 'many.*', "touch $dir/slots/\$\$; ls $dir/slots | wc -l >> $dir/counts; while ! [ -e $dir/release ]; do sleep 0.05; done; rm $dir/slots/\$\$",
        '--ordering', 'none', '--timeout', '10min');
    subscribe('one', 'one.*', "touch $dir/ones/\$\$; ls $dir/ones | wc -l >> $dir/one; sleep 0.05; rm $dir/ones/\$\$", '--ordering', 'none', '--target-option', 'concurrency=1');
    ready($_) for qw(many one);
    tl_ok(['publish', '--ndjson'], stdin => join '', map { qq({"type":"$_","data":1}\n) } ('many.x') x 12);
    ok wait_for(sub { (() = slurp("$dir/counts") =~ /\n/g) >= 3 }), 'as many at a time as serve --concurrency says';
    tl_ok(['publish', '--ndjson'], stdin => join '', map { qq({"type":"$_","data":1}\n) } ('one.x') x 5);
    ok wait_for(sub { (() = slurp("$dir/one") =~ /\n/g) == 5 }), 'all of the other too';
    my ($most) = sort { $b <=> $a } slurp("$dir/one") =~ /(\d+)/g;
    is $most, 1, 'or its own target option';
    is scalar(() = slurp("$dir/counts") =~ /\n/g), 3, 'no more, though others went on meanwhile';
    spew("$dir/release", '');
    ok wait_for(sub { (() = slurp("$dir/counts") =~ /\n/g) == 12 }), 'all run';
    ($most) = sort { $b <=> $a } slurp("$dir/counts") =~ /(\d+)/g;
    is $most, 3, 'and never more at a time';
};

subtest 'an immediate stop' => sub {
    subscribe('hang', 'hang.*', "trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & echo \$! > $dir/hang.tmp; mv $dir/hang.tmp $dir/hang; wait");
    ready('hang');
    tl_ok(['publish', 'hang.one', '1']);
    ok wait_for(sub { -e "$dir/hang" }), 'a command that hangs';
    my ($pid) = slurp("$dir/hang") =~ /(\d+)/;
    kill 'TERM', $serve->{pid};
    ok wait_for(sub { slurp($serve->{err}) =~ /event=(stopping|draining|stop)/ }), 'told to stop' or diag slurp($serve->{err});
    kill 'TERM', $serve->{pid};
    is wait_exit($serve), 8, 'a second signal: at once';
    ok wait_for(sub { !is_alive($pid) }), 'and nothing of it is left';
};
done_testing;
