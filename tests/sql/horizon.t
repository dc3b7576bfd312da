#!/usr/bin/perl
# LOG-3: the safe horizon in forced interleavings: nothing committed is passed by, nothing waits in vain.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($w1, $w2, $w3, $reader) = map { session() } 1 .. 4;

sub horizon { return $reader->do("SELECT trunkline.horizon('$_[0]')") }

# What a reader sees from the beginning, as types.
sub seen {
    return $reader->do("SELECT coalesce(string_agg(type, ' ' ORDER BY \"position\"), '') FROM trunkline.read('$_[0]', 0, 1000)");
}

sub publish {
    my ($session, $type, $topic) = @_;
    return $session->do("SELECT \"position\" FROM trunkline.publish('$type', '{}', '$topic')");
}

sub topic {
    my ($name, $options) = @_;
    $reader->do("SELECT trunkline.create_topic('$name'" . ($options ? ", $options" : '') . ')');
    return $name;
}

subtest 'slow early writer, fast late writer' => sub {
    my $t = topic('slow');
    $w1->do('BEGIN');
    is(publish($w1, 'early', $t), 1, 'the early one reserves first');
    is(publish($w2, 'late', $t), 2, 'the late one commits first');
    is(horizon($t), 0, 'the horizon stays before the one in flight');
    is(seen($t), '', 'a reader does not see the late one yet');
    $w1->do('COMMIT');
    is(seen($t), 'early late', 'then both, in order');
    is(horizon($t), 2, 'horizon at the last value');
};

subtest 'transactions of several events, interleaved' => sub {
    my $t = topic('several');
    $_->do('BEGIN') for $w1, $w2;
    publish($w1, 'a1', $t);
    publish($w2, 'b1', $t);
    publish($w1, 'a2', $t);
    publish($w2, 'b2', $t);
    $w2->do('COMMIT');
    is(seen($t), '', 'the first holds back all');
    publish($w3, 'c', $t);
    publish($w1, 'a3', $t);
    $w1->do('COMMIT');
    is(seen($t), 'a1 b1 a2 b2 c a3', 'then all in order of position');
};

subtest 'the second in flight holds back only what is behind it' => sub {
    my $t = topic('second');
    $w1->do('BEGIN');
    publish($w1, 'a', $t);
    publish($w2, 'b', $t);
    $w3->do('BEGIN');
    publish($w3, 'c', $t);
    $w1->do('COMMIT');
    is(seen($t), 'a b', 'up to the next in flight');
    is(horizon($t), 2, 'not one further');
    $w3->do('COMMIT');
    is(seen($t), 'a b c', 'then that too');
};

subtest 'rollbacks leave holes that nobody waits for' => sub {
    my $t = topic('holes');
    $w1->do('BEGIN');
    publish($w1, 'gone', $t) for 1 .. 3;
    publish($w2, 'b', $t);
    $w1->do('ROLLBACK');
    is(horizon($t), 4, 'the horizon crosses the hole at once');
    is(seen($t), 'b', 'and what is behind is there');
    $w1->error("INSERT INTO trunkline.topic_$t (type, data) VALUES ('', '1')");
    is(horizon($t), 5, 'a refused INSERT leaves a hole too');
};

subtest 'savepoints' => sub {
    my $t = topic('saves');
    $w1->do('BEGIN; SAVEPOINT s');
    publish($w1, 'undone', $t);
    is(horizon($t), 0, 'held inside the savepoint');
    $w1->do('ROLLBACK TO s');
    is(horizon($t), 1, 'ROLLBACK TO frees the hole');
    publish($w1, 'again', $t);
    publish($w2, 'late', $t);
    is(horizon($t), 1, 'publishing again after ROLLBACK TO takes the lock again');
    is(seen($t), '', 'so the late one waits');
    $w1->do('SAVEPOINT s2');
    publish($w1, 'inner', $t);
    $w1->do('ROLLBACK TO s2; RELEASE s2');
    is(horizon($t), 1, 'undoing an inner savepoint does not free the outer event');
    $w1->do('COMMIT');
    is(seen($t), 'again late', 'what was not undone, in order');

    $w1->do('BEGIN; SAVEPOINT s');
    publish($w1, 'kept', $t);
    $w1->do('RELEASE s');
    publish($w2, 'late2', $t);
    is(seen($t), 'again late', 'RELEASE hands the lock to the transaction');
    $w1->do('COMMIT');
    is(seen($t), 'again late kept late2', 'and it ends with that');
};

