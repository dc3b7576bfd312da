#!/usr/bin/perl
# SUB-2, IDM-2: max_in_flight, rate_limit, drain, replays beside live events, tracking of deliveries.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest qw(:DEFAULT expire);
use Test::More;

database();
my ($s, $other, $main) = map { session() } 1 .. 3;

sub feed {
    my ($name, $n, $options) = @_;
    $main->do("SELECT trunkline.create_topic('$name')");
    $main->do("SELECT trunkline.subscribe('$name', '**', '$name', retry_delay => '1 h', retry_cap => '1 h'" . ($options ? ", $options" : '') . ')');
    more($name, $n) if $n;
    return $name;
}

sub more { $main->do("INSERT INTO trunkline.topic_$_[0] (type, key, data) SELECT 't', 'k' || i % 5, '1' FROM generate_series(1, $_[1]) i") }
sub id { return $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$_[0]'") }
sub claim {
    my ($name, $max, $session) = @_;
    my @rows = map { [split /\|/] } split /\n/, ($session // $s)->do("SELECT token, \"position\", attempt FROM trunkline.claim('$name', max_events => " . ($max // 100) . ')');
    return ($rows[0] ? $rows[0][0] : 'none', join ' ', map { $_->[1] } @rows);
}
sub ack { return $s->do("SELECT trunkline.ack('$_[0]', " . ($_[1] // 'NULL') . ($_[2] ? ", '$_[2]'" : '') . ')') }
sub count { return scalar split / /, $_[0] }

# What is done within 80 ms of a bucket being set to empty so long ago: no token of a tenth of a second comes in
# between. A busy machine may need several tries; what was claimed too late was not claimed at all.
sub timely {
    my ($table, $id, $ago, $what) = @_;
    for (1 .. 1000) {
        my $set_at = $main->do("UPDATE trunkline.$table SET tokens = 0, refilled_at = clock_timestamp() - interval '$ago' WHERE subscription_id = $id RETURNING clock_timestamp()");
        $s->do('BEGIN');
        my @got = $what->();
        my $is_in_time = $main->do("SELECT clock_timestamp() < '$set_at'::timestamptz + interval '80 ms'") eq 't';
        $s->do($is_in_time ? 'COMMIT' : 'ROLLBACK');
        return @got if $is_in_time;
    }
    BAIL_OUT('never within 80 ms');
}

subtest 'max_in_flight' => sub {
    my $f = feed('flight', 20, "ordering => 'none', max_in_flight => 5");
    my $id = id($f);
    my ($t1, $e1) = claim($f, 3);
    my ($t2, $e2) = claim($f);
    is("$e1|$e2", '1 2 3|4 5', 'five in two leases');
    is((claim($f))[1], '', 'no more');
    is($s->do("SELECT count(*) FROM trunkline.claim_many('{$id}', '{10}') WHERE subscription_id = $id"), 0, 'nor for workers');
    is($s->do("SELECT pg_current_xact_id_if_assigned() FROM trunkline.claim_many('{$id}', '{10}')"), '', 'whose look writes nothing');
    cmp_ok($main->do("SELECT trunkline.next_due('{$id}')"), '>', 1_000_000, 'next_due: when a lease ends');
    ack($t1, 1, '[{"position": 1, "retry_after_us": 0}]');
    my ($t3, $e3) = claim($f);
    like($e3, qr/^[16]$/, 'one settled, one more: retries count');
    is((claim($f))[1], '', 'no more');
    expire($t2);
    my ($t4, $e4) = claim($f);
    is($e4, '4', 'one that is lost is in flight no more, and taken over alone');
    ack($t1);
    is((claim($f))[1], '5', 'the next of those');
    is(count((claim($f))[1]), 2, 'up to five again');
    $f = feed('flight_slots', 100, 'slots => 4, max_in_flight => 10');
    $s->do('BEGIN');
    is(count((claim($f, 7))[1]), 7, 'over all slots: seven');
    $other->start("SELECT count(*) FROM trunkline.claim('$f', 3, max_events => 7)");
    $other->wait_blocked;
    $s->do('COMMIT');
    is($other->finish, 3, 'a claim of another slot waits to see how many, and gets three');
};

subtest 'rate_limit' => sub {
    my $f = feed('rate', 100, "rate_limit => 10, on_failure => 'retry'");
    my $id = id($f);
    my @later = ('throttles', $id);
    my ($token, $got) = claim($f);
    is($got, join(' ', 1 .. 10), 'a burst of one second');
    ack($token, undef, '[{"position": 1, "retry_after_us": 0}]');
    is((timely(@later, '0 s', sub { claim($f) }))[1], '', 'then nothing');
    is((timely(@later, '0 s', sub { $s->do("SELECT count(*) FROM trunkline.claim_many('{$id}', '{10}') WHERE subscription_id = $id") }))[0], 0, 'nor for workers');
    my ($due) = timely(@later, '0 s', sub { $main->do("SELECT trunkline.next_due('{$id}')") });
    ok($due > 20_000 && $due <= 100_000, 'next_due: the next token, though a retry is due') or diag($due);
    ($token, $got) = timely(@later, '300 ms', sub { claim($f) });
    is($got, '1 11 12', 'three tenths later three, retries among them') or diag($got);
    ack($token);
    ($token, $got) = timely(@later, '1 h', sub { claim($f) });
    is(count($got), 10, 'an hour later no more than a second brings');
    $s->do("SELECT trunkline.release('$token')");
    ($token, $got) = timely(@later, '200 ms', sub { claim($f) });
    is(count($got), 2, 'what was handed back counts again');
    ack($token);
    $f = feed('slow', 5, 'rate_limit => 0.1');
    ($token, $got) = claim($f);
    is($got, '1', 'less than one a second: one at a time');
    $due = $main->do("SELECT trunkline.next_due('{" . id($f) . "}')");
    cmp_ok($due, '>', 2_000_000, 'and ten seconds between') if ack($token);
    $due = $main->do("SELECT trunkline.next_due('{" . id($f) . "}')");
    cmp_ok($due, '>', 1_000_000, 'next_due waits for it');
};

subtest 'drain' => sub {
    my $f = feed('drains', 6);
    my ($token) = claim($f, 2);
    is($s->do("SELECT trunkline.drain('$f')"), 6, 'up to here');
    more($f, 3);
    ack($token);
    ($token, my $got) = claim($f);
    is($got, '3 4 5 6', 'nothing that came later');
    ack($token, undef, '[{"position": 4, "retry_after_us": 0}]');
    ($token, $got) = claim($f);
    is($got, '4', 'retries too');
    is((claim($f))[1], '', 'while it is out');
    is($main->do("SELECT active, draining FROM trunkline.subscription_status WHERE name = '$f'"), 't|t', 'draining');
    ack($token);
    is($main->do("SELECT trunkline.next_due('{" . id($f) . "}')"), 0, 'next_due: now, to end it');
    is((claim($f))[1], '', 'a claim ends it');
    is($main->do("SELECT active, draining, pause_reason FROM trunkline.subscription_status WHERE name = '$f'"), 'f|f|drained', 'paused, and says why');
};

subtest 'a replay runs beside the live events' => sub {
    my $f = feed('again', 200);
    my $id = id($f);
    my ($token, $got) = claim($f, 1000);
    ack($token);
    is($s->do("SELECT events FROM trunkline.replay('$f', '50', '150')"), 100, 'a hundred once more');
    is($main->do("SELECT low FROM trunkline.low_water((SELECT topic_id FROM trunkline.topics WHERE name = '$f'))"), 50, 'which holds the log');
    is($main->do("SELECT trunkline.next_due('{$id}')"), 0, 'next_due: now');
    more($f, 200);
    my (%kind, @live, @old);
    for (1 .. 1000) {
        ($token, $got) = claim($f, 5);
        last if $token eq 'none';
        my @positions = split / /, $got;
        my $is_old = $positions[0] <= 200;
        $kind{$is_old ? 'old' : 'live'}++;
        $kind{mixed}++ if grep { ($_ <= 200) != $is_old } @positions;
        push @{$is_old ? \@old : \@live}, @positions;
        is($main->do("SELECT replay_id IS NOT NULL FROM trunkline.leases WHERE token = '$token'"), $is_old ? 't' : 'f', 'the lease says which') if $kind{$is_old ? 'old' : 'live'} == 1;
        my $cursor = $main->do("SELECT cursor FROM trunkline.cursors WHERE subscription_id = $id");
        die 'the live cursor moved' if $is_old && $cursor != ($live[-1] // 200);
        ack($token);
    }
    is("@old", join(' ', 51 .. 150), 'the replayed ones, once, in order');
    is("@live", join(' ', 201 .. 400), 'the live ones too');
    is($kind{mixed} // 0, 0, 'each lease is of one kind');
    is($main->do("SELECT count(*) FROM trunkline.replays WHERE subscription_id = $id"), 0, 'it is through');

    # neither starves the other
    more($f, 100);
    $s->do("SELECT trunkline.replay('$f', '0', '100')");
    my %turn = (0 => 0, 1 => 0);
    for (1 .. 40) {
        ($token, $got) = claim($f, 1);
        $turn{$got <= 200 ? 1 : 0}++;
        ack($token);
    }
    cmp_ok($turn{$_}, '>', 5, ($_ ? 'replayed' : 'live') . ' ones get their turns') for 0, 1;

    # a failure and a crash of replayed ones
    $main->do("DELETE FROM trunkline.replays; UPDATE trunkline.cursors SET cursor = 500 WHERE subscription_id = $id");
    $s->do("SELECT trunkline.replay('$f', '0', '10')");
    my $replay = $main->do("SELECT replay_id FROM trunkline.replays WHERE subscription_id = $id");
    ($token, $got) = claim($f, 3);
    is($got, '1 2 3', 'the first of another');
    ack($token, 2, '[{"position": 2, "error": "e"}]');
    is($main->do("SELECT \"position\", replay_id, key FROM trunkline.retries WHERE subscription_id = $id"), "2|$replay|k2", 'one fails');
    expire($token);
    ($token, $got) = claim($f, 10);
    is($got, '3', 'the rest is taken over');
    is($main->do("SELECT replay_id FROM trunkline.leases WHERE subscription_id = $id"), $replay, 'as part of the replay');
    ack($token);
    ($token, $got) = claim($f, 10);
    is($got, '4 5 6 8 9 10', 'what has its key waits');
    ack($token);
    more($f, 5);
    ($token, $got) = claim($f, 10);
    is($got, '501 503 504 505', 'live ones of its key as well');
    ack($token);
    $main->do('UPDATE trunkline.retries SET next_attempt_at = now() WHERE "position" = 2');
    ($token) = claim($f);
    ack($token);
    is((claim($f))[1], '7 502', 'and go on after it');
};

subtest 'a replay has its own rate' => sub {
    my $f = feed('gently', 100);
    my $id = id($f);
    my ($token, $got) = claim($f);
    ack($token);
    $s->do("SELECT trunkline.replay('$f', '0', rate => 10)");
    my @later = ('replays', $id);
    is((timely(@later, '0 s', sub { claim($f) }))[1], '', 'not yet');
    my ($due) = timely(@later, '0 s', sub { $main->do("SELECT trunkline.next_due('{$id}')") });
    ok($due > 20_000 && $due <= 100_000, 'next_due: when') or diag($due);
    ($token, $got) = timely(@later, '500 ms', sub { claim($f) });
    is($got, '1 2 3 4 5', 'five in half a second');
    ack($token);
    more($f, 3);
    is((timely(@later, '0 s', sub { claim($f) }))[1], '101 102 103', 'live events are not held up');
};

subtest 'a replay does not hand out what waits for another attempt' => sub {
    my $f = feed('twice', 5, "on_failure => 'retry'");
    my ($token) = claim($f);
    ack($token, undef, '[{"position": 3}]');
    $s->do("SELECT trunkline.replay('$f', '0')");
    ($token, my $got) = claim($f);
    is($got, '1 2 4 5', 'that comes anyway');
    is(ack($token, 2), 2, 'in parts');
    refuses($s, "SELECT trunkline.ack('$token', NULL, '[{\"position\": 3}]')", 'TL005', {field => 'failures', position => 3}, 'it is no part of the lease');
    is(ack($token), 2, 'counted without it');
};

subtest 'IDM-2: tracking' => sub {
    my $f = feed('tracked', 6, "track => 'all', max_attempts => 2");
    my $id = id($f);
    my $rows = sub { return join ' ', split /\n/, $main->do("SELECT format('%s:%s:%s', \"position\", state, attempts) FROM trunkline.deliveries WHERE subscription_id = $id ORDER BY \"position\"") };
    my ($token) = claim($f, 3);
    is($rows->(), '1:processing:1 2:processing:1 3:processing:1', 'claimed: processing');
    ack($token, 1);
    is($rows->(), '1:completed:1 2:processing:1 3:processing:1', 'done: completed');
    is($main->do("SELECT completed_at >= started_at, error_message IS NULL, event_id = (SELECT id FROM trunkline.topic_tracked WHERE \"position\" = 1) FROM trunkline.deliveries WHERE subscription_id = $id AND \"position\" = 1"), 't|t|t', 'with its times and its event');
    $s->do("SELECT trunkline.release('$token')");
    is($rows->(), '1:completed:1 2:retrying:0 3:retrying:0', 'handed back');
    ($token) = claim($f);
    ack($token, undef, '[{"position": 2.0, "error": "e"}, {"position": 3, "verdict": "skip"}]');
    is($rows->(), '1:completed:1 2:retrying:1 3:skipped:1', 'failed, skipped') or diag($rows->());
    ($token) = claim($f);
    ack($token, undef, '[{"position": 4, "verdict": "fail", "error": "no"}]');
    is($rows->(), '1:completed:1 2:retrying:1 3:skipped:1 4:failed:1 5:completed:1 6:completed:1', 'rejected');
    is($main->do("SELECT state, error_message FROM trunkline.deliveries WHERE subscription_id = $id AND error_message IS NOT NULL ORDER BY \"position\""), "retrying|e\nfailed|no", 'with their errors');
    $main->do("UPDATE trunkline.retries SET next_attempt_at = now() WHERE subscription_id = $id");
    ($token) = split /\|/, $s->do("SELECT DISTINCT token FROM trunkline.claim_many('{$id}', '{10}') WHERE subscription_id = $id");
    is((split / /, $rows->())[1], '2:processing:2', 'tried again, by a worker');
    ack($token, undef, '[{"position": 2, "error": "e2"}]');
    is((split / /, $rows->())[1], '2:failed:2', 'attempts used up: failed');
    $main->do("SELECT trunkline.publish('t', '1', '$f', expires_at => clock_timestamp() - interval '1 s')");
    claim($f);
    is($main->do("SELECT state FROM trunkline.deliveries WHERE subscription_id = $id AND \"position\" = 7"), 'expired', 'expired before anybody had it');
    $f = feed('untracked', 3);
    ($token) = claim($f);
    ack($token);
    is($main->do("SELECT count(*) FROM trunkline.deliveries WHERE subscription_id = " . id($f)), 0, 'track none: no rows');
};

subtest 'rates next to nothing' => sub {
    my $f = feed('glacial', 3, "ordering => 'none', rate_limit => 1e-300");
    is((claim($f))[1], '1', 'one at once');
    for my $case (['rate_limit', 0], ['replay', 1]) {
        $main->do("SELECT trunkline.subscribe('$f', '**', '$f', ordering => 'none')") if $case->[1];
        $main->do("SELECT trunkline.reset('$f', 'end'), trunkline.replay('$f', 'beginning', rate => 1e-300)") if $case->[1];
        cmp_ok($main->do("SELECT trunkline.next_due('{" . id($f) . "}') / 86400000000"), '>', $case->[1] ? 10 : -1, "$case->[0]: the next one is far away");
    }
    my $t = (claim(feed('glacial_dead', 3, "ordering => 'none'")))[0];
    ack($t, 'NULL', join ',', '[{"position": 1, "verdict": "fail"}', '{"position": 2, "verdict": "fail"}', '{"position": 3, "verdict": "fail"}]');
    is($main->do("SELECT trunkline.redrive(subscription => 'glacial_dead', rate => 1e-300)"), 3, 'redrive');
};

done_testing;
