#!/usr/bin/perl
# SUB-3, WRK-3: who holds a lease, who is fenced, and what a crash costs.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest qw(:DEFAULT expire);
use Test::More;

database();
my ($a, $b, $main) = map { session() } 1 .. 3;

# A topic of its own with n events t1, t2, ... and a subscription of the same name.
sub feed {
    my ($name, $n, $options) = @_;
    $main->do("SELECT trunkline.create_topic('$name')");
    $main->do("SELECT trunkline.subscribe('$name', '**', '$name'" . ($options ? ", $options" : '') . ')');
    more($name, $n) if $n;
    return $name;
}

sub more {
    my ($name, $n) = @_;
    $main->do("SELECT trunkline.publish('t' || i, '1', '$name') FROM generate_series(1, $n) i");
    return;
}

# Claim; the token, and "type:attempt" of each event.
sub claim {
    my ($session, $name, $options) = @_;
    my @rows = map { [split /\|/] } split /\n/,
        $session->do("SELECT token, type, attempt FROM trunkline.claim('$name'" . ($options ? ", $options" : '') . ')');
    return ($rows[0] ? $rows[0][0] : 'none', join ' ', map { "$_->[1]:$_->[2]" } @rows);
}

# As expire() while the holder has the row locked: by the clock.
sub expire_behind {
    my ($token) = @_;
    wait_until(sub { $main->do("SELECT until < clock_timestamp() FROM trunkline.leases WHERE token = '$token'") eq 't' });
    return;
}