subtest 'a storm of savepoints' => sub {
    my $t = topic('storm');
    $w1->do("BEGIN; DO \$\$
        BEGIN
            FOR i IN 1 .. 500 LOOP
                BEGIN
                    PERFORM trunkline.publish('s' || i, '1', '$t');
                    IF i % 5 <> 0 THEN RAISE 'undo'; END IF;
                EXCEPTION WHEN raise_exception THEN NULL;
                END;
            END LOOP;
        END \$\$");
    publish($w2, 'late', $t);
    is(horizon($t), 4, 'held at the first event that was kept');
    is($reader->do("SELECT count(*) FROM pg_locks WHERE pid = $w1->{pid} AND locktype = 'advisory' AND objsubid = 2 AND classid = 'trunkline.position_$t'::regclass::oid"), 1, 'by one lock');
    $w1->do('COMMIT');
    is($reader->do("SELECT count(*) FROM trunkline.read('$t', 0, 1000)"), 101, 'then the hundred that were kept and the late one');
};

subtest 'transactions that do not publish hold nothing back' => sub {
    my $t = topic('foreign');
    my $other = session(db => $ENV{TRUNKLINE_TEST_DB});
    $w1->do('CREATE TABLE mine (n integer)');
    $w1->do('BEGIN; INSERT INTO mine VALUES (1); SELECT pg_current_xact_id()');
    $other->do('BEGIN; SELECT pg_current_xact_id()');
    $w3->do('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM trunkline.topics');
    publish($w2, 'a', $t);
    is(seen($t), 'a', 'writing in this database, writing in another one, an old snapshot');
    publish($w2, 'b', 'bus');
    $w2->do('BEGIN');
    publish($w2, 'c', 'bus');
    publish($reader, 'd', $t);
    is(seen($t), 'a d', 'nor does one that publishes to another topic');
    $_->do('ROLLBACK') for $w1, $w2, $w3, $other;
};

subtest 'a publisher in a copy of this database holds nothing back' => sub {
    my $copy = session(db => database());
    my $sequence = "SELECT 'trunkline.position_bus'::regclass::oid";
    is($copy->do($sequence), $reader->do($sequence), 'the keys of its locks are ours');
    $copy->do('BEGIN');
    publish($copy, 'there', 'bus');
    publish($w1, 'here', 'bus');
    is(horizon('bus'), $reader->do('SELECT last_value FROM trunkline.position_bus'), 'but not its transaction');
    like(seen('bus'), qr/here$/, 'and what is here is seen');
    $copy->do('ROLLBACK');
};

subtest 'two-phase commit' => sub {
    my $t = topic('twophase');
    $w1->do('BEGIN; SET LOCAL trunkline.ring = off');
    publish($w1, 'prepared', $t);
    $w1->do("PREPARE TRANSACTION 'tl_horizon'");
    publish($w2, 'late', $t);
    is(horizon($t), 0, 'a prepared transaction holds the horizon');
    is($reader->do("SELECT topic, pid IS NULL, application_name FROM trunkline.horizon_holders WHERE topic = '$t'"),
        "$t|t|(prepared transaction)", 'and is shown');
    publish($w1, 'next', $t);
    is(seen($t), '', 'the session itself is free to go on');
    $w3->do("COMMIT PREPARED 'tl_horizon'");
    is(seen($t), 'prepared late next', 'COMMIT PREPARED, by anybody, lets all pass in order');

    $w1->do('BEGIN; SET LOCAL trunkline.ring = off');
    publish($w1, 'undone', $t);
    $w1->do("PREPARE TRANSACTION 'tl_horizon'");
    $w3->do("ROLLBACK PREPARED 'tl_horizon'");
    is(horizon($t), 4, 'so does ROLLBACK PREPARED');
};

subtest 'first event of a new topic' => sub {
    my $t = topic('young');
    is(horizon($t), 0, 'nothing yet');
    $w1->do('BEGIN');
    publish($w1, 'first', $t);
    is(horizon($t), 0, 'in flight it does not count');
    publish($w2, 'second', $t);
    is(seen($t), '', 'nor does what comes behind it');
    $w1->do('COMMIT');
    is(seen($t), 'first second', 'then both');

    $w1->do('BEGIN');
    topic('unborn');
    $w1->do("SELECT trunkline.create_topic('inside')");
    publish($w1, 'x', 'inside');
    $w1->do('COMMIT');
    is(seen('inside'), 'x', 'made and published to in one transaction');
};

subtest 'rotation with writers in flight on both sides' => sub {
    my $t = topic('turning', q(rotation => 'hour'));
    my $leaf = 1 << 30;
    # only the owner may name a time
    my $old = "INSERT INTO trunkline.topic_$t (type, data, created_at) VALUES ('%s', '1', now() - interval '2 h') RETURNING \"position\"";
    my $maintain = "SELECT action, detail FROM trunkline.maintain() WHERE object = '$t'";
    $w1->do('BEGIN');
    $w2->do(sprintf $old, 'old');
    publish($w1, 'before', $t);
    is($reader->do($maintain), 'rotated|to leaf 1', 'rotates though a writer is in flight');
    is($w2->do(sprintf $old, 'behind'), $leaf + 1, 'the next writer is in the new leaf');
    $w3->do('BEGIN');
    publish($w3, 'after', $t);
    is(seen($t), 'old', 'all wait for the one before the jump');
    is($reader->do($maintain), '', 'no second jump while the horizon is in the old leaf');
    $w1->do('COMMIT');
    is(seen($t), 'old before behind', 'then up to the one behind the jump');
    is(horizon($t), $leaf + 1, 'across the jump');
    $w1->do("BEGIN; LOCK TABLE trunkline.topic_$t IN ROW EXCLUSIVE MODE");
    is($reader->do($maintain), 'made|leaf 3', 'it does not beside a writer that may not have registered yet');
    $w1->do('ROLLBACK');
    is($reader->do($maintain), "rotated|to leaf 2", 'now it may jump again');
    publish($w2, 'last', $t);
    $w3->do('COMMIT');
    is(seen($t), 'old before behind after last', 'all in order');
    is(horizon($t), 2 * $leaf + 1, 'at the end');
};

subtest 'the lock key is the low half of a position' => sub {
    my $t = topic('wrap');
    my $seq = "'trunkline.position_$t'";
    for my $near (1 << 31, 1 << 32, 3 << 31, 1 << 33, 5 << 31, 1 << 40, (1 << 47) + (1 << 32)) {
        my $leaf = $near >> 30;
        $w1->do("SELECT trunkline.add_leaf('$t', n) FROM generate_series($leaf - 1, $leaf) n");
        $w1->do("SELECT setval($seq, $near - 2)");
        $w1->do('BEGIN');
        is(publish($w1, 'a', $t), $near - 1, "last before $near");
        is(publish($w2, 'b', $t), $near, 'the border itself');
        $w3->do('BEGIN');
        publish($w3, 'c', $t);
        publish($w2, 'd', $t);
        is(horizon($t), $near - 2, 'held on this side');
        $w1->do('COMMIT');
        is(horizon($t), $near, 'held at the border');
        $w1->do('BEGIN');
        publish($w1, 'e', $t);
        $w3->do('COMMIT');
        is(horizon($t), $near + 2, 'held on the other side');
        $w1->do('ROLLBACK');
        is(horizon($t), $near + 3, 'free');
        is($reader->do("SELECT string_agg(type, ' ' ORDER BY \"position\") FROM trunkline.read('$t', $near - 2)"), 'a b c d', 'in order');
    }
    # as far apart as leaves allow
    my $far = 1 << 50;
    $w1->do("SELECT trunkline.add_leaf('$t', n) FROM generate_series(($far >> 30), ($far >> 30) + 3) n");
    $w1->do("SELECT setval($seq, $far)");
    $w1->do('BEGIN');
    publish($w1, 'a', $t);
    $w2->do("SELECT setval($seq, $far + (4::bigint << 30) - 3)");
    is(publish($w2, 'b', $t), $far + (4 << 30) - 2, 'four leaves later');
    is(horizon($t), $far, 'a writer four leaves behind still holds the horizon');
    $w1->do('COMMIT');
    is(horizon($t), $far + (4 << 30) - 2, 'and frees it');
};

subtest 'a publisher reading in its own transaction' => sub {
    my $t = topic('own');
    publish($w1, 'a', $t);
    $w1->do('BEGIN');
    publish($w1, 'b', $t);
    is($w1->do("SELECT trunkline.horizon('$t')"), 1, 'is before its own event');
    is($w1->do("SELECT type FROM trunkline.read('$t')"), 'a', 'and reads up to that');
    publish($w2, 'c', $t);
    is($w1->do("SELECT type FROM trunkline.read('$t')"), 'a', 'not past it');
    $w1->do('COMMIT');
    is(seen($t), 'a b c', 'afterwards all');
};

subtest 'only READ COMMITTED' => sub {
    $w2->do("SELECT trunkline.subscribe('level', '**')");
    for my $level ('REPEATABLE READ', 'SERIALIZABLE') {
        for my $call ("horizon()", "read()", "claim('level')", "claim_many('{}', '{}')", 'maintain()', "subscribe('$level', '**')") {
            $w1->do("BEGIN ISOLATION LEVEL $level");
            refuses($w1, "SELECT trunkline.$call", 'TL005', {field => 'transaction_isolation', actual => lc $level}, "$call at $level");
            $w1->do('ROLLBACK');
        }
        $w1->do("BEGIN ISOLATION LEVEL $level");
        publish($w1, 'x', 'bus');
        is($w1->do('COMMIT; SELECT 1'), 1, "publishing at $level is fine");
    }
    $w1->do('BEGIN ISOLATION LEVEL READ UNCOMMITTED; SELECT trunkline.horizon(); COMMIT');
    pass('READ UNCOMMITTED is READ COMMITTED');
};

# The reader is held up in the middle: reading a sequence waits for whoever alters it.
subtest 'last values are read before locks' => sub {
    my ($stuck, $t) = (topic('stuck'), topic('order'));
    my $first = publish($w1, 'a', $t);
    $w3->do("BEGIN; ALTER SEQUENCE trunkline.position_$stuck CACHE 1");
    $reader->start("SELECT (trunkline.register_horizons(ARRAY['trunkline.position_$stuck', 'trunkline.position_$t']::regclass[]))[2]");
    $reader->wait_blocked;
    $w1->do('BEGIN');
    publish($w1, 'b', $t);
    publish($w2, 'c', $t);
    $w3->do('ROLLBACK');
    is($reader->finish, $first, 'a lock taken meanwhile counts');
    $w1->do('COMMIT');
};

subtest 'who holds the horizon is shown' => sub {
    my $t = topic('shown');
    $w1->do("SET application_name = 'billing'; BEGIN");
    publish($w1, 'a', $t);
    is($reader->do("SELECT pid, application_name, state, role, age > '0' FROM trunkline.horizon_holders WHERE topic = '$t'"),
        "$w1->{pid}|billing|idle in transaction|postgres|t", 'process, application, state, age, role');
    $w1->do('COMMIT');
    is($reader->do("SELECT count(*) FROM trunkline.horizon_holders"), 0, 'nobody any more');
};

done_testing;
