#!/usr/bin/env perl
# Endpoints that fail: the breaker that all daemons share, the end after long failure, what operators
# hear; attempts, resend and recover by the program (SUB-11, WRK-6).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $receiver = receiver();
my $url = $receiver->{url};
my $dir = workdir();
my $switch = "$dir/switch";
sub requests { return $receiver->{requests}->(@_) }
sub served { my ($serve, $name) = @_; return wait_for(sub { slurp($serve->{err}) =~ /event=served subscription=\Q$name\E /}) }
sub hook {
    my ($name, $pattern, $target, $options, $more) = @_;
    return query($db, "SELECT trunkline.subscribe('$name', '$pattern', target => '$target', ordering => 'none', backoff => 'fixed', retry_delay => '20 ms', target_options => '" . ($options // '{}') . "'" . ($more // ', max_attempts => 1000') . ')');
}
sub endpoint { my ($name, $what) = @_; return query($db, "SELECT $what FROM trunkline.webhook_status WHERE name = '$name'") }
sub pending { return query($db, "SELECT behind + leased + retrying FROM trunkline.subscription_status WHERE name = '$_[0]'") }
sub breaker { my ($serve, $name, $state) = @_; return wait_for(sub { my @all = slurp($serve->{err}) =~ /event=breaker subscription=\Q$name\E state=(\S+)/g; @all && $all[-1] eq $state }) }
sub bus { my ($type, $name) = @_; return query($db, "SELECT count(*) FROM trunkline.topic_bus WHERE type = '$type' AND key = '$name'") }
sub id_of { my ($out) = @_; return decode($out)->{id} }

# The breaker, with two daemons.
my @serve = map { start_serve($db, ['--allow-private', '--concurrency', 3]) } 1 .. 2;
spew($switch, 500);
hook('b', 'b.*', "$url/switch$switch", '{"breaker_failures": 4, "breaker_pause": "1 h", "breaker_cap": "1 h"}');
ok served($_, 'b'), 'served by both' for @serve;
tl_ok(['publish', 'b.one', $_]) for 1 .. 20;
ok breaker($_, 'b', 'open'), 'SUB-11 failures in a row open the breaker for all daemons' for @serve;
ok wait_for(sub { query($db, "SELECT count(*) FROM trunkline.leases WHERE held") eq '0' }), 'nothing stays claimed';
is endpoint('b', 'breaker, last_error'), 'open|HTTP 500: out of order' =~ s/: .*//r, 'shown';
my $sent = requests();
cmp_ok $sent, '<=', 4 + 2 * 3 + 2 * 4, 'little more was sent than what was in flight';
my $attempts = query($db, "SELECT coalesce(sum(attempt), 0) FROM trunkline.retries");
is $attempts, $sent, 'each request is one attempt, what was handed back is none';
tl_ok(['publish', 'b.one', $_]) for 21 .. 25;
query($db, "UPDATE trunkline.retries SET next_attempt_at = now() WHERE next_attempt_at > now()");
# Both daemons look twice meanwhile: another subscription of each kind is served and has its event.
my $look = sub {
    my ($name) = @_;
    hook($name, "$name.*", "$url/ok/$name");
    served($_, $name) or return for @serve;
    tl_ok(['publish', "$name.x", '1']);
    return wait_for(sub { requests("/ok/$name") == 1 });
};
ok $look->($_), 'others are served' for qw(o1 o2);
is scalar(requests("/switch$switch")), $sent, 'SUB-11 while it is open nothing is sent';
is query($db, "SELECT coalesce(sum(attempt), 0) FROM trunkline.retries"), $attempts, 'and no attempt is used up';

# Half-open: one daemon, one request.
spew($switch, 'hold');
query($db, "UPDATE trunkline.endpoints SET open_until = now()");
ok wait_for(sub { requests("/switch$switch") == $sent + 1 }), 'after the pause one request';
ok $look->($_), 'looked again' for qw(o3 o4);
is scalar(requests("/switch$switch")), $sent + 1, 'SUB-11 one of the two daemons tries, one event at a time';
is scalar(grep { slurp($_->{err}) =~ /event=breaker subscription=b state=half-open/ } @serve), 1, 'the other one waits';
spew($switch, 500);
ok wait_for(sub { endpoint('b', 'breaker') eq 'open' && query($db, "SELECT opened FROM trunkline.endpoints") eq '2' }), 'it fails: open again';
ok breaker($_, 'b', 'open'), 'for both' for @serve;
is scalar(requests("/switch$switch")), $sent + 1, 'after that one';
unlink $switch;
query($db, "UPDATE trunkline.endpoints SET open_until = now()");
ok wait_for(sub { pending('b') eq '0' }), 'SUB-11 a success closes it, and all is delivered';
ok breaker($_, 'b', 'closed'), 'both know' for @serve;
is query($db, 'SELECT count(*) FROM trunkline.endpoints'), '0', 'the failures are forgotten';
ok wait_for(sub { query($db, q(SELECT count(DISTINCT event_id) FROM trunkline.webhook_attempts WHERE subscription = 'b' AND outcome = 'delivered')) eq '25' }), 'every event was delivered';
is stop_program(my $other = pop @serve), 0, 'one daemon less';
my ($serve) = @serve;

# An endpoint that was repaired or replaced need not wait for the pause.
spew($switch, 500);
hook('r', 'r.*', "$url/switch$switch?r", '{"breaker_failures": 1, "breaker_pause": "1 h", "breaker_cap": "1 h"}');
ok served($serve, 'r'), 'another one';
tl_ok(['publish', 'r.one', '1']);
ok breaker($serve, 'r', 'open'), 'open for an hour';
hook('r', 'r.*', "$url/switch$switch?other", '{"breaker_failures": 1, "breaker_pause": "1 h", "breaker_cap": "1 h"}');
ok wait_for(sub { requests("/switch$switch?other") }), 'SUB-11 another target is tried at once';
ok wait_for(sub { endpoint('r', 'breaker') eq 'open' }), 'which fails as well';
unlink $switch;
tl_ok(['subscriptions', 'resume', 'r']);
ok wait_for(sub { pending('r') eq '0' }), 'SUB-11 resume closes the breaker';

# A short pause is over by itself.
spew($switch, 500);
hook('s', 's.*', "$url/switch$switch?s", '{"breaker_failures": 1, "breaker_pause": "50 ms", "breaker_cap": "50 ms"}');
ok served($serve, 's'), 'another one';
tl_ok(['publish', 's.one', '1']);
ok wait_for(sub { query($db, 'SELECT max(opened) >= 2 FROM trunkline.endpoints') eq 't' }), 'opened more than once';
unlink $switch;
ok wait_for(sub { pending('s') eq '0' }), 'then delivered';
# breaker_failures 0
spew($switch, 500);
hook('z', 'z.*', "$url/switch$switch?z", '{"breaker_failures": 0}');
tl_ok(['publish', 'z.one', '1']);
ok served($serve, 'z'), 'one without a breaker';
tl_ok(['publish', 'z.one', '1']);
ok wait_for(sub { requests("/switch$switch?z") > 20 }), 'is tried on and on';
unlink $switch;
ok wait_for(sub { pending('z') eq '0' }), 'until it works';

# 410 Gone; days of failure.
hook('gone', 'gone.*', "$url/status/410");
ok served($serve, 'gone'), 'served';
my $gone = id_of(tl_ok(['publish', 'gone.one', '1', '--json']));
ok wait_for(sub { endpoint('gone', 'active') eq 'f' }), 'SUB-11 410 disables the endpoint';
is endpoint('gone', 'pause_reason, disabled_at IS NOT NULL'), 'the endpoint answered 410 Gone|t', 'and says why';
ok wait_for(sub { slurp($serve->{err}) =~ /event=unserved subscription=gone/ }), 'it is served no more';
is bus('trunkline.endpoint.disabled', 'gone'), 1, 'an event for operators';
is query($db, "SELECT count(*) FROM trunkline.retries r JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = 'gone'"), 1, 'the event is still there';
like tl_ok(['doctor']), qr/^webhooks +note +gone: the endpoint answered 410 Gone/m, 'doctor says so';
is +(tl(['webhook', 'resend', 'gone', $gone]))[0], 2, 'no resend to a paused one: 2';
hook('days', 'days.*', "$url/status/500?days", '{"disable_after": "2 h", "breaker_failures": 0}');
ok served($serve, 'days'), 'served';
tl_ok(['publish', 'days.one', '1']);
ok wait_for(sub { bus('trunkline.endpoint.failing', 'days') == 1 }), 'one that fails on and on';
is endpoint('days', 'active'), 't', 'is not disabled at once';
query($db, q(UPDATE trunkline.endpoints SET failing_since = failing_since - interval '2 h' FROM trunkline.subscriptions s WHERE s.subscription_id = endpoints.subscription_id AND s.name = 'days'));
ok wait_for(sub { endpoint('days', 'active') eq 'f' }), 'SUB-11 failing for too long disables';
is bus('trunkline.endpoint.disabled', 'days'), 1, 'announced';
is bus('trunkline.endpoint.failing', 'days'), 1, 'so was, once, that an event failed four times';

# Attempts that end, with an event for each.
hook('few', 'few.*', "$url/switch$switch?few", '{"breaker_failures": 0}', ', max_attempts => 2');
spew($switch, 503);
ok served($serve, 'few'), 'served';
my @few = map { id_of(tl_ok(['publish', 'few.one', $_, '--json'])) } 1 .. 3;
ok wait_for(sub { bus('trunkline.delivery.exhausted', 'few') == 3 }), 'trunkline.delivery.exhausted for each that is given up';
my @listed = map { decode($_) } split /\n/, tl_ok(['webhook', 'attempts', 'few', '--json']);
is scalar(@listed), 6, 'webhook attempts: all of them';
is_deeply [map { [@$_{qw(attempt outcome http_status trigger)}] } grep { $_->{event_id} eq $few[0] } @listed], [[2, 'failed', 503, 'scheduled'], [1, 'failed', 503, 'scheduled']], 'latest first';
is scalar(split /\n/, tl_ok(['webhook', 'attempts', 'few', '--json', '--event', $few[1]])), 2, '--event';
is scalar(split /\n/, tl_ok(['webhook', 'attempts', 'few', '--json', '--limit', 3])), 3, '--limit';
is tl_ok(['webhook', 'attempts', 's', '--json', '--failed']) =~ tr/\n//, query($db, "SELECT count(*) FROM trunkline.webhook_attempts WHERE subscription = 's' AND outcome = 'failed'"), '--failed';
unlike tl_ok(['webhook', 'attempts', 's', '--failed', '--json']), qr/"outcome":"delivered"/, 'only those';
like tl_ok(['webhook', 'attempts', 'few']), qr/^started_at +event_id .*\n.* few\.one +2 +scheduled +failed +503 /, 'for people';
is +(tl(['webhook', 'attempts', 'few', '--event', 'x']))[0], 2, 'no id: 2';
is +(tl(['webhook', 'attempts', 'nobody']))[0], 5, 'no such webhook: 5';
query($db, "INSERT INTO trunkline.delivery_attempts (subscription_id, subscription, event_id, event_type, \"position\", attempt, trigger, url, outcome, duration, started_at) VALUES (0, 'past', gen_random_uuid(), 'x', 1, 1, 'scheduled', 'u', 'failed', '1 s', now())");
like tl_ok(['webhook', 'attempts', 'past']), qr/failed/, 'of one that is gone';

# Resend: one request, nothing more.
my $before = requests("/switch$switch?few");
my $body = sub { my ($request) = @_; my $text = $request->{body}; utf8::encode($text); return $text };
my ($first) = grep { decode($body->($_))->{id} eq $few[0] } requests("/switch$switch?few");
like tl_ok(['webhook', 'resend', 'few', $few[0]]), qr/^asked for/, 'webhook resend';
ok wait_for(sub { query($db, "SELECT count(*) FROM trunkline.webhook_attempts WHERE trigger = 'manual'") == 1 }), 'is sent';
is query($db, "SELECT outcome, attempt FROM trunkline.webhook_attempts WHERE trigger = 'manual'"), 'failed|0', 'and fails';
is query($db, 'SELECT (SELECT count(*) FROM trunkline.resends), (SELECT count(*) FROM trunkline.retries r JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = $$few$$), (SELECT count(*) FROM trunkline.dead_letters WHERE state = $$dead$$)'), '0|0|3', 'SUB-11 nothing is tried again by itself';
ok $look->('o5'), 'a look later';
is scalar(requests("/switch$switch?few")), $before + 1, 'it was one request';
my ($again) = (requests("/switch$switch?few"))[-1];
is $again->{headers}{'webhook-id'}, $first->{headers}{'webhook-id'}, 'under the same webhook-id';
is $body->($again), $body->($first), 'with the same body, byte for byte';
unlink $switch;
is decode(tl_ok(['webhook', 'resend', 'few', $few[0], '--json']))->{resend_id}, 2, 'once more';
ok wait_for(sub { query($db, "SELECT state, note FROM trunkline.dead_letters WHERE event ->> 'id' = '$few[0]'") eq 'resolved|delivered by resend' }), 'delivered: the dead letter is resolved';
my $fine = query($db, "SELECT event_id FROM trunkline.webhook_attempts WHERE subscription = 'o1'");
tl_ok(['webhook', 'resend', 'o1', $fine]);
ok wait_for(sub { requests('/ok/o1') == 2 }), 'what was delivered can be sent again too';
is +(tl(['webhook', 'resend', 'few', '00000000-0000-4000-8000-000000000000']))[0], 5, 'no such event: 5';
is +(tl(['webhook', 'resend', 'few', 'x']))[0], 2, 'no id: 2';

# Recover: the rest of them.
is tl_ok(['webhook', 'recover', 'few', '--since', '1h', '--dry-run']), "2 events would be tried again\n", 'recover --dry-run';
is tl_ok(['webhook', 'recover', 'few', '--since', '2h', '--until', '1h']), "0 events will be tried again\n", 'nothing in that range';
is tl_ok(['webhook', 'recover', 'few', '--since', '1h', '--limit', 1]), "1 event will be tried again\n", '--limit';
is decode(tl_ok(['webhook', 'recover', 'few', '--since', query($db, "SELECT to_char(now() AT TIME ZONE 'UTC' - interval '1 h', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"), '--json']))->{events}, 1, 'a time';
ok wait_for(sub { query($db, "SELECT count(DISTINCT event_id) FROM trunkline.webhook_attempts WHERE subscription = 'few' AND outcome = 'delivered'") == 3 }), 'SUB-11 what had failed is delivered';
is tl_ok(['webhook', 'recover', 'few', '--since', '1h']), "0 events will be tried again\n", 'nothing is left';
is +(tl(['webhook', 'recover', 'few', '--since', '15d']))[0], 2, 'more than 14 days: 2';
is +(tl(['webhook', 'recover', 'few']))[0], 2, 'no --since: 2';
is +(tl(['webhook', 'recover', 'few', '--since', 'yore']))[0], 2, 'no time: 2';

# The journal survives the loss of the database connection, and a stop.
my $n = query($db, "SELECT count(*) FROM trunkline.webhook_attempts WHERE subscription = 'o2'");
query($db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
tl_ok(['publish', 'o2.x', $_]) for 1 .. 3;
ok wait_for(sub { pending('o2') eq '0' }), 'delivered after the connection was lost';
is stop_program($serve), 0, 'stop';
is query($db, "SELECT count(*) FROM trunkline.webhook_attempts WHERE subscription = 'o2'"), $n + 3, 'nothing is missing in the log';

# What the server refuses for a passing reason is offered again: the log is locked for longer than may be waited for.
my $patient = start_serve("$db options='-c lock_timeout=500'", ['--allow-private']);
ok served($patient, 'o2'), 'served';
my ($locker, $sql) = psql_session($db);
print {$sql} "BEGIN; LOCK TABLE trunkline.delivery_attempts IN ACCESS EXCLUSIVE MODE; SELECT 'locked';\n";
ok wait_for(sub { slurp($locker->{out}) =~ /locked/ }), 'the log of attempts is locked';
tl_ok(['publish', 'o2.x', $_]) for 1 .. 3;
ok wait_for(sub { pending('o2') eq '0' }), 'delivered meanwhile';
ok wait_for(sub { slurp($patient->{err}) =~ /event=attempts_failed .*sqlstate=55P03/ }), 'the attempts are refused';
close $sql;
wait_exit($locker);
ok wait_for(sub { query($db, "SELECT count(*) FROM trunkline.webhook_attempts WHERE subscription = 'o2'") == $n + 6 }), 'SUB-11 then they are written';
is stop_program($patient), 0, 'stop';
unlike slurp($_->{err}), qr/ERROR: AddressSanitizer|runtime error/, 'cleanly' for $serve, $other, $patient;
stop_program($receiver);
done_testing;