sub dead { return $main->do("SELECT coalesce(string_agg(event ->> 'type' || ':' || reason || ':' || attempts, ' ' ORDER BY \"position\"), '')
    FROM trunkline.dead_letters WHERE subscription = '$_[0]'") }

subtest 'none, one and many events' => sub {
    my $f = feed('few', 0);
    is_deeply([claim($a, $f)], ['none', ''], 'nothing there');
    more($f, 1);
    my ($token, $got) = claim($a, $f);
    is($got, 't1:1', 'one');
    is($a->do("SELECT trunkline.ack('$token')"), 1, 'settled');
    more($f, 250);
    ($token, $got) = claim($a, $f);
    is(scalar(split / /, $got), 100, 'a hundred by default');
    is($a->do("SELECT trunkline.ack('$token')"), 100, 'settled');
    ($token, $got) = claim($a, $f, 'max_events => 10000');
    is(scalar(split / /, $got), 150, 'the rest');
    is($a->do("SELECT trunkline.ack('$token')"), 150, 'settled');
    is($main->do('SELECT count(*) FROM trunkline.leases'), 0, 'no trace of success');
};

subtest 'key and total: one lease at a time' => sub {
    for my $ordering (qw(key total)) {
        my $f = feed("one_$ordering", 5, "ordering => '$ordering'");
        my ($token, $got) = claim($a, $f, 'max_events => 2');
        is($got, 't1:1 t2:1', "$ordering: the first two");
        is((claim($b, $f))[1], '', "$ordering: nobody else while they are out");
        $a->do("SELECT trunkline.ack('$token')");
        is((claim($b, $f))[1], 't3:1 t4:1 t5:1', "$ordering: then the rest");
    }
};

subtest 'none: many leases, disjoint' => sub {
    my $f = feed('many', 6, "ordering => 'none'");
    my @got = map { [claim($_, $f, 'max_events => 2')] } $a, $b, $a;
    is_deeply([map { $_->[1] } @got], ['t1:1 t2:1', 't3:1 t4:1', 't5:1 t6:1'], 'each its own');
    is($a->do("SELECT trunkline.ack('$got[2][0]')"), 2, 'settled in any order');
    is($main->do("SELECT leased, behind FROM trunkline.subscription_status WHERE name = '$f'"), '4|0', 'four are in flight');
};

subtest 'two claimers at one slot' => sub {
    my $f = feed('race', 4, "ordering => 'key'");
    $a->do('BEGIN');
    is((claim($a, $f, 'max_events => 2'))[1], 't1:1 t2:1', 'one has it, not committed');
    is((claim($b, $f))[1], '', 'key: the other does not wait and gets nothing');
    $a->do('ROLLBACK');
    is((claim($b, $f))[1], 't1:1 t2:1 t3:1 t4:1', 'rolled back, a claim has never been');

    # the look of a claim is older than its locks: what it saw without a lease may have one when its turn comes
    my ($free, $kept) = (feed('look_none', 2, "ordering => 'none'"), feed('look_key', 4, "ordering => 'key'"));
    my %id = map { split /\|/ } split /\n/, $main->do("SELECT name, subscription_id FROM trunkline.subscriptions WHERE name IN ('$free', '$kept')");
    $a->do('BEGIN');
    claim($a, $free, 'max_events => 1');
    $b->start("SELECT topic.name, type FROM trunkline.claim_many('{$id{$free},$id{$kept}}', '{9,2}') c JOIN trunkline.subscriptions s USING (subscription_id) JOIN trunkline.topics topic USING (topic_id)");
    $b->wait_blocked;
    is($main->do("SELECT count(*) FROM trunkline.claim('$kept', max_events => 1)"), 1, 'while a claim waits, another slot that it saw free is leased');
    $a->do('COMMIT');
    is($b->finish, "$free|t2", 'which gets no second lease');
    is($main->do("SELECT count(*) FROM trunkline.leases WHERE subscription_id = $id{$kept}"), 1, 'the first one is the only one');

    $f = feed('race_none', 4, "ordering => 'none'");
    $a->do('BEGIN');
    is((claim($a, $f, 'max_events => 2'))[1], 't1:1 t2:1', 'none: the same');
    $b->start("SELECT type FROM trunkline.claim('$f')");
    $b->wait_blocked;
    $a->do('COMMIT');
    is($b->finish, "t3\nt4", 'none: the other waits and gets the next');

    $f = feed('race_back', 4, "ordering => 'none'");
    $a->do('BEGIN');
    claim($a, $f, 'max_events => 2');
    $b->start("SELECT type FROM trunkline.claim('$f', max_events => 3)");
    $b->wait_blocked;
    $a->do('ROLLBACK');
    is($b->finish, "t1\nt2\nt3", 'or all of it, when the first rolls back');
};

subtest 'ack in parts' => sub {
    my $f = feed('parts', 5);
    my ($token) = claim($a, $f);
    is($a->do("SELECT trunkline.ack('$token', 2)"), 2, 'two of five');
    is($a->do("SELECT trunkline.ack('$token', 2)"), 0, 'again: nothing more');
    is($a->do("SELECT trunkline.ack('$token', 1)"), 0, 'backwards: nothing');
    is($main->do("SELECT after, upto, events FROM trunkline.leases WHERE token = '$token'"), '2|5|3', 'the lease goes on');
    expire($token);
    my ($second, $got) = claim($b, $f);
    is($got, 't3:2', 'a takeover sees the rest only');
    refuses($a, "SELECT trunkline.ack('$token')", 'TL004', {token => $token}, 'the first owner is fenced');
    is($b->do("SELECT trunkline.ack('$second', 99)"), 1, 'beyond the end is all');
    ($second) = claim($b, $f);
    is($b->do("SELECT trunkline.ack('$second', 0)"), 0, 'before the beginning is nothing');
};

subtest 'fenced' => sub {
    my $f = feed('fenced', 3);
    my ($token) = claim($a, $f);
    expire($token);
    my ($second) = claim($b, $f);
    my $before = $main->do("SELECT * FROM trunkline.leases ORDER BY token");
    refuses($a, "SELECT trunkline.ack('$token')", 'TL004', {token => $token}, 'ack');
    refuses($a, "SELECT trunkline.ack('$token', 1, '[{\"position\": 1, \"verdict\": \"fail\"}]')", 'TL004', {token => $token}, 'ack with failures');
    refuses($a, "SELECT trunkline.extend('$token')", 'TL004', {token => $token}, 'extend');
    refuses($a, "SELECT trunkline.release('$token')", 'TL004', {token => $token}, 'release');
    is($main->do("SELECT * FROM trunkline.leases ORDER BY token"), $before, 'change nothing');
    is($main->do('SELECT count(*) FROM trunkline.dead_letters'), 0, 'nothing at all');
    refuses($a, "SELECT trunkline.$_", 'TL004', {token => undef}, "$_: no token") for 'ack(NULL)', 'extend(NULL)', 'release(NULL)';
    $b->do("SELECT trunkline.ack('$second')");
    refuses($b, "SELECT trunkline.ack('$second')", 'TL004', {token => $second}, 'settled twice');

    my $left = $main->do("SELECT token FROM trunkline.leases JOIN trunkline.subscriptions USING (subscription_id) WHERE NOT held AND name = '$f'");
    refuses($a, "SELECT trunkline.ack('$left')", 'TL004', {token => $left}, 'what a takeover left over is nobody\'s');
};

subtest 'what a crash left waits for the one before it (models/claim.pml: left-over-behind-locked-lease)' => sub {
    my $f = feed('behind', 2);
    my ($lost) = claim($a, $f);
    expire($lost);
    my ($token, $events) = claim($a, $f, q(lease => '50 ms'));
    is($events, 't1:2', 'the first of a lost batch, alone');
    $a->do("BEGIN; SELECT trunkline.ack('$token')");
    expire_behind($token);
    is((claim($b, $f))[1], '', 'while it is being settled nothing behind it is given out');
    $a->do('ROLLBACK');
    is((claim($b, $f))[1], 't1:3', 'it came back: first things first');
};

subtest 'expired, but nobody came' => sub {
    my $f = feed('late', 2);
    my ($token) = claim($a, $f);
    expire($token);
    cmp_ok($a->do("SELECT extract(epoch FROM trunkline.extend('$token', '10 s') - now()) * 1000"), '>', 9000, 'the heartbeat revives it');
    is((claim($b, $f))[1], '', 'so it is held again');
    expire($token);
    is($a->do("SELECT trunkline.ack('$token')"), 2, 'or it is settled');
};

subtest 'a late ack and a takeover at once' => sub {
    my $f = feed('atonce', 3);
    my ($token) = claim($a, $f, 'max_events => 2');
    expire($token);
    $a->do("BEGIN; SELECT trunkline.ack('$token')");
    is((claim($b, $f))[1], '', 'while an expired lease is being settled its slot gives nothing');
    $a->do('ROLLBACK');
    my ($second, $got) = claim($b, $f);
    is($got, 't1:2', 'it came back: first things first, in order');
    $b->do("SELECT trunkline.ack('$second')");
    ($second, $got) = claim($b, $f);
    is($got, 't2:2', 'one a lease');
    $b->do("SELECT trunkline.ack('$second')");
    is((claim($b, $f))[1], 't3:1', 'then the fresh one');

    $f = feed('other_way', 2);
    ($token) = claim($a, $f);
    expire($token);
    $b->do('BEGIN');
    is((claim($b, $f))[1], 't1:2', 'the other way round: taken over, not committed');
    $a->start("SELECT trunkline.ack('$token')");
    $a->wait_blocked;
    $b->do('COMMIT');
    $a->finish;
    is($a->{error}{state}, 'TL004', 'the late ack waits and is fenced');

    $f = feed('back_way', 2);
    ($token) = claim($a, $f);
    expire($token);
    $b->do('BEGIN');
    claim($b, $f);
    $a->start("SELECT trunkline.extend('$token') > now()");
    $a->wait_blocked;
    $b->do('ROLLBACK');
    is($a->finish, 't', 'when the takeover rolls back the heartbeat counts');
};

subtest 'a poison event costs itself only' => sub {
    my $f = feed('poison', 4, 'max_attempts => 3');
    my @done;
    # t2 kills whoever gets it
    for my $round (1 .. 20) {
        my ($token, $got) = claim($a, $f);
        last if $token eq 'none';
        if ($got =~ /t2/) {
            expire($token);
        } else {
            push @done, $got;
            $a->do("SELECT trunkline.ack('$token')");
        }
    }
    is("@done", 't1:2 t3:2 t4:2', 'the neighbours are delivered, one a lease');
    is(dead($f), 't2:crashed:3', 'the guilty one is dead, after its attempts');
    is($main->do("SELECT error_message, errors FROM trunkline.dead_letters WHERE subscription = '$f'"),
        'lease expired: the process that handled it was lost|[]', 'and says why');
    more($f, 1);
    is((claim($a, $f))[1], 't1:1', 'fresh events flow');
};

subtest 'a poison event that failed before' => sub {
    my $f = feed('poison_retry', 2, "max_attempts => 3, retry_delay => '0'");
    my ($token) = claim($a, $f);
    $a->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 1, \"error\": \"e1\"}, {\"position\": 2, \"error\": \"e2\"}]')");
    my $got;
    ($token, $got) = claim($a, $f);
    is($got, 't1:2 t2:2', 'both again');
    expire($token);
    ($token, $got) = claim($a, $f);
    is($got, 't1:3', 'after the crash each alone');
    $a->do("SELECT trunkline.ack('$token')");
    ($token, $got) = claim($a, $f);
    is($got, 't2:3', 'the other alone');
    expire($token);
    is((claim($a, $f))[1], '', 'that was its last attempt');
    is(dead($f), 't2:crashed:3', 'dead');
    is($main->do("SELECT count(*) FROM trunkline.retries r JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = '$f'"), 0, 'no retry is left');
};

subtest 'release' => sub {
    my $f = feed('handback', 4, 'max_attempts => 2');
    for (1 .. 5) {
        my ($token, $got) = claim($a, $f);
        is($got, 't1:1 t2:1 t3:1 t4:1', 'no attempt is counted');
        is($a->do("SELECT trunkline.release('$token')"), 4, 'four handed back');
    }
    my ($token, $got) = claim($a, $f, 'max_events => 3');
    is($got, 't1:1 t2:1 t3:1', 'in smaller portions too');
    $a->do("SELECT trunkline.ack('$token', 1)");
    is($a->do("SELECT trunkline.release('$token')"), 2, 'the unsettled rest');
    ($token, $got) = claim($a, $f);
    is($got, 't2:1 t3:1', 'comes first again');
    $a->do("SELECT trunkline.ack('$token')");
    is((claim($a, $f))[1], 't4:1', 'then the next');

    $f = feed('handback_retry', 1, "retry_delay => '0'");
    ($token) = claim($a, $f);
    $a->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 1}]')");
    for (1 .. 2) {
        ($token, $got) = claim($a, $f);
        is($got, 't1:2', 'a retry keeps its number of attempts');
        $a->do("SELECT trunkline.release('$token')");
    }
};

