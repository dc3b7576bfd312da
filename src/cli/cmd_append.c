/*
 * cmd_append.c: trunkline append: an event to a stream, many to one, or many to several, each time all
 * or none.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "event_input.h"
#include "json.h"
#include "out.h"

enum { MAX_WRITES = 1000 }; /* streams of one append */

/* ---------------------------------------------------------------------------------- versions -- */

/* any, exists, none or a number; false: none of these. */
static bool parse_expect(const char *text, size_t len, int64_t *ret)
{
    static const struct {
        const char *word;
        int64_t value;
    } words[] = {
        {"any", TL_EXPECT_ANY}, {"exists", TL_EXPECT_EXISTS}, {"none", TL_EXPECT_NO_STREAM}};
    char number[24];
    uint64_t value;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].word) == len && memcmp(words[i].word, text, len) == 0) {
            *ret = words[i].value;
            return true;
        }
    if (len >= sizeof number)
        return false;
    memcpy(number, text, len);
    number[len] = 0;
    if (!tl__parse_count(number, &value))
        return false;
    *ret = (int64_t)value;
    return true;
}

static void format_expect(int64_t expect, char ret[static 24])
{
    if (expect == TL_EXPECT_ANY || expect == TL_EXPECT_EXISTS || expect == TL_EXPECT_NO_STREAM)
        snprintf(ret, 24, "\"%s\"",
                 expect == TL_EXPECT_ANY      ? "any"
                 : expect == TL_EXPECT_EXISTS ? "exists"
                                              : "none");
    else
        snprintf(ret, 24, "%lld", (long long)expect);
}

/* ----------------------------------------------------------------------------------- results -- */

static int print_appended(const struct tl__args *args, const char *stream, const tl_appended *a,
                          size_t n)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf out = TL_BUF_INIT;

    for (size_t i = 0; i < n; i++) {
        if (tl__args_has(args, "json")) {
            tl__buf_add_char(&out, '{');
            tl__json_add_name(&out, "stream");
            tl__json_add_text(&out, stream);
            tl__json_add_name(&out, "version");
            tl__buf_add_i64(&out, a[i].version);
            tl__json_add_name(&out, "position");
            tl__buf_add_i64(&out, a[i].position);
            tl__json_add_name(&out, "id");
            tl__json_add_text(&out, a[i].id);
            tl__json_add_name(&out, "deduplicated");
            tl__buf_add_str(&out, a[i].deduplicated ? "true}\n" : "false}\n");
        } else {
            tl__print_plain(stdout, stream, SIZE_MAX);
            printf(" %lld %lld %s%s\n", (long long)a[i].version, (long long)a[i].position, a[i].id,
                   a[i].deduplicated ? " duplicate" : "");
        }
    }
    if (out.is_failed)
        return tl__fail(TL_E_NOMEM, NULL, "out of memory");
    fwrite(out.data ? out.data : "", 1, out.len, stdout);
    return 0;
}

/* With --json a conflict is a result as well: what was expected and what there is. */
static void print_conflict(const struct tl__args *args, const char *stream, const tl_error *error)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf out = TL_BUF_INIT;
    char expected[24];

    if (!tl__args_has(args, "json") || strcmp(tl_error_sqlstate(error), "TL001") != 0)
        return;
    format_expect(tl_error_expected_version(error), expected);
    tl__json_add_text(&out, stream);
    printf("{\"conflict\":{\"stream\":%s,\"expected\":%s,\"actual\":%lld}}\n",
           out.is_failed ? "null" : out.data, expected, (long long)tl_error_actual_version(error));
}

/* The error of a failed call; line > 0 is the line of the input to blame. */
static int fail_append(const struct tl__args *args, const tl_client *client, tl_status status,
                       const char *stream, uint64_t line)
{
    static const char index_end[] = " of the append: ";
    const tl_error *error = tl_client_error(client);
    const char *message = tl_error_message(error);
    char text[1200];

    if (status == TL_E_CONFLICT)
        print_conflict(args, stream, error);
    if (line == 0)
        return tl__fail_error(status, error);
    /* The library counts within its call; the line says more. */
    const char *after = strstr(message, index_end);
    if (after && strncmp(message, "event ", strlen("event ")) == 0)
        message = after + strlen(index_end);
    snprintf(text, sizeof text, "line %llu: %s", (unsigned long long)line, message);
    tl__error(text, tl_error_detail(error),
              tl_error_outcome_unknown(error)
                  ? "the outcome is unknown: repeat it with the same ids"
                  : "nothing is stored");
    return tl_status_exit_code(status);
}

