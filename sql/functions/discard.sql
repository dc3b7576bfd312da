CREATE OR REPLACE FUNCTION @extschema@.discard(
        ids bigint[] DEFAULT NULL, subscription text DEFAULT NULL, pattern text DEFAULT NULL, reason text DEFAULT NULL,
        since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, tenant_id text DEFAULT NULL,
        max_events integer DEFAULT 10000, note text DEFAULT NULL, dry_run boolean DEFAULT false)
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@.settle_dead(
        @extschema@.dead_chosen(ids, subscription, pattern, reason, since, until, tenant_id, max_events), 'discarded', note, dry_run);
END $$;
COMMENT ON FUNCTION @extschema@.discard(bigint[], text, text, text, timestamptz, timestamptz, text, integer, text, boolean) IS
    'Give dead letters up for good. Which: as redrive(). note: why, at most 2000 bytes. They are forgotten 30 days later. dry_run: only count. Returns how many; what was dealt with before is passed over. TL002, TL005.';
