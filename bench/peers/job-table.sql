-- The table that an event bus on PostgreSQL usually begins with: a status in the row, a worker that looks for pending rows with
-- FOR UPDATE SKIP LOCKED, a NOTIFY with each event.
CREATE TABLE bench_jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_type varchar(255) NOT NULL,
    event_source varchar(100) NOT NULL,
    payload jsonb NOT NULL,
    tenant_id varchar(64),
    company_id varchar(64),
    user_id varchar(64),
    status varchar(20) NOT NULL DEFAULT 'pending',
    retry_count integer NOT NULL DEFAULT 0,
    max_retries integer NOT NULL DEFAULT 3,
    created_at timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz,
    expires_at timestamptz DEFAULT now() + interval '24 hours',
    error_message text,
    last_error_at timestamptz
);
CREATE INDEX ON bench_jobs (status, created_at);
CREATE INDEX ON bench_jobs (event_type);
CREATE INDEX ON bench_jobs (tenant_id);
INSERT INTO bench_peers (peer, kind, sql) VALUES
    ('job-table', 'publish', $$WITH e AS (
        INSERT INTO bench_jobs (event_type, event_source, tenant_id, payload)
        VALUES ('financial.invoice.created', 'bench', 'tenant-042', $1::jsonb) RETURNING id)
        SELECT pg_notify('events', id::text) FROM e$$),
    ('job-table', 'batch', $$WITH e AS (
        INSERT INTO bench_jobs (event_type, event_source, tenant_id, payload)
        SELECT 'financial.invoice.created', 'bench', 'tenant-042', d::jsonb FROM unnest($1::text[]) d RETURNING id)
        SELECT count(pg_notify('events', '')) FROM e$$),
    ('job-table', 'reset', 'TRUNCATE bench_jobs');
SELECT 'own SQL';
