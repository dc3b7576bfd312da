#!/usr/bin/perl
# WAK-2: what every look at the log runs is planned once for a session. A statement whose values change what
# the planner expects is planned in each call, which took more than half of a claim.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($s, $main) = map { session() } 1 .. 2;

# How many plans a statement needs, those of the functions below it and all, but not its own.
sub plans {
    my ($sql) = @_;
    $s->do('SET log_planner_stats = on; SET client_min_messages = log');
    $s->start($sql);
    my $out = $s->finish;
    BAIL_OUT($out) if $s->{error};
    $s->do('SET client_min_messages = warning; SET log_planner_stats = off');
    return (() = $out =~ /PLANNER STATISTICS/g) - 1;
}

# Until plans settle: a few calls with plans of their own come first.
sub settled {
    my ($sql) = @_;
    $s->do($sql) for 1 .. 8;
    return plans($sql);
}

sub insert { $main->do("INSERT INTO trunkline.topic_bus (type, data) VALUES ('a.b', '1')"); return }

is(plans('SELECT 1'), 0, 'a query alone');

$main->do("SELECT trunkline.subscribe('p/' || i, '**', ordering => CASE WHEN i % 2 = 0 THEN 'none' ELSE 'key' END) FROM generate_series(1, 12) i");
for my $n (1, 2, 12) {
    my $ids = '{' . join(',', 1 .. $n) . '}';
    is(settled("SELECT count(*) FROM trunkline.claim_many('$ids', array_fill(10, ARRAY[$n]), shared => true)"), 0, "$n subscriptions, nothing there");
    is(settled("SELECT trunkline.next_due('$ids')"), 0, "$n subscriptions, when the next is due");
}

# A claim and its ack: one plan, of the query that reads the log.
$main->do("SELECT trunkline.unsubscribe('p/' || i, true) FROM generate_series(2, 12) i");
my $claim = q(SELECT token, "position" FROM trunkline.claim_many('{1}', '{10}', shared => true, ranges => 256) WHERE token IS NOT NULL);
my $token;
for my $i (1 .. 10) {
    insert();
    ($token) = split /\|/, $s->do($claim);
    $s->do("SELECT trunkline.ack('$token')");
}
insert();
is(plans($claim), 1, 'an event: one plan, of the query that reads the log');
$token = $main->do('SELECT token FROM trunkline.leases');
is(plans("SELECT trunkline.ack('$token')"), 0, 'its ack');
$main->do(q(INSERT INTO trunkline.topic_bus (type, data) SELECT 'a.b', '1' FROM generate_series(1, 30)));
is(plans($claim), 1, 'ten of thirty: one plan, since nothing is counted first');
$token = $main->do('SELECT token FROM trunkline.leases');
is($s->do("SELECT trunkline.ack('$token')"), 10, 'ten');

# Beside events that wait for their time, and whatever statistics say of them.
$main->do(q(INSERT INTO trunkline.retries (subscription_id, "position", slot, attempt, next_attempt_at, error_message, last_error_at, errors)
    SELECT 1, -i, 0, 1, clock_timestamp() + interval '1 h', '', clock_timestamp(), '[]' FROM generate_series(1, 10000) i));
$main->do('ANALYZE trunkline.retries');
is(settled("SELECT count(*) FROM trunkline.claim_many('{1}', '{10}', shared => true)"), 0, '10000 events that wait, nothing due');
is(settled("SELECT trunkline.next_due('{1}')"), 0, '10000 events that wait, when the next is due');

my $settle = sub { $main->do('SELECT trunkline.ack(token) FROM trunkline.leases') };
my $more = sub { $main->do(q(INSERT INTO trunkline.topic_bus (type, data) SELECT 'a.b', '1' FROM generate_series(1, 30))) };
# The second lease of a slot: one plan as well.
my $ahead = q(SELECT count(*) FROM trunkline.claim_ahead((SELECT min(token::text)::uuid FROM trunkline.leases), 10));
for my $i (1 .. 8) {
    $s->do($ahead);
    $settle->();
    $more->();
    $s->do($claim);
}
is(plans($ahead), 1, 'ten ahead: one plan');
is($main->do('SELECT count(*) FROM trunkline.leases'), 2, 'which were given');
# The claim of a backlog beside keys that wait: which of its keys do is asked by statements that keep their plans.
sub again { $settle->(); $more->(); $s->do($claim); return }
again() for 1 .. 8;
$settle->();
is(plans($claim), 1, 'ten of many beside those that wait: one plan, since nothing is counted first');
# How often a claim calls park(), which runs a statement of its own for each event.
sub parks {
    $settle->();
    my $count = q(SELECT coalesce(sum(calls), 0) FROM pg_stat_xact_user_functions WHERE funcname = 'park');
    my @lines = split /\n/, $s->do("SET track_functions = pl; BEGIN; $count; $claim; $count; COMMIT; RESET track_functions");
    return $lines[-1] - $lines[0];
}
for my $mixed (qw(z k)) {
    $main->do(qq(UPDATE trunkline.retries SET key = '$mixed' || -"position"));
    $main->do(qq(INSERT INTO trunkline.topic_bus (type, key, data) SELECT 'a.b', 'k' || i || '!', '1' FROM generate_series(1, 300) i));
    is(parks(), $mixed eq 'k' ? 10 : 0, $mixed eq 'k' ? 'ten keys among those that wait: each is looked for' : 'ten keys in front of those that wait: none is looked for');
    is(parks(), 0, 'and from then on in the query');
    again() for 1 .. 40;
    $settle->();
    is(plans($claim), 1, "ten beside 10000 keys that wait ($mixed...): one plan");
    is($main->do('SELECT events FROM trunkline.leases'), 10, 'which were given');
}

