#!/usr/bin/perl
# SUB-2, SUB-5, SUB-7, SUB-10: pause, resume, reset, drain, replay, slots, unsubscribe.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($s, $other) = map { session() } 1 .. 2;

# A topic of its own with n events (type t<i>, key k<i % 3>) and a subscription of the same name.
sub feed {
    my ($name, $n, $options) = @_;
    $s->do("SELECT trunkline.create_topic('$name'); SELECT trunkline.subscribe('$name', '**', '$name'" . ($options ? ", $options" : '') . ')');
    more($name, $n);
    return $name;
}

sub more {
    my ($name, $n) = @_;
    $s->do("SELECT trunkline.publish('t' || i, '1', '$name', key => 'k' || i % 3) FROM generate_series(1, $n) i") if $n;
    return;
}

# Token and "position:attempt ..." of a claim.
sub claim {
    my ($name, $max, $slot) = @_;
    my @rows = map { [split /\|/] } split /\n/,
        $s->do("SELECT token, \"position\", attempt FROM trunkline.claim('$name', @{[$slot // 'NULL']}, max_events => " . ($max // 100) . ')');
    return ($rows[0] ? $rows[0][0] : 'none', join ' ', map { "$_->[1]:$_->[2]" } @rows);
}

sub ack {
    my ($token, $failures) = @_;
    return $s->do("SELECT trunkline.ack('$token', NULL" . ($failures ? ", '$failures'" : '') . ')');
}

# Everything that can be had now, settled; the positions.
sub drink {
    my ($name) = @_;
    my @got;
    while (1) {
        my ($token, $rows) = claim($name);
        last if $token eq 'none';
        push @got, $rows =~ /(\d+):/g;
        ack($token);
    }
    return join ' ', @got;
}

sub row { my ($columns, $name) = @_; return $s->do("SELECT $columns FROM trunkline.subscriptions WHERE name = '$name'") }
sub make_due { $s->do("UPDATE trunkline.retries SET next_attempt_at = clock_timestamp() - interval '1 min' WHERE next_attempt_at < 'infinity' AND token IS NULL") }

subtest 'SUB-2: pause and resume' => sub {
    my $f = feed('paused', 6);
    my ($token, $rows) = claim($f, 2);
    is($s->do("SELECT trunkline.pause('$f', 'we are moving')"), 't', 'pause');
    is(row('active, paused_at IS NOT NULL, pause_reason', $f), 'f|t|we are moving', 'with its reason');
    is(ack($token, '[{"position": 2, "error": "x", "retry_after_us": 0}]'), 2, 'what is in flight ends as usual');
    is((claim($f))[1], '', 'nothing more comes, no retry either');
    is($s->do("SELECT count(*) FROM trunkline.claim_many(ARRAY(SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$f'), '{10}')"), 1, 'nor to workers');
    my $since = row('paused_at', $f);
    is($s->do("SELECT trunkline.pause('$f', 'me too')"), 'f', 'again');
    is(row('paused_at, pause_reason', $f), "$since|we are moving", 'changes nothing');
    $s->do("SELECT trunkline.subscribe('$f', '**', '$f', priority => 6)");
    is(row('active, priority', $f), 'f|6', 'subscribe() changes it and does not resume it');
    more($f, 1);
    is($s->do("SELECT trunkline.resume('$f')"), 't', 'resume');
    is(row('active, paused_at, pause_reason', $f), 't||', 'active');
    make_due();
    is(drink($f), '2 3 4 6 7 5', 'it goes on where it was; nothing is lost');
    is($s->do("SELECT trunkline.resume('$f')"), 'f', 'again: it was not paused');
    refuses($s, "SELECT trunkline.pause('nobody')", 'TL002', {field => 'name'});
    refuses($s, "SELECT trunkline.resume('nobody')", 'TL002', {field => 'name'});
    refuses($s, "SELECT trunkline.pause('$f', repeat('x', 2001))", 'TL005', {field => 'reason', limit => 2000}, 'a reason too long');
    refuses($s, "SELECT trunkline.resume('$f', skip => true)", 'TL001', {field => 'skip'}, 'nothing to skip');
};

subtest 'SUB-2: a pause and a claim at once' => sub {
    for my $ordering (qw(key none)) {
        my $f = feed("at_once_$ordering", 3, "ordering => '$ordering'");
        $other->do("BEGIN; SELECT * FROM trunkline.claim('$f', max_events => 1)");
        $s->start("SELECT trunkline.pause('$f')");
        $s->wait_blocked;
        my $late = session();
        $ordering eq 'none' ? $late->start("SELECT * FROM trunkline.claim('$f')") : $late->do("SELECT * FROM trunkline.claim('$f')");
        $late->wait_blocked if $ordering eq 'none';
        $other->do('COMMIT');
        is($s->finish, 't', "$ordering: pause waits for a claim under way");
        is($late->finish, '', "$ordering: one that waits meanwhile gets nothing") if $ordering eq 'none';
        is($s->do("SELECT sum(events) FROM trunkline.leases JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'"), 1, "$ordering: only what was claimed before is out");
        $s->do("SELECT trunkline.unsubscribe('$f', true)");
    }
};

subtest 'SUB-5: reset' => sub {
    my $f = feed('moved', 9);
    my $move = sub { return $s->do("SELECT * FROM trunkline.reset('$f', '$_[0]')") };
    is(drink($f), '1 2 3 4 5 6 7 8 9', 'all');
    is($move->('beginning'), '0|0|0|0', 'to the beginning');
    is(drink($f), '1 2 3 4 5 6 7 8 9', 'all again');
    is($move->('4'), '4|0|0|0', 'to a position');
    is(drink($f), '5 6 7 8 9', 'what is after it');
    my $time = $s->do("SELECT created_at FROM trunkline.topic_moved WHERE \"position\" = 1");
    like($move->($time), qr/^0\|/, 'to a time');
    is($move->('end'), '9|0|0|0', 'to the end');
    is(drink($f), '', 'nothing');
    $move->('beginning');
    my ($token) = claim($f, 4);
    ack($token, '[{"position": 1, "error": "e"}, {"position": 2, "error": "e", "retry_after_us": 0}]');
    ($token) = claim($f, 3);
    is($move->('7'), '7|1|3|0', 'a lease, two retries and one that waits for its key are dropped, and it says so');
    refuses($s, "SELECT trunkline.ack('$token')", 'TL004', {token => $token}, 'the lease is fenced');
    is($s->do('SELECT (SELECT count(*) FROM trunkline.leases), (SELECT count(*) FROM trunkline.retries)'), '0|0', 'nothing is left behind');
    is(drink($f), '8 9', 'and it goes on from there');
    refuses($s, "SELECT trunkline.reset('nobody', 'end')", 'TL002', {field => 'name'});
    refuses($s, "SELECT trunkline.reset('$f', '99')", 'TL005', {field => 'start_at', lowest => 0, highest => 9}, 'beyond the log');
    refuses($s, "SELECT trunkline.reset('$f', 'soon')", 'TL005', {field => 'start_at'}, 'no place');
    refuses($s, "SELECT trunkline.reset('$f', NULL)", 'TL005', {field => 'start_at'}, 'NULL');
    is(row('active', $f), 't', 'it is as active as before');
    $s->do("SELECT trunkline.pause('$f'); SELECT trunkline.reset('$f', 'end')");
    is(row('active', $f), 'f', 'or as paused');
};

subtest 'reset against an ack in flight' => sub {
    my $f = feed('raced', 3);
    for my $end ('COMMIT', 'ROLLBACK') {
        $s->do("SELECT trunkline.reset('$f', 'beginning')");
        my ($token) = claim($f);
        $other->do("BEGIN; SELECT trunkline.ack('$token')");
        $s->start("SELECT * FROM trunkline.reset('$f', '2')");
        $s->wait_blocked;
        $other->do($end);
        is($s->finish, $end eq 'COMMIT' ? '2|0|0|0' : '2|1|0|0', "$end of the ack first: what it left is dropped");
        is(drink($f), '3', 'then the new place counts');
    }
};

subtest 'drain' => sub {
    my $f = feed('dry', 3);
    is($s->do("SELECT trunkline.drain('$f')"), 3, 'drain says how far');
    is(row('active, drain_at', $f), 't|3', 'it is not through yet');
    is($s->do("SELECT trunkline.resume('$f')"), 't', 'resume');
    is(row('active, drain_at', $f), 't|', 'ends it');
    drink($f);
    is($s->do("SELECT trunkline.drain('$f')"), 3, 'with nothing left');
    is(row('active, drain_at, pause_reason, paused_at IS NOT NULL', $f), 'f||drained|t', 'it is drained at once');
    refuses($s, "SELECT trunkline.drain('$f')", 'TL001', {field => 'name'}, 'a paused one cannot');
    $s->do("SELECT trunkline.resume('$f')");
    more($f, 1);
    is(drink($f), '4', 'resume: it goes on');
    refuses($s, "SELECT trunkline.drain('nobody')", 'TL002', {field => 'name'});

    more($f, 1);
    my ($token) = claim($f);
    $s->do("SELECT trunkline.drain('$f')");
    is(row('active', $f), 't', 'an event in flight: not drained');
    ack($token, '[{"position": 5, "error": "x"}]');
    $s->do('SELECT trunkline.maintain()');
    is(row('active', $f), 't', 'one that waits for a retry: neither');
    make_due();
    ($token, my $rows) = claim($f);
    is($rows, '5:2', 'it is handed out');
    ack($token);
    like($s->do('SELECT trunkline.maintain()'), qr/^\(drained,dry,/m, 'maintain() ends a drain that no claim has ended');
    is(row('active, pause_reason', $f), 'f|drained', 'drained');
};

subtest 'drain: what comes later stays' => sub {
    my $f = feed('bounded', 4);
    $s->do("SELECT trunkline.drain('$f')");
    more($f, 3);
    is((claim($f, 100))[1], '1:1 2:1 3:1 4:1', 'claims end where the log did');
    is((claim($f))[1], '', 'and give nothing behind it');
    is(row('active', $f), 't', 'it waits for what is in flight');
    ack($s->do('SELECT token FROM trunkline.leases l JOIN trunkline.subscriptions USING (subscription_id) WHERE name = ' . "'$f'"));
    is((claim($f))[1], '', 'settled: nothing comes');
    is(row('active, drain_at, pause_reason', $f), 'f||drained', 'and the claim has ended the drain');
    $s->do("SELECT trunkline.resume('$f')");
    is(drink($f), '5 6 7', 'resume: the rest');
    # maintain() does not stop at one that is locked
    for my $name (qw(locked free)) {
        feed("dry_$name", 1);
        $s->do("SELECT trunkline.drain('dry_$name')");
        my ($token) = claim("dry_$name");
        ack($token);
    }
    $other->do("BEGIN; SELECT FROM trunkline.subscriptions WHERE name = 'dry_locked' FOR UPDATE");
    my $said = $s->do('SELECT trunkline.maintain()');
    like($said, qr/^\(skipped,dry_locked,/m, 'locked: skipped');
    like($said, qr/^\(drained,dry_free,/m, 'the others end');
    $other->do('ROLLBACK');
};

subtest 'replay: handed out beside the live ones' => sub {
    my $f = feed('beside', 6, "max_attempts => 2, retry_delay => '0 s'");
    drink($f);
    my ($id) = split /\|/, $s->do("SELECT * FROM trunkline.replay('$f', '1', '4')");
    my $topic = $s->do("SELECT topic_id FROM trunkline.topics WHERE name = '$f'");
    is($s->do("SELECT low FROM trunkline.low_water($topic)"), 1, 'CLN-6 retention waits for it');
    more($f, 20);
    my (@replayed, @live);
    for (1 .. 200) {
        my ($token, $rows) = claim($f, 2);
        last if $token eq 'none';
        for my $p ($rows =~ /(\d+):/g) { push @{$p <= 6 ? \@replayed : \@live}, $p }
        ack($token);
    }
    is("@replayed", '2 3 4', 'the range once more, in order');
    is("@live", join(' ', 7 .. 26), 'the live events all the same, in order');
    is($s->do('SELECT count(*) FROM trunkline.replays'), 0, 'at its end it is gone');
    is($s->do("SELECT low FROM trunkline.low_water($topic)"), 26, 'and holds nothing');
    refuses($s, "SELECT trunkline.cancel_replay($id)", 'TL002', {field => 'replay_id'}, 'ended: nothing to cancel');
    # one that fails is tried again and dies like any other
    $s->do("SELECT trunkline.replay('$f', '2', '3')");
    for my $attempt (1, 2) {
        my ($token, $rows) = claim($f);
        is($rows, "3:$attempt", "attempt $attempt of a replayed event");
        ack($token, '[{"position": 3, "error": "x"}]');
    }
    is($s->do("SELECT \"position\", reason FROM trunkline.dead_list('$f')"), '3|max_attempts', 'dead');
    # a rate: one at a time, the next not before its time
    $s->do("SELECT trunkline.replay('$f', 'beginning', '10', 0.001)");
    $s->do("UPDATE trunkline.replays SET refilled_at = refilled_at - interval '1000 s'");
    my ($token, $rows) = claim($f);
    is($rows, '1:1', 'at a rate: as many as are due');
    ack($token);
    is((claim($f))[1], '', 'the next one later');
    # cancelled in flight
    $s->do("UPDATE trunkline.replays SET refilled_at = refilled_at - interval '1001 s'");
    ($token, $rows) = claim($f);
    $s->do('SELECT trunkline.cancel_replay(replay_id) FROM trunkline.replays');
    is(ack($token), 1, 'cancelled: what is in flight is settled as usual');
    is((claim($f))[1], '', 'and nothing more comes');
};

subtest 'an event tried again does not settle what lies before it' => sub {
    my $f = feed('ahead_of_range', 6, "retry_delay => '0 s'");
    my ($token) = claim($f);
    ack($token, '[{"position": 6, "error": "x"}]');
    $s->do("SELECT trunkline.replay('$f', 'beginning', '5')");
    my @got;
    for (1 .. 20) {
        my ($next, $rows) = claim($f);
        last if $next eq 'none';
        # as a handler with a transaction does: each settles what comes up to it
        for my $p ($rows =~ /(\d+):/g) {
            last if $s->do("SELECT count(*) FROM trunkline.leases WHERE token = '$next'") == 0;
            push @got, $p;
            $s->do("SELECT trunkline.ack('$next', $p)");
        }
    }
    is(join(' ', sort @got), '1 2 3 4 5 6', 'SUB-7, RET-5 a replay beside a retry from behind it: all of both');
};

subtest 'replay: what it writes down' => sub {
    my $f = feed('again', 10, "filter_path => '\$ == 1'" . ', slots => 2');
    my $replay = sub { return $s->do("SELECT * FROM trunkline.replay('$f', $_[0])") };
    is($replay->("'beginning'"), '|0', 'nothing was handed out: nothing to replay');
    is(join(' ', sort { $a <=> $b } split / /, drink($f)), '1 2 3 4 5 6 7 8 9 10', 'all');
    is($replay->("'beginning', dry_run => true"), '|10', 'dry run: a number');
    is($replay->("'2', '5', dry_run => true"), '|3', 'after one position, up to another');
    $s->do("INSERT INTO trunkline.topic_again (type, data) VALUES ('t', '2'), ('t', '1')");
    is($replay->("'8', dry_run => true"), '|2', 'what it has not got to is not in it');
    my ($third, $seventh) = split /\n/, $s->do("SELECT created_at FROM trunkline.topic_again WHERE \"position\" IN (3, 7) ORDER BY 1");
    is($replay->("'beginning', '$seventh', dry_run => true"), '|6', 'up to a time');
    cmp_ok((split /\|/, $replay->("'$third', dry_run => true"))[1], '>=', 8, 'from a time');
    is($s->do('SELECT count(*) FROM trunkline.replays'), 0, 'so far nothing is written');
    my ($id, $n) = split /\|/, $replay->("'2', '5', 10");
    is($n, 3, 'for real');
    is($s->do("SELECT DISTINCT replay_id = $id, cursor, upto, rate, started_by = current_user FROM trunkline.replays"), 't|2|5|5|t', 'each slot at its share of the rate');
    my ($next) = split /\|/, $replay->("'2', '5'");
    cmp_ok($next, '>', $id, 'another has another number');
    refuses($s, "SELECT trunkline.set_slots('$f', 3)", 'TL001', {field => 'slots'}, 'slots do not change meanwhile');
    $s->do("SELECT trunkline.cancel_replay($id)");
    is($s->do("SELECT DISTINCT replay_id FROM trunkline.replays"), $next, 'cancelled');
    refuses($s, "SELECT trunkline.cancel_replay($id)", 'TL002', {field => 'replay_id'}, 'it is gone');
    like($s->do("SELECT * FROM trunkline.reset('$f', 'end')"), qr/^12\|0\|0\|[12]$/, 'reset drops replays and says so');
    refuses($s, "SELECT trunkline.replay('nobody', 'end')", 'TL002', {field => 'name'});
    refuses($s, "SELECT trunkline.replay('$f', '99')", 'TL005', {field => 'start_at', highest => 12});
    refuses($s, "SELECT trunkline.replay('$f', '1', '99')", 'TL005', {field => 'end_at', highest => 12});
    refuses($s, "SELECT trunkline.replay('$f', '1', 'x')", 'TL005', {field => 'end_at'});
    refuses($s, "SELECT trunkline.replay('$f', '5', '4')", 'TL005', {field => 'end_at'}, 'the wrong way round');
    refuses($s, "SELECT trunkline.replay('$f', '1', rate => $_)", 'TL005', {field => 'rate', limit => 1000000}) for qw(0 -1 1000001 'NaN');
};

subtest 'SUB-10: set_slots' => sub {
    my $f = feed('wide', 12, 'slots => 2');
    my $set = sub { return $s->do("SELECT trunkline.set_slots('$f', $_[0])") };
    my $in_force = sub { return $s->do("SELECT count(*) FROM trunkline.cursors JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'") };
    is($set->(2), 't', 'the same number');
    is($set->(4), 't', 'nothing is in flight: at once');
    is(row('slots, resize_at', $f), '4|', 'four slots');
    is($in_force->(), 4, 'in force');
    is(join(' ', sort { $a <=> $b } split / /, drink($f)), '1 2 3 4 5 6 7 8 9 10 11 12', 'every event is in one of them');
    more($f, 12);
    my @token = map { (claim($f, 100, $_))[0] } 0 .. 3;
    my ($held) = grep { $_ ne 'none' } @token;
    is($set->(3), 'f', 'with leases out: later');
    is(row('slots, resize_at', $f), '3|24', 'at the position of the furthest slot');
    is($in_force->(), 4, 'four are in force until then');
    is($set->(4), 't', 'back to what it is');
    is(row('slots, resize_at', $f), '4|', 'at once');
    $set->(1);
    refuses($s, "SELECT trunkline.replay('$f', '1')", 'TL001', {field => 'subscription'}, 'no replay meanwhile');
    for my $token (grep { $_ ne 'none' } @token) {
        my $p = $s->do("SELECT min(\"position\") FROM trunkline.topic_wide JOIN trunkline.leases l ON l.token = '$token' AND \"position\" > after AND trunkline.slot_of(key, \"position\", 4) = l.slot");
        ack($token, qq([{"position": $p, "error": "x"}]));
    }
    my $rows = $s->do("SELECT count(*) FROM trunkline.retries WHERE subscription_id = (SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$f')");
    cmp_ok($rows, '>', 0, 'some wait for another attempt');
    drink($f);
    $s->do('SELECT trunkline.maintain()');
    is($in_force->(), 1, 'when the last lease is settled and all are level: one slot');
    is($s->do("SELECT DISTINCT slot FROM trunkline.retries WHERE subscription_id = (SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$f')"), 0, 'retries moved along');
    make_due();
    is(scalar(split / /, drink($f)), $rows, 'and are handed out');
    my $epoch = $s->do("SELECT epoch FROM trunkline.cursors JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'");
    $set->(2);
    is($s->do("SELECT DISTINCT epoch >= $epoch FROM trunkline.cursors JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'"), 't', 'epochs go on');
    refuses($s, "SELECT trunkline.set_slots('$f', $_)", 'TL005', {field => 'slots', limit => 256}) for 0, 257, 'NULL';
    refuses($s, "SELECT trunkline.set_slots('nobody', 1)", 'TL002', {field => 'name'});
    $s->do("SELECT trunkline.subscribe('in_order', '**', ordering => 'total')");
    refuses($s, "SELECT trunkline.set_slots('in_order', 2)", 'TL005', {field => 'slots'}, 'needs ordering key');
    refuses($s, "SELECT trunkline.subscribe('$f', '**', '$f', ordering => 'total')", 'TL005', {field => 'ordering'}, 'and it stays key while there are several');
};

subtest 'SUB-7: unsubscribe asks' => sub {
    my $f = feed('leaving', 2);
    refuses($s, "SELECT trunkline.unsubscribe('$f')", 'TL001', {field => 'name', pending => JSON::PP::true, leases => 0, retries => 0}, 'events are waiting');
    my ($token) = claim($f);
    refuses($s, "SELECT trunkline.unsubscribe('$f')", 'TL001', {pending => JSON::PP::false, leases => 1, retries => 0}, 'events are in flight');
    ack($token, '[{"position": 1, "error": "x"}]');
    refuses($s, "SELECT trunkline.unsubscribe('$f')", 'TL001', {pending => JSON::PP::false, leases => 0, retries => 1}, 'an event waits for a retry');
    make_due();
    drink($f);
    is($s->do("SELECT trunkline.unsubscribe('$f')"), '', 'settled: it goes');
    feed('kept', 1);
    is($s->do("SELECT trunkline.unsubscribe('kept', force => true)"), '', 'or with force');
    feed('other', 0, "filter_path => '\$ == 2'");
    more('other', 5);
    is($s->do("SELECT trunkline.unsubscribe('other')"), '', 'events that it does not want count for nothing');
    feed('far', 0, "filter_path => '\$ == 2'");
    $s->do("INSERT INTO trunkline.topic_far (type, data) SELECT 'x', '1' FROM generate_series(1, 10001)");
    refuses($s, "SELECT trunkline.unsubscribe('far')", 'TL001', {pending => JSON::PP::true}, 'too many to look at: it asks');
    $s->do("SELECT trunkline.reset('far', '1')");
    is($s->do("SELECT trunkline.unsubscribe('far')"), '', 'ten thousand are looked at');
    feed('twice', 1);
    drink('twice');
    $s->do("SELECT trunkline.replay('twice', 'beginning')");
    refuses($s, "SELECT trunkline.unsubscribe('twice')", 'TL001', {pending => JSON::PP::true}, 'a replay counts');
};

subtest 'unsubscribe against an ack and a claim in flight' => sub {
    my $f = feed('torn', 4);
    my ($token) = claim($f, 2);
    $other->do("BEGIN; SELECT trunkline.ack('$token', NULL, '[{\"position\": 1, \"error\": \"x\"}]')");
    $s->start("SELECT trunkline.unsubscribe('$f', true)");
    $s->wait_blocked;
    $other->do('COMMIT');
    is($s->finish, '', 'an ack that writes a retry: it waits, no deadlock');
    $f = feed('torn_too', 4);
    $other->do("BEGIN; SELECT * FROM trunkline.claim('$f')");
    $s->start("SELECT trunkline.unsubscribe('$f', true)");
    $s->wait_blocked;
    $other->do('COMMIT');
    is($s->finish, '', 'a claim: the same');
    is($s->do("SELECT count(*) FROM trunkline.leases l WHERE NOT EXISTS (SELECT FROM trunkline.subscriptions x WHERE x.subscription_id = l.subscription_id)"), 0, 'no lease is left');
};

subtest 'drop_topic with force against an ack in flight' => sub {
    feed('dropped', 3);
    my ($t) = split /\n/, $s->do("SELECT token FROM trunkline.claim('dropped')");
    $s->do("BEGIN; SELECT FROM trunkline.leases WHERE token = '$t' FOR UPDATE");
    $other->start("SELECT trunkline.drop_topic('dropped', force => true)");
    $other->wait_blocked;
    is($s->do("SELECT trunkline.ack('$t', NULL, '[{\"position\": 1}]')"), 3, 'the ack ends');
    $s->do('COMMIT');
    $other->finish;
    is($other->{error}, undef, 'and then the topic is dropped');
};

done_testing;
