#!/usr/bin/perl
# SUB-10, RET-4, CLN-2: what waits for an event that failed, and what expires before its turn.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest qw(:DEFAULT expire more waiting);
use Test::More;

database();
my ($s, $b, $main) = map { session() } 1 .. 3;

# Topic and subscription of one name; events by their keys: 'a b a -' are four, the last without a key.
sub feed {
    my ($name, $keys, $options) = @_;
    $main->do("SELECT trunkline.create_topic('$name')");
    $main->do("SELECT trunkline.subscribe('$name', '**', '$name', retry_delay => '1 h', retry_cap => '1 h'" . ($options ? ", $options" : '') . ')');
    more($name, $keys);
    return $name;
}

# The token, and "position:attempt" of each event.
sub claim {
    my ($name, $max, $session) = @_;
    my @rows = map { [split /\|/] } split /\n/,
        ($session // $s)->do("SELECT token, \"position\", attempt FROM trunkline.claim('$name', max_events => " . ($max // 100) . ')');
    return ($rows[0] ? $rows[0][0] : 'none', join ' ', map { "$_->[1]:$_->[2]" } @rows);
}

# ack(token, upto, '2' or '2:fail' ...)
sub ack {
    my ($token, $upto, @failures) = @_;
    my $list = join ',', map { my ($position, $verdict) = split /:/; "{\"position\": $position, \"error\": \"e$position\", \"verdict\": \"" . ($verdict // 'retry') . '"}' } @failures;
    return $s->do("SELECT trunkline.ack('$token', " . ($upto // 'NULL') . ($list ? ", '[$list]'" : '') . ')');
}

sub dead { return $main->do("SELECT coalesce(string_agg(\"position\" || ':' || reason || ':' || attempts, ' ' ORDER BY \"position\"), '') FROM trunkline.dead_letters WHERE subscription = '$_[0]' AND state = 'dead'") }
sub state { return $main->do("SELECT active, pause_reason FROM trunkline.subscription_status WHERE name = '$_[0]'") }

# The pause of those that have one is over.
sub make_due { $main->do("UPDATE trunkline.retries SET next_attempt_at = clock_timestamp() - interval '1 min' WHERE next_attempt_at > clock_timestamp() AND next_attempt_at < 'infinity' AND subscription_id = (SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$_[0]')") }
# Behind the back of the trigger that keeps events as they are.
sub change { $main->do("SET session_replication_role = replica; $_[0]; RESET session_replication_role") }

subtest 'block_key: a failing key holds back only itself' => sub {
    my $f = feed('block', 'a b a -');
    my ($token, $got) = claim($f);
    ack($token, undef, 1, '3:defer');
    is(waiting($f), '1:1:a 3:0:a!', 'the failed one and the one behind it wait');
    more($f, 'b a c a');
    ($token, $got) = claim($f);
    is($got, '5:1 7:1', 'fresh ones of other keys go on');
    is(waiting($f), '1:1:a 3:0:a! 6:0:a! 8:0:a!', 'those of the key wait');
    is($main->do("SELECT key, \"position\", attempt, error_message, waiting, in_flight FROM trunkline.blocked_keys WHERE subscription = '$f'"), 'a|1|1|e1|3|f', 'blocked_keys says so');
    ack($token);
    is((claim($f))[1], '', 'nothing else');
    make_due($f);
    ($token, $got) = claim($f);
    is($got, '1:2', 'the first of the key alone');
    more($f, 'a');
    ack($token);
    is(waiting($f), '3:0:a 6:0:a 8:0:a', 'settled: the next are due');
    ($token, $got) = claim($f);
    is($got, '3:1 6:1 8:1', 'in order; no attempt was counted for waiting');
    is(waiting($f), '3:1:a 6:1:a 8:1:a 9:0:a!', 'a fresh one of the key comes after them');
    ack($token, undef, '3', '6:defer', '8:defer');
    is(waiting($f), '3:1:a 6:0:a! 8:0:a! 9:0:a!', 'the first fails again: all wait again');
    make_due($f);
    ($token) = claim($f);
    ack($token, undef, '3:fail');
    is(dead($f), '3:rejected:2', 'given up');
    is((claim($f))[1], '6:1 8:1 9:1', 'a dead event lets its key go on');
};

subtest 'block_key: the last attempt, and a skip, let the key go on' => sub {
    my $f = feed('lastone', 'a a a', 'max_attempts => 2');
    my ($token) = claim($f);
    ack($token, undef, '1', '2:defer', '3:defer');
    make_due($f);
    ($token) = claim($f);
    ack($token, undef, '1');
    is(dead($f), '1:max_attempts:2', 'dead after two');
    ($token, my $got) = claim($f);
    is($got, '2:1 3:1', 'the others follow');
    ack($token, undef, '2', '3:defer');
    make_due($f);
    ($token) = claim($f);
    ack($token, undef, '2:skip');
    is((claim($f))[1], '3:1', 'skipped: the next');
};

subtest 'a claim that finds only events that wait goes on behind them' => sub {
    my $f = feed('behind', 'a');
    my ($token) = claim($f);
    ack($token, undef, '1');
    more($f, join ' ', ('a') x 30, 'b');
    ($token, my $got) = claim($f, 10);
    is($got, '32:1', 'thirty are passed over');
    is($main->do("SELECT waiting FROM trunkline.blocked_keys WHERE subscription = '$f'"), 30, 'and wait');
};

subtest 'what waits behind a long queue is promoted by hundreds, in order' => sub {
    my $f = feed('queue', 'a');
    my ($token) = claim($f);
    ack($token, undef, '1');
    $main->do("INSERT INTO trunkline.topic_$f (type, key, data) SELECT 't', 'a', '1' FROM generate_series(1, 250)");
    is((claim($f, 1000))[1], '', 'all wait');
    make_due($f);
    my (@got, @sizes);
    for (1 .. 20) {
        ($token, my $got) = claim($f, 1000);
        last if $token eq 'none';
        my @positions = map { (split /:/)[0] } split / /, $got;
        push @got, @positions;
        push @sizes, scalar @positions;
        ack($token);
    }
    is("@got", join(' ', 1 .. 251), 'each once, in order');
    is("@sizes", '1 100 100 50', 'a hundred at a time');
    is(waiting($f), '', 'nothing is left');
};

subtest 'retry: others overtake' => sub {
    my $f = feed('overtake', 'a a', "on_failure => 'retry'");
    my ($token, $got) = claim($f);
    ack($token, undef, '1');
    more($f, 'a');
    is((claim($f))[1], '3:1', 'a later one of the key is handed out');
    is(waiting($f), '1:1:-', 'nothing waits for it');
};

subtest 'none: nothing waits' => sub {
    my $f = feed('loose', 'a a', "ordering => 'none'");
    my ($token) = claim($f, 1);
    ack($token, undef, '1');
    is((claim($f))[1], '2:1', 'the next of the key is handed out');
};

subtest 'total: all wait' => sub {
    my $f = feed('line', 'a b c d', "ordering => 'total'");
    my ($token, $got) = claim($f);
    ack($token, 2, '2');
    is($s->do("SELECT trunkline.release('$token')"), 2, 'the rest is handed back');
    is((claim($f))[1], '', 'nothing is handed out');
    more($f, 'e');
    is((claim($f))[1], '', 'nothing fresh either');
    make_due($f);
    ($token, $got) = claim($f);
    is($got, '2:2', 'the failed one goes before the rest of a released lease');
    ack($token);
    ($token, $got) = claim($f);
    is($got, '3:1 4:1', 'then that');
    ack($token, undef, '3', '4:defer');
    make_due($f);
    ($token, $got) = claim($f);
    is($got, '3:2', 'again one that failed');
    ack($token);
    ($token, $got) = claim($f);
    is($got, '4:1', 'and what it had deferred, before the fresh one');
    ack($token);
    is((claim($f))[1], '5:1', 'in order to the end');
};

subtest 'total: a crash while one waits' => sub {
    my $f = feed('line_crash', 'a b c', "ordering => 'total', max_attempts => 3");
    my ($token, $got) = claim($f);
    ack($token, 1, '1');
    expire($token);
    is((claim($f))[1], '', 'the lost rest waits for what failed');
    refuses($s, "SELECT trunkline.ack('$token')", 'TL004', {token => $token}, 'its owner is fenced');
    make_due($f);
    ($token, $got) = claim($f);
    is($got, '1:2', 'first things first');
    ack($token);
    ($token, $got) = claim($f);
    is($got, '2:2', 'then the lost rest, one a lease');
    ack($token);
    is((claim($f))[1], '3:2', 'and the next');
};

subtest 'a released rest meets a key that is blocked' => sub {
    my $f = feed('rest', 'a b a b');
    my ($token) = claim($f);
    ack($token, 1, '1');
    $s->do("SELECT trunkline.release('$token')");
    ($token, my $got) = claim($f);
    is($got, '2:1 4:1', 'only what is free');
    is(waiting($f), '1:1:a 3:0:a!', 'the other one waits');
    is(ack($token, 2), 1, 'in parts');
    is(ack($token), 1, 'counted without those that wait');
    $f = feed('rest_all', 'a a a');
    ($token) = claim($f);
    ack($token, 1, '1');
    $s->do("SELECT trunkline.release('$token')");
    is((claim($f))[1], '', 'nothing is free');
    is($main->do("SELECT count(*) FROM trunkline.leases JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'"), 0, 'no lease is left');
    is(waiting($f), '1:1:a 2:0:a! 3:0:a!', 'all wait');
};

subtest 'a crash of retries of a key' => sub {
    my $f = feed('key_crash', 'a a a', 'max_attempts => 3');
    my ($token, $got) = claim($f);
    ack($token, undef, '1:skip', '2', '3:defer');
    make_due($f);
    ($token) = claim($f);
    expire($token);
    ($token, $got) = claim($f);
    is($got, '2:3', 'alone, its last attempt');
    expire($token);
    ($token, $got) = claim($f);
    is(dead($f), '2:crashed:3', 'the guilty one is dead');
    is($got, '3:1', 'and its key goes on');
};

subtest 'stop: the subscription pauses at the event and says so' => sub {
    for my $ordering (qw(key total none)) {
        my $f = feed("stop_$ordering", 'a a b', "ordering => '$ordering', on_failure => 'stop', max_attempts => 2");
        my ($token, $got) = claim($f, 2);
        ack($token, undef, '1', '2:defer');
        is(state($f), 't|', "$ordering: goes on after a failure");
        is((claim($f))[1], $ordering eq 'key' ? '3:1' : '', "$ordering: what may go on");
        $s->do("SELECT trunkline.ack(token) FROM trunkline.leases JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'");
        make_due($f);
        ($token, $got) = claim($f);
        is($got, '1:2', "$ordering: the last attempt");
        ack($token, undef, '1');
        is(state($f), 'f|event at position 1 failed 2 times: e1', "$ordering: stopped, and why");
        is($main->do("SELECT paused_at > now() - interval '1 min' FROM trunkline.subscriptions WHERE name = '$f'"), 't', "$ordering: since when");
        is(dead($f), '', "$ordering: nothing is given up");
        is((claim($f))[1], '', "$ordering: nothing is handed out");
        like(waiting($f), qr/^1:2:\w*! 2:0:\w*!$/, "$ordering: it stays first");
        is($main->do("SELECT next_attempt_at, waiting FROM trunkline.blocked_keys WHERE subscription = '$f'"), 'infinity|1', "$ordering: seen in blocked_keys");
    }
    my $f = feed('stop_reject', 'a a', "on_failure => 'stop'");
    my ($token) = claim($f);
    ack($token, undef, '1:fail', '2:defer');
    is(state($f), 'f|event at position 1 was rejected: e1', 'a rejection stops too');
    is(waiting($f), '1:1:a! 2:0:a!', 'and what waits for it stays where it is');

    $f = feed('stop_crash', 'a b', "on_failure => 'stop', max_attempts => 2");
    for (1 .. 2) {
        ($token) = claim($f);
        expire($token);
    }
    is((claim($f))[1], '', 'a poison event');
    is(state($f), 'f|event at position 1 failed 2 times: lease expired: the process that handled it was lost', 'stops it as well');
    is(waiting($f), '1:2:a!', 'and stays');
    is(dead($f), '', 'not dead');
    $f = feed('stop_crash_retry', 'a b', "on_failure => 'stop', max_attempts => 2");
    ($token) = claim($f);
    ack($token, undef, '1');
    make_due($f);
    ($token) = claim($f);
    expire($token);
    is((claim($f))[1], '', 'a retry that kills');
    like(state($f), qr/^f\|event at position 1 failed 2 times: lease expired/, 'stops it too');
    refuses($s, "SELECT trunkline.extend('$token')", 'TL004', {token => $token}, 'its lease is gone');
};

subtest 'stop: an ack that may stop waits for a change of the subscription, and the other way round' => sub {
    my $f = feed('stop_race', 'a b', "on_failure => 'stop'");
    my ($token) = claim($f);
    $b->do("BEGIN; SELECT FROM trunkline.subscriptions WHERE name = '$f' FOR NO KEY UPDATE");
    $s->start("SELECT trunkline.ack('$token', 1, '[{\"position\": 1, \"verdict\": \"fail\"}]')");
    $s->wait_blocked;
    $b->do("DELETE FROM trunkline.leases WHERE token = '$token'; COMMIT");
    $s->finish;
    is($s->{error}{state}, 'TL004', 'no deadlock: the lease is not locked meanwhile');
    is(state($f), 't|', 'and nothing has stopped');
    # a claim that would have to stop it does not wait
    $f = feed('stop_race2', 'a', "on_failure => 'stop', max_attempts => 1");
    ($token) = claim($f);
    expire($token);
    $b->do("BEGIN; SELECT FROM trunkline.subscriptions WHERE name = '$f' FOR NO KEY UPDATE");
    is((claim($f))[1], '', 'passes by');
    $b->do('ROLLBACK');
    is(state($f), 't|', 'not stopped');
    claim($f);
    like(state($f), qr/^f\|event at position 1/, 'the next claim does');
};

subtest 'none, stop: one that joins the queue while its head is settled is not missed' => sub {
    my $f = feed('join', 'a b c', "ordering => 'none', on_failure => 'stop'");
    my ($first) = claim($f, 1);
    my ($second) = claim($f, 1);
    ack($first, undef, '1');
    make_due($f);
    ($first, my $got) = claim($f);
    is($got, '1:2', 'the head is out, and another lease');
    $s->do("BEGIN; SELECT trunkline.ack('$first')");
    $b->start("SELECT trunkline.ack('$second', NULL, '[{\"position\": 2, \"verdict\": \"defer\"}]')");
    $b->wait_blocked;
    $s->do('COMMIT');
    $b->finish;
    is(waiting($f), '2:0:', 'it is first now, and due');
};

subtest 'an ack that ends between the looks of a claim' => sub {
    for my $ordering (qw(key total)) {
        my $f = feed("between_$ordering", 'a b a', "ordering => '$ordering', max_in_flight => 100");
        my ($token) = claim($f, 2);
        expire($token);
        # whoever asks for room waits, after its first look
        $main->do("INSERT INTO trunkline.throttles (subscription_id, tokens) SELECT subscription_id, 1 FROM trunkline.subscriptions WHERE name = '$f' ON CONFLICT DO NOTHING");
        $main->do("BEGIN; SELECT FROM trunkline.throttles t JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f' FOR UPDATE OF t");
        $b->start("SELECT \"position\" FROM trunkline.claim('$f')");
        $b->wait_blocked;
        ack($token, undef, '1');
        $main->do('COMMIT');
        is($b->finish, '', "$ordering: what waits for a failure that came meanwhile is not handed out");
        is(waiting($f), $ordering eq 'key' ? '1:1:a 3:0:a!' : '1:1:', "$ordering: it waits");
    }
    my $f = feed('between_part', 'a b a a', 'max_in_flight => 100');
    my ($token) = claim($f, 3);
    expire($token);
    $main->do("INSERT INTO trunkline.throttles (subscription_id, tokens) SELECT subscription_id, 1 FROM trunkline.subscriptions WHERE name = '$f' ON CONFLICT DO NOTHING");
    $main->do("BEGIN; SELECT FROM trunkline.throttles t JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f' FOR UPDATE OF t");
    $b->start("SELECT \"position\" FROM trunkline.claim('$f')");
    $b->wait_blocked;
    ack($token, 1, '1');
    expire($token);
    $main->do('COMMIT');
    is($b->finish, '2', 'an ack of a part: the takeover knows what failed in it');
    is(waiting($f), '1:1:a 3:1:a!', 'and parks what waits for that, its lost attempt counted');
};

subtest 'defer and expired where nothing waits' => sub {
    my $f = feed('defer_free', 'a a', "on_failure => 'retry'");
    my ($token, $got) = claim($f);
    ack($token, undef, '1:defer', '2:expired');
    is(dead($f), '2:expired:0', 'expired: dead, no attempt was made');
    is((claim($f))[1], '1:1', 'deferred: due at once, its first attempt');
};

subtest 'CLN-2: what has expired is not handed out' => sub {
    my $f = feed('ttl', 'a');
    more($f, 'a a', "clock_timestamp() - interval '1 s'");
    more($f, 'b', "clock_timestamp() + interval '1 h'");
    my ($token, $got) = claim($f);
    is($got, '1:1 4:1', 'claim() leaves it out');
    is(dead($f), '2:expired:0 3:expired:0', 'and buries it');
    is($main->do("SELECT event ->> 'type', error_message FROM trunkline.dead_letters WHERE subscription = '$f' AND \"position\" = 2"), 't|', 'with its copy');
    is(ack($token, 3), 1, 'it is no part of the lease');
    $main->do("UPDATE trunkline.dead_letters SET state = 'discarded', settled_at = now() WHERE subscription = '$f'");
    expire($token);
    ($token, $got) = claim($f);
    is($got, '4:2', 'nor of a takeover');
    ack($token);
    is(dead($f), '', 'which buries nothing twice');
    more($f, join(' ', ('a') x 250), "clock_timestamp() - interval '1 s'");
    more($f, 'c');
    is((claim($f, 10))[1], '255:1', 'a claim goes on behind many that have expired');
    is($main->do("SELECT count(*) FROM trunkline.dead_letters WHERE subscription = '$f' AND reason = 'expired'"), 252, 'all buried');

    $f = feed('ttl_retry', 'a a');
    more($f, 'a', "clock_timestamp() + interval '1 h'");
    ($token) = claim($f);
    ack($token, undef, '1:skip', '2:skip', '3');
    more($f, 'a');
    is((claim($f))[1], '', 'the next of the key waits');
    change("UPDATE trunkline.events SET expires_at = now() - interval '1 s' WHERE \"position\" = 3 AND topic_id = (SELECT topic_id FROM trunkline.topics WHERE name = '$f')");
    make_due($f);
    is((claim($f))[1], '4:1', 'a retry that fell due too late is passed over, and its key goes on');
    is(dead($f), '3:expired:1', 'it is dead, after one attempt');
};

subtest 'CLN-2: workers settle what has expired themselves' => sub {
    my $f = feed('ttl_many', 'a');
    more($f, 'b', "clock_timestamp() - interval '1 s'");
    my $id = $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$f'");
    my $many = sub { return $s->do("SELECT token, string_agg(\"position\" || ':' || attempt, ' ' ORDER BY \"position\") FROM trunkline.claim_many('{$id}', '{100}') WHERE subscription_id = $id GROUP BY 1") };
    my ($token, $got) = split /\|/, $many->();
    is($got, '1:1 2:0', 'claim_many: attempt 0');
    is(dead($f), '', 'nothing is written yet');
    is(ack($token, undef, '2:expired'), 2, 'settled');
    is(dead($f), '2:expired:0', 'now');
    more($f, 'a', "clock_timestamp() + interval '1 h'");
    ($token) = split /\|/, $many->();
    ack($token, undef, '3');
    more($f, 'a');
    $many->();
    change("UPDATE trunkline.events SET expires_at = now() - interval '1 s' WHERE \"position\" = 3 AND topic_id = (SELECT topic_id FROM trunkline.topics WHERE name = '$f')");
    make_due($f);
    ($token, $got) = split /\|/, $many->();
    is($got, '3:0', 'a retry likewise');
    ack($token, undef, '3:expired');
    is(dead($f), '2:expired:0 3:expired:1', 'dead');
    is((split /\|/, $many->())[1], '4:1', 'and its key goes on');
};

subtest 'a redriven event' => sub {
    my $f = feed('again', 'a a a', 'max_attempts => 1');
    my $redrive = sub {
        $main->do("INSERT INTO trunkline.retries (subscription_id, \"position\", slot, attempt, next_attempt_at, error_message, errors, event)
            SELECT subscription_id, \"position\", 0, 0, now(), '', '[]', event FROM trunkline.dead_letters WHERE subscription = '$f' AND \"position\" = $_[0];
            UPDATE trunkline.dead_letters SET state = 'redriven', settled_at = now() WHERE subscription = '$f' AND \"position\" = $_[0]");
    };
    my ($token) = claim($f);
    ack($token, undef, '1:fail', '2', '3:skip');
    is(dead($f), '1:rejected:1 2:max_attempts:1', 'two dead');
    $redrive->($_) for 1, 2;
    change("DELETE FROM trunkline.events WHERE \"position\" = 1 AND topic_id = (SELECT topic_id FROM trunkline.topics WHERE name = '$f')");
    is($main->do("SELECT low FROM trunkline.low_water((SELECT topic_id FROM trunkline.topics WHERE name = '$f'))"), 3, 'holds no leaf');
    more($f, 'a');
    is($s->do("SELECT \"position\", attempt, type, key, data, created_at <= now() FROM trunkline.claim('$f', max_events => 10)"),
        "1|1|t|a|1|t\n2|1|t|a|1|t\n4|1|t|a|1|t", 'comes from its copy, though the log has it no more, and holds nothing up');
    $token = $main->do("SELECT token FROM trunkline.leases JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'");
    ack($token, undef, '1', '4:skip');
    is(dead($f), '1:max_attempts:1', 'dies again');
    is($main->do("SELECT state, settled_at IS NULL, error_message, event ->> 'type', jsonb_array_length(errors) FROM trunkline.dead_letters WHERE subscription = '$f' AND \"position\" = 1"), 'dead|t|e1|t|1', 'as the same dead letter');
    is($main->do("SELECT state FROM trunkline.dead_letters WHERE subscription = '$f' AND \"position\" = 2"), 'redriven', 'the other one succeeded');
    is($main->do("SELECT dead FROM trunkline.subscription_status WHERE name = '$f'"), 1, 'only those that are dead count');
    my $id = $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$f'");
    $redrive->(1);
    is($s->do("SELECT \"position\", attempt, data, members FROM trunkline.claim_many('{$id}', '{10}') WHERE subscription_id = $id"), '1|1|1|0', 'claim_many likewise');
};

subtest 'next_due: not before what all wait for' => sub {
    for my $options ("ordering => 'total'", "ordering => 'none', on_failure => 'stop'") {
        my $name = 'due_' . ($options =~ /total/ ? 'total' : 'stop');
        feed($name, '- - - -', $options);
        my $id = $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$name'");
        my $due = sub { return $main->do("SELECT round(trunkline.next_due('{$id}') / 1e6)") };
        my ($t) = claim($name, 3);
        ack($t, 1, '1');
        $s->do("SELECT trunkline.release('$t')");
        like($due->(), qr/^3(599|600)$/, "$options: a released lease waits too");
        $main->do("SELECT trunkline.replay('$name', 'beginning', '2')");
        like($due->(), qr/^3(599|600)$/, 'and a replay');
        is($main->do("SELECT count(*) FROM generate_series(1, 20), trunkline.claim_many('{$id}', '{9}') WHERE subscription_id <> 0"), 0, 'nor is there more to look at');
        $main->do("UPDATE trunkline.retries SET next_attempt_at = now() WHERE subscription_id = $id");
        is($due->(), 0, 'then it is due');
        (my $again) = claim($name);
        cmp_ok($due->(), '>', 20, 'in flight: when its lease ends');
        $s->do("SELECT trunkline.ack('$again')");
        is($due->(), 0, 'settled: the others');
    }
    feed('due_queue', '- - -', "ordering => 'none', on_failure => 'stop'");
    my $id = $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = 'due_queue'");
    my ($t) = claim('due_queue');
    ack($t, undef, '1', '2:defer', '3:defer');
    $main->do("UPDATE trunkline.retries SET next_attempt_at = now() WHERE subscription_id = $id");
    is((claim('due_queue', 1))[1], '1:2', 'the first of a queue');
    cmp_ok($main->do("SELECT trunkline.next_due('{$id}') / 1e6"), '>', 20, 'those behind it are not due before it is settled');
};

subtest 'of a queue those right behind the first come along, as far as they are due' => sub {
    feed('along', 'a b a b a b a c d d', '');
    my $id = $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = 'along'");
    my $due = sub { $main->do("UPDATE trunkline.retries SET next_attempt_at = now() - interval '1 min' WHERE subscription_id = $id") };
    my ($t) = claim('along');
    ack($t, undef, qw(1 2 3:defer 4:defer 5:defer 6:defer 7:defer 8 9 10:defer));
    $due->();
    $main->do("UPDATE trunkline.retries SET next_attempt_at = now() + interval '1 h' WHERE subscription_id = $id AND \"position\" IN (5, 9);
        UPDATE trunkline.retries SET solo = true WHERE subscription_id = $id AND \"position\" = 4");
    ($t, my $got) = claim('along');
    is($got, '1:2 2:2 3:1 8:2', 'up to one that is not, or that a crash left; none of a key whose first is not');
    ack($t, undef, qw(1 3:defer));
    $due->();
    $main->do("UPDATE trunkline.retries SET next_attempt_at = now() - interval '2 min' WHERE subscription_id = $id AND \"position\" = 4"); # before 1
    ($t, $got) = claim('along', 1);
    is($got, '4:1', 'what a crash left goes alone');
    $main->do("UPDATE trunkline.retries SET token = gen_random_uuid() WHERE subscription_id = $id AND \"position\" = 3");
    ack($t);
    $due->();
    is((claim('along'))[1], '1:3 6:1 9:2 10:1', 'none behind one that is elsewhere');

    feed('share', 'a b ' x 30, '');
    $id = $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = 'share'");
    ($t) = claim('share');
    ack($t, undef, 1, 2, map { "$_:defer" } 3 .. 60);
    $due->();
    ($t, $got) = claim('share', 40);
    is($got, join(' ', '1:2', '2:2', map { "$_:1" } 3 .. 40), 'of two queues each has its share of the room');
    is($s->do("SELECT trunkline.ack('$t')"), 40, 'settled');
    $due->();
    is((claim('share', 3))[1], '41:1 42:1 43:1', 'no more than were asked for');
};

subtest 'a claim of many passes a bounded number of events that wait' => sub {
    feed('crowded', 'a', '');
    my ($t) = claim('crowded');
    ack($t, undef, '1');
    $main->do("INSERT INTO trunkline.topic_crowded (type, key, data) SELECT 't', 'a', '1' FROM generate_series(1, 12000)");
    is((claim('crowded', 10000))[0], 'none', 'nothing yet');
    is($main->do("SELECT behind FROM trunkline.subscription_status WHERE name = 'crowded'"), 2000, 'ten thousand of them, a statement does not grow with what waits');
};

# Few are known by name, of many the first and the last, and what is between is asked for one by one: until it is seen that there are
# keys that do not wait, by park(), and then in the query.
subtest 'which keys are blocked is found however many there are and wherever they lie' => sub {
    feed('mixed', '', '');
    my $id = $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = 'mixed'");
    # of 'k001' to 'k300', events of every third key and of some that sort elsewhere by the rules of a language
    my $events = q(SELECT 'k' || lpad(i::text, 3, '0') FROM generate_series(3, 300, 3) i UNION ALL SELECT unnest(ARRAY['K005', 'k-06', U&'k\00e4', 'Z', '~', NULL]));
    my %waiting = (
        'none' => 'SELECT NULL WHERE false',
        'others, before' => q(SELECT 'a' || i FROM generate_series(1, 100) i),
        'others, behind' => q(SELECT '~~' || i FROM generate_series(1, 100) i),
        'others, between' => q(SELECT 'k' || lpad(i::text, 3, '0') FROM generate_series(1, 300, 3) i),
        'one' => q(SELECT 'k150'),
        'the first and the last' => q(SELECT unnest(ARRAY['K005', U&'k\00e4', '~'])),
        'a queue' => q(SELECT 'k150' FROM generate_series(1, 100)),
        'a queue, and one behind' => q(SELECT 'k150' FROM generate_series(1, 100) UNION ALL SELECT 'k297'),
        'two queues, and one behind' => q(SELECT k FROM unnest(ARRAY['k006', 'k150']) k, generate_series(1, 50) UNION ALL SELECT 'k297'),
        'a queue of seven' => q(SELECT 'k150' FROM generate_series(1, 7)),
        '7' => q(SELECT 'k' || lpad(i::text, 3, '0') FROM generate_series(3, 21, 3) i),
        '8' => q(SELECT 'k' || lpad(i::text, 3, '0') FROM generate_series(3, 24, 3) i),
        '9' => q(SELECT 'k' || lpad(i::text, 3, '0') FROM generate_series(3, 27, 3) i),
        '31' => q(SELECT 'k' || lpad(i::text, 3, '0') FROM generate_series(1, 31) i),
        '32' => q(SELECT 'k' || lpad(i::text, 3, '0') FROM generate_series(1, 32) i),
        '64' => q(SELECT 'k' || lpad(i::text, 3, '0') FROM generate_series(1, 64) i),
        '65' => q(SELECT 'k' || lpad(i::text, 3, '0') FROM generate_series(1, 65) i),
        'half' => q(SELECT 'k' || lpad(i::text, 3, '0') FROM generate_series(2, 300, 2) i),
        'all' => $events,
    );
    for my $case (map { [$_, ''], [$_, 'on'] } sort keys %waiting) {
        my ($which, $mixed) = @$case;
        $main->do("SET trunkline.mixed_$id = '$mixed'");
        $main->do("DELETE FROM trunkline.leases WHERE subscription_id = $id; DELETE FROM trunkline.retries WHERE subscription_id = $id");
        $main->do(qq(INSERT INTO trunkline.retries (subscription_id, "position", slot, attempt, next_attempt_at, error_message, last_error_at, errors, key)
            SELECT $id, -row_number() OVER (), 0, 1, now() + interval '1 h', '', now(), '[]', w.key FROM ($waiting{$which}) w(key)));
        $main->do("INSERT INTO trunkline.topic_mixed (type, key, data) SELECT 't', e.key, '1' FROM ($events) e(key)");
        my $free = $main->do("SELECT string_agg(coalesce(e.key, 'none'), ' ' ORDER BY e.key COLLATE \"C\") FROM ($events) e(key)
            WHERE NOT EXISTS (SELECT FROM trunkline.retries r WHERE r.subscription_id = $id AND r.key = e.key)");
        is($main->do("SELECT string_agg(coalesce(c.key, 'none'), ' ' ORDER BY c.key COLLATE \"C\") FROM trunkline.claim_many('{$id}', '{1000}') c WHERE c.id IS NOT NULL"), $free, "blocked: $which" . ($mixed && ', asked for in the query'));
    }
};

subtest 'beside blocked keys a claim passes over a gap, but not over what it parks' => sub {
    feed('gap', 'a', '');
    my ($t) = claim('gap');
    ack($t, undef, '1');
    $main->do("SELECT count(nextval('trunkline.position_gap')) FROM generate_series(1, 500)");
    more('gap', 'b b b');
    is((claim('gap', 10))[1], '502:1 503:1 504:1', 'events behind 500 positions without any');
    $main->do("DELETE FROM trunkline.leases");
    my $id = $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = 'gap'");
    more('gap', join ' ', ('a') x 25, 'b');
    my $look = sub { $main->do("SELECT coalesce(string_agg(\"position\"::text, ' '), 'none') FROM trunkline.claim_many('{$id}', '{10}') WHERE subscription_id <> 0") };
    is($look->(), '514', 'ten of a blocked key: parked, and it says how far it looked');
    is($look->(), '524', 'the next ten');
    is($look->(), '530', 'the rest, and what is behind');
    is($main->do("SELECT count(*) FROM trunkline.retries WHERE subscription_id = $id"), 26, 'they wait');
};

done_testing;
