/*
 * fault_deliver.c: a worker whose handlers fail, hang, skip and die at random. It writes down each
 * start and each end of a handler; history.t holds that against what was promised.
 *
 *   fault_deliver SEED HISTORY wild|calm     database: TRUNKLINE_DB; SIGTERM drains; calm: all is done
 */
#include "fault_handlers.h"

#include <fcntl.h>
#include <string.h>

static bool is_wild;

/* What is held goes on at random while it drains. */
static void on_term(int signal_number)
{
    (void)signal_number;
    tl_worker_stop(worker);
}

/* Seldom a retry in hist/one: while one is due nothing is claimed ahead. */
static tl_verdict choose(const tl_delivery *d)
{
    unsigned n = below(100);

    if (!is_wild || n < 75)
        return TL_DONE;
    if (strcmp(tl_delivery_subscription(d), "hist/one") == 0)
        return n < 98 ? TL_DONE : TL_RETRY;
    return n < 94 ? TL_RETRY : n < 97 ? TL_FAIL : TL_SKIP;
}

static tl_router *routes(void)
{
    tl_router *r = NULL;

    if (tl_router_new(NULL, &r) != TL_OK)
        exit(1);
    add(r, "key", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_KEY, .slots = 4, .max_attempts = 4});
    add(r, "one", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_KEY, .max_attempts = 4});
    add(r, "total", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_TOTAL, .max_attempts = 3});
    add(r, "none", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_NONE, .max_attempts = 3});
    add(r, "exact", "**", on_exact,
        (tl_subscribe_options){.ordering = TL_ORDERING_KEY, .max_attempts = 4});
    add(r, "picky", "hist.some", on_event,
        (tl_subscribe_options){.tenant_id = "a", .filter = "{\"x\": 1}", .max_attempts = 5});
    return r;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_term};
    int code;

    if (argc != 4)
        return 2;
    seed = (unsigned)strtoul(argv[1], NULL, 10);
    journal = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    is_wild = strcmp(argv[3], "wild") == 0;
    habits = (struct habits){.name = "hist",
                             .choose = choose,
                             .dies = is_wild ? 300 : 0,
                             .holds = 3,
                             .effect = "INSERT INTO fault_effects VALUES ($1)",
                             .effect_params = 1,
                             .most_claimed = 30,
                             .look_ms = 2};
    open_client(NULL);
    make_worker(routes());
    sigaction(SIGTERM, &action, NULL);
    code = run_worker();
    tl_client_close(client);
    return code;
}
