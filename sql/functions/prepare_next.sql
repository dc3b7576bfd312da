-- A claim of the one event that is next, as a statement of the session: no function is called, nothing is planned, and
-- neither the last values nor the register are asked. What lies at cursor + 1 and is visible may always be read, since
-- everything below it was decided when the cursor came there (decision 16). A gap, or anything out of the ordinary, and it
-- finds nothing: claim_live() comes behind. The lease is the same as there and written under the same lock, but all else is
-- looked at before that: by prepare_next(), once, for a cursor of one epoch. Each lease given and each change that waits for
-- claims (lock_cursors()) begins another, so what was true then is true as long as the epoch is that one, and who goes on from
-- an event that it claimed and settled knows the next. A cursor that is locked is passed over: a claim in an open transaction
-- would hold the sentinel up.
CREATE OR REPLACE FUNCTION @extschema@.prepare_next(
        subscription_id bigint, "position" bigint, OUT after bigint, OUT upto bigint, OUT epoch bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    called  text := 'trunkline_next_' || subscription_id;
    topic   text;
    version xid;
    wanted  text;
BEGIN
    SELECT t.name, s.xmin, c.epoch INTO topic, version, epoch
      FROM @extschema@.subscriptions s JOIN @extschema@.topics t ON t.topic_id = s.topic_id
      JOIN @extschema@.cursors c ON c.subscription_id = s.subscription_id AND c.slot = 0
     WHERE s.subscription_id = prepare_next.subscription_id AND s.active AND s.slots = 1 AND s.pattern IN ('*', '**') AND s.track IS DISTINCT FROM 'all'
       AND (s.mode = 'async' OR s.target IS NULL OR s.target NOT LIKE 'sql:%')
       AND (s.tenant_id, s.filter, s.filter_path, s.max_in_flight, s.rate_limit, s.resize_at, s.drain_at) IS NULL
       AND NOT EXISTS (SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id)
       AND NOT EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = s.subscription_id)
       AND NOT EXISTS (SELECT FROM @extschema@.replays p WHERE p.subscription_id = s.subscription_id);
    IF FOUND THEN
        after := ("position" >> 30 << 30) - 1;
        upto := after + (1 << 30);
        -- The version of the row stands for all that was asked of it here. The bounds leave the other leaves out when it is
        -- planned, and with equality the plan for all values is as good as one for this value. The token comes from the caller:
        -- to draw one here costs as much as the rest of the lease. Only what the caller does not know is returned.
        wanted := format('PREPARE %1$I(bigint, bigint, uuid, interval, text) AS
        WITH c AS (
            UPDATE @extschema@.cursors c SET cursor = $1, epoch = $2 + 1, last_triggered_at = clock_timestamp()
              FROM (SELECT FROM @extschema@.cursors k
                     WHERE k.subscription_id = %5$s AND k.slot = 0 AND k.cursor = $1 - 1 AND k.epoch = $2 FOR NO KEY UPDATE SKIP LOCKED) now
             WHERE c.subscription_id = %5$s AND c.slot = 0
               AND EXISTS (SELECT FROM @extschema@.%2$I e WHERE e."position" = $1 AND e."position" > %3$s AND e."position" <= %4$s
                              AND (e.expires_at > clock_timestamp()) IS NOT FALSE)
               AND EXISTS (SELECT FROM @extschema@.subscriptions s WHERE s.subscription_id = %5$s AND s.xmin = %6$L)
            RETURNING c.epoch),
        l AS (
            INSERT INTO @extschema@.leases (token, subscription_id, slot, after, upto, events, retries, attempt, epoch, owner, held, solo, until)
            SELECT $3, %5$s, 0, $1 - 1, $1, 1, 0, 1, c.epoch, $5, true, false, clock_timestamp() + $4 FROM c)
        SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text,
            e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at
          FROM c CROSS JOIN @extschema@.%2$I e WHERE e."position" = $1 AND e."position" > %3$s AND e."position" <= %4$s',
            called, 'topic_' || topic, after, upto, subscription_id, version);
    END IF;
    IF EXISTS (SELECT FROM pg_prepared_statements p WHERE p.name = called AND p.statement IS DISTINCT FROM wanted) THEN
        EXECUTE format('DEALLOCATE %I', called);
    END IF;
    IF wanted IS NOT NULL AND NOT EXISTS (SELECT FROM pg_prepared_statements p WHERE p.name = called) THEN
        EXECUTE wanted;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.prepare_next(bigint, bigint) IS
    'For workers with a session of their own: prepare the statement trunkline_next_ID(position, epoch, token, lease, owner) for positions in (after, upto], those of the leaf that a position lies in. It claims the event at its position if that is the next one of the subscription, committed and not expired, and the cursor is of the epoch: its columns, one row, or none. The lease is as of claim_live(), with the next epoch. epoch: to begin with; who was given an event by the statement and acked it as done goes on with the next, anybody else prepares again. NULL: the subscription does not want every event, has limits, slots or tracking, or has leases, retries or a replay now, and nothing is prepared. A changed subscription makes the statement find nothing until it is prepared again.';
