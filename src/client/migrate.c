/*
 * migrate.c: bring a schema to this library's version: tl_migrate_up, and the same steps as a
 * script: tl_migrate_sql. Reading what is there: migrate_check.c.
 *
 * Each step is a transaction that takes one advisory lock and looks again what is left to do, so
 * that any number of runs at once do each step once.
 */
#include "migrate.h"

#include "clock.h"

#include <string.h>

/* Nobody's settings get in: names of functions resolve to the server's own, and the limits of an
 * ordinary call do not end a migration half-way. Functions are checked when they run: they may
 * call each other in any order. */
const char tl__migrate_settings[] = "SET LOCAL search_path = pg_catalog, pg_temp; "
                                    "SET LOCAL standard_conforming_strings = on; "
                                    "SET LOCAL check_function_bodies = off; "
                                    "SET LOCAL client_min_messages = warning; "
                                    "SET LOCAL statement_timeout = 0; "
                                    "SET LOCAL lock_timeout = 0; "
                                    "SET LOCAL default_tablespace = ''; ";

const char tl__migrate_lock[] =
    "SELECT pg_advisory_xact_lock(hashtext('trunkline.migrate.@extschema@'));";

/* grant_publish() and grant_consume() let roles read them: the check at open needs it. */
const char tl__migrate_bootstrap[] =
    "CREATE TABLE @extschema@.migrations (\n"
    "    number     integer PRIMARY KEY,\n"
    "    name       text NOT NULL,\n"
    "    checksum   text NOT NULL,\n"
    "    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()\n"
    ");\n"
    "COMMENT ON TABLE @extschema@.migrations IS 'Migrations that were applied.';\n"
    "COMMENT ON COLUMN @extschema@.migrations.number IS 'Order of application.';\n"
    "COMMENT ON COLUMN @extschema@.migrations.name IS 'File name without its ending.';\n"
    "COMMENT ON COLUMN @extschema@.migrations.checksum IS 'SHA-256 of the template, in hex.';\n"
    "COMMENT ON COLUMN @extschema@.migrations.applied_at IS 'When.';\n"
    "CREATE TABLE @extschema@.installed (\n"
    "    is_only            boolean PRIMARY KEY DEFAULT true CHECK (is_only),\n"
    "    functions_checksum text NOT NULL,\n"
    "    library_version    text NOT NULL,\n"
    "    live_digest        text,\n"
    "    server_major       integer NOT NULL,\n"
    "    installed_at       timestamptz NOT NULL DEFAULT clock_timestamp()\n"
    ");\n"
    "COMMENT ON TABLE @extschema@.installed IS 'One row: which functions the schema has.';\n"
    "COMMENT ON COLUMN @extschema@.installed.is_only IS 'True: there is one row.';\n"
    "COMMENT ON COLUMN @extschema@.installed.functions_checksum IS 'SHA-256 of the templates.';\n"
    "COMMENT ON COLUMN @extschema@.installed.library_version IS 'Library that applied them.';\n"
    "COMMENT ON COLUMN @extschema@.installed.live_digest IS 'MD5 of the functions as the server "
    "prints them, to notice changes by hand.';\n"
    "COMMENT ON COLUMN @extschema@.installed.server_major IS 'Server version that printed them.';\n"
    "COMMENT ON COLUMN @extschema@.installed.installed_at IS 'When.';\n";

const char tl__migrate_live_digest[] =
    "SELECT md5(coalesce(string_agg(pg_get_functiondef(p.oid), '' ORDER BY "
    "p.proname::text COLLATE \"C\", pg_get_function_identity_arguments(p.oid) COLLATE \"C\"), '')) "
    "FROM pg_proc p WHERE p.pronamespace = '@extschema@'::regnamespace AND p.prokind IN ('f', 'p')";

void tl__migrate_add_record(struct tl__buf *sql, const struct tl__migration *m)
{
    /* file names of ours and hex: nothing to quote */
    tl__buf_addf(sql,
                 "INSERT INTO @extschema@.migrations (number, name, checksum) "
                 "VALUES (%d, '%s', '%s');\n",
                 m->number, m->name, m->checksum);
}