# And when all of it is planned for the statistics of a time when few waited, and then many do: few rows of retries are read.
$settle->();
$main->do(q(ALTER TABLE trunkline.retries SET (autovacuum_enabled = off); DELETE FROM trunkline.retries;
    INSERT INTO trunkline.retries (subscription_id, "position", slot, attempt, next_attempt_at, error_message, errors, key)
    SELECT 1, -i, 0, 0, 'infinity', '', '[]', 'zz' FROM generate_series(1, 20) i));
$main->do('VACUUM ANALYZE trunkline.retries');
$main->do(q(INSERT INTO trunkline.topic_bus (type, key, data) SELECT 'a.b', 'zz', '1' FROM generate_series(1, 3)));
sub behind { return $main->do('SELECT count(*) FROM trunkline.topic_bus e WHERE e."position" > (SELECT cursor FROM trunkline.cursors WHERE subscription_id = 1)') }
my $late = session();
my $all = $claim =~ s/10/1000/r;
$late->do($all), $settle->() while behind();
$main->do(q(INSERT INTO trunkline.topic_bus (type, data, key) SELECT 'a.b', '1', CASE WHEN i % 2 = 0 THEN 'hot' ELSE 'm' || i END FROM generate_series(1, 6000) i;
    INSERT INTO trunkline.retries (subscription_id, "position", slot, attempt, next_attempt_at, error_message, errors, key)
    SELECT 1, "position", 0, 1, 'infinity', '', '[]', key FROM trunkline.topic_bus WHERE key = 'hot' OR key ~ '^m[0-9]';
    UPDATE trunkline.cursors SET cursor = (SELECT max("position") FROM trunkline.topic_bus) WHERE subscription_id = 1));
sub fetches {
    my ($sql) = @_;
    my $count = "SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0) FROM pg_stat_xact_user_tables WHERE relid = 'trunkline.retries'::regclass";
    my @lines = split /\n/, $late->do("BEGIN; $count; $sql; $count; COMMIT");
    return $lines[-1] - $lines[0];
}
for my $case (['keys of which none waits', q('m' || i || '!'), 50], ['keys that wait', q('m' || 6001 - 2 * i), 0]) {
    my ($name, $key, $events) = @$case;
    $main->do("INSERT INTO trunkline.topic_bus (type, data, key) SELECT 'a.b', '1', $key FROM generate_series(1, 50) i");
    my $n = fetches($all);
    cmp_ok($n, '<', 1000, "a claim of $name, beside 6000");
    is($main->do('SELECT coalesce(sum(events), 0) FROM trunkline.leases'), $events, 'is given what does not wait');
    $settle->();
}
$main->do(q(UPDATE trunkline.retries SET next_attempt_at = clock_timestamp() - interval '1 s' WHERE "position" = (SELECT min("position") FROM trunkline.retries WHERE key = 'hot')));
cmp_ok(fetches($all), '<', 100, 'a claim when one of them is due');
is($main->do('SELECT retries FROM trunkline.leases'), 1, 'is given it');
$token = $main->do('SELECT token FROM trunkline.leases');
$late->do("SELECT trunkline.ack('$token')");
is($main->do('SELECT count(*) FROM trunkline.retries WHERE key = \'hot\' AND next_attempt_at < now()'), 100, 'the first of a key is settled: a hundred are due');

