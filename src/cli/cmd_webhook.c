/*
 * cmd_webhook.c: trunkline webhook: keys, state, attempts, resend, recover; sign, verify and listen
 * are in webhook_message.c.
 */
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"
#include "rows.h"
#include "webhook_message.h"

/* Which options an action takes, and how many operands behind its name. */
static const struct action {
    const char *name;
    int fewest, most;
    const char *options;
} actions[] = {
    {"status", 0, 1, ""},
    {"secret", 2, 3, "scheme|grace"},
    {"attempts", 1, 1, "event|failed|limit"},
    {"resend", 2, 2, ""},
    {"recover", 1, 1, "since|until|limit|dry-run"},
    {"sign", 0, 0, "secret|id|timestamp"},
    {"verify", 0, 0, "secret|id|timestamp|signature|tolerance|any-time"},
    {"listen", 0, 0, "secret|tolerance|any-time|port|fail|status|count"},
};

static int check(const struct tl__args *args, const struct action *action)
{
    int n = args->operand_count - 1;

    if (n < action->fewest || n > action->most)
        return tl__fail(TL_E_INVALID, "see trunkline webhook --help", "webhook %s takes %s",
                        action->name, n < action->fewest ? "more arguments" : "fewer arguments");
    for (int i = 0; i < args->value_count; i++)
        for (const struct tl__option *o = args->command->options; o->name; o++)
            if (o == args->values[i].option && !tl__choice_has(action->options, o->name))
                return tl__fail(TL_E_INVALID, "see trunkline webhook --help",
                                "--%s does not go with webhook %s", o->name, action->name);
    return 0;
}

/* --------------------------------------------------------------------------------------- secret */

static int print_key(const struct tl__args *args, const char *name, const char *scheme,
                     const char *secret, const char *whpk)
{
    bool is_json = tl__args_has(args, "json");

    if (is_json)
        printf("{\"scheme\":\"%s\",\"%s\":\"%s\"}\n", scheme, whpk ? "public_key" : "secret",
               whpk ? whpk : secret);
    else
        printf("%s\n", whpk ? whpk : secret);
    if (!is_json && !whpk)
        tl__note("this is the only time that the secret of %s is shown; receivers verify with it",
                 name);
    return 0;
}

static int add_key(const struct tl__args *args, struct tl__db *db, const char *name,
                   bool is_rotation)
{
    const char *scheme = tl__args_text(args, "scheme");
    TL_CLEANUP(tl__freep)
    char *secret = NULL;
    TL_CLEANUP(tl__freep)
    char *whpk = NULL;
    char grace[32];
    int rc = 0;

    scheme = scheme ? scheme : "v1";
    snprintf(grace, sizeof grace, "%llu",
             (unsigned long long)tl__args_duration_us(args, "grace", 86400000000));
    if (!is_rotation && tl__args_has(args, "grace"))
        return tl__fail(TL_E_INVALID, NULL, "--grace goes with webhook secret rotate");
    if (strcmp(scheme, "v1a") == 0 && tl_webhook_key_new(TL_WEBHOOK_V1A, &secret, &whpk) != TL_OK)
        return tl__fail(TL_E_NOMEM, NULL, "cannot make a key");
    const char *const values[] = {name, scheme, secret, whpk, is_rotation ? grace : NULL};
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(
        db, &rc, "SELECT @schema@.webhook_secret_add($1, $2, $3, $4, $5::float8 * interval '1 us')",
        5, values);
    return r ? print_key(args, name, scheme, PQgetvalue(r, 0, 0), whpk) : rc;
}

static int revoke(const struct tl__args *args, struct tl__db *db, const char *name, const char *id)
{
    const char *const values[] = {name, id};
    uint64_t number;
    int rc = 0;

    if (!tl__parse_count(id, &number))
        return tl__fail(TL_E_INVALID, "see trunkline webhook secret list",
                        "the number of a secret is a whole number, not \"%.80s\"", id);
    TL_CLEANUP(tl__pgclearp)
    PGresult *r =
        tl__db_query(db, &rc, "SELECT @schema@.webhook_secret_revoke($1, $2::bigint)", 2, values);
    if (!r)
        return rc;
    const char *rest = PQgetvalue(r, 0, 0);
    if (tl__args_has(args, "json"))
        printf("{\"left\":%s}\n", rest);
    else
        printf("revoked %s, %s left\n", id, rest);
    if (strcmp(rest, "0") == 0)
        tl__note("requests to %s go out unsigned from now on", name);
    return 0;
}

