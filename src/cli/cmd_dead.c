/*
 * cmd_dead.c: trunkline dead: look at dead letters, redrive, discard and resolve them.
 */
#include <string.h>

#include "cleanup.h"
#include "clock.h"
#include "commands.h"
#include "database.h"
#include "out.h"
#include "rows.h"
#include "start.h"

static int filter_load(const struct tl__args *args, tl_dead_filter *ret, int64_t *ret_id)
{
    const char *id = tl__args_operand(args, 1);
    uint64_t number, limit = tl__args_count(args, "limit", 0);
    int rc;

    *ret = (tl_dead_filter){
        .size = sizeof *ret,
        .subscription = tl__args_text(args, "subscription"),
        .pattern = tl__args_has(args, "all") ? "**" : tl__args_text(args, "type"),
        .reason = tl__args_text(args, "reason"),
        .tenant_id = tl__args_text(args, "tenant"),
        .limit = (uint32_t)limit,
    };
    if (tl__args_has(args, "limit") && (limit < 1 || limit > 100000))
        return tl__fail(TL_E_INVALID, NULL, "--limit is a number from 1 to 100000");
    if (tl__args_has(args, "all") && tl__args_has(args, "type"))
        return tl__fail(TL_E_INVALID, NULL, "--all and --type exclude each other");
    if (id && !tl__parse_count(id, &number))
        return tl__fail(TL_E_INVALID, "trunkline dead list shows them",
                        "ID is the number of a dead letter, not \"%s\"", id);
    if (id) {
        *ret_id = (int64_t)number;
        ret->ids = ret_id;
        ret->id_count = 1;
    }
    if ((rc = tl__parse_since(args, "since", &ret->since_us)))
        return rc;
    return tl__parse_since(args, "until", &ret->until_us);
}

/* ---------------------------------------------------------------------------------------- look -- */

static int list(const struct tl__args *args, struct tl__db *db, const tl_dead_filter *filter)
{
    char since[TL_TIME_TEXT_SIZE], until[TL_TIME_TEXT_SIZE], limit[16];
    const char *state = tl__args_text(args, "state");
    const char *values[9] = {
        filter->subscription,
        filter->pattern,
        filter->reason,
        NULL,
        NULL,
        filter->tenant_id,
        state && strcmp(state, "any") == 0 ? NULL
        : state                            ? state
                                           : "dead",
        tl__args_text(args, "after"),
        limit,
    };

    snprintf(limit, sizeof limit, "%u", filter->limit ? filter->limit : 100);
    if (filter->since_us)
        tl__time_format(filter->since_us, since), values[3] = since;
    if (filter->until_us)
        tl__time_format(filter->until_us, until), values[4] = until;
#define LIST                                                                                       \
    " FROM @schema@.dead_list($1, $2, $3, $4::timestamptz, $5::timestamptz, $6, $7, $8::bigint, "  \
    "$9::integer) d ORDER BY d.dead_letter_id"
    if (tl__args_has(args, "json"))
        return tl__rows_print(args, db, TL__ROWS_TABLE, "SELECT d.*" LIST, 9, values);
    return tl__rows_print(
        args, db, TL__ROWS_TABLE,
        "SELECT d.dead_letter_id AS id, to_char(d.dead_at AT TIME ZONE 'UTC', "
        "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS dead_at, d.subscription, d.\"position\", d.type, "
        "d.state, "
        "d.reason, d.attempts AS tries, "
        "CASE WHEN length(d.error_message) > 60 THEN left(d.error_message, 59) || '…' "
        "ELSE d.error_message END AS error" LIST,
        9, values);
#undef LIST
}

static int show(const struct tl__args *args, struct tl__db *db, const char *id)
{
    int rc;

    if (tl__args_has(args, "json"))
        return tl__rows_print(args, db, TL__ROWS_ONE,
                              "SELECT d.* FROM @schema@.dead_show($1::bigint) d", 1, &id);
    rc = tl__rows_print(
        args, db, TL__ROWS_ONE,
        "SELECT d.dead_letter_id AS id, d.subscription, d.state, d.reason, d.attempts, "
        "d.error_message AS error, d.dead_at, d.settled_at, d.settled_by, d.note, d.topic, "
        "d.\"position\", d.event ->> 'type' AS type, d.event ->> 'id' AS event_id, "
        "d.event ->> 'key' AS key, d.event ->> 'tenant_id' AS tenant, d.event ->> 'source' AS "
        "source, d.event ->> 'created_at' AS created_at, d.event ->> 'expires_at' AS expires_at, "
        "nullif(d.event -> 'metadata', 'null') AS metadata, d.event -> 'data' AS data "
        "FROM @schema@.dead_show($1::bigint) d",
        1, &id);
    if (!rc)
        rc = tl__rows_section(db, "attempts",
                              "SELECT e ->> 'attempt' AS attempt, e ->> 'at' AS at, "
                              "e ->> 'error' AS error FROM @schema@.dead_show($1::bigint) d, "
                              "jsonb_array_elements(d.errors) e",
                              1, &id);
    return rc;
}

/* ------------------------------------------------------------------------------------- change -- */

