#!/usr/bin/perl
# SUB-10, SUB-2, RET-1, RET-4, RET-7, WRK-4: a random history. Consumers that fail, skip, reject, defer, crash, hand
# back and roll back, while somebody pauses, stops, resizes, redrives and publishes. What each settles is
# written in the transaction of its ack, so the table says what happened. The seed is printed;
# TRUNKLINE_SEED repeats it (timing does not repeat).
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

use constant {SECONDS => 8, MAX_ATTEMPTS => 4, MUCH => 100};

my $seed = $ENV{TRUNKLINE_SEED} // int rand 1_000_000;
diag("seed $seed");
srand $seed;

my $main = session();
$main->do(<<'SQL');
SELECT trunkline.create_topic('chaos');
CREATE UNLOGGED TABLE seen (who text, n bigserial, "position" bigint, attempt integer, slot integer, slots integer, token uuid);
CREATE UNLOGGED TABLE settled (who text, n bigserial, "position" bigint, outcome text, token uuid);
CREATE UNLOGGED TABLE was_dead (who text, "position" bigint, PRIMARY KEY (who, "position"));
CREATE TABLE state (is_over boolean);
INSERT INTO state VALUES (false);
CREATE FUNCTION note_dead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.was_dead VALUES (NEW.subscription, NEW."position") ON CONFLICT DO NOTHING; RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OF dead_at ON trunkline.dead_letters FOR EACH ROW EXECUTE FUNCTION note_dead()
SQL

