/*
 * cmd_subscribe.c: trunkline subscribe.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "json.h"
#include "out.h"
#include "rows.h"
#include "start.h"

enum { MAX_PAUSES = 100 };

/* "5s,5min,30min" */
static int parse_schedule(const char *text, uint64_t pauses[], tl_subscribe_options *options)
{
    char word[32];

    if (!text)
        return 0;
    options->retry_schedule = pauses;
    for (;; text++) {
        size_t len = strcspn(text, ",");
        snprintf(word, sizeof word, "%.*s", len < sizeof word ? (int)len : 0, text);
        if (options->retry_schedule_count == MAX_PAUSES ||
            !tl__parse_duration_us(word, &pauses[options->retry_schedule_count++]))
            return tl__fail(TL_E_INVALID, "such as 5s,5min,30min,2h",
                            "--retry-schedule is a list of 1 to %d durations", MAX_PAUSES);
        text += len;
        if (!*text)
            return 0;
    }
}

/* --target-option KEY=JSON, any number of them, as one object. */
static int join_target_options(const struct tl__args *args, struct tl__buf *out)
{
    tl__buf_add_char(out, '{');
    for (int i = 0; i < args->value_count; i++) {
        if (strcmp(args->values[i].option->name, "target-option") != 0)
            continue;
        const char *text = args->values[i].value, *equals = strchr(text, '=');
        json_t *json = equals ? json_loads(equals + 1, JSON_DECODE_ANY, NULL) : NULL;
        json_decref(json);
        if (!json || equals == text)
            return tl__fail(TL_E_INVALID,
                            "text has quotes: --target-option 'format=\"cloudevents\"'",
                            "--target-option is KEY=JSON, not \"%.80s\"", text);
        if (out->len > 1)
            tl__buf_add_char(out, ',');
        tl__json_add_string(out, text, (size_t)(equals - text));
        tl__buf_add_char(out, ':');
        tl__buf_add_str(out, equals + 1);
    }
    tl__buf_add_char(out, '}');
    return out->is_failed ? tl__fail(TL_E_NOMEM, NULL, "out of memory") : 0;
}

/* A word of a choice as its number in the list; 0 when the option is absent. */
static unsigned int choice(const struct tl__args *args, const char *name, const char *words)
{
    const char *text = tl__args_text(args, name);
    unsigned int n = 1;

    if (!text)
        return 0;
    for (; *words; n++) {
        size_t len = strcspn(words, "|");
        if (len == strlen(text) && memcmp(words, text, len) == 0)
            return n;
        words += len + (words[len] == '|');
    }
    return 0; /* not reached: the parser has checked it */
}

/* Zero is the default in C; who says --retry-delay 0s means none. */
static uint64_t duration(const struct tl__args *args, const char *name)
{
    uint64_t us = tl__args_duration_us(args, name, 0);

    return us == 0 && tl__args_has(args, name) ? 1 : us;
}

static int check_range(const struct tl__args *args, const char *name, uint64_t most)
{
    uint64_t value = tl__args_count(args, name, 1);

    if (value < 1 || value > most)
        return tl__fail(TL_E_INVALID, NULL, "--%s is a number from 1 to %llu", name,
                        (unsigned long long)most);
    return 0;
}

static int check_numbers(const struct tl__args *args)
{
    int rc;

    if ((rc = check_range(args, "priority", 10)) ||
        (rc = check_range(args, "max-attempts", 1000)) || (rc = check_range(args, "slots", 256)))
        return rc;
    return check_range(args, "max-in-flight", 1000000);
}

static int note_unsigned(struct tl__db *db, const char *name)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(
        db, &rc, "SELECT FROM @schema@.webhook_status WHERE name = $1 AND secrets = 0", 1, &name);

    if (r && PQntuples(r) > 0)
        tl__note("requests will not be signed: see trunkline webhook secret create %s", name);
    return rc;
}

/* Those of an existing subscription are not changed by subscribing again: say so. */
static int note_slots(struct tl__db *db, const char *name, uint32_t wanted)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *rows = tl__db_query(
        db, &rc, "SELECT s.slots FROM @schema@.subscriptions s WHERE s.name = $1", 1, &name);

    if (rows && PQntuples(rows) == 1 && strtoul(PQgetvalue(rows, 0, 0), NULL, 10) != wanted)
        tl__note("%s keeps its %s slots; change them with: trunkline subscriptions set-slots", name,
                 PQgetvalue(rows, 0, 0));
    return rc;
}

