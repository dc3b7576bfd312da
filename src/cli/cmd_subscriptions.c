/*
 * cmd_subscriptions.c: trunkline subscriptions and unsubscribe.
 */
#include <string.h>

#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "out.h"
#include "rows.h"

/* -------------------------------------------------------------------------------- unsubscribe -- */

static int run_unsubscribe(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    int rc = tl__db_open(args, &db);

    if (rc)
        return rc;
    tl_status status = tl_unsubscribe(db.client, tl__args_operand(args, 0));
    if (status != TL_OK)
        return tl__fail_client(status, db.client);
    if (!tl__args_has(args, "json"))
        printf("unsubscribed %s\n", tl__args_operand(args, 0));
    return 0;
}

const struct tl__command tl__cmd_unsubscribe = {
    .name = "unsubscribe",
    .operands = "NAME",
    .summary = "remove a subscription with its place in the log",
    .details = "Its dead letters stay.",
    .run = run_unsubscribe,
};

/* ------------------------------------------------------------------------------ subscriptions -- */

static int run_subscriptions(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    const char *action = tl__args_operand(args, 0), *name = tl__args_operand(args, 1);
    bool is_show = action && strcmp(action, "show") == 0;

    if (is_show && !name)
        return tl__fail(TL_E_INVALID, NULL, "subscriptions show needs NAME");
    if (!is_show && name)
        return tl__fail(TL_E_INVALID, NULL, "unexpected argument \"%s\"", name);
    int rc = tl__db_open(args, &db);
    if (rc)
        return rc;
    if (is_show)
        return tl__rows_print(args, &db, TL__ROWS_ONE,
                              "SELECT * FROM @schema@.subscription_status WHERE name = $1", 1,
                              &name);
    if (tl__args_has(args, "json"))
        return tl__rows_print(args, &db, TL__ROWS_TABLE,
                              "SELECT * FROM @schema@.subscription_status ORDER BY name", 0, NULL);
    return tl__rows_print(args, &db, TL__ROWS_TABLE,
                          "SELECT name, topic, pattern, target, active, behind, leased, "
                          "retrying, dead FROM @schema@.subscription_status ORDER BY name",
                          0, NULL);
}

const struct tl__command tl__cmd_subscriptions = {
    .name = "subscriptions",
    .operands = "[list|show] [NAME]",
    .summary = "list subscriptions with their lag, or show one",
    .details = "behind is the number of positions between the subscription and the end of its "
               "topic, an upper limit of what is pending.",
    .run = run_subscriptions,
};
