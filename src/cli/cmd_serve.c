/*
 * cmd_serve.c: trunkline serve: options for the daemon of src/server, and the database under it.
 */
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"
#include "serve.h"

static void ensure_embedded(void *userdata)
{
    tl__embedded_error err = {0};

    if (tl__embedded_ensure(userdata, &err) != TL_OK)
        tl__note("%s", err.message);
}

/* Open the schema as serve needs it, then leave the connections to the daemon. */
static int prepare(const struct tl__args *args, struct tl__db *db)
{
    int rc;

    if (!tl__args_has(args, "migrate"))
        rc = tl__db_open(args, db);
    else if (!(rc = tl__db_open_unchecked(args, db)))
        rc = tl__db_migrate(db);
    if (rc == 0)
        db->client = tl_client_close(db->client);
    return rc;
}

static int run(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *format = tl__args_text(args, "log-format"),
               *allow = tl__args_text(args, "webhook-allow");
    uint64_t concurrency = tl__args_count(args, "concurrency", 8);

    if (concurrency < 1 || concurrency > 1000)
        return tl__fail(TL_E_INVALID, NULL, "--concurrency is a number from 1 to 1000");
    int rc = prepare(args, &db);
    if (rc)
        return rc;
    struct tl__serve_options options = {
        .conninfo = db.conninfo,
        .client = tl__db_client_options(args, &db),
        .shown_database = *db.shown ? db.shown : db.source_name,
        .concurrency = (uint32_t)concurrency,
        .webhook_timeout_us = tl__args_duration_us(args, "webhook-timeout", 30000000),
        .exec_timeout_us = tl__args_duration_us(args, "exec-timeout", 60000000),
        .lease_us = tl__args_duration_us(args, "lease", 30000000),
        .stop_timeout_us = tl__args_duration_us(args, "stop-timeout", 30000000),
        .maintain_interval_us = tl__args_duration_us(args, "maintain-interval", 30000000),
        .webhook_allow = allow ? allow : getenv("TRUNKLINE_WEBHOOK_ALLOW"),
        .webhook_ca_file = tl__args_text(args, "webhook-ca"),
        .is_https_only = tl__args_has(args, "https-only"),
        .allow_private = tl__args_has(args, "allow-private"),
        .allow_exec = db.embedded || tl__args_has(args, "allow-exec"),
        .is_log_json = format && strcmp(format, "json") == 0,
        .log_level = tl__is_quiet     ? TL_LOG_WARN
                     : tl__is_verbose ? TL_LOG_DEBUG
                                      : TL_LOG_INFO,
        .ensure_database = db.embedded ? ensure_embedded : NULL,
        .userdata = db.embedded,
    };
    return tl_status_exit_code(tl__serve_run(&options));
}

static const struct tl__option options_table[] = {
    {"migrate", 0, NULL, "bring the schema up to date first (always on an embedded database)"},
    {"concurrency", 0, "N", "deliveries in flight of each subscription (8)"},
    {"webhook-timeout", 0, "DURATION", "limit of a webhook request (30s)"},
    {"webhook-allow", 0, "CIDR|HOST,…",
     "private addresses and host names that webhooks may reach (TRUNKLINE_WEBHOOK_ALLOW)"},
    {"webhook-ca", 0, "FILE",
     "certificates (PEM) of authorities that webhooks may be signed by besides the system's"},
    {"https-only", 0, NULL, "serve no webhooks to http: addresses"},
    {"allow-private", 0, NULL, "webhooks may reach any address"},
    {"allow-exec", 0, NULL,
     "run exec: targets (always on an embedded database): whoever may subscribe in the database "
     "may then run commands here"},
    {"exec-timeout", 0, "DURATION", "limit of a command (60s)"},
    {"lease", 0, "DURATION",
     "of a claim, renewed while deliveries run: others take over this long after a crash (30s)"},
    {"stop-timeout", 0, "DURATION", "how long deliveries may finish after SIGTERM (30s)"},
    {"maintain-interval", 0, "DURATION", "between two runs of maintenance by the leader (30s)"},
    {"log-format", 0, "text|json", "key=value lines or JSON lines on stderr (text)"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_serve = {
    .name = "serve",
    .summary = "run the daemon: deliver events to targets, maintain the log",
    .details =
        "Serves every active subscription that has a target, and takes up new and changed ones "
        "within a second (at once on SIGHUP). Run as many as you like: one of them does the "
        "maintenance.\n\n"
        "Webhooks get the event as JSON in a POST with webhook-id and webhook-timestamp; only 2xx "
        "counts, redirects are not followed, private and loopback addresses are refused unless "
        "allowed.\n\n"
        "SQL functions take one jsonb and run in one transaction with the acknowledgement, with "
        "the rights of the role that subscribed: the daemon's role has to be a member of it, and "
        "should have no other rights, since a function can go back to them. They run one after the "
        "other, so a slow one holds up the others until its --timeout.\n\n"
        "Commands get the event on stdin and its parts in the environment: TRUNKLINE_EVENT_ID, "
        "_EVENT_TYPE, _POSITION, _KEY, _TENANT_ID, _SOURCE, _STREAM, _VERSION, _ATTEMPT, "
        "_DELIVERY_ID, _SUBSCRIPTION, and TRACEPARENT and TRACESTATE of its metadata. Exit 0 is "
        "done, 65 makes it a dead letter, 99 skips it, anything else (75 by name) is tried again, "
        "with the end of the output as the error. At the time-out the process group gets TERM, "
        "two seconds later KILL.\n\n"
        "SIGTERM and SIGINT let deliveries in flight finish; a second one ends at once.",
    .examples =
        "  trunkline serve\n"
        "  trunkline serve --db postgresql://app@db.example.com/app --migrate --log-format json",
    .options = options_table,
    .run = run,
};
