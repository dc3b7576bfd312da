/*
 * cmd_schedule.c: trunkline schedule: recurring schedules.
 */
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"
#include "rows.h"

#define AT_UTC " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

static int list(const struct tl__args *args, struct tl__db *db)
{
    if (tl__args_has(args, "json"))
        return tl__rows_print(args, db, TL__ROWS_TABLE,
                              "SELECT * FROM @schema@.schedule_status ORDER BY name", 0, NULL);
    return tl__rows_print(
        args, db, TL__ROWS_TABLE,
        "SELECT name, cron, timezone, topic, type, active, fired, to_char(last_at" AT_UTC
        " AS last_at, to_char(next_at" AT_UTC " AS next_at, error "
        "FROM @schema@.schedule_status ORDER BY name",
        0, NULL);
}

static int show(const struct tl__args *args, struct tl__db *db, const char *name)
{
    return tl__rows_print(args, db, TL__ROWS_ONE,
                          "SELECT * FROM @schema@.schedule_status WHERE name = $1", 1, &name);
}

/* One value that the server gives, or the exit code after its error. */
static int change(const struct tl__args *args, struct tl__db *db, const char *name,
                  const char *words, const char *sql, int n, const char *const *values)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(db, &rc, sql, n, values);

    if (!r)
        return rc;
    if (tl__args_has(args, "json"))
        return show(args, db, name);
    if (*PQgetvalue(r, 0, 0))
        printf("%s %s, next at %s\n", words, name, PQgetvalue(r, 0, 0));
    else
        printf("%s %s\n", words, name);
    return 0;
}

static int add(const struct tl__args *args, struct tl__db *db)
{
    const char *zone = tl__args_text(args, "timezone"), *topic = tl__args_text(args, "topic");
    const char *missed = tl__args_text(args, "missed"), *most = tl__args_text(args, "max-missed");
    const char *values[] = {
        tl__args_operand(args, 1),     tl__args_operand(args, 2),
        tl__args_operand(args, 3),     tl__args_operand(args, 4),
        topic ? topic : "bus",         zone ? zone : "UTC",
        tl__args_text(args, "key"),    tl__args_text(args, "tenant"),
        tl__args_text(args, "source"), tl__args_text(args, "metadata"),
        missed ? missed : "once",      most ? most : "100",
    };

    return change(args, db, values[0], "scheduled",
                  "SELECT to_char(q.next_at" AT_UTC " FROM (SELECT @schema@.schedule(name => $1, "
                  "cron => $2, type => $3, data => $4::jsonb, "
                  "topic => $5, timezone => $6, key => $7, "
                  "tenant_id => $8, source => $9, "
                  "metadata => $10::jsonb, missed => $11, "
                  "max_missed => $12::integer) AS next_at) q",
                  12, values);
}

/* Of a schedule, or of an expression. */
static int next(const struct tl__args *args, struct tl__db *db, const char *name)
{
    const char *count = tl__args_text(args, "count");
    const char *values[] = {name, tl__args_text(args, "timezone"), count ? count : "5"};
    uint64_t n = tl__args_count(args, "count", 5);

    if (n < 1 || n > 1000)
        return tl__fail(TL_E_INVALID, NULL, "--count is a number from 1 to 1000");
    return tl__rows_print(
        args, db, TL__ROWS_TABLE,
        "WITH RECURSIVE s (cron, zone) AS (SELECT cron, coalesce($2, timezone) FROM "
        "@schema@.schedules WHERE name = $1 UNION ALL SELECT $1, coalesce($2, 'UTC') WHERE NOT "
        "EXISTS (SELECT FROM @schema@.schedules WHERE name = $1)), f (n, at) AS (SELECT 1, "
        "@schema@.next_fire(s.cron, s.zone, clock_timestamp()) FROM s UNION ALL SELECT f.n + 1, "
        "@schema@.next_fire(s.cron, s.zone, f.at) FROM f, s WHERE f.n < $3::integer) "
        "SELECT to_char(f.at" AT_UTC " AS at, to_char(f.at AT TIME ZONE s.zone, "
        "'Dy YYYY-MM-DD HH24:MI:SS') AS local_time, s.zone AS timezone "
        "FROM f, s ORDER BY f.n",
        3, values);
}

