#!/usr/bin/perl
# LOG-3, SUB-2: a random history. Writers commit, roll back, undo parts, pause and turn to a new leaf;
# readers of each kind note what they get. Every committed event must have come to each exactly once,
# in ascending order. The seed is printed; TRUNKLINE_SEED repeats it (timing does not repeat).
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

use constant SECONDS => 6;

my $seed = $ENV{TRUNKLINE_SEED} // int rand 1_000_000;
diag("seed $seed");
srand $seed;

my $main = session();
$main->do(<<'SQL');
SELECT trunkline.create_topic('busy', rotation => 'hour');
CREATE UNLOGGED TABLE seen (reader text, n bigserial, "position" bigint, token uuid);
CREATE UNLOGGED TABLE outcome (commits bigint, rollbacks bigint);
CREATE TABLE state (is_over boolean);
INSERT INTO state VALUES (false)
SQL
$main->do("SELECT trunkline.subscribe('h/$_', '**', 'busy', ordering => '$_')") for qw(none key total);

# The owner may set created_at: an old first event of a leaf makes the next maintain() rotate.
my $writer = <<'SQL';
DO $$
DECLARE
    finish timestamptz := clock_timestamp() + interval '%d s';
    commits bigint := 0;
    rollbacks bigint := 0;
BEGIN
    WHILE clock_timestamp() < finish LOOP
        FOR i IN 1 .. 1 + floor(random() * 3) LOOP
            CASE floor(random() * 5)
            WHEN 0 THEN
                INSERT INTO trunkline.topic_busy (type, data, created_at) SELECT 'many', to_jsonb(g), now() - interval '2 h' FROM generate_series(1, 3) g;
            WHEN 1 THEN
                BEGIN
                    PERFORM trunkline.publish('inner', '1', 'busy', key => 'k' || i);
                    IF random() < 0.5 THEN
                        RAISE 'undo';
                    END IF;
                EXCEPTION WHEN raise_exception THEN NULL;
                END;
            WHEN 2 THEN
                PERFORM trunkline.publish('once', '1', 'busy', event_id => gen_random_uuid());
            WHEN 3 THEN
                INSERT INTO trunkline.topic_busy (type, data, created_at) VALUES ('old', '1', now() - interval '2 h');
            ELSE
                PERFORM trunkline.publish('plain', '1', 'busy');
            END CASE;
            IF random() < 0.1 THEN
                PERFORM pg_sleep(random() * 0.01);
            END IF;
        END LOOP;
        IF random() < 0.2 THEN
            ROLLBACK;
            rollbacks := rollbacks + 1;
        ELSE
            COMMIT;
            commits := commits + 1;
        END IF;
        -- moments with nothing in flight belong to it
        IF random() < 0.5 THEN
            PERFORM pg_sleep(random() * 0.02);
        END IF;
    END LOOP;
    INSERT INTO outcome VALUES (commits, rollbacks);
END $$
SQL

# Loops until the writers have ended and nothing more comes. %%s: one round that sets got.
my $reader = <<'SQL';
DO $$
DECLARE
    is_over boolean;
    last_seen bigint := 0;
    got bigint;
    horizon bigint;
    batch record;
BEGIN
    LOOP
        SELECT s.is_over INTO is_over FROM state s;
        COMMIT;
        %s
        EXIT WHEN is_over AND got = 0;
    END LOOP;
END $$
SQL

my $by_position = <<'SQL';
        WITH r AS (SELECT "position" FROM trunkline.read('busy', last_seen, 50)),
             s AS (INSERT INTO seen (reader, "position") SELECT 'read', "position" FROM r ORDER BY "position")
        SELECT count(*), coalesce(max("position"), last_seen) INTO got, last_seen FROM r;
        COMMIT;
SQL
# The horizon with its two looks held far apart, by the last values of thousands of other sequences
# between them: were the register read before the last value, this would lose events at once.
my $by_wide = <<'SQL';
        horizon := (trunkline.register_horizons(array_fill('trunkline.position_store'::regclass, ARRAY[20000]) || 'trunkline.position_busy'::regclass))[20001];
        WITH r AS (SELECT "position" FROM trunkline.topic_busy WHERE "position" > last_seen AND "position" <= horizon),
             s AS (INSERT INTO seen (reader, "position") SELECT 'wide', "position" FROM r ORDER BY "position")
        SELECT count(*) INTO got FROM r;
        last_seen := greatest(horizon, last_seen);
        COMMIT;
