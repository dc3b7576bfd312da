/*
 * cmd_streams.c: trunkline streams, redact, snapshots: what is known of streams, and what is taken out
 * of them.
 */
#include <string.h>

#include "cleanup.h"
#include "clock.h"
#include "commands.h"
#include "database.h"
#include "json.h"
#include "out.h"
#include "rows.h"

static void streams_freep(tl_streams **s)
{
    *s = tl_streams_free(*s);
}

/* ----------------------------------------------------------------------------------- results -- */

static void add_time(struct tl__buf *out, const char *name, int64_t at_us)
{
    char at[TL_TIME_TEXT_SIZE];

    tl__time_format(at_us, at);
    tl__json_add_name(out, name);
    tl__json_add_text(out, at);
}

static int print_json(const tl_streams *s)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf out = TL_BUF_INIT;

    for (size_t i = 0; i < tl_streams_count(s); i++) {
        const char *metadata = tl_streams_metadata(s, i);
        int64_t max_count = tl_streams_max_count(s, i);
        uint64_t max_age_us = tl_streams_max_age_us(s, i);
        char seconds[32];

        tl__buf_add_char(&out, '{');
        tl__json_add_name(&out, "stream");
        tl__json_add_text(&out, tl_streams_name(s, i));
        tl__json_add_name(&out, "version");
        tl__buf_add_i64(&out, tl_streams_version(s, i));
        tl__json_add_name(&out, "first_version");
        tl__buf_add_i64(&out, tl_streams_first_version(s, i));
        tl__json_add_name(&out, "state");
        tl__json_add_text(&out, tl_streams_state(s, i));
        tl__json_add_name(&out, "tenant_id");
        tl__json_add_text(&out, tl_streams_tenant_id(s, i));
        tl__json_add_name(&out, "max_count");
        if (max_count)
            tl__buf_add_i64(&out, max_count);
        else
            tl__buf_add_str(&out, "null");
        snprintf(seconds, sizeof seconds, "%llu.%06llu", (unsigned long long)(max_age_us / 1000000),
                 (unsigned long long)(max_age_us % 1000000));
        tl__json_add_name(&out, "max_age_seconds");
        tl__buf_add_str(&out, max_age_us ? seconds : "null");
        tl__json_add_name(&out, "metadata");
        tl__buf_add_str(&out, metadata ? metadata : "null");
        add_time(&out, "created_at", tl_streams_created_at_us(s, i));
        add_time(&out, "updated_at", tl_streams_updated_at_us(s, i));
        tl__buf_add_str(&out, "}\n");
    }
    if (out.is_failed)
        return tl__fail(TL_E_NOMEM, NULL, "out of memory");
    fwrite(out.data ? out.data : "", 1, out.len, stdout);
    return 0;
}

static void print_table(const tl_streams *s)
{
    static const char *const headers[] = {"stream", "version", "state", "tenant", "updated_at"};
    struct tl__table *table = tl__table_new(5, headers);

    for (size_t i = 0; table && i < tl_streams_count(s); i++) {
        char version[24], at[TL_TIME_TEXT_SIZE];

        snprintf(version, sizeof version, "%lld", (long long)tl_streams_version(s, i));
        tl__time_format(tl_streams_updated_at_us(s, i), at);
        at[19] = 'Z', at[20] = 0; /* seconds are enough here */
        tl__table_add(table,
                      (const char *const[]){tl_streams_name(s, i), version, tl_streams_state(s, i),
                                            tl_streams_tenant_id(s, i), at});
    }
    if (table)
        tl__table_print(table, stdout);
    tl__table_free(table);
}

static void print_member(const char *name, const char *value)
{
    printf("%-13s  ", name);
    tl__print_plain(stdout, value ? value : "-", SIZE_MAX);
    putchar('\n');
}

static void print_number(const char *name, int64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)value);
    print_member(name, text);
}

