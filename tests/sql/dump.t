#!/usr/bin/perl
# MIG-3: pg_dump and restore into a new database: positions, dedup, subscriptions, leases go on.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $bindir = $ENV{PGBINDIR} ? "$ENV{PGBINDIR}/" : '';
plan skip_all => "no pg_dump beside the server ($bindir)" if $bindir && !-x "${bindir}pg_dump";
my $old_db = database();
my $old = session();
$old->do(<<'SQL');
SELECT trunkline.create_topic('own', rotation => 'hour', retention => '2 days', max_event_bytes => 4096);
SELECT trunkline.set_topic('own', 'hour', '2 days', 8192, '1 day');
SELECT trunkline.create_topic('fast', 'unlogged');
SELECT trunkline.subscribe('app/own', 'e.*', 'own', filter_path => '$ > 0', ordering => 'key');
CREATE FUNCTION public.f(e jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT trunkline.subscribe('app/sync', '*', 'fast', target => 'sql:public.f', mode => 'sync');
SELECT trunkline.publish('e.' || i, to_jsonb(i), 'own') FROM generate_series(1, 6) i;
SELECT trunkline.publish('once', '1', event_id => '00000000-0000-4000-8000-000000000001');
SELECT setval('trunkline.position_own', 1::bigint << 30);
SELECT trunkline.publish('e.' || i, to_jsonb(i), 'own') FROM generate_series(7, 9) i;
SELECT trunkline.publish('f', '1', 'fast');
SELECT trunkline.create_topic('streams', streams => true, dedup_window => NULL);
SELECT count(*) FROM generate_series(1, 3) i, unnest('{store,streams}'::text[]) t, trunkline.append('order-' || i,
    '[{"type": "a", "idempotency_key": "k1"}, {"type": "b"}, {"type": "c"}]', topic => t);
SELECT count(*) FROM trunkline.append('order-2', '{"type": "d"}', topic => 'streams');
SELECT trunkline.snapshot_save('order-1', 2, '{"n": 2}');
CREATE FUNCTION public.up(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"new"'::jsonb $$;
CREATE FUNCTION public.decide(c jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"type": "done"}'::jsonb $$;
SELECT trunkline.upcaster_add('d', 1, 'public.up'), trunkline.command_handler('do', 'public.decide');
SELECT trunkline.link('l', id) FROM trunkline.read_stream('order-3');
SELECT trunkline.command_create('order-1', 'do', id => '00000000-0000-4000-8000-0000000000c1');
SELECT trunkline.read_model_put('order', '1', '1', 3);
SELECT trunkline.publish_horizons()
SQL
my @store_tables = qw(streams snapshots upcasters link_streams links command_handlers commands read_models identity horizons);
my $position_token = $old->do("SELECT trunkline.position_token('store', 5)");
my $token = $old->do("SELECT DISTINCT token FROM trunkline.claim('app/own', max_events => 4)");
$old->do("SELECT trunkline.ack('$token', 2, '[{\"position\": 2, \"error\": \"x\", \"retry_after_us\": 0}]')");

my $new_db = database(empty => 1);
# an event in flight during the dump is in neither database
my $writer = session();
$writer->do("BEGIN; SELECT trunkline.publish('in flight', '1', 'own'); SELECT version FROM trunkline.append('order-9', '{\"type\": \"in flight\"}'); SELECT trunkline.link('in flight', id) FROM trunkline.read_stream('order-1', 0, 1)");
is(system("${bindir}pg_dump -d '$old_db' >'$ENV{TRUNKLINE_TEST_DIR}/dump'"), 0, 'dumped');
$writer->do('ROLLBACK');
psql_file($new_db, "$ENV{TRUNKLINE_TEST_DIR}/dump");
my $new = session(db => $new_db);

for my $query (
    'SELECT * FROM trunkline.events ORDER BY topic_id, "position"', 'SELECT * FROM trunkline.topics ORDER BY 1', 'SELECT * FROM trunkline.leaves ORDER BY 1, 2',
    'SELECT * FROM trunkline.subscriptions', 'SELECT * FROM trunkline.cursors', 'SELECT * FROM trunkline.leases', 'SELECT * FROM trunkline.retries', 'SELECT * FROM trunkline.dedup',
    (map { "SELECT * FROM trunkline.$_ ORDER BY 1, 2" } @store_tables),
    (map { "SELECT * FROM trunkline.$_" } "read('store', max_events => 1000)", "read_category('order')", "read_category('order', topic => 'streams', upcast => true)", "read_stream('order-2', topic => 'streams')",
        "read_stream('order-2', topic => 'streams', direction => 'backward')", "load_stream('order-1')", "read_links('l')", 'aggregates ORDER BY 1, 2'),
    "SELECT indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE relnamespace = 'trunkline'::regnamespace ORDER BY indexrelid::regclass::text",
    "SELECT relname, relpersistence, relkind FROM pg_class WHERE relnamespace = 'trunkline'::regnamespace ORDER BY 1",
    "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'trunkline'::regnamespace ORDER BY conrelid::regclass::text, 2",
    "SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgrelid::regclass::text, tgname",
    "SELECT p.oid::regprocedure, md5(pg_get_functiondef(p.oid)), proacl FROM pg_proc p WHERE pronamespace = 'trunkline'::regnamespace ORDER BY p.oid::regprocedure::text",
) {
    is($new->do($query), $old->do($query), substr($query, 0, 60));
}

my $next = $new->do("SELECT \"position\" FROM trunkline.publish('e.10', '10', 'own')");
cmp_ok($next, '>', (1 << 30) + 3, 'positions go on');
is($new->do("BEGIN; SELECT trunkline.publish('e.11', '11', 'own'); SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 'trunkline.position_own'::regclass::oid; COMMIT") =~ s/.*\n//sr, 1, 'under the register');
is($new->do("SELECT version, deduplicated FROM trunkline.append('order-2', '[{\"type\": \"a\", \"idempotency_key\": \"k1\"}]', topic => 'streams')"), '1|t', 'repeated appends are known');
my $last = $new->do('SELECT max("position") FROM trunkline.topic_store');
like($new->do("SELECT version, \"position\" > $last FROM trunkline.append('order-2', '{\"type\": \"e\"}', 3)"), qr/^4\|t$/, 'EVS-2 streams go on at their version, behind all that was');
is($new->do("SELECT string_agg(type, ' ' ORDER BY ordinality) FROM trunkline.read_stream('order-2') WITH ORDINALITY"), 'a b c e', 'in order');
is($new->do("SELECT string_agg(type, ' ' ORDER BY ordinality) FROM trunkline.read_category('order', $last) WITH ORDINALITY"), 'e', 'and visible');
refuses($new, "SELECT * FROM trunkline.append('order-2', '{\"type\": \"x\"}', 3)", 'TL001', {expected => 3, actual => 4}, 'a conflict is one');
is($new->do("SELECT version FROM trunkline.append('order-9', '{\"type\": \"x\"}', 0)"), 1, 'what was in flight is not there');
is($new->do("SELECT trunkline.link('l', id) FROM trunkline.read_stream('order-2', 3)"), 4, 'links go on');
is($new->do("SELECT trunkline.command_process('00000000-0000-4000-8000-0000000000c1')"), 't', 'a command that waited is processed');
is($new->do("SELECT topic, \"position\" FROM trunkline.parse_position_token('$position_token')"), 'store|5', 'EVS-13 tokens hold: it is the same store');
like($new->do("SELECT * FROM trunkline.publish('once', '1', event_id => '00000000-0000-4000-8000-000000000001')"), qr/\|1\|t$/, 'ids are remembered');
is($new->do("SELECT trunkline.ack('$token')"), 2, 'the lease can be settled here');
is($new->do("SELECT string_agg(type || ':' || attempt, ' ' ORDER BY \"position\") FROM trunkline.claim('app/own')"), 'e.2:2 e.5:1 e.6:1 e.7:1 e.8:1 e.9:1 e.10:1 e.11:1', 'claims go on: the retry, then what is fresh');
is($new->do('SELECT count(*) FROM trunkline.maintain() WHERE action IN (\'failed\', \'reset\')'), 0, 'maintain() is content');
is($new->do("SELECT trunkline.create_topic('more')"), $old->do("SELECT trunkline.create_topic('more')"), 'topics can be made');
is($new->error('DELETE FROM trunkline.leaf_own_0')->{state}, '42501', 'guarded');
my $migrated = qx("$ENV{TRUNKLINE_BIN}" migrate verify --db "$new_db" 2>&1);
is($?, 0, 'migrate verify is content') or diag($migrated);

done_testing;
