-- PgQ: one queue, one consumer. insert_event is what its documentation shows for a publisher.
CREATE EXTENSION pgq;
SELECT pgq.create_queue('bench');
SELECT pgq.register_consumer('bench', 'worker');
INSERT INTO bench_peers (peer, kind, sql) VALUES
    ('pgq', 'publish', $$SELECT pgq.insert_event('bench', 'financial.invoice.created', $1::text)$$),
    ('pgq', 'batch', $$SELECT count(pgq.insert_event('bench', 'financial.invoice.created', d)) FROM unnest($1::text[]) d$$),
    -- What its Python module does for many events: straight into the table that is written now. That goes round the checks of
    -- insert_event_raw and the switch of tables.
    ('pgq', 'bulk', format('INSERT INTO %s (ev_time, ev_type, ev_data) SELECT now(), ''financial.invoice.created'', d '
                           'FROM unnest($1::text[]) d RETURNING ev_id', pgq.current_event_table('bench'))),
    -- A consumer starts at the last tick. A tick for each batch makes batches of that size.
    ('pgq', 'begin', $$SELECT pgq.unregister_consumer('bench', 'worker'); SELECT pgq.force_tick('bench');
                       SELECT pgq.ticker('bench'); SELECT pgq.register_consumer('bench', 'worker')$$),
    ('pgq', 'after_batch', $$SELECT pgq.ticker('bench')$$),
    ('pgq', 'end', $$SELECT pgq.force_tick('bench'); SELECT pgq.ticker('bench')$$),
    -- pgqd looks so often; the queue says how old an event may be before a tick is made.
    ('pgq', 'ticker 0.01', $$SELECT pgq.set_queue_config('bench', 'ticker_max_lag', '10 milliseconds')$$),
    ('pgq', 'ticker 1', $$SELECT pgq.set_queue_config('bench', 'ticker_max_lag', '3 seconds')$$);
SELECT pgq.version();
