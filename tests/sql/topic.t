#!/usr/bin/perl
# TOP-1, TOP-2: topics: made, changed, dropped; immutable; rotated; retired; maintained without stopping anybody.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($s, $other, $third) = map { session() } 1 .. 3;
use constant LEAF => 1 << 30;

sub maintain {
    my ($topic) = @_;
    return $s->do('SELECT action, object, detail FROM trunkline.maintain()' . ($topic ? " WHERE object = '$topic'" : ''));
}
sub leaves { return $s->do("SELECT string_agg(leaf::text, ' ' ORDER BY leaf) FROM trunkline.leaves JOIN trunkline.topics USING (topic_id) WHERE name = '$_[0]'") }
# The owner may name a time.
sub publish_at { $s->do("INSERT INTO trunkline.topic_$_[0] (type, data, created_at) VALUES ('e', '1', now() - interval '$_[1]')") }

subtest 'the two that are there' => sub {
    is($s->do('SELECT topic_id, name, durability, rotation, retention, max_event_bytes, dedup_window FROM trunkline.topics ORDER BY 1'),
        "1|bus|logged|day|7 days|1048576|1 day\n2|store|logged|none||1048576|", 'bus and store');
    is(maintain(), '', 'nothing to maintain');
};

subtest 'create_topic' => sub {
    is($s->do("SELECT trunkline.create_topic('orders')"), 3, 'the next number');
    is(leaves('orders'), '0 1 2', 'a leaf and two ahead');
    is($s->do("SELECT last_position, leaves, bytes > 0 FROM trunkline.topic_status WHERE topic = 'orders'"), '0|3|t', 'status');
    like($s->do("SELECT obj_description('trunkline.topic_orders'::regclass), obj_description('trunkline.leaf_orders_1'::regclass)"),
        qr/^Topic orders: INSERT.*\|Leaf 1 of topic orders: positions \[1073741824, 2147483648\)\.$/, 'table and leaf say what they are');
    is($s->do("SELECT is_insertable_into FROM information_schema.tables WHERE table_name = 'topic_orders'"), 'YES', 'a table');
    $s->do("SELECT trunkline.create_topic('settings', 'unlogged', 'month', '3 days', 2048, '2 h')");
    is($s->do("SELECT durability, rotation, retention, max_event_bytes, dedup_window FROM trunkline.topic_status WHERE topic = 'settings'"), 'unlogged|month|3 days|2048|02:00:00', 'every setting');
    is($s->do("SELECT relpersistence, count(*) FROM pg_class WHERE relname LIKE 'leaf_settings_%' GROUP BY 1"), 'u|6', 'unlogged: its leaves and their indexes are');
    my $long = 'l' x 40;
    is($s->do("SELECT trunkline.create_topic('$long'); SELECT trunkline.add_leaf('$long', (1::bigint << 33) - 2); SELECT count(*) FROM trunkline.publish('a', '1', '$long')"), "5\nt\n1", 'the longest name');
    $s->do("SELECT trunkline.drop_topic('$long')");
    $s->do('SET search_path = pg_temp; SELECT trunkline.create_topic(\'elsewhere\'); RESET search_path');
    is($s->do('SELECT "position" FROM trunkline.publish(\'a\', \'1\', \'elsewhere\')'), 1, 'whatever the search_path');

    $s->do("BEGIN; SELECT trunkline.create_topic('undone')");
    $other->start("SELECT trunkline.create_topic('second')");
    $other->wait_blocked;
    $s->do('ROLLBACK');
    is($other->finish, 6, 'two at once: one after the other, the number is used again');
};

