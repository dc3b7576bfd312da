#!/usr/bin/perl
# EVS-6, EVS-7, EVS-14, TEN-2: versions and settings of streams, listing, deletion and tombstones, tenants.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $s = session();
my $append = sub { my ($stream, $expected, @more) = @_; return "SELECT version FROM trunkline.append_event('$stream', 'a', '1', $expected" . join('', map { ", $_" } @more) . ')' };
my $state = sub { $s->do("SELECT version, first_version, state FROM trunkline.stream_info('$_[0]')") };
my $last = sub { $s->do("SELECT pg_sequence_last_value('trunkline.position_store')") };

subtest 'EVS-7: version and existence' => sub {
    returns($s, q(SELECT trunkline.stream_version('a-1'), trunkline.stream_exists('a-1')), '0|f', 'absent');
    returns($s, q(SELECT count(*) FROM trunkline.stream_info('a-1')), 0, 'no row');
    $s->do($append->('a-1', 0));
    returns($s, q(SELECT trunkline.stream_version('a-1'), trunkline.stream_exists('a-1')), '1|t', 'there');
    is($state->('a-1'), '1|1|open', 'its row');
    for my $f (qw(stream_version stream_exists stream_info)) {
        refuses($s, "SELECT * FROM trunkline.$f('')", 'TL005', {field => 'stream'}, "$f of no name");
        refuses($s, "SELECT * FROM trunkline.$f('a', 'nowhere')", 'TL002', {field => 'topic'}, "$f of no topic");
    }
};

subtest 'settings' => sub {
    returns($s, q(SELECT trunkline.set_stream('a-1', 10, '1 day', '{"owner": "x"}', 1)), 1, 'set');
    returns($s, q(SELECT version, max_count, max_age, metadata FROM trunkline.stream_info('a-1')), '1|10|1 day|{"owner": "x"}', 'kept');
    returns($s, q(SELECT trunkline.set_stream('a-1', max_count => 5); SELECT max_count, max_age, metadata FROM trunkline.stream_info('a-1')), "1\n5||", 'each argument is a setting');
    refuses($s, q(SELECT trunkline.set_stream('a-1', expected_version => 7)), 'TL001', {stream => 'a-1', expected => 7, actual => 1}, 'another version');
    returns($s, $append->('a-1', 1), 2, 'an append goes on');
    returns($s, q(SELECT max_count FROM trunkline.stream_info('a-1')), 5, 'and changes no setting');
    returns($s, q(SELECT trunkline.set_stream('b-1', metadata => '{}', expected_version => 0), trunkline.stream_exists('b-1')), '0|f', 'a stream that is not there is made at version 0');
    is($state->('b-1'), '0|1|open', 'and listed');
    returns($s, $append->('b-1', 0), 1, 'the first append follows');
    refuses($s, "SELECT trunkline.set_stream('a-1', $_->[0])", $_->[1], {field => $_->[2]}, $_->[0])
        for ['0', 'TL005', 'max_count'], ['-1', 'TL005', 'max_count'], [q(max_age => '-1 day'), 'TL005', 'max_age'], [q(max_age => '2000 years'), 'TL005', 'max_age'], [q(metadata => '1'), 'TL005', 'metadata'],
            [q(metadata => jsonb_build_object('x', repeat('y', 70000))), 'TL007', 'metadata'], [q(expected_version => -2), 'TL005', 'expected_version'], [q(tenant_id => ''), 'TL005', 'tenant_id'];
    refuses($s, q(SELECT trunkline.set_stream('a', topic => 'bus')), '0A000', {field => 'topic'}, 'a topic without streams');
};

