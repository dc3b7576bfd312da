#!/usr/bin/perl
# Every bad argument is a typed error whose DETAIL is JSON and names the field, and the limit where there is one.
use strict;
use warnings;
use utf8;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $s = session();
$s->do("SELECT trunkline.subscribe('s', '**'); CREATE FUNCTION handle(jsonb) RETURNS void LANGUAGE sql AS ''; CREATE FUNCTION handle_text(text) RETURNS void LANGUAGE sql AS ''");
my ($l255, $l256) = ("'" . 'x' x 255 . "'", "'" . 'x' x 256 . "'");
my $bytes = "repeat('ü', 128)"; # 128 characters, 256 bytes

sub bad {
    my ($call, $field, $limit, $state) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $name = length $call > 100 ? substr($call, 0, 60) . '...' . substr($call, -40) : $call;
    return refuses($s, "SELECT trunkline.$call", $state // 'TL005', {field => $field, defined $limit ? (limit => $limit) : ()}, $name);
}
sub good {
    my ($call) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = $s->error("BEGIN; SELECT trunkline.$call");
    $s->do('ROLLBACK');
    return is($error->{state}, 'none', length $call > 100 ? substr($call, 0, 60) . '...' : $call) || diag($error->{message});
}

subtest 'publish' => sub {
    bad("publish($_, '1')", 'type', 255) for 'NULL', "''", $l256, $bytes, "'a..b'", "'.a'", "'a.'", "'.'", "'a.*'", "'*'";
    good("publish($_, '1')") for $l255, "repeat('ü', 127)", "'a b'", "'a'";
    for my $field (qw(key tenant_id source)) {
        bad("publish('a', '1', $field => $_)", $field, 255) for "''", $l256, $bytes;
        good("publish('a', '1', $field => $l255)");
    }
    bad("publish('a', '1', metadata => '$_')", 'metadata') for '1', '[]', '"x"', 'null';
    bad("publish('a', '1', 'nowhere')", 'topic', undef, 'TL002');
    bad("publish('a', '1', NULL)", 'topic', undef, 'TL002');
    bad("publish('a', '1', 'nowhere', gen_random_uuid())", 'topic', undef, 'TL002');
    bad("publish('a', to_jsonb(repeat('x', 1048577)))", 'data', 1048576, 'TL007');
    bad("publish('a', '1', metadata => jsonb_build_object('m', repeat('y', 65536)))", 'metadata', 65536, 'TL007');
    good("publish('a', to_jsonb(repeat('x', 1048000)), metadata => jsonb_build_object('m', repeat('y', 65000)))");
    good("publish('a', to_jsonb(repeat('x', 1048000)))");
    bad("publish(NULL, '1', event_id => gen_random_uuid())", 'type', 255);
    is($s->error('SELECT trunkline.publish(\'a\', \'{"x": "\\u0000"}\')')->{state}, '22P05', '\u0000 is refused by PostgreSQL');
    is($s->error(q(SELECT trunkline.publish('a', '{')))->{state}, '22P02', 'so is what is not JSON');
    is($s->error(q(SELECT trunkline.publish('a', '1', event_id => 'x')))->{state}, '22P02', 'and what is not a uuid');
    is($s->error(q(BEGIN READ ONLY; SELECT trunkline.publish('a', '1')))->{state}, '25006', 'a read-only transaction');
    $s->do('ROLLBACK');
    like($s->error(q(SELECT trunkline.publish('', '1')))->{hint}, qr/order\.created/, 'a hint says what to do');
};

subtest 'INSERT' => sub {
    my $insert = sub {
        my ($columns, $values, $state, $constraint) = @_;
        my $error = $s->error("INSERT INTO trunkline.topic_bus (type, data$columns) VALUES ($values)");
        is($error->{state}, $state, substr "$columns $values", 0, 60);
        is($error->{'constraint name'}, $constraint, "by $constraint") if $constraint;
        return $error;
    };
    $insert->('', "$_, '1'", '23514', 'event_type') for "''", $l256, "'a..b'", "'a.*'";
    $insert->(", $_", "'a', '1', ''", '23514', 'event_name') for qw(key tenant_id source);
    $insert->(', metadata', "'a', '1', '[]'", '23514', 'event_metadata');
    my $error = $insert->('', "'secret.type', to_jsonb(repeat('x', 1048577))", '23514', 'event_size');
    $insert->('', "NULL, '1'", '23502');
    $insert->('', "'a', NULL", '23502');
};

subtest 'publish_batch' => sub {
    bad("publish_batch($_)", 'events') for 'NULL', "'null'", "'[]'", "'{}'", "'1'";
    bad("publish_batch('[{\"type\": \"a\"}]', 'nowhere')", 'topic', undef, 'TL002');
    my $element = sub {
        my ($json, $field, $more, $state) = @_;
        refuses($s, "SELECT trunkline.publish_batch('[{\"type\": \"a\"}, $json]')", $state // 'TL005', {field => $field, index => 1, %{$more // {}}}, 'element ' . substr $json, 0, 60);
    };
    $element->($_, 'events') for '1', 'null', '[]', '"x"';
    $element->('{}', 'type', {limit => 255});
    $element->('{"type": "a..b"}', 'type', {limit => 255});
    $element->('{"type": "a", "when": 1}', 'when');
    $element->('{"type": "a", "position": 1}', 'position');
    $element->("{\"type\": \"a\", \"$_\": 1}", $_) for qw(id key tenant_id source expires_at);
    $element->('{"type": 1}', 'type');
    $element->('{"type": "a", "id": "x"}', 'id');
    $element->('{"type": "a", "expires_at": "soon"}', 'expires_at');
    $element->('{"type": "a", "expires_at": "2030-02-30"}', 'expires_at');
    $element->('{"type": "a", "metadata": 1}', 'metadata');
    $element->('{"type": "a", "key": ""}', 'key', {limit => 255});
    $element->('{"type": "a", "data": "' . 'x' x 1048577 . '"}', 'data', {limit => 1048576}, 'TL007');
};

subtest 'topics' => sub {
    bad("create_topic($_)", 'name', 40) for 'NULL', "''", "'A'", "'1a'", "'a-b'", "'a.b'", "'a b'", "'" . 'a' x 41 . "'", "'ü'", "E'a\\n'";
    good("create_topic('" . 'a' x 40 . "')");
    bad("create_topic('t', 'maybe')", 'durability');
    bad("create_topic('t', NULL)", 'durability');
    bad("create_topic('t', rotation => $_)", 'rotation') for "'week'", 'NULL';
    bad("create_topic('t', retention => '$_')", 'retention') for '0', '-1 day', '2000000 years';
    bad("create_topic('t', dedup_window => '$_')", 'dedup_window') for '0', '-1 s', '2000000 years';
    bad("create_topic('t', max_event_bytes => $_)", 'max_event_bytes', 268435456) for 'NULL', 0, 1023, 268435457, -1;
    bad("create_topic('bus')", 'name', undef, 'TL001');
    bad("create_topic('$_')", 'name') for 'status', 'bus_pkey'; # relations of that name are there
    bad("set_topic('nowhere', 'none', NULL, 1048576, NULL)", 'topic', undef, 'TL002');
    bad("set_topic('bus', 'never', NULL, 1048576, NULL)", 'rotation');
    bad("set_topic('bus', 'none', NULL, NULL, NULL)", 'max_event_bytes', 268435456);
    bad("drop_topic('nowhere')", 'topic', undef, 'TL002');
    bad('drop_topic(NULL)', 'topic', undef, 'TL002');
    bad("drop_topic('$_', true)", 'name') for qw(bus store);
};

subtest 'subscribe' => sub {
    bad("subscribe($_, '*')", 'name', 255) for 'NULL', "''", $l256, $bytes;
    good("subscribe($l255, $l255)");
    bad("subscribe('x', $_)", 'pattern', 255) for 'NULL', "''", $l256, $bytes, "'a*'", "'**.a'", "'a..b'", "'***'";
    bad("subscribe('x', '*', 'nowhere')", 'topic', undef, 'TL002');
    bad("subscribe('x', '*', NULL)", 'topic', undef, 'TL002');
    bad("subscribe('x', '*', tenant_id => $_)", 'tenant_id', 255) for "''", $l256;
    bad("subscribe('x', '*', filter => '$_')", 'filter') for '1', '[]', 'null', '"x"';
    bad("subscribe('x', '*', filter_path => '$_')", 'filter_path') for '$.a', '$.a ? (@ > 1)', '$.a[*]', '$x > 1', '$.a == 1 && $x == 2', '1';
    good("subscribe('x', '*', filter_path => '$_')") for '$.a > 1', 'exists($.a ? (@ > 1))', '$.a == "\$x"', '$."$x" == 1', '!($.a == 1)', '$.a like_regex "\$"';
    is($s->error(q(SELECT trunkline.subscribe('x', '*', filter_path => '$.a >')))->{state}, '42601', 'what is no jsonpath is refused by PostgreSQL');
    bad("subscribe('x', '*', target => '$_')", 'target') for 'ftp://x', 'x', '', 'http://', 'sql:', 'exec:', 'HTTP://x', 'http://' . 'x' x 2048;
    bad("subscribe('x', '*', target => 'sql:$_')", 'target') for 'public.nothing', 'public.handle_text', 'a b', 'handle(jsonb)', "x'';y", 'public.handle;drop';
    good("subscribe('x', '*', target => '$_')") for 'sql:public.handle', 'http://x', 'https://x/y?z', 'exec:true';
    bad("subscribe('x', '*', priority => $_)", 'priority', 10) for 'NULL', 0, 11, -1;
    bad("subscribe('x', '*', ordering => $_)", 'ordering') for 'NULL', "'some'";
    bad("subscribe('x', '*', start_at => $_)", 'start_at') for 'NULL', "''", "'soon'", "'-1'", "'1.5'", "'infinity'", "'9999999999999999999'", "'999999999'", "'2026-02-30'";
    bad("subscribe('x', '*', max_attempts => $_)", 'max_attempts', 1000) for 0, 1001;
    bad("subscribe('x', '*', retry_delay => $_)", 'retry_delay') for "'-1 s'", "'2 years'";
    bad("subscribe('x', '*', retry_delay => '1 s', retry_cap => $_)", 'retry_cap') for "'0.5 s'", "'2 years'";
    good("subscribe('x', '*', $_)") for 'max_attempts => NULL, retry_delay => NULL, retry_cap => NULL', "retry_cap => '0.5 s'", "retry_delay => '2 h'";
    bad("subscribe('x', '*', backoff => $_)", 'backoff') for "''", "'linear'";
    bad("subscribe('x', '*', $_)", 'retry_schedule') for "backoff => 'schedule'", "backoff => 'fixed', retry_schedule => '{1s}'";
    bad("subscribe('x', '*', retry_schedule => $_)", 'retry_schedule', 100) for "'{}'", "'{NULL}'", "'{-1s}'", "'{2 years}'", "'{{1s}}'", "array_fill(interval '1 s', ARRAY[101])";
    good("subscribe('x', '*', retry_schedule => '{1s, 5 min}')");
    bad("subscribe('x', '*', on_failure => $_)", 'on_failure') for "''", "'die'", "'block_key', ordering => 'none'";
    bad("subscribe('x', '*', slots => $_)", 'slots', 256) for 'NULL', 0, 257;
    bad("subscribe('x', '*', slots => 2, ordering => '$_')", 'slots') for 'none', 'total';
    bad("subscribe('x', '*', mode => $_)", 'mode') for 'NULL', "'later'";
    bad("subscribe('x', '*', max_in_flight => $_)", 'max_in_flight', 1000000) for 0, 1000001;
    bad("subscribe('x', '*', rate_limit => $_)", 'rate_limit', 1000000) for 0, 1000001, "'NaN'", "'infinity'";
    bad("subscribe('x', '*', timeout => $_)", 'timeout') for "'0'", "'2 days'";
    bad("subscribe('x', '*', track => $_)", 'track') for 'NULL', "'some'";
    bad("subscribe('x', '*', target_options => $_)", 'target_options') for 'NULL', "'1'", "'[]'";
    bad("unsubscribe('nobody')", 'name', undef, 'TL002');
};

subtest 'claim, extend, read' => sub {
    bad("claim('nobody')", 'subscription', undef, 'TL002');
    bad('claim(NULL)', 'subscription', undef, 'TL002');
    bad("claim('s', 1)", 'slot', undef, 'TL002');
    bad("claim('s', max_events => $_)", 'max_events', 10000) for 'NULL', 0, -1, 10001;
    for my $lease ('NULL', "'0'", "'-1 s'", "'25 h'", "'0.5 ms'") {
        bad("claim('s', lease => $lease)", 'lease');
        bad("claim_many('{}', '{}', $lease)", 'lease');
        bad("extend(gen_random_uuid(), $lease)", 'lease');
    }
    bad("claim_many('{1,2}', '{1}')", 'capacity');
    bad("claim_many('{1}', '{}')", 'capacity');
    bad("claim_many('{1}', NULL)", 'capacity');
    good('claim_many(NULL, NULL)');
    bad("read('nowhere')", 'topic', undef, 'TL002');
    bad('read(NULL)', 'topic', undef, 'TL002');
    bad("read(max_events => $_)", 'max_events', 10000) for 'NULL', 0, 10001;
    bad("read(pattern => $_)", 'pattern', 255) for 'NULL', "''", "'a*'", $l256;
    bad("horizon($_)", 'topic', undef, 'TL002') for "'nowhere'", 'NULL';
};

subtest 'grants' => sub {
    for my $grant (qw(grant_publish grant_consume)) {
        bad("$grant('postgres', 'nowhere')", 'topic', undef, 'TL002');
        is($s->error("SELECT trunkline.$grant('no_such_role')")->{state}, '42704', "$grant: no such role");
    }
};

done_testing;
