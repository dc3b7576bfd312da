/*
 * database.c: from options and environment to an open client; see database.h.
 */
#include "database.h"

#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "cleanup.h"
#include "out.h"

void tl__pgclearp(PGresult **result)
{
    PQclear(*result);
    *result = NULL;
}

static void freeoptions(PQconninfoOption **options)
{
    PQconninfoFree(*options);
    *options = NULL;
}

/* ----------------------------------------------------------------------------------- settings -- */

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static const char *choose_conninfo(const struct tl__args *args, struct tl__db *db)
{
    static const char *const variables[] = {"TRUNKLINE_DB", "DATABASE_URL"};
    static const char *const libpq_variables[] = {"PGHOST", "PGSERVICE", "PGDATABASE"};
    const char *text = tl__args_text(args, "db");
    db->source = TL__DB_OPTION;
    db->source_name = "--db";
    if (text)
        return text;
    db->source = TL__DB_ENVIRONMENT;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        db->source_name = variables[i];
        if ((text = environment(variables[i])))
            return text;
    }
    db->source = TL__DB_LIBPQ;
    for (size_t i = 0; i < sizeof libpq_variables / sizeof *libpq_variables; i++) {
        db->source_name = libpq_variables[i];
        if (environment(libpq_variables[i]))
            return "";
    }
    db->source = TL__DB_EMBEDDED;
    db->source_name = "embedded";
    return NULL;
}

/* One libpq parser for both forms; what it marks as secret is masked here and in every message. */
static char *mask_conninfo(const char *conninfo, bool is_from_libpq)
{
    TL_CLEANUP(freeoptions)
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    if (!options)
        return NULL;
    struct tl__buf out = TL_BUF_INIT;
    tl__buf_reserve(&out, 1);
    for (PQconninfoOption *o = options; o->keyword; o++) {
        const char *value = is_from_libpq && o->envvar ? environment(o->envvar) : o->val;
        if (!value)
            continue;
        bool is_secret = strchr(o->dispchar, '*') || strcmp(o->keyword, "passfile") == 0;
        if (strchr(o->dispchar, '*'))
            tl__secret_add(value);
        if (out.len > 0)
            tl__buf_add_char(&out, ' ');
        tl__buf_addf(&out, "%s=", o->keyword);
        if (is_secret) {
            tl__buf_add_str(&out, "****");
        } else if (*value && !strpbrk(value, " \t\n\r\f\v'\\")) {
            tl__buf_add_str(&out, value);
        } else {
            tl__buf_add_char(&out, '\'');
            for (const char *p = value; *p; p++) {
                if (*p == '\'' || *p == '\\')
                    tl__buf_add_char(&out, '\\');
                tl__buf_add_char(&out, *p);
            }
            tl__buf_add_char(&out, '\'');
        }
    }
    tl__buf_add_char(&out, 0);
    return tl__buf_take(&out, NULL);
}

