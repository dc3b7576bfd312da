/*
 * migrate_check.c: what a database has, compared with what this library brings: the check when a
 * client is opened, tl_migrate_status, tl_migrate_verify. Changes nothing.
 */
#include "migrate.h"

#include "str.h"

#include <stdio.h>
#include <string.h>

/* --------------------------------------------------------------------------------- our side -- */

bool tl__migration_get(size_t i, struct tl__migration *ret)
{
    const struct tl__sql_file *file = &tl__sql_migrations[i];
    size_t len = strlen(file->name);

    ret->file = file;
    ret->number = (int)strtol(file->name, NULL, 10);
    tl__str_copy(ret->name, sizeof ret->name, file->name);
    if (len > 4 && len < sizeof ret->name && strcmp(file->name + len - 4, ".sql") == 0)
        ret->name[len - 4] = '\0';
    return tl__checksum(file->text, file->length, ret->checksum);
}

int tl__migration_last(void)
{
    /* sorted by name, and names begin with the number */
    return tl__sql_migrations_count == 0
               ? 0
               : (int)strtol(tl__sql_migrations[tl__sql_migrations_count - 1].name, NULL, 10);
}

bool tl__functions_checksum(char ret_hex[TL__CHECKSUM_SIZE])
{
    return tl__checksum_files(tl__sql_functions, tl__sql_functions_count, ret_hex);
}

/* "0.10.0" against "0.9.1", as numbers. */
static int version_compare(const char *a, const char *b)
{
    int x[3] = {0, 0, 0};
    int y[3] = {0, 0, 0};

    (void)sscanf(a, "%9d.%9d.%9d", &x[0], &x[1], &x[2]);
    (void)sscanf(b, "%9d.%9d.%9d", &y[0], &y[1], &y[2]);
    for (int i = 0; i < 3; i++) {
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    }
    return 0;
}

/* ----------------------------------------------------------------------------- the database -- */

static tl_status inspect_functions(tl_client *c, struct tl__inspection *found)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    char ours[TL__CHECKSUM_SIZE];
    tl_status status = tl__call(
        c, TL__READS, NULL, "SELECT functions_checksum, library_version FROM @extschema@.installed",
        NULL, &res);

    if (status != TL_OK)
        return status;
    if (!tl__functions_checksum(ours))
        return tl__error_nomem(&c->error);
    if (PQntuples(res) == 1) {
        found->has_our_functions = strcmp(tl__cell_text(res, 0, 0), ours) == 0;
        tl__str_copy(found->library_version, sizeof found->library_version,
                     tl__cell_text(res, 0, 1));
    }
    return TL_OK;
}

/* One recorded migration against ours of that number. */
static const char *compare_recorded(int number, const char *checksum, struct tl__inspection *found)
{
    for (size_t i = 0; i < tl__sql_migrations_count; i++) {
        struct tl__migration ours;

        if (!tl__migration_get(i, &ours) || ours.number != number)
            continue;
        if (strcmp(ours.checksum, checksum) == 0)
            return "applied";
        found->state = TL_MIGRATE_TAMPERED;
        found->blamed = number;
        return "tampered";
    }
    if (found->state != TL_MIGRATE_TAMPERED) {
        found->state = TL_MIGRATE_NEWER;
        found->blamed = number;
    }
    return "unknown";
}

static bool is_recorded(const PGresult *res, int number)
{
    for (int row = 0; res != NULL && row < PQntuples(res); row++) {
        if (tl__cell_i64(res, row, 0) == number)
            return true;
    }
    return false;
}

static void inspect_pending(const PGresult *res, tl_migrate_fn fn, void *userdata,
                            struct tl__inspection *found)
{
    for (size_t i = 0; i < tl__sql_migrations_count; i++) {
        struct tl__migration ours;

        if (!tl__migration_get(i, &ours) || is_recorded(res, ours.number))
            continue;
        if (found->missing == 0)
            found->missing = ours.number;
        if (found->state == TL_MIGRATE_CURRENT)
            found->state = TL_MIGRATE_PENDING;
        if (fn != NULL)
            fn(ours.number, ours.name, "pending", userdata);
    }
}

