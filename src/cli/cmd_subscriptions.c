/*
 * cmd_subscriptions.c: trunkline subscriptions and unsubscribe: look at subscriptions and operate
 * them.
 */
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"
#include "rows.h"
#include "start.h"

/* --------------------------------------------------------------------------------- unsubscribe -- */

/* On a terminal: type the name again. */
static bool is_confirmed(const char *name)
{
    char line[TL_MAX_NAME_BYTES + 2];

    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return false;
    fprintf(stderr, "It has events that are not settled; they will not be delivered.\n"
                    "Type the name of the subscription to remove it: ");
    fflush(stderr);
    if (!fgets(line, sizeof line, stdin))
        return false;
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, name) == 0;
}

static int remove_one(const struct tl__args *args, struct tl__db *db, const char *name)
{
    tl_status status = tl__args_has(args, "yes") ? tl_unsubscribe_force(db->client, name)
                                                 : tl_unsubscribe(db->client, name);

    if (status == TL_E_CONFLICT) {
        if (!is_confirmed(name)) {
            const tl_error *e = tl_client_error(db->client);
            tl__error(tl_error_message(e), tl_error_detail(e),
                      "drain it first, or remove it with --yes and they are not delivered");
            return tl_status_exit_code(status);
        }
        status = tl_unsubscribe_force(db->client, name);
    }
    if (status != TL_OK)
        return tl__fail_client(status, db->client);
    if (!tl__args_has(args, "json"))
        printf("unsubscribed %s\n", name);
    return 0;
}

static int run_unsubscribe(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    int rc = tl__db_open(args, &db);

    return rc ? rc : remove_one(args, &db, tl__args_operand(args, 0));
}