subtest 'exactly once in the consumer\'s own transaction' => sub {
    my $f = feed('exactly', 3);
    $main->do('CREATE TABLE effect (type text)');
    my $work = sub {
        my ($end) = @_;
        my ($token) = claim($a, $f, 'max_events => 2');
        return if $token eq 'none';
        $a->do("BEGIN; INSERT INTO effect SELECT 't'; SELECT trunkline.ack('$token'); $end");
        expire($token);
        return;
    };
    $work->('ROLLBACK');
    is($main->do('SELECT count(*) FROM effect'), 0, 'rolled back: no effect');
    $work->('COMMIT') for 1 .. 4;
    is($main->do('SELECT count(*) FROM effect'), 3, 'one effect a lease: two alone after the crash, one fresh');
    is((claim($a, $f))[1], '', 'nothing left');

    $f = feed('in_one', 2);
    $a->do("BEGIN; SELECT trunkline.ack(token) FROM (SELECT DISTINCT token FROM trunkline.claim('$f')) t; ROLLBACK");
    is($a->do("SELECT trunkline.ack(token) FROM (SELECT DISTINCT token FROM trunkline.claim('$f')) t"), 2, 'claim and ack in one transaction or statement');
};

subtest 'settled while the lease is out' => sub {
    my $f = feed('gone', 3);
    my ($token) = claim($a, $f);
    $main->do("SELECT trunkline.unsubscribe('$f', force => true)");
    refuses($a, "SELECT trunkline.ack('$token')", 'TL004', {token => $token}, 'unsubscribed: fenced');
    is($main->do("SELECT count(*) FROM trunkline.leases l WHERE l.token = '$token'"), 0, 'and gone');
    refuses($a, "SELECT * FROM trunkline.claim('$f')", 'TL002', {field => 'subscription'}, 'not there');
};

