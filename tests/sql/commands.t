#!/usr/bin/perl
# CMD-1 to CMD-5, RMD-1, AGG-1: commands decided by SQL functions, read models, aggregates.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my $s = session();
$s->do(q{
    CREATE SCHEMA app;
    CREATE TABLE app.calls (id uuid, version bigint);
    CREATE FUNCTION app.add(c jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO app.calls VALUES ((c ->> 'id')::uuid, (c ->> 'version')::bigint);
        RETURN jsonb_build_array(jsonb_build_object('type', 'added', 'data', c -> 'data'), jsonb_build_object('type', 'noted', 'metadata', '{"mine": 1}'::jsonb));
    END $$;
    CREATE FUNCTION app.single(c jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('type', 'one', 'data', c) $$;
    CREATE FUNCTION app.nothing(c jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
    CREATE FUNCTION app.empty(c jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[]'::jsonb $$;
    CREATE FUNCTION app.refuse(c jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO app.calls VALUES ((c ->> 'id')::uuid, 0);
        RAISE 'order already shipped' USING ERRCODE = 'TL008';
    END $$;
    CREATE FUNCTION app.fail(c jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO app.calls VALUES ((c ->> 'id')::uuid, 0);
        RETURN to_jsonb(1 / (c ->> 'version')::integer);
    END $$;
    CREATE FUNCTION app.bad(c jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[{"type": "a"}, {"type": ""}]'::jsonb $$;
    CREATE FUNCTION app.scalar(c jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '7'::jsonb $$;
    CREATE FUNCTION app.abort(c jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'again' USING ERRCODE = '40001'; END $$;
    CREATE FUNCTION app.full(c jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room' USING ERRCODE = '53100'; END $$;
    CREATE FUNCTION app.lock(c jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM FROM app.calls LIMIT 1;
        RETURN NULL;
    END $$;
    CREATE FUNCTION app.meet(c jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(77); -- held by the test, which appends meanwhile
        PERFORM pg_advisory_unlock(77);
        RETURN jsonb_build_object('type', 'met', 'data', c -> 'version');
    END $$;
    CREATE FUNCTION app.void(c jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
    SELECT trunkline.command_handler(x, 'app.' || x) FROM unnest('{add,single,nothing,empty,refuse,fail,bad,scalar,abort,full,lock,meet}'::text[]) x});

my $n = 0;
sub create { my ($aggregate, $type, $more) = @_; return $s->do("SELECT trunkline.command_create('$aggregate', '$type', '{\"n\": 1}'" . ($more // '') . ')') }
sub status { my ($id) = @_; return $s->do("SELECT status, attempts, cardinality(event_ids), coalesce(error, ''), processed_at IS NULL FROM trunkline.commands WHERE id = '$id'") }
sub process { my ($id) = @_; return $s->do("SELECT trunkline.command_process('$id')") }

subtest 'CMD-1 a command' => sub {
    my $id = create('user-1', 'add');
    is(status($id), 'pending|0|0||t', 'pending');
    my $own = '00000000-0000-4000-8000-000000000001';
    is(create('user-1', 'add', ", '$own'"), $own, 'an id of one\'s own');
    is(create('user-1', 'add', ", '$own'"), $own, 'again: the same');
    is($s->do("SELECT count(*) FROM trunkline.commands WHERE id = '$own'"), 1, 'one command');
    refuses($s, "SELECT trunkline.command_create('$_->[0]', '$_->[1]', '$_->[2]', '$own'$_->[3])", 'TL003', {field => 'id', id => $own}, "other content: @$_")
        for ['user-2', 'add', '{"n": 1}', ''], ['user-1', 'single', '{"n": 1}', ''], ['user-1', 'add', '{"n": 2}', ''], ['user-1', 'add', '{"n": 1}', ', 0'], ['user-1', 'add', '{"n": 1}', ", metadata => '{}'"], ['user-1', 'add', '{"n": 1}', ", tenant_id => 'A'"];
    refuses($s, "SELECT trunkline.command_create($_->[0])", 'TL005', {field => $_->[1]}, $_->[0]) for ["'', 'a'", 'stream'], ["'a', ''", 'type'], ["'a', NULL", 'type'], ["'a', 'b', expected_version => -2", 'expected_version'],
        ["'a', 'b', tenant_id => ''", 'tenant_id'], ["'a', 'b', metadata => '[]'", 'metadata'];
    refuses($s, "SELECT trunkline.command_create('a', 'b', topic => 'nowhere')", 'TL002', {field => 'topic'});
};

subtest 'CMD-4 processed: events and status together' => sub {
    my $id = create('user-3', 'add', ", metadata => '{\"user_id\": \"u\"}'");
    $s->do('BEGIN');
    is(process($id), 't', 'processed');
    $s->do('ROLLBACK');
    is(status($id), 'pending|0|0||t', 'rolled back: neither');
    is($s->do("SELECT trunkline.stream_version('user-3')"), 0, 'nor');
    is(process($id), 't', 'processed');
    is(status($id), 'processed|1|2||f', 'status');
    is($s->do("SELECT string_agg(e.type, ' ' ORDER BY o.ordinality) FROM trunkline.commands c, unnest(c.event_ids) WITH ORDINALITY o(id, ordinality), trunkline.find(o.id) e WHERE c.id = '$id'"), 'added noted', 'its events by id, in order');
    is($s->do("SELECT metadata FROM trunkline.read_stream('user-3', 0, 1)"), qq({"user_id": "u", "causation_id": "$id", "correlation_id": "$id"}), 'they say what caused them');
    is($s->do("SELECT metadata ->> 'mine', metadata ->> 'causation_id' = '$id' FROM trunkline.read_stream('user-3', 1, 2)"), '1|t', 'beside what the handler said');
    is(process($id), 'f', 'CMD-2 not twice');
    is($s->do("SELECT trunkline.stream_version('user-3')"), 2, 'no more events');
    $id = create('user-3', 'single');
    is(process($id), 't', 'one event, not a list');
    is($s->do("SELECT data - 'id' FROM trunkline.read_stream('user-3', 2)"), '{"data": {"n": 1}, "type": "single", "version": 2, "metadata": null, "aggregate": "user-3", "tenant_id": null}', 'what a handler is given');
    for my $type (qw(nothing empty)) {
        $id = create('user-3', $type);
        is(process($id), 't', "no event: $type");
        is(status($id), 'processed|1|0||f', 'processed all the same');
    }
    is($s->do("SELECT string_agg(version::text, ' ') FROM app.calls"), '0', 'a handler that was rolled back left nothing');
};

subtest 'CMD-3, CMD-4 rejected and failed' => sub {
    my $calls = $s->do('SELECT count(*) FROM app.calls');
    for my $case (['unknown', 'rejected|0|0|no handler knows commands of type "unknown"|f'], ['refuse', 'rejected|1|0|order already shipped|f'], ['fail', 'failed|1|0|division by zero (22012)|f'],
        ['scalar', qr/^failed\|1\|0\|.*\(22023\)\|f$/], ['bad', qr/^failed\|1\|0\|.*\(TL005\)\|f$/]) {
        my ($type, $expected) = @$case;
        my $id = create('user-4', $type);
        is(process($id), 'f', $type);
        ref $expected ? like(status($id), $expected, $type) : is(status($id), $expected, "$type: not pending any more");
        is(process($id), 'f', 'and not again');
    }
    is($s->do("SELECT trunkline.stream_version('user-4')"), 0, 'no event came of any');
    is($s->do('SELECT count(*) FROM app.calls'), $calls, 'nor anything else a handler did');
    my $id = create('user-4', 'abort');
    is($s->error("SELECT trunkline.command_process('$id')")->{state}, '40001', 'a transaction that must be repeated is no failure of the command');
    is(status($id), 'pending|0|0||t', 'it waits');
    my $holder = session();
    my $late = create('user-4', 'lock');
    $holder->do('BEGIN; LOCK TABLE app.calls');
    is($s->error("SET lock_timeout = '50ms'; SELECT trunkline.command_process('$late')")->{state}, '55P03', 'nor is one that had no lock in time');
    $holder->do('COMMIT');
    $holder->close;
    $s->do('RESET lock_timeout');
    is(status($late), 'pending|0|0||t', 'it waits');
    is(process($late), 't', 'and is processed later');
    is($s->error("SELECT trunkline.command_process('" . create('user-4', 'full') . "')")->{state}, '53100', 'nor one that found the disk full');
    $s->do("DELETE FROM trunkline.commands WHERE type = 'full'");
    $s->do("DELETE FROM trunkline.commands WHERE id = '$id'");
    $id = create('user-4', 'add');
    $s->do("SELECT trunkline.command_handler('add', 'app.empty'); DROP FUNCTION app.empty");
    is(process($id), 'f', 'a handler that is gone');
    is(status($id), 'failed|0|0|handler app.empty(jsonb) is gone|f', 'is said');
    $s->do("SELECT trunkline.command_handler('add', 'app.add')");
    refuses($s, "SELECT trunkline.command_process('00000000-0000-4000-8000-0000000000ff')", 'TL002', {field => 'id'}, 'an unknown id');
    refuses($s, 'SELECT trunkline.command_process(NULL)', 'TL002', {field => 'id'});
    refuses($s, "SELECT trunkline.command_handler('a', $_)", 'TL005', {field => 'function'}, "handler $_") for "''", "'app.none'", "'app.void'", "'app.add; DROP SCHEMA app'";
    refuses($s, "SELECT trunkline.command_handler($_, 'app.add')", 'TL005', {field => 'type'}) for 'NULL', "''";
    $s->do("SELECT trunkline.command_handler('single', NULL)");
    is(process(create('user-4', 'single')), 'f', 'a handler taken away');
};

subtest 'CMD-2 two at once: exactly one processes' => sub {
    my ($one, $two) = (session(), session());
    for my $end ('COMMIT', 'ROLLBACK') {
        my $id = create("race-$end", 'add');
        $one->do("BEGIN; SELECT trunkline.command_process('$id')");
        $two->start("SELECT trunkline.command_process('$id')");
        $two->wait_blocked;
        is($s->do('SELECT trunkline.command_process_next() IS NULL OR true'), 't', 'others pass it by');
        $one->do($end);
        is($two->finish, $end eq 'COMMIT' ? 'f' : 't', "$end: the second");
        is($s->do("SELECT trunkline.stream_version('race-$end')"), 2, 'its events are there once');
    }
    $_->close for $one, $two;
};

subtest 'CMD-5 expected version, and decided anew after a conflict' => sub {
    my @cases = ([0, 'f', 'no_stream'], [2, 'f', 2], [-1, 't'], [1, 't'], [3, 't']);
    $s->do("SELECT version FROM trunkline.append('ver-1', '{\"type\": \"x\"}')");
    for my $case (@cases) {
        my ($expected, $result, $wish) = @$case;
        my $at = $s->do("SELECT trunkline.stream_version('ver-1')");
        my $id = create('ver-1', 'nothing', ", expected_version => $expected");
        is(process($id), $result eq 't' && ($expected < 0 || $expected == $at) ? 't' : 'f', "expected $expected at $at");
        is($s->do("SELECT error FROM trunkline.commands WHERE id = '$id'"), qq(aggregate "ver-1" is at version $at, expected $wish), 'said') if defined $wish;
    }
    my $id = create('absent-1', 'nothing', ', expected_version => -1');
    is(process($id), 'f', 'exists, but it does not');
    is(process(create('absent-1', 'nothing', ', expected_version => 0')), 't', 'no_stream, and there is none');

    $s->do("SELECT version FROM trunkline.append('again-1', '{\"type\": \"x\"}'); SELECT trunkline.delete_stream('again-1')");
    is(process(create('again-1', 'nothing', ', expected_version => -1')), 'f', 'exists, but it was deleted');
    is(process(create('again-1', 'add', ', expected_version => 0')), 't', 'no_stream opens one that was deleted again');

    my ($holder, $worker) = (session(), session());
    $holder->do('SELECT pg_advisory_lock(77)');
    $id = create('meet-1', 'meet');
    $worker->start("SELECT trunkline.command_process('$id')");
    $worker->wait_blocked;
    $s->do("SELECT version FROM trunkline.append('meet-1', '{\"type\": \"first\"}')"); # while the handler decides
    $holder->do('SELECT pg_advisory_unlock(77)');
    is($worker->finish, 't', 'processed');
    is($s->do("SELECT attempts FROM trunkline.commands WHERE id = '$id'"), 2, 'at the second attempt');
    is($s->do("SELECT string_agg(type || data, ' ' ORDER BY version) FROM trunkline.read_stream('meet-1')"), 'firstnull met1', 'decided on what was there');
    $_->close for $holder, $worker;
};

subtest 'EVS-14 redaction takes the arguments too' => sub {
    my $made = create('gdpr-1', 'add', ", metadata => '{\"user\": \"u\"}'");
    my $other = create('gdpr-1', 'add');
    is(process($_), 't', 'processed') for $made, $other;
    my $arguments = sub { $s->do("SELECT data, metadata - 'redacted', metadata ? 'redacted', status FROM trunkline.commands WHERE id = '$_[0]'") };
    returns($s, "SELECT trunkline.redact(event_ids[2], 'r', metadata => false) FROM trunkline.commands WHERE id = '$made'", 't', 'one of its events');
    is($arguments->($made), 'null|{"user": "u"}|t|processed', 'the command that it came of');
    returns($s, "SELECT trunkline.redact(event_ids[1], 'r') FROM trunkline.commands WHERE id = '$made'", 't', 'the other one');
    is($arguments->($made), 'null|{}|t|processed', 'with its metadata');
    is($arguments->($other), '{"n": 1}|||processed', 'and no other command');

    # a command under way, and one that waits: whoever is second waits, and nobody for ever
    my ($holder, $worker, $eraser) = (session(), session(), session());
    my ($running, $waiting) = (create('gdpr-1', 'meet'), create('gdpr-1', 'add'));
    $holder->do('SELECT pg_advisory_lock(77)');
    $worker->start("SELECT trunkline.command_process('$running')");
    $worker->wait_blocked;
    $eraser->start("SELECT trunkline.delete_stream('gdpr-1', hard => true, reason => 'r')");
    $eraser->wait_blocked;
    $holder->do('SELECT pg_advisory_unlock(77)');
    is($worker->finish, 't', 'the command ends');
    is($eraser->finish, 't', 'and then its stream');
    is($s->do("SELECT bool_and(data = 'null') FROM trunkline.read('store', max_events => 10000) WHERE stream = 'gdpr-1'"), 't', 'no payload');
    is($arguments->($_), 'null|{}|t|processed', 'nor arguments') for $made, $other, $running;
    is($arguments->($waiting), 'null|{}|t|rejected', 'nor of the one that waits');
    is(process($waiting), 'f', 'which waits no more');
    $_->close for $holder, $worker, $eraser;
};

subtest 'TEN-1 tenants' => sub {
    my $id = create('tenant-1', 'add', ", tenant_id => 'A'");
    is(process($id), 't', 'A');
    is($s->do("SELECT DISTINCT tenant_id FROM trunkline.read_stream('tenant-1')"), 'A', 'the events are A\'s');
    $id = create('tenant-1', 'add', ", tenant_id => 'B'");
    is(process($id), 'f', 'B commands nothing of A');
    like(status($id), qr/^failed\|1\|0\|.*42501/, 'denied');
};

subtest 'a queue' => sub {
    $s->do("DELETE FROM trunkline.commands");
    my @ids = map { create("queue-$_", 'add') } 1 .. 3;
    my ($one, $two) = (session(), session());
    $one->do('BEGIN');
    is($one->do('SELECT trunkline.command_process_next()'), $ids[0], 'the oldest first');
    is($two->do('SELECT trunkline.command_process_next()'), $ids[1], 'another worker takes the next');
    $one->do('COMMIT');
    is($two->do('SELECT trunkline.command_process_next()'), $ids[2], 'and so on');
    is($two->do('SELECT trunkline.command_process_next()'), '', 'none left');
    is($s->do("SELECT string_agg(DISTINCT status, ' ') FROM trunkline.commands"), 'processed', 'all done');
    $_->close for $one, $two;
};

subtest 'RMD-1 read models' => sub {
    my $put = sub { $s->do("SELECT trunkline.read_model_put('user', '$_[0]', '\"$_[1]\"', $_[2]" . ($_[3] // '') . ')') };
    my $get = sub { $s->do("SELECT model_data, version FROM trunkline.read_model_get('user', '$_[0]'" . ($_[1] // '') . ')') };
    is($get->('1'), '', 'absent: no row');
    is($put->('1', 'two', 2), 't', 'put');
    is($put->('1', 'one', 1), 'f', 'an older version never overwrites a newer one');
    is($get->('1'), '"two"|2', 'it stays');
    is($put->('1', 'again', 2), 't', 'the same version again');
    is($put->('1', 'three', 3), 't', 'a newer one');
    is($get->('1'), '"three"|3', 'replaces it');
    is($s->do("SELECT updated_at > created_at FROM trunkline.read_model_get('user', '1')"), 't', 'times');
    is($s->do("SELECT count(*) FROM trunkline.read_model_get('order', '1')"), 0, 'another type is another model');
    my ($one, $two) = (session(), session());
    $one->do("BEGIN; SELECT trunkline.read_model_put('user', '1', '5', 5)");
    $two->start("SELECT trunkline.read_model_put('user', '1', '4', 4)");
    $two->wait_blocked;
    $one->do('COMMIT');
    is($two->finish, 'f', 'two at once: the older one loses');
    $_->close for $one, $two;
    is($put->('t', 'a', 1, ", 'A'"), 't', 'a tenant\'s');
    is($get->('t', ", 'B'"), '', 'not B\'s');
    is($get->('t', ", 'A'"), '"a"|1', 'A\'s');
    is($get->('t'), '"a"|1', 'system sees all');
    is($get->('1', ", 'A'"), '', 'a system model is not A\'s');
    for my $id ('t', '1') {
        refuses($s, "SELECT trunkline.read_model_put('user', '$id', '1', 9, 'B')", '42501', {field => 'tenant_id'}, "B does not write $id");
    }
    is($put->('t', 'sys', 2), 't', 'system writes it');
    is($get->('t', ", 'A'"), '"sys"|2', 'and it stays A\'s');
    refuses($s, "SELECT trunkline.read_model_put($_->[0])", 'TL005', {field => $_->[1]}, $_->[0]) for ["'', '1', '1', 1", 'aggregate_type'], ["'a', NULL, '1', 1", 'aggregate_id'], ["'a', 'b', NULL, 1", 'model_data'],
        ["'a', 'b', '1', -1", 'version'], ["'a', 'b', '1', NULL", 'version'], ["'a', 'b', '1', 1, ''", 'tenant_id'];
};

subtest 'AGG-1 view aggregates' => sub {
    $s->do("SELECT version FROM trunkline.append('agg-a-b', '[{\"type\": \"x\"}, {\"type\": \"y\"}]', tenant_id => 'A'); SELECT version FROM trunkline.append('lonely', '{\"type\": \"x\"}'); SELECT trunkline.create_aggregate('agg', 'new')");
    my $columns = 'topic, stream, aggregate_type, aggregate_id, current_version, tenant_id, state';
    is($s->do("SELECT $columns FROM trunkline.aggregates WHERE stream LIKE 'agg-%' OR stream = 'lonely' ORDER BY stream"),
        "store|agg-a-b|agg|a-b|2|A|open\nstore|agg-new|agg|new|0||open\nstore|lonely|lonely||1||open", 'streams as aggregates');
    my $at = $s->do("SELECT created_at, updated_at FROM trunkline.aggregates WHERE stream = 'agg-a-b'");
    my $other = session();
    $other->do("BEGIN; SELECT version FROM trunkline.append('agg-a-b', '{\"type\": \"z\"}')");
    is($s->do("SELECT current_version FROM trunkline.aggregates WHERE stream = 'agg-a-b'"), 2, 'moved by append, in its transaction');
    is($other->do("SELECT current_version FROM trunkline.aggregates WHERE stream = 'agg-a-b'"), 3, 'there');
    $other->do('COMMIT');
    is($s->do("SELECT current_version FROM trunkline.aggregates WHERE stream = 'agg-a-b'"), 3, 'and then for all');
    is($s->do("SELECT updated_at > created_at FROM trunkline.aggregates WHERE stream = 'agg-a-b'"), 't', 'and its time');
    isnt($s->error("UPDATE trunkline.aggregates SET current_version = 1")->{state}, 'none', 'not writable');
    $other->close;
};

$s->close;
done_testing;