static int run(struct tl__args *args)
{
    static const struct tl__goes_with goes_with[] = {
        {"timezone", "add|next"}, {"topic", "add"},    {"key", "add"},    {"tenant", "add"},
        {"source", "add"},        {"metadata", "add"}, {"missed", "add"}, {"max-missed", "add"},
        {"count", "next"},        {NULL, NULL},
    };
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0), *name = tl__args_operand(args, 1);
    int rc;

    action = action ? action : "list";
    bool is_list = strcmp(action, "list") == 0, is_add = strcmp(action, "add") == 0;
    int most = is_list ? 1 : is_add ? 5 : 2;
    if ((rc = tl__args_check_action(args, action, goes_with)))
        return rc;
    if (args->operand_count > most)
        return tl__fail(TL_E_INVALID, NULL, "unexpected argument \"%s\"",
                        tl__args_operand(args, most));
    if (is_add && !tl__args_operand(args, 3))
        return tl__fail(TL_E_INVALID, "trunkline schedule add nightly '0 2 * * *' job.nightly",
                        "schedule add needs NAME, CRON and TYPE");
    if (!is_list && !name)
        return tl__fail(TL_E_INVALID, NULL, "schedule %s needs NAME", action);
    if ((rc = tl__db_open(args, &db)))
        return rc;
    if (is_list)
        return list(args, &db);
    if (is_add)
        return add(args, &db);
    if (strcmp(action, "show") == 0)
        return show(args, &db, name);
    if (strcmp(action, "next") == 0)
        return next(args, &db, name);
    if (strcmp(action, "pause") == 0)
        return change(args, &db, name, "paused", "SELECT @schema@.pause_schedule($1)", 1, &name);
    if (strcmp(action, "resume") == 0)
        return change(args, &db, name, "resumed",
                      "SELECT to_char(q.at" AT_UTC
                      " FROM (SELECT @schema@.resume_schedule($1) AS at) q",
                      1, &name);
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(&db, &rc, "SELECT @schema@.unschedule($1)", 1, &name);
    if (r && !tl__args_has(args, "json"))
        printf("removed %s\n", name);
    return rc;
}

static const struct tl__option options[] = {
    {"timezone", 'z', "ZONE", "time zone of CRON, such as Europe/Berlin (UTC)"},
    {"topic", 't', "TOPIC", "add: topic to publish to (bus)"},
    {"key", 'k', "KEY", "add: ordering key of the events"},
    {"tenant", 0, "TENANT", "add: tenant the events belong to"},
    {"source", 0, "SOURCE", "add: source of the events"},
    {"metadata", 0, "JSON", "add: metadata, a JSON object; schedule and slot are added to it"},
    {"missed", 0, "skip|once|all",
     "add: what becomes of times that passed while no daemon ran (once)"},
    {"max-missed", 0, "N", "add: with --missed all, at most the last N (100)"},
    {"count", 'n', "N", "next: so many times (5)"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_schedule = {
    .name = "schedule",
    .operands = "[list|show|add|pause|resume|remove|next] [NAME] [CRON] [TYPE] [DATA]",
    .summary = "publish events again and again: cron expressions and intervals",
    .details =
        "add makes or changes the schedule NAME: it publishes an event TYPE with DATA (JSON; null) "
        "at the times of CRON. `trunkline serve` fires each of them once, however many run. next "
        "shows coming times of a schedule, or of an expression.\n\n"
        "CRON has five fields, minute, hour, day of month, month and day of week, each *, N, N-N, "
        "a step (*/N, N-N/N), a list or a name (jan, mon); when both day fields are restricted "
        "either is enough. Or it is @hourly, @daily, @weekly, @monthly, @yearly, or \"every\" and "
        "an interval. A local time that clocks pass over fires when they are put forward; one that "
        "occurs twice fires the first time.",
    .examples =
        "  trunkline schedule add nightly '0 2 * * *' job.nightly --timezone Europe/Berlin\n"
        "  trunkline schedule add poll 'every 10s' feed.poll '{\"feed\": 7}' --missed skip\n"
        "  trunkline schedule next '30 9 * * mon-fri' -z America/New_York -n 3",
    .options = options,
    .run = run,
};
