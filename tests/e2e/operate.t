#!/usr/bin/env perl
# Operating subscriptions that two daemons serve: pause, stop and skip, dead letters, replay, reset, slots,
# drain (SUB-2, SUB-5, SUB-10, RET-6, RET-7). The target is a SQL function, so what it did is exact.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
query($db, <<'SQL');
CREATE TABLE done (n bigserial, "position" bigint, key text);
CREATE TABLE broken (key text);
CREATE FUNCTION note(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.broken b WHERE b.key = event ->> 'key') THEN
        RAISE 'key % is broken', event ->> 'key';
    END IF;
    INSERT INTO public.done ("position", key) VALUES ((event ->> 'position')::bigint, event ->> 'key');
END $$;
SQL

sub publish { my ($n) = @_; return query($db, "SELECT count(*) FROM generate_series(1, $n) i, trunkline.publish('e.x', to_jsonb(i), key => 'k' || i % 5)") }
sub done_count { return query($db, 'SELECT count(*) FROM done') }
sub is_done { my ($n) = @_; return wait_for(sub { done_count() == $n }) || diag('done: ' . done_count() . ' of ' . $n) && 0 }
sub status { my ($column) = @_; return query($db, "SELECT $column FROM trunkline.subscription_status WHERE name = 's'") }
sub operate { return tl_ok(['subscriptions', $_[0], 's', @_[1 .. $#_]]) }
# Positions of a key that were done in another order than published.
sub disorder { return query($db, 'SELECT count(*) FROM (SELECT "position" < lag("position") OVER (PARTITION BY key ORDER BY n) AS is_late FROM done) q WHERE is_late') }

tl_ok(['subscribe', 's', 'e.*', '--target', 'sql:public.note', '--slots', 3, '--max-attempts', 2, '--retry-delay', '1ms', '--retry-cap', '2ms']);
my @serve = map { start_serve($db) } 1, 2;
publish(50);
ok is_done(50), 'two daemons serve it';
is disorder(), 0, 'SUB-10 every key in order';

# SUB-2
operate('pause', '--reason', 'a test');
publish(20);
ok wait_for(sub { status('behind') == 20 }), 'paused: the log grows';
is done_count(), 50, 'SUB-2 nothing is delivered';
operate('resume');
ok is_done(70), 'resumed: everything is';

# A slot more, a slot less, while events flow.
for my $slots (5, 1, 4) {
    publish(30);
    operate('set-slots', $slots);
    publish(30);
}
ok is_done(250), 'SUB-10 slots change while events flow: nothing is lost or done twice';
is disorder(), 0, 'every key in order all the time';
ok wait_for(sub { query($db, 'SELECT count(*) FROM trunkline.cursors') == 4 }), 'four slots in the end';

# RET-6, RET-7
query($db, q(INSERT INTO broken VALUES ('k1')));
publish(10);
ok is_done(258), 'a broken key holds back only itself';
ok wait_for(sub { status('dead') == 2 }), 'RET-6 its events are given up';
like tl_ok(['dead', 'list', '-s', 's']), qr/max_attempts +2 +.*key k1 is broken/, 'for that reason';
is tl_ok(['dead', 'redrive', '-s', 's']), "redriven 2\n", 'redriven while it is broken';
ok wait_for(sub { query($db, q(SELECT count(*) FROM trunkline.dead_letters WHERE state = 'dead')) == 2 }), 'they die again';
ok wait_for(sub { query($db, 'SELECT count(*) FROM trunkline.retries') == 0 }), 'and wait no more';
query($db, 'DELETE FROM broken');
is tl_ok(['dead', 'redrive', '-s', 's']), "redriven 2\n", 'redriven when it is well';
ok is_done(260), 'RET-7 they are done';

# Stop, and skip.
tl_ok(['subscribe', 's', 'e.*', '--target', 'sql:public.note', '--max-attempts', 1, '--on-failure', 'stop']);
is status('slots'), 4, 'subscribing again keeps the slots';
query($db, q(INSERT INTO broken VALUES ('k2')));
publish(5);
ok wait_for(sub { status('active') eq 'f' }), 'an event that fails stops the subscription';
like status('pause_reason'), qr/^event at position \d+ failed 1 times: .*key k2 is broken/, 'and it says so';
operate('resume');
ok wait_for(sub { status('active') eq 'f' }), 'resume: tried again, it stops again';
operate('resume', '--skip');
ok is_done(264), 'resume --skip: the others are done';
is query($db, q(SELECT count(*) FROM trunkline.dead_letters WHERE reason = 'skipped')), 1, 'the event is a dead letter';
query($db, 'DELETE FROM broken');

# Replay and reset.
my ($last) = query($db, 'SELECT max("position") FROM trunkline.topic_bus');
like tl_ok(['replay', 'start', 's', '--from', 'beginning', '--to', 40]), qr/^replay \d+: 40 events/, 'replay';
publish(10);
ok is_done(314), 'the range once more, and the live events';
is query($db, 'SELECT count(*) FROM done WHERE "position" <= 40'), 80, 'each of the range once';
ok wait_for(sub { query($db, 'SELECT count(*) FROM trunkline.replays') == 0 }), 'the replay has ended';
operate('reset', $last);
ok is_done(324), 'SUB-5 reset: what is after that place comes again';

# Drain.
operate('drain');
ok wait_for(sub { status('pause_reason') eq 'drained' }), 'drain: it pauses when all is settled';
publish(3);
is done_count(), 324, 'and gets nothing more';
is tl_ok(['subscriptions', 'delete', 's', '--yes']), "unsubscribed s\n", 'deleted';
is stop_program($_), 0, 'the daemons stop' for @serve;

done_testing;