/* ------------------------------------------------------------------------------------- lines -- */

struct line {
    tl_new_event event;
    uint64_t number; /* in the input */
    size_t write;    /* index of its stream */
    bool is_event;
};

struct input {
    struct tl__texts texts;
    struct line *lines;
    size_t line_count, line_room, bytes;
    tl_stream_write writes[MAX_WRITES];
    uint64_t first_line[MAX_WRITES];
    size_t write_count, event_count;
    tl_new_event *events; /* of all lines, those of a stream together */
    uint64_t *numbers;    /* line of each of them */
    tl_appended *appended;
};

static void input_freep(struct input **in)
{
    if (*in) {
        tl__texts_done(&(*in)->texts);
        free((*in)->lines);
        free((*in)->events);
        free((*in)->numbers);
        free((*in)->appended);
    }
    free(*in);
    *in = NULL;
}

static int fail_line(uint64_t number, tl_status status, const char *what)
{
    return tl__fail(status, "nothing is stored", "line %llu: %s", (unsigned long long)number, what);
}

/* Which of the streams a line is for. The first line of a stream says what is expected of it. */
static int find_write(struct input *in, const struct tl__event_line *parsed, uint64_t number,
                      size_t *ret)
{
    int64_t expect = TL_EXPECT_ANY;
    size_t i = 0;

    while (i < in->write_count && strcmp(in->writes[i].stream, parsed->stream) != 0)
        i++;
    *ret = i;
    if (parsed->expect) {
        const char *text = parsed->expect;
        size_t len = parsed->expect_len;
        if (len >= 2 && text[0] == '"')
            text++, len -= 2;
        if (!(len == 4 && memcmp(text, "null", 4) == 0 && *parsed->expect != '"') &&
            !parse_expect(text, len, &expect))
            return fail_line(number, TL_E_INVALID, "expect is any, exists, none or a version");
    }
    if (i < in->write_count)
        return parsed->expect && expect != in->writes[i].expected_version
                   ? fail_line(number, TL_E_INVALID,
                               "another line expects something else of the stream")
                   : 0;
    if (in->write_count == MAX_WRITES)
        return fail_line(number, TL_E_LIMIT, "more than 1000 streams");
    in->writes[in->write_count] = (tl_stream_write){
        .size = sizeof(tl_stream_write), .stream = parsed->stream, .expected_version = expect};
    in->first_line[in->write_count++] = number;
    return 0;
}

static int add_line(struct input *in, char *text, size_t len, uint64_t number, bool has_stream,
                    const tl_new_event *defaults)
{
    struct tl__event_line parsed = {.event = *defaults};

    if (!tl__texts_keep(&in->texts, text))
        return tl__fail(TL_E_NOMEM, NULL, "out of memory");
    if (memchr(text, 0, len))
        return fail_line(number, TL_E_INVALID, "zero byte in the line");
    const char *problem = tl__event_line_parse(&in->texts, text, len, has_stream, &parsed);
    if (problem)
        return fail_line(number, TL_E_INVALID, problem);
    in->bytes += len;
    if (in->bytes > TL__MAX_INPUT_BYTES)
        return fail_line(number, TL_E_LIMIT, "more than 256 MiB");
    if (in->line_count == in->line_room) {
        size_t room = in->line_room ? in->line_room * 2 : 256;
        struct line *lines = reallocarray(in->lines, room, sizeof *lines);
        if (!lines)
            return tl__fail(TL_E_NOMEM, NULL, "out of memory");
        in->lines = lines;
        in->line_room = room;
    }
    struct line *line = &in->lines[in->line_count++];
    *line = (struct line){parsed.event, number, 0, parsed.is_event};
    in->event_count += parsed.is_event;
    if (in->event_count > TL_MAX_APPEND)
        return fail_line(number, TL_E_LIMIT,
                         "more than 10000 events, which one append cannot hold");
    return has_stream ? find_write(in, &parsed, number, &line->write) : 0;
}

