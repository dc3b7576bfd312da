-- The event store in six calls, then commands for the life of a user.
--
--   trunkline migrate up --db URL && psql -d URL -f examples/runbook.sql
--
-- The ids are any text: user-123 is a stream, event-123 the caller's own key of an event, kept in its
-- metadata; the same call twice stores it once.
--
-- Who knows the calls of "event-driven architecture best practices" finds them as
--   append_event, get_events_for_aggregate, get_aggregate_version   append (or append_event), read_stream, stream_version
--   create_command, process_command                                 command_create, command_handler, command_process
--   update_read_model, get_read_model                               read_model_put, read_model_get
--   append_to_stream, read_from_stream                              link, read_links
--   register_event_handler, process_event                           subscribe(target => 'sql:...'), process_event
--   table aggregates, create_aggregate                              view aggregates, create_aggregate
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on

\echo 1. append an event
SELECT 'version ' || version FROM trunkline.append('user-123',
    '{"type": "UserCreated", "data": {"name": "John Doe", "email": "john@example.com"}, "idempotency_key": "event-123"}', expected_version => 0);
SELECT 'again: version ' || version || ', deduplicated ' || deduplicated FROM trunkline.append('user-123',
    '{"type": "UserCreated", "data": {"name": "John Doe", "email": "john@example.com"}, "idempotency_key": "event-123"}', expected_version => 0);

\echo 2. read the events of the aggregate
SELECT version || ' ' || type || ' ' || data FROM trunkline.read_stream('user-123');

\echo 3. run a command
CREATE SCHEMA IF NOT EXISTS app;
CREATE OR REPLACE FUNCTION app.update_user(command jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF (command ->> 'version')::bigint = 0 THEN
        RAISE 'there is no user %', command ->> 'aggregate' USING ERRCODE = 'TL008'; -- rejected
    END IF;
    RETURN jsonb_build_object('type', 'UserUpdated', 'data', command -> 'data');
END $$;
SELECT trunkline.command_handler('update_user', 'app.update_user') \g /dev/null
SELECT trunkline.command_create('user-123', 'update_user', '{"email": "doe@example.com"}') AS command \gset
SELECT 'processed: ' || trunkline.command_process(:'command');
SELECT status || ', events: ' || cardinality(event_ids) FROM trunkline.commands WHERE id = :'command';

\echo 4. keep a read model
SELECT 'stored: ' || trunkline.read_model_put('user', 'user-123', '{"name": "John Doe", "email": "john@example.com"}', 1);
SELECT 'an older one is stored: ' || trunkline.read_model_put('user', 'user-123', '{}', 0);
SELECT 'version ' || version || ' ' || model_data FROM trunkline.read_model_get('user', 'user-123');

\echo 5. put the event into a named stream
SELECT 'position ' || trunkline.link('all-users', trunkline.key_id('user-123', 'event-123'));
SELECT 'again: position ' || trunkline.link('all-users', trunkline.key_id('user-123', 'event-123'));

\echo 6. read the named stream
SELECT link || ' ' || stream || ' ' || type FROM trunkline.read_links('all-users');

\echo 7. create, update and delete a user by commands
CREATE OR REPLACE FUNCTION app.create_user(command jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF command ->> 'version' <> '0' THEN
        RAISE 'user % exists', command ->> 'aggregate' USING ERRCODE = 'TL008';
    END IF;
    RETURN jsonb_build_object('type', 'UserCreated', 'data', command -> 'data');
END $$;
CREATE OR REPLACE FUNCTION app.delete_user(command jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('type', 'UserDeleted', 'data', command -> 'data');
$$;
SELECT trunkline.command_handler(x, 'app.' || x) FROM unnest('{create_user,delete_user}'::text[]) x \g /dev/null
-- a handler of events: a function behind a subscription
CREATE TABLE IF NOT EXISTS app.welcomes (aggregate text);
CREATE OR REPLACE FUNCTION app.welcome(event jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO app.welcomes VALUES (event ->> 'stream');
$$;
SELECT trunkline.subscribe('app/welcome', 'UserCreated', 'store', target => 'sql:app.welcome') \g /dev/null
SELECT x || ': ' || trunkline.command_process(trunkline.command_create('user-7', x, '{"name": "Ann"}'))
  FROM unnest('{create_user,create_user,update_user,delete_user,rename_user}'::text[]) x;
SELECT type || ': ' || status || coalesce(', ' || error, '') FROM trunkline.commands WHERE aggregate = 'user-7' ORDER BY created_at, id;
SELECT version || ' ' || type FROM trunkline.read_stream('user-7');
-- trunkline serve does this by itself
SELECT 'handled: ' || trunkline.process_event(id) FROM trunkline.read_stream('user-7', 0, 1);
SELECT 'once, whoever asks again: ' || trunkline.process_event(id) FROM trunkline.read_stream('user-7', 0, 1);
SELECT 'welcomed ' || string_agg(aggregate, ' ') FROM app.welcomes;
SELECT aggregate_type || ' ' || aggregate_id || ' is at version ' || current_version FROM trunkline.aggregates ORDER BY stream;
