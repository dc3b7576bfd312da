#!/usr/bin/perl
# SUB-1: subscribe() and unsubscribe(): where reading starts, idempotence, concurrency.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($a, $b) = map { session() } 1 .. 2;

sub first { return $a->do("SELECT coalesce(min(type), 'none') FROM trunkline.claim('$_[0]')") }

subtest 'start_at' => sub {
    $a->do("SELECT trunkline.create_topic('t')");
    my $subscribe = sub { return $a->do("SELECT trunkline.subscribe('$_[0]', '**', 't', start_at => '$_[1]')") };
    $subscribe->('empty/end', 'end');
    $subscribe->('empty/beginning', 'beginning');
    $subscribe->('empty/zero', '0');
    $a->do("INSERT INTO trunkline.topic_t (type, data, created_at) SELECT 'e' || i, '1', timestamptz '2026-01-01 00:00:00+00' + i * interval '1 h' FROM generate_series(1, 9) i");
    is(first($_), 'e1', "$_ of an empty topic: the first to come") for qw(empty/end empty/beginning empty/zero);
    $subscribe->('end', 'end');
    is(first('end'), 'none', 'end: nothing yet');
    $subscribe->('beginning', 'beginning');
    is(first('beginning'), 'e1', 'beginning: all');
    $subscribe->('position', '4');
    is(first('position'), 'e5', 'a position: events after it');
    $subscribe->('last', '9');
    is(first('last'), 'none', 'the last position');
    $subscribe->('time', '2026-01-01 05:30:00+00');
    is(first('time'), 'e6', 'a time: events from then on');
    $subscribe->('exact', '2026-01-01T05:00:00Z');
    is(first('exact'), 'e5', 'the very time of an event is included');
    $subscribe->('before', '1999-12-31');
    is(first('before'), 'e1', 'before all');
    $subscribe->('after', '2026-01-01 23:00:00+00');
    is(first('after'), 'none', 'after all');
    $a->do("SELECT trunkline.publish('new', '1', 't')");
    is(first($_), 'new', "$_ gets what comes") for qw(end last);

    $b->do("BEGIN; SELECT trunkline.publish('flight', '1', 't')");
    $a->do("SELECT trunkline.publish('late', '1', 't')");
    $subscribe->('inflight', 'end');
    $b->do('COMMIT');
    is(first('inflight'), 'flight', 'end is the safe horizon, not the last value: an event in flight is not lost');

    # gaps between positions, several leaves
    $a->do("SELECT trunkline.create_topic('gaps')");
    for my $leaf (0 .. 2) {
        $a->do("SELECT setval('trunkline.position_gaps', ($leaf)::bigint << 30)") if $leaf;
        $a->do("INSERT INTO trunkline.topic_gaps (type, data, created_at) SELECT 'l$leaf.' || i, '1', timestamptz '2026-01-01 12:00Z' + $leaf * interval '1 day' FROM generate_series(1, 3) i");
    }
    $a->do("SELECT trunkline.subscribe('gaps/$_', '**', 'gaps', start_at => '2026-01-0$_ 00:00Z')") for 1 .. 4;
    is(join(' ', map { first("gaps/$_") } 1 .. 4), 'l0.1 l1.1 l2.1 none', 'by time over leaves a billion apart');
};

