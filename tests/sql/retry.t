#!/usr/bin/perl
# SUB-4: failures, retries and dead letters.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $s = session();

sub feed {
    my ($name, $n, $options) = @_;
    $s->do("SELECT trunkline.create_topic('$name'); SELECT trunkline.subscribe('$name', '**', '$name'" . ($options ? ", $options" : '') . ')');
    more($name, $n) if $n;
    return $name;
}

sub more {
    my ($name, $n) = @_;
    $s->do("SELECT trunkline.publish('t' || i, '1', '$name') FROM generate_series(1, $n) i");
    return;
}

sub claim {
    my ($name, $max) = @_;
    my @rows = map { [split /\|/] } split /\n/,
        $s->do("SELECT token, \"position\", attempt FROM trunkline.claim('$name', max_events => " . ($max // 100) . ')');
    return ($rows[0] ? $rows[0][0] : 'none', join ' ', map { "$_->[1]:$_->[2]" } @rows);
}

sub ack {
    my ($token, $upto, $failures) = @_;
    return $s->do("SELECT trunkline.ack('$token', $upto" . ($failures ? ", '$failures'" : '') . ')');
}

sub dead {
    return $s->do("SELECT coalesce(string_agg(\"position\" || ':' || reason || ':' || attempts || ':' || error_message, ' ' ORDER BY \"position\"), '')
        FROM trunkline.dead_letters WHERE subscription = '$_[0]'");
}

sub waiting {
    return $s->do("SELECT coalesce(string_agg(\"position\" || ':' || attempt, ' ' ORDER BY \"position\"), '')
        FROM trunkline.retries JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$_[0]' AND token IS NULL");
}

# As if the pause had passed.
sub make_due { $s->do("UPDATE trunkline.retries SET next_attempt_at = clock_timestamp() - interval '1 min' + \"position\" * interval '1 s' WHERE token IS NULL") }

subtest 'retry, fail, skip' => sub {
    my $f = feed('verdicts', 5);
    my ($token) = claim($f);
    is(ack($token, 'NULL', '[{"position": 1, "error": "no"}, {"position": 2, "error": "never", "verdict": "fail"},
        {"position": 3, "verdict": "skip"}, {"position": 4, "error": "later", "verdict": "retry", "retry_after_us": 3600000000}]'), 5, 'all five are settled');
    is(waiting($f), '1:1 4:1', 'two wait for another attempt');
    is(dead($f), '2:rejected:1:never', 'one is dead');
    is($s->do("SELECT event ->> 'type', event -> 'data', topic, jsonb_array_length(errors) FROM trunkline.dead_letters WHERE subscription = '$f'"),
        "t2|1|$f|1", 'with a copy of the event and its history');
    is($s->do("SELECT next_attempt_at - last_error_at BETWEEN '59 min' AND '61 min' FROM trunkline.retries WHERE error_message = 'later'"), 't', 'the pause that was asked for');
    is($s->do("SELECT next_attempt_at - last_error_at BETWEEN '0.9 s' AND '3.1 s' FROM trunkline.retries WHERE error_message = 'no'"), 't', 'or the subscription\'s');
    is($s->do("SELECT leased, retrying, dead FROM trunkline.subscription_status WHERE name = '$f'"), '0|2|1', 'seen in the status');
    is((claim($f))[1], '', 'not due yet');
    make_due();
    ($token, my $got) = claim($f);
    is($got, '1:2 4:2', 'due: the second attempt');
    is(ack($token, 'NULL'), 2, 'which succeeds');
    is(waiting($f), '', 'and leaves nothing');
    is($s->do("SELECT count(*) FROM trunkline.leases"), 0, 'no lease either');
};

subtest 'max_attempts' => sub {
    my $f = feed('limited', 1, 'max_attempts => 3');
    for my $attempt (1 .. 3) {
        my ($token, $got) = claim($f);
        is($got, "1:$attempt", "attempt $attempt");
        ack($token, 'NULL', qq([{"position": 1, "error": "e$attempt"}]));
        make_due();
    }
    is((claim($f))[1], '', 'no fourth');
    is(dead($f), '1:max_attempts:3:e3', 'dead');
    is($s->do("SELECT string_agg(e ->> 'attempt' || (e ->> 'error'), ' ') FROM trunkline.dead_letters, jsonb_array_elements(errors) e WHERE subscription = '$f'"),
        '1e1 2e2 3e3', 'with each error');
    $f = feed('once', 1, 'max_attempts => 1');
    my ($token) = claim($f);
    ack($token, 'NULL', '[{"position": 1}]');
    is(dead($f), '1:max_attempts:1:', 'one attempt: dead at once');

    $f = feed('history', 1, 'max_attempts => 100');
    for (1 .. 25) {
        ($token) = claim($f);
        ack($token, 'NULL', qq([{"position": 1, "error": "e$_"}]));
        make_due();
    }
    is($s->do("SELECT jsonb_array_length(errors), errors -> 0 ->> 'error', errors -> 19 ->> 'error' FROM trunkline.retries JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'"),
        '20|e6|e25', 'the last twenty errors are kept');
};

subtest 'ack in parts with failures' => sub {
    my $f = feed('parts', 6);
    my ($token) = claim($f);
    is(ack($token, 3, '[{"position": 2, "error": "x"}]'), 3, 'three settled, one of them to be retried');
    refuses($s, "SELECT trunkline.ack('$token', 5, '[{\"position\": 6}]')", 'TL005', {field => 'failures', position => 6}, 'a failure behind upto');
    refuses($s, "SELECT trunkline.ack('$token', 5, '[{\"position\": 3}]')", 'TL005', {field => 'failures', position => 3}, 'one settled before');
    is(waiting($f), '2:1', 'refused: nothing changed');
    is(ack($token, 'NULL', '[{"position": 6, "error": "y"}]'), 3, 'the rest');
    is(waiting($f), '2:1 6:1', 'two wait');

    more($f, 2);
    make_due();
    ($token, my $got) = claim($f);
    is($got, '2:2 6:2 7:1 8:1', 'retries before fresh events, in order of position, under one token');
    is(ack($token, 2), 1, 'up to the first retry');
    is(ack($token, 7, '[{"position": 6, "error": "z"}]'), 2, 'over retry and fresh event');
    is($s->do("SELECT events, retries FROM trunkline.leases WHERE token = '$token'"), '1|0', 'one left');
    is(ack($token, 'NULL'), 1, 'the last');
    is(waiting($f), '6:2', 'the one that failed twice');
};

subtest 'failures that make no sense' => sub {
    my $f = feed('nonsense', 3);
    my ($token) = claim($f, 2);
    my $bad = sub {
        my ($failures, $name, $position) = @_;
        refuses($s, "SELECT trunkline.ack('$token', NULL, '$failures')", 'TL005', {field => 'failures', $position ? (position => $position) : ()}, $name);
    };
    $bad->('null', 'JSON null');
    $bad->('{}', 'an object');
    $bad->('"x"', 'a string');
    $bad->('[1]', 'numbers');
    $bad->('[{}]', 'no position');
    $bad->('[{"position": "1"}]', 'position is a string');
    $bad->('[{"position": 1.5}]', 'position is no whole number');
    $bad->('[{"position": -9e30}]', 'position is far below all');
    $bad->('[{"position": 99.0}]', 'a whole number, of no event here', 99);
    $bad->('[{"position": 1, "verdict": "maybe"}]', 'unknown verdict');
    $bad->('[{"position": 1, "verdict": null}]', 'verdict null');
    $bad->('[{"position": 1, "retry_after_us": "1"}]', 'retry_after_us is a string');
    $bad->('[{"position": 1, "retry_after_us": -1}]', 'retry_after_us is negative');
    $bad->('[{"position": 1, "retry_after_us": 0.5}]', 'retry_after_us is no whole number');
    $bad->('[{"position": 3}]', 'an event that is not in the lease', 3);
    $bad->('[{"position": 0}]', 'no event', 0);
    $bad->('[{"position": 1}, {"position": 1, "verdict": "fail"}]', 'the same event twice', 1);
    $bad->('[{"position": 1e300}]', 'a position beyond all numbers');
    $bad->('[{"position": 1, "retry_after_us": 1e300}]', 'a pause beyond all numbers');
    for my $field (qw(wish_us floor_us)) {
        $bad->("[{\"position\": 1, \"$field\": $_}]", "$field $_") for '"1"', -1, 0.5, '1e300';
    }
    is(dead($f) . waiting($f), '', 'refused: nothing changed');
    is(ack($token, 'NULL', '[]'), 2, 'no failure is none');
    ($token) = claim($f);
    is(ack($token, 'NULL', '[{"position": 3, "retry_after_us": 9000000000000000000, "error": {"code": 7}}]'), 1, 'an endless pause, an error that is an object');
    is($s->do("SELECT error_message, next_attempt_at - now() < '366 days' FROM trunkline.retries JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'"),
        '{"code": 7}|t', 'at most a year; the object as text');
};

subtest 'half of a batch at most while fresh events wait' => sub {
    my $f = feed('halves', 10);
    my ($token) = claim($f);
    ack($token, 'NULL', '[' . join(',', map { "{\"position\": $_}" } 1 .. 10) . ']');
    more($f, 10);
    make_due();
    my $got;
    ($token, $got) = claim($f, 6);
    is($got, '1:2 2:2 3:2 11:1 12:1 13:1', 'three and three: earliest due first');
    ack($token, 'NULL');
    ($token, $got) = claim($f, 5);
    is($got, '4:2 5:2 14:1 15:1 16:1', 'two and three');
    ack($token, 'NULL');
    ($token, $got) = claim($f, 100);
    is($got, '6:2 7:2 8:2 9:2 10:2 17:1 18:1 19:1 20:1', 'all there is');
    ack($token, 'NULL', '[' . join(',', map { "{\"position\": $_}" } 6 .. 10) . ']');
    make_due();
    ($token, $got) = claim($f, 3);
    is($got, '6:3 7:3 8:3', 'no fresh events: as many as wanted');
    ack($token, 'NULL');

    # one at a time neither may starve
    more($f, 60);
    my %kind;
    for (1 .. 40) {
        ($token, $got) = claim($f, 1);
        $kind{$got =~ /:1$/ ? 'fresh' : 'retry'}++;
        ack($token, 'NULL', $got =~ /:1$/ ? undef : '[{"position": ' . ($got =~ /^(\d+)/)[0] . ', "retry_after_us": 0}]');
    }
    cmp_ok($kind{$_} // 0, '>=', 5, "one event a claim: $_ gets its turn") for qw(fresh retry);
};

subtest 'earliest due first' => sub {
    my $f = feed('orderly', 3);
    my ($token) = claim($f);
    ack($token, 'NULL', '[{"position": 1, "retry_after_us": 3000000}, {"position": 2, "retry_after_us": 1000000}, {"position": 3, "retry_after_us": 2000000}]');
    $s->do("UPDATE trunkline.retries SET next_attempt_at = next_attempt_at - interval '1 h'");
    ($token, my $got) = claim($f, 2);
    is($got, '2:2 3:2', 'by time, handed out by position');
};

# RET-2: pauses by policy.
sub pauses {
    my ($options, $attempt, $last, $n) = @_;
    $s->do("SELECT trunkline.subscribe('pauses', 'x', $options)");
    return map { $_ + 0 } split /\n/, $s->do("SELECT extract(epoch FROM trunkline.backoff(x, $attempt, '$last'))
        FROM trunkline.subscriptions x, generate_series(1, $n) WHERE name = 'pauses'");
}

subtest 'RET-2: fixed' => sub {
    is_deeply([pauses("backoff => 'fixed', retry_delay => '7 s'", $_, '1 h', 3)], [7, 7, 7], "attempt $_: the same pause") for 1, 2, 50;
};

subtest 'RET-2: exponential with decorrelated jitter' => sub {
    my $exponential = sub {
        my ($delay, $cap, $last, $low, $high) = @_;
        my @got = sort { $a <=> $b } pauses("retry_delay => '$delay', retry_cap => '$cap'", 3, $last, 200);
        ok($got[0] >= $low && $got[-1] <= $high, "$delay to $cap after $last: $low to $high s") or diag("@got[0, -1]");
        return if $low == $high;
        cmp_ok($got[0], '<', $low + 0.2 * ($high - $low), 'down to the low end');
        cmp_ok($got[-1], '>', $high - 0.2 * ($high - $low), 'up to the high end');
        return;
    };
    $exponential->('1 s', '1 h', '0', 1, 3);
    $exponential->('1 s', '1 h', '10 s', 1, 30);
    $exponential->('1 s', '20 s', '10 s', 1, 20);
    $exponential->('0', '0', '1 h', 0, 0);
    $exponential->('1 year', '1 year', '1 year', 365.25 * 86400, 365.25 * 86400);
    $exponential->('10 s', '10 s', '10 s', 10, 10);
};

subtest 'RET-2: explicit schedule' => sub {
    for my $case ([1, 1], [2, 10], [3, 100], [4, 100], [99, 100]) {
        my ($attempt, $expected) = @$case;
        my @got = sort { $a <=> $b } pauses("retry_schedule => '{1s,10s,100s}', max_attempts => 1000", $attempt, '0', 100);
        ok($got[0] >= 0.79 * $expected && $got[-1] <= 1.21 * $expected && $got[0] < $expected && $got[-1] > $expected,
            "attempt $attempt: $expected s, 20 % either way") or diag("@got[0, -1]");
    }
};

subtest 'RET-2: the last pause is kept, so that the next one grows from it' => sub {
    my $f = feed('grows', 1, "max_attempts => 100, retry_delay => '1 s', retry_cap => '1 h'");
    my ($before, $most) = (1, 0);
    for (1 .. 12) {
        my ($token) = claim($f);
        ack($token, 'NULL', '[{"position": 1}]');
        my ($pause, $kept) = split /\|/, $s->do("SELECT extract(epoch FROM next_attempt_at - last_error_at), extract(epoch FROM delay)
            FROM trunkline.retries JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'");
        ok(abs($pause - $kept) < 0.5, 'kept');
        cmp_ok($kept, '<=', 3 * $before + 0.001, 'at most three times the one before');
        ($before, $most) = ($kept, $kept > $most ? $kept : $most);
        make_due();
    }
    cmp_ok($most, '>', 3, 'it did grow');
};

subtest 'RET-2: what the handler or the target asks for' => sub {
    my $pause = sub {
        my ($policy, $asks, $low, $high, $name) = @_;
        my $f = feed('asks' . ++$s->{asked}, 1, $policy);
        my ($token) = claim($f);
        ack($token, 'NULL', "[{\"position\": 1, $asks}]");
        my $got = $s->do("SELECT extract(epoch FROM next_attempt_at - last_error_at) FROM trunkline.retries JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'");
        ok($got >= $low - 0.5 && $got <= $high + 0.5, $name) or diag($got);
    };
    my $fixed = "backoff => 'fixed', retry_delay => '10 s'";
    $pause->($fixed, '"retry_after_us": 100000000', 100, 100, 'retry_after_us: exactly');
    $pause->($fixed, '"retry_after_us": 1000000', 1, 1, 'retry_after_us: sooner than the policy, too');
    $pause->($fixed, '"wish_us": 15000000', 15, 15, 'wish_us: within once and twice the policy');
    $pause->($fixed, '"wish_us": 1000000', 10, 10, 'wish_us: not sooner than the policy');
    $pause->($fixed, '"wish_us": 3600000000', 20, 20, 'wish_us: at most twice the policy');
    $pause->("retry_schedule => '{30s,1h}'", '"wish_us": 45000000', 45, 45, 'wish_us: against the schedule');
    $pause->($fixed, '"floor_us": 12000000', 12, 12, 'floor_us: never sooner');
    $pause->($fixed, '"floor_us": 2000000', 10, 10, 'floor_us: below the policy');
    $pause->($fixed, '"floor_us": 30000000, "wish_us": 15000000', 30, 30, 'floor_us before wish_us');
    $pause->($fixed, '"floor_us": 3000000, "retry_after_us": 0', 3, 3, 'floor_us before retry_after_us');
};

subtest 'many that wait are not looked at' => sub {
    for my $options ('', "on_failure => 'retry'", "ordering => 'none'", "ordering => 'key', slots => 2", 'max_in_flight => 1000') {
        my $f = feed('crowd' . ++$s->{crowds}, 0, $options);
        my $has_key = $options =~ /none|retry/ ? 'false' : 'true';
        my $id = $s->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$f'");
        $s->do("INSERT INTO trunkline.topic_$f (type, key, data) SELECT 't', 'w' || i, '1' FROM generate_series(1, 3000) i;
            INSERT INTO trunkline.retries (subscription_id, \"position\", slot, attempt, next_attempt_at, error_message, errors, key)
                SELECT $id, i, 0, 1, CASE WHEN i % 2 = 0 THEN 'infinity' ELSE now() + interval '1 h' END, '', '[]', CASE WHEN $has_key THEN 'w' || i END FROM generate_series(1, 3000) i;
            UPDATE trunkline.cursors SET cursor = 3000 WHERE subscription_id = $id");
        my $read = sub {
            my ($sql) = @_;
            my $fresh = session(); # its own counters
            return $fresh->do("BEGIN; DO \$\$ BEGIN PERFORM $sql; END \$\$; SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'trunkline.retries'::regclass; COMMIT");
        };
        my $many = "count(*) FROM trunkline.claim_many('{$id}', '{100}')";
        cmp_ok($read->($many), '<', 50, "$options: to find nothing");
        cmp_ok($read->("trunkline.next_due('{$id}')"), '<', 50, "$options: to know when to look again");
        $s->do("INSERT INTO trunkline.topic_$f (type, key, data) SELECT 't', 'k' || i, '1' FROM generate_series(1, 20) i");
        cmp_ok($read->($many), '<', 100, "$options: to claim what is fresh");
        is($s->do("SELECT sum(events) > 0 FROM trunkline.leases WHERE subscription_id = $id"), 't', "$options: which it did");
    }
};

subtest 'a retry costs no read of the log but that of its event' => sub {
    my $name = feed('costs', 0, "retry_delay => '0 s', retry_cap => '0 s', max_attempts => 100");
    $s->do("INSERT INTO trunkline.topic_$name (type, key, data) SELECT 't', 'k' || i, '1' FROM generate_series(1, 5000) i");
    my ($t) = claim($name, 100);
    ack($t, 'NULL', '[' . join(',', map { "{\"position\": $_}" } 1 .. 100) . ']');
    $s->do("UPDATE trunkline.cursors SET cursor = 5000 WHERE subscription_id = (SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$name')");
    for my $claim ("trunkline.claim('$name', max_events => 50)",
        "trunkline.claim_many(ARRAY(SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$name'), '{50}')")
    {
        for my $statistics ('', "ANALYZE trunkline.retries; ANALYZE trunkline.topic_$name") {
            $s->do($statistics) if $statistics;
            my $fresh = session(); # its own counters
            my $got = $fresh->do("BEGIN; SELECT count(id) FROM $claim;
                SELECT sum(seq_tup_read + idx_tup_fetch) < 500 FROM pg_stat_xact_user_tables WHERE relname LIKE 'leaf_${name}_%'; ROLLBACK");
            is($got, "50\nt", $claim . ($statistics && ', with statistics'));
        }
    }
};

done_testing;
