/*
 * cmd_topics.c: trunkline topics: list, show, create.
 */
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"
#include "rows.h"

static int create(const struct tl__args *args, struct tl__db *db, const char *name)
{
    uint64_t max_bytes = tl__args_count(args, "max-event-bytes", 0);
    tl_topic_options options = {
        .size = sizeof options,
        .durability = tl__args_text(args, "durability"),
        .rotation = tl__args_text(args, "rotation"),
        .retention_us = tl__args_duration_us(args, "retention", 0),
        .max_event_bytes = (uint32_t)max_bytes,
        .streams = tl__args_has(args, "streams"),
    };
    int rc;

    if (max_bytes > INT32_MAX)
        return tl__fail(TL_E_INVALID, NULL, "--max-event-bytes is at most %d", INT32_MAX);
    if ((rc = tl__db_open(args, db)))
        return rc;
    tl_status status = tl_topic_create(db->client, name, &options);
    if (status != TL_OK)
        return tl__fail_client(status, db->client);
    if (tl__args_has(args, "json"))
        return tl__rows_print(args, db, TL__ROWS_ONE,
                              "SELECT * FROM @schema@.topic_status WHERE topic = $1", 1, &name);
    printf("created %s\n", name);
    return 0;
}

static int run(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0), *name = tl__args_operand(args, 1);
    bool is_list = !action || strcmp(action, "list") == 0;
    bool is_create = !is_list && strcmp(action, "create") == 0;

    if (!is_list && !name)
        return tl__fail(TL_E_INVALID, NULL, "topics %s needs NAME", action);
    if (is_list && name)
        return tl__fail(TL_E_INVALID, NULL, "unexpected argument \"%s\"", name);
    for (int i = 0; !is_create && i < args->value_count; i++)
        if (args->values[i].option >= args->command->options &&
            tl__choice_has("durability|rotation|retention|max-event-bytes|streams",
                           args->values[i].option->name))
            return tl__fail(TL_E_INVALID, NULL, "--%s goes with topics create",
                            args->values[i].option->name);
    if (is_create)
        return create(args, &db, name);
    int rc = tl__db_open(args, &db);
    if (rc)
        return rc;
    if (is_list)
        return tl__rows_print(args, &db, TL__ROWS_TABLE,
                              "SELECT * FROM @schema@.topic_status ORDER BY topic", 0, NULL);
    return tl__rows_print(args, &db, TL__ROWS_ONE,
                          "SELECT * FROM @schema@.topic_status WHERE topic = $1", 1, &name);
}

static const struct tl__option options[] = {
    {"durability", 0, "logged|unlogged",
     "unlogged is faster and empty after a crash of the server (logged)"},
    {"rotation", 0, "none|hour|day|month", "how often a new leaf is begun (none)"},
    {"retention", 0, "DURATION", "how long events are kept (for ever)"},
    {"max-event-bytes", 0, "N", "largest data of an event (1048576)"},
    {"streams", 0, NULL, "events can be appended to streams in it; ids are remembered for ever"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_topics = {
    .name = "topics",
    .operands = "[list|show|create] [NAME]",
    .summary = "list, show or create topics",
    .details = "A topic is a named log with its own positions. The options go with create.",
    .examples = "  trunkline topics\n"
                "  trunkline topics create audit --rotation month --retention 365d\n"
                "  trunkline topics create ledger --streams",
    .options = options,
    .run = run,
};
