/*
 * cmd_read.c: trunkline read (what is in the log) and trunkline tail (what comes into it).
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"

static void batch_freep(tl_batch **b)
{
    *b = tl_batch_free(*b);
}

/* Print up to `max` events; false: no memory. */
static bool print_batch(const struct tl__args *args, const tl_batch *b, uint64_t max,
                        uint64_t *printed)
{
    for (size_t i = 0; i < tl_batch_count(b) && *printed < max; i++, (*printed)++) {
        const tl_event *e = tl_batch_event(b, i);
        if (!tl__args_has(args, "json"))
            tl__print_event(e);
        else if (!tl__print_event_json(e))
            return false;
    }
    return true;
}

static int check_pattern(const struct tl__args *args)
{
    const char *pattern = tl__args_text(args, "pattern"), *why = NULL;

    if (pattern && tl_pattern_check(pattern, &why) != TL_OK)
        return tl__fail(TL_E_INVALID,
                        "'*' is one segment, '**' at the end the rest, such as shop.order.*",
                        "\"%.80s\" is no pattern: %s", pattern, why ? why : "malformed");
    return 0;
}

static tl_read_options read_options(const struct tl__args *args)
{
    return (tl_read_options){
        .size = sizeof(tl_read_options),
        .topic = tl__args_text(args, "topic"),
        .pattern = tl__args_text(args, "pattern"),
        .tenant_id = tl__args_text(args, "tenant"),
    };
}

/* --------------------------------------------------------------------------------------- read -- */

static int run_read(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    tl_read_options options = read_options(args);
    uint64_t limit = tl__args_count(args, "limit", 100), printed = 0;
    int rc = check_pattern(args);

    options.after = (int64_t)tl__args_count(args, "after", 0);
    if (rc || (rc = tl__db_open(args, &db)))
        return rc;
    while (printed < limit) {
        TL_CLEANUP(batch_freep)
        tl_batch *batch = NULL;
        uint64_t rest = limit - printed;
        options.limit = (uint32_t)(rest < 1000 ? rest : 1000);
        tl_status status = tl_read(db.client, &options, &batch);
        if (status < 0)
            return tl__fail_client(status, db.client);
        if (!print_batch(args, batch, limit, &printed))
            return tl__fail(TL_E_NOMEM, NULL, "out of memory");
        /* TL_NOTHING may only mean that a rare pattern was not found yet. */
        if (tl_batch_upto(batch) <= options.after)
            break;
        options.after = tl_batch_upto(batch);
        if (ferror(stdout))
            break;
    }
    return 0;
}

static const struct tl__option read_table[] = {
    {"topic", 't', "TOPIC", "topic to read (bus)"},
    {"after", 'a', "N", "position to read after (0: from the beginning)"},
    {"limit", 'n', "N", "at most so many events (100)"},
    {"pattern", 'p', "PATTERN", "only types that match, such as shop.order.* or shop.**"},
    {"tenant", 0, "TENANT", "only this tenant's events"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_read = {
    .name = "read",
    .summary = "print events of the log, in order",
    .details = "Prints what is safe to read: no event that commits later will have a position "
               "before the last one printed. --json prints one event a line.",
    .examples = "  trunkline read --pattern 'shop.**' --limit 20\n"
                "  trunkline read --after 1000 --json | jq .data",
    .options = read_table,
    .run = run_read,
};

/* --------------------------------------------------------------------------------------- tail -- */

static tl_client *volatile waiting_client;
static volatile sig_atomic_t is_stopping;

static void on_signal(int number)
{
    (void)number;
    is_stopping = 1;
    if (waiting_client)
        tl_client_wake(waiting_client);
}

static void catch_signals(tl_client *client)
{
    struct sigaction action = {.sa_handler = on_signal};

    waiting_client = client;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static int start_position(const struct tl__args *args, tl_client *client, int64_t *ret)
{
    const char *from = tl__args_text(args, "from");
    uint64_t position;

    if (!from || strcmp(from, "end") == 0) {
        tl_status status = tl_horizon(client, tl__args_text(args, "topic"), ret);
        return status == TL_OK ? 0 : tl__fail_client(status, client);
    }
    if (strcmp(from, "beginning") == 0) {
        *ret = 0;
        return 0;
    }
    if (!tl__parse_count(from, &position))
        return tl__fail(TL_E_INVALID, NULL, "--from is beginning, end or a position, not \"%s\"",
                        from);
    *ret = (int64_t)position;
    return 0;
}

static int follow(const struct tl__args *args, tl_client *client, tl_read_options *options)
{
    uint64_t max = tl__args_count(args, "count", UINT64_MAX), printed = 0;

    options->limit = 1000;
    while (!is_stopping && printed < max) {
        TL_CLEANUP(batch_freep)
        tl_batch *batch = NULL;
        tl_status status = tl_read(client, options, &batch);
        if (status == TL_E_CONNECTION && tl_error_is_retriable(tl_client_error(client))) {
            /* The wait reconnects; the read goes on at the same position. */
        } else if (status < 0) {
            return is_stopping ? 0 : tl__fail_client(status, client);
        } else {
            bool is_moving = tl_batch_upto(batch) > options->after;
            if (!print_batch(args, batch, max, &printed))
                return tl__fail(TL_E_NOMEM, NULL, "out of memory");
            if (fflush(stdout) != 0)
                return 0; /* main says so unless the reader went away */
            options->after = tl_batch_upto(batch);
            if (is_moving)
                continue;
        }
        status = is_stopping || printed >= max ? TL_OK : tl_client_wait(client, UINT64_MAX);
        if (status < 0 && status != TL_E_TIMEOUT && status != TL_E_CANCELLED)
            return tl__fail_client(status, client);
    }
    return 0;
}

static int run_tail(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    tl_read_options options = read_options(args);
    int rc = check_pattern(args);

    if (rc || (rc = tl__db_open(args, &db)) ||
        (rc = start_position(args, db.client, &options.after)))
        return rc;
    catch_signals(db.client);
    tl__note("waiting for events after position %lld; stop with ctrl-c", (long long)options.after);
    rc = follow(args, db.client, &options);
    waiting_client = NULL;
    return rc;
}

static const struct tl__option tail_table[] = {
    {"topic", 't', "TOPIC", "topic to follow (bus)"},
    {"from", 0, "beginning|end|POSITION", "where to start (end)"},
    {"count", 'n', "N", "stop after so many events"},
    {"pattern", 'p', "PATTERN", "only types that match, such as shop.order.* or shop.**"},
    {"tenant", 0, "TENANT", "only this tenant's events"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_tail = {
    .name = "tail",
    .summary = "print events as they come",
    .details = "Follows the log until it is interrupted. No event is missed or printed twice, also "
               "when the connection is lost for a while.",
    .examples = "  trunkline tail --pattern 'shop.**'\n"
                "  trunkline tail --from beginning --json | jq -c '[.position, .type]'",
    .options = tail_table,
    .run = run_tail,
};
