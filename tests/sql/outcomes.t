#!/usr/bin/perl
# TOP-4, PUB-9, IDM-2: what became of an event, for each subscription and in all.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my $s = session();
$s->do("CREATE FUNCTION public.f(e jsonb) RETURNS void LANGUAGE sql AS 'SELECT'");
sub publish { my ($type, $more) = @_; return $s->do("SELECT \"position\" FROM trunkline.publish('$type', '{\"n\": 1}'" . ($more // '') . ')') }
sub subscribe { my ($name, $pattern, $more) = @_; return $s->do("SELECT trunkline.subscribe('$name', '$pattern'" . ($more // '') . ')') }
sub outcome { my ($at) = @_; return $s->do("SELECT subscription || ':' || state || ':' || coalesce(attempts::text, '-') || ':' || coalesce(error, '-') || ':' || (ended_at IS NOT NULL)::int FROM trunkline.outcomes(at => $at)") }
sub status { my ($at) = @_; return $s->do("SELECT status || ':' || coalesce(retry_count::text, '-') || ':' || coalesce(error_message, '-') || ':' || (processed_at IS NOT NULL)::int || ':' || (last_error_at IS NOT NULL)::int FROM trunkline.event_status WHERE topic = 'bus' AND \"position\" = $at") }
sub claim { my ($name, $more) = @_; return $s->do("SELECT DISTINCT token FROM trunkline.claim('$name'" . ($more // '') . ')') }
sub ack { my ($token, $at, $verdict, $delay) = @_; return $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": $at, \"error\": \"broken\", \"verdict\": \"$verdict\", \"retry_after_us\": " . ($delay // 0) . '}]\')') }

my $before = publish('a.b');
is(outcome($before), '', 'nobody wants it');
is(status($before), 'unhandled:-:-:0:0', 'TOP-4 unhandled');
subscribe('s', 'a.*', ', max_attempts => 2');
is(outcome($before), '', 'a subscription that began later has nothing to do with it');

my $at = publish('a.b');
is(outcome($at), 's:pending:-:-:0', 'pending');
is(status($at), 'pending:-:-:0:0', 'TOP-4 pending');
my $token = claim('s');
is(outcome($at), 's:processing:1:-:0', 'leased: processing');
is(status($at), 'processing:0:-:0:0', 'TOP-4 processing');
$s->do("SELECT trunkline.release('$token')");
like(outcome($at), qr/^s:pending:/, 'handed back: pending');
ack(claim('s'), $at, 'retry', 3_600_000_000);
is(outcome($at), 's:retrying:1:broken:0', 'failed: retrying');
is(status($at), 'retrying:0:broken:0:1', 'TOP-4 retrying, with the error');
$s->do('UPDATE trunkline.retries SET next_attempt_at = now()');
$token = claim('s');
is(outcome($at), 's:processing:2:broken:0', 'tried again: processing');
ack($token, $at, 'retry');
is(outcome($at), 's:failed:2:broken:1', 'attempts used up: failed');
is(status($at), 'failed:1:broken:1:1', 'TOP-4 failed, with retries, error and times');

$at = publish('a.c');
$s->do("SELECT trunkline.ack('" . claim('s') . "')");
is(outcome($at), 's:completed:-:-:0', 'done: completed');
is(status($at), 'completed:-:-:0:0', 'TOP-4 completed');
like(outcome($before), qr/^$/, 'what was before it began is still not its business');
$s->do("SELECT * FROM trunkline.reset('s', 'beginning')");
is(outcome($before), 's:pending:-:-:0', 'unless it was reset to there');
$s->do("SELECT trunkline.ack('" . claim('s') . "')");
is(outcome($before), 's:completed:-:-:0', 'then it is handled');

$at = publish('a.late', ", expires_at => now() - interval '1 s'");
is(outcome($at), 's:expired:-:-:0', 'too late to be handed out: expired');
is(status($at), 'expired:-:-:0:0', 'TOP-4 expired');
$s->do(q{INSERT INTO trunkline.dead_letters (subscription, subscription_id, topic, "position", event, reason, attempts, error_message, errors)
    SELECT 's', subscription_id, 'bus', } . $at . q{, '{}', 'expired', 0, 'expired', '[]' FROM trunkline.subscriptions WHERE name = 's'});
is(outcome($at), 's:expired:0:expired:1', 'and buried as such');
$s->do("UPDATE trunkline.dead_letters SET reason = 'skipped' WHERE \"position\" = $at");
is(outcome($at), 's:skipped:0:expired:1', 'skipped by a person');
$s->do("UPDATE trunkline.dead_letters SET state = 'resolved', settled_at = now(), reason = 'rejected' WHERE \"position\" = $at");
like(outcome($at), qr/^s:completed:0:/, 'resolved by a person: completed');
$s->do("UPDATE trunkline.dead_letters SET state = 'discarded', settled_at = now() WHERE \"position\" = $at");
like(outcome($at), qr/^s:failed:0:/, 'discarded: failed');

subtest 'several subscriptions' => sub {
    $s->do('SELECT trunkline.unsubscribe($$s$$, force => true)');
    subscribe('low', 'm.*', ', priority => 1');
    subscribe('high', '**', ', priority => 10');
    subscribe('tenant', 'm.*', ", tenant_id => 't'");
    subscribe('no-tenant', 'm.*', ", tenant_id => 'u'");
    subscribe('filter', 'm.*', q(, filter => '{"n": 1}', filter_path => '$.n > 0'));
    subscribe('no-filter', 'm.*', q(, filter => '{"n": 2}'));
    subscribe('no-path', 'm.*', q(, filter_path => '$.n > 1'));
    subscribe('inline', 'm.*', ", target => 'sql:public.f', mode => 'sync', priority => 2");
    my $p = publish('m.a', ", tenant_id => 't'");
    is($s->do("SELECT string_agg(subscription || ' ' || mode || ' ' || state, ', ') FROM trunkline.outcomes(at => $p)"),
        'high async pending, filter async pending, tenant async pending, inline sync completed, low async pending', 'those that want it, by priority');
    $s->do("SELECT trunkline.ack('" . claim($_) . "')") for qw(high filter tenant);
    is((split /:/, status($p))[0], 'pending', 'one is left');
    $s->do("SELECT trunkline.ack('" . claim('low') . "', NULL, '[{\"position\": $p, \"verdict\": \"fail\", \"error\": \"no\"}]')");
    like(status($p), qr/^failed:0:no:/, 'one failed, all have ended');
    is(outcome(publish('m.b', ", tenant_id => 't'")) =~ s/\n/ /gr, 'high:pending:-:-:0 filter:pending:-:-:0 tenant:pending:-:-:0 inline:completed:1:-:1 low:pending:-:-:0', 'IDM-2 one state never moves another');
    $s->do("SELECT trunkline.unsubscribe(name, force => true) FROM trunkline.subscriptions");
};

subtest 'by id' => sub {
    subscribe('s', '**');
    my ($id, $p) = split /\|/, $s->do("SELECT id, \"position\" FROM trunkline.publish('a', '1')");
    is($s->do("SELECT topic || ' ' || \"position\" FROM trunkline.locate('$id')"), "bus $p", 'an id that Trunkline made');
    is($s->do("SELECT state FROM trunkline.outcomes('$id')"), 'pending', 'outcomes by id');
    my $own = '11111111-2222-4333-8444-555555555555';
    my $q = $s->do("SELECT \"position\" FROM trunkline.publish('a', '1', event_id => '$own', topic => 'store')");
    is($s->do("SELECT topic || ' ' || \"position\" FROM trunkline.locate('$own')"), "store $q", 'an id of a caller');
    is($s->do("SELECT count(*) FROM trunkline.locate('$_')"), 0, "not $_") for '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', $id =~ s/^......../00000000/r, '00000000-0000-7001-8000-000000000000';
    refuses($s, "SELECT * FROM trunkline.outcomes('00000000-0000-0000-0000-000000000000')", 'TL002', {field => 'event_id'});
    refuses($s, 'SELECT * FROM trunkline.outcomes(at => 999999)', 'TL002', {field => 'at'});
    refuses($s, "SELECT * FROM trunkline.outcomes(topic => 'none', at => 1)", 'TL002', undef);
    refuses($s, 'SELECT * FROM trunkline.outcomes()', 'TL005', {field => 'event_id'});
    refuses($s, "SELECT * FROM trunkline.outcomes('$id', at => 1)", 'TL005', {field => 'event_id'});
    $s->do("SELECT trunkline.unsubscribe('s', force => true)");
};

subtest 'slots' => sub {
    # the slot of a key decides which cursor counts
    subscribe('keys', 'k.*', ', slots => 4');
    my %at = map { $_ => publish('k.a', ", key => '$_'") } 'a' .. 'j';
    my %slot = map { split /\|/ } split /\n/, $s->do("SELECT k, ('x' || left(md5(k), 7))::bit(28)::integer % 4 FROM unnest('{a,b,c,d,e,f,g,h,i,j}'::text[]) k");
    $s->do("UPDATE trunkline.cursors SET cursor = $at{j} WHERE slot = 2");
    my $wrong = join ' ', grep { my $want = $slot{$_} == 2 ? 'completed' : 'pending'; (split /:/, outcome($at{$_}))[1] ne $want } sort keys %at;
    is($wrong, '', 'each event is where its slot is');
    cmp_ok(scalar(grep { $_ == 2 } values %slot), '>', 0, 'some are in it');
    $s->do("SELECT trunkline.unsubscribe('keys', force => true)");
};

subtest 'tracked' => sub {
    subscribe('t', 't.*', ", track => 'all'");
    my $p = publish('t.a');
    $s->do("SELECT trunkline.ack('" . claim('t') . "')");
    $s->do("DELETE FROM trunkline.deliveries; INSERT INTO trunkline.deliveries SELECT subscription_id, $p, gen_random_uuid(), 'skipped', 3, now(), now(), 'not mine' FROM trunkline.subscriptions WHERE name = 't'");
    is(outcome($p), 't:skipped:3:not mine:1', 'IDM-2 with track = all the outcome is kept');
    $s->do("SELECT trunkline.unsubscribe('t', force => true)");
};

subtest 'rights' => sub {
    my $role = "tl_outcomes_$$";
    $s->do("CREATE ROLE $role LOGIN");
    my $low = session(role => $role);
    is($low->error('SELECT * FROM trunkline.outcomes(at => 1)')->{state}, '42501', 'not for everybody');
    $s->do("SELECT trunkline.grant_consume('$role')");
    is($low->do("SELECT count(*) FROM trunkline.locate('11111111-2222-4333-8444-555555555555')"), 0, 'ids of publishers are for those who may read them');
    is($low->error("SELECT * FROM trunkline.outcomes(at => $before)")->{state}, 'none', 'for consumers of the topic');
    is($low->error("SELECT * FROM trunkline.outcomes(topic => 'store', at => 1)")->{state}, '42501', 'not of others');
    is($low->error('SELECT * FROM trunkline.event_status')->{state}, '42501', 'the view shows all topics: not for consumers');
    is($s->error("$_")->{state}, '55000', "TOP-4 not writable: $_") for "UPDATE trunkline.event_status SET status = 'completed'", 'DELETE FROM trunkline.event_status';
};
done_testing;
