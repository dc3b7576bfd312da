/*
 * cmd_publish.c: trunkline publish: one event, or many from NDJSON in batches.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "event_input.h"
#include "json.h"
#include "out.h"
#include "start.h"

enum { BATCH_EVENTS = 1000 };
static const size_t BATCH_BYTES = 8u << 20;

/* What the options say of every event. */
struct defaults {
    const char *type, *topic, *key, *tenant_id, *source, *id;
    const char *metadata;
    struct tl__texts texts; /* of --meta */
    int64_t run_at_us;
    uint64_t delay_us, ttl_us;
};

static void defaults_done(struct defaults *d)
{
    tl__texts_done(&d->texts);
}

/* --at, --in, --ttl */
static int load_times(const struct tl__args *args, struct defaults *d)
{
    int rc = tl__parse_at(args, "at", &d->run_at_us);

    if (rc)
        return rc;
    if (d->run_at_us && tl__args_has(args, "in"))
        return tl__fail(TL_E_INVALID, NULL, "--at and --in exclude each other");
    d->delay_us = tl__args_duration_us(args, "in", 0);
    d->ttl_us = tl__args_duration_us(args, "ttl", 0);
    if (tl__args_has(args, "ttl") && d->ttl_us == 0)
        return tl__fail(TL_E_INVALID, "such as 1h", "--ttl is longer than nothing");
    if (tl__args_has(args, "wait") && (d->run_at_us || d->delay_us))
        return tl__fail(TL_E_INVALID, NULL, "--wait does not go with --at or --in");
    return 0;
}

static void outcomes_freep(tl_outcomes **outcomes)
{
    tl_outcomes_free(*outcomes);
}

/* ,"outcomes":[…] */
static void print_outcomes_json(const tl_outcomes *outcomes)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf out = TL_BUF_INIT;

    for (size_t i = 0; i < tl_outcomes_count(outcomes); i++) {
        tl__buf_add_str(&out, i ? ",{" : "{");
        tl__json_add_name(&out, "subscription");
        tl__json_add_text(&out, tl_outcomes_subscription(outcomes, i));
        tl__json_add_name(&out, "state");
        tl__json_add_text(&out, tl_outcomes_state(outcomes, i));
        tl__json_add_name(&out, "active");
        tl__buf_add_str(&out, tl_outcomes_is_active(outcomes, i) ? "true" : "false");
        tl__json_add_name(&out, "attempts");
        tl__buf_add_i64(&out, tl_outcomes_attempts(outcomes, i));
        tl__json_add_name(&out, "error");
        tl__json_add_text(&out, tl_outcomes_error(outcomes, i));
        tl__buf_add_char(&out, '}');
    }
    printf(",\"outcomes\":[%s]", out.data ? out.data : "");
}

static void print_outcomes(const tl_outcomes *outcomes)
{
    static const char *const headers[] = {"SUBSCRIPTION", "STATE", "ATTEMPTS", "ERROR"};
    struct tl__table *table = tl__table_new(4, headers);

    for (size_t i = 0; table && i < tl_outcomes_count(outcomes); i++) {
        uint32_t attempts = tl_outcomes_attempts(outcomes, i);
        char number[16];
        snprintf(number, sizeof number, "%u", attempts);
        const char *const cells[] = {
            tl_outcomes_subscription(outcomes, i),
            tl_outcomes_is_active(outcomes, i) ? tl_outcomes_state(outcomes, i) : "paused",
            attempts ? number : NULL, tl_outcomes_error(outcomes, i)};
        tl__table_add(table, cells);
    }
    if (table && tl_outcomes_count(outcomes) > 0)
        tl__table_print(table, stdout);
    tl__table_free(table);
}

/* outcomes: NULL unless they were waited for. */
static void print_receipt(const struct tl__args *args, const tl_receipt *receipt,
                          const tl_outcomes *outcomes)
{
    char position[24];

    snprintf(position, sizeof position, "%lld", (long long)receipt->position);
    if (tl__args_has(args, "json")) {
        printf("{\"position\":%s,\"id\":\"%s\",\"deduplicated\":%s",
               receipt->position ? position : "null", receipt->id,
               receipt->deduplicated ? "true" : "false");
        if (outcomes)
            print_outcomes_json(outcomes);
        puts("}");
    } else {
        printf("%s %s%s\n", receipt->position ? position : "scheduled", receipt->id,
               receipt->deduplicated ? " duplicate" : "");
        print_outcomes(outcomes);
    }
}

/* ---------------------------------------------------------------------------------- one event -- */

