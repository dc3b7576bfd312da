/*
 * worker.h: the parts of a worker that its files share. Not API; only worker*.c, delivery.c, tx.c
 * and waiter.c.
 *
 *   worker.c           the public calls: make, process, stop, drain
 *   worker_route.c     the subscriptions served and their settings, which may change
 *   worker_claim.c     what to claim; claimed rows become leases
 *   worker_next.c      the one event that rang, claimed without a look
 *   worker_ahead.c     a second lease behind one that is still worked on
 *   worker_read.c      the events of leases that are ranges, read also ahead
 *   worker_lease.c     acks, extensions, releases and their answers
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
struct tl__reading;

/* So many positions at least are claimed as a range, without their events. */
#define TL__LEAST_RANGE 256
/* What was read ahead is used within this time, or read again: since then the events may have been
 * redacted, or have expired. */
#define TL__FRESH_US 1000000

/* Columns of a claimed row. */
enum {
    TL__COL_SUBSCRIPTION,
    TL__COL_TOKEN,
    TL__COL_ATTEMPT, /* 0: expired, not to be delivered */
    TL__COL_POSITION,
    TL__COL_ID,
    TL__COL_VERSION = TL__COL_POSITION + 5,
    TL__COL_MEMBERS = TL__COL_POSITION + TL__EVENT_COLUMNS,
};

/* While its handler has it, and longer if it failed: until its lease is settled. Then it serves
 * another event. */
struct tl_delivery {
    struct tl__lease *lease;
    struct tl_delivery *next; /* of those completed, failed or idle */
    struct tl_delivery *next_made;
    const struct tl_event *event;
    uint32_t index; /* within the lease */
    uint32_t attempt;
    tl_verdict verdict;
    bool is_expired;
    bool is_pending;  /* the handler returned TL_PENDING */
    bool is_complete; /* tl_delivery_complete was called */
    char *error;      /* owned */
    uint64_t retry_after_us, retry_wish_us, retry_floor_us;
    char id[TL_UUID_TEXT_SIZE + 24]; /* "" until asked for */
};

/* The result of one claim, which the leases in it share, or of the read of a range, and its events,
 * each decoded when it is first needed: a zero type says that it was not. */
struct tl__claimed {
    PGresult *res;
    uint32_t refs;
    int event_col;   /* the first of an event */
    int attempt_col; /* NULL there, or -1: 1 */
    struct tl_event events[];
};

/* Subscriptions that got their last leases from one read of the log. They claim together again, so
 * that it stays one read; see worker_claim.c. */
struct tl__cohort {
    uint32_t members;  /* routes */
    uint32_t ready;    /* of them, by the last count */
    uint64_t since_us; /* when the first became ready; 0: none is */
};

enum tl__lease_op { TL__LEASE_IDLE, TL__LEASE_ACKING, TL__LEASE_RELEASING };

struct tl__lease {
    struct tl__lease *next; /* of the route, oldest first */
    struct tl__route *route;
    struct tl__lease *before;    /* this one was claimed ahead: it is settled after that one */
    struct tl__lease *behind;    /* the other way round */
    struct tl__claimed *claimed; /* NULL: a range that was not read yet */
    struct tl__reading *reading; /* on its way */
    int64_t after, upto;         /* of a range */
    uint32_t expected;           /* events, until it was read */
    const uint32_t *rows;        /* of the result, by index; NULL: from first_row on */
    uint32_t first_row;
    uint32_t slot;
    uint8_t token[16];
    struct tl__schedule schedule;
    struct tl_delivery *failed; /* finished and not TL_DONE, those deferred not among them */
    enum tl__lease_op op;       /* sent and not answered */
    uint32_t acking;            /* the ack on its way settles the indexes below it */
    uint32_t acked;             /* indexes below it are settled */
    uint32_t failures;          /* finished and not TL_DONE, deferred ones too */
    bool is_ending;             /* the ack on its way ends it */
    bool is_lost;               /* another owner has it */
    bool is_broken;             /* cannot go on here: settle what is finished, release the rest */
    bool is_crashed;            /* broken by a handler that lost its connection: release as lost */
    bool is_extending;
    bool is_full;       /* there may be more behind it */
    bool is_asked;      /* for what is behind it */
    bool is_repeat;     /* an ack may have been executed without our knowing */
    bool is_bare;       /* repeat without failures: they are recorded */
    int64_t next_epoch; /* of its cursor; 0: it was not claimed by worker_next.c */
    uint64_t extended_at_us;
    uint64_t settled_at_us;
    uint64_t retry_at_us; /* of a failed ack */
    uint64_t pause_us;
};

