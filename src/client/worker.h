/*
 * worker.h: the parts of a worker that its files share. Not API; only worker*.c, delivery.c, tx.c
 * and waiter.c.
 *
 *   worker.c           the public calls: make, process, stop, drain
 *   worker_lease.c     claims become leases; acks, extensions, releases and their answers
 *   worker_dispatch.c  which delivery starts next; running handlers; fairness
 *   delivery.c         what a handler sees and says
 *   tx.c               the transaction of a transactional handler
 */
#ifndef TL_WORKER_H
#define TL_WORKER_H

#include "bell.h"
#include "internal.h"
#include "schedule.h"

struct tl__lease;

struct tl_delivery {
    struct tl__lease *lease;
    uint32_t index; /* within the lease */
    uint32_t attempt;
    tl_verdict verdict;
    bool is_pending;  /* the handler returned TL_PENDING */
    bool is_complete; /* tl_delivery_complete was called */
    struct tl_delivery *next_complete;
    char *error; /* owned */
    uint64_t retry_after_us, retry_wish_us, retry_floor_us;
    struct tl_event event;
    char id[TL_UUID_TEXT_SIZE + 24]; /* "" until asked for */
};

/* The result of one claim, which the leases in it share. */
struct tl__claimed {
    PGresult *res;
    uint32_t refs;
};

enum tl__lease_op { TL__LEASE_IDLE, TL__LEASE_ACKING, TL__LEASE_RELEASING };

struct tl__lease {
    struct tl__lease *next; /* of the route, oldest first */
    struct tl__route *route;
    struct tl__claimed *claimed;
    int first_row;
    uint8_t token[16];
    struct tl__schedule schedule;
    enum tl__lease_op op; /* sent and not answered */
    uint32_t acking;      /* the ack on its way settles the indexes below it */
    uint32_t acked;       /* indexes below it are settled */
    uint32_t failures;    /* finished and not TL_DONE */
    bool is_ending;       /* the ack on its way ends it */
    bool is_lost;         /* another owner has it */
    bool is_broken;       /* cannot go on here: settle what is finished, release the rest */
    bool is_extending;
    bool is_repeat; /* an ack may have been executed without our knowing */
    bool is_bare;   /* repeat without failures: they are recorded */
    uint64_t extended_at_us;
    uint64_t settled_at_us;
    uint64_t retry_at_us; /* of a failed ack */
    uint64_t pause_us;
    struct tl_delivery deliveries[];
};

/* One subscription that is served. */
struct tl__route {
    struct tl__route *next; /* higher priority first, then by name */
    struct tl_worker *worker;
    char *name;
    char *topic;
    int64_t subscription_id;
    tl_ordering ordering;
    uint32_t priority;
    uint32_t concurrency; /* 0: the worker's */
    bool is_transactional;
    bool is_forgotten;
    bool may_have_more; /* there may be events that nobody announced */
    tl_handler_fn fn;
    void *userdata;
    struct tl__lease *leases;
    uint32_t running;   /* deliveries in flight */
    uint32_t unstarted; /* deliveries in memory */
    uint32_t turn;      /* handlers it may still start in this round */
};

/* tx.c. One at a time, on a connection of its own that lives as long as the worker. */
struct tl_tx {
    struct tl_client client; /* settings borrowed from the worker's client */
    bool is_busy;            /* a delivery is in it */
    uint64_t retry_at_us;    /* no connection: not before */
    uint64_t pause_us;
};

struct tl_worker {
    struct tl_client *client;
    struct tl_error error;
    struct tl__bell *bell;
    int wake_fd;
    int stop_flag; /* atomic: tl_worker_stop */

    uint32_t concurrency;
    uint32_t claim_batch;
    uint64_t lease_us;
    uint64_t stop_timeout_us;
    char owner[128];

    struct tl__route *routes;
    struct tl__route *at; /* whose turn it is */
    struct tl_delivery *completed;
    struct tl_tx tx;
    struct tl_worker_stats stats;
    uint32_t in_flight;
    bool has_work;  /* handlers could start at once */
    bool is_inside; /* in tl_worker_process */
    bool is_draining;
    bool is_leaving; /* drained: saying goodbye */
    bool is_done;
    tl_status end_status;
    uint64_t drain_until_us;

    struct tl__statement ack, release, extend;
    struct tl__buf ids, capacities, due_ids;
};

/* worker_lease.c */
extern const struct tl__bell_owner tl__worker_bell_owner;
tl_status tl__worker_statements_init(struct tl_worker *w);
/* When a lease next needs attention, UINT64_MAX for never. */
uint64_t tl__worker_leases_deadline_us(const struct tl_worker *w);
bool tl__worker_has_leases(const struct tl_worker *w);
void tl__lease_free(struct tl__lease *l);
/* Takes nothing more: the worker drains, or the subscription was forgotten. */
bool tl__lease_is_draining(const struct tl__lease *l);
/* The failures among the indexes [acked, upto) as JSON, "" for none. */
void tl__lease_failures(const struct tl__lease *l, uint32_t upto, struct tl__buf *out);
int64_t tl__lease_position(const struct tl__lease *l, uint32_t index);

/* worker_dispatch.c */
void tl__worker_dispatch(struct tl_worker *w, uint64_t now_us);
void tl__worker_finish_completed(struct tl_worker *w);

/* tx.c */
void tl__tx_init(struct tl_tx *tx, struct tl_client *client);
void tl__tx_done(struct tl_tx *tx);
/* BEGIN, connecting if needed. Blocks. */
tl_status tl__tx_begin(struct tl_tx *tx);
/* End the handler's transaction by its verdict, the ack with it. TL_OK: *verdict holds, is
 * committed (TL_DONE) or rolled back; TL_E_FENCED: rolled back, the lease is lost;
 * TL_E_CONNECTION: unknown, somebody must claim the event again. */
tl_status tl__tx_end(struct tl_tx *tx, struct tl_delivery *d, tl_verdict *verdict);

#endif