tl_status tl__migrate_inspect(tl_client *c, tl_migrate_fn fn, void *userdata,
                              struct tl__inspection *ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *there = NULL;
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__inspection found = {.state = TL_MIGRATE_CURRENT};
    tl_status status =
        tl__call(c, TL__READS, NULL, "SELECT to_regclass('@extschema@.migrations') IS NOT NULL",
                 NULL, &there);

    if (status != TL_OK)
        return status;
    if (!tl__cell_bool(there, 0, 0)) {
        found.state = TL_MIGRATE_MISSING;
        inspect_pending(NULL, fn, userdata, &found);
        *ret = found;
        return TL_OK;
    }
    status = tl__call(c, TL__READS, NULL,
                      "SELECT number, name, checksum FROM @extschema@.migrations ORDER BY number",
                      NULL, &res);
    if (status == TL_OK)
        status = inspect_functions(c, &found);
    if (status != TL_OK)
        return status;
    for (int row = 0; row < PQntuples(res); row++) {
        const char *state;

        found.last = (int)tl__cell_i64(res, row, 0);
        state = compare_recorded(found.last, tl__cell_text(res, row, 2), &found);
        if (fn != NULL)
            fn(found.last, tl__cell_text(res, row, 1), state, userdata);
    }
    inspect_pending(res, fn, userdata, &found);
    if (!found.has_our_functions && found.state == TL_MIGRATE_CURRENT)
        found.state = version_compare(found.library_version, tl_version()) > 0 ? TL_MIGRATE_NEWER
                                                                               : TL_MIGRATE_PENDING;
    *ret = found;
    return TL_OK;
}

tl_status tl__migrate_refuse(tl_client *c, const struct tl__inspection *found)
{
    struct tl_error *e = &c->error;
    const char *schema = c->settings.schema;

    switch (found->state) {
    case TL_MIGRATE_CURRENT:
        return TL_OK;
    case TL_MIGRATE_MISSING:
        tl__error_set(e, TL_E_SCHEMA, "TL006", "schema \"%s\" is not installed", schema);
        break;
    case TL_MIGRATE_PENDING:
        if (found->last == tl__migration_last() && found->library_version[0] != '\0')
            tl__error_set(e, TL_E_SCHEMA, "TL006",
                          "functions of schema \"%s\" are older than this library's: they are of "
                          "libtrunkline %s, with another text than those of %s",
                          schema, found->library_version, tl_version());
        else
            tl__error_set(e, TL_E_SCHEMA, "TL006",
                          "schema \"%s\" is older than this library: it has migration %d, this "
                          "is %d of libtrunkline %s",
                          schema, found->last, tl__migration_last(), tl_version());
        break;
    case TL_MIGRATE_NEWER:
        tl__error_set(e, TL_E_SCHEMA, "TL006",
                      "schema \"%s\" is newer than this library: it has migration %d of "
                      "libtrunkline %s, this is %d of %s",
                      schema, found->last, found->library_version, tl__migration_last(),
                      tl_version());
        tl__error_set_hint(e, "upgrade libtrunkline and the programs that use it");
        return TL_E_SCHEMA;
    case TL_MIGRATE_TAMPERED:
        tl__error_set(e, TL_E_SCHEMA, "TL006",
                      "migration %d of schema \"%s\" is recorded with another checksum than ours",
                      found->blamed, schema);
        tl__error_set_hint(e, "it was changed after its release; see \"trunkline migrate status\"");
        return TL_E_SCHEMA;
    }
    tl__error_set_hint(e, "run \"trunkline migrate\"");
    return TL_E_SCHEMA;
}

