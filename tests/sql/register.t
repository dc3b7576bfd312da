#!/usr/bin/perl
# PUB-2: every way to write into a topic takes the in-flight lock before it reserves a position.
#
# The write side hangs on the planner inlining next_position() into the DEFAULT of a topic table and
# on each of its steps being needed for the next; so it is looked at for each kind of statement.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $s = session();
my $watch = session();

# Keys of the locks that the session holds in the register of a topic, the least one first, or 'none'.
sub lock_of {
    my ($topic) = @_;
    return $watch->do("SELECT coalesce(string_agg(objid::text, ' ' ORDER BY objid), 'none') FROM pg_locks
        WHERE pid = $s->{pid} AND locktype = 'advisory' AND mode = 'ShareLock' AND granted AND objsubid = 2
          AND classid = 'trunkline.position_$topic'::regclass::oid");
}

sub locks {
    my ($name, $sql, $topic) = @_;
    $topic //= 'bus';
    my $last = $watch->do("SELECT pg_sequence_last_value('trunkline.position_$topic')");
    $s->do("BEGIN;\n$sql");
    like(lock_of($topic), qr/^$last(?: \d+)?$/, "$name: the lock is keyed by the last value before the statement");
    my $first = $s->do("SELECT min(\"position\") FROM trunkline.topic_$topic WHERE \"position\" > $last");
    is($first, $last + 1, "$name: it wrote behind that");
    $s->do('COMMIT');
    is(lock_of($topic), 'none', "$name: released with the transaction");
    return;
}

locks('INSERT VALUES', q(INSERT INTO trunkline.topic_bus (type, data) VALUES ('a', '1')));
locks('INSERT of several rows', q(INSERT INTO trunkline.topic_bus (type, data) VALUES ('a', '1'), ('b', '2'), ('c', '3')));
locks('INSERT SELECT', q(INSERT INTO trunkline.topic_bus (type, data) SELECT 'a', to_jsonb(i) FROM generate_series(1, 5) i ORDER BY i DESC));
locks('INSERT with DEFAULT named', q(INSERT INTO trunkline.topic_bus (topic_id, "position", id, type, data, created_at) VALUES (DEFAULT, DEFAULT, DEFAULT, 'a', '1', DEFAULT)));
locks('INSERT ON CONFLICT', q(INSERT INTO trunkline.topic_bus (type, data) VALUES ('a', '1') ON CONFLICT DO NOTHING));
locks('INSERT RETURNING in a CTE', q(WITH new AS (INSERT INTO trunkline.topic_bus (type, data) VALUES ('a', '1') RETURNING *) SELECT count(*) FROM new));
locks('INSERT in the manner of an ORM', q(INSERT INTO "trunkline"."topic_bus" ("type", "data", "key", "metadata") VALUES ('a', '{"x": 1}'::jsonb, 'k', NULL) RETURNING "topic_bus"."position", "topic_bus"."id"));
locks('MERGE', q(MERGE INTO trunkline.topic_bus t USING (SELECT -1 AS p) n ON t."position" = n.p WHEN NOT MATCHED THEN INSERT (type, data) VALUES ('a', '1')))
    if $s->do('SHOW server_version_num') >= 150000;
locks('COPY', qq(COPY trunkline.topic_bus (type, data) FROM STDIN;\na\t1\nb\t2\n\\.));
locks('COPY with id', qq(COPY trunkline.topic_bus (type, data, id, key) FROM STDIN;\na\t1\t11111111-1111-4111-8111-111111111111\tk\n\\.));
locks('publish', q(SELECT trunkline.publish('a', '1')));
locks('publish to store', q(SELECT trunkline.publish('a', '1', 'store')), 'store');
locks('publish with an id', q(SELECT trunkline.publish('a', '1', event_id => gen_random_uuid())));
locks('publish_batch', q(SELECT trunkline.publish_batch('[{"type": "a"}, {"type": "b"}]')));
locks('publish_batch with ids', q(SELECT trunkline.publish_batch('[{"type": "a", "id": "22222222-2222-4222-8222-222222222222"}]')));

$s->do(q(SELECT trunkline.create_topic('own')));
locks('publish to a topic of one\'s own', q(SELECT trunkline.publish('a', '1', 'own')), 'own');

$s->do(q(PREPARE ins (text, jsonb) AS INSERT INTO trunkline.topic_bus (type, data) VALUES ($1, $2) RETURNING "position"));
$s->do(q(EXECUTE ins ('a', '1'))) for 1 .. 6;
isnt($s->do(q(SELECT generic_plans FROM pg_prepared_statements WHERE name = 'ins')), 0, 'the prepared statement has a generic plan');
locks('prepared INSERT with a generic plan', q(EXECUTE ins ('a', '1')));
$s->do(q(PREPARE pub (text, jsonb) AS SELECT * FROM trunkline.publish($1, $2)));
$s->do(q(EXECUTE pub ('a', '1'))) for 1 .. 6;
locks('prepared publish', q(EXECUTE pub ('a', '1')));

$s->do(<<'SQL');
CREATE SCHEMA app;
CREATE FUNCTION app.own_path() RETURNS bigint LANGUAGE plpgsql SET search_path = app AS $$
DECLARE p bigint;
BEGIN
    INSERT INTO trunkline.topic_bus (type, data) VALUES ('a', '1') RETURNING "position" INTO p;
    RETURN p;
END $$;
CREATE FUNCTION app.by_sql() RETURNS bigint LANGUAGE sql AS
    $$ INSERT INTO trunkline.topic_bus (type, data) VALUES ('a', '1') RETURNING "position" $$;
CREATE TABLE app.orders (n integer);
CREATE FUNCTION app.on_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO trunkline.topic_bus (type, data) VALUES ('order.created', to_jsonb(new));
    RETURN NULL;
END $$;
CREATE TRIGGER publish AFTER INSERT ON app.orders FOR EACH ROW EXECUTE FUNCTION app.on_order()
SQL
$s->do('SELECT app.own_path()') for 1 .. 6;
locks('PL/pgSQL function with its own search_path', 'SELECT app.own_path()');
locks('SQL function', 'SELECT app.by_sql()');
locks('trigger', 'INSERT INTO app.orders VALUES (1), (2)');

# A transaction with a number marks that it holds a lock; the marker and its lock live and die together.
$s->do('BEGIN; SELECT app.own_path()');
my $first = lock_of('bus');
like($first, qr/^\d+$/, 'the first event takes a lock');
$s->do('SELECT app.own_path()');
my $both = lock_of('bus');
is($both, $first . ' ' . ($first + 1), 'the second one another, and sets the marker');
$s->do('SELECT app.own_path(); SAVEPOINT a; SELECT app.own_path(); RELEASE a; SELECT trunkline.publish(\'a\', \'1\')');
is(lock_of('bus'), $both, 'no more of them in a transaction, whatever it calls');
is($watch->do("SELECT count(*) FROM trunkline.horizon_holders WHERE topic = 'bus' AND pid = $s->{pid}"), 1, 'which is one transaction that holds the horizon');
$s->do("SELECT trunkline.publish('a', '1', 'store')");
isnt(lock_of('store'), 'none', 'one a topic');
is(lock_of('bus'), $both, 'which leaves the others alone');
$s->do('RESET ALL; SELECT app.own_path()');
like(lock_of('bus'), qr/^$both \d+$/, 'RESET ALL costs one more and keeps the first');
$s->do('COMMIT');

$s->do("BEGIN; SELECT app.own_path()");
$first = lock_of('bus');
$s->do('SAVEPOINT a; SELECT app.own_path()');
like(lock_of('bus'), qr/^$first \d+$/, 'a second event behind a savepoint: a second lock');
$s->do('ROLLBACK TO a');
is(lock_of('bus'), $first, 'undone with it, and the first one stays');
$s->do('SELECT app.own_path()');
like(lock_of('bus'), qr/^$first \d+$/, 'so that the next event takes one again');
$s->do('ROLLBACK; BEGIN; SAVEPOINT a; SELECT app.own_path(); ROLLBACK TO a');
is(lock_of('bus'), 'none', 'the first event undone: none is left');
$s->do('SELECT app.own_path(); SELECT app.own_path()');
like(lock_of('bus'), qr/^\d+$/, 'the transaction has a number now, so one lock and the marker do');
$s->do('ROLLBACK');
locks('behind another write', "INSERT INTO app.orders VALUES (1)");
$s->do('BEGIN; CREATE TEMP TABLE written (n integer); SELECT app.own_path(); SELECT app.own_path()');
like(lock_of('bus'), qr/^\d+$/, 'behind another write one lock does for two events');
$s->do('ROLLBACK');

# Decision 14.
$s->do("BEGIN; SELECT trunkline.next_position('trunkline.position_bus')");
is($s->do('SELECT pg_current_xact_id_if_assigned() IS NOT NULL'), 't', 'who has drawn a position has a transaction number');
$s->do('ROLLBACK');

# Unlike these, which must not publish at all.
refuses($s, q(INSERT INTO trunkline.events (type, data) VALUES ('a', '1')), '23514', undef, 'the parent of all topics has no defaults');
refuses($s, q(INSERT INTO trunkline.leaf_bus_0 (type, data) VALUES ('a', '1')), '23502', undef, 'nor has a leaf');

# Inlined, or an INSERT would cost a function call: no trace of the function is left in the plan.
unlike($s->do(q(EXPLAIN VERBOSE INSERT INTO trunkline.topic_bus (type, data) VALUES ('a', '1'))),
    qr/next_(position|id)\(/, 'next_position() and next_id() are inlined');
unlike($s->do(q(EXPLAIN VERBOSE INSERT INTO trunkline.topic_bus (type, data) SELECT 'a', '1' FROM generate_series(1, 3))),
    qr/next_(position|id)\(/, 'in INSERT SELECT too');

# Nor does the NULL of an absent column cost a look at its domain.
unlike($s->do(q(EXPLAIN VERBOSE INSERT INTO trunkline.topic_bus (type, data) VALUES ('a', '1'))), qr/NULL::(text|jsonb)/, 'absent columns are constants of their type');

# A read by position touches the leaves that can hold it.
sub leaves_read {
    my ($query) = @_;
    my %leaf = map { $_ => 1 } $s->do("EXPLAIN (COSTS OFF) $query") =~ /(leaf_\w+_\d+) /g;
    return join ' ', sort keys %leaf;
}
is(leaves_read('SELECT * FROM trunkline.topic_bus WHERE "position" = 5'), 'leaf_bus_0', 'one position: its leaf');
is(leaves_read('SELECT * FROM trunkline.topic_bus WHERE "position" > 2147483648 AND "position" <= 2147483650'), 'leaf_bus_2', 'a range: its leaves');
is(leaves_read('SELECT * FROM trunkline.topic_bus WHERE "position" > (1::bigint << 31) - 5 AND "position" <= (1::bigint << 31) + 5 ORDER BY "position" LIMIT 10'),
    'leaf_bus_1 leaf_bus_2', 'a range across leaves: those');
is(leaves_read('SELECT * FROM trunkline.events WHERE topic_id = 1 AND "position" = 5'), 'leaf_bus_0', 'by the parent of all topics too');
unlike($s->do('EXPLAIN (COSTS OFF) SELECT * FROM trunkline.topic_bus WHERE "position" > 5 ORDER BY "position" LIMIT 10'), qr/Sort/,
    'in order without a sort');
# A generic plan prunes when it begins to run.
$s->do('PREPARE rd (bigint, bigint) AS SELECT * FROM trunkline.topic_bus WHERE "position" > $1 AND "position" <= $2 ORDER BY "position" LIMIT 10');
$s->do('SET plan_cache_mode = force_generic_plan');
like($s->do('EXPLAIN (COSTS OFF) EXECUTE rd (1, 5)'), qr/Subplans Removed: 2/, 'prepared reads prune too');

done_testing;
