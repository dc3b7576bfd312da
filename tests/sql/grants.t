#!/usr/bin/perl
# TOP-3: what a publisher, a consumer and a stranger may do, and what nobody can forge.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my $owner = session();
my $mark = $$; # roles belong to the cluster
my %role = map { $_ => "tl_${_}_$mark" } qw(publisher consumer operator stranger both);
$owner->do("CREATE ROLE $_ LOGIN") for values %role;
$owner->do("SELECT trunkline.grant_publish('$role{$_}')") for qw(publisher both);
$owner->do("SELECT trunkline.grant_consume('$role{$_}')") for qw(consumer both);
$owner->do("SELECT trunkline.grant_operate('$role{operator}')");
my %as = map { $_ => session(role => $role{$_}) } keys %role;

sub denied { my ($who, $sql, $name) = @_; return is($as{$who}->error($sql)->{state}, '42501', $name // substr($sql, 0, 100)) }
sub allowed { my ($who, $sql, $name) = @_; my $e = $as{$who}->error($sql); return is($e->{state}, 'none', $name // substr($sql, 0, 100)) || diag($e->{message}) }

my $p = 'INSERT INTO trunkline.topic_bus (type, data';

subtest 'a publisher publishes' => sub {
    allowed('publisher', $_) for
        "SELECT * FROM trunkline.publish('a', '1')",
        "SELECT * FROM trunkline.publish('a', '1', event_id => gen_random_uuid(), key => 'k', tenant_id => 't', source => 's', metadata => '{}', expires_at => now() + interval '1 h')",
        q(SELECT * FROM trunkline.publish_batch('[{"type": "a"}, {"type": "b", "id": "00000000-0000-4000-8000-000000000001"}]')),
        "$p) VALUES ('a', '1')", "$p) VALUES ('a', '1') RETURNING \"position\", id",
        "$p, id, source, key, tenant_id, metadata, expires_at) VALUES ('a', '1', gen_random_uuid(), 's', 'k', 't', '{}', now())",
        qq(COPY trunkline.topic_bus (type, data) FROM STDIN;\na\t1\n\\.),
        "SET trunkline.ring = off; $p) VALUES ('a', '1'); RESET trunkline.ring";
    is($as{publisher}->do("BEGIN; $p) VALUES ('a', '1'); SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'; COMMIT"), 2, 'with the in-flight lock and the bell');
};

subtest 'a publisher schedules' => sub {
    my $owned = $owner->do("SELECT id FROM trunkline.publish('a', '1', 'store', delay => '1 h')");
    allowed('publisher', $_) for
        "SELECT * FROM trunkline.publish('a', '1', delay => '1 h', ttl => '1 h')", "SELECT * FROM trunkline.publish('a', '1', run_at => now() + interval '10 s')",
        "SELECT * FROM trunkline.publish('a', '1', ttl => '1 h')",
        "WITH p AS (SELECT id FROM trunkline.publish('a', '1', delay => '1 h', event_id => '00000000-0000-4000-8000-000000000009')) SELECT id FROM p",
        "SELECT trunkline.reschedule('00000000-0000-4000-8000-000000000009', now() + interval '2 h')", "SELECT trunkline.cancel('00000000-0000-4000-8000-000000000009')";
    denied('publisher', $_) for
        "SELECT trunkline.publish('a', '1', 'store', delay => '1 h')", "SELECT data FROM trunkline.scheduled", "UPDATE trunkline.scheduled SET type = 'x'",
        "INSERT INTO trunkline.scheduled (topic_id, id, run_at, due_at, type, data) VALUES (2, gen_random_uuid(), now(), now(), 'a', '1')",
        "INSERT INTO trunkline.scheduled (topic_id, id, run_at, due_at, type, data, published_by) VALUES (1, gen_random_uuid(), now(), now(), 'a', '1', 'me')",
        "SELECT trunkline.schedule('x', '* * * * *', 'a')", 'SELECT trunkline.move_due()', 'SELECT trunkline.fire_schedules()', 'SELECT * FROM trunkline.scheduled_events', 'SELECT * FROM trunkline.schedules';
    is($as{publisher}->error("SELECT trunkline.$_")->{state}, 'TL002', "that of another topic is not there: $_") for "cancel('$owned')", "reschedule('$owned', now())";
    is($as{publisher}->do('SELECT count(*) FROM trunkline.scheduled'), 2, 'nor seen');
    $owner->do("SELECT trunkline.cancel('$owned'); DELETE FROM trunkline.scheduled");
};

subtest 'a publisher forges nothing' => sub {
    denied('publisher', "$p, $_->[0]) VALUES ('a', '1', $_->[1])", "no $_->[0]") for
        ['"position"', '5'], ['created_at', 'now()'], ['topic_id', '2'], ['stream', "'s'"], ['version', '1'];
    denied('publisher', $_) for
        "SELECT setval('trunkline.position_bus', 1000)", "SELECT trunkline.add_leaf('bus', 9)", 'SELECT trunkline.maintain()',
        "SELECT trunkline.create_topic('x')", "SELECT trunkline.set_topic('bus', 'none', NULL, 1048576, NULL)", "SELECT trunkline.drop_topic('bus')",
        "SELECT trunkline.grant_publish('$role{publisher}', 'store')", "SELECT trunkline.publish('a', '1', 'store')",
        "INSERT INTO trunkline.topic_store (type, data) VALUES ('a', '1')", "INSERT INTO trunkline.leaf_bus_0 (topic_id, \"position\", id, type, data, created_at) VALUES (1, 5, gen_random_uuid(), 'a', '1', now())",
        "INSERT INTO trunkline.events (topic_id, type, data) VALUES (1, 'a', '1')", "UPDATE trunkline.topic_bus SET type = 'x'", 'DELETE FROM trunkline.topic_bus', 'TRUNCATE trunkline.topic_bus',
        'UPDATE trunkline.dedup SET digest = id', 'DELETE FROM trunkline.dedup',
        "INSERT INTO trunkline.dedup (topic_id, id, digest, stream, version) VALUES (2, gen_random_uuid(), gen_random_uuid(), 's', 1)", 'SELECT stream FROM trunkline.dedup', 'UPDATE trunkline.topics SET max_event_bytes = 268435456';
};

subtest 'a publisher reads nothing' => sub {
    denied('publisher', $_) for
        'SELECT * FROM trunkline.topic_bus', 'SELECT data FROM trunkline.topic_bus', 'SELECT type FROM trunkline.topic_bus', 'SELECT * FROM trunkline.events', 'SELECT data FROM trunkline.leaf_bus_0',
        "$p) VALUES ('a', '1') RETURNING *", 'SELECT * FROM trunkline.read()', "SELECT * FROM trunkline.claim('c')", "SELECT trunkline.subscribe('x', '*')",
        'SELECT * FROM trunkline.subscriptions', 'SELECT * FROM trunkline.dead_letters', 'SELECT trunkline.horizon()', "SELECT trunkline.ack(gen_random_uuid())", 'COPY trunkline.topic_bus TO STDOUT';
};

subtest 'a consumer consumes' => sub {
    allowed('consumer', $_) for
        q(SELECT trunkline.subscribe('c', 'a', filter_path => '$ == 1', start_at => 'beginning')), "SELECT trunkline.subscribe('c', '**')", 'SELECT trunkline.horizon()', 'SELECT * FROM trunkline.read()', 'SELECT * FROM trunkline.topic_bus',
        'SELECT * FROM trunkline.subscription_status', 'SELECT * FROM trunkline.topic_status', 'SELECT * FROM trunkline.dead_letters', "SELECT * FROM trunkline.claim_many('{}', '{}')",
        "SELECT trunkline.matches('a', 'a')", "SELECT trunkline.next_due('{1}')", 'SELECT trunkline.channel(), trunkline.bell_arm(), trunkline.bell_disarm(), trunkline.sentinel_try(), trunkline.sentinel_release()',
        'SELECT trunkline.listener_join(), trunkline.listener_leave(), trunkline.wake_listeners()';
    my $step = sub {
        my ($sql) = @_;
        return $as{consumer}->do($sql);
    };
    my ($token, $first) = split /\|/, $step->("SELECT token, min(\"position\") FROM trunkline.claim('c') GROUP BY 1");
    like($step->("SELECT trunkline.extend('$token')"), qr/^20/, 'extend');
    is($step->("SELECT trunkline.ack('$token', $first + 1, '[{\"position\": $first, \"verdict\": \"fail\", \"error\": \"e\"}, {\"position\": " . ($first + 1) . ", \"retry_after_us\": 0}]')"), 2, 'ack with a dead letter and a retry');
    cmp_ok($step->("SELECT trunkline.release('$token')"), '>', 0, 'release');
    ($token) = split /\|/, $step->("SELECT DISTINCT token FROM trunkline.claim('c')");
    $owner->do("UPDATE trunkline.leases SET until = now() WHERE token = '$token'");
    isnt($step->("SELECT count(*) FROM trunkline.claim('c')"), 0, 'takeover');
    allowed('consumer', "SELECT trunkline.unsubscribe('c', true)");
};

subtest 'a consumer does no more' => sub {
    denied('consumer', $_) for
        "SELECT trunkline.publish('a', '1')", "$p) VALUES ('a', '1')", "SELECT setval('trunkline.position_bus', 1)", "SELECT nextval('trunkline.position_bus')", 'SELECT * FROM trunkline.topic_store', "SELECT * FROM trunkline.read('store')", 'SELECT * FROM trunkline.events',
        'DELETE FROM trunkline.topic_bus', 'DELETE FROM trunkline.dead_letters', 'UPDATE trunkline.topics SET retention = NULL', 'SELECT trunkline.maintain()', "SELECT trunkline.drop_topic('bus')", "SELECT trunkline.create_topic('x')", 'DELETE FROM trunkline.dedup', 'SELECT * FROM trunkline.dedup';
};

subtest 'an operator operates' => sub {
    $owner->do("SELECT trunkline.publish('a', '1', key => 'k') FROM generate_series(1, 4)");
    allowed('operator', "SELECT trunkline.subscribe('o', '**', start_at => 'beginning')");
    my $first = $as{operator}->do("SELECT min(\"position\") FROM trunkline.claim('o')");
    my $token = $owner->do("SELECT token FROM trunkline.leases WHERE subscription_id = (SELECT subscription_id FROM trunkline.subscriptions WHERE name = 'o')");
    $as{operator}->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": $first, \"verdict\": \"fail\", \"error\": \"e\"}]')");
    my $dead = $as{operator}->do("SELECT dead_letter_id FROM trunkline.dead_list('o') WHERE reason = 'rejected'");
    my @operator_only = (
        "SELECT trunkline.pause('o', 'why')", "SELECT trunkline.resume('o')", "SELECT trunkline.set_slots('o', 2)", "SELECT trunkline.set_slots('o', 1)",
        "SELECT * FROM trunkline.replay('o', 'beginning')", "SELECT trunkline.cancel_replay(NUMBER)", "SELECT trunkline.redrive('{$dead}')", "SELECT trunkline.discard('{$dead}')", "SELECT trunkline.resolve('{$dead}')",
        "SELECT * FROM trunkline.reset('o', 'end')", "SELECT trunkline.drain('o')");
    for my $sql (@operator_only) {
        my $replay = $owner->do('SELECT coalesce(max(replay_id), 0) FROM trunkline.replays');
        (my $call = $sql) =~ s/NUMBER/$replay/;
        denied($_, $call, "a $_ may not: $sql") for qw(consumer publisher stranger);
        allowed('operator', $call);
    }
    allowed($_, "SELECT * FROM trunkline.dead_list(), trunkline.dead_stats()", "a $_ looks at dead letters") for qw(operator consumer);
    allowed('consumer', "SELECT trunkline.dead_show($dead)", 'and at one');
    denied('operator', $_) for "SELECT trunkline.publish('a', '1')", 'SELECT trunkline.maintain()', 'DELETE FROM trunkline.dead_letters', "SELECT trunkline.create_topic('x')", "SELECT trunkline.grant_operate('$role{operator}', 'store')";
    refuses($owner, "SELECT trunkline.grant_operate('$role{operator}', 'nowhere')", 'TL002', {field => 'topic'}, 'a topic that is not there');
    $as{operator}->do("SELECT trunkline.unsubscribe('o', true)");
};

subtest 'a subscription to a topic one may not read' => sub {
    $owner->do("SELECT trunkline.publish('secret', '1', 'store')");
    allowed('consumer', "SELECT trunkline.subscribe('spy', '**', 'store', start_at => 'beginning')", 'can be made');
    denied('consumer', "SELECT * FROM trunkline.claim('spy')", 'and gives nothing');
    $as{consumer}->do("SELECT trunkline.unsubscribe('spy')");
};

subtest 'a stranger' => sub {
    denied('stranger', $_) for
        "SELECT trunkline.publish('a', '1')", 'SELECT * FROM trunkline.topics', 'SELECT * FROM trunkline.read()', "SELECT trunkline.matches('a', 'a')", 'SELECT trunkline.bell_arm()';
};

subtest 'a topic made later' => sub {
    $owner->do("SELECT trunkline.create_topic('later')");
    allowed('consumer', "SELECT * FROM trunkline.claim_many('{}', '{}')", 'does not stop who reads the register of all');
    allowed('consumer', 'SELECT * FROM trunkline.subscription_status', 'nor the status');
    allowed('consumer', 'SELECT * FROM trunkline.topic_status', 'nor that of topics');
    denied('consumer', "SELECT * FROM trunkline.read('later')", 'its events stay closed');
    denied('publisher', "SELECT trunkline.publish('a', '1', 'later')", 'and nobody else publishes to it');
    $owner->do("SELECT trunkline.grant_publish('$role{publisher}', 'later'), trunkline.grant_consume('$role{consumer}', 'later')");
    allowed('publisher', "SELECT trunkline.publish('a', '1', 'later')", 'granted: publish');
    allowed('consumer', "SELECT * FROM trunkline.read('later')", 'granted: read');
    # the next leaf is reached through the topic
    $owner->do("SELECT trunkline.add_leaf('later', 4), setval('trunkline.position_later', 4::bigint << 30)");
    allowed('publisher', "INSERT INTO trunkline.topic_later (type, data) VALUES ('a', '1')", 'a later leaf: publish');
    is($as{consumer}->do("SELECT count(*) FROM trunkline.read('later')"), 2, 'a later leaf: read');
};

subtest 'both' => sub {
    $as{both}->do("SELECT trunkline.subscribe('me', '**'); BEGIN; SELECT trunkline.publish('mine', '1'); COMMIT");
    is($as{both}->do("SELECT type FROM trunkline.claim('me')"), 'mine', 'publish and consume with one role');
};

subtest 'an upgrade gives operators and servers the functions made since' => sub {
    my ($operator, $server, $neither) = map { "tl_${_}_$mark" } qw(old_operator old_server neither);
    $owner->do("CREATE ROLE $operator; CREATE ROLE $server; CREATE ROLE $neither;
        SELECT trunkline.grant_operate('$operator'), trunkline.grant_serve('$server'), trunkline.grant_consume('$neither');
        REVOKE EXECUTE ON FUNCTION trunkline.redrive FROM $operator;
        REVOKE EXECUTE ON FUNCTION trunkline.record_attempts FROM $server");
    open my $in, '<', 'sql/functions/zz_privileges.sql' or die;
    $owner->do(join('', <$in>) =~ s/\@extschema\@/trunkline/gr);
    my $may = sub { my ($role, $name) = @_; return $owner->do("SELECT bool_and(has_function_privilege('$role', oid, 'EXECUTE')) FROM pg_proc WHERE pronamespace = 'trunkline'::regnamespace AND proname = '$name'") };
    is(join(' ', map { my $role = $_; map { $may->($role, $_) } 'redrive', 'record_attempts' } $operator, $server, $neither), 't f f t f f', 'each its own');
    $owner->do("DROP OWNED BY $_; DROP ROLE $_") for $operator, $server, $neither;
};

# names that need quoting
$owner->do(qq(CREATE ROLE "Odd; ""Role $mark" LOGIN; SELECT trunkline.grant_publish('Odd; "Role $mark'), trunkline.grant_consume('Odd; "Role $mark'); SELECT trunkline.create_topic('odd')));
is($owner->do("SELECT has_sequence_privilege('Odd; \"Role $mark', 'trunkline.position_odd', 'SELECT')"), 't', 'a role whose name needs quoting');

$_->close for values %as;
$owner->do("DROP OWNED BY $_; DROP ROLE $_") for values %role, qq("Odd; ""Role $mark");
done_testing;