void tl__migrate_add_installed(struct tl__buf *sql, const char *functions_checksum)
{
    tl__buf_addf(sql,
                 "INSERT INTO @extschema@.installed (functions_checksum, library_version, "
                 "server_major, live_digest)\n"
                 "VALUES ('%s', '%s', current_setting('server_version_num')::integer / 10000,\n"
                 "    (%s))\n"
                 "ON CONFLICT (is_only) DO UPDATE SET functions_checksum = "
                 "excluded.functions_checksum,\n"
                 "    library_version = excluded.library_version, live_digest = "
                 "excluded.live_digest,\n"
                 "    server_major = excluded.server_major, installed_at = clock_timestamp();\n",
                 functions_checksum, tl_version(), tl__migrate_live_digest);
}

/* -------------------------------------------------------------------------------------- up -- */

/* Run a template. what: for the message, NULL none. */
static tl_status run(tl_client *c, const char *what, const char *template_text, size_t len)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf sql = TL_BUF_INIT;
    tl_status status;

    tl__sql_expand(&sql, c->settings.schema_quoted, NULL, template_text, len);
    if (sql.is_failed)
        return tl__error_nomem(&c->error);
    status = tl__call_simple(c, TL__WRITES, sql.data, NULL);
    if (status < 0 && what != NULL && c->error.sqlstate[0] != '\0') {
        struct tl_error cause = c->error;

        /* Our own SQL failed: its hint is about something else than ours. */
        tl__error_set(&c->error, status, cause.sqlstate, "%s: %s", what, cause.message);
        tl__error_set_detail(&c->error, cause.detail);
        c->error.is_outcome_unknown = cause.is_outcome_unknown;
    }
    return status;
}

static tl_status run_text(tl_client *c, const char *template_text)
{
    return run(c, NULL, template_text, strlen(template_text));
}

static tl_status bootstrap(tl_client *c)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf sql = TL_BUF_INIT;
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status;

    /* CREATE SCHEMA IF NOT EXISTS asks for the right to create one even where it exists. */
    tl__param_text(&params, c->settings.schema);
    status = tl__call(c, TL__READS, NULL, "SELECT count(*) FROM pg_namespace WHERE nspname = $1",
                      &params, &res);
    if (status != TL_OK)
        return status;
    if (tl__cell_i64(res, 0, 0) == 0)
        tl__buf_add_str(&sql, "CREATE SCHEMA @extschema@; COMMENT ON SCHEMA @extschema@ IS "
                              "'Trunkline: event bus and event store';");
    tl__buf_add_str(&sql, tl__migrate_bootstrap);
    if (sql.is_failed)
        return tl__error_nomem(&c->error);
    return run(c, "cannot make the schema", sql.data, sql.len);
}

static tl_status apply_migration(tl_client *c, int number)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf sql = TL_BUF_INIT;
    struct tl__migration m;

    for (size_t i = 0; i < tl__sql_migrations_count; i++) {
        if (!tl__migration_get(i, &m))
            return tl__error_nomem(&c->error);
        if (m.number != number)
            continue;
        tl__buf_add(&sql, m.file->text, m.file->length);
        tl__buf_add_str(&sql, "\n;\n");
        tl__migrate_add_record(&sql, &m);
        if (sql.is_failed)
            return tl__error_nomem(&c->error);
        tl__log(&c->settings, TL_LOG_INFO, "applying migration %s", m.name);
        return run(c, m.name, sql.data, sql.len);
    }
    return TL_OK;
}

static tl_status apply_functions(tl_client *c)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf sql = TL_BUF_INIT;
    char checksum[TL__CHECKSUM_SIZE];

    tl__log(&c->settings, TL_LOG_INFO, "applying functions of libtrunkline %s", tl_version());
    for (size_t i = 0; i < tl__sql_functions_count; i++) {
        const struct tl__sql_file *file = &tl__sql_functions[i];
        tl_status status = run(c, file->name, file->text, file->length);

        if (status != TL_OK)
            return status;
    }
    if (!tl__functions_checksum(checksum))
        return tl__error_nomem(&c->error);
    tl__migrate_add_installed(&sql, checksum);
    if (sql.is_failed)
        return tl__error_nomem(&c->error);
    return run(c, NULL, sql.data, sql.len);
}

enum step { STEP_NONE, STEP_MIGRATION, STEP_FUNCTIONS };