/* One subscription that is served. */
struct tl__route {
    struct tl__route *next; /* higher priority first, then by name */
    struct tl_worker *worker;
    char *name;
    char *topic;
    int64_t subscription_id;
    tl_ordering ordering; /* these four as last read: see tl__routes_refresh() */
    tl_on_failure on_failure;
    uint32_t priority;
    uint32_t slots;
    uint32_t concurrency; /* 0: the worker's */
    bool is_transactional;
    bool is_forgotten;
    bool may_have_more; /* there may be events that nobody announced */
    bool is_ready;      /* to be claimed for in this write */
    bool is_asked;      /* a claim for it is on its way */
    bool is_ahead;      /* and of what is behind a lease */
    bool has_pending;   /* its handlers stay in flight */
    bool is_preparing;  /* on its way: what claims the next event */
    tl_handler_fn fn;
    void *userdata;
    struct tl__lease *leases;
    struct tl__cohort *cohort; /* NULL: alone */
    struct tl__statement read;
    struct tl__reading *prefetched;  /* of the range that may be claimed next */
    int64_t range_upto;              /* of the last range claimed; 0: none */
    int64_t range_horizon;           /* so far the log was complete then */
    uint64_t range_claimed_us;       /* when */
    bool can_prefetch;               /* no other worker got in between, and not done yet */
    bool prefetch_is_late;           /* handlers are slow: what is read ahead gets too old */
    struct tl__statement claim_next; /* see worker_next.c; of positions (next_after, next_upto] */
    int64_t next_after, next_upto;
    int64_t next_position; /* behind the last event claimed; 0: none was */
    int64_t next_epoch;    /* of its cursor then, with nothing else to be considered; 0: unknown */
    uint32_t next_misses;  /* in a row */
    uint64_t next_refused_us; /* when it was not prepared, or given up */
    uint32_t running;         /* deliveries in flight */
    uint32_t unstarted;       /* deliveries in memory */
    uint32_t turn;            /* handlers it may still start in this round */
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
    uint32_t claim_batch; /* most */
    uint32_t first_batch; /* to begin with */
    uint32_t batch;       /* now: grows while claims come back full, small and quickly */
    uint64_t lease_us;
    uint64_t stop_timeout_us;
    char owner[128];

    struct tl__route *routes;
    struct tl__route *at; /* whose turn it is */
    struct tl_delivery *completed;
    struct tl_delivery *idle; /* to be used again */
    struct tl_delivery *made; /* all there are */
    struct tl_tx tx;
    struct tl_worker_stats stats;
    uint32_t in_flight;
    bool has_work;     /* handlers could start at once */
    bool has_no_ahead; /* it was refused: not asked again */
    bool has_no_next;  /* the same of worker_next.c */
    /* of the last one that was sent: its subscription, the token, the epoch of what it claims */
    int64_t next_id;
    uint8_t next_token[16];
    int64_t next_epoch;
    bool has_next;  /* it was claimed: its handler comes before anything is asked */
    bool is_inside; /* in tl_worker_process */
    bool is_draining;
    bool is_leaving; /* drained: saying goodbye */
    bool is_done;
    tl_status end_status;
    uint64_t drain_until_us;
    uint64_t hold_until_us;   /* cohorts wait for their members until then; UINT64_MAX: none */
    uint64_t full_at_us;      /* when a claim last came back full */
    uint64_t refreshed_at_us; /* when the settings of the routes were asked for */

    struct tl__statement ack, release, extend, ahead, settings, prepare_next;
    struct tl__buf ids, capacities, due_ids, known;
};

/* worker_route.c */
struct tl__route *tl__route_free(struct tl__route *r);
/* By name, not forgotten; NULL: none. */
struct tl__route *tl__route_find(const struct tl_worker *w, const char *name);
/* By number; a forgotten one only if there is no other. */
struct tl__route *tl__route_find_id(const struct tl_worker *w, int64_t subscription_id);
/* Look an existing subscription up, on the caller's client, and add it. */
tl_status tl__route_add(struct tl_worker *w, const char *name, struct tl__route **ret);
bool tl__route_can_be_freed(const struct tl__route *r);
void tl__routes_free_forgotten(struct tl_worker *w);
extern const char tl__routes_refresh_sql[];
/* Once a second: ask for the settings that changed. Costs a look at one row for each route. */
void tl__routes_refresh(struct tl_worker *w, uint64_t now_us);
/* Has everything that lies behind a failed delivery (of its key) to wait for it? */
bool tl__route_waits_for(const struct tl__route *r, tl_verdict verdict);

