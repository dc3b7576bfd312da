-- Inlined into its callers: the indexes of leaves are on the expression.
CREATE OR REPLACE FUNCTION @extschema@.category(stream text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN split_part(stream, '-', 1);
COMMENT ON FUNCTION @extschema@.category(text) IS 'Category of a stream: what is before the first dash (order-42: order), without a dash all of it.';