/* What is left to do, in the transaction that will do it. */
static tl_status do_step(tl_client *c, enum step *ret)
{
    struct tl__inspection found;
    bool is_altered = false;
    tl_status status = tl__migrate_inspect(c, NULL, NULL, &found);

    if (status != TL_OK)
        return status;
    if (found.state == TL_MIGRATE_NEWER || found.state == TL_MIGRATE_TAMPERED)
        return tl__migrate_refuse(c, &found);
    if (found.state == TL_MIGRATE_MISSING && (status = bootstrap(c)) != TL_OK)
        return status;
    if (found.missing != 0) {
        *ret = STEP_MIGRATION;
        return apply_migration(c, found.missing);
    }
    status = found.has_our_functions ? tl__migrate_is_altered(c, &is_altered) : TL_OK;
    if (status != TL_OK || (found.has_our_functions && !is_altered))
        return status;
    *ret = STEP_FUNCTIONS;
    return apply_functions(c);
}

void tl__migrate_roll_back(tl_client *c)
{
    struct tl_error error = c->error;

    if (c->conn != NULL && PQtransactionStatus(c->conn) != PQTRANS_IDLE &&
        tl__call_simple(c, TL__READS, "ROLLBACK", NULL) != TL_OK)
        tl__client_drop_conn(c);
    c->error = error;
}

static tl_status step(tl_client *c, enum step *ret)
{
    tl_status status = run_text(c, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");

    if (status == TL_OK)
        status = run_text(c, tl__migrate_settings);
    if (status == TL_OK)
        status = run_text(c, tl__migrate_lock);
    if (status == TL_OK)
        status = do_step(c, ret);
    if (status == TL_OK)
        status = run_text(c, "COMMIT");
    if (status != TL_OK)
        tl__migrate_roll_back(c);
    return status;
}

tl_status tl_migrate_up(tl_client *c, int *ret_applied)
{
    tl_status status = tl__call_begin(c);
    enum step done = STEP_NONE;
    int applied = 0;

    /* A migration takes as long as it takes; tl_client_cancel() ends it. */
    c->deadline_us = TL_FOREVER;
    if (status != TL_OK)
        return status;
    do {
        done = STEP_NONE;
        status = step(c, &done);
        if (status == TL_OK && done == STEP_MIGRATION)
            applied++;
    } while (status == TL_OK && done != STEP_NONE);
    if (status == TL_OK && ret_applied != NULL)
        *ret_applied = applied;
    return status;
}

/* ---------------------------------------------------------------------------------- script -- */

static void add_file(struct tl__buf *sql, const char *folder, const struct tl__sql_file *file)
{
    tl__buf_addf(sql, "\n-- %s/%s\n", folder, file->name);
    tl__buf_add(sql, file->text, file->length);
    tl__buf_add_str(sql, "\n");
}

tl_status tl_migrate_sql(const char *schema, char **ret_sql)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf quoted = TL_BUF_INIT;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf text = TL_BUF_INIT;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf sql = TL_BUF_INIT;
    char checksum[TL__CHECKSUM_SIZE];

    if (schema == NULL)
        schema = "trunkline";
    if (tl__schema_check(NULL, schema) != TL_OK)
        return TL_E_INVALID;
    tl__buf_addf(&text,
                 "-- Trunkline %s, schema %s: a fresh installation, all or nothing.\n"
                 "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;\n%s\n%s\n"
                 "CREATE SCHEMA IF NOT EXISTS @extschema@;\n"
                 "COMMENT ON SCHEMA @extschema@ IS 'Trunkline: event bus and event store';\n%s",
                 tl_version(), schema, tl__migrate_settings, tl__migrate_lock,
                 tl__migrate_bootstrap);
    for (size_t i = 0; i < tl__sql_migrations_count; i++) {
        struct tl__migration m;

        if (!tl__migration_get(i, &m))
            return TL_E_NOMEM;
        add_file(&text, "migrations", m.file);
        tl__migrate_add_record(&text, &m);
    }
    for (size_t i = 0; i < tl__sql_functions_count; i++)
        add_file(&text, "functions", &tl__sql_functions[i]);
    if (!tl__functions_checksum(checksum))
        return TL_E_NOMEM;
    tl__buf_add_str(&text, "\n");
    tl__migrate_add_installed(&text, checksum);
    tl__buf_add_str(&text, "COMMIT;\n");
    tl__quote_name(&quoted, schema);
    if (text.is_failed || quoted.is_failed)
        return TL_E_NOMEM;
    tl__sql_expand(&sql, quoted.data, NULL, text.data, text.len);
    *ret_sql = tl__buf_take(&sql, NULL);
    return *ret_sql != NULL ? TL_OK : TL_E_NOMEM;
}
