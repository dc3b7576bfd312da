/*
 * modules.c: two modules in one worker. Notification hears an invoice twice, by two patterns, the
 * higher priority first. Finance makes the accounts of a new company in a transactional handler:
 * its rows and the settling of the event commit together, so they exist once, crash or not.
 */
#include "example.h"

#include <libpq-fe.h>

static tl_worker *worker;
static int expected = 3;
static char any_invoice[] = "any invoice";
static char new_invoice[] = "new invoice";

static void count_down(void)
{
    if (--expected == 0)
        tl_worker_stop(worker);
}

static tl_verdict on_event(tl_delivery *d, void *userdata)
{
    printf("%s: %s\n", (const char *)userdata, tl_event_type(tl_delivery_event(d)));
    count_down();
    return TL_DONE;
}

static tl_verdict on_company(tl_delivery *d, void *userdata)
{
    const char *values[] = {tl_event_key(tl_delivery_event(d))};
    tl_tx *tx = tl_delivery_tx(d);

    (void)userdata;
    if (tl_tx_exec(tx,
                   "INSERT INTO example_accounts (company, name) SELECT $1, "
                   "unnest('{cash,debts}'::text[])",
                   1, values, NULL) != TL_OK) {
        tl_delivery_set_error(d, tl_error_message(tl_tx_error(tx)));
        return TL_RETRY;
    }
    /* a commit here would break the promise, so it is refused */
    if (tl_tx_exec(tx, "COMMIT", 0, NULL, NULL) == TL_E_INVALID)
        printf("finance: accounts of %s\n", values[0]);
    count_down();
    return TL_DONE;
}

int main(void)
{
    tl_client *c = open_client();
    tl_router *root, *invoices, *companies;

    PQclear(PQexec(tl_client_pgconn(c), "SET client_min_messages = warning"));
    PQclear(PQexec(tl_client_pgconn(c),
                   "CREATE TABLE IF NOT EXISTS example_accounts (company text, name text, "
                   "PRIMARY KEY (company, name))"));

    need(tl_router_new("financial", &invoices), NULL);
    need(tl_router_on(
             invoices, "invoice.*", on_event, any_invoice,
             TL_ROUTE_OPTIONS(.name = "any",
                              .subscribe = {.size = sizeof(tl_subscribe_options), .priority = 5})),
         NULL);
    need(tl_router_on(
             invoices, "invoice.created", on_event, new_invoice,
             TL_ROUTE_OPTIONS(.name = "new",
                              .subscribe = {.size = sizeof(tl_subscribe_options), .priority = 8})),
         NULL);
    need(tl_router_new("core.company", &companies), NULL);
    need(tl_router_on(companies, "created", on_company, NULL,
                      TL_ROUTE_OPTIONS(.name = "accounts", .transactional = true)),
         NULL);
    need(tl_router_new(NULL, &root), NULL);
    need(tl_router_include(root, invoices, NULL), NULL);
    need(tl_router_include(root, companies, NULL), NULL);
    need(tl_worker_new(c, "modules", root, NULL, &worker), tl_client_error(c));

    need(tl_publish(c, NULL, TL_NEW_EVENT(.type = "financial.invoice.created"), NULL),
         tl_client_error(c));
    need(tl_publish(c, NULL, TL_NEW_EVENT(.type = "core.company.created", .key = "acme"), NULL),
         tl_client_error(c));
    need(tl_worker_run(worker), tl_worker_error(worker));

    tl_worker_free(worker);
    tl_router_free(root);
    tl_router_free(companies);
    tl_router_free(invoices);
    tl_client_close(c);
    return 0;
}
