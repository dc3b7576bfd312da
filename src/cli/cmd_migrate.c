/*
 * cmd_migrate.c: trunkline migrate: up, status, sql, verify.
 */
#include <string.h>

#include "buf.h"
#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "json.h"
#include "out.h"

static const char *state_name(tl_migrate_state state)
{
    static const char *const names[] = {
        [TL_MIGRATE_MISSING] = "missing",   [TL_MIGRATE_PENDING] = "pending",
        [TL_MIGRATE_CURRENT] = "current",   [TL_MIGRATE_NEWER] = "newer",
        [TL_MIGRATE_TAMPERED] = "tampered",
    };

    return (size_t)state < sizeof names / sizeof *names ? names[state] : "unknown";
}

static int up(const struct tl__args *args, struct tl__db *db)
{
    int applied, rc = tl__db_open_unchecked(args, db);

    if (rc)
        return rc;
    tl_status status = tl_migrate_up(db->client, &applied);
    if (status != TL_OK)
        return tl__fail_client(status, db->client);
    if (tl__args_has(args, "json"))
        printf("{\"applied\":%d}\n", applied);
    else if (applied > 0)
        printf("applied %d migration%s to schema %s\n", applied, applied == 1 ? "" : "s",
               db->schema);
    else
        printf("schema %s is up to date\n", db->schema);
    return 0;
}

struct listing {
    struct tl__table *table;
    struct tl__buf json;
};

static void add_migration(int number, const char *name, const char *state, void *userdata)
{
    struct listing *l = userdata;
    char text[16];

    snprintf(text, sizeof text, "%04d", number);
    tl__table_add(l->table, (const char *const[]){text, name, state});
    if (l->json.len > 0)
        tl__buf_add_char(&l->json, ',');
    tl__buf_addf(&l->json, "{\"number\":%d,\"name\":", number);
    tl__json_add_text(&l->json, name);
    tl__buf_add_str(&l->json, ",\"state\":");
    tl__json_add_text(&l->json, state);
    tl__buf_add_char(&l->json, '}');
}

static int show_status(const struct tl__args *args, struct tl__db *db)
{
    struct listing l = {.table =
                            tl__table_new(3, (const char *const[]){"number", "migration", "state"}),
                        .json = TL_BUF_INIT};
    tl_migrate_state state;
    int rc = tl__db_open_unchecked(args, db);

    if (rc == 0) {
        tl_status status = tl_migrate_status(db->client, add_migration, &l, &state);
        if (status < 0) {
            rc = tl__fail_client(status, db->client);
        } else if (tl__args_has(args, "json")) {
            printf("{\"schema\":\"%s\",\"state\":\"%s\",\"migrations\":[%s]}\n", db->schema,
                   state_name(state), l.json.data ? l.json.data : "");
        } else {
            tl__table_print(l.table, stdout);
            printf("schema %s is %s\n", db->schema, state_name(state));
        }
    }
    tl__table_free(l.table);
    tl__buf_done(&l.json);
    return rc;
}

static int print_sql(const struct tl__args *args)
{
    const char *schema = tl__args_text(args, "schema");
    char *sql = NULL;
    tl_status status = tl_migrate_sql(schema, &sql);

    if (status != TL_OK)
        return tl__fail(status, NULL, "\"%s\" is no name for a schema", schema ? schema : "");
    fputs(sql, stdout);
    tl_free(sql);
    return 0;
}

static int verify(const struct tl__args *args, struct tl__db *db)
{
    int rc = tl__db_open_unchecked(args, db);

    if (rc)
        return rc;
    tl_status status = tl_migrate_verify(db->client);
    if (status != TL_OK)
        return tl__fail_client(status, db->client);
    if (!tl__args_has(args, "json"))
        printf("schema %s is what this version installs\n", db->schema);
    return 0;
}

static int run(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0);

    if (!action || strcmp(action, "up") == 0)
        return up(args, &db);
    if (strcmp(action, "status") == 0)
        return show_status(args, &db);
    return strcmp(action, "sql") == 0 ? print_sql(args) : verify(args, &db);
}

const struct tl__command tl__cmd_migrate = {
    .name = "migrate",
    .operands = "[up|status|sql|verify]",
    .summary = "create the schema or bring it up to date",
    .details = "up (the default) may run many times and from many places at once. status lists the "
               "migrations, sql prints everything a fresh installation would run, verify compares "
               "the database with what this version installs.",
    .examples = "  trunkline migrate --db postgresql://app@db.example.com/app\n"
                "  trunkline migrate sql --schema events > install.sql",
    .run = run,
};