subtest 'the same call twice' => sub {
    my $call = q(SELECT trunkline.subscribe('twice', 'a.*', filter => '{"a": 1}', filter_path => '$.b > 1', tenant_id => 't', target => 'https://example.org/', start_at => 'beginning'));
    my $id = $a->do($call);
    my $row = $a->do("SELECT * FROM trunkline.subscriptions WHERE name = 'twice'");
    is($a->do($call), $id, 'is one subscription');
    is($a->do("SELECT * FROM trunkline.subscriptions WHERE name = 'twice'"), $row, 'untouched, updated_at too');
    is($a->do("SELECT trunkline.subscribe('twice', 'b.*', priority => 9, ordering => 'none', start_at => 'end', max_attempts => 3, retry_delay => '2 s', retry_cap => '3 s')"), $id, 'other values');
    is($a->do("SELECT pattern, tenant_id, filter, filter_path, target, priority, ordering, max_attempts, retry_delay, retry_cap, updated_at > created_at FROM trunkline.subscriptions WHERE name = 'twice'"),
        'b.*|||||9|none|3|00:00:02|00:00:03|t', 'change it');
    is($a->do("SELECT cursor FROM trunkline.subscription_status WHERE name = 'twice'"), 0, 'but not where it is');
    refuses($a, "SELECT trunkline.subscribe('twice', 'b.*', 'store')", 'TL005', {field => 'topic'}, 'nor its topic');
};

subtest 'two sessions at once' => sub {
    for my $end ('COMMIT', 'ROLLBACK') {
        $a->do("BEGIN; SELECT trunkline.subscribe('both $end', 'a')");
        $b->start("SELECT trunkline.subscribe('both $end', 'b')");
        $b->wait_blocked;
        $a->do($end);
        like($b->finish, qr/^\d+$/, "$end: the second has its number");
        is($a->do("SELECT count(*), min(pattern) FROM trunkline.subscriptions WHERE name = 'both $end'"), '1|b', "$end: one subscription");
        is($a->do("SELECT count(*) FROM trunkline.cursors JOIN trunkline.subscriptions USING (subscription_id) WHERE name = 'both $end'"), 1, "$end: one cursor");
    }
};

subtest 'unsubscribe' => sub {
    $a->do("SELECT trunkline.subscribe('leaving', 'z', start_at => 'beginning'); SELECT trunkline.publish('z', '1'), trunkline.publish('z', '1'), trunkline.publish('z', '1')");
    my $token = $a->do("SELECT DISTINCT token FROM trunkline.claim('leaving')");
    my $p = $a->do("SELECT min(\"position\") FROM trunkline.topic_bus WHERE type = 'z'");
    $a->do("SELECT trunkline.ack('$token', $p + 1, '[{\"position\": $p, \"verdict\": \"fail\"}, {\"position\": " . ($p + 1) . "}]')");
    $a->do("SELECT trunkline.unsubscribe('leaving', true)");
    my $tables = join ' + ', map { "(SELECT count(*) FROM trunkline.$_ x WHERE NOT EXISTS (SELECT FROM trunkline.subscriptions s WHERE s.subscription_id = x.subscription_id))" } qw(cursors leases retries);
    is($a->do("SELECT $tables"), 0, 'cursor, leases and retries go with it');
    is($a->do("SELECT subscription, subscription_id IS NULL, event ->> 'type' FROM trunkline.dead_letters"), 'leaving|t|z', 'its dead letters stay');
    refuses($a, "SELECT trunkline.unsubscribe('leaving')", 'TL002', {field => 'name'}, 'again: not there');
    refuses($a, 'SELECT trunkline.unsubscribe(NULL)', 'TL002', {field => 'name'}, 'NULL');
    $a->do("SELECT trunkline.subscribe('leaving', 'z')");
    is(first('leaving'), 'none', 'made again, it starts afresh');
};

subtest 'changing a subscription does not hold up its claims' => sub {
    my ($changer, $claimer) = map { session() } 1, 2;
    $changer->do("SELECT trunkline.create_topic('busy'); SELECT trunkline.subscribe('busy', '**', 'busy'); SELECT trunkline.publish('t', '1', 'busy')");
    $changer->do("BEGIN; SELECT trunkline.subscribe('busy', '**', 'busy', priority => 7)");
    is($claimer->do("SET lock_timeout = '5 s'; SELECT count(*) FROM trunkline.claim('busy')"), 1, 'a claim while subscribe() is not committed');
    $changer->do('COMMIT');
};

done_testing;