static int change(const struct tl__args *args, struct tl__db *db, const char *action,
                  const tl_dead_filter *filter)
{
    static const struct {
        const char *action, *past;
    } words[] = {{"redrive", "redriven"}, {"discard", "discarded"}, {"resolve", "resolved"}};
    const char *note = tl__args_text(args, "note");
    bool is_dry = tl__args_has(args, "dry-run");
    int64_t n = 0;
    size_t verb = 0;
    tl_status status;

    while (strcmp(words[verb].action, action) != 0)
        verb++;
    if (verb == 0)
        status = tl_dead_redrive(db->client, filter, tl__args_rate(args, "rate"), is_dry, &n);
    else if (verb == 1)
        status = tl_dead_discard(db->client, filter, note, is_dry, &n);
    else
        status = tl_dead_resolve(db->client, filter, note, is_dry, &n);
    if (status < 0)
        return tl__fail_client(status, db->client);
    if (tl__args_has(args, "json"))
        printf("{\"count\":%lld,\"dry_run\":%s}\n", (long long)n, is_dry ? "true" : "false");
    else if (is_dry)
        printf("would %s %lld\n", action, (long long)n);
    else
        printf("%s %lld\n", words[verb].past, (long long)n);
    if (n > 0 && n == (filter->limit ? filter->limit : 10000))
        tl__note("there may be more: %s again", action);
    return 0;
}

static int run(struct tl__args *args)
{
    static const struct tl__goes_with goes_with[] = {
        {"subscription", "list|redrive|discard|resolve"},
        {"type", "list|redrive|discard|resolve"},
        {"reason", "list|redrive|discard|resolve"},
        {"since", "list|redrive|discard|resolve"},
        {"until", "list|redrive|discard|resolve"},
        {"tenant", "list|redrive|discard|resolve"},
        {"limit", "list|redrive|discard|resolve"},
        {"all", "redrive|discard|resolve"},
        {"dry-run", "redrive|discard|resolve"},
        {"rate", "redrive"},
        {"note", "discard|resolve"},
        {"state", "list"},
        {"after", "list"},
        {NULL, NULL},
    };
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0), *id = tl__args_operand(args, 1);
    tl_dead_filter filter;
    int64_t number;
    int rc;

    action = action ? action : "list";
    bool is_list = strcmp(action, "list") == 0, is_stats = strcmp(action, "stats") == 0;
    bool is_show = strcmp(action, "show") == 0;
    if ((rc = tl__args_check_action(args, action, goes_with)) ||
        (rc = filter_load(args, &filter, &number)))
        return rc;
    if ((is_list || is_stats) && id)
        return tl__fail(TL_E_INVALID, NULL, "unexpected argument \"%s\"", id);
    if (is_show && !id)
        return tl__fail(TL_E_INVALID, "trunkline dead list shows them", "dead show needs ID");
    if (!is_list && !is_stats && !is_show && !id && !filter.subscription && !filter.pattern &&
        !filter.reason && !filter.tenant_id && !filter.since_us && !filter.until_us)
        return tl__fail(TL_E_INVALID, "--all is every dead letter",
                        "dead %s needs ID, a condition or --all", action);
    if ((rc = tl__db_open(args, &db)))
        return rc;
    if (is_list)
        return list(args, &db, &filter);
    if (is_show)
        return show(args, &db, id);
    if (is_stats)
        return tl__rows_print(args, &db, TL__ROWS_TABLE, "SELECT d.* FROM @schema@.dead_stats() d",
                              0, NULL);
    return change(args, &db, action, &filter);
}

static const struct tl__option options[] = {
    {"subscription", 's', "NAME", "only those of this subscription"},
    {"type", 0, "PATTERN", "only events of these types"},
    {"reason", 0, "max_attempts|rejected|crashed|expired|skipped", "only those given up for this"},
    {"since", 0, "TIME", "given up at this time (UTC) or later; a duration is so long ago"},
    {"until", 0, "TIME", "given up before this time"},
    {"tenant", 0, "TENANT", "only events of this tenant"},
    {"limit", 'n', "N", "at most so many, oldest first (list: 100, others: 10000)"},
    {"all", 0, NULL, "redrive, discard, resolve: every one"},
    {"rate", 0, "RATE", "redrive: so many a second"},
    {"note", 0, "TEXT", "discard, resolve: why"},
    {"dry-run", 0, NULL, "redrive, discard, resolve: only count"},
    {"state", 0, "dead|redriven|discarded|resolved|any", "list: those in this state (dead)"},
    {"after", 0, "N", "list: read on after this ID"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_dead = {
    .name = "dead",
    .operands = "[list|show|redrive|discard|resolve|stats] [ID]",
    .summary = "look at dead letters, redrive, discard or resolve them",
    .details =
        "A dead letter is an event that a subscription gave up on. redrive hands it out again, "
        "beside the order of its key; discard gives it up for good; resolve says that it was "
        "dealt with by other means. What was settled is forgotten 30 days later.",
    .examples = "  trunkline dead list --subscription billing/mail --since 2h\n"
                "  trunkline dead show 17\n"
                "  trunkline dead redrive --subscription billing/mail --rate 20 --dry-run",
    .options = options,
    .run = run,
};
