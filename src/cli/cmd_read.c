/*
 * cmd_read.c: trunkline read (what is in the log) and trunkline tail (what comes into it).
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "event_input.h"
#include "out.h"
#include "start.h"

static void batch_freep(tl_batch **b)
{
    *b = tl_batch_free(*b);
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

/* ------------------------------------------------------------------------------------- reader -- */

/* What is read: a stream, a category, or a topic; and the options of the three. */
struct source {
    const char *stream, *category, *topic;
    tl_reader_options options;
    const char *types[TL__MAX_VALUES]; /* of --types */
    struct tl__texts texts;
};

static void source_done(struct source *s)
{
    tl__texts_done(&s->texts);
}

/* "a,b" into types. */
static int load_types(const struct tl__args *args, struct source *s)
{
    const char *list = tl__args_text(args, "types");
    char *copy = list ? tl__texts_keep(&s->texts, strdup(list)) : NULL, *rest = copy;

    if (list && !copy)
        return tl__fail(TL_E_NOMEM, NULL, "out of memory");
    for (char *type; (type = strsep(&rest, ","));) {
        const char *why = NULL;
        if (tl_type_check(type, &why) != TL_OK)
            return tl__fail(TL_E_INVALID, "such as order.created,order.paid",
                            "\"%.80s\" in --types is no event type: %s", type,
                            why ? why : "malformed");
        if (s->options.type_count == TL__MAX_VALUES)
            return tl__fail(TL_E_INVALID, NULL, "more than %d --types", TL__MAX_VALUES);
        s->types[s->options.type_count++] = type;
    }
    s->options.types = s->types;
    return 0;
}

/* Options that only one kind of source knows. 0 or an exit code. */
static int check_source(const struct tl__args *args, const struct source *s)
{
    static const char *const of_topics[] = {"pattern", "types", "correlation"};

    if (s->stream && s->category)
        return tl__fail(TL_E_INVALID, NULL, "--stream and --category exclude each other");
    for (size_t i = 0; (s->stream || s->category) && i < sizeof of_topics / sizeof *of_topics; i++)
        if (tl__args_has(args, of_topics[i]))
            return tl__fail(TL_E_INVALID, NULL, "--%s does not go with --%s", of_topics[i],
                            s->stream ? "stream" : "category");
    if (s->stream && tl__args_has(args, "since"))
        return tl__fail(TL_E_INVALID, NULL, "--since does not go with --stream");
    if (s->category && tl__args_has(args, "backward"))
        return tl__fail(TL_E_INVALID, NULL, "--backward does not go with --category");
    return check_pattern(args);
}

/* Of read and tail. */
static int load_source(const struct tl__args *args, struct source *s)
{
    const char *topic = tl__args_text(args, "topic");

    *s = (struct source){
        .stream = tl__args_text(args, "stream"),
        .category = tl__args_text(args, "category"),
    };
    s->topic = topic ? topic : s->stream || s->category ? "store" : "bus";
    s->options = (tl_reader_options){
        .size = sizeof s->options,
        .topic = s->topic,
        .pattern = tl__args_text(args, "pattern"),
        .tenant_id = tl__args_text(args, "tenant"),
        .correlation_id = tl__args_text(args, "correlation"),
        .upcast = tl__args_has(args, "upcast"),
    };
    int rc = check_source(args, s);
    return rc ? rc : load_types(args, s);
}

static int open_reader(const struct source *s, tl_client *client, tl_reader **ret)
{
    tl_status status = s->stream ? tl_reader_open_stream(client, s->stream, &s->options, ret)
                       : s->category
                           ? tl_reader_open_category(client, s->category, &s->options, ret)
                           : tl_reader_open_all(client, &s->options, ret);

    return status == TL_OK ? 0 : tl__fail_client(status, client);
}

static void reader_closep(tl_reader **r)
{
    *r = tl_reader_close(*r);
}

static bool print_event(const struct tl__args *args, const tl_event *e)
{
    if (tl__args_has(args, "json"))
        return tl__print_event_json(e);
    tl__print_event(e);
    return true;
}

