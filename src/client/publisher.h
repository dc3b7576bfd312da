/*
 * publisher.h: what the two files of group publish share. Who may call what: publisher.c holds the queue of
 * events and decides which thread drives; only that thread calls tl__publisher_step() of publisher_batch.c,
 * which owns the connection. For publisher*.c only.
 */
#ifndef TL_CLIENT_PUBLISHER_H
#define TL_CLIENT_PUBLISHER_H

#include "publish.h"

#include <pthread.h>
#include <semaphore.h>

#define TL__MAX_SEGMENTS 64 /* statements in one transaction */
#define TL__MAX_PARTS 64    /* a batch of 10000 is halved 14 times */

/* An event and who waits for it. */
struct tl__request {
    struct tl__request *next;
    uint64_t number; /* order of arrival */
    struct tl__element element;
    const char *topic; /* NULL: no event, but a mark in the queue that ends when its turn comes */
    uint64_t deadline_us;

    /* How it ended. */
    tl_status status;
    tl_receipt receipt;
    struct tl_error error;

    bool
        is_submitted; /* made by tl_publisher_submit(), which is told by done; else a thread waits */
    tl_published_fn done;
    void *userdata;
    bool is_finished; /* of a thread that waits; written before the post */
    sem_t wakeup;     /* it has ended, else it is to drive */
};

/* Elements that one statement of a part stores: members [first, end). */
struct tl__segment {
    size_t first, end;
    PGresult *res;
};

/* A statement on its way. */
struct tl__queued {
    struct tl__statement *statement;
    int segment;     /* -1: of none */
    bool is_prepare; /* not its execution */
};

enum tl__publisher_phase { TL__OFF, TL__CONNECTING, TL__READY, TL__BUSY };

struct tl_publisher {
    const struct tl__settings *settings;
    size_t max_batch;
    uint64_t max_pending;
    int wake_fd;  /* eventfd: stop, and events while nobody drives */
    int epoll_fd; /* for loops: wake_fd and, while a loop has to look at it, the socket */

    pthread_mutex_t lock;
    pthread_cond_t left; /* a thread has left while the publisher is being freed */

    /* @locks lock: */
    struct tl__request *queue, **queue_end;
    uint64_t numbers;
    bool is_driven; /* by some thread, which may change what is below without the lock */
    bool is_stopped;
    bool is_rung;        /* wake_fd is readable */
    bool is_calling;     /* a tl_published_fn runs, in the thread driver */
    size_t waiting;      /* threads in tl_publisher_publish() and tl_publisher_flush() */
    uint64_t unreported; /* submitted events that have not ended */
    pthread_t driver;
    tl_publisher_stats stats;

    /* Of who drives: */
    enum tl__publisher_phase phase;
    PGconn *conn;
    uint64_t generation; /* counts connections, for prepared_on */
    uint64_t answer_until_us;
    int watched_fd; /* in epoll_fd; -1: none */
    short watched_events, events;
    struct tl__cached *cached;
    int vanished_count;
    bool is_unprepared;

    /* The batch: members [ended, member_count) have not ended. They are tried in parts; part_ends is a stack
     * of where the parts end, the one on its way on top. */
    struct tl__request **members;
    struct tl__element *elements; /* scratch of a segment */
    size_t member_count, ended;
    size_t part_ends[TL__MAX_PARTS];
    int part_count;

    /* The part on its way. */
    struct tl__segment segments[TL__MAX_SEGMENTS];
    int segment_count;
    struct tl__queued queued[2 * TL__MAX_SEGMENTS + 2];
    int queued_count, answered; /* statements */
    int failed;                 /* the statement whose error is in `error`; -1: none */
    bool is_unflushed, is_sent, is_cancelled;
    bool is_ending; /* the server said that it ends the session */
    struct tl_error error;
    struct tl__buf buf;
};

/* publisher_batch.c */

/* Do what can be done without waiting. */
void tl__publisher_step(tl_publisher *p);
/* Is something on its way, so that there is a socket to wait for? */
bool tl__publisher_is_waiting(const tl_publisher *p);
void tl__publisher_drop_conn(tl_publisher *p);

/* publisher.c */

/* The next members of the batch, from the queue: all that fit. False: none. What has waited for too long or comes
 * too late ends here. */
bool tl__publisher_collect(tl_publisher *p);
/* Is there anything in the queue? */
bool tl__publisher_has_queue(tl_publisher *p);
/* End everything in the queue. */
void tl__publisher_fail_queue(tl_publisher *p, const struct tl_error *e);
/* End one that is not in the queue any more; it is gone after this. */
void tl__publisher_finish(tl_publisher *p, struct tl__request *r);

#endif
