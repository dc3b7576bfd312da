/*
 * live.h: the part of libtrunkline's interface for live subscriptions. trunkline.h includes it and its
 * conventions hold.
 *
 * Events as they come, for as long as the program lives: first what is in the log after a place that the
 * caller chooses, then what is committed from now on, with no gap, no repetition and no other order at the
 * join. Nothing is stored: the caller keeps tl_live_position() if it wants to go on there later. For
 * retries, several workers or state in the database use tl_subscribe().
 *
 * All live subscriptions of a client share one connection of their own and one read of each topic, and
 * take part in the doorbell protocol. They survive lost connections and restarts of the server. Drive them
 * with tl_client_run(), or from a loop with tl_client_fd() and its companions. Nothing is read while a
 * handler runs; memory holds one page of events at a time, of about 4 MiB as stored.
 */
#ifndef TRUNKLINE_LIVE_H
#define TRUNKLINE_LIVE_H

#include <trunkline/trunkline.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_live tl_live;

/**
 * Called for each event, in order of positions (of a stream: versions). The event is borrowed until it
 * returns. Other calls on the client are fine in it, further subscriptions and tl_live_stop() among them,
 * but not tl_client_process(), tl_client_run() and tl_client_close().
 * @return 0: go on. Negative: end this subscription, and only this one; the event counts as not handled.
 */
typedef int (*tl_live_fn)(tl_live *live, const tl_event *event, void *userdata);
/** Called once when a subscription ends by itself; see tl_live_status(). The handle stays valid until
 * tl_live_stop(), which may be called here. */
typedef void (*tl_live_ended_fn)(tl_live *live, int status, void *userdata);

typedef struct tl_live_options {
    size_t size;
    const char *topic;        /* NULL: "store" */
    int64_t after;            /* position, of a stream: version; 0: from the beginning */
    bool from_end;            /* only what is committed from now on; after must be 0 */
    const char *pattern;      /* of types; NULL: every type */
    const char *const *types; /* only these of them; NULL: all */
    size_t type_count;        /* 1..1000 with types */
    const char *tenant_id;    /* NULL: every tenant */
    uint32_t batch;           /* most events in one read; the least of those that share one;
                                 1..TL_MAX_CLAIM, 0: 1000 */
    tl_live_ended_fn ended;   /* NULL: none */
} tl_live_options;
#define TL_LIVE_OPTIONS(...) (&(tl_live_options){.size = sizeof(tl_live_options), __VA_ARGS__})

/**
 * Subscribe to the events of one stream.
 * @param stream    1..255 bytes; it need not exist yet.
 * @param userdata  given to handler and ended.
 * @param ret       the handle; free it with tl_live_stop(), or with the client.
 * @return TL_OK: every event committed from now on will be delivered too. TL_E_INVALID: bad argument, or
 *         after is beyond the end (a log that lost it in a failover) or before what is retained;
 *         TL_E_NOTFOUND (topic); TL_E_UNSUPPORTED (topic without streams); TL_E_DENIED; TL_E_CONNECTION.
 * Blocks: up to the client's timeout_us. No handler runs before tl_client_process() or tl_client_run().
 */
TL_API TL_MUSTCHECK tl_status tl_subscribe_stream(tl_client *c, const char *stream,
                                                  const tl_live_options *opts, tl_live_fn handler,
                                                  void *userdata, tl_live **ret);
/** The same for all streams of a category: "order" or "order-*" are those named "order-..." and "order". */
TL_API TL_MUSTCHECK tl_status tl_subscribe_category(tl_client *c, const char *category,
                                                    const tl_live_options *opts, tl_live_fn handler,
                                                    void *userdata, tl_live **ret);
/** The same for all events of a topic, whether in streams or not. */
TL_API TL_MUSTCHECK tl_status tl_subscribe_all(tl_client *c, const tl_live_options *opts,
                                               tl_live_fn handler, void *userdata, tl_live **ret);
/** The same for the events of a topic whose type matches a pattern; opts->pattern must be NULL. */
TL_API TL_MUSTCHECK tl_status tl_subscribe_type(tl_client *c, const char *pattern,
                                                const tl_live_options *opts, tl_live_fn handler,
                                                void *userdata, tl_live **ret);
/** End it and free the handle: no handler is called after it returns. In a handler too. NULL is fine;
 * returns NULL. */
TL_API tl_live *tl_live_stop(tl_live *live);

/** Everything up to this position (of a stream: version) was handled or not wanted; subscribe after it to
 * go on. In a handler: not yet the event at hand. */
TL_API int64_t tl_live_position(const tl_live *live);
/** Has it caught up? It gets events as they are committed now. */
TL_API bool tl_live_is_caught_up(const tl_live *live);
/** TL_OK while it runs. Else why it ended: what the handler returned, or TL_E_INVALID (the log lost its
 * end, or retired what comes next), TL_E_NOTFOUND (the topic was dropped), TL_E_DENIED, TL_E_CONNECTION
 * (reconnect_attempts exhausted)... */
TL_API int tl_live_status(const tl_live *live);
/** Detail of that; borrowed until tl_live_stop(). */
TL_API const tl_error *tl_live_error(const tl_live *live);

/**
 * Run the live subscriptions of a client until none is left.
 * @param timeout_us  UINT64_MAX: no limit.
 * @return TL_NOTHING: none is running; TL_E_TIMEOUT; TL_E_CANCELLED (tl_client_wake); TL_E_CONNECTION only
 *         when reconnect_attempts is exhausted; TL_E_INVALID inside a handler.
 */
TL_API TL_MUSTCHECK tl_status tl_client_run(tl_client *c, uint64_t timeout_us);

/* The same for a loop of your own: wait until fd is readable or the deadline has passed, then process.
 * Ask for fd and deadline again after every call on the client. */
/** -1 while no live subscription runs. */
TL_API int tl_client_fd(const tl_client *c);
/** poll(2) events to wait for; always POLLIN. */
TL_API int tl_client_events(const tl_client *c);
/** CLOCK_MONOTONIC microseconds; UINT64_MAX: none; 0: process now. */
TL_API uint64_t tl_client_deadline_us(const tl_client *c);
/** Do what is due without waiting for anything; handlers run in it for about 10 ms (and one event) at a
 * time. TL_OK; TL_NOTHING: no live subscription runs; errors as tl_client_run(). */
TL_API TL_MUSTCHECK tl_status tl_client_process(tl_client *c);

typedef struct tl_live_stats {
    uint64_t delivered;  /* handler calls */
    uint64_t feed_reads; /* reads of topics for all that have caught up */
    uint64_t page_reads; /* reads for one that catches up */
    uint64_t events;     /* that these reads brought */
    uint64_t wakes, reconnects;
    uint64_t feeds;    /* topics being read now */
    bool is_connected; /* false: reconnecting */
    bool is_listening; /* notifications arrive; false: polling only */
    bool is_sentinel;  /* this client listens for the doorbell for everybody */
} tl_live_stats;
TL_API void tl_client_get_live_stats(const tl_client *c, tl_live_stats *ret);

#ifdef __cplusplus
}
#endif
#endif /* TRUNKLINE_LIVE_H */