/* --------------------------------------------------------------------------------------- read -- */

/* --id: one event, wherever it is. */
static int read_id(const struct tl__args *args, struct tl__db *db, const char *id)
{
    static const char *const alone[] = {"stream", "category", "topic", "after",  "to",
                                        "limit",  "pattern",  "types", "tenant", "correlation",
                                        "since",  "backward", "all",   "upcast"};
    TL_CLEANUP(batch_freep)
    tl_batch *batch = NULL;
    int rc;

    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
        if (tl__args_has(args, alone[i]))
            return tl__fail(TL_E_INVALID, NULL, "--%s does not go with --id", alone[i]);
    if ((rc = tl__db_open(args, db)))
        return rc;
    tl_status status = tl_find(db->client, id, NULL, &batch);
    if (status != TL_OK)
        return tl__fail_client(status, db->client);
    return print_event(args, tl_batch_event(batch, 0))
               ? 0
               : tl__fail(TL_E_NOMEM, NULL, "out of memory");
}

static int run_read(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    TL_CLEANUP(source_done)
    struct source s = {0};
    TL_CLEANUP(reader_closep)
    tl_reader *reader = NULL;
    const char *id = tl__args_text(args, "id");
    uint64_t limit = tl__args_count(args, "limit", 100);

    if (id)
        return read_id(args, &db, id);
    int rc = load_source(args, &s);
    if (rc || (rc = tl__parse_since(args, "since", &s.options.since_us)))
        return rc;
    if (tl__args_has(args, "all") && (s.stream || s.category))
        return tl__fail(TL_E_INVALID, NULL, "--all does not go with --stream or --category");
    if (tl__args_has(args, "all") && !tl__args_has(args, "topic"))
        s.topic = s.options.topic = "store";
    s.options.after = (int64_t)tl__args_count(args, "after", 0);
    s.options.upto = (int64_t)tl__args_count(args, "to", 0);
    s.options.backward = tl__args_has(args, "backward");
    s.options.limit = limit;
    if ((rc = tl__db_open(args, &db)) || (rc = open_reader(&s, db.client, &reader)))
        return rc;
    for (uint64_t printed = 0; printed < limit && !ferror(stdout); printed++) {
        const tl_event *e;
        tl_status status = tl_reader_next(reader, &e);
        if (status == TL_NOTHING)
            break;
        if (status != TL_OK)
            return tl__fail_client(status, db.client);
        if (!print_event(args, e))
            return tl__fail(TL_E_NOMEM, NULL, "out of memory");
    }
    return 0;
}