static int publish_one(const struct tl__args *args, struct tl__db *db, const struct defaults *d,
                       const char *data)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf document = TL_BUF_INIT;
    TL_CLEANUP(outcomes_freep)
    tl_outcomes *outcomes = NULL;
    tl_receipt receipt = {0};
    int rc;

    if ((rc = tl__data_operand(data, &document, &data)) || (rc = tl__db_open(args, db)))
        return rc;
    const tl_new_event *event =
        TL_NEW_EVENT(.type = d->type, .data = data, .data_len = strlen(data), .id = d->id,
                     .key = d->key, .source = d->source, .tenant_id = d->tenant_id,
                     .metadata = d->metadata, .run_at_us = d->run_at_us, .delay_us = d->delay_us,
                     .ttl_us = d->ttl_us);
    tl_status status =
        tl__args_has(args, "wait")
            ? tl_publish_wait(db->client, d->topic, event, tl__args_duration_us(args, "wait", 0),
                              &receipt, &outcomes)
            : tl_publish(db->client, d->topic, event, &receipt);
    if (status == TL_OK || (receipt.position > 0 && outcomes))
        print_receipt(args, &receipt, outcomes);
    return status == TL_OK ? 0 : tl__fail_client(status, db->client);
}

/* --------------------------------------------------------------------------------------- bulk -- */

struct bulk {
    const struct defaults *defaults;
    tl_client *client;
    tl_new_event events[BATCH_EVENTS];
    uint64_t lines[BATCH_EVENTS]; /* line of each event */
    struct tl__texts texts;       /* memory that the events point to */
    tl_receipt receipts[BATCH_EVENTS];
    size_t count, bytes;
    uint64_t line, stored, deduplicated, stored_line; /* stored_line: last line that is stored */
    uint64_t scheduled;
    int64_t first, last; /* position; 0: none yet */
};

static void bulk_clear(struct bulk *b)
{
    tl__texts_clear(&b->texts);
    b->count = b->bytes = 0;
}

static struct bulk *bulk_free(struct bulk *b)
{
    if (b)
        tl__texts_done(&b->texts);
    free(b);
    return NULL;
}

static void bulk_freep(struct bulk **b)
{
    *b = bulk_free(*b);
}

/* The error of a line, and how much is stored, so that the rest can be published after a repair. */
static int fail_line(const struct bulk *b, tl_status status, uint64_t line, const char *message,
                     const char *detail, bool is_unknown)
{
    static const char index_end[] = " of the batch: ";
    char text[1200], hint[300];

    /* The library counts within its batch; the line says more. */
    const char *after = line > 0 ? strstr(message, index_end) : NULL;
    if (after && strncmp(message, "event ", strlen("event ")) == 0)
        message = after + strlen(index_end);
    if (line > 0)
        snprintf(text, sizeof text, "line %llu: %s", (unsigned long long)line, message);
    else
        snprintf(text, sizeof text, "%s", message);
    const char *what = is_unknown ? "the outcome of its batch is unknown: it may be stored or not"
                                  : "nothing of its batch is stored";
    if (b->stored_line == 0)
        snprintf(hint, sizeof hint, "%s", is_unknown ? what : "nothing is stored");
    else
        snprintf(hint, sizeof hint, "%s; stored before it: %llu events (lines 1 to %llu)", what,
                 (unsigned long long)b->stored, (unsigned long long)b->stored_line);
    tl__error(text, detail, hint);
    return tl_status_exit_code(status);
}

static int bulk_flush(struct bulk *b)
{
    if (b->count == 0)
        return 0;
    tl_status status =
        tl_publish_batch(b->client, b->defaults->topic, b->events, b->count, b->receipts);
    if (status != TL_OK) {
        const tl_error *error = tl_client_error(b->client);
        int64_t index = tl_error_index(error);
        bool is_known = index >= 0 && (size_t)index < b->count;
        return fail_line(b, status, is_known ? b->lines[index] : 0, tl_error_message(error),
                         tl_error_detail(error), tl_error_outcome_unknown(error));
    }
    b->stored += b->count;
    b->stored_line = b->line;
    for (size_t i = 0; i < b->count; i++) {
        int64_t position = b->receipts[i].position;
        b->deduplicated += b->receipts[i].deduplicated;
        b->scheduled += position == 0;
        if (b->first == 0)
            b->first = position;
        if (position != 0)
            b->last = position;
    }
    bulk_clear(b);
    return 0;
}