subtest 'next_due' => sub {
    my $f = feed('due', 2, "retry_delay => '10 s', retry_cap => '10 s'");
    my $id = $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$f'");
    my $due = "SELECT trunkline.next_due('{$id}')";
    is($main->do($due), '', 'nothing to wait for');
    my ($token) = claim($a, $f);
    cmp_ok($main->do($due), '>', 25_000_000, 'the end of the lease, in microseconds');
    expire($token);
    is($main->do($due), 0, 'expired: now');
    ($token) = claim($a, $f);
    $a->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 1}]')");
    is($main->do($due), 0, 'the other one is left over from the crash: now');
    ($token) = claim($a, $f);
    $a->do("SELECT trunkline.ack('$token')");
    my $left = $main->do($due);
    ok($left > 7_000_000 && $left <= 10_000_000, 'the retry: 10 s') or diag($left);
    more($f, 1);
    ($token) = claim($a, $f);
    $main->do("UPDATE trunkline.retries SET next_attempt_at = now()");
    cmp_ok($main->do($due), '>', 25_000_000, 'a slot that is taken gives nothing before its lease ends');
    $a->do("SELECT trunkline.release('$token')");
    is($main->do($due), 0, 'handed back: now');
    $main->do("UPDATE trunkline.subscriptions SET active = false WHERE subscription_id = $id");
    is($main->do($due), '', 'inactive: never');
    is((claim($a, $f))[1], '', 'and it gets nothing');
    is($main->do("SELECT trunkline.next_due('{}')"), '', 'for nobody: never');
};

