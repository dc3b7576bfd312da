#!/usr/bin/perl
# SEC-2, decision 8: append runs as the owner of the schema; whose right it asks for, and what nobody gets by it.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my $owner = session();
my $mark = $$;
my %role = map { $_ => "tl_append_${_}_$mark" } qw(appender member publisher operator stranger);
$owner->do("CREATE ROLE $_ LOGIN") for values %role;
$owner->do("SELECT trunkline.create_topic('own', streams => true), trunkline.create_topic('none')");
$owner->do("SELECT trunkline.grant_append('$role{appender}'), trunkline.grant_publish('$role{publisher}', 'store'), trunkline.grant_operate('$role{operator}', 'store'); GRANT $role{appender} TO $role{member}");
my %as = map { $_ => session(role => $role{$_}) } keys %role;
END { if ($owner && $owner->{in}) { $_->close for values %as; $owner->do("DROP OWNED BY $_; DROP ROLE $_") for values %role } }

sub denied { my ($who, $sql, $name) = @_; return is($as{$who}->error($sql)->{state}, '42501', $name // "$who may not: " . substr $sql, 0, 90) }
sub allowed { my ($who, $sql, $name) = @_; my $e = $as{$who}->error($sql); return is($e->{state}, 'none', $name // "$who: " . substr $sql, 0, 90) || diag($e->{message}) }
my $append = sub { my ($stream, @more) = @_; return "SELECT trunkline.append_event('$stream', 'a', '1'" . join('', map { ", $_" } @more) . ')' };
my @appends = ($append->('a-1'), $append->('a-1', 'NULL', 'gen_random_uuid()'), $append->('a-1', 'source => repeat(\'x\', 3)'), "SELECT trunkline.append('a-1', '{\"type\": \"a\"}')", "SELECT trunkline.append_rows('a-1', '{a}', '{1}')",
    q(SELECT trunkline.append_streams('[{"stream": "a-1", "events": {"type": "a"}}]')), q(SELECT trunkline.create_aggregate('a', '2')), q(SELECT trunkline.set_stream('a-3', 5)), q(SELECT trunkline.delete_stream('a-3')));

subtest 'who has the right, and who by membership' => sub {
    for my $who (qw(appender member)) {
        allowed($who, $_) for @appends, "SELECT trunkline.stream_version('a-1'), trunkline.stream_exists('a-1'), trunkline.key_id('a', 'b')", "SELECT * FROM trunkline.stream_info('a-1')", 'SELECT * FROM trunkline.list_streams()';
        denied($who, $_) for
            "INSERT INTO trunkline.topic_store (type, data, stream, version) VALUES ('a', '1', 'a-1', 99)", "INSERT INTO trunkline.topic_store (type, data) VALUES ('a', '1')", "UPDATE trunkline.streams SET version = 9",
            "INSERT INTO trunkline.streams (topic_id, stream, version) VALUES (2, 'x', 1)", 'DELETE FROM trunkline.streams', "INSERT INTO trunkline.dedup (topic_id, id, digest, stream, version) VALUES (2, gen_random_uuid(), gen_random_uuid(), 's', 1)",
            'SELECT * FROM trunkline.topic_store', 'SELECT stream FROM trunkline.topic_store', 'SELECT * FROM trunkline.dedup', 'SELECT * FROM trunkline.audit', "SELECT setval('trunkline.position_store', 1)",
            $append->('a-1', "topic => 'own'"), "SELECT trunkline.append('a-1', '{\"type\": \"a\"}', topic => 'own')", q(SELECT trunkline.set_stream('a-1', topic => 'own')), q(SELECT trunkline.delete_stream('a-1', topic => 'own')), q(SELECT trunkline.create_aggregate('a', '1', 'own')),
            $append->('a-1', "topic => 'none'"), $append->('a-1', "topic => 'bus'"),
            q(SELECT trunkline.delete_stream('a-1', hard => true, reason => 'r')), q(SELECT trunkline.redact_at('store', 1, 'r')), q(SELECT trunkline.redact(gen_random_uuid(), 'r')),
            q(SELECT * FROM trunkline.append_core('store', 2, '{a}', '{NULL}', '{1}', false, '{a}', '{1}', NULL, NULL, NULL, NULL, NULL, NULL)), q(SELECT * FROM trunkline.lock_stream(2, 'a', NULL, 1, NULL)), q(SELECT * FROM trunkline.redact_rows('store', 2, '{1}', 1, true)),
            "SELECT trunkline.grant_append('$role{stranger}')";
    }
};

subtest 'who has not' => sub {
    for my $who (qw(publisher operator stranger)) {
        denied($who, $_) for grep { $who ne 'operator' || !/delete_stream/ } @appends;
    }
    denied('operator', q(SELECT trunkline.delete_stream('a-1')), 'an operator deletes no stream softly, for that is an append');
    $owner->do("GRANT EXECUTE ON FUNCTION trunkline.append, trunkline.append_event, trunkline.append_rows, trunkline.append_streams, trunkline.set_stream, trunkline.delete_stream, trunkline.create_aggregate TO $role{stranger}; GRANT USAGE ON SCHEMA trunkline TO $role{stranger}");
    denied('stranger', $_, "EXECUTE is not enough: $_") for @appends;
    is($owner->do("SELECT count(*) FROM trunkline.streams WHERE topic_id <> 2"), 0, 'nothing came of all that');
};

subtest 'streams of other topics are not seen' => sub {
    $owner->do($append->('hidden-1', "topic => 'own'"));
    is($as{appender}->do("SELECT trunkline.stream_version('hidden-1', 'own')"), 0, 'no version');
    is($as{appender}->do("SELECT count(*) FROM trunkline.streams WHERE stream = 'hidden-1'"), 0, 'no row');
    is($as{appender}->do("SELECT count(*) FROM trunkline.list_streams(topic => 'own')"), 0, 'no list');
    $owner->do("SELECT trunkline.grant_append('$role{appender}', 'own')");
    is($as{appender}->do("SELECT trunkline.stream_version('hidden-1', 'own')"), 1, 'granted');
    allowed('appender', $append->('hidden-1', "topic => 'own'"));
    $owner->do("REVOKE REFERENCES (stream) ON trunkline.topic_own FROM $role{appender}");
    denied('appender', $append->('hidden-1', "topic => 'own'"), 'and taken away');
};

subtest 'the role of the session is asked' => sub {
    my $s = session();
    $s->do("SET ROLE $role{stranger}");
    is($s->error($append->('a-1'))->{state}, '42501', 'SET ROLE to one without: not even a superuser');
    $s->do("SET ROLE $role{appender}");
    is($s->error($append->('a-1'))->{state}, 'none', 'SET ROLE to one with');
    $s->do("RESET ROLE; SET SESSION AUTHORIZATION $role{stranger}");
    is($s->error($append->('a-1'))->{state}, '42501', 'SET SESSION AUTHORIZATION');
    $s->do('RESET SESSION AUTHORIZATION');
    denied('stranger', "SET ROLE $role{appender}", 'a role that one is not of cannot be taken');
    is($as{stranger}->error("SELECT set_config('role', '$role{appender}', false)")->{state}, '42501', 'nor by its setting');
    # lent rights: a function with the rights of its maker
    $owner->do("CREATE SCHEMA lent; GRANT USAGE, CREATE ON SCHEMA lent TO $role{appender}; GRANT USAGE ON SCHEMA lent TO PUBLIC");
    $as{appender}->do('CREATE FUNCTION lent.f() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ SELECT trunkline.append_event(\'a-1\', \'a\', \'1\') $$');
    denied('stranger', 'SELECT lent.f()', 'the right is not lent by SECURITY DEFINER');
    allowed('member', 'SELECT lent.f()', 'who has it may');
};

subtest 'operators' => sub {
    my $position = $owner->do(q(SELECT "position" FROM trunkline.append_event('op-1', 'a', '"x"')));
    allowed('operator', "SELECT trunkline.redact_at('store', $position, 'r')");
    allowed('operator', q(SELECT trunkline.delete_stream('op-1', hard => true, reason => 'r')));
    is($as{operator}->do(q(SELECT string_agg(action || ' ' || actor, ', ' ORDER BY audit_id) FROM trunkline.audit WHERE object LIKE '%op-1' OR detail ->> 'stream' = 'op-1')), "redact $role{operator}, delete_stream $role{operator}", 'audit says who');
    $owner->do("SELECT trunkline.publish('a', '1'), trunkline.append_event('op-2', 'a', '1', topic => 'own')");
    denied('operator', $_) for q(SELECT trunkline.redact_at('bus', 1, 'r')), q(SELECT trunkline.redact_at('own', 1, 'r')), q(SELECT trunkline.delete_stream('op-2', hard => true, reason => 'r', topic => 'own')),
        q(DELETE FROM trunkline.audit), q(UPDATE trunkline.audit SET actor = 'x'), q(INSERT INTO trunkline.audit (actor, action, object) VALUES ('a', 'b', 'c')), q(UPDATE trunkline.leaf_store_0 SET data = '1');
    my $id = $owner->do(q(SELECT id FROM trunkline.append_event('op-2', 'a', '1', topic => 'own')));
    is($as{operator}->error("SELECT trunkline.redact('$id', 'r')")->{state}, 'TL002', 'an event that one may not read is not there');
};

subtest 'an upgrade gives appenders the functions made since' => sub {
    $owner->do("REVOKE EXECUTE ON FUNCTION trunkline.append_rows FROM $role{appender}");
    open my $in, '<', 'sql/functions/zz_privileges.sql' or die;
    $owner->do(join('', <$in>) =~ s/\@extschema\@/trunkline/gr);
    allowed('appender', q(SELECT trunkline.append_rows('a-1', '{a}', '{1}')));
    denied('publisher', q(SELECT trunkline.append_rows('a-1', '{a}', '{1}')), 'and nobody else');
};

done_testing;
