-- PUBLIC gets nothing; see grant_publish and grant_consume.
REVOKE ALL ON ALL ROUTINES IN SCHEMA @extschema@ FROM PUBLIC;

-- Whoever was given something before has no right to functions made since: give it again.
DO $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT DISTINCT pg_get_userbyid(a.grantee) AS grantee, t.name AS topic
               FROM @extschema@.topics t
               JOIN pg_class c ON c.oid = ('@extschema@.topic_' || t.name)::regclass
               JOIN pg_attribute col ON col.attrelid = c.oid AND col.attname = 'type', aclexplode(col.attacl) a
              WHERE a.privilege_type = 'INSERT' AND a.grantee NOT IN (0, c.relowner)
    LOOP
        PERFORM @extschema@.grant_publish(g.grantee, g.topic);
    END LOOP;
    FOR g IN SELECT DISTINCT pg_get_userbyid(a.grantee) AS grantee, t.name AS topic
               FROM @extschema@.topics t
               JOIN pg_class c ON c.oid = ('@extschema@.topic_' || t.name)::regclass, aclexplode(c.relacl) a
              WHERE a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner)
                AND EXISTS (SELECT FROM pg_class r, aclexplode(r.relacl) b WHERE r.oid = '@extschema@.cursors'::regclass
                              AND b.grantee = a.grantee AND b.privilege_type = 'UPDATE')
    LOOP
        PERFORM @extschema@.grant_consume(g.grantee, g.topic);
    END LOOP;
END $$;
