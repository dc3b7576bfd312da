CREATE OR REPLACE FUNCTION @extschema@.raw_channels(topic text, enabled boolean DEFAULT true, mode text DEFAULT 'async')
    RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subscription text := 'trunkline/raw_channels/' || topic;
    old_mode     text;
BEGIN
    PERFORM @extschema@.topic_id_of(raw_channels.topic);
    IF coalesce(raw_channels.mode NOT IN ('async', 'sync'), true) THEN
        PERFORM @extschema@.fail('TL005', 'mode is not async or sync', '{"field": "mode"}');
    ELSIF enabled IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'enabled is NULL', '{"field": "enabled"}');
    END IF;
    SELECT s.mode INTO old_mode FROM @extschema@.subscriptions s WHERE s.name = subscription;
    IF enabled AND old_mode = raw_channels.mode OR NOT enabled AND old_mode IS NULL THEN
        RETURN false;
    END IF;
    IF old_mode IS NOT NULL THEN
        PERFORM @extschema@.unsubscribe(subscription, true);
    END IF;
    IF enabled THEN
        PERFORM @extschema@.subscribe(subscription, '**', topic => raw_channels.topic, target => 'sql:@extschema@.emit_channels',
            ordering => 'total', on_failure => 'retry', mode => raw_channels.mode);
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION @extschema@.raw_channels(text, boolean, text) IS
    'Turn notifications of every event of a topic for plain LISTEN clients on or off, see emit_channels(). mode async: after commit, by trunkline serve, which costs publishers nothing. mode sync: in the transaction that publishes, which takes the lock of NOTIFY through its commit, so that publishers of the whole server commit one after the other: with 32 of them about a fifth of the rate. It is an ordinary subscription, trunkline/raw_channels/<topic>. true: something changed. TL002 unknown topic, TL005 the field.';