subtest 'claim_many' => sub {
    my @id = map { feed("cm_$_", 3) && $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = 'cm_$_'") } 1 .. 3;
    my $call = sub { return $a->do("SELECT subscription_id, string_agg(type, ' ' ORDER BY \"position\"), count(DISTINCT token)
        FROM trunkline.claim_many('{$_[0]}', '{$_[1]}') WHERE subscription_id > 0 GROUP BY 1 ORDER BY 1") };
    is($call->("$id[2],$id[0],$id[1]", '2,0,1'), "$id[1]|t1|1\n$id[2]|t1 t2|1", 'each up to its capacity, none for zero');
    is($call->("$id[0],999", '1,1'), "$id[0]|t1|1", 'one that is not there is passed over');
    is($call->("$id[0],$id[1]", '1,NULL'), '', 'taken, and no capacity');
    is($a->do("SELECT DISTINCT owner FROM trunkline.leases l WHERE l.subscription_id = $id[0]"), 'psql', 'owner: what the session calls itself');
    is($a->do("SELECT count(*) FROM trunkline.claim_many('{}', '{}')"), 1, 'nobody asks: header only');
    is($a->do("BEGIN; SELECT count(*), pg_current_xact_id_if_assigned() FROM trunkline.claim_many('{$id[0],$id[1]}', '{1,1}'); COMMIT"), '1|', 'a look at subscriptions that have nothing, or whose slot is taken, writes nothing');
    my ($f) = feed('cm_owner', 1);
    $a->do("SELECT * FROM trunkline.claim_many(ARRAY(SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$f'), '{1}', '1 s', 'host/7')");
    is($main->do("SELECT owner, until - now() <= '1 s' FROM trunkline.leases JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'"), 'host/7|t', 'or what is given');
};

# Positions that no event has: rolled back, or before the next leaf.
sub skip { $main->do("SELECT count(nextval('trunkline.position_$_[0]')) FROM generate_series(1, $_[1])"); return }

# What claim_many() hands out: "type ..." of the events; they are settled.
sub claim_many {
    my ($name, $room) = @_;
    my @rows = map { [split /\|/, $_, -1] } split /\n/, $a->do("SELECT token, type, \"position\" FROM trunkline.claim_many(
        ARRAY(SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$name'), '{$room}') WHERE subscription_id <> 0");
    my ($token) = map { $_->[0] } @rows;
    is($a->do("SELECT trunkline.ack('$token')"), scalar @rows, 'as many settled as handed out') if $token;
    return join(' ', map { $_->[1] } @rows);
}

subtest 'gaps between positions' => sub {
    for my $way (qw(claim claim_many)) {
        my $f = feed("gap_$way", 0);
        my $next = $way eq 'claim_many' ? sub { claim_many($f, $_[0] // 5) } : sub {
            my ($token, $got) = claim($a, $f, 'max_events => ' . ($_[0] // 5));
            $a->do("SELECT trunkline.ack('$token')") if $token ne 'none';
            return $got =~ s/:1//gr;
        };
        for my $gap (3, 1, 30, 2) {
            skip($f, $gap);
            more($f, 2);
        }
        is($next->(), 't1 t2 t1 t2 t1', "$way: as many as asked for");
        is($next->(), 't2 t1 t2', "$way: the rest");
        is($next->(), '', "$way: nothing more");
        more($f, 3);
        $main->do("SELECT trunkline.add_leaf('$f', 1), setval('trunkline.position_$f', 1::bigint << 30)");
        more($f, 9);
        is($next->(), 't1 t2 t3 t1 t2', "$way: beyond the end of a leaf");
        is($next->(), 't3 t4 t5 t6 t7', "$way: and on");
        is($next->(), 't8 t9', "$way: to the end");
        skip($f, 100);
        is($next->(), '', "$way: a gap at the end");
        more($f, 1);
        is($next->(), 't1', "$way: and behind it");
        is($main->do("SELECT cursor - (SELECT max(\"position\") FROM trunkline.topic_$f), (SELECT count(*) FROM trunkline.leases l WHERE l.subscription_id = c.subscription_id)
            FROM trunkline.cursors c JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = '$f'"), '0|0', "$way: the cursor");
        for (1 .. 30) {
            skip($f, 20);
            more($f, 1);
        }
        is(join(' ', map { scalar(split / /, $next->()) } 1 .. 6), '5 5 5 5 5 5', "$way: gaps longer than the claim");
        is($next->(), '', "$way: and the end");
        for (1 .. 40) {
            skip($f, 50);
            more($f, 1);
        }
        is(join(' ', map { scalar(split / /, $next->(15)) } 1 .. 4), '15 15 10 0', "$way: many of them");
    }
    # A lease that was lost covers its gaps too.
    my $f = feed('gap_lost', 0);
    for (1 .. 4) {
        skip($f, 4);
        more($f, 2);
    }
    my ($token, $got) = claim($a, $f, 'max_events => 3');
    is($got, 't1:1 t2:1 t1:1', 'a lease over gaps');
    expire($token);
    my @seen;
    while (my ($again, $events) = claim($b, $f, 'max_events => 10')) {
        last if $again eq 'none';
        push @seen, $events;
        $b->do("SELECT trunkline.ack('$again')");
    }
    is(join(' ', @seen), 't1:2 t2:2 t1:2 t2:1 t1:1 t2:1 t1:1 t2:1', 'taken over, each once, then what follows');
};

done_testing;