static void print_one(const tl_streams *s)
{
    char at[TL_TIME_TEXT_SIZE], age[40];
    uint64_t max_age_us = tl_streams_max_age_us(s, 0);

    print_member("stream", tl_streams_name(s, 0));
    print_number("version", tl_streams_version(s, 0));
    print_number("first_version", tl_streams_first_version(s, 0));
    print_member("state", tl_streams_state(s, 0));
    print_member("tenant", tl_streams_tenant_id(s, 0));
    if (tl_streams_max_count(s, 0))
        print_number("max_count", tl_streams_max_count(s, 0));
    if (max_age_us) {
        snprintf(age, sizeof age, "%llus", (unsigned long long)(max_age_us / 1000000));
        print_member("max_age", age);
    }
    print_member("metadata", tl_streams_metadata(s, 0));
    tl__time_format(tl_streams_created_at_us(s, 0), at);
    print_member("created_at", at);
    tl__time_format(tl_streams_updated_at_us(s, 0), at);
    print_member("updated_at", at);
}

/* ----------------------------------------------------------------------------------- actions -- */

/* Page by page, since one call gives at most 10000. */
static int list(const struct tl__args *args, struct tl__db *db, const char *category)
{
    uint64_t limit = tl__args_count(args, "limit", 100), seen = 0;
    tl_stream_list_options opts = {
        .size = sizeof opts,
        .topic = tl__args_text(args, "topic"),
        .tenant_id = tl__args_text(args, "tenant"),
        .category = category,
        .after = tl__args_text(args, "after"),
        .include_deleted = tl__args_has(args, "deleted"),
    };

    if (limit < 1 || limit > 10000)
        return tl__fail(TL_E_INVALID, "page on with --after STREAM",
                        "--limit is a number from 1 to 10000");
    opts.limit = (uint32_t)limit;
    TL_CLEANUP(streams_freep)
    tl_streams *streams = NULL;
    tl_status status = tl_stream_list(db->client, &opts, &streams);
    if (status < 0)
        return tl__fail_client(status, db->client);
    seen = tl_streams_count(streams);
    if (tl__args_has(args, "json"))
        return print_json(streams);
    print_table(streams);
    if (seen == limit)
        tl__note("there may be more: --after '%s'", tl_streams_name(streams, seen - 1));
    return 0;
}

static int show(const struct tl__args *args, struct tl__db *db, const char *stream)
{
    TL_CLEANUP(streams_freep)
    tl_streams *streams = NULL;
    tl_status status = tl_stream_info(db->client, stream,
                                      TL_STREAM_OPTIONS(.topic = tl__args_text(args, "topic"),
                                                        .tenant_id = tl__args_text(args, "tenant")),
                                      &streams);

    if (status != TL_OK)
        return tl__fail_client(status, db->client);
    if (tl__args_has(args, "json"))
        return print_json(streams);
    print_one(streams);
    return 0;
}

/* The version that a stream must have: N; TL_EXPECT_ANY without the option. */
static int64_t expected_version(const struct tl__args *args)
{
    return tl__args_has(args, "expect") ? (int64_t)tl__args_count(args, "expect", 0)
                                        : TL_EXPECT_ANY;
}

static int delete (const struct tl__args *args, struct tl__db *db, const char *stream)
{
    bool is_hard = tl__args_has(args, "hard");
    tl_status status =
        tl_stream_delete(db->client, stream, expected_version(args),
                         &(tl_stream_delete_options){.size = sizeof(tl_stream_delete_options),
                                                     .topic = tl__args_text(args, "topic"),
                                                     .tenant_id = tl__args_text(args, "tenant"),
                                                     .hard = is_hard,
                                                     .reason = tl__args_text(args, "reason")});

    if (status < 0)
        return tl__fail_client(status, db->client);
    if (tl__args_has(args, "json"))
        printf("{\"deleted\":%s,\"hard\":%s}\n", status == TL_OK ? "true" : "false",
               is_hard ? "true" : "false");
    else
        printf("%s %s\n", status == TL_OK ? "deleted" : "nothing to delete in", stream);
    return 0;
}