static const struct tl__option read_table[] = {
    {"stream", 's', "STREAM", "read this stream, by version"},
    {"category", 'c', "CATEGORY", "read the streams of a category, such as order or order-*"},
    {"all", 0, NULL, "read the whole topic store"},
    {"id", 0, "UUID", "print one event, wherever it is"},
    {"topic", 't', "TOPIC", "topic to read (bus; store with --stream, --category or --all)"},
    {"after", 'a', "N",
     "position, or version of the stream, to read after (0: from the beginning)"},
    {"to", 0, "N", "position or version to read up to"},
    {"backward", 0, NULL, "the newest first; --after is then where to start below"},
    {"limit", 'n', "N", "at most so many events (100)"},
    {"since", 0, "TIME", "stored at this time (UTC) or later; a duration is so long ago"},
    {"pattern", 'p', "PATTERN", "only types that match, such as shop.order.* or shop.**"},
    {"types", 0, "TYPE,...", "only these types"},
    {"correlation", 0, "ID", "only events whose metadata has this correlation_id"},
    {"tenant", 0, "TENANT", "only this tenant's events"},
    {"upcast", 0, NULL, "data in its newest schema version, by the functions of upcaster_add()"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_read = {
    .name = "read",
    .summary = "print events of a topic, a stream or a category, in order",
    .details = "Prints what is safe to read: no event that commits later will have a position "
               "before the last one printed. --json prints one event a line. Without --stream, "
               "--category or --all it reads the topic bus. An absent stream has no events.",
    .examples = "  trunkline read --pattern 'shop.**' --limit 20\n"
                "  trunkline read --after 1000 --json | jq .data\n"
                "  trunkline read --stream order-42 --backward --limit 1\n"
                "  trunkline read --category order --since 1h",
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

static int start_position(const struct tl__args *args, tl_client *client, struct source *s)
{
    const char *from = tl__args_text(args, "from");
    uint64_t position = 0;

    if (!from || strcmp(from, "end") == 0) {
        tl_status status =
            s->stream ? tl_stream_version(
                            client, s->stream,
                            TL_STREAM_OPTIONS(.topic = s->topic, .tenant_id = s->options.tenant_id),
                            &s->options.after)
                      : tl_horizon(client, s->topic, &s->options.after);
        return status == TL_OK ? 0 : tl__fail_client(status, client);
    }
    if (strcmp(from, "beginning") != 0 && !tl__parse_count(from, &position))
        return tl__fail(TL_E_INVALID, NULL, "--from is beginning, end or a position, not \"%s\"",
                        from);
    s->options.after = (int64_t)position;
    return 0;
}

static int follow(const struct tl__args *args, tl_client *client, tl_reader *reader)
{
    uint64_t max = tl__args_count(args, "count", UINT64_MAX), printed = 0;

    while (!is_stopping && printed < max) {
        const tl_event *e;
        tl_status status = tl_reader_next(reader, &e);
        if (status == TL_OK) {
            printed++;
            if (!print_event(args, e))
                return tl__fail(TL_E_NOMEM, NULL, "out of memory");
            if (ferror(stdout))
                return 0; /* main says so unless the reader went away */
            continue;
        }
        if (fflush(stdout) != 0)
            return 0;
        /* A lost connection: the wait reconnects, the read goes on behind the last event. */
        if (status < 0 &&
            !(status == TL_E_CONNECTION && tl_error_is_retriable(tl_client_error(client))))
            return is_stopping ? 0 : tl__fail_client(status, client);
        status = is_stopping ? TL_OK : tl_client_wait(client, UINT64_MAX);
        if (status < 0 && status != TL_E_TIMEOUT && status != TL_E_CANCELLED)
            return tl__fail_client(status, client);
    }
    return 0;
}

static int run_tail(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    TL_CLEANUP(source_done)
    struct source s = {0};
    TL_CLEANUP(reader_closep)
    tl_reader *reader = NULL;
    int rc = load_source(args, &s);

    if (rc || (rc = tl__db_open(args, &db)) || (rc = start_position(args, db.client, &s)) ||
        (rc = open_reader(&s, db.client, &reader)))
        return rc;
    catch_signals(db.client);
    tl__note("waiting for events after %s %lld; stop with ctrl-c",
             s.stream ? "version" : "position", (long long)s.options.after);
    rc = follow(args, db.client, reader);
    waiting_client = NULL;
    return rc;
}

static const struct tl__option tail_table[] = {
    {"stream", 's', "STREAM", "follow this stream"},
    {"category", 'c', "CATEGORY", "follow the streams of a category, such as order or order-*"},
    {"topic", 't', "TOPIC", "topic to follow (bus; store with --stream or --category)"},
    {"from", 0, "beginning|end|POSITION", "where to start; with --stream a version (end)"},
    {"count", 'n', "N", "stop after so many events"},
    {"pattern", 'p', "PATTERN", "only types that match, such as shop.order.* or shop.**"},
    {"types", 0, "TYPE,...", "only these types"},
    {"correlation", 0, "ID", "only events whose metadata has this correlation_id"},
    {"tenant", 0, "TENANT", "only this tenant's events"},
    {"upcast", 0, NULL, "data in its newest schema version, by the functions of upcaster_add()"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_tail = {
    .name = "tail",
    .summary = "print events as they come",
    .details = "Follows the log until it is interrupted. No event is missed or printed twice, also "
               "when the connection is lost for a while.",
    .examples = "  trunkline tail --pattern 'shop.**'\n"
                "  trunkline tail --from beginning --json | jq -c '[.position, .type]'\n"
                "  trunkline tail --category order",
    .options = tail_table,
    .run = run_tail,
};
