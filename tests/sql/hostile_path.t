#!/usr/bin/perl
# SEC-3: publish(), bell_ring() and bell_disarm() pin no search_path, for speed. A path full of impostors changes nothing they do.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $s = session();
$s->do("CREATE SCHEMA evil; SELECT trunkline.create_topic('own')");

# An operator for each of pg_catalog's between the types that they handle, and a function for each
# name in its source, exact for these types: first in the path they are preferred to the real ones.
$s->do(<<'SQL');
CREATE FUNCTION evil.act() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'impostor called'; END $$;
DO $do$
DECLARE
    o record;
    types regtype[] := '{text,integer,bigint,boolean,jsonb,uuid,timestamptz,name,double precision,"text[]"}';
BEGIN
    FOR o IN SELECT row_number() OVER () AS n, p.oprname, p.oprleft::regtype AS l, p.oprright::regtype AS r, p.oprresult::regtype AS result
               FROM (SELECT oprname, oprleft, oprright, oprresult FROM pg_operator WHERE oprleft = ANY (types) AND oprright = ANY (types)
                     UNION SELECT '!~~', 'text'::regtype, 'text[]'::regtype, 'boolean'::regtype) p
    LOOP
        EXECUTE format('CREATE FUNCTION evil.op_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.act(); END $$;
            CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.op_%s)', o.n, o.l, o.r, o.result, o.oprname, o.l, o.r, o.n);
    END LOOP;
    FOR o IN SELECT DISTINCT m[1] AS name, t FROM pg_proc p, regexp_matches(p.prosrc, '(\w+)\(', 'g') m, unnest(types) t
              WHERE p.oid::regprocedure::text ~ '^trunkline.(publish|append_event|bell_ring)\(' AND m[1] IN (SELECT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace)
    LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.act(); END $$', o.name, o.t);
    END LOOP;
END $do$;
CREATE DOMAIN evil.uuid AS integer CHECK (evil.act() IS NULL);
CREATE DOMAIN evil.text AS integer CHECK (evil.act() IS NULL);
CREATE TABLE evil.streams (stream pg_catalog.text);
CREATE TABLE evil.topics (name pg_catalog.text);
CREATE TABLE evil.topic_bus (type pg_catalog.text)
SQL

$s = session();
$s->do('SET search_path = evil, pg_catalog');
like($s->error($_)->{message}, qr/impostor/, "the trap works: $_")
    for q(SELECT 'a'::pg_catalog.text = 'b'), q(SELECT 'a'::pg_catalog.text LIKE 'b'), q(SELECT 1 <= 2), q(SELECT octet_length('a'::pg_catalog.text)), q(SELECT pg_column_size('1'::jsonb)),
    q(SELECT 'a'::pg_catalog.text IS DISTINCT FROM 'b'), q(SELECT jsonb_typeof('1'::jsonb)),
    q(SELECT 1::bigint = 1::bigint), q(SELECT 1::bigint + 1), q(SELECT '1'::text), q(SELECT md5('a'::pg_catalog.text)), q(SELECT current_setting('role'::pg_catalog.text));

my $id = '00000000-0000-4000-8000-000000000001';
for my $call (
    q(publish('a.b', '1')),
    q(publish('a.b', '1', key => 'k', tenant_id => 't')),
    q(publish('a.b', '1', 'store')),
    q(publish('a.b', '1', 'own', source => 's')),
    q(publish('a.b', '1', source => 's', metadata => '{"m": 1}', expires_at => '2100-01-01')),
    q(publish('a.b', NULL)),
    q(publish('a.b', to_jsonb(repeat('x', 3000)))),
    qq(publish('a.b', '1', event_id => '$id')),
    qq(publish('a.b', '1', event_id => '$id')),
) {
    like($s->do("SELECT count(*), count(id), count(\"position\") FROM trunkline.$call"), qr/^1\|1\|1$/, $call);
}
for my $call (
    q(append_event('s-1', 'a.b', '1', 0)),
    q(append_event('s-1', 'a.b', '1', 1)),
    q(append_event('s-1', 'a.b', NULL, -1)),
    q(append_event('s-1', 'a.b', '1', source => 's', metadata => '{"m": 1}')),
    qq(append_event('s-1', 'a.b', '1', event_id => '00000000-0000-4000-8000-000000000002')),
    qq(append_event('s-1', 'a.b', '1', event_id => '00000000-0000-4000-8000-000000000002')),
    qq(append_event('s-2', 'a.b', '1', 0, event_id => '00000000-0000-4000-8000-000000000003')),
    q(append_event('s-3', 'a.b', '1', tenant_id => 't')),
    q(append_event('s-3', 'a.b', to_jsonb(repeat('x', 3000)), tenant_id => 't')),
) {
    like($s->do("SELECT count(*), count(id), count(\"position\") FROM trunkline.$call"), qr/^1\|1\|1$/, $call);
}
is($s->error("SELECT trunkline.append_event($_->[0])")->{state}, $_->[1], "append_event($_->[0])")
    for [q('s-1', '', '1'), 'TL005'], [q('', 'a', '1'), 'TL005'], [q('s-1', 'a', '1', 1), 'TL001'], [q('s-1', 'a', '1', 0), 'TL001'], [q('s-9', 'a', '1', -1), 'TL001'], [q('s-9', 'a', '1', 3), 'TL001'], [q('s-3', 'a', '1', tenant_id => 'u'), '42501'];
is($s->error("SELECT trunkline.$_")->{state}, 'TL005', $_)
    for q(publish('', '1')), q(publish('a', '1', key => '')), q(publish('a', '1', source => repeat('x', 256))), q(publish('a', '1', metadata => '[]'));
$s->do('CREATE FUNCTION evil.pg_advisory_unlock(integer, integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.act(); END $$');
is($s->do('SELECT trunkline.bell_arm(), trunkline.bell_disarm()'), 't|t', 'bell_disarm()');
$s->do('LISTEN trunkline');
is($s->do("SELECT trunkline.bell_ring('trunkline.position_bus')"), 'trunkline.position_bus', 'bell_ring()');
is(scalar($s->notifications), 1, 'which rings');
like($s->do(q(CALL trunkline.publish_and_wait('a.b', '1', key => 'k', wait => '0 s'))), qr/^\d+\|t\|\[\]$/, 'publish_and_wait()');
is($s->do('SET search_path = pg_catalog; SELECT count(*) FROM trunkline.events') =~ s/.*\n//sr, 17, 'all of them are in the log');

done_testing;