/* One query when a client is opened: numbers and functions, not the checksum of each migration. */
tl_status tl__schema_version_check(tl_client *c)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__inspection found = {.state = TL_MIGRATE_CURRENT};
    char ours[TL__CHECKSUM_SIZE];
    tl_status status = tl__call(c, TL__READS, NULL,
                                "SELECT (SELECT max(number) FROM @extschema@.migrations), "
                                "functions_checksum, library_version FROM @extschema@.installed",
                                NULL, &res);

    if (status == TL_E_SCHEMA) {
        found.state = TL_MIGRATE_MISSING;
        return tl__migrate_refuse(c, &found);
    }
    if (status != TL_OK)
        return status;
    if (!tl__functions_checksum(ours))
        return tl__error_nomem(&c->error);
    if (PQntuples(res) != 1) {
        found.state = TL_MIGRATE_PENDING; /* an installation that was cut off */
        return tl__migrate_refuse(c, &found);
    }
    found.last = (int)tl__cell_i64(res, 0, 0);
    tl__str_copy(found.library_version, sizeof found.library_version, tl__cell_text(res, 0, 2));
    if (found.last > tl__migration_last())
        found.state = TL_MIGRATE_NEWER;
    else if (found.last < tl__migration_last())
        found.state = TL_MIGRATE_PENDING;
    else if (strcmp(tl__cell_text(res, 0, 1), ours) != 0)
        found.state = version_compare(found.library_version, tl_version()) > 0 ? TL_MIGRATE_NEWER
                                                                               : TL_MIGRATE_PENDING;
    return tl__migrate_refuse(c, &found);
}

/* ------------------------------------------------------------------------------- public calls -- */

tl_status tl_migrate_status(tl_client *c, tl_migrate_fn fn, void *userdata, tl_migrate_state *ret)
{
    struct tl__inspection found;
    tl_status status;

    if ((status = tl__call_begin(c)) != TL_OK ||
        (status = tl__migrate_inspect(c, fn, userdata, &found)) != TL_OK)
        return status;
    if (ret != NULL)
        *ret = found.state;
    return TL_OK;
}

tl_status tl__migrate_is_altered(tl_client *c, bool *ret)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf text = TL_BUF_INIT;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf sql = TL_BUF_INIT;
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    tl_status status;

    /* A server of another major version may print the same function in another way. */
    tl__buf_addf(&text,
                 "%s SELECT coalesce(live_digest <> (%s), false) AND server_major = "
                 "current_setting('server_version_num')::integer / 10000 "
                 "FROM @extschema@.installed",
                 tl__migrate_settings, tl__migrate_live_digest);
    if (!text.is_failed)
        tl__sql_expand(&sql, c->settings.schema_quoted, NULL, text.data, text.len);
    if (text.is_failed || sql.is_failed)
        return tl__error_nomem(&c->error);
    status = tl__call_simple(c, TL__READS, sql.data, &res);
    if (status == TL_OK)
        *ret = PQntuples(res) == 1 && strcmp(PQgetvalue(res, 0, 0), "t") == 0;
    return status;
}

static tl_status verify_live(tl_client *c)
{
    bool is_altered = false;
    tl_status status = tl__call_simple(c, TL__READS, "BEGIN", NULL);

    if (status == TL_OK)
        status = tl__migrate_is_altered(c, &is_altered);
    if (status != TL_OK) {
        tl__migrate_roll_back(c);
        return status;
    }
    status = tl__call_simple(c, TL__READS, "ROLLBACK", NULL);
    if (status != TL_OK || !is_altered)
        return status;
    tl__error_set(&c->error, TL_E_SCHEMA, "TL006",
                  "functions of schema \"%s\" were changed by hand", c->settings.schema);
    tl__error_set_hint(&c->error, "\"trunkline migrate\" applies ours again");
    return TL_E_SCHEMA;
}

tl_status tl_migrate_verify(tl_client *c)
{
    struct tl__inspection found;
    tl_status status;

    if ((status = tl__call_begin(c)) != TL_OK ||
        (status = tl__migrate_inspect(c, NULL, NULL, &found)) != TL_OK ||
        (status = tl__migrate_refuse(c, &found)) != TL_OK)
        return status;
    return verify_live(c);
}