static int read_lines(struct input *in, bool has_stream, const tl_new_event *defaults)
{
    uint64_t number = 0;
    int rc = 0;

    while (rc == 0) {
        char *text = NULL;
        size_t room = 0;
        ssize_t len = getline(&text, &room, stdin);
        number++;
        if (len < 0 || strspn(text, " \t\r\n") == (size_t)len) {
            free(text);
            if (len < 0)
                break;
            continue;
        }
        rc = add_line(in, text, (size_t)len, number, has_stream, defaults);
    }
    if (rc)
        return rc;
    if (ferror(stdin))
        return tl__fail(TL_E_INVALID, NULL, "cannot read stdin");
    if (in->event_count == 0)
        return tl__fail(TL_E_INVALID, NULL, "no events on stdin");
    return 0;
}

/* The events in the order of their streams. */
static bool arrange(struct input *in)
{
    size_t n = 0;

    assert(in->event_count > 0);
    in->events = calloc(in->event_count, sizeof *in->events);
    in->numbers = calloc(in->event_count, sizeof *in->numbers);
    in->appended = calloc(in->event_count, sizeof *in->appended);
    if (!in->events || !in->numbers || !in->appended)
        return false;
    for (size_t w = 0; w < (in->write_count ? in->write_count : 1); w++) {
        in->writes[w].events = in->events + n;
        for (size_t i = 0; i < in->line_count; i++) {
            if (in->lines[i].write != w || !in->lines[i].is_event)
                continue;
            in->events[n] = in->lines[i].event;
            in->numbers[n++] = in->lines[i].number;
            in->writes[w].event_count++;
        }
    }
    return true;
}

static int append_lines(const struct tl__args *args, struct tl__db *db, const char *stream,
                        int64_t expect, const tl_new_event *defaults, const tl_append_options *opts)
{
    TL_CLEANUP(input_freep)
    struct input *in = calloc(1, sizeof *in);
    tl_status status;
    int rc;

    if (!in)
        return tl__fail(TL_E_NOMEM, NULL, "out of memory");
    if ((rc = read_lines(in, !stream, defaults)))
        return rc;
    if (!arrange(in))
        return tl__fail(TL_E_NOMEM, NULL, "out of memory");
    if ((rc = tl__db_open(args, db)))
        return rc;
    if (stream)
        status =
            tl_append(db->client, stream, expect, in->events, in->event_count, opts, in->appended);
    else
        status = tl_append_streams(db->client, in->writes, in->write_count, opts, in->appended);
    if (status != TL_OK) {
        int64_t index = tl_error_index(tl_client_error(db->client));
        bool is_known = index >= 0 && (size_t)index < (stream ? in->event_count : in->write_count);
        return fail_append(args, db->client, status,
                           !stream && is_known ? in->writes[index].stream : stream,
                           !is_known ? 0
                           : stream  ? in->numbers[index]
                                     : in->first_line[index]);
    }
    if (stream)
        return print_appended(args, stream, in->appended, in->event_count);
    for (size_t w = 0, n = 0; w < in->write_count && rc == 0; n += in->writes[w++].event_count)
        rc =
            print_appended(args, in->writes[w].stream, in->appended + n, in->writes[w].event_count);
    return rc;
}

/* ----------------------------------------------------------------------------------- command -- */

static int append_one(const struct tl__args *args, struct tl__db *db, const char *stream,
                      int64_t expect, tl_new_event *event, const tl_append_options *opts)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf document = TL_BUF_INIT;
    tl_appended appended;
    int rc = tl__data_operand(tl__args_operand(args, 2), &document, &event->data);

    if (rc || (rc = tl__db_open(args, db)))
        return rc;
    tl_status status = tl_append(db->client, stream, expect, event, 1, opts, &appended);
    if (status != TL_OK)
        return fail_append(args, db->client, status, stream, 0);
    return print_appended(args, stream, &appended, 1);
}