# name, options, does it keep the order of keys
my @kinds = (
    ['key', "ordering => 'key', slots => 3", 1],
    ['total', "ordering => 'total'", 1],
    ['stop', "ordering => 'key', slots => 2, on_failure => 'stop'", 1],
    ['loose', "ordering => 'key', slots => 2, on_failure => 'retry'", 0],
    ['none', "ordering => 'none', max_in_flight => 30", 0],
    ['some', "ordering => 'key', slots => 2, tenant_id => 'x', filter => '{\"wanted\": true}', rate_limit => 2000", 1],
    ['calm', "ordering => 'key', slots => 2", 1],
);
# Time to go on: it is not over yet, or a busy machine has not got far enough.
$main->do('CREATE FUNCTION goes_on(finish timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN clock_timestamp() < finish OR clock_timestamp() < finish + interval \'80 s\'
    AND EXISTS (SELECT FROM trunkline.subscriptions s WHERE (SELECT count(*) FROM public.seen WHERE who = s.name) <= ' . MUCH . '); END $$');
$main->do("SELECT trunkline.subscribe('$_->[0]', 'good.**', 'chaos', max_attempts => " . MAX_ATTEMPTS . ", retry_delay => '2 ms', retry_cap => '30 ms', $_->[1])") for @kinds;

my $publisher = <<'SQL';
DO $$
DECLARE
    finish timestamptz := clock_timestamp() + interval '%d s';
BEGIN
    WHILE public.goes_on(finish) LOOP
        INSERT INTO trunkline.topic_chaos (type, key, tenant_id, data)
            SELECT CASE WHEN random() < 0.9 THEN 'good.' ELSE 'bad.' END || g, CASE WHEN random() < 0.9 THEN 'k' || floor(random() * 8) END,
                   CASE WHEN random() < 0.5 THEN 'x' ELSE 'y' END, jsonb_build_object('wanted', random() < 0.5)
              FROM generate_series(1, 1 + floor(random() * 6)::integer) g;
        IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
        PERFORM pg_sleep(random() * 0.02);
    END LOOP;
END $$
SQL

my $consumer = <<'SQL';
DO $$
DECLARE
    who CONSTANT text := '%s';
    crashes CONSTANT float := %s;
    is_line CONSTANT boolean := (SELECT ordering = 'total' FROM trunkline.subscriptions WHERE name = who);
    waits CONSTANT boolean := (SELECT on_failure <> 'retry' FROM trunkline.subscriptions WHERE name = who);
    mine trunkline.leases;
    e record;
    failures jsonb;
    blocked text[];
    verdict text;
    idle integer := 0;
    over boolean;
    fate float;
BEGIN
    CREATE TEMP TABLE c (n serial, token uuid, attempt integer, "position" bigint, key text);
    LOOP
        SELECT is_over INTO over FROM state;
        TRUNCATE c;
        INSERT INTO c (token, attempt, "position", key)
            SELECT token, attempt, "position", key FROM trunkline.claim(who, max_events => 1 + floor(random() * 20)::integer, lease => CASE WHEN over THEN interval '10 min' ELSE '300 ms' END);
        SELECT * INTO mine FROM trunkline.leases l WHERE l.token = (SELECT token FROM c LIMIT 1);
        INSERT INTO seen (who, "position", attempt, slot, slots, token)
            SELECT who, "position", attempt, mine.slot, (SELECT count(*) FROM trunkline.cursors x WHERE x.subscription_id = mine.subscription_id), token FROM c ORDER BY n;
        COMMIT;
        IF mine.token IS NULL THEN
            idle := idle + 1;
            EXIT WHEN over AND NOT EXISTS (SELECT FROM trunkline.subscription_status WHERE name = who AND (behind > 0 OR leased > 0 OR retrying > 0));
            IF over THEN -- stopped after the operator had looked for the last time
                PERFORM trunkline.resume(name) FROM trunkline.subscriptions WHERE name = who AND NOT active;
                COMMIT;
            END IF;
            PERFORM pg_sleep(0.005);
            CONTINUE;
        END IF;
        fate := CASE WHEN over THEN 1 ELSE random() END;
        CONTINUE WHEN fate < crashes; -- the lease stays behind
        failures := '[]';
        blocked := '{}';
        BEGIN
            FOR e IN SELECT * FROM c ORDER BY "position" LOOP
                verdict := CASE WHEN over THEN 'done' WHEN random() < 0.8 THEN 'done' WHEN random() < 0.7 THEN 'retry' WHEN random() < 0.5 THEN 'skip' ELSE 'fail' END;
                IF waits AND (is_line AND cardinality(blocked) > 0 OR e.key = ANY (blocked)) THEN
                    verdict := 'defer';
                ELSIF verdict IN ('retry', 'fail') AND waits THEN
                    blocked := blocked || coalesce(e.key, '');
                END IF;
                IF verdict IN ('done', 'skip') THEN
                    INSERT INTO settled (who, "position", outcome, token) VALUES (who, e."position", verdict, e.token);
                END IF;
                IF verdict <> 'done' THEN
                    failures := failures || jsonb_build_object('position', e."position", 'verdict', verdict, 'error', 'chaos');
                END IF;
            END LOOP;
            IF fate > 0.95 AND NOT over THEN
                PERFORM pg_sleep(0.35); -- slower than its lease
            END IF;
            IF fate BETWEEN 0.2 AND 0.25 THEN
                DELETE FROM settled s WHERE s.token = mine.token;
                PERFORM trunkline.release(mine.token);
            ELSE
                PERFORM trunkline.ack(mine.token, NULL, CASE WHEN failures <> '[]' THEN failures END);
            END IF;
            IF fate BETWEEN 0.25 AND 0.3 THEN
                RAISE 'undo' USING ERRCODE = 'TL999';
            END IF;
        EXCEPTION WHEN SQLSTATE 'TL004' OR SQLSTATE 'TL999' THEN NULL; -- fenced, or rolled back
        END;
        COMMIT;
    END LOOP;
END $$
SQL

my $operator = <<'SQL';
DO $$
DECLARE
    finish timestamptz := clock_timestamp() + interval '%d s';
    target text;
BEGIN
    WHILE public.goes_on(finish) LOOP
        target := (ARRAY['key', 'total', 'stop', 'loose', 'none', 'some'])[1 + floor(random() * 6)];
        BEGIN
            CASE floor(random() * 5)
            WHEN 0 THEN PERFORM trunkline.pause(target, 'chaos');
            WHEN 1 THEN
                IF target IN ('key', 'loose', 'some', 'stop') THEN
                    PERFORM trunkline.set_slots(target, 1 + floor(random() * 4)::integer);
                END IF;
            WHEN 2 THEN PERFORM trunkline.redrive(subscription => target, max_events => 20);
            ELSE NULL;
            END CASE;
        EXCEPTION WHEN SQLSTATE 'TL001' OR deadlock_detected THEN NULL;
        END;
        COMMIT;
        BEGIN
            PERFORM trunkline.resume(name, skip => pause_reason LIKE 'event at%%' AND random() < 0.3) FROM trunkline.subscriptions WHERE NOT active;
        EXCEPTION WHEN SQLSTATE 'TL001' OR deadlock_detected THEN NULL;
        END;
        COMMIT;
        PERFORM pg_sleep(random() * 0.1);
    END LOOP;
    FOR target IN SELECT name FROM trunkline.subscriptions LOOP
        PERFORM trunkline.resume(target);
        COMMIT;
    END LOOP;
END $$
SQL

my $monitor = <<'SQL';
DO $$
DECLARE
    finish timestamptz := clock_timestamp() + interval '%d s';
    doubled bigint := 0;
BEGIN
    WHILE public.goes_on(finish) LOOP
        -- one live lease a slot
        doubled := doubled + (SELECT count(*) FROM (SELECT FROM trunkline.leases l JOIN trunkline.subscriptions s USING (subscription_id)
            WHERE s.ordering <> 'none' AND l.held AND l.until > clock_timestamp() GROUP BY l.subscription_id, l.slot HAVING count(*) > 1) q);
        doubled := doubled + (SELECT count(*) FROM (SELECT FROM trunkline.leases l JOIN trunkline.subscriptions s USING (subscription_id)
            WHERE s.name = 'none' AND l.held AND l.until > clock_timestamp() HAVING sum(events + retries) > 30) q);
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
    INSERT INTO public.was_dead VALUES ('doubled', doubled);
END $$
SQL

my @publishers = map { session() } 1 .. 2;
my @consumers = map { my $k = $_; map { [$k->[0], session()] } 1 .. 2 } @kinds;
my ($boss, $eye) = map { session() } 1 .. 2;
$_->do('SET client_min_messages = error; SELECT setseed(' . rand() . ')') for @publishers, (map { $_->[1] } @consumers), $boss, $eye;
$_->[1]->start(sprintf $consumer, $_->[0], $_->[0] eq 'calm' ? '-1' : '0.06') for @consumers;
$_->start(sprintf $publisher, SECONDS) for @publishers;
$boss->start(sprintf $operator, SECONDS);
$eye->start(sprintf $monitor, SECONDS);
for (@publishers, $boss, $eye) {
    my $out = $_->finish;
    BAIL_OUT($out) if $_->{error};
}
$main->do('UPDATE state SET is_over = true');
for (@consumers) {
    my $out = $_->[1]->finish;
    BAIL_OUT("$_->[0]: $out " . $main->do("SELECT row_to_json(r) FROM trunkline.retries r JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = '$_->[0]' LIMIT 5")) if $_->[1]{error};
}

diag($main->do(q(SELECT format('%s events; ', (SELECT count(*) FROM trunkline.topic_chaos)) || string_agg(format('%s: %s handed out, %s settled, %s dead', who, count,
    (SELECT count(*) FROM settled s WHERE s.who = q.who), (SELECT count(*) FROM trunkline.dead_letters d WHERE d.subscription = q.who AND d.state = 'dead')), '; ' ORDER BY who)
    FROM (SELECT who, count(*) FROM seen GROUP BY who) q)));
returns($main, q(SELECT "position" FROM was_dead WHERE who = 'doubled'), 0, 'one live lease a slot at a time, and no more in flight than allowed');
for my $kind (@kinds) {
    my ($who, undef, $is_ordered) = @$kind;
    my $wants = "e.type LIKE 'good.%'" . ($who eq 'some' ? " AND e.tenant_id = 'x' AND e.data @> '{\"wanted\": true}'" : '');
    cmp_ok($main->do("SELECT count(*) FROM seen WHERE who = '$who'"), '>', MUCH, "$who: got much");
    returns($main, "SELECT count(*) FROM trunkline.topic_chaos e WHERE $wants
        AND NOT EXISTS (SELECT FROM settled s WHERE s.who = '$who' AND s.\"position\" = e.\"position\")
        AND NOT EXISTS (SELECT FROM trunkline.dead_letters d WHERE d.subscription = '$who' AND d.\"position\" = e.\"position\" AND d.state = 'dead')",
        0, "$who: every event was settled or is dead");
    returns($main, "SELECT count(*) FROM (SELECT FROM settled WHERE who = '$who' GROUP BY \"position\" HAVING count(*) > 1) q", 0, "$who: nothing was settled twice");
    returns($main, "SELECT count(*) FROM settled s JOIN trunkline.dead_letters d ON d.subscription = s.who AND d.\"position\" = s.\"position\" AND d.state = 'dead' WHERE who = '$who'",
        0, "$who: what is dead was not settled");
    returns($main, "SELECT count(*) FROM seen s WHERE who = '$who' AND NOT EXISTS (SELECT FROM trunkline.topic_chaos e WHERE e.\"position\" = s.\"position\" AND $wants)",
        0, "$who: got nothing that it does not want");
    returns($main, "SELECT count(*) FROM seen WHERE who = '$who' AND attempt > " . MAX_ATTEMPTS, 0, "$who: no attempt beyond max_attempts");
    returns($main, "SELECT count(*) FROM seen s JOIN trunkline.topic_chaos e USING (\"position\") WHERE who = '$who' AND s.slots > 1 AND trunkline.slot_of(e.key, e.\"position\", s.slots) <> s.slot",
        0, "$who: each slot got its own keys") if $kind->[1] =~ /slots/;
    returns($main, "SELECT count(*) FROM (
            SELECT s.\"position\" < max(s.\"position\") OVER (PARTITION BY " . ($who eq 'total' ? '1' : 'e.key') . " ORDER BY s.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS is_late
              FROM settled s JOIN trunkline.topic_chaos e USING (\"position\")
             WHERE s.who = '$who' AND (e.key IS NOT NULL OR '$who' = 'total') AND NOT EXISTS (SELECT FROM was_dead d WHERE d.who = s.who AND d.\"position\" = s.\"position\")) q
         WHERE is_late", 0, "$who: settled in the order of its keys, but for what had died") if $is_ordered;
    returns($main, "SELECT active, leased, retrying, behind FROM trunkline.subscription_status WHERE name = '$who'", 't|0|0|0', "$who: nothing is left over");
    returns($main, "SELECT count(*) FROM trunkline.blocked_keys WHERE subscription = '$who'", 0, "$who: no key is blocked");
}
done_testing;
