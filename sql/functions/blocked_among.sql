-- Where few keys are blocked, or others than these, one or two looks at the index tell all: each takes what lies between the
-- least and the greatest of the keys, the second without the key whose queue may have filled the first. Else one descent for
-- each key that is left. Scalar subqueries: where the planner sees the values, it plans this anew in each call. Ordered by key, and
-- not `=`: a plan made while few wait might look for the key among all positions.
CREATE OR REPLACE FUNCTION @extschema@.blocked_among(subscription_id bigint, keys text[]) RETURNS text[]
    LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    least_key    text;
    greatest_key text;
    blocked      text[];
BEGIN
    SELECT min(u.x COLLATE "C"), max(u.x COLLATE "C") INTO least_key, greatest_key FROM unnest(keys) u(x);
    blocked := ARRAY(SELECT r.key FROM @extschema@.retries r
        WHERE r.subscription_id = blocked_among.subscription_id AND r.key >= (SELECT least_key) AND r.key <= (SELECT greatest_key)
        ORDER BY r.key LIMIT 32);
    IF cardinality(blocked) = 32 THEN
        blocked := blocked || ARRAY(SELECT r.key FROM @extschema@.retries r
            WHERE r.subscription_id = blocked_among.subscription_id AND r.key > (SELECT blocked[32]) AND r.key <= (SELECT greatest_key)
            ORDER BY r.key LIMIT 32);
    END IF;
    IF cardinality(blocked) = 64 THEN
        blocked := blocked || ARRAY(SELECT q.x FROM (SELECT u.x FROM unnest(keys) u(x) WHERE u.x > blocked[64] COLLATE "C" OFFSET 0) q
            WHERE (SELECT true FROM @extschema@.retries r
                    WHERE r.subscription_id = blocked_among.subscription_id AND r.key >= q.x AND r.key <= q.x ORDER BY r.key LIMIT 1));
    END IF;
    RETURN blocked;
END $$;
COMMENT ON FUNCTION @extschema@.blocked_among(bigint, text[]) IS
    'Internal: keys that have an event in retries for which others of the key may have to wait: all of those given that have, and maybe more.';
