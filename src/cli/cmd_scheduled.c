/*
 * cmd_scheduled.c: trunkline scheduled: delayed events that are not due yet.
 */
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"
#include "rows.h"
#include "start.h"

static int list(const struct tl__args *args, struct tl__db *db)
{
    const char *limit = tl__args_text(args, "limit");
    const char *values[] = {tl__args_text(args, "topic"), limit ? limit : "100"};
    uint64_t n = tl__args_count(args, "limit", 100);

    if (n < 1 || n > 100000)
        return tl__fail(TL_E_INVALID, NULL, "--limit is a number from 1 to 100000");
#define LIST                                                                                       \
    " FROM @schema@.scheduled_events WHERE topic = coalesce($1, topic) ORDER BY run_at, "          \
    "created_at LIMIT $2::bigint"
    if (tl__args_has(args, "json"))
        return tl__rows_print(args, db, TL__ROWS_TABLE, "SELECT *" LIST, 2, values);
    return tl__rows_print(args, db, TL__ROWS_TABLE,
                          "SELECT id, topic, type, key, to_char(run_at AT TIME ZONE 'UTC', "
                          "'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS run_at, error" LIST,
                          2, values);
#undef LIST
}

static int show(const struct tl__args *args, struct tl__db *db, const char *id)
{
    return tl__rows_print(args, db, TL__ROWS_ONE,
                          "SELECT v.*, s.source, s.metadata, s.data FROM @schema@.scheduled_events "
                          "v JOIN @schema@.scheduled s USING (id, run_at, created_at) "
                          "WHERE s.id = $1::uuid",
                          1, &id);
}

static int reschedule(const struct tl__args *args, struct tl__db *db, const char *id)
{
    char delay[48];
    const char *values[] = {id, delay};
    int64_t run_at_us;
    int rc = tl__parse_at(args, "at", &run_at_us);

    if (rc)
        return rc;
    if (tl__args_has(args, "at") == tl__args_has(args, "in"))
        return tl__fail(TL_E_INVALID, NULL, "scheduled reschedule takes either --at or --in");
    if ((rc = tl__db_open(args, db)))
        return rc;
    if (run_at_us) {
        tl_status status = tl_reschedule(db->client, id, run_at_us);
        return status == TL_OK ? 0 : tl__fail_client(status, db->client);
    }
    /* by the clock of the server */
    /* PostgreSQL 14 reads no interval of more than 2^31 units */
    snprintf(delay, sizeof delay, "%llu", (unsigned long long)tl__args_duration_us(args, "in", 0));
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(
        db, &rc,
        "SELECT @schema@.reschedule($1::uuid, clock_timestamp() + $2::float8 * interval '1 us')", 2,
        values);
    return r ? 0 : rc;
}

static int run(struct tl__args *args)
{
    static const struct tl__goes_with goes_with[] = {
        {"at", "reschedule"}, {"in", "reschedule"}, {"limit", "list"},
        {"topic", "list"},    {NULL, NULL},
    };
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0), *id = tl__args_operand(args, 1);
    int rc;

    action = action ? action : "list";
    bool is_list = strcmp(action, "list") == 0, is_cancel = strcmp(action, "cancel") == 0;
    if ((rc = tl__args_check_action(args, action, goes_with)))
        return rc;
    if (is_list && id)
        return tl__fail(TL_E_INVALID, NULL, "unexpected argument \"%s\"", id);
    if (!is_list && !id)
        return tl__fail(TL_E_INVALID, "trunkline scheduled list shows them",
                        "scheduled %s needs ID", action);
    if (!is_list && !is_cancel && strcmp(action, "show") != 0) {
        if ((rc = reschedule(args, &db, id)))
            return rc;
        if (!tl__args_has(args, "json"))
            printf("rescheduled %s\n", id);
        return 0;
    }
    if ((rc = tl__db_open(args, &db)))
        return rc;
    if (is_list)
        return list(args, &db);
    if (!is_cancel)
        return show(args, &db, id);
    tl_status status = tl_cancel(db.client, id);
    if (status != TL_OK)
        return tl__fail_client(status, db.client);
    if (!tl__args_has(args, "json"))
        printf("cancelled %s\n", id);
    return 0;
}

static const struct tl__option options[] = {
    {"at", 0, "TIME", "reschedule: to this time (UTC), as in 2026-11-20T21:40:00Z"},
    {"in", 0, "DURATION", "reschedule: to so much later than now"},
    {"topic", 't', "TOPIC", "list: only those of this topic"},
    {"limit", 'n', "N", "list: at most so many, the next due first (100)"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_scheduled = {
    .name = "scheduled",
    .operands = "[list|show|cancel|reschedule] [ID]",
    .summary = "look at delayed events, cancel or reschedule them",
    .details = "What `trunkline publish --at` or `--in` published stays here until it is due. Then "
               "it is in the log, and cancel and reschedule say that its delivery began. An event "
               "that the log refused is listed with the error and tried again every minute.",
    .examples = "  trunkline publish reminder.sent '{\"order\": 42}' --in 2h\n"
                "  trunkline scheduled\n"
                "  trunkline scheduled reschedule 01a214c2-ff60-7001-a559-56a5b46693fc --in 1d",
    .options = options,
    .run = run,
};