static int run_subscribe(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *name = tl__args_operand(args, 0), *pattern = tl__args_operand(args, 1), *why = NULL;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf target_options = TL_BUF_INIT;
    uint64_t pauses[MAX_PAUSES];
    unsigned int ordering = choice(args, "ordering", "key|none|total");
    tl_subscribe_options options = {
        .size = sizeof options,
        .topic = tl__args_text(args, "topic"),
        .tenant_id = tl__args_text(args, "tenant"),
        .filter = tl__args_text(args, "filter"),
        .filter_path = tl__args_text(args, "filter-path"),
        .target = tl__args_text(args, "target"),
        .priority = (uint32_t)tl__args_count(args, "priority", 0),
        .ordering = (tl_ordering)(ordering ? ordering - 1 : TL_ORDERING_KEY),
        .max_attempts = (uint32_t)tl__args_count(args, "max-attempts", 0),
        .retry_delay_us = duration(args, "retry-delay"),
        .retry_cap_us = duration(args, "retry-cap"),
        .backoff = (tl_backoff)choice(args, "backoff", "fixed|exponential|schedule"),
        .on_failure = (tl_on_failure)choice(args, "on-failure", "retry|block_key|stop"),
        .slots = (uint32_t)tl__args_count(args, "slots", 0),
        .mode = choice(args, "mode", "async|sync") == 2 ? TL_MODE_SYNC : TL_MODE_ASYNC,
        .max_in_flight = (uint32_t)tl__args_count(args, "max-in-flight", 0),
        .rate_limit = tl__args_rate(args, "rate-limit"),
        .timeout_us = duration(args, "timeout"),
        .track_all = choice(args, "track", "none|all") == 2,
    };
    int rc = check_numbers(args);

    if (rc ||
        (rc = tl__parse_start("--start", tl__args_text(args, "start"), &options.start,
                              &options.start_value)) ||
        (rc = parse_schedule(tl__args_text(args, "retry-schedule"), pauses, &options)) ||
        (rc = join_target_options(args, &target_options)))
        return rc;
    options.target_options = target_options.data;
    if (tl_pattern_check(pattern, &why) != TL_OK)
        return tl__fail(TL_E_INVALID,
                        "'*' is one segment, '**' at the end the rest, such as shop.order.*",
                        "\"%.80s\" is no pattern: %s", pattern, why ? why : "malformed");
    if ((rc = tl__db_open(args, &db)))
        return rc;
    tl_status status = tl_subscribe(db.client, name, pattern, &options);
    if (status != TL_OK)
        return tl__fail_client(status, db.client);
    if (tl__args_has(args, "slots") && (rc = note_slots(&db, name, options.slots)))
        return rc;
    if (tl__args_has(args, "json")) {
        const char *const values[] = {name};
        return tl__rows_print(args, &db, TL__ROWS_ONE,
                              "SELECT * FROM @schema@.subscription_status WHERE name = $1", 1,
                              values);
    }
    printf("subscribed %s to %s\n", name, pattern);
    return options.target && strncmp(options.target, "http", 4) == 0 ? note_unsigned(&db, name) : 0;
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
    {"retry-delay", 0, "DURATION", "first delay after a failure (1s)"},
    {"retry-cap", 0, "DURATION", "longest delay (1h)"},
    {"backoff", 0, "fixed|exponential|schedule",
     "how delays grow (exponential; a web hook without --retry-delay: schedule)"},
    {"retry-schedule", 0, "DURATION,…",
     "delay after each failure, such as 5s,5min,2h; the last one repeats"},
    {"on-failure", 0, "retry|block_key|stop",
     "later events overtake a failed one, those of its key wait, or all stops when it is given up "
     "(block_key; with --ordering none: retry)"},
    {"slots", 0, "N",
     "shares of the keys handled side by side, 1 to 256 (1); of a new subscription"},
    {"mode", 0, "async|sync", "sync: a sql: target runs in the publisher's transaction (async)"},
    {"max-in-flight", 0, "N", "events handed out and not settled at a time"},
    {"rate-limit", 0, "RATE", "events handed out a second"},
    {"timeout", 0, "DURATION", "limit of one attempt at the target"},
    {"track", 0, "none|all", "all: keep a row for each delivery (none)"},
    {"target-option", 0, "KEY=JSON", "option of the target; may be given again"},
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
        "  trunkline subscribe backup 'shop.**' --target 'exec:tee -a orders.log'\n"
        "  trunkline subscribe crm/sync 'shop.**' --slots 8 --retry-schedule 5s,1m30s,1h",
    .options = subscribe_table,
    .run = run_subscribe,
};
