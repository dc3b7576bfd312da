#!/usr/bin/perl
# SEC-2, TOP-5: what readers, appenders and strangers may do with the store, topic by topic.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my $owner = session();
my $mark = $$; # roles belong to the cluster
my %role = map { $_ => "tl_store_${_}_$mark" } qw(reader appender both consumer stranger other);
$owner->do("CREATE ROLE $_ LOGIN") for values %role;
$owner->do("SELECT trunkline.create_topic('own', streams => true)");
$owner->do("SELECT trunkline.grant_read('$role{$_}')") for qw(reader both);
$owner->do("SELECT trunkline.grant_append('$role{$_}')") for qw(appender both);
$owner->do("SELECT trunkline.grant_consume('$role{consumer}', 'store'), trunkline.grant_read('$role{other}', 'own'), trunkline.grant_append('$role{other}', 'own')");
my %as = map { $_ => session(role => $role{$_}) } keys %role;
END { if ($owner && $owner->{in}) { $_->close for values %as; $owner->do("DROP OWNED BY $_; DROP ROLE $_") for values %role } }

sub denied { my ($who, $sql, $name) = @_; return is($as{$who}->error($sql)->{state}, '42501', $name // "$who may not: " . substr($sql, 0, 100)) }
sub allowed { my ($who, $sql, $name) = @_; my $e = $as{$who}->error($sql); return is($e->{state}, 'none', $name // "$who: " . substr($sql, 0, 100)) || diag($e->{message}) }

$owner->do(q{
    CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO PUBLIC;
    CREATE FUNCTION app.up(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(current_user)';
    CREATE FUNCTION app.decide(c jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('type', 'decided', 'data', current_user) $$;
    SELECT trunkline.upcaster_add('old', 1, 'app.up'), trunkline.command_handler('do', 'app.decide')});
$owner->do("SELECT count(*) FROM unnest('{store,own}'::text[]) t, trunkline.append('order-1', '[{\"type\": \"a\"}, {\"type\": \"old\"}]', topic => t);
    SELECT count(*) FROM trunkline.append('order-1', '{\"type\": \"b\", \"id\": \"00000000-0000-4000-8000-000000000001\"}');
    SELECT trunkline.snapshot_save('order-1', 1, '1', topic => t) FROM unnest('{store,own}'::text[]) t; SELECT trunkline.link('l', '00000000-0000-4000-8000-000000000001'); SELECT trunkline.read_model_put('m', '1', '1', 1)");
my $made = $owner->do("SELECT id FROM trunkline.read_stream('order-1', 0, 1)");

my @reads = ("SELECT * FROM trunkline.read_stream('order-1', upcast => true)", "SELECT * FROM trunkline.read_category('order', upcast => true)", "SELECT * FROM trunkline.load_stream('order-1')",
    "SELECT * FROM trunkline.read('store', types => '{a}')", "SELECT * FROM trunkline.read('store', since => now() - interval '1 h')", "SELECT trunkline.head()", "SELECT trunkline.position_token('store', 1)",
    "SELECT * FROM trunkline.snapshot_get('order-1')", "SELECT * FROM trunkline.read_links('l')", "SELECT * FROM trunkline.parse_position_token(trunkline.position_token('store', 1))");
subtest 'who may read, reads' => sub {
    for my $who (qw(reader both consumer)) {
        allowed($who, $_) for @reads, "SELECT * FROM trunkline.read_model_get('m', '1')", 'SELECT * FROM trunkline.aggregates';
        is($as{$who}->do("SELECT count(*) FROM trunkline.read_stream('order-1')"), 3, "$who: all events");
        is($as{$who}->do("SELECT type FROM trunkline.find('$_->[0]')"), $_->[1], "$who: EVS-12 by id") for [$made, 'a'], ['00000000-0000-4000-8000-000000000001', 'b'];
        is($as{$who}->do("SELECT version FROM trunkline.snapshot_get('order-1')"), 1, "$who: the snapshot");
        is($as{$who}->do("SELECT data FROM trunkline.read_stream('order-1', 1, 2, upcast => true)"), qq("$role{$who}"), "$who: an upcaster has its rights, not the owner's");
    }
    allowed('reader', "SELECT * FROM trunkline.list_streams(), trunkline.stream_info('order-1'), trunkline.stream_exists('order-1'), trunkline.stream_version('order-1')");
};
subtest 'another topic stays closed' => sub {
    for my $who (qw(reader both consumer)) {
        denied($who, $_) for "SELECT * FROM trunkline.read_stream('order-1', topic => 'own')", "SELECT * FROM trunkline.read_stream('nothing', topic => 'own')", "SELECT * FROM trunkline.read_category('order', topic => 'own')",
            "SELECT * FROM trunkline.load_stream('order-1', topic => 'own')", "SELECT * FROM trunkline.read('own')";
        is($as{$who}->do("SELECT count(*) FROM trunkline.aggregates WHERE topic = 'own'"), 0, "$who: nor its aggregates");
        is($as{$who}->do("SELECT count(*) FROM trunkline.snapshots s JOIN trunkline.topics t USING (topic_id) WHERE t.name = 'own'"), 0, "$who: nor its snapshots");
        is($as{$who}->do("SELECT count(*) FROM trunkline.snapshot_get('order-1', topic => 'own')"), 0, "$who: nor by snapshot_get()");
    }
    denied('other', $_) for grep { !/position_token|snapshot_get/ } @reads;
    is($as{other}->do("SELECT count(*) FROM trunkline.find('$_')"), 0, 'other: an event that one may not read is not found') for $made, '00000000-0000-4000-8000-000000000001';
    is($as{other}->do("SELECT count(*) FROM trunkline.snapshot_get('order-1')"), 0, 'other: no snapshot of store');
    allowed('other', "SELECT * FROM trunkline.read_stream('order-1', topic => 'own')");
};
subtest 'a reader writes nothing' => sub {
    denied('reader', $_) for "SELECT trunkline.append('order-1', '{\"type\": \"x\"}')", "SELECT trunkline.snapshot_save('order-1', 2, '2')", "SELECT trunkline.snapshot_delete('order-1')", "SELECT trunkline.link('l', '$made')",
        "SELECT trunkline.command_create('order-1', 'do')", "SELECT trunkline.command_process_next()", "SELECT trunkline.read_model_put('m', '1', '2', 2)", "SELECT trunkline.publish_horizons()",
        "INSERT INTO trunkline.topic_store (type, data) VALUES ('x', '1')", 'DELETE FROM trunkline.snapshots', "UPDATE trunkline.horizons SET \"position\" = 99", 'DELETE FROM trunkline.links', 'SELECT * FROM trunkline.commands',
        "SELECT digest FROM trunkline.dedup", "UPDATE trunkline.identity SET store_id = gen_random_uuid()";
};
subtest 'an appender appends, and reads no event' => sub {
    denied('appender', $_) for grep { !/head|position_token|snapshot_get/ } @reads;
    allowed('appender', $_) for "SELECT version FROM trunkline.append('order-1', '{\"type\": \"x\"}')", "SELECT trunkline.snapshot_save('order-1', 2, '2')", "SELECT * FROM trunkline.snapshot_get('order-1')", "SELECT trunkline.read_model_put('m', '1', '2', 2)",
        "SELECT * FROM trunkline.read_model_get('m', '1')", 'SELECT * FROM trunkline.aggregates', "SELECT trunkline.snapshot_delete('order-1', 1)";
    refuses($as{appender}, "SELECT trunkline.link('l', '$made')", 'TL002', {field => 'event_id'}, 'what it may not read it links not');
    allowed('both', "SELECT trunkline.link('l', '$made')");
    for my $who (qw(appender both)) {
        my $id = $as{$who}->do("SELECT trunkline.command_create('user-$who', 'do')");
        is($as{$who}->do("SELECT trunkline.command_process('$id')"), 't', "$who: a command");
        is($owner->do("SELECT data FROM trunkline.read_stream('user-$who')"), qq("$role{$who}"), "$who: decided with its rights, not the owner's");
        denied($who, "SELECT trunkline.$_") for "append('order-1', '{\"type\": \"x\"}', topic => 'own')", "snapshot_save('order-1', 2, '2', topic => 'own')", "command_create('a', 'do', topic => 'own')",
            "upcaster_add('a', 1, 'app.up')", "upcaster_remove('a', 1)", "command_handler('a', 'app.decide')", 'publish_horizons()';
        denied($who, $_) for "INSERT INTO trunkline.upcasters VALUES ('a', 1, 'app.up')", "INSERT INTO trunkline.command_handlers VALUES ('a', 'app.decide')", "UPDATE trunkline.streams SET version = 99", 'DELETE FROM trunkline.commands';
    }
    my $foreign = $as{other}->do("SELECT trunkline.command_create('user-1', 'do', topic => 'own')");
    refuses($as{both}, "SELECT trunkline.command_process('$foreign')", 'TL002', {field => 'id'}, 'a command of another topic is not there');
    is($as{both}->do('SELECT count(*) FROM trunkline.commands WHERE topic_id <> 2'), 0, 'nor seen');
    is($as{both}->do('SELECT trunkline.command_process_next()'), '', 'nor taken');
    is($as{both}->do("WITH d AS (DELETE FROM trunkline.snapshots WHERE topic_id <> 2 RETURNING 1) SELECT count(*) FROM d"), 0, 'nor its snapshots deleted');
};
subtest 'a stranger' => sub {
    denied('stranger', $_) for @reads, "SELECT * FROM trunkline.find('$made')", 'SELECT * FROM trunkline.aggregates', "SELECT * FROM trunkline.read_model_get('m', '1')", "SELECT trunkline.command_create('a', 'do')";
};
# PostgreSQL 18 gives NULL for a last value that one may not see; it must not pass for an empty log.
subtest 'a right that is missing is an error, never silence' => sub {
    $owner->do("REVOKE SELECT ON SEQUENCE trunkline.position_store, trunkline.position_own FROM $role{consumer}; GRANT SELECT ON trunkline.topic_own TO $role{consumer}");
    $owner->do("SELECT trunkline.subscribe('app/denied', '**', 'store')");
    denied('consumer', $_) for (grep { !/position_token|snapshot_get|links/ } @reads), (map { "SELECT * FROM trunkline.${_}stream('order-1', topic => 'own')" } 'read_', 'load_'), "SELECT trunkline.claim('app/denied')",
        "SELECT trunkline.claim_many(array_agg(subscription_id), '{1}') FROM trunkline.subscriptions", 'SELECT behind FROM trunkline.subscription_status', "SELECT trunkline.check_cursor('store', 0)";
    $owner->do("REVOKE ALL ON SEQUENCE trunkline.position_store FROM $role{consumer}; GRANT UPDATE ON SEQUENCE trunkline.position_store TO $role{consumer}; GRANT INSERT (type, data), SELECT (\"position\") ON trunkline.topic_store TO $role{consumer}; GRANT EXECUTE ON FUNCTION trunkline.next_position, trunkline.bell_ring TO $role{consumer}");
    like($as{consumer}->error("INSERT INTO trunkline.topic_store (type, data) VALUES ('unregistered', '1')")->{state}, qr/^(42501|23502)$/, 'nobody draws a position without the register');
    $owner->do("SELECT trunkline.unsubscribe('app/denied')");
};
subtest 'an upgrade gives readers the functions made since' => sub {
    $owner->do("REVOKE EXECUTE ON FUNCTION trunkline.read_category, trunkline.find FROM $role{reader}; REVOKE EXECUTE ON FUNCTION trunkline.snapshot_save FROM $role{appender}");
    open my $in, '<', 'sql/functions/zz_privileges.sql' or die;
    $owner->do(join('', <$in>) =~ s/\@extschema\@/trunkline/gr);
    allowed('reader', $_) for "SELECT * FROM trunkline.read_category('order')", "SELECT * FROM trunkline.find('$made')";
    allowed('appender', "SELECT trunkline.snapshot_save('order-1', 2, '2')");
    denied('reader', "SELECT trunkline.claim('x')", 'and no more than before');
    denied('reader', "SELECT * FROM trunkline.read('own')", 'nor of another topic');
};
done_testing;