subtest 'writing to the table' => sub {
    is($s->do(qq(COPY trunkline.topic_orders (type, data, key) FROM STDIN;\na.b\t{"n": 1}\tk\na.c\t2\t\\N\n\\.\nSELECT string_agg(type || data::text, ' ' ORDER BY "position") FROM trunkline.topic_orders)), 'a.b{"n": 1} a.c2', 'COPY');
    is($s->do(q(INSERT INTO trunkline.topic_orders (type, data) SELECT 'bulk', to_jsonb(i) FROM generate_series(1, 1000) i RETURNING "position" - data::bigint)) =~ s/\n.*//sr, 2, 'INSERT SELECT keeps the order');
    is($s->do("SELECT count(DISTINCT \"position\" - data::bigint) FROM trunkline.topic_orders WHERE type = 'bulk'"), 1, 'for every row');
    $s->do("INSERT INTO trunkline.topic_orders (type, data) SELECT 'sorted', to_jsonb(i) FROM generate_series(1, 100) i ORDER BY i % 10, i DESC");
    is($s->do("SELECT string_agg(data::text, ' ' ORDER BY \"position\") = (SELECT string_agg(i::text, ' ' ORDER BY i % 10, i DESC) FROM generate_series(1, 100) i) FROM trunkline.topic_orders WHERE type = 'sorted'"), 't', 'one of its own too');
    is($s->do("SELECT count(*) FROM trunkline.read('orders', max_events => 10000)"), 1102, 'readable');
};

subtest 'events are immutable, for the owner too' => sub {
    for my $table (qw(events topic_orders leaf_orders_0 leaf_orders_2)) {
        for my $change ("UPDATE trunkline.$table SET type = 'x'", "DELETE FROM trunkline.$table", "TRUNCATE trunkline.$table",
            "DELETE FROM trunkline.$table WHERE false") {
            is($s->error($change)->{state}, '42501', $change);
        }
    }
    my $error = $s->error('DELETE FROM trunkline.topic_orders');
    like("$error->{message} $error->{detail}", qr/events are immutable \{"table": "topic_orders", "operation": "DELETE"\}/, 'says so');
    is($s->error('INSERT INTO trunkline.topic_orders (type, data) VALUES (\'a\', \'1\') ON CONFLICT ("position", topic_id) DO UPDATE SET type = \'b\'')->{state}, '42501', 'ON CONFLICT DO UPDATE');
};

subtest 'max_event_bytes' => sub {
    my $send = sub { return "SELECT trunkline.publish('size', to_jsonb(repeat('x', $_[0])), 'orders')" };
    my $insert = sub { return "INSERT INTO trunkline.topic_orders (type, data) VALUES ('size', to_jsonb(repeat('x', $_[0])))" };
    $s->do($send->(1048000));
    refuses($s, $send->(1048577), 'TL007', {field => 'data', limit => 1048576}, 'over the limit: publish');
    is($s->error($insert->(1048577))->{'constraint name'}, 'event_size', 'over the limit: INSERT');
    $s->do("SELECT trunkline.set_topic('orders', 'none', NULL, 2048, NULL)");
    refuses($s, $send->(2100), 'TL007', {field => 'data', limit => 2048}, 'lowered: publish');
    is($s->error($insert->(2100))->{state}, '23514', 'lowered: INSERT');
    $s->do($send->(1900));
    is($s->do("SELECT count(*) FROM trunkline.topic_orders WHERE pg_column_size(data) > 2048"), 1, 'larger ones from before stay');
    $s->do("SELECT trunkline.set_topic('orders', 'none', NULL, 4096, NULL)");
    $s->do($insert->(3000));
    pass('raised');
    $s->do("SELECT trunkline.add_leaf('orders', 9)");
    is($s->do("SELECT pg_get_constraintdef(oid) ~ '4096' FROM pg_constraint WHERE conname = 'event_size' AND conrelid = 'trunkline.leaf_orders_9'::regclass"), 't', 'a later leaf has it');
    # both ways agree on the very byte
    my $edge = $s->do("SELECT max(n) FROM generate_series(1800, 4096) n WHERE pg_column_size(to_jsonb(repeat('x', n))) <= 4096");
    $s->do($send->($edge));
    $s->do($insert->($edge));
    is($s->error($send->($edge + 1))->{state}, 'TL007', 'a byte more: publish');
    is($s->error($insert->($edge + 1))->{state}, '23514', 'a byte more: INSERT');
    is($s->error("INSERT INTO trunkline.topic_orders (type, data, metadata) VALUES ('size', '1', jsonb_build_object('m', repeat('y', 66000)))")->{'constraint name'}, 'event_metadata', 'metadata has a limit of its own: INSERT');
    refuses($s, "SELECT trunkline.publish('size', '1', metadata => jsonb_build_object('m', repeat('y', 66000)))", 'TL007', {field => 'metadata', limit => 65536}, 'and publish');
};

subtest 'the largest limit of all is in the domain of data, lower ones are CHECKs' => sub {
    my $limits = q(SELECT string_agg(coalesce(conrelid::regclass::text, 'domain') || ' ' || substring(pg_get_constraintdef(oid) FROM '<= (\d+)'), ', ' ORDER BY conrelid::regclass::text)
        FROM pg_constraint WHERE conname = 'event_size' AND conrelid::regclass::text !~ 'leaf' AND conrelid::regclass::text !~ 'settings');
    my $others = 'trunkline.topic_orders 4096';
    my $all = join ', ', map { "trunkline.topic_$_ 1048576" } qw(bus elsewhere);
    my $insert = sub { return "INSERT INTO trunkline.topic_$_[0] (type, data) VALUES ('size', to_jsonb(repeat('x', $_[1])))" };
    is($s->do($limits), "- 1048576, $others", 'a topic with the default limit has none');
    $s->do("SELECT trunkline.create_topic('huge', max_event_bytes => 2000000)");
    is($s->do($limits), "- 2000000, $all, $others, trunkline.topic_second 1048576, trunkline.topic_store 1048576", 'one with more: the domain gives way, the others have one');
    $s->do($insert->('huge', 1990000));
    is($s->error($insert->(@$_))->{'constraint name'}, 'event_size', "$_->[0]: its own limit") for [huge => 2000001], [bus => 1048577], [orders => 4097];
    refuses($s, "SELECT trunkline.publish('size', to_jsonb(repeat('x', 1048577)))", 'TL007', {field => 'data', limit => 1048576}, 'publish: too');
    $s->do("SELECT trunkline.set_topic('huge', 'none', NULL, 1500000, NULL)");
    like($s->do($limits), qr/^- 1500000, trunkline.topic_bus 1048576/, 'lowered');
    is($s->error($insert->(huge => 1500001))->{'constraint name'}, 'event_size', 'and holds');
    is($s->do('SELECT max(pg_column_size(data::text)) > 1500000 FROM trunkline.topic_huge'), 't', 'larger ones from before can be read');

    # nothing slips in between: it waits for those who publish, who wait for it
    $other->do("BEGIN; " . $insert->('bus', 10));
    $s->start("SELECT trunkline.set_topic('huge', 'none', NULL, 1048576, NULL)");
    $s->wait_blocked;
    $other->do('COMMIT');
    is($s->finish, '', 'lowered to that of the others, once nobody publishes');
    is($s->do($limits), "- 1048576, $others", 'no CHECK is left');
    $s->do("SELECT trunkline.set_topic('huge', 'none', NULL, 3000000, NULL)");
    is($other->error($insert->(bus => 1048577))->{'constraint name'}, 'event_size', 'a session that published before knows');
    is($other->error($insert->(huge => 2900000))->{state}, 'none', 'both');
    $s->do("SELECT trunkline.drop_topic('huge')");
    is($s->do($limits), "- 1048576, $others", 'dropped');
};

subtest 'drop_topic' => sub {
    $s->do("SELECT trunkline.create_topic('dying'); SELECT trunkline.publish('a', '1', 'dying', event_id => gen_random_uuid()); SELECT trunkline.subscribe('watcher', '**', 'dying', start_at => 'beginning')");
    refuses($s, "SELECT trunkline.drop_topic('dying')", 'TL001', {field => 'name', subscription => 'watcher'}, 'while it has subscriptions');
    my $token = $s->do("SELECT token FROM trunkline.claim('watcher')");
    $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 1, \"verdict\": \"fail\"}]'); SELECT trunkline.drop_topic('dying', true)");
    is($s->do("SELECT count(*) FROM pg_class WHERE relname ~ 'dying'"), 0, 'forced: no table, leaf, index or sequence is left');
    is($s->do("SELECT (SELECT count(*) FROM trunkline.dedup) + (SELECT count(*) FROM trunkline.subscriptions) + (SELECT count(*) FROM trunkline.leaves WHERE topic_id NOT IN (SELECT topic_id FROM trunkline.topics))"), 0, 'no row either');
    is($s->do("SELECT event ->> 'type' FROM trunkline.dead_letters WHERE topic = 'dying'"), 'a', 'but the dead letter');
    refuses($s, "SELECT trunkline.publish('a', '1', 'dying')", 'TL002', {field => 'topic'}, 'publishing: no such topic');
    is($s->error("INSERT INTO trunkline.topic_dying (type, data) VALUES ('a', '1')")->{state}, '42P01', 'INSERT: no such table');
    is($s->do("SELECT trunkline.create_topic('dying'); SELECT count(*) FROM trunkline.read('dying')") =~ s/.*\n//sr, 0, 'made again, it is empty');
};

subtest 'drop_topic while others read and publish' => sub {
    for my $case (['reads', "SELECT trunkline.horizon('busy')", 'SELECT count(*) FROM trunkline.topic_busy'],
        ['publishes', 'SELECT count(*) FROM trunkline.topic_busy', "SELECT count(*) FROM trunkline.publish('b', '2', 'busy')"]) {
        my ($who, $first, $then) = @$case;
        $s->do("SELECT trunkline.create_topic('busy'); SELECT trunkline.publish('a', '1', 'busy')");
        $other->do("BEGIN; $first");
        $s->start("SELECT trunkline.drop_topic('busy')");
        $s->wait_blocked;
        is($other->do($then), 1, "who $who goes on");
        $other->do('COMMIT');
        $s->finish;
        is($s->{error}, undef, 'then it is dropped');
    }
    is($s->do('SHOW lock_timeout'), '0', 'whoever drops has the lock_timeout that it had');
    $s->do("SELECT trunkline.create_topic('busy')");
    $other->do('BEGIN; SELECT count(*) FROM trunkline.topic_busy');
    is($s->error("BEGIN; SET LOCAL lock_timeout = '400ms'; SELECT trunkline.drop_topic('busy')")->{state}, '55P03', 'and waits no longer than that says');
    $s->do('ROLLBACK');
    $other->do('COMMIT');
    $s->do("BEGIN; SET LOCAL lock_timeout = '7s'; SELECT trunkline.drop_topic('busy')");
    is($s->do('SHOW lock_timeout'), '7s', 'which stays as it was');
    $s->do('COMMIT');
};

subtest 'rotation' => sub {
    for my $unit (['hour', '61 min'], ['day', '25 h'], ['month', '32 days']) {
        my ($rotation, $old) = @$unit;
        my $t = "by_$rotation";
        $s->do("SELECT trunkline.create_topic('$t', rotation => '$rotation')");
        is(maintain($t), '', "$rotation: an empty topic stays");
        $s->do("SELECT trunkline.publish('e', '1', '$t')");
        is(maintain($t), '', "$rotation: a young leaf stays");
        $s->do("SELECT trunkline.drop_topic('$t'); SELECT trunkline.create_topic('$t', rotation => '$rotation')");
        publish_at($t, $old);
        like(maintain($t), qr/^rotated\|$t\|to leaf 1$/m, "$rotation: an old one is left");
        is($s->do("SELECT \"position\" FROM trunkline.publish('e', '1', '$t')"), LEAF + 1, "$rotation: the next event is in the next");
        is(maintain($t), "made|$t|leaf 3", "$rotation: then a second one ahead");
        is(maintain($t), '', "$rotation: that is all");
    }
    $s->do("SELECT trunkline.create_topic('full', rotation => 'hour')");
    publish_at('full', '3 h');
    $s->do("SELECT setval('trunkline.position_full', " . (LEAF - 10) . ')');
    is(maintain('full'), '', 'a leaf that is nearly full turns over by itself');
    $s->do("SELECT trunkline.publish('e', '1', 'full') FROM generate_series(1, 20)");
    is($s->do("SELECT count(*), max(\"position\") FROM trunkline.read('full')"), '21|' . (LEAF + 10), 'without a jump, across the border');
    $s->do("SELECT setval('trunkline.position_full', " . 3 * LEAF . ')');
    is(maintain('full'), "made|full|leaf 3\nmade|full|leaf 4\nmade|full|leaf 5", 'leaves ahead follow');
};

subtest 'retention' => sub {
    my $t = 'kept';
    $s->do("SELECT trunkline.create_topic('$t', rotation => 'hour', retention => '1 day')");
    $s->do("SELECT trunkline.subscribe('slow', '**', '$t'); SELECT trunkline.subscribe('quick', '**', '$t')");
    publish_at($t, '30 h') for 1 .. 3;
    like(maintain($t), qr/rotated/, 'leaf 0 is left');
    publish_at($t, '20 h');
    like(maintain($t), qr/rotated\|$t\|to leaf 2/, 'leaf 1 too');
    like(maintain($t), qr/made/, 'leaves ahead');
    is(maintain($t), "held|$t|leaf 0 is past retention, subscription \"quick\" still needs position 1", 'held for who has not read');
    $s->do("SELECT trunkline.ack(token) FROM (SELECT DISTINCT token FROM trunkline.claim('quick')) c");
    my $token = $s->do("SELECT DISTINCT token FROM trunkline.claim('slow')");
    like(maintain($t), qr/^held\|$t\|.*"slow" still needs position 1$/, 'held for a lease in flight');
    $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 2}]')");
    like(maintain($t), qr/^held\|$t\|.*"slow" still needs position 2$/, 'held for a retry');
    $s->do('UPDATE trunkline.retries SET next_attempt_at = now()');
    $token = $s->do("SELECT DISTINCT token FROM trunkline.claim('slow')");
    like(maintain($t), qr/^held\|/, 'held while that is being tried');
    $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 2, \"verdict\": \"fail\"}]')");
    like(maintain($t), qr/^dropped\|$t\|leaf 0, newest event of /, 'then dropped');
    is(leaves($t) =~ s/ .*//r, 1, 'leaf 1 is young enough');
    is(maintain($t), '', 'and stays');
    is($s->do("SELECT count(*) FROM trunkline.read('$t')"), 1, 'its event is there');
    is($s->do("SELECT count(*) FROM trunkline.dead_letters WHERE topic = '$t'"), 1, 'the dead letter of the other has its copy');
    is($s->do("SELECT cursor FROM trunkline.subscription_status WHERE name = 'slow'; SELECT trunkline.subscribe('new', '**', '$t', start_at => 'beginning'); SELECT type FROM trunkline.claim('new')") =~ s/.*\n//sr, 'e', 'a new subscription begins with what is left');
    refuses($s, "SELECT trunkline.subscribe('older', '**', '$t', start_at => '2')", 'TL005', {field => 'start_at', lowest => LEAF - 1}, 'and cannot begin with what is gone');

    $s->do("SELECT trunkline.unsubscribe('new', true); SELECT trunkline.unsubscribe('slow', true); SELECT trunkline.unsubscribe('quick', true)");
    $other->do("BEGIN; SELECT trunkline.publish('e', '1', '$t'); COMMIT");
    $s->do("SELECT trunkline.set_topic('$t', 'hour', '19 h', 1048576, NULL)");
    like(maintain($t), qr/^dropped\|$t\|leaf 1/, 'nobody subscribed: nobody to wait for');
    is(maintain($t), '', 'the current leaf is never dropped');
};

subtest 'maintain() waits for nobody' => sub {
    my $t = 'steady';
    $s->do("SELECT trunkline.create_topic('$t', retention => '1 h', rotation => 'hour')");
    publish_at($t, '5 h');
    # a reader that goes on for long
    $other->do("BEGIN; SELECT count(*) FROM trunkline.topic_$t");
    my $out = maintain($t);
    like($out, qr/^rotated\|$t\|to leaf 1\n(?s:.*)^skipped\|$t\|canceling statement due to lock timeout$/m, 'it rotates; dropping is left to the next run');
    is($s->do(q(SELECT proconfig @> '{lock_timeout=50ms}' FROM pg_proc WHERE oid = 'trunkline.maintain'::regproc)), 't', 'after 50 ms');
    is($third->do("SELECT count(*) FROM trunkline.publish('e', '1', '$t')"), 1, 'publishers go on');
    # making a leaf needs no such lock
    $s->do("SELECT setval('trunkline.position_$t', " . 2 * LEAF . ')');
    like(maintain($t), qr/^made\|$t\|leaf 3\nmade\|$t\|leaf 4$/m, 'leaves are made beside the reader');
    $third->do("BEGIN; SELECT trunkline.publish('e', '1', '$t')");
    $s->do("SELECT setval('trunkline.position_$t', " . 3 * LEAF . ')');
    is($s->do("SELECT trunkline.add_leaf('$t', 6)"), 't', 'and beside a publisher in flight');
    $_->do('COMMIT') for $other, $third;
    like(maintain($t), qr/^dropped\|$t\|leaf 0/m, 'the next run drops');

    $other->do('BEGIN; SELECT trunkline.maintain()');
    is(maintain(), 'skipped|maintain|another session is at it', 'two at once: the second does nothing');
    $other->do('COMMIT');

    # one leaf a call, last: it locks the topic until the end
    $s->do("SELECT trunkline.create_topic('two_$_', retention => '1 h', rotation => 'hour')") for 1, 2;
    publish_at("two_$_", '5 h') for 1, 2;
    is(scalar(() = maintain() =~ /^dropped/mg), 1, 'one leaf is dropped a call');
    is(scalar(() = maintain() =~ /^dropped/mg), 1, 'the other one in the next');

    # a topic in disorder does not stop the others
    $s->do("ALTER TABLE trunkline.topic_two_1 DETACH PARTITION trunkline.leaf_two_1_1; DROP TABLE trunkline.leaf_two_1_1; SELECT setval('trunkline.position_two_2', " . 3 * LEAF . ')');
    $out = maintain();
    like($out, qr/^failed\|two_1\|42P01: /m, 'a topic that is broken is reported');
    like($out, qr/^made\|two_2\|leaf 5$/m, 'the others are maintained');
};

done_testing;