/* worker_claim.c */
void tl__claim_params(struct tl_worker *w, struct tl__params *p);
void tl__due_params(struct tl_worker *w, struct tl__params *p);
void tl__claim_done(struct tl_worker *w, PGresult *res);
/* Which routes may claim now; sets hold_until_us. */
void tl__claim_prepare(struct tl_worker *w, uint64_t now_us);
void tl__cohort_leave(struct tl__route *r);
/* Takes res, also when there is no memory: NULL. */
struct tl__claimed *tl__claimed_new(PGresult *res, int event_col, int attempt_col);
void tl__claimed_unref(struct tl__claimed *c);
/*
 * A lease of `count` rows: those from `first` on, or, when masks is given, those of them that have a
 * bit of `mask`. `head` is the row with subscription and token.
 */
struct tl__lease *tl__lease_new(struct tl_worker *w, struct tl__claimed *claimed, int head,
                                int first, uint32_t count, const uint64_t *masks, uint64_t mask);
/* So many events came in one answer: how many are asked for next. */
void tl__batch_adapt(struct tl_worker *w, const PGresult *res, uint32_t events);
const struct tl_event *tl__lease_event(const struct tl__lease *l, uint32_t index);
int64_t tl__lease_position(const struct tl__lease *l, uint32_t index);
/* 0: expired, not to be delivered. */
uint32_t tl__lease_attempt(const struct tl__lease *l, uint32_t index);
/* For tl__schedule_hold() and _block(); context is the lease. */
const char *tl__lease_key(const void *lease, uint32_t index);
static inline int tl__lease_row(const struct tl__lease *l, uint32_t index)
{
    return (int)(l->rows != NULL ? l->rows[index] : l->first_row + index);
}

/* worker_read.c */
tl_status tl__route_read_init(struct tl__route *r, struct tl_error *e);
/* Read the events of a range, or take those read ahead. */
void tl__lease_read(struct tl__lease *l, uint64_t now_us);
void tl__lease_stop_reading(struct tl__lease *l);
/* Read what will be claimed next, if it is worth it. */
void tl__route_prefetch(struct tl__route *r, uint64_t now_us);
void tl__route_drop_prefetched(struct tl__route *r);
/* How many events to claim next. */
uint32_t tl__route_capacity(const struct tl__route *r);

/* worker_lease.c */
extern const struct tl__bell_owner tl__worker_bell_owner;
tl_status tl__worker_statements_init(struct tl_worker *w);
/* When a lease or a cohort next needs attention, UINT64_MAX for never. */
uint64_t tl__worker_leases_deadline_us(const struct tl_worker *w);
bool tl__worker_has_leases(const struct tl_worker *w);
void tl__lease_free(struct tl__lease *l);
/* Something failed for a reason that may pass. */
void tl__lease_repeat_later(struct tl__lease *l);
/* Takes nothing more: the worker drains, or the subscription was forgotten. */
bool tl__lease_is_draining(const struct tl__lease *l);
/* The failures among the indexes [acked, upto) as JSON, "" for none. */
void tl__lease_failures(const struct tl__lease *l, uint32_t upto, struct tl__buf *out);

/* The rows of an answer, from `first` on, that are a lease. Returns the row behind them. */
int tl__claim_take(struct tl_worker *w, struct tl__claimed *claimed, int first);
/* The one row of an answer to the statement of worker_next.c. */
void tl__claim_take_next(struct tl__route *r, struct tl__claimed *claimed);

/* worker_next.c */
extern const char tl__prepare_next_sql[];
/* Prepare the statement, if that is worth it and not done. */
void tl__next_prepare(struct tl_worker *w, uint64_t now_us);
/* The statement, NULL: not now. */
struct tl__statement *tl__next_params(struct tl_worker *w, struct tl__params *p);
/* The lease ends. */
void tl__next_settled(const struct tl__lease *l);
void tl__next_done(struct tl_worker *w, const PGresult *res);

/* worker_ahead.c */
extern const char tl__ahead_sql[];
/* Ask for what is behind the lease, if that is worth it and nothing of it is asked for yet. */
void tl__ahead_ask(struct tl_worker *w, struct tl__lease *l);
/* The lease ends, and not before what is behind it. */
void tl__ahead_part(struct tl__lease *l);
/* May events of it start beside the lease before it? */
bool tl__ahead_may_start(const struct tl__lease *l);
/* What of the lease behind was deferred with a failure of l, the count of finished ones before it
 * being `finished`. */
void tl__ahead_deferred(struct tl__lease *l, uint32_t finished);

/* worker_dispatch.c */
void tl__worker_dispatch(struct tl_worker *w, uint64_t now_us);
void tl__worker_finish_completed(struct tl_worker *w);
/* Keep a delivery that nobody needs any more for another event. */
void tl__delivery_recycle(struct tl_worker *w, struct tl_delivery *d);

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
