-- message-db is there (bench/message-db): one category of 10,000 streams, a position as Eventide's consumers keep it.
INSERT INTO bench_peers (peer, kind, sql) VALUES
    ('message-db', 'publish', $$SELECT message_store.write_message(gen_random_uuid()::varchar,
        ('invoice-' || (random() * 10000)::integer)::varchar, 'financial.invoice.created'::varchar, $1::jsonb)$$),
    ('message-db', 'batch', $$SELECT count(message_store.write_message(gen_random_uuid()::varchar,
        ('invoice-' || (random() * 10000)::integer)::varchar, 'financial.invoice.created'::varchar, d::jsonb))
        FROM unnest($1::text[]) d$$),
    ('message-db', 'begin', $$SELECT message_store.write_message(gen_random_uuid()::varchar, 'invoice:position-worker', 'Recorded',
        jsonb_build_object('position', (SELECT coalesce(max(global_position), 0) FROM message_store.messages)))$$);
SELECT message_store.message_store_version();
