-- UUID version 7 (RFC 9562): 48 bits milliseconds, rand_a = topic_id, rand_b = 48 bits position and
-- 14 random bits. So an id leads to its row without an index. Inlined like next_position, and
-- evaluated after it: columns take their defaults in order.
CREATE OR REPLACE FUNCTION @extschema@.next_id(topic_id integer, topic_sequence regclass) RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    RETURN (lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint), 12, '0') || to_hex(28672 | topic_id)
        || to_hex((-9223372036854775807 - 1) | (currval(topic_sequence) << 14) | (random() * 16383)::bigint))::uuid;
COMMENT ON FUNCTION @extschema@.next_id(integer, regclass) IS
    'Internal: DEFAULT of id: UUID version 7 that embeds topic_id (rand_a) and the position just reserved (rand_b).';
