/*
 * cmd_subscribe.c: trunkline subscribe, unsubscribe, subscriptions.
 */
#define _XOPEN_SOURCE 700
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"
#include "rows.h"

/* ---------------------------------------------------------------------------------- subscribe -- */

/* "2026-11-20T21:40:01Z", with a fraction and without the Z as well; UTC. */
static bool parse_time(const char *text, int64_t *ret_us)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int64_t fraction = 0, unit = 100000;

    if (!rest)
        rest = strptime(text, "%Y-%m-%d", &tm);
    if (!rest)
        return false;
    if (*rest == '.')
        for (rest++; isdigit((unsigned char)*rest); rest++, unit /= 10)
            fraction += (*rest - '0') * unit;
    if (*rest == 'Z')
        rest++;
    *ret_us = (int64_t)timegm(&tm) * 1000000 + fraction;
    return *rest == 0;
}

static int parse_start(const char *text, tl_subscribe_options *options)
{
    uint64_t position;

    if (!text || strcmp(text, "end") == 0) {
        options->start = TL_START_END;
    } else if (strcmp(text, "beginning") == 0) {
        options->start = TL_START_BEGINNING;
    } else if (tl__parse_count(text, &position)) {
        options->start = TL_START_POSITION;
        options->start_value = (int64_t)position;
    } else if (parse_time(text, &options->start_value)) {
        options->start = TL_START_TIME;
    } else {
        return tl__fail(TL_E_INVALID, "times are UTC: 2026-11-20 or 2026-11-20T21:40:00Z",
                        "--start is beginning, end, a position or a time, not \"%s\"", text);
    }
    return 0;
}

static int check_numbers(const struct tl__args *args)
{
    uint64_t priority = tl__args_count(args, "priority", 5);
    uint64_t attempts = tl__args_count(args, "max-attempts", 10);

    if (priority < 1 || priority > 10)
        return tl__fail(TL_E_INVALID, "higher goes first", "--priority is a number from 1 to 10");
    if (attempts < 1 || attempts > 1000)
        return tl__fail(TL_E_INVALID, NULL, "--max-attempts is a number from 1 to 1000");
    return 0;
}

static int run_subscribe(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *name = tl__args_operand(args, 0), *pattern = tl__args_operand(args, 1), *why = NULL;
    const char *ordering = tl__args_text(args, "ordering");
    tl_subscribe_options options = {
        .size = sizeof options,
        .topic = tl__args_text(args, "topic"),
        .tenant_id = tl__args_text(args, "tenant"),
        .filter = tl__args_text(args, "filter"),
        .filter_path = tl__args_text(args, "filter-path"),
        .target = tl__args_text(args, "target"),
        .priority = (uint32_t)tl__args_count(args, "priority", 0),
        .ordering = !ordering || strcmp(ordering, "key") == 0 ? TL_ORDERING_KEY
                    : strcmp(ordering, "none") == 0           ? TL_ORDERING_NONE
                                                              : TL_ORDERING_TOTAL,
        .max_attempts = (uint32_t)tl__args_count(args, "max-attempts", 0),
        .retry_delay_us = tl__args_duration_us(args, "retry-delay", 0),
    };
    int rc = check_numbers(args);

    if (rc || (rc = parse_start(tl__args_text(args, "start"), &options)))
        return rc;
    if (tl_pattern_check(pattern, &why) != TL_OK)
        return tl__fail(TL_E_INVALID,
                        "'*' is one segment, '**' at the end the rest, such as shop.order.*",
                        "\"%.80s\" is no pattern: %s", pattern, why ? why : "malformed");
    if ((rc = tl__db_open(args, &db)))
        return rc;
    tl_status status = tl_subscribe(db.client, name, pattern, &options);
    if (status != TL_OK)
        return tl__fail_client(status, db.client);
    if (tl__args_has(args, "json")) {
        const char *const values[] = {name};
        return tl__rows_print(args, &db, TL__ROWS_ONE,
                              "SELECT * FROM @schema@.subscription_status WHERE name = $1", 1,
                              values);
    }
    printf("subscribed %s to %s\n", name, pattern);
    return 0;
}

