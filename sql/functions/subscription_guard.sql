-- grant_consume() lets a role write subscriptions, by subscribe() or by hand. Two columns give rights
-- of others away, so they are not the writer's to choose.
CREATE OR REPLACE FUNCTION @extschema@.subscription_guard() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (TG_OP <> 'INSERT' AND OLD.mode = 'sync' AND OLD.target LIKE 'sql:%' OR TG_OP <> 'DELETE' AND NEW.mode = 'sync' AND NEW.target LIKE 'sql:%')
       AND NOT pg_has_role((SELECT c.relowner FROM pg_class c WHERE c.oid = TG_RELID), 'USAGE')
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'mode sync with a sql: target is for the owner of the schema',
            DETAIL = '{"field": "mode"}',
            HINT = 'The function runs in every publisher''s transaction with the owner''s rights. Ask the owner, or use mode async.';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'INSERT' OR (OLD.registered_by, OLD.target, OLD.pattern, OLD.tenant_id, OLD.filter, OLD.filter_path::text)
        IS DISTINCT FROM (NEW.registered_by, NEW.target, NEW.pattern, NEW.tenant_id, NEW.filter, NEW.filter_path::text)
    THEN
        IF to_regrole(quote_ident(NEW.registered_by)) IS NULL OR NOT pg_has_role(NEW.registered_by, 'MEMBER') THEN
            NEW.registered_by := current_user;
        END IF;
    END IF;
    -- by hand as by subscribe(): the daemon relies on it
    IF TG_OP = 'INSERT' OR (OLD.target, OLD.target_options) IS DISTINCT FROM (NEW.target, NEW.target_options) THEN
        PERFORM @extschema@.check_target_options(NEW.target, NEW.target_options);
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION @extschema@.subscription_guard() IS
    'Internal: trigger of subscriptions: mode sync with a sql: target is written by the owner of the schema only (42501), registered_by is a role whose rights the writer has, and target_options are checked.';
CREATE OR REPLACE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.subscriptions
    FOR EACH ROW EXECUTE FUNCTION @extschema@.subscription_guard();
COMMENT ON TRIGGER guard ON @extschema@.subscriptions IS 'Nobody registers a function with the rights of others, or options that no daemon can use.';
