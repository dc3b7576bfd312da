#!/usr/bin/perl
# EVS-1..5, AGG-2: append(), append_event(), append_rows(), append_streams(): what they store, give back and refuse.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $s = session();
my $id = sub { sprintf '00000000-0000-4000-8000-%012d', $_[0] };
my $last = sub { $s->do("SELECT pg_sequence_last_value('trunkline.position_store')") };

subtest 'EVS-1, EVS-4: one event' => sub {
    returns($s, q(SELECT version, "position", deduplicated FROM trunkline.append_event('order-42', 'order.created', '{"a": 1}', 0)), '1|1|f', 'the first');
    returns($s, q(SELECT version, "position" FROM trunkline.append_event('order-42', 'order.shipped', NULL, 1, metadata => '{"m": 1}', source => 'shop')), '2|2', 'the next');
    returns($s, q(SELECT stream, version, key, type, source, data, metadata FROM trunkline.topic_store ORDER BY "position"),
        qq(order-42|1|order-42|order.created||{"a": 1}|\norder-42|2|order-42|order.shipped|shop|null|{"m": 1}), 'what is stored');
    returns($s, q(SELECT count(*) FROM trunkline.topic_store e, trunkline.locate(e.id) l WHERE l."position" = e."position"), 2, 'ids lead to their events');
    returns($s, q(SELECT version FROM trunkline.append_event('user-123', 'user.created', '1'), trunkline.stream_version('user-123') v), 1, 'ids of streams are any text');
    returns($s, q(SELECT trunkline.stream_version('order-42'), trunkline.stream_version('order-43'), trunkline.category('order-42'), trunkline.category('order')), '2|0|order|order', 'versions');
    returns($s, q(SELECT topic_id FROM trunkline.topics WHERE name = 'store'), 2, 'store has the number that append_event() takes it to have');
};

subtest 'EVS-2: expected versions' => sub {
    my $before = $last->();
    my $at = sub { my ($stream, $expected) = @_; return "SELECT version FROM trunkline.append_event('$stream', 'a', '1', $expected)" };
    refuses($s, $at->('order-42', 1), 'TL001', {stream => 'order-42', expected => 1, actual => 2, reason => 'version'}, 'too low');
    refuses($s, $at->('order-42', 3), 'TL001', {expected => 3, actual => 2}, 'too high');
    refuses($s, $at->('order-42', 0), 'TL001', {expected => 'no_stream', actual => 2}, 'must not exist');
    refuses($s, $at->('nowhere', -1), 'TL001', {stream => 'nowhere', expected => 'exists', actual => 0}, 'must exist');
    refuses($s, $at->('nowhere', 1), 'TL001', {expected => 1, actual => 0}, 'a version of nothing');
    refuses($s, $at->('nowhere', -2), 'TL005', {field => 'expected_version'}, 'no such expectation');
    is($last->(), $before, 'none of them spent a position');
    returns($s, 'SELECT count(*) FROM trunkline.streams WHERE stream = \'nowhere\'', 0, 'nor made a stream');
    returns($s, $at->('order-42', 2), 3, 'exact');
    returns($s, $at->('order-42', -1), 4, 'exists');
    returns($s, $at->('order-42', 'NULL'), 5, 'any');
    returns($s, $at->('new-1', 'NULL'), 1, 'any, absent');
    returns($s, "SELECT trunkline.create_aggregate('cart', '1'), trunkline.create_aggregate('cart', '1')", 't|f', 'AGG-2: create_aggregate() is idempotent');
    refuses($s, $at->('cart-1', -1), 'TL001', {expected => 'exists', actual => 0}, 'version 0 is not there yet');
    returns($s, $at->('cart-1', 0), 1, 'AGG-2: and a first append works');
    returns($s, q(SELECT trunkline.create_aggregate('cart', '1'), trunkline.stream_version('cart-1')), 'f|1', 'which it does not undo');
    refuses($s, "SELECT trunkline.create_aggregate($_->[0])", 'TL005', {field => $_->[1]}, $_->[0])
        for [q('a-b', '1'), 'aggregate_type'], [q('', '1'), 'aggregate_type'], [q(NULL, '1'), 'aggregate_type'], [q('a', ''), 'aggregate_id'], [q('a', repeat('x', 255)), 'stream'];
};

