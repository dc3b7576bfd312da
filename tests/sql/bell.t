#!/usr/bin/perl
# WAK-1: publishers notify when the sentinel sleeps, and only then; elections never wait.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($sentinel, $publisher, $other) = map { session() } 1 .. 3;
my $publish = "SELECT trunkline.publish('a', '1')";
is($sentinel->do('SELECT trunkline.channel()'), 'trunkline', 'the channel has the name of the schema');
$sentinel->do('LISTEN trunkline');

sub arm { return $sentinel->do('SELECT trunkline.bell_arm()') }
sub disarm { return $sentinel->do('SELECT trunkline.bell_disarm()') }
sub rings { return scalar $sentinel->notifications }

subtest 'a publisher in flight' => sub {
    $publisher->do("BEGIN; $publish");
    is(arm(), 'f', 'keeps the sentinel from arming');
    $publisher->do('COMMIT');
    is(arm(), 't', 'until it has ended');
    is(rings(), 0, 'and has not notified');
    is(disarm(), 't', 'disarmed');
};

# Nobody else sees that topic, nor that its register is locked: that the bell is held is all there is.
subtest 'a publisher in flight in a topic of its own' => sub {
    $publisher->do("BEGIN; SELECT trunkline.create_topic('own'); SELECT trunkline.publish('a', '1', 'own')");
    is(arm(), 'f', 'keeps the sentinel from arming');
    $publisher->do('COMMIT');
    is(arm(), 't', 'until it has ended');
    is(rings(), 0, 'and has not notified');
    is(disarm(), 't', 'disarmed');
};

subtest 'a publisher after arming' => sub {
    arm();
    $publisher->do("BEGIN; $publish; $publish; SELECT trunkline.publish('a', '1', 'store')");
    is(rings(), 0, 'says nothing before it commits');
    is($sentinel->do("SELECT trunkline.horizon('bus') + trunkline.horizon('store')"), 1, 'and nothing is readable');
    $publisher->do('COMMIT');
    is(rings(), 1, 'then once, whatever it published, to two topics');
    $publisher->do($publish);
    is(rings(), 1, 'so does the next one');
    disarm();
    $publisher->do($publish);
    is(rings(), 0, 'none once disarmed');
};

subtest 'a publisher that rolls back' => sub {
    arm();
    $publisher->do("BEGIN; $publish; ROLLBACK");
    is(rings(), 0, 'does not wake');
    disarm();
};

subtest 'ROLLBACK TO SAVEPOINT while the sentinel falls asleep' => sub {
    $publisher->do("BEGIN; SAVEPOINT s; $publish");
    is(arm(), 'f', 'awake while the event is in flight');
    $publisher->do('ROLLBACK TO s');
    is(arm(), 't', 'undone, it does not count');
    $publisher->do("$publish; COMMIT");
    is(rings(), 1, 'publishing again rings');

    $publisher->do("BEGIN; SAVEPOINT s; $publish; ROLLBACK TO s; $publish; COMMIT");
    is(rings(), 1, 'a ring undone is rung again');
    disarm();
};

subtest 'trunkline.ring = off' => sub {
    arm();
    $publisher->do("BEGIN; SET LOCAL trunkline.ring = off; $publish; COMMIT");
    is(rings(), 0, 'publishes without a ring');
    $publisher->do("BEGIN; $publish");
    refuses($publisher, "PREPARE TRANSACTION 'tl_bell'", '0A000', undef, 'a transaction that rang cannot be prepared');
    $publisher->do("BEGIN; SET LOCAL trunkline.ring = off; $publish");
    $publisher->do("PREPARE TRANSACTION 'tl_bell'");
    $other->do("COMMIT PREPARED 'tl_bell'");
    is(rings(), 0, 'one that did not can');
    disarm();
    $publisher->do("BEGIN; $publish");
    $publisher->do("PREPARE TRANSACTION 'tl_bell'");
    is(arm(), 'f', 'prepared before the sentinel sleeps, it keeps it awake');
    $other->do("ROLLBACK PREPARED 'tl_bell'");
    is(arm(), 't', 'until it is decided');
    disarm();
};

subtest 'a ring that is rolled back (models/doorbell.pml: sleep-over-held-horizon)' => sub {
    is(arm(), 't', 'asleep');
    $publisher->do("BEGIN; $publish");
    $other->do("BEGIN; $publish; COMMIT");
    is(rings(), 1, 'the second one rings; the first holds the horizon below it');
    disarm();
    is(arm(), 'f', 'so the sentinel must not sleep: the ring of the first may never come');
    $publisher->do('ROLLBACK');
    is(arm(), 't', 'once it is decided it may');
    disarm();
};

subtest 'elections' => sub {
    for my $what (qw(sentinel leader)) {
        is($sentinel->do("SELECT trunkline.${what}_try()"), 't', "$what: the first wins");
        is($other->do("SELECT trunkline.${what}_try()"), 'f', "$what: the second loses at once");
        is($sentinel->do("SELECT trunkline.${what}_release()"), 't', "$what: given up");
        is($other->do("SELECT trunkline.${what}_try()"), 't', "$what: the next wins");
        is($other->do("SELECT trunkline.${what}_release()"), 't', "$what: and gives up");
    }
    my $mortal = session();
    is($mortal->do('SELECT trunkline.sentinel_try() AND trunkline.bell_arm()'), 't', 'a sentinel, asleep');
    $mortal->close;
    wait_until(sub { $other->do('SELECT trunkline.sentinel_try()') eq 't' });
    $publisher->do($publish);
    is(rings(), 0, 'when it dies its bell is gone with it');
    is(arm(), 't', 'and its successor can arm');
    disarm();
    $other->do('SELECT trunkline.sentinel_release()');
};

subtest 'listeners' => sub {
    my $header = "SELECT attempt FROM trunkline.claim_many('{}', '{}') WHERE subscription_id = 0";
    is($sentinel->do($header), 0, 'nobody else listens');
    $other->do('LISTEN trunkline; SELECT trunkline.listener_join()');
    is($sentinel->do($header), 1, 'one other');
    is($other->do($header), 0, 'who does not count itself');
    $sentinel->do('SELECT trunkline.wake_listeners()');
    is(scalar($other->notifications), 1, 'the sentinel wakes it');
    $sentinel->notifications;
    is($other->do('SELECT trunkline.listener_leave()'), 't', 'leaves');
    is($sentinel->do($header), 0, 'and does not count any more');
};

subtest 'activity' => sub {
    my $activity = 'SELECT "position" FROM trunkline.claim_many(\'{}\', \'{}\')';
    my $before = $sentinel->do($activity);
    is($sentinel->do($activity), $before, 'the same while nothing happens');
    $publisher->do("BEGIN; $publish");
    is($sentinel->do($activity), $before, 'the same while an event is in flight');
    $publisher->do('COMMIT');
    isnt($sentinel->do($activity), $before, 'another once it is readable');
    $before = $sentinel->do($activity);
    $publisher->do("SELECT trunkline.publish('a', '1', 'store')");
    isnt($sentinel->do($activity), $before, 'in whichever topic');
};

done_testing;
