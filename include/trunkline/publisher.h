/*
 * publisher.h: the part of libtrunkline's interface for group publish. trunkline.h includes it and its
 * conventions hold.
 *
 * A publisher puts the events of many callers into one commit. While one batch is being committed the next
 * one collects, so a lone caller waits for nobody and many share the price of a flush. Every caller hears of
 * its own event only: one that the server refuses fails alone and the others are stored.
 *
 * It has one connection of its own and no thread. Two ways to use it, which may be mixed:
 *   - a thread for each request: tl_publisher_publish() blocks until the event is durable. One of the waiting
 *     threads drives the connection for all of them.
 *   - an event loop: tl_publisher_submit() returns at once, tl_publisher_process() reports what is durable.
 *
 * tl_publish() in a client of each thread has the connection to itself and asks nobody; a publisher is for
 * more events a second, and for fewer connections. An event that must commit together with other work is
 * published in its transaction, by tl_publish_in() or tl_tx_publish().
 */
#ifndef TRUNKLINE_PUBLISHER_H
#define TRUNKLINE_PUBLISHER_H

#include <trunkline/trunkline.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_publisher tl_publisher;

typedef struct tl_publisher_options {
    size_t size;
    uint32_t
        max_batch; /* most events in one commit, 1..10000; 0: 1000. 4 MiB of data end one too */
    uint32_t max_pending; /* submitted events that have not ended; 0: 10000 */
} tl_publisher_options;
#define TL_PUBLISHER_OPTIONS(...)                                                                  \
    (&(tl_publisher_options){.size = sizeof(tl_publisher_options), __VA_ARGS__})

/**
 * Make a publisher with the settings of a client, which must live longer and is not used otherwise. It
 * connects when there is something to publish, and again after the connection was lost.
 * @return TL_OK; TL_E_INVALID; TL_E_NOMEM. On failure tl_client_error(c) has the detail.
 */
TL_API TL_MUSTCHECK tl_status tl_publisher_new(tl_client *c, const tl_publisher_options *opts,
                                               tl_publisher **ret);
/**
 * Stop and free. Threads that wait in tl_publisher_publish() may still be there: events that were not sent
 * yet fail with TL_E_CLOSED, a batch on its way is waited for. No call may begin any more. Called by a
 * tl_published_fn it does nothing and returns p; else returns NULL, as it does for NULL.
 * Blocks: up to the client's timeout_us.
 */
TL_API tl_publisher *tl_publisher_free(tl_publisher *p);
/** Take nothing more and fail what was not sent yet, with TL_E_CLOSED; from any thread. */
TL_API void tl_publisher_stop(tl_publisher *p);

/**
 * Publish one event, in one commit with those of others; durable when it returns TL_OK.
 *
 * @param topic      NULL: "bus".
 * @param event      as for tl_publish(). With an id a repeat is stored once.
 * @param ret        may be NULL.
 * @param ret_error  may be NULL; else set on failure, free with tl_error_free().
 * @return as tl_publish(). Also TL_E_TIMEOUT: with tl_error_outcome_unknown() when the batch was sent and the
 *         server did not even cancel it, with sqlstate 55P03 when an event with an id or a due time waited more than
 *         1 s for a lock (another transaction publishes the same id), else not stored; TL_E_CLOSED; TL_E_INVALID
 *         when called by a tl_published_fn. When the connection dies during the commit, all events of that batch,
 *         and no others, are TL_E_CONNECTION with tl_error_outcome_unknown().
 * Blocks: up to the client's timeout_us until it is sent, as long again for the answer.
 * Threads: any number at a time. Example: examples/group.c
 */
TL_API TL_MUSTCHECK tl_status tl_publisher_publish(tl_publisher *p, const char *topic,
                                                   const tl_new_event *event, tl_receipt *ret,
                                                   tl_error **ret_error);

/**
 * Tells what became of a submitted event, once. Runs in the thread that drives: in tl_publisher_process(),
 * tl_publisher_flush() or tl_publisher_free(), or in a thread that waits in tl_publisher_publish(). It may submit
 * more.
 * @param receipt  set when status is TL_OK. Borrowed, as error is.
 * @param error    set when it is not.
 */
typedef void (*tl_published_fn)(tl_status status, const tl_receipt *receipt, const tl_error *error,
                                void *userdata);
/**
 * Hand an event over; copies it. Events that one thread submits to one topic are stored in that order, but for
 * those that fail.
 * @param done  NULL: nobody wants to know.
 * @return TL_OK: done will be called. Else it will not: TL_E_INVALID, TL_E_LIMIT (data too large at all, or max_pending
 *         events have not ended: process first), TL_E_NOMEM, TL_E_CLOSED.
 * Never blocks. Threads: any number at a time.
 */
TL_API TL_MUSTCHECK tl_status tl_publisher_submit(tl_publisher *p, const char *topic,
                                                  const tl_new_event *event, tl_published_fn done,
                                                  void *userdata, tl_error **ret_error);
/**
 * Wait until all events submitted before have ended, well or not.
 * @return TL_OK; TL_E_CLOSED after tl_publisher_stop(); TL_E_INVALID when called by a tl_published_fn;
 *         TL_E_NOMEM.
 * Blocks: as tl_publisher_publish(). Threads: any number at a time.
 */
TL_API TL_MUSTCHECK tl_status tl_publisher_flush(tl_publisher *p);

/* For a loop: wait until fd is readable or the deadline has passed, then process. One thread does so at a
 * time. */
TL_API int tl_publisher_fd(const tl_publisher *p); /* the same for ever */
/** poll(2) events to wait for; always POLLIN. */
TL_API int tl_publisher_events(const tl_publisher *p);
/** CLOCK_MONOTONIC microseconds; UINT64_MAX: none; 0: process now. */
TL_API uint64_t tl_publisher_deadline_us(const tl_publisher *p);
/** Do what is due without waiting. TL_OK; TL_NOTHING: stopped, and nothing is left. */
TL_API TL_MUSTCHECK tl_status tl_publisher_process(tl_publisher *p);

typedef struct tl_publisher_stats {
    uint64_t published;     /* events stored, or found stored under their id */
    uint64_t failed;        /* events that ended otherwise, outcome unknown among them */
    uint64_t commits;       /* batches stored */
    uint64_t rollbacks;     /* batches refused; parts of them were tried again */
    uint64_t largest_batch; /* most events in one commit */
    uint64_t connections;   /* made */
    uint64_t pending;       /* events that have not ended */
} tl_publisher_stats;
TL_API void tl_publisher_get_stats(const tl_publisher *p, tl_publisher_stats *ret);

#ifdef __cplusplus
}
#endif
#endif /* TRUNKLINE_PUBLISHER_H */