subtest 'EVS-1, EVS-5: several events' => sub {
    returns($s, q(SELECT version, "position" - min("position") OVER (), deduplicated FROM trunkline.append('order-7', '[{"type": "a", "data": {"n": 12345678901234567890.5}}, {"type": "b"},
        {"type": "c", "source": "s", "metadata": {"correlation_id": "x"}, "schema_version": 2, "key": "k", "expires_at": "2100-01-01T00:00:00Z"}]', 0)),
        "1|0|f\n2|1|f\n3|2|f", 'in order');
    returns($s, q(SELECT type, data, source, metadata, key, expires_at AT TIME ZONE 'UTC' FROM trunkline.topic_store WHERE stream = 'order-7' ORDER BY version),
        qq(a|{"n": 12345678901234567890.5}|||order-7|\nb|null|||order-7|\nc|null|s|{"correlation_id": "x", "schema_version": 2}|k|2100-01-01 00:00:00), 'every field');
    returns($s, q(SELECT version FROM trunkline.append('order-7', '{"type": "d"}', 3)), 4, 'one object');
    returns($s, q(SELECT version FROM trunkline.append_rows('order-7', '{e,f}', ARRAY['1', NULL]::jsonb[], ARRAY[NULL, '{"m": 1}']::jsonb[], NULL, '{s,NULL}', 4)), "5\n6", 'as arrays');
    returns($s, q(SELECT type, data, source, metadata FROM trunkline.topic_store WHERE stream = 'order-7' AND version > 4 ORDER BY version), qq(e|1|s|\nf|null||{"m": 1}), 'which are stored alike');
    returns($s, q(SELECT version FROM trunkline.append_rows('order-7', '[3:3]={g}', '[2:2]={1}', NULL, NULL, '[0:0]={s}', 6)), 7, 'arrays that begin elsewhere');
    returns($s, q(SELECT min(version), max(version), count(DISTINCT "position") FROM trunkline.append_rows('big-1', array_fill('t'::text, '{10000}'), array_fill('1'::jsonb, '{10000}'))), '1|10000|10000', '10000 of them');
};

subtest 'EVS-5: a bad event refuses all, with its index' => sub {
    my $before = $last->();
    my $good = '{"type": "a"}';
    for my $case (
        ['{"type": "a*"}', 'TL005', 'type'], ['{}', 'TL005', 'type'], ['1', 'TL005', 'events'], ['{"type": 1}', 'TL005', 'type'], ['{"type": "a", "x": 1}', 'TL005', 'x'],
        ['{"type": "a", "id": "x"}', 'TL005', 'id'], ['{"type": "a", "metadata": 1}', 'TL005', 'metadata'], ['{"type": "a", "schema_version": 0}', 'TL005', 'schema_version'],
        ['{"type": "a", "schema_version": "1"}', 'TL005', 'schema_version'], ['{"type": "a", "schema_version": 1.5}', 'TL005', 'schema_version'],
        ['{"type": "a", "idempotency_key": ""}', 'TL005', 'idempotency_key'], ['{"type": "a", "id": "' . $id->(1) . '", "idempotency_key": "k"}', 'TL005', 'idempotency_key'],
        ['{"type": "a", "source": ""}', 'TL005', 'source'], ['{"type": "a", "key": ""}', 'TL005', 'key'], ['{"type": "a", "expires_at": "soon"}', 'TL005', 'expires_at'],
        ['{"type": "a", "tenant_id": "t"}', 'TL005', 'tenant_id'],
    ) {
        my ($event, $state, $field) = @$case;
        refuses($s, "SELECT * FROM trunkline.append('bad-1', '[$good, $good, $event, $good]')", $state, {field => $field, index => 2}, $event);
        refuses($s, qq(SELECT * FROM trunkline.append_streams('[{"stream": "bad-1", "events": [$good]}, {"stream": "bad-2", "events": [$good, $event]}]')),
            $state, {field => $field, index => 1, stream => 'bad-2', event => 1}, "several streams: $event");
    }
    refuses($s, q(SELECT * FROM trunkline.append('bad-1', jsonb_build_array('{"type": "a"}'::jsonb, jsonb_build_object('type', 'a', 'data', repeat('x', 1048577))))), 'TL007', {field => 'data', index => 1, limit => 1048576}, 'too large');
    refuses($s, q(SELECT * FROM trunkline.append_rows('bad-1', '{a,b}', ARRAY['1', to_jsonb(repeat('x', 1048577))])), 'TL007', {field => 'data', index => 1}, 'as arrays');
    refuses($s, q(SELECT * FROM trunkline.append_event('bad-1', 'a', to_jsonb(repeat('x', 1048577)))), 'TL007', {field => 'data', limit => 1048576}, 'one');
    refuses($s, "SELECT * FROM trunkline.append_event('order-42', $_->[0])", 'TL005', {field => $_->[1]}, $_->[0])
        for [q('', '1'), 'type'], [q(NULL, '1'), 'type'], [q('a', '1', source => ''), 'source'], [q('a', '1', metadata => '1'), 'metadata'], [q('a', '1', tenant_id => ''), 'tenant_id'];
    refuses($s, "SELECT * FROM trunkline.append($_->[0])", 'TL005', {field => $_->[1]}, $_->[0])
        for [q('a', '[]'), 'events'], [q('a', 'null'), 'events'], [q('a', '"x"'), 'events'], [q('a', NULL), 'events'], [q('', '{"type": "a"}'), 'stream'], [q(NULL, '{"type": "a"}'), 'stream'],
            [q(repeat('x', 256), '{"type": "a"}'), 'stream'], [q(E'a\nb', '{"type": "a"}'), 'stream'], [q('a', '{"type": "a"}', -5), 'expected_version'], [q('a', '{"type": "a"}', tenant_id => repeat('x', 256)), 'tenant_id'];
    refuses($s, "SELECT * FROM trunkline.append_event($_, 'a', '1')", 'TL005', {field => 'stream', limit => 255}, "stream $_") for q(''), 'NULL', q(repeat('x', 256)), q(E'a\tb'), q(E'a\x7f');
    refuses($s, "SELECT * FROM trunkline.append_rows('a', $_->[0])", 'TL005', {field => $_->[1]}, $_->[0])
        for [q('{}', '{}'), 'events'], [q(NULL, NULL), 'events'], [q('{a,b}', '{1}'), 'data'], [q('{a}', NULL), 'data'], [q('{a}', '{1}', '{}'), 'metadata'], [q('{a}', '{1}', NULL, '{}'), 'ids'], [q('{a}', '{1}', NULL, NULL, '{a,b}'), 'sources'],
            [q(array_fill('t'::text, '{10001}'), array_fill('1'::jsonb, '{10001}')), 'events'];
    refuses($s, "SELECT * FROM trunkline.append('a', '{\"type\": \"a\"}', topic => 'nowhere')", 'TL002', {field => 'topic'}, 'no topic');
    refuses($s, "SELECT * FROM trunkline.append('a', '{\"type\": \"a\"}', topic => 'bus')", '0A000', {field => 'topic'}, 'TOP-3: a topic without streams');
    refuses($s, "SELECT * FROM trunkline.append_event('a', 'a', '1', topic => 'bus')", '0A000', {field => 'topic'}, 'TOP-3: one event');
    is($last->(), $before, 'none of them spent a position');
    returns($s, q(SELECT count(*) FROM trunkline.streams WHERE stream LIKE 'bad%'), 0, 'nor made a stream');
    returns($s, q(SELECT trunkline.stream_version('order-42')), 5, 'nor moved one');
    returns($s, q(SELECT version, octet_length(repeat(chr(233), 127) || 'x') FROM trunkline.append_event(repeat(chr(233), 127) || 'x', 'a', '1')), '1|255', '255 bytes are fine');
};

subtest 'EVS-5: several streams' => sub {
    my $v = sub { $s->do("SELECT string_agg(trunkline.stream_version(x)::text, ' ' ORDER BY o) FROM unnest('{$_[0]}'::text[]) WITH ORDINALITY u(x, o)") };
    returns($s, q(SELECT stream, version, "position" - min("position") OVER () FROM trunkline.append_streams('[{"stream": "z-1", "expected_version": "no_stream", "events": [{"type": "a"}, {"type": "b"}]},
        {"stream": "order-42", "expected_version": 5, "events": {"type": "c"}}, {"stream": "cart-1", "expected_version": "exists"}, {"stream": "y-1", "expected_version": 0}, {"stream": "x-1"},
        {"stream": "a-1", "expected_version": "any", "events": [{"type": "d"}]}]')), "z-1|1|0\nz-1|2|1\norder-42|6|2\na-1|1|3", 'positions in the order of the arguments');
    returns($s, q(SELECT count(*) FROM trunkline.streams WHERE stream IN ('x-1', 'y-1')), 0, 'streams only checked are not made');
    is($v->('z-1,order-42,cart-1,a-1'), '2 6 1 1', 'versions');
    my $before = $last->();
    for my $case (['{"stream": "order-42", "expected_version": 5}', {stream => 'order-42', expected => 5, actual => 6, index => 1}], ['{"stream": "order-42", "expected_version": "no_stream"}', {expected => 'no_stream', index => 1}],
        ['{"stream": "none", "expected_version": "exists"}', {stream => 'none', expected => 'exists', actual => 0, index => 1}], ['{"stream": "none", "expected_version": 3}', {expected => 3, actual => 0}]) {
        refuses($s, qq(SELECT * FROM trunkline.append_streams('[{"stream": "a-1", "events": [{"type": "a"}]}, $case->[0]]')), 'TL001', $case->[1], "only checked: $case->[0]");
        (my $written = $case->[0]) =~ s/\}$/, "events": [{"type": "a"}]}/;
        refuses($s, qq(SELECT * FROM trunkline.append_streams('[{"stream": "a-1", "events": [{"type": "a"}]}, $written]')), 'TL001', $case->[1], "written: $case->[0]");
    }
    for my $case (['[]', 'writes'], ['{}', 'writes'], ['[1]', 'writes'], ['[{"stream": 1}]', 'stream'], ['[{"stream": ""}]', 'stream'], ['[{"stream": "a", "x": 1}]', 'x'], ['[{"stream": "a", "expected_version": "1"}]', 'expected_version'],
        ['[{"stream": "a", "expected_version": -2}]', 'expected_version'], ['[{"stream": "a", "expected_version": 1.5}]', 'expected_version'], ['[{"stream": "a", "expected_version": 1e30}]', 'expected_version'], ['[{"stream": "a", "expected_version": []}]', 'expected_version'],
        ['[{"stream": "a", "events": "x"}]', 'events'], ['[{"stream": "a"}]', 'events'], ['[{"stream": "a", "events": [{"type": "a"}]}, {"stream": "b"}, {"stream": "a"}]', 'stream'],
        ['[{"events": [{"type": "a"}]}]', 'stream']) {
        refuses($s, "SELECT * FROM trunkline.append_streams('$case->[0]')", 'TL005', {field => $case->[1]}, $case->[0]);
    }
    refuses($s, q(SELECT * FROM trunkline.append_streams((SELECT jsonb_agg(jsonb_build_object('stream', 's' || i)) FROM generate_series(1, 1001) i))), 'TL005', {field => 'writes', limit => 1000}, 'too many');
    is($last->(), $before, 'none of them spent a position');
};

subtest 'IDM-1: the id of an event that got it from us' => sub {
    $s->do("SELECT trunkline.create_topic('made', streams => true)");
    for my $topic (qw(store made)) {
        my ($id, $position) = split /\|/, $s->do("SELECT id, \"position\" FROM trunkline.append_event('made-1', 'a', '1', topic => '$topic')");
        my $before = $s->do("SELECT last_value FROM trunkline.position_$topic");
        refuses($s, "SELECT * FROM trunkline.append_event('$_', 'a', '1', event_id => '$id', topic => '$topic')", 'TL003', {reason => 'generated', id => $id, index => 0}, "$topic: is not given to another, in $_") for 'made-1', 'made-2';
        refuses($s, qq(SELECT * FROM trunkline.append_streams('[{"stream": "made-2", "events": {"type": "a"}}, {"stream": "made-1", "events": [{"type": "a"}, {"type": "a", "id": "$id"}]}]', '$topic')), 'TL003',
            {reason => 'generated', stream => 'made-1', index => 1, event => 1}, 'its place is told');
        is($s->do("SELECT trunkline.stream_version('made-1', '$topic'), trunkline.stream_version('made-2', '$topic'), last_value FROM trunkline.position_$topic"), "1|0|$before", 'nothing changed');
        # as one of ours, but of no event here
        (my $foreign = $id) =~ s/^......../01234567/;
        my $first = $s->do("SELECT * FROM trunkline.append_event('made-1', 'a', '1', 1, '$foreign', topic => '$topic')");
        like($first, qr/^\Q$foreign\E\|2\|\d+\|f$/, 'one of another store is as good as any');
        (my $again = $first) =~ s/f$/t/;
        returns($s, "SELECT * FROM trunkline.append_event('made-1', 'a', '1', 1, '$foreign', topic => '$topic')", $again, 'and remembered');
    }
};

subtest 'PUB-4, IDM-1: the same append again' => sub {
    my $one = "SELECT * FROM trunkline.append_event('r-1', 'a', '1', 0, '" . $id->(1) . "')";
    my $first = $s->do($one);
    (my $again = $first) =~ s/f$/t/;
    returns($s, $one, $again, 'gives the first result');
    my $many = sub { my ($from, $to, $expected, $data) = @_; return "SELECT * FROM trunkline.append('r-1', '[" . join(', ', map { qq({"type": "m", "data": $data, "id": ") . $id->($_) . '"}' } $from .. $to) . "]', $expected)" };
    $first = $s->do($many->(11, 13, 1, 1));
    ($again = $first) =~ s/f$/t/mg;
    $s->do("SELECT trunkline.append_event('r-1', 'later', '1')");
    my $before = $last->();
    returns($s, $many->(11, 13, 1, 1), $again, 'several, though the stream went on');
    returns($s, $many->(11, 13, 'NULL', 1), $again, 'with any version it is the same');
    refuses($s, $many->(11, 14, 1, 1), 'TL003', {reason => 'partial', field => 'id', index => 3}, 'and a new one behind it');
    refuses($s, $many->(10, 13, 1, 1), 'TL003', {reason => 'partial', index => 0}, 'and a new one before it');
    refuses($s, $many->(12, 13, 1, 1), 'TL003', {reason => 'expectation', version => 3}, 'a part of it, as if it had been first');
    returns($s, $many->(12, 13, 2, 1), join("\n", (split /\n/, $again)[1, 2]), 'a part of it with its version');
    refuses($s, $many->(11, 13, 2, 1), 'TL003', {reason => 'expectation', field => 'expected_version', stream => 'r-1', version => 2}, 'expecting something else');
    refuses($s, $many->(11, 13, 0, 1), 'TL003', {reason => 'expectation'}, 'expecting no stream');
    refuses($s, $many->(11, 13, '9223372036854775807', 1), 'TL003', {reason => 'expectation'}, 'expecting the last of all versions');
    refuses($s, $many->(11, 13, 1, 2), 'TL003', {reason => 'content', id => $id->(11), index => 0}, 'other content');
    refuses($s, "SELECT * FROM trunkline.append_event('r-1', 'b', '1', 0, '" . $id->(1) . "')", 'TL003', {reason => 'content'}, 'another type');
    refuses($s, "SELECT * FROM trunkline.append_event('r-1', 'a', '1', 0, '" . $id->(1) . "', source => 's')", 'TL003', {reason => 'content'}, 'another source');
    refuses($s, "SELECT * FROM trunkline.append_event('r-1', 'a', '1', 0, '" . $id->(1) . "', '{\"m\": 1}')", 'TL003', {reason => 'content'}, 'other metadata');
    refuses($s, "SELECT * FROM trunkline.append_event('r-2', 'a', '1', 0, '" . $id->(1) . "')", 'TL003', {reason => 'stream', id => $id->(1)}, 'another stream');
    refuses($s, "SELECT * FROM trunkline.append_event('r-1', 'a', '1', -1, '" . $id->(1) . "')", 'TL003', {reason => 'expectation'}, 'it did not exist then');
    refuses($s, "SELECT * FROM trunkline.append_rows('r-1', '{m,m}', '{1,1}', ids => '{" . $id->(13) . ',' . $id->(12) . "}')", 'TL003', {reason => 'order', index => 1}, 'in another order');
    refuses($s, "SELECT * FROM trunkline.append_rows('r-1', '{m,m}', '{1,1}', ids => '{" . $id->(11) . ',' . $id->(13) . "}')", 'TL003', {reason => 'order'}, 'with one left out');
    refuses($s, "SELECT * FROM trunkline.append_rows('r-1', '{m,m}', '{1,1}', ids => '{" . $id->(11) . ",NULL}')", 'TL003', {reason => 'partial', index => 1}, 'one of them without id');
    refuses($s, "SELECT * FROM trunkline.append_rows('r-1', '{m,m}', '{1,1}', ids => '{" . $id->(21) . ',' . $id->(21) . "}')", 'TL005', {field => 'id'}, 'one id twice');
    is($last->(), $before, 'none of them spent a position');
    returns($s, "SELECT trunkline.stream_version('r-1'), trunkline.stream_version('r-2')", '5|0', 'nor moved the stream');

    my $writes = q([{"stream": "r-3", "expected_version": 0, "events": [{"type": "a", "idempotency_key": "event-123"}]}, {"stream": "r-4", "events": [{"type": "a", "idempotency_key": "event-123"}, {"type": "b", "idempotency_key": "event-124"}]}, {"stream": "r-1", "expected_version": 5}]);
    $first = $s->do("SELECT * FROM trunkline.append_streams('$writes')");
    ($again = $first) =~ s/f$/t/mg;
    $s->do("SELECT trunkline.append_event('r-1', 'later', '1')");
    returns($s, "SELECT * FROM trunkline.append_streams('$writes')", $again, 'several streams, by keys of the caller');
    returns($s, q(SELECT id = trunkline.key_id('r-3', 'event-123'), metadata FROM trunkline.topic_store WHERE stream = 'r-3'), 't|{"idempotency_key": "event-123"}', 'the key is kept');
    (my $other = $writes) =~ s/r-3/r-5/;
    refuses($s, "SELECT * FROM trunkline.append_streams('$other')", 'TL003', {reason => 'partial', index => 0, stream => 'r-5', event => 0}, 'a part elsewhere');
    returns($s, q(SELECT version, deduplicated FROM trunkline.append('r-3', '[{"type": "x"}, {"type": "y", "idempotency_key": "k"}]')), "2|f\n3|f", 'with and without ids');
    returns($s, q(SELECT count(*) FROM trunkline.topic_store e, trunkline.locate(e.id) l WHERE e.stream LIKE 'r-%' AND l."position" = e."position"), 11, 'each is found by its id');

    refuses($s, "SELECT * FROM trunkline.publish('a', '1', 'store', event_id => '" . $id->(1) . "')", 'TL003', {id => $id->(1)}, 'publish() with an id that was appended');
    refuses($s, "SELECT * FROM trunkline.publish('a', '1', 'store', key => 'r-1', event_id => '" . $id->(1) . "')", 'TL003', {id => $id->(1)}, 'even if all else is the same');
    $s->do("SELECT trunkline.publish('a', '1', 'store', event_id => '" . $id->(99) . "')");
    refuses($s, "SELECT * FROM trunkline.append_event('r-6', 'a', '1', event_id => '" . $id->(99) . "')", 'TL003', {reason => 'stream'}, 'append with an id that was published');
};

subtest 'topics of one\'s own' => sub {
    $s->do("SELECT trunkline.create_topic('own', dedup_window => NULL, streams => true, max_event_bytes => 2048)");
    returns($s, q(SELECT version, "position" FROM trunkline.append_event('a-1', 'a', '1', 0, topic => 'own')), '1|1', 'append');
    returns($s, q(SELECT version, "position" FROM trunkline.append_streams('[{"stream": "a-1", "events": {"type": "b"}}]', 'own')), '2|2', 'several streams');
    returns($s, q(SELECT trunkline.stream_version('a-1', 'own'), trunkline.stream_version('a-1')), '2|1', 'streams of another topic are others');
    refuses($s, q(SELECT * FROM trunkline.append_event('a-1', 'a', to_jsonb(repeat('x', 3000)), topic => 'own')), 'TL007', {field => 'data', limit => 2048}, 'its limit');
    refuses($s, q(SELECT * FROM trunkline.append_rows('a-1', '{a}', ARRAY[to_jsonb(repeat('x', 3000))], topic => 'own')), 'TL007', {field => 'data', limit => 2048, index => 0}, 'its limit, as arrays');
    refuses($s, q(SELECT trunkline.create_topic('fast', 'unlogged', streams => true)), '0A000', {field => 'streams'}, 'TOP-3: no streams without a log');
    refuses($s, q(SELECT trunkline.create_topic('none', streams => NULL)), 'TL005', {field => 'streams'}, 'streams NULL');
    returns($s, q(SELECT string_agg(replace(indexrelid::regclass::text, 'trunkline.leaf_', ''), ' ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid IN ('trunkline.leaf_own_2'::regclass, 'trunkline.leaf_bus_0'::regclass)),
        'bus_0_pkey own_2_category own_2_correlation own_2_pkey own_2_stream', 'only topics with streams pay for their indexes');
    $s->do("SELECT trunkline.drop_topic('own'); SELECT trunkline.create_topic('own', streams => true)");
    returns($s, q(SELECT trunkline.stream_version('a-1', 'own')), 0, 'CLN: dropped with its streams');
};

done_testing;