static int bulk_add_line(struct bulk *b, char *text, size_t len, bool is_data_only)
{
    const struct defaults *d = b->defaults;
    struct tl__event_line line = {0};
    tl_new_event *e = &line.event;

    if (!tl__texts_keep(&b->texts, text))
        return tl__fail(TL_E_NOMEM, NULL, "out of memory");
    if (memchr(text, 0, len))
        return fail_line(b, TL_E_INVALID, b->line, "zero byte in the line", NULL, false);
    *e = (tl_new_event){.size = sizeof *e,
                        .type = d->type,
                        .key = d->key,
                        .tenant_id = d->tenant_id,
                        .source = d->source,
                        .metadata = d->metadata,
                        .run_at_us = d->run_at_us,
                        .delay_us = d->delay_us,
                        .ttl_us = d->ttl_us};
    if (is_data_only) {
        e->data = text;
        e->data_len = len;
    } else {
        const char *problem = tl__event_line_parse(&b->texts, text, len, false, &line);
        if (problem)
            return fail_line(b, TL_E_INVALID, b->line, problem, NULL, false);
    }
    b->events[b->count] = line.event;
    b->lines[b->count++] = b->line;
    b->bytes += len;
    return b->count == BATCH_EVENTS || b->bytes >= BATCH_BYTES ? bulk_flush(b) : 0;
}

static void print_summary(const struct tl__args *args, const struct bulk *b)
{
    uint64_t now = b->stored - b->scheduled;
    const char *duplicates = b->deduplicated ? " (with duplicates)" : "";

    if (tl__args_has(args, "json"))
        printf("{\"published\":%llu,\"scheduled\":%llu,\"deduplicated\":%llu,"
               "\"first_position\":%lld,\"last_position\":%lld}\n",
               (unsigned long long)now, (unsigned long long)b->scheduled,
               (unsigned long long)b->deduplicated, (long long)b->first, (long long)b->last);
    else if (now > 0)
        printf("published %llu events, positions %lld to %lld%s\n", (unsigned long long)now,
               (long long)b->first, (long long)b->last, duplicates);
    else if (b->scheduled == 0)
        puts("published 0 events");
    if (b->scheduled > 0 && !tl__args_has(args, "json"))
        printf("scheduled %llu events%s\n", (unsigned long long)b->scheduled,
               now > 0 ? "" : duplicates);
}

static void fclosep(FILE **f)
{
    if (*f && *f != stdin)
        fclose(*f);
}

static int publish_lines(const struct tl__args *args, struct tl__db *db, const struct defaults *d,
                         const char *path)
{
    bool is_stdin = !path || strcmp(path, "-") == 0;
    TL_CLEANUP(fclosep)
    FILE *in = is_stdin ? stdin : fopen(path, "re");
    TL_CLEANUP(bulk_freep)
    struct bulk *b = calloc(1, sizeof *b);
    struct tl__progress progress;
    struct stat about;
    uint64_t done_bytes = 0;
    int rc;

    if (!in) {
        char why[128];
        return tl__fail(errno == ENOENT ? TL_E_NOTFOUND : TL_E_DENIED, NULL, "cannot read %s: %s",
                        path, strerror_r(errno, why, sizeof why));
    }
    if (!b)
        return tl__fail(TL_E_NOMEM, NULL, "out of memory");
    if ((rc = tl__db_open(args, db)))
        return rc;
    b->defaults = d;
    b->client = db->client;
    bool has_size = fstat(fileno(in), &about) == 0 && S_ISREG(about.st_mode);
    tl__progress_start(&progress, "publishing", has_size ? (uint64_t)about.st_size : 0);
    for (rc = 0; rc == 0;) {
        char *text = NULL;
        size_t room = 0;
        ssize_t len = getline(&text, &room, in);
        if (len < 0) {
            free(text);
            break;
        }
        b->line++;
        done_bytes += (uint64_t)len;
        if (strspn(text, " \t\r\n") == (size_t)len) {
            free(text); /* an empty line */
            continue;
        }
        if ((size_t)len > TL__MAX_INPUT_BYTES) {
            free(text);
            rc = fail_line(b, TL_E_LIMIT, b->line, "longer than 256 MiB", NULL, false);
            break;
        }
        rc = bulk_add_line(b, text, (size_t)len, d->type != NULL);
        tl__progress_update(&progress, done_bytes, b->stored);
    }
    if (rc == 0 && ferror(in))
        rc = fail_line(b, TL_E_INVALID, 0, "cannot read the input", NULL, false);
    if (rc == 0)
        rc = bulk_flush(b);
    tl__progress_end(&progress);
    if (rc == 0)
        print_summary(args, b);
    return rc;
}