static const struct tl__option unsubscribe_table[] = {
    {"yes", 'y', NULL, "also with events that are not settled: they are not delivered"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_unsubscribe = {
    .name = "unsubscribe",
    .operands = "NAME",
    .summary = "remove a subscription with its place in the log",
    .details = "Its dead letters stay. While it has events that are not settled it asks on a "
               "terminal, and elsewhere needs --yes.",
    .options = unsubscribe_table,
    .run = run_unsubscribe,
};

/* -------------------------------------------------------------------------------- list and show -- */

#define STATE                                                                                      \
    "CASE WHEN NOT s.active THEN 'paused' WHEN s.drain_at IS NOT NULL THEN 'draining' "            \
    "WHEN s.resize_at IS NOT NULL THEN 'resizing' ELSE 'active' END"
/* Custom headers may hold credentials. */
#define OPTIONS                                                                                    \
    "CASE WHEN jsonb_typeof(s.target_options -> 'headers') = 'object' THEN "                       \
    "jsonb_set(s.target_options, '{headers}', (SELECT coalesce(jsonb_object_agg(h.key, '****'), "  \
    "'{}') FROM jsonb_each(s.target_options -> 'headers') h)) ELSE s.target_options END"
#define OF_NAME " = (SELECT s.subscription_id FROM @schema@.subscriptions s WHERE s.name = $1)"
#define LEASES                                                                                     \
    "SELECT l.token, l.owner, l.slot, coalesce(l.events::text, '?') AS events, l.retries, "        \
    "l.attempt, CASE WHEN l.held THEN 'until ' || date_trunc('second', l.until)::text "            \
    "ELSE 'handed back' END AS held FROM @schema@.leases l WHERE l.subscription_id" OF_NAME        \
    " ORDER BY l.after, l.token LIMIT 20"
#define RETRIES                                                                                    \
    "SELECT r.\"position\", r.attempt, r.next_attempt_at, r.error_message FROM @schema@.retries "  \
    "r WHERE r.token IS NULL AND r.next_attempt_at < 'infinity' AND r.subscription_id" OF_NAME     \
    " ORDER BY r.next_attempt_at LIMIT 20"
#define BLOCKED                                                                                    \
    "SELECT r.key, min(r.\"position\") AS waits_for, count(*) - 1 AS waiting FROM "                \
    "@schema@.retries r WHERE r.key IS NOT NULL AND r.subscription_id" OF_NAME                     \
    " GROUP BY r.key ORDER BY 3 DESC, 2 LIMIT 20"
#define SLOTS                                                                                      \
    "SELECT c.slot, c.cursor, c.epoch, c.last_triggered_at FROM @schema@.cursors c WHERE "         \
    "c.subscription_id" OF_NAME " ORDER BY c.slot"
#define REPLAYS                                                                                    \
    "SELECT p.replay_id, p.slot, p.cursor, p.upto, p.rate, p.started_by FROM @schema@.replays p "  \
    "WHERE p.subscription_id" OF_NAME " ORDER BY p.replay_id, p.slot LIMIT 20"
#define DEAD                                                                                       \
    "SELECT d.reason, count(*) AS dead, max(d.dead_at) AS newest FROM @schema@.dead_letters d "    \
    "WHERE d.state = 'dead' AND d.subscription_id" OF_NAME " GROUP BY d.reason ORDER BY d.reason"

#define MASKED                                                                                     \
    "'target', regexp_replace(s.target, '://[^/?#]*@', '://****@'), 'target_options', " OPTIONS    \
    ", 'state', " STATE
#define MEMBER(name, query)                                                                        \
    ", '" name "', (SELECT coalesce(jsonb_agg(to_jsonb(q)), '[]') FROM (" query ") q)"

#define FROM_BOTH                                                                                  \
    " FROM @schema@.subscriptions s JOIN @schema@.subscription_status v USING (subscription_id) "
#define LISTS                                                                                      \
    MEMBER("slot_cursors", SLOTS)                                                                  \
    MEMBER("leases", LEASES)                                                                       \
    MEMBER("retries", RETRIES)                                                                     \
    MEMBER("blocked_keys", BLOCKED) MEMBER("replays", REPLAYS) MEMBER("dead_letters", DEAD)

/* What subscription_status and the table say of it, with the lists as members. */
static const char show_json_sql[] =
    "SELECT to_jsonb(s) - 'topic_id' || to_jsonb(v) || jsonb_build_object(" MASKED LISTS
    ")" FROM_BOTH "WHERE s.name = $1";

static const char show_sql[] =
    "SELECT s.name, v.topic, s.pattern, s.tenant_id AS tenant, s.filter, s.filter_path, "
    "s.target, " OPTIONS
    " AS target_options, s.timeout, s.mode, s.priority, s.ordering, s.slots, s.on_failure, "
    "s.max_attempts, CASE s.backoff WHEN 'fixed' THEN 'fixed ' || s.retry_delay WHEN 'schedule' "
    "THEN 'schedule ' || array_to_string(s.retry_schedule, ' ') ELSE 'exponential ' || "
    "s.retry_delay || ' to ' || s.retry_cap END AS backoff, s.max_in_flight, s.rate_limit, "
    "s.track, " STATE " AS state, s.paused_at, s.pause_reason, s.drain_at, s.resize_at, v.cursor, "
    "v.behind, v.leased, v.retrying, (SELECT count(*) FROM @schema@.retries r WHERE "
    "r.subscription_id = s.subscription_id AND r.next_attempt_at = 'infinity') AS waiting_for_key, "
    "(SELECT count(*) FROM @schema@.dead_letters d WHERE d.subscription_id = s.subscription_id AND "
    "d.state = 'dead') AS dead, v.last_triggered_at, s.registered_by, s.created_at, "
    "s.updated_at" FROM_BOTH "WHERE s.name = $1";

/* Rows of one JSON object each. */
static int print_objects(struct tl__db *db, const char *sql, const char *name)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *rows = tl__db_query(db, &rc, sql, name ? 1 : 0, &name);

    if (!rows)
        return rc;
    if (name && PQntuples(rows) == 0)
        return tl__fail(TL_E_NOTFOUND, NULL, "there is no \"%s\"", name);
    for (int i = 0; i < PQntuples(rows); i++)
        puts(PQgetvalue(rows, i, 0));
    return 0;
}

static int show(const struct tl__args *args, struct tl__db *db, const char *name)
{
    static const struct {
        const char *heading, *sql;
    } sections[] = {
        {"slots", SLOTS " OFFSET CASE (SELECT count(*) FROM @schema@.cursors c WHERE "
                        "c.subscription_id" OF_NAME ") WHEN 1 THEN 1 ELSE 0 END"},
        {"in flight", LEASES},
        {"waiting for another attempt", RETRIES},
        {"blocked keys", BLOCKED},
        {"replays", REPLAYS},
        {"dead letters", DEAD},
    };

    if (tl__args_has(args, "json"))
        return print_objects(db, show_json_sql, name);
    int rc = tl__rows_print(args, db, TL__ROWS_ONE, show_sql, 1, &name);
    for (size_t i = 0; !rc && i < sizeof sections / sizeof *sections; i++)
        rc = tl__rows_section(db, sections[i].heading, sections[i].sql, 1, &name);
    return rc;
}

static int list(const struct tl__args *args, struct tl__db *db)
{
    if (tl__args_has(args, "json"))
        return print_objects(
            db, "SELECT to_jsonb(v) || jsonb_build_object(" MASKED ")" FROM_BOTH "ORDER BY v.name",
            NULL);
    return tl__rows_print(args, db, TL__ROWS_TABLE,
                          "SELECT v.name, v.topic, v.pattern, v.target, " STATE
                          " AS state, v.behind, v.leased, v.retrying, v.dead" FROM_BOTH
                          "ORDER BY v.name",
                          0, NULL);
}

/* -------------------------------------------------------------------------------------- actions -- */

/* After a call: its error, or one line, or with --json what became of the subscription. */
static int report(const struct tl__args *args, struct tl__db *db, const char *name,
                  tl_status status, const char *words)
{
    if (status < 0)
        return tl__fail_client(status, db->client);
    if (tl__args_has(args, "json"))
        return print_objects(db, show_json_sql, name);
    printf("%s %s\n", words, name);
    return 0;
}

static int reset(const struct tl__args *args, struct tl__db *db, const char *name, const char *to)
{
    tl_start start;
    int64_t value = 0;
    tl_reset_result result;
    int rc = tl__parse_start("PLACE", to, &start, &value);

    if (rc)
        return rc;
    tl_status status = tl_subscription_reset(db->client, name, start, value, &result);
    if (status < 0)
        return tl__fail_client(status, db->client);
    if (tl__args_has(args, "json"))
        printf("{\"cursor\":%lld,\"leases\":%lld,\"retries\":%lld,\"replays\":%lld}\n",
               (long long)result.cursor, (long long)result.leases, (long long)result.retries,
               (long long)result.replays);
    else
        printf("%s goes on after %lld; dropped: leases %lld, retries %lld, replays %lld\n", name,
               (long long)result.cursor, (long long)result.leases, (long long)result.retries,
               (long long)result.replays);
    return 0;
}

static int set_slots(const struct tl__args *args, struct tl__db *db, const char *name,
                     const char *text)
{
    uint64_t slots;
    bool is_in_force = false;

    if (!tl__parse_count(text, &slots) || slots < 1 || slots > 256)
        return tl__fail(TL_E_INVALID, NULL, "the slots are a number from 1 to 256, not \"%s\"",
                        text);
    tl_status status = tl_subscription_set_slots(db->client, name, (uint32_t)slots, &is_in_force);
    return report(args, db, name, status,
                  is_in_force ? "slots changed:"
                              : "slots change when all leases in flight have ended:");
}

static int drain(const struct tl__args *args, struct tl__db *db, const char *name)
{
    char words[64];
    int64_t upto = 0;
    tl_status status = tl_subscription_drain(db->client, name, &upto);

    snprintf(words, sizeof words, "draining up to %lld:", (long long)upto);
    return report(args, db, name, status, words);
}

static int act(const struct tl__args *args, struct tl__db *db, const char *action, const char *name,
               const char *value)
{
    tl_status status;

    if (strcmp(action, "show") == 0)
        return show(args, db, name);
    if (strcmp(action, "delete") == 0)
        return remove_one(args, db, name);
    if (strcmp(action, "reset") == 0)
        return reset(args, db, name, value);
    if (strcmp(action, "set-slots") == 0)
        return set_slots(args, db, name, value);
    if (strcmp(action, "drain") == 0)
        return drain(args, db, name);
    if (strcmp(action, "pause") == 0) {
        status = tl_subscription_pause(db->client, name, tl__args_text(args, "reason"));
        return report(args, db, name, status, status == TL_OK ? "paused" : "was paused already:");
    }
    status = tl_subscription_resume(db->client, name, tl__args_has(args, "skip"));
    return report(args, db, name, status, status == TL_OK ? "resumed" : "was not paused:");
}

static int run_subscriptions(struct tl__args *args)
{
    static const struct tl__goes_with goes_with[] = {
        {"reason", "pause"}, {"skip", "resume"}, {"yes", "delete"}, {NULL, NULL}};
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0), *name = tl__args_operand(args, 1);
    const char *value = tl__args_operand(args, 2);
    int rc;

    action = action ? action : "list";
    bool is_list = strcmp(action, "list") == 0, is_reset = strcmp(action, "reset") == 0;
    bool has_value = is_reset || strcmp(action, "set-slots") == 0;
    if ((rc = tl__args_check_action(args, action, goes_with)))
        return rc;
    if (!is_list && !name)
        return tl__fail(TL_E_INVALID, NULL, "subscriptions %s needs NAME", action);
    if (has_value && !value)
        return tl__fail(TL_E_INVALID, NULL, "subscriptions %s needs NAME and %s", action,
                        is_reset ? "beginning, end, a position or a time" : "a number");
    if ((is_list && name) || (!has_value && value))
        return tl__fail(TL_E_INVALID, NULL, "unexpected argument \"%s\"", is_list ? name : value);
    if ((rc = tl__db_open(args, &db)))
        return rc;
    return is_list ? list(args, &db) : act(args, &db, action, name, value);
}

