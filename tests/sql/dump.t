#!/usr/bin/perl
# MIG-3: pg_dump and restore into a new database: positions, dedup, subscriptions, leases go on.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

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
SELECT trunkline.publish('f', '1', 'fast')
SQL
my $token = $old->do("SELECT DISTINCT token FROM trunkline.claim('app/own', max_events => 4)");
$old->do("SELECT trunkline.ack('$token', 2, '[{\"position\": 2, \"error\": \"x\", \"retry_after_us\": 0}]')");

my $new_db = database(empty => 1);
my $bindir = $ENV{PGBINDIR} ? "$ENV{PGBINDIR}/" : '';
# an event in flight during the dump is in neither database
my $writer = session();
$writer->do("BEGIN; SELECT trunkline.publish('in flight', '1', 'own')");
is(system("${bindir}pg_dump -d '$old_db' >'$ENV{TRUNKLINE_TEST_DIR}/dump'"), 0, 'dumped');
$writer->do('ROLLBACK');
psql_file($new_db, "$ENV{TRUNKLINE_TEST_DIR}/dump");
my $new = session(db => $new_db);

for my $query (
    'SELECT * FROM trunkline.events ORDER BY topic_id, "position"', 'SELECT * FROM trunkline.topics ORDER BY 1', 'SELECT * FROM trunkline.leaves ORDER BY 1, 2',
    'SELECT * FROM trunkline.subscriptions', 'SELECT * FROM trunkline.cursors', 'SELECT * FROM trunkline.leases', 'SELECT * FROM trunkline.retries', 'SELECT * FROM trunkline.dedup',
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
is($new->do("SELECT \"position\" FROM trunkline.publish('first', '1', 'store')"), 1, 'a topic without events too');
like($new->do("SELECT * FROM trunkline.publish('once', '1', event_id => '00000000-0000-4000-8000-000000000001')"), qr/\|1\|t$/, 'ids are remembered');
is($new->do("SELECT trunkline.ack('$token')"), 2, 'the lease can be settled here');
is($new->do("SELECT string_agg(type || ':' || attempt, ' ' ORDER BY \"position\") FROM trunkline.claim('app/own')"), 'e.2:2 e.5:1 e.6:1 e.7:1 e.8:1 e.9:1 e.10:1 e.11:1', 'claims go on: the retry, then what is fresh');
is($new->do('SELECT count(*) FROM trunkline.maintain() WHERE action IN (\'failed\', \'reset\')'), 0, 'maintain() is content');
is($new->do("SELECT trunkline.create_topic('more')"), $old->do("SELECT trunkline.create_topic('more')"), 'topics can be made');
is($new->error('DELETE FROM trunkline.leaf_own_0')->{state}, '42501', 'guarded');
my $migrated = qx("$ENV{TRUNKLINE_BIN}" migrate verify --db "$new_db" 2>&1);
is($?, 0, 'migrate verify is content') or diag($migrated);

done_testing;