static int run_secret(const struct tl__args *args, struct tl__db *db)
{
    const char *action = tl__args_operand(args, 1), *name = tl__args_operand(args, 2),
               *id = tl__args_operand(args, 3);
    bool is_create = strcmp(action, "create") == 0, is_revoke = strcmp(action, "revoke") == 0;

    if (!tl__choice_has("create|rotate|list|revoke", action))
        return tl__fail(TL_E_INVALID, "see trunkline webhook --help",
                        "\"%.80s\" is not one of create|rotate|list|revoke", action);
    if (is_revoke != (id != NULL))
        return tl__fail(TL_E_INVALID, "see trunkline webhook secret list", "%s",
                        is_revoke ? "webhook secret revoke needs NAME and the number of a secret"
                                  : "unexpected argument behind NAME");
    int rc = tl__db_open(args, db);
    if (rc)
        return rc;
    if (is_revoke)
        return revoke(args, db, name, id);
    if (is_create || strcmp(action, "rotate") == 0)
        return add_key(args, db, name, !is_create);
    return tl__rows_print(args, db, TL__ROWS_TABLE,
                          "SELECT secret_id, scheme, state, created_at, created_by, expires_at, "
                          "public_key FROM @schema@.webhook_secret_status WHERE subscription = $1 "
                          "ORDER BY secret_id",
                          1, &name);
}

/* ----------------------------------------------------------------------------- status, attempts */

static int run_status(const struct tl__args *args, struct tl__db *db)
{
    const char *name = tl__args_operand(args, 1);
    int rc = tl__db_open(args, db);

    if (rc)
        return rc;
    if (name)
        return tl__rows_print(args, db, TL__ROWS_ONE,
                              "SELECT * FROM @schema@.webhook_status WHERE name = $1", 1, &name);
    if (tl__args_has(args, "json"))
        return tl__rows_print(args, db, TL__ROWS_TABLE,
                              "SELECT * FROM @schema@.webhook_status ORDER BY name", 0, NULL);
    return tl__rows_print(args, db, TL__ROWS_TABLE,
                          "SELECT name, target, active, secrets, breaker, failures, failing_since, "
                          "last_error FROM @schema@.webhook_status ORDER BY name",
                          0, NULL);
}

static int run_attempts(const struct tl__args *args, struct tl__db *db)
{
    char limit[24];
    uint64_t most = tl__args_count(args, "limit", 100);
    const char *const values[] = {tl__args_operand(args, 1), tl__args_text(args, "event"),
                                  tl__args_has(args, "failed") ? "true" : "false", limit};
    static const char all[] =
        "SELECT * FROM @schema@.webhook_log($1, $2::uuid, $3::boolean, $4::bigint)";
    static const char few[] =
        "SELECT started_at, event_id, event_type, attempt, trigger, outcome, http_status, "
        "round(extract(epoch FROM duration) * 1000)::bigint AS ms, next_attempt_at, "
        "coalesce(error, '') AS error "
        "FROM @schema@.webhook_log($1, $2::uuid, $3::boolean, $4::bigint)";
    int rc = tl__db_open(args, db);

    snprintf(limit, sizeof limit, "%llu", (unsigned long long)most);
    if (rc)
        return rc;
    TL_CLEANUP(tl__pgclearp)
    PGresult *known =
        tl__db_query(db, &rc,
                     "SELECT FROM @schema@.subscriptions WHERE name = $1 "
                     "UNION ALL SELECT FROM @schema@.webhook_log($1, most => 1) LIMIT 1",
                     1, values);
    if (!known)
        return rc;
    if (PQntuples(known) == 0)
        return tl__fail(TL_E_NOTFOUND, NULL, "there is no \"%s\"", values[0]);
    return tl__rows_print(args, db, TL__ROWS_TABLE, tl__args_has(args, "json") ? all : few, 4,
                          values);
}

/* ------------------------------------------------------------------------------ resend, recover */

static int run_resend(const struct tl__args *args, struct tl__db *db)
{
    const char *const values[] = {tl__args_operand(args, 1), tl__args_operand(args, 2)};
    int rc = tl__db_open(args, db);

    if (rc)
        return rc;
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(db, &rc, "SELECT @schema@.webhook_resend($1, $2::uuid)", 2, values);
    if (!r)
        return rc;
    if (tl__args_has(args, "json"))
        printf("{\"resend_id\":%s}\n", PQgetvalue(r, 0, 0));
    else
        printf("asked for; see trunkline webhook attempts %s --event %s\n", values[0], values[1]);
    return 0;
}

/* A time, or a duration: so long ago. Gives microseconds ago, or the text for the server. */
static const char *moment(const struct tl__args *args, const char *option, char ago[32],
                          const char **ret_ago)
{
    const char *text = tl__args_text(args, option);
    uint64_t us;

    *ret_ago = NULL;
    if (!text || !tl__parse_duration_us(text, &us))
        return text;
    snprintf(ago, 32, "%llu", (unsigned long long)us);
    *ret_ago = ago;
    return NULL;
}