static const struct tl__option subscriptions_table[] = {
    {"reason", 0, "TEXT", "pause: why, for those who look at it later"},
    {"skip", 0, NULL, "resume: past the event that stopped it, which becomes a dead letter"},
    {"yes", 'y', NULL, "delete: also with events that are not settled"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_subscriptions = {
    .name = "subscriptions",
    .operands = "[list|show|pause|resume|reset|drain|delete|set-slots] [NAME] [VALUE]",
    .summary = "list subscriptions with their lag, show and operate one",
    .details =
        "behind is the number of positions between the subscription and the end of its topic, an "
        "upper limit of what is pending.\n\n"
        "pause: nothing more is handed out. resume: go on; the breaker of a webhook is closed. "
        "reset "
        "NAME PLACE: go on after a position, from a time (UTC), the beginning or the end; what is "
        "in flight or waits for a "
        "retry is dropped. drain: hand out what is in the log now, then pause. set-slots NAME N: "
        "how many shares of the keys are handled side by side.",
    .examples = "  trunkline subscriptions\n"
                "  trunkline subscriptions pause billing/mail --reason 'mail server moves'\n"
                "  trunkline subscriptions reset billing/mail 2026-11-20T21:40:00Z",
    .options = subscriptions_table,
    .run = run_subscriptions,
};