static const struct tl__option subscribe_table[] = {
    {"target", 0, "TARGET",
     "https://… (webhook), sql:schema.function, exec:command line; none: to be claimed"},
    {"topic", 't', "TOPIC", "topic to subscribe to (bus)"},
    {"tenant", 0, "TENANT", "only this tenant's events"},
    {"filter", 0, "JSON", "only events whose data contains this object"},
    {"filter-path", 0, "JSONPATH", "only events whose data satisfies this predicate"},
    {"priority", 0, "N", "1 to 10, higher goes first (5)"},
    {"ordering", 0, "key|none|total", "what is delivered in order (key)"},
    {"start", 0, "beginning|end|POSITION", "where a new subscription starts, a time as well (end)"},
    {"max-attempts", 0, "N", "attempts before an event becomes a dead letter (10)"},
    {"retry-delay", 0, "DURATION", "first delay after a failure; doubles up to 1 h (1s)"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_subscribe = {
    .name = "subscribe",
    .operands = "NAME PATTERN",
    .summary = "create or change a durable subscription",
    .details = "A subscription with a target is served by `trunkline serve`; one without is read "
               "with `trunkline claim` and settled with `trunkline ack`. The same name again "
               "changes it and keeps its place in the log.",
    .examples =
        "  trunkline subscribe billing/invoices 'shop.order.*' --target https://example.com/hook\n"
        "  trunkline subscribe stats/orders 'shop.**' --target sql:public.count_order\n"
        "  trunkline subscribe backup 'shop.**' --target 'exec:tee -a orders.log'",
    .options = subscribe_table,
    .run = run_subscribe,
};

/* -------------------------------------------------------------------------------- unsubscribe -- */

static int run_unsubscribe(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    int rc = tl__db_open(args, &db);

    if (rc)
        return rc;
    tl_status status = tl_unsubscribe(db.client, tl__args_operand(args, 0));
    if (status != TL_OK)
        return tl__fail_client(status, db.client);
    if (!tl__args_has(args, "json"))
        printf("unsubscribed %s\n", tl__args_operand(args, 0));
    return 0;
}

const struct tl__command tl__cmd_unsubscribe = {
    .name = "unsubscribe",
    .operands = "NAME",
    .summary = "remove a subscription with its place in the log",
    .details = "Its dead letters stay.",
    .run = run_unsubscribe,
};

/* ------------------------------------------------------------------------------ subscriptions -- */

static int run_subscriptions(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0), *name = tl__args_operand(args, 1);
    bool is_show = action && strcmp(action, "show") == 0;

    if (is_show && !name)
        return tl__fail(TL_E_INVALID, NULL, "subscriptions show needs NAME");
    if (!is_show && name)
        return tl__fail(TL_E_INVALID, NULL, "unexpected argument \"%s\"", name);
    int rc = tl__db_open(args, &db);
    if (rc)
        return rc;
    if (is_show)
        return tl__rows_print(args, &db, TL__ROWS_ONE,
                              "SELECT * FROM @schema@.subscription_status WHERE name = $1", 1,
                              &name);
    if (tl__args_has(args, "json"))
        return tl__rows_print(args, &db, TL__ROWS_TABLE,
                              "SELECT * FROM @schema@.subscription_status ORDER BY name", 0, NULL);
    return tl__rows_print(args, &db, TL__ROWS_TABLE,
                          "SELECT name, topic, pattern, target, active, behind, leased, "
                          "retrying, dead FROM @schema@.subscription_status ORDER BY name",
                          0, NULL);
}

const struct tl__command tl__cmd_subscriptions = {
    .name = "subscriptions",
    .operands = "[list|show] [NAME]",
    .summary = "list subscriptions with their lag, or show one",
    .details = "behind is the number of positions between the subscription and the end of its "
               "topic, an upper limit of what is pending.",
    .run = run_subscriptions,
};
