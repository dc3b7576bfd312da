#!/usr/bin/perl
# EVS-6 to EVS-13: reads of streams, categories and topics, by id and from a time, and position tokens.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $db = database();
my $s = session();

# events of a stream as [{"type": ..., "data": n}, ...]
sub events { my ($type, $from, $to) = @_; return "(SELECT jsonb_agg(jsonb_build_object('type', '$type', 'data', v)) FROM generate_series($from, $to) v)" }
sub append { my ($stream, $from, $to, $more) = @_; $s->do("SELECT count(*) FROM trunkline.append('$stream', " . events('e.t', $from, $to) . ($more // '') . ')'); return }
# what a read gives, in short
sub got { my ($call, $what) = @_; return $s->do('SELECT coalesce(string_agg(' . ($what // 'r.version::text') . ", ' ' ORDER BY r.ordinality), '') FROM trunkline.$call WITH ORDINALITY r") }

$s->do("SELECT trunkline.create_topic('own', streams => true, dedup_window => NULL), trunkline.create_topic('plain')");

# topic store has statements of its own, other topics are read by EXECUTE: the same answers from both
for my $topic (qw(store own)) {
    my $t = "topic => '$topic'";
    subtest "EVS-6 a stream of topic $topic" => sub {
        append('order-1', 1, 6, ", $t");
        append('order-2', 1, 3, ", $t");
        append('order-1', 7, 12, ", $t");
        append('orders-1', 1, 2, ", $t");
        append('order', 1, 2, ", $t");
        is(got("read_stream('order-1', $t)"), join(' ', 1 .. 12), 'all of it');
        is(got("read_stream('order-1', $t)", 'r.data::text'), join(' ', 1 .. 12), 'the data');
        is(got("read_stream('order-1', 3, $t)"), join(' ', 4 .. 12), 'after is exclusive');
        is(got("read_stream('order-1', 3, 5, $t)"), '4 5', 'upto is inclusive');
        is(got("read_stream('order-1', NULL, NULL, 2, $t)"), '1 2', 'a limit');
        is(got("read_stream('order-1', 2, 9, 3, $t)"), '3 4 5', 'all together');
        is(got("read_stream('order-1', 12, $t)"), '', 'at the end');
        is(got("read_stream('order-1', 5, 3, $t)"), '', 'an empty range');
        is(got("read_stream('order-1', 0, NULL, 3, 'backward', $t)"), '12 11 10', 'backward from the end');
        is(got("read_stream('order-1', 10, NULL, 3, 'backward', $t)"), '9 8 7', 'backward pages on');
        is(got("read_stream('order-1', 5, 3, direction => 'backward', $t)"), '4 3', 'backward down to upto');
        is(got("read_stream('order-1', 1, direction => 'backward', $t)"), '', 'backward at the beginning');
        is(got("read_stream('order-1', 99, max_events => 2, direction => 'backward', $t)"), '12 11', 'backward from beyond the end');
        my $columns = 'x."position", x.id, x.type, x.source, x.stream, x.version, x.key, x.tenant_id, x.data, x.metadata, x.expires_at, x.created_at';
        is($s->do("SELECT $columns FROM trunkline.read_stream('order-2', $t) x"),
            $s->do("SELECT $columns FROM trunkline.topic_$topic x WHERE stream = 'order-2' ORDER BY version"), 'PUB-2 all columns as stored');
        is(got("read_stream('order-9', $t)"), '', 'absent: no row');
        is($s->do("SELECT trunkline.stream_version('order-9', '$topic')"), 0, 'and version 0');
        is($s->do("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM trunkline.read_stream('order-1', $t); COMMIT"), 12, 'a stream needs no horizon, so any isolation level');
        is($s->do("BEGIN; SELECT version FROM trunkline.append('order-3', '{\"type\": \"e\"}', $t); SELECT count(*) FROM trunkline.read_stream('order-3', $t); ROLLBACK"),
            "1\n1", 'one\'s own before commit');
    };

    subtest "EVS-11 limits and mistakes, topic $topic" => sub {
        for my $call ("read_stream('order-1', max_events => %s, $t)", "read_category('order', max_events => %s, $t)", "load_stream('order-1', max_events => %s, $t)",
            "read('$topic', max_events => %s)") {
            refuses($s, 'SELECT * FROM trunkline.' . sprintf($call, $_), 'TL005', {field => 'max_events', limit => 10000}) for 0, 10001, -1, 'NULL';
            is($s->error('SELECT * FROM trunkline.' . sprintf($call, 10000))->{state}, 'none', sprintf($call, 10000));
        }
        refuses($s, "SELECT * FROM trunkline.read_stream('order-1', direction => 'sideways', $t)", 'TL005', {field => 'direction'});
        refuses($s, "SELECT * FROM trunkline.read_stream('order-1', direction => NULL, $t)", 'TL005', {field => 'direction'});
        refuses($s, "SELECT * FROM trunkline.read_stream('order-1', -1, $t)", 'TL005', {field => 'after', limit => 0});
        refuses($s, "SELECT * FROM trunkline.read_stream('order-1', 0, -1, $t)", 'TL005', {field => 'upto', limit => 0});
        refuses($s, "SELECT * FROM trunkline.read_category('order', -1, $t)", 'TL005', {field => 'after', limit => 0});
        refuses($s, "SELECT * FROM trunkline.read_category('$_', $t)", 'TL005', {field => 'category', limit => 255}) for '', 'order-1', '*', 'a*b', '-*', 'x' x 256;
        refuses($s, "SELECT * FROM trunkline.read_category(NULL, $t)", 'TL005', {field => 'category'});
        refuses($s, "SELECT * FROM trunkline.read_category('order', since => 'infinity', $t)", 'TL005', {field => 'since'});
    };

    subtest "EVS-9 a category of topic $topic" => sub {
        my $all = $s->do("SELECT string_agg(\"position\"::text, ' ' ORDER BY \"position\") FROM trunkline.topic_$topic WHERE stream IN ('order', 'order-1', 'order-2')");
        is(got("read_category('order', $t)", 'r."position"::text'), $all, 'all its streams, by position; orders-1 is another category');
        is(got("read_category('order-*', $t)", 'r."position"::text'), $all, 'as a pattern');
        my ($after, @pages) = (0);
        while (my $page = got("read_category('order', $after, 4, $t)", 'r."position"::text')) {
            push @pages, $page;
            ($after) = $page =~ /(\d+)$/;
        }
        is(join(' ', @pages), $all, 'by pages');
        is(scalar @pages, 5, 'of four');
        is(got("read_category('nothing', $t)"), '', 'absent: no row');
        refuses($s, "BEGIN ISOLATION LEVEL $_; SELECT * FROM trunkline.read_category('order', $t)", 'TL005', {field => 'transaction_isolation'}, "not at $_"),
            $s->do('ROLLBACK') for 'REPEATABLE READ', 'SERIALIZABLE';
    };

    subtest "deleted and trimmed streams of topic $topic" => sub {
        my $set = sub { my ($stream, $what) = @_; $s->do("UPDATE trunkline.streams SET $what WHERE stream = '$stream' AND topic_id = (SELECT topic_id FROM trunkline.topics WHERE name = '$topic')"); return };
        my $check = sub {
            my ($stream, $expected, $name) = @_;
            is(got("read_stream('$stream', $t)"), $expected, "$name: read_stream");
            is(got("read_stream('$stream', direction => 'backward', $t)"), join(' ', reverse split ' ', $expected), "$name: backward");
            is(got("read_stream('$stream', 0, 3, $t)"), join(' ', grep { $_ <= 3 } split ' ', $expected), "$name: upto 3");
            is(got("read_stream('$stream', 5, 2, direction => 'backward', $t)"), join(' ', reverse grep { $_ >= 2 && $_ < 5 } split ' ', $expected), "$name: backward to 2");
            is(got("load_stream('$stream', $t)"), $expected, "$name: load_stream");
            is($s->do("SELECT coalesce(string_agg(version::text, ' ' ORDER BY \"position\"), '') FROM trunkline.read_category('trim', $t) WHERE stream = '$stream'"), $expected, "$name: read_category");
        };
        append('trim-1', 1, 8, ", $t");
        append('trim-2', 1, 2, ", $t");
        $check->('trim-1', '1 2 3 4 5 6 7 8', 'whole');
        $set->('trim-1', 'max_count = 3');
        $check->('trim-1', '6 7 8', 'max_count');
        $check->('trim-2', '1 2', 'its neighbour');
        append('trim-1', 9, 9, ", $t");
        $check->('trim-1', '7 8 9', 'max_count moves on');
        $set->('trim-1', 'max_count = NULL, first_version = 5');
        $check->('trim-1', '5 6 7 8 9', 'deleted and opened again');
        $set->('trim-1', 'max_count = 7');
        $check->('trim-1', '5 6 7 8 9', 'first_version and max_count: the later');
        $set->('trim-1', "first_version = 10, state = 'deleted', max_count = NULL");
        $check->('trim-1', '', 'deleted');
        $set->('trim-1', "first_version = 1, state = 'open', max_age = '1 h'");
        $check->('trim-1', '1 2 3 4 5 6 7 8 9', 'max_age of what is young');
        is(got("read_category('trim', max_events => 1, $t)"), 1, 'a limit');
        # only the owner of a table can make old events
        $s->do("INSERT INTO trunkline.topic_$topic (type, stream, version, data, created_at) SELECT 'e', 'trim-3', v, '1', now() - (4 - v) * interval '1 h' + interval '5 min' FROM generate_series(1, 4) v;
            INSERT INTO trunkline.streams (topic_id, stream, version) SELECT topic_id, 'trim-3', 4 FROM trunkline.topics WHERE name = '$topic'");
        $check->('trim-3', '1 2 3 4', 'no max_age');
        $set->('trim-3', "max_age = '2 h'");
        $check->('trim-3', '2 3 4', 'max_age');
        $set->('trim-3', "max_age = '1 s'");
        $check->('trim-3', '4', 'max_age of a second'); # its time is 5 minutes ahead
        is($s->do("SELECT count(*) FROM trunkline.read('$topic', max_events => 10000) WHERE stream = 'trim-3'"), 4, 'the log keeps them');

        # the same by the functions that there are for it
        append('trim-4', 1, 6, ", $t");
        $s->do("SELECT trunkline.set_stream('trim-4', max_count => 4, $t)");
        $check->('trim-4', '3 4 5 6', 'set_stream()');
        $s->do("SELECT trunkline.delete_stream('trim-4', $t)");
        $check->('trim-4', '', 'delete_stream()');
        append('trim-4', 7, 8, ", expected_version => 0, $t");
        $check->('trim-4', '7 8', 'opened again');
        my $id = $s->do("SELECT id FROM trunkline.read_stream('trim-4', 6, 7, $t)");
        $s->do("SELECT trunkline.redact('$id', 'asked for')");
        for my $call ("read_stream('trim-4', $t)", "read_stream('trim-4', direction => 'backward', $t)", "load_stream('trim-4', $t)", "read_category('trim', $t)", "read('$topic', max_events => 10000)", "find('$id')") {
            is($s->do("SELECT data, metadata -> 'redacted' ->> 'reason', version FROM trunkline.$call WHERE id = '$id'"), 'null|asked for|7', "the marker of a redaction: $call");
        }
        $s->do("SELECT trunkline.delete_stream('trim-4', hard => true, reason => 'gone', $t)");
        $check->('trim-4', '', 'a tombstone');
    };

    subtest "TEN-2 tenants, topic $topic" => sub {
        append('ten-a', 1, 3, ", tenant_id => 'A', $t");
        append('ten-b', 1, 2, ", tenant_id => 'B', $t");
        append('ten-0', 1, 1, ", $t");
        is(got("read_stream('ten-a', tenant_id => 'A', $t)"), '1 2 3', 'its own');
        for my $other ("'B'", "'a'", "''") {
            is(got("read_stream('ten-a', tenant_id => $other, $t)"), '', "not as $other");
            is(got("load_stream('ten-a', tenant_id => $other, $t)"), '', "load: not as $other");
        }
        for my $other ("'A'", "''") {
            is(got("read_stream('ten-0', tenant_id => $other, $t)"), '', "no system stream as $other");
            is(got("load_stream('ten-0', tenant_id => $other, $t)"), '', "load: no system stream as $other");
        }
        is(got("read_stream('ten-a', $t)"), '1 2 3', 'system reads all');
        is(got("load_stream('ten-a', tenant_id => 'A', $t)"), '1 2 3', 'load its own');
        is(got("read_category('ten', tenant_id => 'B', $t)", 'r.stream'), 'ten-b ten-b', 'category');
        is(got("read_category('ten', $t)", 'r.stream'), 'ten-a ten-a ten-a ten-b ten-b ten-0', 'category as system');
        is($s->do("SELECT string_agg(DISTINCT stream, ' ') FROM trunkline.read('$topic', max_events => 10000, tenant => 'B')"), 'ten-b', 'topic');
        my $id = $s->do("SELECT id FROM trunkline.read_stream('ten-a', $t) LIMIT 1");
        is($s->do("SELECT topic || ' ' || version FROM trunkline.find('$id', tenant => 'A')"), "$topic 1", 'find');
        is($s->do("SELECT topic FROM trunkline.find('$id', tenant => 'B')"), '', 'find as another');
    };

    subtest "EVS-8 parked writers, topic $topic" => sub {
        my ($early, $late) = (session(), session());
        my $begin = $s->do("SELECT trunkline.head('$topic')");
        for my $end ('COMMIT', 'ROLLBACK', 'ROLLBACK TO a; RELEASE a; COMMIT') {
            $early->do("BEGIN; SAVEPOINT a; SELECT version FROM trunkline.append('park-1', '{\"type\": \"first\"}', $t)");
            $late->do("SELECT version FROM trunkline.append('park-2', '{\"type\": \"second\"}', $t)");
            is(got("read_category('park', $begin, $t)", 'r.type'), '', 'an event behind one that is in flight is not shown');
            is(got("read('$topic', $begin)", 'r.type'), '', 'nor in the topic');
            is($s->do("SELECT trunkline.head('$topic')"), $begin, 'EVS-7 nor is it the head');
            isnt(got("read_stream('park-2', $t)", 'r.type'), '', 'in its stream it is: that is in order by itself');
            $early->do($end);
            my $expected = $end eq 'COMMIT' ? 'first second' : 'second';
            is(got("read_category('park', $begin, $t)", 'r.type'), $expected, "$end: both, in order");
            is(got("read('$topic', $begin)", 'r.type'), $expected, "$end: in the topic");
            $begin = $s->do("SELECT trunkline.head('$topic')");
        }
        $late->do('BEGIN; SELECT pg_current_xact_id()');
        append('park-3', 1, 1, ", $t");
        is(got("read_category('park', $begin, $t)"), 1, 'an unrelated open transaction stalls nobody');
        $late->do('ROLLBACK');
        $_->close for $early, $late;
    };
}

subtest 'what is not there is told apart' => sub {
    refuses($s, "SELECT * FROM trunkline.$_", 'TL002', {field => 'topic', value => 'nowhere'}) for "read_stream('a', topic => 'nowhere')", "read_category('a', topic => 'nowhere')",
        "load_stream('a', topic => 'nowhere')", "read('nowhere')", "head('nowhere')", "position_token('nowhere', 1)", "snapshot_get('a', topic => 'nowhere')";
    refuses($s, "SELECT * FROM trunkline.$_", '0A000', {field => 'topic', value => 'plain'}) for "read_stream('a', topic => 'plain')", "read_category('a', topic => 'plain')", "load_stream('a', topic => 'plain')";
};

subtest 'EVS-9 from a time' => sub {
    $s->do("SELECT trunkline.create_topic('old', streams => true);
        INSERT INTO trunkline.topic_old (type, stream, version, data, created_at)
            SELECT 'e', 'day-1', d, to_jsonb(d), timestamptz '2030-01-01 00:00Z' + (d / 2) * interval '1 day' FROM generate_series(1, 40) d;
        INSERT INTO trunkline.streams (topic_id, stream, version) SELECT topic_id, 'day-1', 40 FROM trunkline.topics WHERE name = 'old'");
    for my $at ('2029-01-01 00:00Z', '2030-01-05 00:00Z', '2030-01-05 00:00:00.000001Z', '2030-01-20 12:00Z', '2030-01-21 00:00Z', '2031-01-01 00:00Z') {
        my $expected = $s->do("SELECT coalesce(string_agg(version::text, ' ' ORDER BY version), '') FROM trunkline.topic_old WHERE created_at >= '$at'");
        is(got("read_category('day', topic => 'old', since => '$at')"), $expected, "category since $at: ties together");
        is(got("read('old', since => '$at')"), $expected, "topic since $at");
        is(got("read('old', since => '$at', direction => 'backward')"), join(' ', reverse split ' ', $expected), 'backward');
        my ($after, @pages) = (0);
        while (my $page = got("read_category('day', $after, 7, topic => 'old', since => '$at')", 'r."position"::text')) {
            push @pages, split ' ', $page;
            $after = $pages[-1];
        }
        is(scalar @pages, scalar(my @e = split ' ', $expected), 'by pages');
    }
};

subtest 'EVS-8 a topic, by type, correlation and backward' => sub {
    for my $topic (qw(store own plain)) {
        my $from = $s->do("SELECT trunkline.head('$topic')");
        my $publish = sub { $s->do("SELECT id FROM trunkline.publish('$_[0]', '$_[1]', '$topic'" . ($_[2] ? ", metadata => '{\"correlation_id\": \"$_[2]\"}'" : '') . ')') };
        $publish->(@$_) for ['a.b', 1, 'x'], ['a.c', 2], ['b.b', 3, 'y'], ['a.b', 4, 'x'], ['c', 5, 'x'];
        my $read = sub { my ($more, $after) = @_; return got("read('$topic', " . ($after // $from) . ", $more)", 'r.data::text') };
        is($read->("types => '{a.b,c}'"), '1 4 5', "$topic: types");
        is($read->("types => '{a.b,c}', pattern => 'a.*'"), '1 4', 'types and pattern');
        is($read->("correlation => 'x'"), '1 4 5', 'correlation');
        is($read->("correlation => 'x', types => '{a.b}', max_events => 1"), '1', 'and types, and a limit');
        is($read->("correlation => 'z'"), '', 'no such correlation');
        is($read->("direction => 'backward', max_events => 3", 0), '5 4 3', 'backward from the horizon');
        my $last = $s->do("SELECT trunkline.head('$topic')");
        is($read->("direction => 'backward', max_events => 2", $last), '4 3', 'backward from a position, exclusive');
        is($read->("direction => 'backward', correlation => 'x', max_events => 2", $last), '4 1', 'backward with correlation');
        refuses($s, "SELECT * FROM trunkline.read('$topic', types => $_)", 'TL005', {field => 'types'}) for "'{}'", "'{a,NULL}'";
        refuses($s, "SELECT * FROM trunkline.read('$topic', direction => 'up')", 'TL005', {field => 'direction'});
        my $parked = session();
        $parked->do("BEGIN; SELECT id FROM trunkline.publish('p', '6', '$topic')");
        $publish->('q', 7);
        is($read->("direction => 'backward', max_events => 1", 0), '5', 'backward begins at the horizon');
        $parked->do('ROLLBACK');
        $parked->close;
        is($read->("direction => 'backward', max_events => 1", 0), '7', 'and then it does not');
    }
};

subtest 'EVS-12 by id' => sub {
    my $made = $s->do("SELECT id FROM trunkline.append('found-1', '{\"type\": \"a\", \"data\": 1}')");
    my $given = '00000000-0000-4000-8000-0000000000aa';
    $s->do("SELECT id FROM trunkline.append('found-1', '{\"type\": \"a\", \"data\": 2, \"id\": \"$given\"}'); SELECT id FROM trunkline.append('found-1', '{\"type\": \"a\", \"data\": 3, \"idempotency_key\": \"event-123\"}');
        SELECT id FROM trunkline.publish('p', '4', event_id => '00000000-0000-4000-8000-0000000000ab')");
    is($s->do("SELECT topic, stream, version, data FROM trunkline.find('$made')"), 'store|found-1|1|1', 'an id made here');
    is($s->do("SELECT topic, stream, version, data FROM trunkline.find('$given')"), 'store|found-1|2|2', 'one given to append()');
    is($s->do("SELECT topic, stream, version, data FROM trunkline.find(trunkline.key_id('found-1', 'event-123'))"), 'store|found-1|3|3', 'one made of an idempotency_key');
    is($s->do("SELECT topic, stream, data FROM trunkline.find('00000000-0000-4000-8000-0000000000ab')"), 'bus||4', 'one given to publish()');
    is($s->do("SELECT count(*) FROM trunkline.find('$_')"), 0, "absent: $_") for '00000000-0000-4000-8000-0000000000ac', '01a00000-0000-7002-8000-0000000072a9';
    is($s->do('SELECT count(*) FROM trunkline.find(NULL)'), 0, 'NULL');
};

subtest 'EVS-13 position tokens' => sub {
    my $token = $s->do("SELECT trunkline.position_token('store', 5)");
    like($token, qr/^tl1\.store\.5\.[0-9a-f]{16}$/, 'printed');
    is($s->do("SELECT topic, \"position\" FROM trunkline.parse_position_token('$token')"), 'store|5', 'and parsed');
    is($s->do("SELECT \"position\" FROM trunkline.parse_position_token(trunkline.position_token('own', 999999999999999999))"), '999999999999999999', 'a large one');
    refuses($s, "SELECT * FROM trunkline.parse_position_token($_)", 'TL005', {field => 'token', reason => 'malformed'}) for 'NULL', "''", "'5'", "'tl1.store.5'", "'$token '", "'" . ($token =~ s/5/05/r) . "'",
        "'" . ($token =~ s/tl1/tl2/r) . "'", "'" . ($token =~ s/store/Store/r) . "'";
    refuses($s, "SELECT * FROM trunkline.parse_position_token('" . ($token =~ s/store/$_/r) . "')", 'TL005', {field => 'token', reason => 'foreign', topic => $_}) for 'own', 'gone';
    my $elsewhere = database(empty => 1); # a copy of the template would be a copy of the store
    is(system(qq("$ENV{TRUNKLINE_BIN}" migrate up --db "$elsewhere" >/dev/null 2>&1)), 0, 'another store');
    my $other = session(db => $elsewhere);
    refuses($other, "SELECT * FROM trunkline.parse_position_token('$token')", 'TL005', {field => 'token', reason => 'foreign'}, 'in another store');
    $other->close;
    my $old = $s->do("SELECT trunkline.create_topic('again'); SELECT trunkline.position_token('again', 1)") =~ s/.*\n//sr;
    $s->do("SELECT trunkline.drop_topic('again'); SELECT trunkline.create_topic('again')");
    refuses($s, "SELECT * FROM trunkline.parse_position_token('$old')", 'TL005', {reason => 'foreign'}, 'a topic that was made again is another one');
    refuses($s, "SELECT trunkline.position_token('store', -1)", 'TL005', {field => 'position'});
};

# Each read against the plainest query for it, with arguments by chance (seed: TRUNKLINE_SEED).
subtest 'any arguments: the answers of a plain query' => sub {
    my $seed = $ENV{TRUNKLINE_SEED} // time % 1000;
    note("TRUNKLINE_SEED=$seed");
    $s->do("SELECT trunkline.create_topic('chance', streams => true)") ;
    for my $topic (qw(store chance)) {
        $s->do(<<"SQL");
SELECT setseed($seed / 1000.0);
SELECT count(*) FROM (SELECT (SELECT count(*) FROM trunkline.append('ch' || (random() * 2)::int || '-' || (random() * 4)::int,
        (SELECT jsonb_agg(jsonb_build_object('type', 'e.' || chr(97 + (random() * 3 + g * 0)::int), 'metadata', jsonb_build_object('correlation_id', 'c' || ((random() + g * 0) * 3)::int))) FROM generate_series(1, 1 + (random() * 4 + n * 0)::int) g),
        topic => '$topic')) FROM generate_series(1, 120) n) i;
SQL
        $s->do("SELECT trunkline.set_stream('ch0-1', max_count => 3, topic => '$topic'), trunkline.set_stream('ch1-2', max_age => '1 day', topic => '$topic'), trunkline.delete_stream('ch1-1', topic => '$topic')");
        $s->do("SELECT count(*) FROM trunkline.append('ch1-1', '{\"type\": \"e.a\"}', topic => '$topic')");
        my $wrong = $s->error(<<"SQL");
DO \$do\$
DECLARE
    name text; a bigint; u bigint; m int; down boolean; got bigint[]; want bigint[]; ts text[]; c text; top bigint := trunkline.head('$topic'); mid timestamptz; base bigint;
BEGIN
    SELECT min("position") - 1 INTO base FROM trunkline.topic_$topic WHERE stream LIKE 'ch%';
    SELECT created_at INTO mid FROM trunkline.topic_$topic WHERE stream LIKE 'ch%' ORDER BY "position" OFFSET 100 LIMIT 1;
    PERFORM setseed($seed / 1000.0);
    FOR i IN 1 .. 400 LOOP
        name := 'ch' || (random() * 2)::int || '-' || (random() * 4)::int;
        a := CASE WHEN random() < 0.3 THEN NULL ELSE (random() * 40)::int END;
        u := CASE WHEN random() < 0.5 THEN NULL ELSE (random() * 40)::int END;
        m := 1 + (random() * 20)::int;
        down := random() < 0.5;
        SELECT array_agg(r.version ORDER BY r.n) INTO got FROM trunkline.read_stream(name, a, u, m, CASE WHEN down THEN 'backward' ELSE 'forward' END, topic => '$topic')
            WITH ORDINALITY r(position, id, type, source, stream, version, key, tenant_id, data, metadata, expires_at, created_at, n);
        SELECT array_agg(v ORDER BY CASE WHEN down THEN -v ELSE v END) INTO want FROM (
            SELECT e.version AS v FROM trunkline.topic_$topic e JOIN trunkline.streams s ON s.stream = e.stream AND s.topic_id = e.topic_id
             WHERE e.stream = name AND e.version >= s.first_version AND (s.max_count IS NULL OR e.version > s.version - s.max_count)
               AND CASE WHEN down THEN (coalesce(a, 0) = 0 OR e.version < a) AND e.version >= coalesce(u, 0)
                        ELSE e.version > coalesce(a, 0) AND (u IS NULL OR e.version <= u) END
             ORDER BY CASE WHEN down THEN -e.version ELSE e.version END LIMIT m) q;
        IF got IS DISTINCT FROM want THEN RAISE 'read_stream(%, %, %, %, %): % is not %', name, a, u, m, down, got, want; END IF;

        a := (random() * (top + 10))::bigint;
        SELECT array_agg(r."position" ORDER BY r.n) INTO got FROM trunkline.read_category(split_part(name, '-', 1), a, m, topic => '$topic', since => CASE WHEN down THEN mid END)
            WITH ORDINALITY r(position, id, type, source, stream, version, key, tenant_id, data, metadata, expires_at, created_at, n);
        SELECT array_agg(p ORDER BY p) INTO want FROM (
            SELECT e."position" AS p FROM trunkline.topic_$topic e JOIN trunkline.streams s ON s.stream = e.stream AND s.topic_id = e.topic_id
             WHERE e.stream LIKE split_part(name, '-', 1) || '-%' AND e."position" > a AND e.version >= s.first_version AND (s.max_count IS NULL OR e.version > s.version - s.max_count)
               AND (NOT down OR e.created_at >= mid) ORDER BY 1 LIMIT m) q;
        IF got IS DISTINCT FROM want THEN RAISE 'read_category(%, %, %, %): % is not %', name, a, m, down, got, want; END IF;

        IF NOT down THEN
            a := greatest(a, base); -- behind the events above whose times are not in order
        END IF;
        ts := CASE WHEN random() < 0.5 THEN ARRAY['e.a', 'e.c'] END;
        c := CASE WHEN random() < 0.5 THEN 'c1' END;
        SELECT array_agg(r."position" ORDER BY r.n) INTO got FROM trunkline.read('$topic', a, m, CASE WHEN m % 2 = 0 THEN 'e.*' ELSE '**' END, types => ts, correlation => c,
                since => CASE WHEN m % 3 = 0 AND NOT down THEN mid END, direction => CASE WHEN down THEN 'backward' ELSE 'forward' END)
            WITH ORDINALITY r(position, id, type, source, stream, version, key, tenant_id, data, metadata, expires_at, created_at, n);
        SELECT array_agg(p ORDER BY CASE WHEN down THEN -p ELSE p END) INTO want FROM (
            SELECT e."position" AS p FROM trunkline.topic_$topic e
             WHERE CASE WHEN down THEN a = 0 OR e."position" < a ELSE e."position" > a END AND (ts IS NULL OR e.type = ANY (ts)) AND (c IS NULL OR e.metadata ->> 'correlation_id' = c)
               AND (m % 2 <> 0 OR e.type ~ '^e\.[^.]+\$') AND (m % 3 <> 0 OR down OR e.created_at >= mid)
             ORDER BY CASE WHEN down THEN -e."position" ELSE e."position" END LIMIT m) q;
        IF got IS DISTINCT FROM want THEN RAISE 'read(%, %, %, %, %): % is not %', a, m, ts, c, down, got, want; END IF;
    END LOOP;
END \$do\$
SQL
        is($wrong->{state}, 'none', "topic $topic: 1200 reads") or diag("seed $seed: $wrong->{message}");
        cmp_ok($s->do("SELECT count(*) FROM trunkline.topic_$topic WHERE stream LIKE 'ch%'"), '>', 200, 'of a good many events');
    }
};

# Blocks touched do not depend on the machine. The statistics of these leaves are as young as can be.
subtest 'what a read costs' => sub {
    $s->do("SELECT count(*) FROM trunkline.append('needle-1', " . events('e', 1, 5) . ')');
    $s->do("INSERT INTO trunkline.topic_store (type, stream, version, data) SELECT 'e', 'hay-' || n % 10, 1000 + n / 10, '1' FROM generate_series(1, 20000) n");
    $s->do("SELECT count(*) FROM trunkline.append('needle-1', " . events('e', 6, 10) . ')');
    my $blocks = sub {
        my ($call) = @_;
        $s->do("SELECT count(*) FROM trunkline.$call") for 1 .. 6; # past the plans with values
        my $plan = $s->do("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM trunkline.$call");
        my ($hit) = $plan =~ /shared hit=(\d+)/;
        return $hit;
    };
    $s->do("INSERT INTO trunkline.topic_store (type, stream, version, data, created_at) SELECT 'e', 'aged-1', v, '1', now() - (20000 - v) * interval '1 s' FROM generate_series(1, 20000) v;
        INSERT INTO trunkline.streams (topic_id, stream, version) VALUES (2, 'aged-1', 20000); SELECT trunkline.set_stream('aged-1', max_age => '105 s')");
    is($s->do("SELECT min(version) BETWEEN 19890 AND 19990, max(version) FROM trunkline.$_"), 't|20000', "max_age: $_") for "read_stream('aged-1', max_events => 1000)", "load_stream('aged-1')",
        "read_stream('aged-1', direction => 'backward', max_events => 1000)";
    my %calls = (aged => "read_stream('aged-1', max_events => 10)", aged_back => "read_stream('aged-1', 19900, direction => 'backward')", stream => "read_stream('needle-1')", backward => "read_stream('needle-1', direction => 'backward')", load => "load_stream('needle-1')",
        category => "read_category('needle')", correlation => "read('store', correlation => 'nobody')", rare => "read('store', max_events => 10)",
        last => "read('store', direction => 'backward', max_events => 10)");
    my %few;
    for my $name (sort keys %calls) {
        $few{$name} = $blocks->($calls{$name});
        cmp_ok($few{$name}, '<', 300, "$name: a few blocks of many");
    }
    $s->do("SELECT trunkline.add_leaf('store', n) FROM generate_series(3, 30) n");
    for my $name (sort keys %calls) {
        # less than a block for each of them; as time goes on max_age finds its place by others, twice as many at times
        cmp_ok($blocks->($calls{$name}), '<=', $name =~ /aged/ ? 300 : $few{$name} + 20, "$name: leaves ahead cost nothing");
    }
};

subtest 'a topic with many leaves' => sub {
    $s->do("SELECT trunkline.create_topic('many', streams => true); SELECT version FROM trunkline.append('span-1', '{\"type\": \"e\"}', topic => 'many')");
    $s->do("SELECT trunkline.add_leaf('many', $_), setval('trunkline.position_many', $_\::bigint << 30); SELECT version FROM trunkline.append('span-1', '{\"type\": \"e\"}', topic => 'many'); SELECT version FROM trunkline.append('leaf-$_', '{\"type\": \"e\"}', topic => 'many')") for 1 .. 40;
    $s->do("SELECT version FROM trunkline.append('leaf-20', '{\"type\": \"e\"}', topic => 'many'); SELECT trunkline.create_aggregate('leaf', 'new', 'many'); SELECT trunkline.set_stream('leaf-set', topic => 'many');
        SELECT version FROM trunkline.append('leaf-new', '{\"type\": \"e\"}', topic => 'many'); SELECT version FROM trunkline.append('leaf-set', '{\"type\": \"e\"}', topic => 'many')");
    is($s->do("SELECT count(*) FROM trunkline.read_stream('span-1', topic => 'many')"), 41, 'one that is in all of them');
    is(got("read_stream('span-1', 0, NULL, 3, 'backward', topic => 'many')"), '41 40 39', 'and backward');
    is(got("$_, topic => 'many')"), '1 2', $_) for "read_stream('leaf-20'", "load_stream('leaf-20'", "read_stream('leaf-20', upcast => true";
    is(got("read_stream('$_', topic => 'many')"), '1', $_) for 'leaf-1', 'leaf-40', 'leaf-new', 'leaf-set';
    is($s->do("SELECT count(*) FROM trunkline.streams s JOIN trunkline.topic_many e USING (stream) WHERE e.\"position\" <= s.after_position"), 0, 'no event is before its stream');
    # leaves looked into, by the blocks of their indexes
    my %blocks = map { my $stream = $_; $s->do("SELECT count(*) FROM trunkline.read_stream('$stream', topic => 'many')"); my ($hit) = $s->do("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM trunkline.read_stream('$stream', topic => 'many')") =~ /shared hit=(\d+)/; $stream => $hit } qw(span-1 leaf-20 leaf-40);
    cmp_ok($blocks{'leaf-40'} + 40, '<', $blocks{'leaf-20'}, 'a stream is not looked for in leaves from before it');
    cmp_ok($blocks{'leaf-20'} + 40, '<', $blocks{'span-1'}, 'an older one in more');
};

$s->close;
done_testing;
