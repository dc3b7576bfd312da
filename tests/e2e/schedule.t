#!/usr/bin/env perl
# SCH-2, SCH-4, SCH-5: delayed events and schedules with daemons: in time, once, over restarts.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
query($db, q(CREATE TABLE public.seen (type text, event_id text, at timestamptz DEFAULT clock_timestamp());
    CREATE FUNCTION public.see(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.seen (type, event_id) VALUES (e ->> 'type', e ->> 'id') $$));
tl_ok(['subscribe', 's', '**', '--target', 'sql:public.see', '--db', $db]);
query($db, 'CREATE TABLE public.due (id uuid, run_at timestamptz)');

# Milliseconds from due time to handler: count, least, p50, p99, greatest.
sub lateness {
    return split /\|/, query($db, "SELECT count(*), round(min(late)), round(percentile_cont(0.5) WITHIN GROUP (ORDER BY late)), round(percentile_cont(0.99) WITHIN GROUP (ORDER BY late)), round(max(late))
        FROM (SELECT 1000 * extract(epoch FROM s.at - d.run_at)::float8 AS late FROM public.due d JOIN public.seen s ON s.event_id = d.id::text WHERE s.type = '$_[0]') q");
}
sub seen { return query($db, "SELECT count(*) FROM public.seen WHERE type = '$_[0]'") }

# What was scheduled while nobody ran is late, and not lost.
query($db, q(SELECT trunkline.publish('before', '1', delay => '10 ms')));
my ($first, $second) = map { start_serve($db, []) } 1 .. 2;
ok wait_for(sub { seen('before') eq '1' }), 'SCH-5 due while no daemon ran: delivered when one does';

# Due times spread over two seconds, published in no order. How late they are is noted, and measured by `make bench`: this machine
# may be busy with something else.
# first far away, for publishing may take longer than until they are due, and then they are not delayed at all
query($db, q(SELECT count(*) FROM generate_series(1, 200) i, trunkline.publish('spread', to_jsonb(i), delay => '1 h')));
query($db, q(WITH base AS MATERIALIZED (SELECT clock_timestamp() + interval '1 s' AS at), moved AS (
    UPDATE trunkline.scheduled SET run_at = at + ((data::text::integer * 7919) % 200) * interval '10 ms', due_at = at + ((data::text::integer * 7919) % 200) * interval '10 ms'
      FROM base WHERE type = 'spread' RETURNING id, run_at)
    INSERT INTO public.due SELECT id, run_at FROM moved));
ok wait_for(sub { seen('spread') eq '200' }), 'delivered';
is query($db, q(SELECT count(*) FROM (SELECT run_at, lag(run_at) OVER (ORDER BY "position") AS before FROM trunkline.topic_bus JOIN public.due USING (id) WHERE type = 'spread') q WHERE run_at < before)), '0', 'in the order of due times';
my ($count, $min, $p50, $p99, $max) = lateness('spread');
note "200 events in 2 s, from due time to handler: p50 $p50 ms, p99 $p99 ms, max $max ms";
is $count, 200, 'all measured';
cmp_ok $min, '>=', 0, 'SCH-1 never early';

# The daemon asks when it is told and when something falls due, not a second after it asked before: each question is written down, and
# one that came much sooner than that is proof, however late others are. An answer of 0 is followed by a move and the next question.
query($db, q(ALTER FUNCTION trunkline.next_scheduled() RENAME TO next_scheduled_itself;
    CREATE TABLE public.asked (n bigserial, daemon integer, at timestamptz, wait bigint);
    CREATE FUNCTION trunkline.next_scheduled() RETURNS bigint LANGUAGE plpgsql AS $$
        DECLARE wait bigint := trunkline.next_scheduled_itself();
        BEGIN INSERT INTO public.asked (daemon, at, wait) VALUES (pg_backend_pid(), clock_timestamp(), coalesce(wait, 1000000)); RETURN wait; END $$;
    CREATE VIEW public.sooner AS SELECT * FROM (
        SELECT wait, lag(wait) OVER w AS before, at - lag(begin) OVER w AS pause FROM (
            SELECT *, min(at) OVER (PARTITION BY daemon, turn) AS begin FROM (
                SELECT *, count(*) FILTER (WHERE is_first) OVER (PARTITION BY daemon ORDER BY n) AS turn FROM (
                    SELECT *, lag(wait) OVER (PARTITION BY daemon ORDER BY n) IS DISTINCT FROM 0 AS is_first FROM public.asked) a) b) c
        WINDOW w AS (PARTITION BY daemon ORDER BY n)) d WHERE pause < interval '700 ms'));
sub sooner { my ($condition) = @_; return query($db, "SELECT count(*) FROM public.sooner WHERE $condition") > 0 }
my ($singles, $is_told, $is_timed) = (0, 0, 0);
wait_for(sub {
    $singles++;
    query($db, q(INSERT INTO public.due SELECT p.id, t.run_at FROM (SELECT clock_timestamp() + interval '200 ms' AS run_at OFFSET 0) t, trunkline.publish('single', '1', run_at => t.run_at) p));
    wait_for(sub { seen('single') eq $singles }) or return 1;
    $is_told ||= sooner('before >= 1000000');
    $is_timed ||= sooner('before BETWEEN 1 AND 500000 AND wait = 0');
    return $singles >= 10 && $is_told && $is_timed;
});
ok $is_told, 'SCH-2 who schedules something tells the daemon';
ok $is_timed, 'SCH-2 which wakes when it is due';
($count, $min, $p50, $p99, $max) = lateness('single');
note "single events, from due time to handler: p50 $p50 ms, p99 $p99 ms, max $max ms";
is $count, $singles, 'each delivered';
cmp_ok $min, '>=', 0, 'never early';

# A schedule with two daemons, one of which is killed.
query($db, q(SELECT trunkline.schedule('tick', 'every 1s', 'tick', missed => 'all')));
ok wait_for(sub { seen('tick') >= 3 }), 'a schedule fires';
my ($leader, $other) = slurp($first->{err}) =~ /event=leader/ ? ($first, $second) : ($second, $first);
my $before = seen('tick');
kill 'KILL', $leader->{pid};
wait_exit($leader);
ok wait_for(sub { seen('tick') >= $before + 3 }), 'SCH-4 and goes on when the leader dies';
like slurp($other->{err}), qr/event=leader/, 'by the other';
query($db, q(SELECT trunkline.pause_schedule('tick')));
is query($db, q(SELECT count(*) - count(DISTINCT metadata ->> 'slot') FROM trunkline.topic_bus WHERE type = 'tick')), '0', 'SCH-4 each slot once';
is query($db, q(SELECT extract(epoch FROM max(slot) - min(slot))::bigint + 1 - count(*) FROM (SELECT (metadata ->> 'slot')::timestamptz AS slot FROM trunkline.topic_bus WHERE type = 'tick') q)), '0', 'and none left out';
is stop_program($other), 0, 'stop';

done_testing;
