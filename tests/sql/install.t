#!/usr/bin/perl
# MIG-1, MIG-2: an ordinary role installs it, under whatever name, beside another copy; both work.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $db = database(empty => 1);
my $admin = session();
my $role = "tl_owner_$$";
my ($name) = $db =~ /dbname=(\S+)/;
$admin->do("CREATE ROLE $role LOGIN; GRANT CREATE ON DATABASE $name TO $role");

sub migrate {
    my (@options) = @_;
    my $conninfo = $db =~ s/user=\S+/user=$role/r;
    my $out = qx("$ENV{TRUNKLINE_BIN}" migrate up --db "$conninfo" @options 2>&1);
    return is($?, 0, "migrate up @options") || diag($out);
}
migrate();
migrate('--schema', 'Odd-Name_1');

my $s = session(role => $role);
my $listener = session(role => $role);
is($s->do('SELECT rolsuper, rolcreaterole, rolreplication FROM pg_roles WHERE rolname = current_user'), 'f|f|f', 'an ordinary role');
is($s->do("SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('trunkline', 'Odd-Name_1')"), $role, 'owns all of it');

for my $schema ('trunkline', '"Odd-Name_1"') {
    my $bare = $schema =~ tr/"//dr;
    $listener->do("LISTEN \"$bare\"; SELECT $schema.bell_arm()");
    $s->do("SELECT $schema.create_topic('t', rotation => 'hour', retention => '1 h'); SELECT $schema.subscribe('s', 'a.*', 't', filter_path => '\$ > 1')");
    is($s->do("SELECT \"position\" FROM $schema.publish('a.1', '1', 't')"), 1, "$schema: publish");
    is(scalar($listener->notifications), 1, "$schema: rings on its own channel");
    $listener->do("SELECT $schema.bell_disarm(); UNLISTEN *");
    $s->do("SELECT * FROM $schema.publish_batch('[{\"type\": \"a.b\", \"data\": 2}, {\"type\": \"a.c\", \"data\": 3, \"id\": \"00000000-0000-4000-8000-000000000001\"}]', 't'); INSERT INTO $schema.topic_t (type, data) VALUES ('a.d', '4')");
    is($s->do("SELECT string_agg(type, ' ' ORDER BY \"position\") FROM $schema.read('t')"), 'a.1 a.b a.c a.d', "$schema: read");
    my $token = $s->do("SELECT DISTINCT token FROM $schema.claim('s')");
    is($s->do("SELECT $schema.ack('$token', NULL, '[{\"position\": 2, \"verdict\": \"fail\"}, {\"position\": 3}]')"), 3, "$schema: claim and ack");
    is($s->do("SELECT retrying, dead FROM $schema.subscription_status"), '1|1', "$schema: status");
    is($s->do("SELECT count(*) FROM $schema.topic_status"), 3, "$schema: topics");
    is($s->do("SELECT count(*) FROM $schema.maintain()"), 0, "$schema: maintain");
    $listener->do("BEGIN; SELECT $schema.publish('a.x', '1', 't')");
    is($s->do("SELECT topic, pid FROM $schema.horizon_holders"), "t|$listener->{pid}", "$schema: who holds the horizon");
    $listener->do('COMMIT');
    refuses($s, "SELECT $schema.publish('', '1')", 'TL005', {field => 'type', limit => 255}, "$schema: errors");
    $s->do("SELECT $schema.set_topic('t', 'none', NULL, 2048, NULL); SELECT $schema.drop_topic('t', true)");
}
is($s->do('SELECT (SELECT count(*) FROM trunkline.topics) + (SELECT count(*) FROM "Odd-Name_1".topics)'), 4, 'neither touched the other');
is($s->do(q(SELECT trunkline.lock_class() <> "Odd-Name_1".lock_class())), 't', 'their bells and elections are apart');
is($s->do(q(SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE nspname = 'Odd-Name_1'
    AND prosrc || coalesce(pg_get_function_sqlbody(p.oid), '') ~ 'trunkline\.(?!ring|in_|inbox_window|redacting|mixed_|%|endpoint|delivery)|@extschema@')), 0, 'no function of one names the other');

$_->close for $s, $listener;
$admin->do("DROP OWNED BY $role; DROP ROLE $role");
done_testing;
