/*
 * fault_consumer.c: consumers that are killed, stopped and cut off while they work, and keep a journal.
 *
 *   fault_consumer worker SEED JOURNAL   a worker with handlers that fail, hang, skip and die at random; a
 *                                        line for each start and end of a handler
 *   fault_consumer live DIRECTORY        live subscriptions; each appends what it gets to a file of its own
 *                                        and goes on after the last line of it
 *
 * Database: TRUNKLINE_DB. SIGTERM: a clean end.
 */
#include "fault_handlers.h"

#include <fcntl.h>
#include <string.h>

static const tl_client_options client_options = {.size = sizeof client_options,
                                                 .timeout_us = 10000000,
                                                 .reconnect_cap_us = 500000,
                                                 .poll_interval_us = 500000};

/* ------------------------------------------------------------------------------------- worker -- */

static void stop_worker(int signal_number)
{
    (void)signal_number;
    is_ending = 1;
    if (worker != NULL)
        tl_worker_stop(worker);
}

static tl_verdict choose(const tl_delivery *d)
{
    unsigned n = below(100);

    (void)d;
    return n < 90 ? TL_DONE : n < 97 ? TL_RETRY : n < 98 ? TL_FAIL : TL_SKIP;
}

/* A projection: each stream and its version. A row that does not fit the event is marked. */
static tl_verdict on_order(tl_delivery *d, void *userdata)
{
    const tl_event *e = tl_delivery_event(d);
    char version[24];
    const char *values[] = {tl_event_stream(e), version};

    (void)userdata;
    note('S', d, -1);
    (void)snprintf(version, sizeof version, "%lld", (long long)tl_event_version(e));
    if (tl_tx_exec(tl_delivery_tx(d),
                   "INSERT INTO fault_projection AS p (stream, version, wrong)"
                   " VALUES ($1, $2::bigint, ($2::bigint <> 1)::integer)"
                   " ON CONFLICT (stream) DO UPDATE SET version = excluded.version,"
                   " wrong = p.wrong + (p.version + 1 <> excluded.version)::integer",
                   2, values, NULL) != TL_OK)
        return ends(d, TL_RETRY);
    return ends(d, TL_DONE);
}

static tl_router *routes(void)
{
    tl_router *r = NULL;

    if (tl_router_new(NULL, &r) != TL_OK)
        exit(1);
    add(r, "key", "fault.**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_KEY, .slots = 4, .max_attempts = 4});
    add(r, "total", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_TOTAL, .max_attempts = 3});
    add(r, "none", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_NONE, .max_attempts = 3});
    add(r, "exact", "fault.*", on_exact,
        (tl_subscribe_options){.ordering = TL_ORDERING_KEY, .slots = 2, .max_attempts = 4});
    add(r, "picky", "fault.some", on_event,
        (tl_subscribe_options){.tenant_id = "a", .filter = "{\"x\": 1}", .max_attempts = 5});
    add(r, "orders", "order.*", on_order,
        (tl_subscribe_options){
            .topic = "store", .ordering = TL_ORDERING_KEY, .max_attempts = 1000});
    return r;
}

static int work(const char *seed_text, const char *path)
{
    seed = (unsigned)strtoul(seed_text, NULL, 10);
    journal = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    habits = (struct habits){
        .name = "fault",
        .choose = choose,
        .dies = 2000,
        .holds = 4,
        .effect = "INSERT INTO fault_effects (handler, at, key) VALUES ('fault/exact', $1, $2)",
        .effect_params = 2,
        .most_claimed = 40,
        .stop_timeout_us = 60000000,
        .look_ms = 5};
    open_client(&client_options);
    if (client != NULL)
        make_worker(routes());
    if (is_ending && worker != NULL)
        tl_worker_stop(worker);
    return run_worker();
}

/* --------------------------------------------------------------------------------------- live -- */

enum kind { BUS, STORE, TYPE, CATEGORY, STREAM, KINDS };

struct subscriber {
    int file;
    bool by_version;
};

static void stop_live(int signal_number)
{
    (void)signal_number;
    is_ending = 1;
    if (client != NULL)
        tl_client_wake(client);
}

static int on_live(tl_live *live, const tl_event *e, void *userdata)
{
    struct subscriber *s = userdata;
    char line[LINE];

    (void)live;
    put(s->file, line,
        snprintf(line, sizeof line, "%lld\n",
                 (long long)(s->by_version ? tl_event_version(e) : tl_event_position(e))));
    return 0;
}

static void on_end(tl_live *live, int status, void *userdata)
{
    struct subscriber *s = userdata;
    char line[LINE];

    put(s->file, line,
        snprintf(line, sizeof line, "ended %d %.100s\n", status,
                 tl_error_message(tl_live_error(live))));
}

/* Where it stood: its last line. */
static int64_t last_place(int file)
{
    char tail[LINE] = "";
    off_t size = lseek(file, 0, SEEK_END), from = size < LINE - 1 ? 0 : size - (LINE - 1);
    ssize_t length = pread(file, tail, sizeof tail - 1, from);

    if (length <= 1)
        return 0;
    tail[length - 1] = '\0';
    return strtoll(strrchr(tail, '\n') != NULL ? strrchr(tail, '\n') + 1 : tail, NULL, 10);
}

static tl_status subscribe_one(enum kind kind, struct subscriber *s, int64_t after)
{
    tl_live_options o = {.size = sizeof o, .after = after, .ended = on_end};
    tl_live *live;

    switch (kind) {
    case BUS:
        o.topic = "bus";
        return tl_subscribe_all(client, &o, on_live, s, &live);
    case TYPE:
        o.topic = "bus";
        o.tenant_id = "a";
        return tl_subscribe_type(client, "fault.some", &o, on_live, s, &live);
    case CATEGORY:
        return tl_subscribe_category(client, "order", &o, on_live, s, &live);
    case STREAM:
        return tl_subscribe_stream(client, "order-1", &o, on_live, s, &live);
    default:
        return tl_subscribe_all(client, &o, on_live, s, &live);
    }
}

static int live(const char *directory)
{
    static const char *const names[KINDS] = {"bus", "store", "type", "category", "stream"};
    struct subscriber subscribers[KINDS];
    tl_status status = TL_OK;

    open_client(&client_options);
    for (int i = 0; i < KINDS && client != NULL && !is_ending; i++) {
        char path[LINE];

        (void)snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        subscribers[i] = (struct subscriber){.by_version = i == STREAM};
        subscribers[i].file = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        while ((status = subscribe_one((enum kind)i, &subscribers[i],
                                       last_place(subscribers[i].file))) != TL_OK &&
               !is_ending) {
            const tl_error *e = tl_client_error(client);

            if (status != TL_E_CONNECTION && !tl_error_is_retriable(e)) {
                (void)fprintf(stderr, "%s: %s\n", names[i], tl_error_message(e));
                return 1;
            }
            nap();
        }
    }
    while (client != NULL && !is_ending) {
        status = tl_client_run(client, UINT64_MAX);
        if (status != TL_E_CANCELLED && !is_ending) {
            (void)fprintf(stderr, "live: %s\n", tl_error_message(tl_client_error(client)));
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    bool is_worker = argc == 4 && strcmp(argv[1], "worker") == 0;
    struct sigaction term = {.sa_handler = is_worker ? stop_worker : stop_live};
    int status;

    if (!is_worker && (argc != 3 || strcmp(argv[1], "live") != 0))
        return 2;
    sigaction(SIGTERM, &term, NULL);
    status = is_worker ? work(argv[2], argv[3]) : live(argv[2]);
    tl_client_close(client);
    return status;
}