static int set(const struct tl__args *args, struct tl__db *db, const char *stream)
{
    tl_status status = tl_stream_set(
        db->client, stream, expected_version(args),
        TL_STREAM_SET_OPTIONS(.topic = tl__args_text(args, "topic"),
                              .tenant_id = tl__args_text(args, "tenant"),
                              .max_count = (int64_t)tl__args_count(args, "max-count", 0),
                              .max_age_us = tl__args_duration_us(args, "max-age", 0),
                              .metadata = tl__args_text(args, "metadata")));

    if (status != TL_OK)
        return tl__fail_client(status, db->client);
    if (tl__args_has(args, "json"))
        return show(args, db, stream);
    printf("set %s\n", stream);
    return 0;
}

static int run_streams(struct tl__args *args)
{
    static const struct tl__goes_with goes_with[] = {
        {"after", "list"},        {"limit", "list"},    {"deleted", "list"},
        {"hard", "delete"},       {"reason", "delete"}, {"yes", "delete"},
        {"expect", "delete|set"}, {"max-count", "set"}, {"max-age", "set"},
        {"metadata", "set"},      {NULL, NULL},
    };
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0), *name = tl__args_operand(args, 1);
    int rc;

    action = action ? action : "list";
    bool is_list = strcmp(action, "list") == 0, is_hard = tl__args_has(args, "hard");
    if ((rc = tl__args_check_action(args, action, goes_with)))
        return rc;
    if (!is_list && !name)
        return tl__fail(TL_E_INVALID, NULL, "streams %s needs STREAM", action);
    if (is_hard && !tl__args_text(args, "reason"))
        return tl__fail(TL_E_INVALID, "it is kept in the audit", "--hard needs --reason");
    if (is_hard && !tl__args_has(args, "yes"))
        return tl__fail(TL_E_INVALID, "add --yes if you mean it",
                        "--hard removes the payloads of %s for good and closes it for ever", name);
    if ((rc = tl__db_open(args, &db)))
        return rc;
    if (is_list)
        return list(args, &db, name);
    if (strcmp(action, "show") == 0)
        return show(args, &db, name);
    if (strcmp(action, "set") == 0)
        return set(args, &db, name);
    return delete (args, &db, name);
}

