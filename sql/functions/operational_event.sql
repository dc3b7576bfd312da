CREATE OR REPLACE FUNCTION @extschema@.operational_event(s @extschema@.subscriptions, type text, about text, data jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- a web hook for everything that fails would else hear of its own failures for ever
    IF about LIKE 'trunkline.%' OR s.target_options -> 'events' = 'false' THEN
        RETURN;
    END IF;
    PERFORM FROM @extschema@.publish(type => operational_event.type, data => jsonb_strip_nulls(operational_event.data),
        source => 'trunkline', key => s.name, tenant_id => s.tenant_id);
EXCEPTION WHEN OTHERS THEN
    -- a word to operators is no reason to lose the state it is about
    RAISE WARNING 'cannot publish %: %', type, SQLERRM;
END $$;
COMMENT ON FUNCTION @extschema@.operational_event(@extschema@.subscriptions, text, text, jsonb) IS
    'Internal: publish an event about a subscription to the topic bus, unless its option events is false or the event in question is such an event itself.';