/* Which of the forms is it? 0 or an exit code. */
static int check_form(const struct tl__args *args)
{
    const char *stream = tl__args_operand(args, 0), *type = tl__args_operand(args, 1), *why = NULL;
    bool is_batch = tl__args_has(args, "batch"), is_streams = tl__args_has(args, "streams");

    if (is_batch && is_streams)
        return tl__fail(TL_E_INVALID, NULL, "--batch and --streams exclude each other");
    if (is_streams && (stream || tl__args_has(args, "expect")))
        return tl__fail(TL_E_INVALID, "each line has \"stream\" and \"expect\"",
                        "%s does not go with --streams", stream ? "STREAM" : "--expect");
    if (!is_streams && !stream)
        return tl__fail(TL_E_INVALID, "trunkline append STREAM TYPE [DATA]", "append needs STREAM");
    if (is_batch && type)
        return tl__fail(TL_E_INVALID, NULL, "TYPE does not go with --batch: each line has its own");
    if ((is_batch || is_streams) && tl__args_has(args, "id"))
        return tl__fail(TL_E_INVALID, NULL, "--id does not go with --batch or --streams");
    if (is_batch || is_streams)
        return 0;
    if (!type)
        return tl__fail(TL_E_INVALID, "trunkline append STREAM TYPE [DATA], or --batch",
                        "append needs TYPE");
    if (tl_type_check(type, &why) != TL_OK)
        return tl__fail(TL_E_INVALID, "segments separated by '.', such as order.created",
                        "\"%.80s\" is no event type: %s", type, why ? why : "malformed");
    return 0;
}

static int run(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    TL_CLEANUP(tl__texts_done)
    struct tl__texts texts = {0};
    const char *expect_text = tl__args_text(args, "expect");
    int64_t expect = TL_EXPECT_ANY;
    tl_new_event event = {.size = sizeof event,
                          .type = tl__args_operand(args, 1),
                          .id = tl__args_text(args, "id"),
                          .source = tl__args_text(args, "source")};
    tl_append_options opts = {.size = sizeof opts,
                              .topic = tl__args_text(args, "topic"),
                              .tenant_id = tl__args_text(args, "tenant")};
    int rc = check_form(args);

    if (rc || (rc = tl__metadata_option(args, &texts, &event.metadata)))
        return rc;
    if (expect_text && !parse_expect(expect_text, strlen(expect_text), &expect))
        return tl__fail(TL_E_INVALID, NULL,
                        "--expect is any, exists, none or a version, not \"%s\"", expect_text);
    if (tl__args_has(args, "batch") || tl__args_has(args, "streams"))
        return append_lines(args, &db, tl__args_operand(args, 0), expect, &event, &opts);
    return append_one(args, &db, tl__args_operand(args, 0), expect, &event, &opts);
}

static const struct tl__option options[] = {
    {"expect", 'e', "any|exists|none|VERSION", "version the stream must have, else conflict (any)"},
    {"id", 0, "UUID", "event id; the same append again stores nothing new"},
    {"source", 0, "SOURCE", "who says so"},
    {"metadata", 0, "JSON", "metadata, a JSON object"},
    {"meta", 'm', "KEY=VALUE", "one member of the metadata; may be repeated"},
    {"tenant", 0, "TENANT", "tenant of the stream"},
    {"topic", 't', "TOPIC", "topic with streams (store)"},
    {"batch", 0, NULL, "the events are lines of JSON on stdin, appended all or none"},
    {"streams", 0, NULL, "the same for several streams, which the lines name"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_append = {
    .name = "append",
    .operands = "[STREAM] [TYPE] [DATA]",
    .summary = "append events to a stream",
    .details =
        "A stream is a sequence of events with versions 1, 2, 3... Its name is CATEGORY-ID, such "
        "as "
        "order-42. DATA is any JSON value; without it, or with '-', it is read from stdin. Prints "
        "stream, version, position and id of each event once all are durable.\n\n"
        "--expect says which version the stream must have: none (it has no events yet), exists, a "
        "number, or any. If it has another one nothing is stored, the exit code is 4, and error "
        "and "
        "--json tell the actual version.\n\n"
        "--batch takes lines such as {\"type\":\"order.paid\",\"data\":{}} with the optional "
        "members "
        "id, key, source and metadata: at most 10000, all or none. --streams takes the same with "
        "\"stream\" in each line and \"expect\" in the first of a stream; a line without type and "
        "data "
        "only checks its stream. With ids, the same input again stores nothing new.",
    .examples = "  trunkline append order-42 order.created '{\"total\": \"9.90\"}' --expect none\n"
                "  trunkline append order-42 order.paid --expect 1 < paid.json\n"
                "  trunkline append order-42 --batch < events.ndjson\n"
                "  trunkline append --streams < transfer.ndjson",
    .options = options,
    .run = run,
};
