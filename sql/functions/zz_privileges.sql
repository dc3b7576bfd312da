-- PUBLIC gets nothing; see grant_publish, grant_append, grant_read, grant_consume, grant_operate and grant_serve.
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
               JOIN pg_class c ON c.oid = ('@extschema@.topic_' || t.name)::regclass
               JOIN pg_attribute col ON col.attrelid = c.oid AND col.attname = 'stream', aclexplode(col.attacl) a
              WHERE a.privilege_type = 'REFERENCES' AND a.grantee NOT IN (0, c.relowner)
    LOOP
        PERFORM @extschema@.grant_append(g.grantee, g.topic);
    END LOOP;
    FOR g IN SELECT DISTINCT pg_get_userbyid(a.grantee) AS grantee, t.name AS topic,
                    EXISTS (SELECT FROM pg_proc p, aclexplode(p.proacl) b
                             WHERE p.oid = '@extschema@.pause(text,text)'::regprocedure AND b.grantee = a.grantee) AS operates,
                    EXISTS (SELECT FROM pg_class r, aclexplode(r.relacl) b
                             WHERE r.oid = '@extschema@.resends'::regclass AND b.grantee = a.grantee AND b.privilege_type = 'UPDATE') AS serves
               FROM @extschema@.topics t
               JOIN pg_class c ON c.oid = ('@extschema@.topic_' || t.name)::regclass, aclexplode(c.relacl) a
              WHERE a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner)
                AND EXISTS (SELECT FROM pg_class r, aclexplode(r.relacl) b WHERE r.oid = '@extschema@.cursors'::regclass
                              AND b.grantee = a.grantee AND b.privilege_type = 'UPDATE')
    LOOP
        PERFORM @extschema@.grant_consume(g.grantee, g.topic);
        IF g.operates THEN
            PERFORM @extschema@.grant_operate(g.grantee, g.topic);
        END IF;
        IF g.serves THEN
            PERFORM @extschema@.grant_serve(g.grantee, g.topic);
        END IF;
    END LOOP;
    FOR g IN SELECT DISTINCT pg_get_userbyid(a.grantee) AS grantee, t.name AS topic
               FROM @extschema@.topics t
               JOIN pg_class c ON c.oid = ('@extschema@.topic_' || t.name)::regclass, aclexplode(c.relacl) a
              WHERE a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner)
                AND EXISTS (SELECT FROM pg_class r, aclexplode(r.relacl) b WHERE r.oid = '@extschema@.horizons'::regclass
                              AND b.grantee = a.grantee AND b.privilege_type = 'SELECT')
    LOOP
        PERFORM @extschema@.grant_read(g.grantee, g.topic);
    END LOOP;
END $$;