static int run_recover(const struct tl__args *args, struct tl__db *db)
{
    char since_text[32], until_text[32], limit[24];
    const char *since_ago, *until_ago;
    const char *since = moment(args, "since", since_text, &since_ago);
    const char *until = moment(args, "until", until_text, &until_ago);
    bool is_dry = tl__args_has(args, "dry-run");
    const char *const values[] = {
        tl__args_operand(args, 1), since, since_ago, until, until_ago, limit,
        is_dry ? "true" : "false"};
    int rc;

    snprintf(limit, sizeof limit, "%llu", (unsigned long long)tl__args_count(args, "limit", 10000));
    if (!since && !since_ago)
        return tl__fail(TL_E_INVALID, "a time (UTC) or a duration: --since 6h is six hours ago",
                        "recover needs --since");
    if ((rc = tl__db_open(args, db)))
        return rc;
    TL_CLEANUP(tl__pgclearp)
    PGresult *utc =
        tl__db_query(db, &rc, "SELECT pg_catalog.set_config('TimeZone', 'UTC', false)", 0, NULL);
    if (!utc)
        return rc;
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(
        db, &rc,
        "SELECT @schema@.webhook_recover($1, coalesce($2::timestamptz, clock_timestamp() - "
        "$3::float8 * interval '1 us'), coalesce($4::timestamptz, clock_timestamp() - "
        "$5::float8 * interval '1 us'), least($6::bigint, 2147483647)::integer, $7::boolean)",
        7, values);
    if (!r)
        return rc;
    if (tl__args_has(args, "json"))
        printf("{\"events\":%s}\n", PQgetvalue(r, 0, 0));
    else
        printf("%s event%s %s\n", PQgetvalue(r, 0, 0),
               strcmp(PQgetvalue(r, 0, 0), "1") == 0 ? "" : "s",
               is_dry ? "would be tried again" : "will be tried again");
    return 0;
}

/* -------------------------------------------------------------------------------------- command */

static int run(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *name = tl__args_operand(args, 0);
    const struct action *action = actions;

    while (strcmp(action->name, name) != 0) /* the parser has checked it */
        action++;
    int rc = check(args, action);
    if (rc)
        return rc;
    switch (action - actions) {
    case 0:
        return run_status(args, &db);
    case 1:
        return run_secret(args, &db);
    case 2:
        return run_attempts(args, &db);
    case 3:
        return run_resend(args, &db);
    case 4:
        return run_recover(args, &db);
    case 5:
        return tl__webhook_run_sign(args);
    case 6:
        return tl__webhook_run_verify(args);
    default:
        return tl__webhook_run_listen(args);
    }
}

static const struct tl__option options_table[] = {
    {"scheme", 0, "v1|v1a", "secret: shared secret (HMAC-SHA256), or Ed25519 key (v1)"},
    {"grace", 0, "DURATION", "secret rotate: how long the old one signs on (24h)"},
    {"event", 0, "ID", "attempts: of one event"},
    {"failed", 0, NULL, "attempts: only those that failed"},
    {"limit", 0, "N", "attempts: the last N (100); recover: at most N events (10000)"},
    {"since", 0, "TIME", "recover: from then on, at most 14 days ago; a duration is so long ago"},
    {"until", 0, "TIME", "recover: before then (now)"},
    {"dry-run", 0, NULL, "recover: only count"},
    {"secret", 0, "KEY",
     "sign, verify, listen: whsec_…, whsk_… or whpk_…, several times if need be "
     "(TRUNKLINE_WEBHOOK_SECRET, which no list of processes shows)"},
    {"id", 0, "ID", "sign, verify: webhook-id"},
    {"timestamp", 0, "N", "sign, verify: webhook-timestamp (sign: now)"},
    {"signature", 0, "TEXT", "verify: webhook-signature"},
    {"tolerance", 0, "DURATION", "verify, listen: how far the timestamp may be from now (5m)"},
    {"any-time", 0, NULL, "verify, listen: do not look at the timestamp"},
    {"port", 0, "N", "listen: on this port (a free one)"},
    {"fail", 0, "N", "listen: answer 500 to the first N requests of each webhook-id"},
    {"status", 0, "N", "listen: answer with this status (204)"},
    {"count", 0, "N", "listen: end after N requests"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_webhook = {
    .name = "webhook",
    .operands = "status|secret|attempts|resend|recover|sign|verify|listen [ACTION] [NAME] [ID]",
    .summary = "keys, state and attempts of webhooks; sign, verify and receive",
    .details =
        "status [NAME]: keys, breaker and failures of webhooks.\n"
        "secret create NAME: give a webhook a key and show it, this once. With --scheme v1a only "
        "its public key is shown, which is all that receivers need.\n"
        "secret rotate NAME: a new key; the old one signs on for --grace.\n"
        "secret list NAME, secret revoke NAME NUMBER: keys without the keys; end one at once.\n"
        "attempts NAME: requests of the last 30 days, latest first.\n"
        "resend NAME ID: send one event once more, never repeated by itself.\n"
        "recover NAME --since TIME: try again what failed and was never delivered.\n"
        "sign, verify: headers of a body on stdin (Standard Webhooks).\n"
        "listen: receive webhooks on 127.0.0.1, verify and print them, until SIGINT.\n\n"
        "Requests are signed as the Standard Webhooks specification says once a webhook has a key. "
        "Keys cannot be read by roles that only subscribe.",
    .examples = "  trunkline webhook secret create billing/invoices\n"
                "  trunkline webhook attempts billing/invoices --failed\n"
                "  trunkline webhook recover billing/invoices --since 6h\n"
                "  TRUNKLINE_WEBHOOK_SECRET=whsec_… trunkline webhook listen --port 9000",
    .options = options_table,
    .run = run,
};
