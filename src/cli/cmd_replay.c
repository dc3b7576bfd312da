/*
 * cmd_replay.c: trunkline replay: hand events out once more, beside the live ones.
 */
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"
#include "rows.h"
#include "start.h"

static int list(const struct tl__args *args, struct tl__db *db)
{
    return tl__rows_print(args, db, TL__ROWS_TABLE,
                          "SELECT p.replay_id, s.name AS subscription, count(*) AS slots, "
                          "min(p.cursor) AS cursor, max(p.upto) AS upto, sum(p.rate) AS rate, "
                          "min(p.started_by) AS started_by, min(p.started_at) AS started_at "
                          "FROM @schema@.replays p JOIN @schema@.subscriptions s "
                          "USING (subscription_id) GROUP BY p.replay_id, s.name ORDER BY 1",
                          0, NULL);
}

static int start(const struct tl__args *args, struct tl__db *db, const char *name)
{
    tl_replay_options options = {
        .size = sizeof options,
        .rate = tl__args_rate(args, "rate"),
        .dry_run = tl__args_has(args, "dry-run"),
    };
    int64_t replay = 0, events = 0;
    int rc;

    if ((rc = tl__parse_start("--from", tl__args_text(args, "from"), &options.start,
                              &options.start_value)) ||
        (rc = tl__parse_start("--to", tl__args_text(args, "to"), &options.end, &options.end_value)))
        return rc;
    tl_status status = tl_replay(db->client, name, &options, &replay, &events);
    if (status < 0)
        return tl__fail_client(status, db->client);
    if (tl__args_has(args, "json") && replay)
        printf("{\"replay_id\":%lld,\"events\":%lld}\n", (long long)replay, (long long)events);
    else if (tl__args_has(args, "json"))
        printf("{\"replay_id\":null,\"events\":%lld}\n", (long long)events);
    else if (options.dry_run)
        printf("would replay %lld events to %s\n", (long long)events, name);
    else if (status == TL_NOTHING)
        tl__note("nothing to replay: no event that %s has had is in that range", name);
    else
        printf("replay %lld: %lld events to %s\n", (long long)replay, (long long)events, name);
    return 0;
}

static int cancel(const struct tl__args *args, struct tl__db *db, const char *text)
{
    uint64_t replay;

    if (!tl__parse_count(text, &replay))
        return tl__fail(TL_E_INVALID, NULL,
                        "replay cancel needs the number of a replay, not \"%s\"", text);
    tl_status status = tl_replay_cancel(db->client, (int64_t)replay);
    if (status < 0)
        return tl__fail_client(status, db->client);
    if (!tl__args_has(args, "json"))
        printf("cancelled %s\n", text);
    return 0;
}

static int run(struct tl__args *args)
{
    static const struct tl__goes_with goes_with[] = {
        {"from", "start"}, {"to", "start"}, {"rate", "start"}, {"dry-run", "start"}, {NULL, NULL}};
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0), *name = tl__args_operand(args, 1);
    int rc;

    action = action ? action : "list";
    bool is_list = strcmp(action, "list") == 0, is_start = strcmp(action, "start") == 0;
    if ((rc = tl__args_check_action(args, action, goes_with)))
        return rc;
    if (is_list && name)
        return tl__fail(TL_E_INVALID, NULL, "unexpected argument \"%s\"", name);
    if (!is_list && !name)
        return tl__fail(TL_E_INVALID, NULL, "replay %s needs %s", action,
                        is_start ? "SUBSCRIPTION" : "the number of a replay");
    if (is_start && !tl__args_has(args, "from"))
        return tl__fail(TL_E_INVALID, "a position, a time (UTC) or beginning",
                        "replay start needs --from");
    if ((rc = tl__db_open(args, &db)))
        return rc;
    return is_list ? list(args, &db) : is_start ? start(args, &db, name) : cancel(args, &db, name);
}

static const struct tl__option options[] = {
    {"from", 0, "beginning|POSITION", "events after this position, or from this time on (UTC)"},
    {"to", 0, "end|POSITION", "up to this position, or before this time (end)"},
    {"rate", 0, "RATE", "events a second"},
    {"dry-run", 0, NULL, "only count the events"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_replay = {
    .name = "replay",
    .operands = "[list|start|cancel] [SUBSCRIPTION]",
    .summary = "hand events out to a subscription once more",
    .details = "The live events go on meanwhile. What the subscription has not got to yet comes "
               "anyway and is not part of a replay. cancel takes the number of a replay.",
    .examples =
        "  trunkline replay start billing/mail --from 2026-11-20 --to 2026-11-21 --rate 50\n"
        "  trunkline replay\n"
        "  trunkline replay cancel 7",
    .options = options,
    .run = run,
};