static const struct tl__option streams_table[] = {
    {"topic", 't', "TOPIC", "topic with streams (store)"},
    {"tenant", 0, "TENANT", "only this tenant's streams"},
    {"after", 'a', "STREAM", "list: those behind this one, by name"},
    {"limit", 'n', "N", "list: at most so many (100)"},
    {"deleted", 0, NULL, "list: deleted ones as well"},
    {"expect", 'e', "N", "set, delete: the version it must have"},
    {"max-count", 0, "N", "set: reads of the stream give the last so many events"},
    {"max-age", 0, "DURATION", "set: and those younger than this"},
    {"metadata", 0, "JSON", "set: a JSON object of yours"},
    {"hard", 0, NULL, "delete: for ever, with all payloads; nothing can be appended any more"},
    {"reason", 0, "TEXT", "delete: why, for the audit"},
    {"yes", 0, NULL, "delete --hard: do it"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_streams = {
    .name = "streams",
    .operands = "[list|show|set|delete] [STREAM]",
    .summary = "list, look at, limit or delete streams",
    .details =
        "list takes a category, such as order or order-*, and shows all without one.\n\n"
        "set replaces all settings of a stream: what is not named is cleared. They limit what "
        "reads "
        "of the stream give; the topic keeps the rest. An absent stream is made, at version 0.\n\n"
        "delete hides the events from reads of the stream; they stay in the topic, and the next "
        "append opens the stream again with the next version. delete --hard removes the payloads "
        "for good and closes the stream for ever. Both are audited.",
    .examples = "  trunkline streams list order\n"
                "  trunkline streams show order-42 --json\n"
                "  trunkline streams set sensor-7 --max-count 1000 --max-age 7d\n"
                "  trunkline streams delete order-42 --hard --reason 'request 17' --yes",
    .options = streams_table,
    .run = run_streams,
};

/* ------------------------------------------------------------------------------------ redact -- */

static int run_redact(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *id = tl__args_operand(args, 0), *reason = tl__args_text(args, "reason");
    int rc;

    if (!reason)
        return tl__fail(TL_E_INVALID, "it is kept in the event and in the audit",
                        "redact needs --reason");
    if (!tl__args_has(args, "yes"))
        return tl__fail(TL_E_INVALID, "add --yes if you mean it",
                        "redact removes the payload of %s for good", id);
    if ((rc = tl__db_open(args, &db)))
        return rc;
    tl_status status =
        tl_redact(db.client, id, reason,
                  TL_REDACT_OPTIONS(.topic = tl__args_text(args, "topic"),
                                    .keep_metadata = tl__args_has(args, "keep-metadata")));
    if (status < 0)
        return tl__fail_client(status, db.client);
    if (tl__args_has(args, "json"))
        printf("{\"redacted\":%s}\n", status == TL_OK ? "true" : "false");
    else
        puts(status == TL_OK ? "redacted" : "was redacted before");
    return 0;
}

static const struct tl__option redact_table[] = {
    {"reason", 0, "TEXT", "why; required"},
    {"yes", 0, NULL, "do it"},
    {"topic", 't', "TOPIC", "topic of the event (wherever it is)"},
    {"keep-metadata", 0, NULL, "remove only the data"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_redact = {
    .name = "redact",
    .operands = "ID",
    .summary = "remove the payload of an event for good",
    .details =
        "The data becomes null, and of the metadata only correlation_id and causation_id stay, "
        "here and in every copy that this database has. Position, version and type stay, and "
        "every read shows metadata.redacted. Audited; it cannot be undone.",
    .examples =
        "  trunkline redact 0199b5c0-0001-7abc-8def-0123456789ab --reason 'request 17' --yes",
    .options = redact_table,
    .run = run_redact,
};

/* --------------------------------------------------------------------------------- snapshots -- */

static int run_snapshots(struct tl__args *args)
{
    static const struct tl__goes_with goes_with[] = {
        {"below-schema", "delete"}, {"limit", "list"}, {NULL, NULL}};
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0), *name = tl__args_operand(args, 1);
    const char *topic = tl__args_text(args, "topic"), *limit = tl__args_text(args, "limit");
    int rc;

    action = action ? action : "list";
    bool is_list = strcmp(action, "list") == 0;
    if ((rc = tl__args_check_action(args, action, goes_with)))
        return rc;
    if (!is_list && !name)
        return tl__fail(TL_E_INVALID, "a stream, or a category such as order-*",
                        "snapshots delete needs STREAM");
    if ((rc = tl__db_open(args, &db)))
        return rc;
    if (is_list)
        return tl__rows_print(
            args, &db, TL__ROWS_TABLE,
            "SELECT s.stream, s.schema_version, s.version, pg_column_size(s.state) AS bytes, "
            "s.created_at FROM @schema@.snapshots s "
            "WHERE s.topic_id = @schema@.topic_id_of(coalesce($1, 'store')) AND ($2::text IS NULL "
            "OR s.stream = $2 OR "
            "@schema@.category(s.stream) = CASE WHEN right($2, 2) = '-*' THEN left($2, -2) ELSE $2 "
            "END) ORDER BY s.stream, s.schema_version LIMIT coalesce($3::bigint, 100)",
            3, (const char *const[]){topic, name, limit});
    return tl__rows_print(args, &db, TL__ROWS_ONE,
                          "SELECT @schema@.snapshot_delete($1, $2::integer, coalesce($3, 'store')) "
                          "AS deleted",
                          3,
                          (const char *const[]){name, tl__args_text(args, "below-schema"), topic});
}

static const struct tl__option snapshots_table[] = {
    {"topic", 't', "TOPIC", "topic with streams (store)"},
    {"limit", 'n', "N", "list: at most so many (100)"},
    {"below-schema", 0, "N", "delete: only those of a schema version below this"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_snapshots = {
    .name = "snapshots",
    .operands = "[list|delete] [STREAM]",
    .summary = "list or delete snapshots of streams",
    .details =
        "STREAM is a stream, or a category such as order-*. A snapshot only spares a load the "
        "events before it: without one, all are read.",
    .examples = "  trunkline snapshots list order-*\n"
                "  trunkline snapshots delete 'order-*' --below-schema 2",
    .options = snapshots_table,
    .run = run_snapshots,
};