# A lost lease beside them: its first claimer is gone, the next one parks what waits for a key.
$settle->();
$late->do($all), $settle->() while $main->do('SELECT count(*) FROM trunkline.retries WHERE next_attempt_at < now()') || behind();
$main->do(q(INSERT INTO trunkline.topic_bus (type, data, key) SELECT 'a.b', '1', 'n' || i FROM generate_series(1, 50) i));
$s->do($all);
is($main->do(q(UPDATE trunkline.leases SET until = clock_timestamp() - interval '1 s' RETURNING events)), 50, 'a lease of fifty is lost');
cmp_ok(fetches($all), '<', 1000, 'its takeover beside those that wait');
is($main->do('SELECT sum(events) FROM trunkline.leases WHERE held'), 1, 'one event a lease');

# The log of attempts: 100,000 successes of two webhooks, 250 to a row, and 20,000 others. Without and with statistics.
$main->do(q(INSERT INTO trunkline.delivery_runs (call_id, first, subscription_id, subscription, url, http_status, started_at, first_event, last_event, numbers, event_ids, event_types, positions, durations_us, started_us)
    SELECT c * 10000, 1, 7 + c % 2, CASE c % 2 WHEN 0 THEN 'even' ELSE 'odd' END, 'u', 204, now(), min(id::text)::uuid, max(id::text)::uuid, array_agg(i), array_agg(id), array_agg('a.b'::text), array_agg(c * 250 + i), array_agg(1::bigint), array_agg(1::bigint)
      FROM (SELECT c::bigint, i, (lpad(to_hex(1700000000000 + c * 250 + i), 12, '0') || '70018000000000000000')::uuid AS id FROM generate_series(0, 399) c, generate_series(1, 250) i) q GROUP BY c;
    INSERT INTO trunkline.delivery_attempts (subscription_id, subscription, event_id, event_type, "position", attempt, trigger, url, outcome, duration, started_at)
    SELECT 7 + i % 2, CASE i % 2 WHEN 0 THEN 'even' ELSE 'odd' END, ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'a.b', i, 1, 'scheduled', 'u', 'failed', '1 s', now() FROM generate_series(1, 20000) i));
my ($early, $old) = map { my $id = sprintf '%012x', 1700000000000 + $_; substr($id, 0, 8) . '-' . substr($id, 8) . '-7001-8000-000000000000' } 90100, 12345;
sub rows_read {
    my ($sql) = @_;
    my $count = q(SELECT sum(coalesce(idx_tup_fetch, 0) + seq_tup_read) FROM pg_stat_xact_user_tables WHERE relname IN ('delivery_runs', 'delivery_attempts'));
    my @lines = split /\n/, $s->do("BEGIN; $count; $sql; $count; COMMIT");
    return ($lines[-1] - $lines[0], $lines[1]);
}
for my $statistics ('no statistics', 'statistics') {
    for my $case (["'even', most => 50", '50', 151], ["'odd', most => 50", '50', 151], ["'even', '$early'", '1', 5], ["'odd', '$old'", '1', 5], ["'even', '$old'", '0', 5], [q('even', '00000000-0000-4000-8000-000000000078'), '1', 5],
        [q('even', failed => true, most => 10), '10', 30]) {
        my ($arguments, $found, $most) = @$case;
        my ($read, $rows) = rows_read("SELECT count(*) FROM trunkline.webhook_log($arguments)");
        is($rows, $found, "webhook_log($arguments), $statistics");
        cmp_ok($read, '<=', $most, "reads few of 20,400 rows");
    }
    my ($read) = rows_read("SELECT trunkline.find_event(s, '$old') FROM trunkline.subscriptions s WHERE subscription_id = 1");
    cmp_ok($read, '<=', 5, 'as does find_event()');
    $main->do('ANALYZE trunkline.delivery_runs; ANALYZE trunkline.delivery_attempts');
}

# Among so many rows the way along the order in which they are wanted looks cheap: none but the event's own is to be read.
$main->do(q(INSERT INTO trunkline.delivery_runs (call_id, first, subscription_id, subscription, url, http_status, started_at, first_event, last_event, numbers, event_ids, event_types, positions, durations_us, started_us)
    SELECT 10000000 + c * 10000::bigint, 1, 7, 'even', 'u', 204, now(), id, id, '{1}', ARRAY[id], '{a.b}', '{1}', '{1}', '{1}'
      FROM (SELECT c, (lpad(to_hex(1700000200000 + c), 12, '0') || '70018000000000000000')::uuid AS id FROM generate_series(1, 20000) c) q));
for my $statistics ('no statistics', 'statistics') {
    my $id = $main->do('SELECT first_event FROM trunkline.delivery_runs WHERE call_id = 110000000');
    my ($read, $rows) = rows_read("SELECT count(*) FROM trunkline.webhook_log('even', '$id')");
    is($rows, 1, "webhook_log() of one event, $statistics");
    cmp_ok($read, '<=', 5, 'reads few of 20,000 rows of many');
    $main->do('ANALYZE trunkline.delivery_runs');
}

done_testing;
