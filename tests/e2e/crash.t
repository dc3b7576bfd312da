#!/usr/bin/env perl
# kill -9 of the daemon in the middle of a stream: nothing is lost, order is kept, and a SQL function
# has its effect exactly once (IDM-4, WRK-4, TST-3).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use Time::HiRes qw(time);
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $receiver = receiver();
my $events = 600;
my $seed = $ENV{TRUNKLINE_SEED} // int(time);
srand $seed;
diag "TRUNKLINE_SEED=$seed" if $ENV{TRUNKLINE_SEED};
note "seed $seed";

query($db, q(CREATE TABLE public.effects (n bigint GENERATED ALWAYS AS IDENTITY, position bigint, key text);
    CREATE FUNCTION public.effect(event jsonb) RETURNS void LANGUAGE sql AS
    $$ SELECT pg_sleep(0.01); INSERT INTO public.effects (position, key) VALUES ((event ->> 'position')::bigint, event ->> 'key') $$));
tl_ok(['subscribe', 'crash/sql', 'load.*', '--target', 'sql:public.effect', '--max-attempts', 1000]);
tl_ok(['subscribe', 'crash/hook', 'load.*', '--target', "$receiver->{url}/ok", '--max-attempts', 1000]);

my $publisher = start_program(['sh', '-c', "for i in 1 2 3 4 5 6; do for k in a b c d e; do j=1; while [ \$j -le 20 ]; do echo \"{\\\"type\\\":\\\"load.x\\\",\\\"data\\\":\$j,\\\"key\\\":\\\"\$k\\\"}\"; j=\$((j+1)); done; done | '$ENV{TRUNKLINE_BIN}' publish --ndjson || exit 1; done"]);
my ($kills, $in_flight) = (0, 0);
sub progress { return query($db, 'SELECT count(*) FROM public.effects') }
for my $round (1 .. 4) {
    my $serve = start_serve($db, ['--allow-private']);
    my $aim = progress() + 1 + int rand 60;
    last if !wait_for(sub { my $n = progress(); $n >= $aim || $n == $events });
    last if progress() == $events;
    kill 'KILL', $serve->{pid};
    is wait_exit($serve), 137, "round $round: killed";
    $kills++;
    $in_flight += query($db, q(SELECT coalesce(sum(events + retries), 0) FROM trunkline.leases JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = 'crash/hook' AND held));
    # A crashed owner's leases run out by themselves; no test waits half a minute for that.
    query($db, 'UPDATE trunkline.leases SET until = clock_timestamp()');
}
cmp_ok $kills, '>=', 2, 'it was killed in the middle';
is wait_exit($publisher), 0, 'everything is published' or diag slurp($publisher->{err});
my $serve = start_serve($db, ['--allow-private']);
ok wait_for(sub {
        query($db, q(SELECT sum(behind + leased + retrying) FROM trunkline.subscription_status)) eq '0' }),
    'the last one finishes everything' or diag query($db, 'TABLE trunkline.subscription_status');
is stop_program($serve), 0, 'stop';

is query($db, q(SELECT count(*) FROM trunkline.topic_bus WHERE type = 'load.x')), $events, 'published';
is query($db, 'SELECT count(*), count(DISTINCT position) FROM public.effects'), "$events|$events", 'SQL: each exactly once';
is query($db, q(SELECT count(*) FROM (SELECT position < lag(position) OVER (PARTITION BY key ORDER BY n) AS is_wrong FROM public.effects) s WHERE is_wrong)),
    '0', 'SQL: in order per key';
my (%seen, %last, $disorder);
for my $request ($receiver->{requests}->('/ok')) {
    my $event = decode($request->{body});
    my ($position, $key) = @$event{qw(position key)};
    next if $seen{$position}++; # a repetition after a crash
    $disorder = "$position after $last{$key}" if ($last{$key} // 0) > $position;
    $last{$key} = $position;
}
is scalar(keys %seen), $events, 'webhook: each at least once';
is $disorder, undef, 'webhook: first deliveries in order per key';
is query($db, 'SELECT count(*) FROM trunkline.dead_letters'), '0', 'no dead letters';
my $repeated = grep { $_ > 1 } values %seen;
cmp_ok $repeated, '<=', $in_flight, "repeated: what was in flight at most ($repeated)";
stop_program($receiver);
done_testing;
