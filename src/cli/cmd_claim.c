/*
 * cmd_claim.c: trunkline claim and ack: consume a subscription from the shell.
 */
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"

static void batch_freep(tl_batch **b)
{
    *b = tl_batch_free(*b);
}

static int print_claim_json(const tl_batch *b)
{
    const char *token = b ? tl_batch_token(b) : NULL;

    if (!token) {
        puts("{\"token\":null,\"events\":[]}");
        return 0;
    }
    printf("{\"token\":\"%s\",\"events\":[", token);
    for (size_t i = 0; i < tl_batch_count(b); i++) {
        char *event = tl_event_to_json(tl_batch_event(b, i), NULL);
        if (!event)
            return tl__fail(TL_E_NOMEM, NULL, "out of memory");
        printf("%s{\"attempt\":%u,\"event\":%s}", i ? "," : "", tl_batch_attempt(b, i), event);
        tl_free(event);
    }
    puts("]}");
    return 0;
}

static int run_claim(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    TL_CLEANUP(batch_freep)
    tl_batch *batch = NULL;
    uint64_t max = tl__args_count(args, "max", 100);

    if (max < 1 || max > TL_MAX_CLAIM)
        return tl__fail(TL_E_INVALID, NULL, "--max is a number from 1 to %d", TL_MAX_CLAIM);
    int rc = tl__db_open(args, &db);
    if (rc)
        return rc;
    tl_status status =
        tl_claim(db.client, tl__args_operand(args, 0),
                 TL_CLAIM_OPTIONS(.max_events = (uint32_t)max,
                                  .lease_us = tl__args_duration_us(args, "lease", 0)),
                 &batch);
    if (status < 0)
        return tl__fail_client(status, db.client);
    if (tl__args_has(args, "json"))
        return print_claim_json(status == TL_OK ? batch : NULL);
    if (status == TL_NOTHING) {
        tl__note("nothing to claim");
        return 0;
    }
    printf("token %s\n", tl_batch_token(batch));
    for (size_t i = 0; i < tl_batch_count(batch); i++)
        tl__print_event(tl_batch_event(batch, i));
    return 0;
}

static const struct tl__option claim_table[] = {
    {"max", 'n', "N", "at most so many events (100)"},
    {"lease", 0, "DURATION", "how long they are yours (30s)"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_claim = {
    .name = "claim",
    .operands = "SUBSCRIPTION",
    .summary = "take the next events of a subscription under a lease",
    .details = "Prints the token of the lease and the events. Settle them with `trunkline ack "
               "TOKEN` before the lease ends, or they are handed out again.",
    .examples = "  claimed=$(trunkline claim backup --json)\n"
                "  trunkline ack \"$(jq -r .token <<<\"$claimed\")\"",
    .options = claim_table,
    .run = run_claim,
};

/* ---------------------------------------------------------------------------------------- ack -- */

static int run_ack(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *token = tl__args_operand(args, 0);
    bool is_fail = tl__args_has(args, "fail"), is_release = tl__args_has(args, "release");
    bool is_extend = tl__args_has(args, "extend"), is_upto = tl__args_has(args, "upto");
    int64_t settled = 0;
    tl_status status;

    if (is_fail + is_release + is_extend + is_upto > 1)
        return tl__fail(TL_E_INVALID, NULL,
                        "--upto, --fail, --release and --extend exclude each other");
    int rc = tl__db_open(args, &db);
    if (rc)
        return rc;
    if (is_fail)
        status = tl_nack(db.client, token, (int64_t)tl__args_count(args, "fail", 0),
                         tl__args_text(args, "error"), &settled);
    else if (is_release)
        status = tl_release(db.client, token);
    else if (is_extend)
        status = tl_extend(db.client, token, tl__args_duration_us(args, "extend", 0));
    else
        status = tl_ack(db.client, token, (int64_t)tl__args_count(args, "upto", 0), &settled);
    if (status < 0)
        return tl__fail_client(status, db.client);
    if (tl__args_has(args, "json"))
        printf("{\"settled\":%lld}\n", (long long)settled);
    else if (is_release || is_extend)
        puts(is_release ? "released" : "extended");
    else
        printf("settled %lld\n", (long long)settled);
    return 0;
}

static const struct tl__option ack_table[] = {
    {"upto", 0, "N", "settle only events up to this position"},
    {"fail", 0, "N", "the event of this position failed; events before it are done"},
    {"error", 0, "TEXT", "why, with --fail"},
    {"release", 0, NULL, "hand the rest back at once; costs no attempt"},
    {"extend", 0, "DURATION", "keep the lease for longer"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_ack = {
    .name = "ack",
    .operands = "TOKEN",
    .summary = "settle the events of a lease",
    .options = ack_table,
    .run = run_ack,
};