/* ------------------------------------------------------------------------------------ command -- */

static int run(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *type = tl__args_operand(args, 0), *data = tl__args_operand(args, 1);
    const char *file = tl__args_text(args, "file"), *why = NULL;
    bool is_bulk = file || tl__args_has(args, "ndjson");
    TL_CLEANUP(defaults_done)
    struct defaults d = {
        .type = type ? type : tl__args_text(args, "type"),
        .topic = tl__args_text(args, "topic"),
        .key = tl__args_text(args, "key"),
        .tenant_id = tl__args_text(args, "tenant"),
        .source = tl__args_text(args, "source"),
        .id = tl__args_text(args, "id"),
    };
    int rc = tl__metadata_option(args, &d.texts, &d.metadata);

    if (rc || (rc = load_times(args, &d)))
        return rc;
    if (type && tl__args_has(args, "type"))
        return tl__fail(TL_E_INVALID, NULL, "TYPE and --type exclude each other");
    if (!d.type && !is_bulk)
        return tl__fail(TL_E_INVALID, "trunkline publish TYPE [DATA], or --file FILE, or --ndjson",
                        "publish needs TYPE");
    if (d.type && tl_type_check(d.type, &why) != TL_OK)
        return tl__fail(TL_E_INVALID, "segments separated by '.', such as shop.order.created",
                        "\"%.80s\" is no event type: %s", d.type, why ? why : "malformed");
    bool is_waiting = tl__args_has(args, "wait");
    if (is_bulk && (data || d.id || is_waiting))
        return tl__fail(TL_E_INVALID, NULL, "%s does not go with --ndjson or --file",
                        data         ? "DATA"
                        : is_waiting ? "--wait"
                                     : "--id");
    if (is_waiting && tl__args_duration_us(args, "wait", 0) == 0)
        return tl__fail(TL_E_INVALID, "such as 5s", "--wait is longer than nothing");
    return is_bulk ? publish_lines(args, &db, &d, file) : publish_one(args, &db, &d, data);
}

static const struct tl__option options[] = {
    {"topic", 't', "TOPIC", "topic to publish to (bus)"},
    {"key", 'k', "KEY", "ordering key: events of one key are delivered in order"},
    {"tenant", 0, "TENANT", "tenant the event belongs to"},
    {"source", 0, "SOURCE", "who publishes"},
    {"id", 0, "UUID", "event id; publishing the same id and content again stores nothing new"},
    {"metadata", 0, "JSON", "metadata, a JSON object"},
    {"meta", 'm', "KEY=VALUE", "one member of the metadata; may be repeated"},
    {"at", 0, "TIME", "the event falls due at this time (UTC), as in 2026-11-20T21:40:00Z"},
    {"in", 0, "DURATION", "the event falls due so much later"},
    {"ttl", 0, "DURATION", "the event expires so long after it fell due"},
    {"wait", 'w', "DURATION",
     "wait so long for the subscriptions of mode sync and print what they did; then exit with 7, "
     "or "
     "with 14 when one gave the event up"},
    {"ndjson", 0, NULL, "read events from stdin, one JSON object a line"},
    {"file", 'f', "FILE", "the same from a file ('-': stdin)"},
    {"type", 0, "TYPE", "with --ndjson or --file: the type of every event; each line is its data"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_publish = {
    .name = "publish",
    .operands = "[TYPE] [DATA]",
    .summary = "publish an event, or many",
    .details =
        "DATA is any JSON value; without it, or with '-', it is read from stdin. Prints position "
        "and id once the event is durable. With --at or --in it is kept outside the log until it "
        "is due, and \"scheduled\" is printed for its position: see `trunkline scheduled`.\n\n"
        "--ndjson and --file take lines such as {\"type\":\"a.b\",\"data\":{}} with the optional "
        "members id, key, source, tenant_id and metadata; options are the default for lines "
        "without them. They are stored in batches of 1000, each all or nothing; an error names "
        "the line and says what is stored.",
    .examples = "  trunkline publish shop.order.created '{\"order\": 42}' --key 42\n"
                "  jq -c . order.json | trunkline publish shop.order.created\n"
                "  trunkline publish reminder.sent '{\"order\": 42}' --in 2h --ttl 1d\n"
                "  trunkline publish --file events.ndjson\n"
                "  trunkline publish log.line --ndjson < lines.ndjson",
    .options = options,
    .run = run,
};