subtest 'list' => sub {
    $s->do("SELECT trunkline.append_event(x, 'a', '1') FROM unnest('{order,order-1,order-10,order-2,\"order!x\",order.x,orders-1,Zebra-1}'::text[]) x");
    my $list = sub { $s->do("SELECT string_agg(stream, ' ' ORDER BY o) FROM trunkline.list_streams($_[0]) WITH ORDINALITY u(stream, b, c, d, e, f, g, h, i, j, o)") };
    is($list->(''), 'Zebra-1 a-1 b-1 order order!x order-1 order-10 order-2 order.x orders-1', 'all, by bytes');
    is($list->("'order'"), 'order order-1 order-10 order-2', 'a category');
    is($list->("'order-*'"), 'order order-1 order-10 order-2', 'written as a pattern');
    is($list->("'order', 'order-1', 2"), 'order-10 order-2', 'from a name on, so many');
    is($list->("after => 'order-2', max_streams => 1"), 'order.x', 'all, from a name on');
    is($list->("'nothing'"), '', 'none');
    refuses($s, "SELECT * FROM trunkline.list_streams($_->[0])", $_->[2] // 'TL005', {field => $_->[1]}, $_->[0])
        for ['max_streams => 0', 'max_streams'], ['max_streams => 10001', 'max_streams'], ['max_streams => NULL', 'max_streams'], [q('a-b'), 'category'], [q(''), 'category'], [q(topic => 'nowhere'), 'topic', 'TL002'];
    is($s->do("EXPLAIN SELECT FROM trunkline.streams s WHERE topic_id = 2 AND stream >= 'order' AND stream < 'order.' ORDER BY topic_id, stream") =~ /Sort|Seq/ ? 'sorted' : '', '', 'along the key');
};

subtest 'soft delete' => sub {
    $s->do("SELECT trunkline.append_rows('d-1', '{a,b,c}', '{1,2,3}')");
    refuses($s, q(SELECT trunkline.delete_stream('d-1', 2)), 'TL001', {stream => 'd-1', expected => 2, actual => 3}, 'another version');
    returns($s, q(SELECT trunkline.delete_stream('d-1', 3, reason => 'closed'), trunkline.delete_stream('d-1'), trunkline.delete_stream('never')), 't|f|f', 'once');
    is($state->('d-1'), '3|4|deleted', 'state');
    returns($s, q(SELECT trunkline.stream_version('d-1'), trunkline.stream_exists('d-1')), '3|f', 'it keeps its version');
    returns($s, q(SELECT count(*) FROM trunkline.list_streams('d')), 0, 'not listed');
    returns($s, q(SELECT count(*) FROM trunkline.list_streams('d', include_deleted => true)), 1, 'unless asked for');
    returns($s, q(SELECT count(*) FROM trunkline.topic_store WHERE stream = 'd-1'), 3, 'the log keeps it');
    returns($s, q(SELECT actor = session_user, action, object, reason, detail ->> 'version', detail ->> 'hard' FROM trunkline.audit ORDER BY audit_id DESC LIMIT 1), 't|delete_stream|store/d-1|closed|3|false', 'SEC-4: audited');
    my $before = $last->();
    refuses($s, $append->('d-1', 2), 'TL001', {stream => 'd-1', expected => 2, actual => 3, reason => 'deleted'}, 'an append that knows an old version');
    refuses($s, $append->('d-1', -1), 'TL001', {expected => 'exists', reason => 'deleted'}, 'that wants it to exist');
    refuses($s, q(SELECT trunkline.delete_stream('d-1', -1)), 'TL001', {expected => 'exists', reason => 'deleted'}, 'delete what exists');
    is($last->(), $before, 'no position spent');
    returns($s, q(SELECT trunkline.set_stream('d-1', 5)), 3, 'settings open nothing');
    is($state->('d-1'), '3|4|deleted', 'still deleted');
    for my $how (['0', 'no stream'], ['NULL', 'any'], ['VERSION', 'its version']) {
        my ($expected, $name) = @$how;
        my $version = $s->do("SELECT trunkline.stream_version('d-1')");
        returns($s, $append->('d-1', $expected eq 'VERSION' ? $version : $expected), $version + 1, "opened by an append that expects $name");
        is($state->('d-1'), ($version + 1) . '|' . ($version + 1) . '|open', 'it goes on with the next version');
        $s->do("SELECT trunkline.delete_stream('d-1')");
    }
    returns($s, q(SELECT version FROM trunkline.append('d-1', '[{"type": "x"}, {"type": "y"}]', 0)), "7\n8", 'by several events too');
    returns($s, q(SELECT stream_exists FROM trunkline.stream_exists('d-1')), 't', 'there again');
    refuses($s, "SELECT trunkline.delete_stream($_->[0])", 'TL005', {field => $_->[1]}, $_->[0])
        for [q(''), 'stream'], [q('d-1', -2), 'expected_version'], [q('d-1', hard => NULL), 'hard'], [q('d-1', reason => repeat('x', 1001)), 'reason'], [q('d-1', hard => true), 'reason'];
};

subtest 'a repeated append of a stream that was deleted meanwhile' => sub {
    my $call = q(SELECT version, deduplicated FROM trunkline.append_event('d-2', 'a', '1', 0, '00000000-0000-4000-8000-000000000001'));
    $s->do($call);
    $s->do("SELECT trunkline.delete_stream('d-2')");
    returns($s, $call, '1|t', 'is that append, and opens nothing');
    is($state->('d-2'), '1|2|deleted', 'still deleted');
    my $again = q(SELECT version, deduplicated FROM trunkline.append_event('d-2', 'a', '1', 0, '00000000-0000-4000-8000-000000000002'));
    returns($s, $again, '2|f', 'another one, that expects none');
    returns($s, $again, '2|t', 'can be repeated too');
};

subtest 'hard delete' => sub {
    $s->do("SELECT trunkline.append_rows('h-1', array_fill('secret'::text, '{1500}'), array_fill('{\"name\": \"X\"}'::jsonb, '{1500}'), array_fill('{\"correlation_id\": \"c\", \"user\": \"X\"}'::jsonb, '{1500}'))");
    $s->do("SELECT trunkline.append_event('h-2', 'other', '{\"name\": \"X\"}')");
    returns($s, q(SELECT trunkline.delete_stream('h-1', 1500, true, 'article 17'), trunkline.delete_stream('h-1', hard => true, reason => 'again')), 't|f', 'once');
    is($state->('h-1'), '1500|1501|tombstone', 'a tombstone');
    returns($s, q(SELECT count(*), bool_and(data = 'null'), bool_and(metadata - 'redacted' = '{"correlation_id": "c"}'), bool_and(metadata #>> '{redacted,reason}' = 'article 17') FROM trunkline.topic_store WHERE stream = 'h-1'), '1500|t|t|t', 'no payload is left');
    returns($s, q(SELECT data FROM trunkline.topic_store WHERE stream = 'h-2'), '{"name": "X"}', 'others keep theirs');
    my $before = $last->();
    refuses($s, $append->('h-1', $_), 'TL001', {stream => 'h-1', actual => 1500, reason => 'tombstone'}, "no append, expecting $_") for 'NULL', 0, -1, 1500, 3;
    refuses($s, q(SELECT trunkline.set_stream('h-1')), 'TL001', {reason => 'tombstone'}, 'no settings');
    refuses($s, q(SELECT * FROM trunkline.append_streams('[{"stream": "h-1", "expected_version": 1500}, {"stream": "n-1", "events": {"type": "a"}}]')), 'TL001', {reason => 'tombstone', index => 0}, 'nor is it as it was');
    is($last->(), $before, 'no position spent');
    returns($s, q(SELECT trunkline.stream_exists('h-1'), trunkline.stream_version('h-1')), 'f|1500', 'gone');
    $s->do("SELECT trunkline.append_event('h-3', 'a', '1'); SELECT trunkline.delete_stream('h-3')");
    returns($s, q(SELECT trunkline.delete_stream('h-3', hard => true, reason => 'r')), 't', 'one that was deleted softly');
};

subtest 'TEN-1, TEN-2: tenants' => sub {
    returns($s, $append->('t-1', 0, "tenant_id => 'A'"), 1, 'a stream of A');
    returns($s, $append->('t-1', 1, "tenant_id => 'A'"), 2, 'A goes on');
    returns($s, $append->('t-1', 2), 3, 'the system may too');
    returns($s, q(SELECT string_agg(tenant_id, ' ') FROM trunkline.topic_store WHERE stream = 't-1'), 'A A A', 'all events are A\'s');
    my $before = $last->();
    for my $expected ('NULL', 0, -1, 3, 2) {
        my $error = $s->error($append->('t-1', $expected, "tenant_id => 'B'"));
        is($error->{state}, '42501', "B may not append, expecting $expected");
        unlike(join(' ', values %$error), qr/\b3\b/, 'and learns no version');
    }
    refuses($s, q(SELECT * FROM trunkline.append('t-1', '{"type": "a"}', tenant_id => 'B')), '42501', {stream => 't-1'}, 'nor several');
    refuses($s, q(SELECT * FROM trunkline.append_rows('t-1', '{a}', '{1}', tenant_id => 'B')), '42501', {stream => 't-1'}, 'nor as arrays');
    refuses($s, q(SELECT * FROM trunkline.append_streams('[{"stream": "b-9", "events": {"type": "a"}}, {"stream": "t-1", "expected_version": 3}]', tenant_id => 'B')), '42501', {stream => 't-1'}, 'nor check');
    refuses($s, q(SELECT trunkline.set_stream('t-1', 1, tenant_id => 'B')), '42501', {stream => 't-1'}, 'nor set');
    refuses($s, q(SELECT trunkline.delete_stream('t-1', tenant_id => 'B')), '42501', {stream => 't-1'}, 'nor delete');
    refuses($s, q(SELECT trunkline.create_aggregate('t', '1', tenant_id => 'B')), '42501', {stream => 't-1'}, 'nor make');
    refuses($s, $append->('a-1', 'NULL', "tenant_id => 'B'"), '42501', {stream => 'a-1'}, 'a stream of the system is not B\'s');
    is($last->(), $before, 'no position spent');
    returns($s, q(SELECT trunkline.stream_version('t-1', tenant_id => x), trunkline.stream_exists('t-1', tenant_id => x), (SELECT count(*) FROM trunkline.stream_info('t-1', tenant_id => x)) FROM unnest('{A,B,NULL}'::text[]) x), "3|t|1\n0|f|0\n3|t|1", 'B sees nothing');
    returns($s, q(SELECT (SELECT count(*) FROM trunkline.list_streams('t', tenant_id => x)) FROM unnest('{A,B,NULL}'::text[]) x), "1\n0\n1", 'in lists too');
    returns($s, q(SELECT trunkline.create_aggregate('t', '2'); SELECT version FROM trunkline.append_event('t-2', 'a', '1', tenant_id => 'B'); SELECT tenant_id FROM trunkline.stream_info('t-2')), "t\n1\nB", 'a stream without events becomes the first one\'s');
    returns($s, q(SELECT trunkline.set_stream('t-3', 1, tenant_id => 'B'); SELECT tenant_id FROM trunkline.stream_info('t-3')), "0\nB", 'set_stream() says whose it is');
    refuses($s, $append->('t-3', 0, "tenant_id => 'A'"), '42501', {stream => 't-3'}, 'and then it is');
    # ids tell nothing either
    my $id = '00000000-0000-4000-8000-000000000077';
    $s->do($append->('t-1', 'NULL', "'$id'", "tenant_id => 'A'"));
    refuses($s, $append->('t-1', 'NULL', "'$id'", "tenant_id => 'B'"), '42501', {stream => 't-1'}, 'repeating what A did');
    returns($s, $append->('t-1', 'NULL', "'$id'", "tenant_id => 'A'"), 4, 'A may');
};

subtest 'CLN-5: a leaf that retention dropped' => sub {
    $s->do("SELECT trunkline.create_topic('short', 'logged', 'hour', '1 hour', dedup_window => NULL, streams => true)");
    my $first = q(SELECT version, deduplicated FROM trunkline.append_event('s-1', 'a', '1', 0, '00000000-0000-4000-8000-000000000088', topic => 'short'));
    $s->do($first);
    $s->do("SELECT setval('trunkline.position_short', 1::bigint << 30); SELECT trunkline.append_event('s-1', 'a', '1', topic => 'short')");
    $s->do("SELECT trunkline.set_topic('short', 'none', '1 us', 1048576, NULL)");
    $s->do('SELECT * FROM trunkline.maintain()') for 1 .. 2;
    is($s->do("SELECT min(leaf) FROM trunkline.leaves JOIN trunkline.topics USING (topic_id) WHERE name = 'short'"), 1, 'the first leaf is gone');
    returns($s, q(SELECT trunkline.stream_version('s-1', 'short')), 2, 'the stream goes on');
    returns($s, q(SELECT version FROM trunkline.append_event('s-1', 'a', '1', 2, topic => 'short')), 3, 'with its versions');
    returns($s, $first, '1|t', 'an append of before is still known');
    returns($s, $first =~ s/version, deduplicated/"position"/r, '', 'without a position');
    returns($s, q(SELECT trunkline.delete_stream('s-1', hard => true, reason => 'r', topic => 'short')), 't', 'and what is left can be deleted');
};

done_testing;