static bool is_schema_name(const char *name)
{
    static const char rest[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789-";
    size_t len = strlen(name);
    return len >= 1 && len <= 40 && !strchr("0123456789-", name[0]) && strspn(name, rest) == len;
}

static void show_phase(tl__embedded_phase phase, const char *text, void *userdata)
{
    (void)userdata;
    /* Start and stop take a tenth of a second: only what people notice is worth a line. */
    if (phase == TL__EMBEDDED_INITIALISING || phase == TL__EMBEDDED_RECOVERING || tl__is_verbose)
        tl__note("%s", text);
}

int tl__db_attach(const struct tl__args *args, struct tl__db *ret)
{
    const char *text = choose_conninfo(args, ret);
    const char *schema = tl__args_text(args, "schema");
    if (!schema)
        schema = environment("TRUNKLINE_SCHEMA");
    ret->schema = schema ? schema : "trunkline";
    tl__secret_add(environment("PGPASSWORD"));
    if (!is_schema_name(ret->schema))
        return tl__fail(TL_E_INVALID, "a letter or '_', then letters, digits, '_', '-'; 40 at most",
                        "\"%s\" is no name for a schema", ret->schema);
    if (ret->source == TL__DB_EMBEDDED) {
        tl__embedded_error err = {0};
        tl__embedded_options options = {.size = sizeof options, .progress = show_phase};
        tl_status status = tl__embedded_open(&options, &ret->embedded, &err);
        if (status != TL_OK) {
            tl__error(err.message, err.detail, err.hint);
            return tl_status_exit_code(status);
        }
        text = tl__embedded_conninfo(ret->embedded);
    }
    ret->conninfo = strdup(text);
    ret->shown = mask_conninfo(text, ret->source == TL__DB_LIBPQ);
    if (!ret->shown)
        /* libpq's own text would quote the malformed part, which may be a password. */
        return tl__fail(TL_E_INVALID,
                        "write postgresql://USER@HOST:PORT/DATABASE or \"host=… dbname=…\"",
                        "malformed connection string in %s", ret->source_name);
    return ret->conninfo ? 0 : tl__fail(TL_E_NOMEM, NULL, "out of memory");
}

/* ------------------------------------------------------------------------------------ clients -- */

static void log_library(tl_log_level level, const char *message, void *userdata)
{
    (void)userdata;
    if (level <= TL_LOG_WARN || tl__is_verbose)
        tl__note("%s", message);
}

tl_client_options tl__db_client_options(const struct tl__args *args, const struct tl__db *db)
{
    static char name[64] = "trunkline";
    if (args->command)
        snprintf(name, sizeof name, "trunkline %s", args->command->name);
    bool is_named = environment("PGAPPNAME") || strstr(db->shown, "application_name=");
    return (tl_client_options){
        .size = sizeof(tl_client_options),
        .schema = db->schema,
        .application_name = is_named ? NULL : name,
        .log = log_library,
    };
}

int tl__db_open_unchecked(const struct tl__args *args, struct tl__db *ret)
{
    int rc = tl__db_attach(args, ret);
    if (rc)
        return rc;
    tl_client_options options = tl__db_client_options(args, ret);
    tl_status status = tl_client_open_unchecked(ret->conninfo, &options, &ret->client);
    return status == TL_OK ? 0 : tl__fail_client(status, ret->client);
}

int tl__db_migrate(struct tl__db *db)
{
    int applied;
    tl_status status = tl_migrate_up(db->client, &applied);
    return status == TL_OK ? 0 : tl__fail_client(status, db->client);
}

int tl__db_open(const struct tl__args *args, struct tl__db *ret)
{
    int rc = tl__db_attach(args, ret);
    if (rc)
        return rc;
    tl_client_options options = tl__db_client_options(args, ret);
    tl_status status = tl_client_open(ret->conninfo, &options, &ret->client);
    if (status == TL_E_SCHEMA && ret->source == TL__DB_EMBEDDED) {
        ret->client = tl_client_close(ret->client);
        status = tl_client_open_unchecked(ret->conninfo, &options, &ret->client);
        if (status == TL_OK && (rc = tl__db_migrate(ret)))
            return rc;
        if (status == TL_OK) {
            ret->client = tl_client_close(ret->client);
            status = tl_client_open(ret->conninfo, &options, &ret->client);
        }
    }
    return status == TL_OK ? 0 : tl__fail_client(status, ret->client);
}

void tl__db_close(struct tl__db *db)
{
    db->client = tl_client_close(db->client);
    if (db->embedded) {
        tl__embedded_error err = {0};
        db->embedded = tl__embedded_close(db->embedded, &err);
        if (err.status != TL_OK)
            tl__note("%s", err.message);
    }
    free(db->conninfo);
    free(db->shown);
    *db = TL__DB_INIT;
}

/* ---------------------------------------------------------------------------------------- SQL -- */

/* Of a state of our own class. */
static tl_status status_of(const char *sqlstate)
{
#define STATUS_OF(name, value, state, http, exit_code, text)                                       \
    if (strcmp(sqlstate, state) == 0)                                                              \
        return name;
    TL_STATUS_MAP(STATUS_OF)
#undef STATUS_OF
    return strcmp(sqlstate, "TL003") == 0 ? TL_E_CONFLICT : TL_E_SERVER;
}

PGresult *tl__db_query(struct tl__db *db, int *ret_rc, const char *sql, int n,
                       const char *const *values)
{
    struct tl__buf text = TL_BUF_INIT;
    static const char token[] = "@schema@";
    for (const char *at = sql; *at;) {
        const char *next = strstr(at, token);
        tl__buf_add(&text, at, next ? (size_t)(next - at) : strlen(at));
        if (!next)
            break;
        tl__buf_addf(&text, "\"%s\"", db->schema); /* checked by is_schema_name */
        at = next + sizeof token - 1;
    }
    PGconn *conn = tl_client_pgconn(db->client);
    PGresult *result =
        text.is_failed ? NULL : PQexecParams(conn, text.data, n, NULL, values, NULL, NULL, 0);
    tl__buf_done(&text);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
        return result;
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool is_lost = PQstatus(conn) != CONNECTION_OK;
    tl__error(message ? message : PQerrorMessage(conn),
              PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL),
              PQresultErrorField(result, PG_DIAG_MESSAGE_HINT));
    tl_status as = is_lost                              ? TL_E_CONNECTION
                   : !sqlstate                          ? TL_E_SERVER
                   : strcmp(sqlstate, "42501") == 0     ? TL_E_DENIED
                   : strncmp(sqlstate, "TL", 2) == 0    ? status_of(sqlstate)
                   : strncmp(sqlstate, "22", 2) == 0    ? TL_E_INVALID /* a value that is none */
                   : strncmp(sqlstate, "42P01", 5) == 0 ? TL_E_SCHEMA
                                                        : TL_E_SERVER;
    *ret_rc = tl_status_exit_code(as);
    PQclear(result);
    return NULL;
}