SQL
# Claim, effect and ack in one transaction, which sometimes fails.
my $by_claim = <<'SQL';
        WITH c AS (SELECT token, "position" FROM trunkline.claim('h/%1$s', max_events => 20)),
             s AS (INSERT INTO seen (reader, "position", token) SELECT 'h/%1$s', "position", token FROM c ORDER BY "position")
        SELECT count(*), min(token::text)::uuid AS token INTO batch FROM c;
        got := batch.count;
        IF got > 0 THEN
            PERFORM trunkline.ack(batch.token);
        END IF;
        IF random() < 0.1 AND got > 0 THEN
            ROLLBACK;
        ELSE
            COMMIT;
        END IF;
SQL
# Leases that outlive a transaction, some handed back, some settled in two parts.
my $by_lease = <<'SQL';
        CREATE TEMP TABLE IF NOT EXISTS c (token uuid, "position" bigint);
        TRUNCATE c;
        INSERT INTO c SELECT token, "position" FROM trunkline.claim('h/%1$s', max_events => 20);
        COMMIT;
        SELECT count(*), min(token::text)::uuid AS token, min("position") AS first INTO batch FROM c;
        got := batch.count;
        IF got > 0 AND random() < 0.1 THEN
            PERFORM trunkline.release(batch.token);
        ELSIF got > 0 THEN
            INSERT INTO seen (reader, "position", token) SELECT 'h/%1$s', "position", token FROM c ORDER BY "position";
            IF got > 1 AND random() < 0.3 THEN
                PERFORM trunkline.ack(batch.token, batch.first);
            END IF;
            PERFORM trunkline.ack(batch.token);
        END IF;
        COMMIT;
SQL

$main->do("INSERT INTO trunkline.topic_busy (type, data, created_at) VALUES ('old', '1', now() - interval '2 h')");
my @writers = map { session() } 1 .. 4;
my @readers = map { session() } 1 .. 6;
my $maintainer = session();
$_->do('SET client_min_messages = error; SELECT setseed(' . rand() . ')') for @writers, @readers;
$readers[0]->start(sprintf $reader, $by_position);
$readers[1]->start(sprintf $reader, sprintf $by_claim, 'key');
$readers[2]->start(sprintf $reader, sprintf $by_lease, 'total');
$readers[$_]->start(sprintf $reader, sprintf $by_lease, 'none') for 3, 4;
$readers[5]->start(sprintf $reader, $by_wide);
$_->start(sprintf $writer, SECONDS) for @writers;
$maintainer->start('DO $$ BEGIN FOR i IN 1 .. 30 LOOP PERFORM trunkline.maintain(); COMMIT; PERFORM pg_sleep(0.2); END LOOP; END $$');
for (@writers, $maintainer) {
    my $out = $_->finish;
    BAIL_OUT($out) if $_->{error};
}
$main->do('UPDATE state SET is_over = true');
for (@readers) {
    my $out = $_->finish;
    BAIL_OUT($out) if $_->{error};
}

diag($main->do(q(SELECT format('%s events, %s commits, %s rollbacks, %s holes, %s leaves',
    (SELECT count(*) FROM trunkline.topic_busy), sum(commits), sum(rollbacks),
    (SELECT sum(last - first + 1 - n) FROM (SELECT count(*) n, min("position") first, max("position") last
        FROM trunkline.topic_busy GROUP BY "position" >> 30) q),
    (SELECT count(DISTINCT "position" >> 30) FROM trunkline.topic_busy)) FROM outcome)));
cmp_ok($main->do('SELECT count(*) FROM trunkline.topic_busy'), '>', 300, 'much was written');
cmp_ok($main->do('SELECT count(DISTINCT "position" >> 30) FROM trunkline.topic_busy'), '>', 1, 'over several leaves');

for my $who (qw(read wide h/none h/key h/total)) {
    returns($main, "SELECT count(*) FROM trunkline.topic_busy e
        WHERE NOT EXISTS (SELECT FROM seen s WHERE s.reader = '$who' AND s.\"position\" = e.\"position\")", 0, "$who: missed nothing");
    returns($main, "SELECT count(*) - count(DISTINCT \"position\") FROM seen WHERE reader = '$who'", 0, "$who: got nothing twice");
    returns($main, "SELECT count(*) FROM seen s WHERE reader = '$who' AND NOT EXISTS
        (SELECT FROM trunkline.topic_busy e WHERE e.\"position\" = s.\"position\")", 0, "$who: got nothing that was undone");
    # many leases at once have no order between them
    my $part = $who eq 'h/none' ? 'PARTITION BY token' : '';
    returns($main, "SELECT count(*) FROM (SELECT \"position\" < lag(\"position\") OVER ($part ORDER BY n) AS is_back
        FROM seen WHERE reader = '$who') q WHERE is_back", 0, "$who: got it in order");
}
returns($main, 'SELECT count(*) FROM trunkline.leases', 0, 'no lease is left');
returns($main, "SELECT count(*) FROM trunkline.subscription_status WHERE behind > 0", 0, 'every cursor is at the end');

done_testing;
