CREATE OR REPLACE FUNCTION @extschema@.set_slots(name text, slots integer) RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s        @extschema@.subscriptions := @extschema@.lock_subscription(set_slots.name);
    in_force integer;
    most     bigint;
BEGIN
    IF coalesce(slots NOT BETWEEN 1 AND 256, true) THEN
        PERFORM @extschema@.fail('TL005', 'slots is not 1 to 256', '{"field": "slots", "limit": 256}');
    ELSIF slots > 1 AND s.ordering <> 'key' THEN
        PERFORM @extschema@.fail('TL005', 'slots above 1 needs ordering key', '{"field": "slots"}');
    ELSIF EXISTS (SELECT FROM @extschema@.replays p WHERE p.subscription_id = s.subscription_id) THEN
        PERFORM @extschema@.fail('TL001', format('subscription "%s" has a replay under way', s.name), '{"field": "slots"}',
            'Wait for its end, or cancel_replay() it.');
    END IF;
    PERFORM @extschema@.lock_cursors(s.subscription_id);
    SELECT count(*), max(c.cursor) INTO in_force, most FROM @extschema@.cursors c WHERE c.subscription_id = s.subscription_id;
    -- the same as before, also when another number was under way: nothing was handed out behind resize_at
    IF slots = in_force THEN
        UPDATE @extschema@.subscriptions x SET slots = in_force, resize_at = NULL, updated_at = clock_timestamp()
         WHERE x.subscription_id = s.subscription_id AND s.resize_at IS NOT NULL;
        RETURN true;
    END IF;
    UPDATE @extschema@.subscriptions x
       SET slots = set_slots.slots, resize_at = coalesce(x.resize_at, most), updated_at = clock_timestamp()
     WHERE x.subscription_id = s.subscription_id;
    RETURN @extschema@.finish_changes(s.subscription_id);
END $$;
COMMENT ON FUNCTION @extschema@.set_slots(text, integer) IS
    'Change the number of shares of the keys that are claimed side by side, 1 to 256. It takes effect once every slot has got as far as the furthest and no lease is out, so that no key is ever in two hands: true: in force now; false: under way (subscription_status.resizing), claims finish it. TL001 while a replay runs, TL002, TL005.';
