/*
 * live.h: live subscriptions, shared by live.c (the calls, the life of a subscription) and
 * live_feed.c (what is read when, and who gets it). Not API.
 *
 * The hub of a client has one bell and, for each topic, a feed: a place in the log up to which all
 * subscriptions that have joined it got what they want. One read is on its way at a time: either of
 * a feed, from its place to the horizon, given to all that have joined; or a page for one that
 * catches up, given to it as far as the place of the feed. Answers come in the order of the reads and
 * each read sees all that was visible to those before it. So a page that ends short of the feed's place
 * has nothing more to give up to there, and its owner joins: no gap; and what lies behind
 * that place comes by the feed alone: no repetition.
 */
#ifndef TL_LIVE_H
#define TL_LIVE_H

#include "bell.h"
#include "internal.h"

enum tl__live_kind { TL__LIVE_ALL, TL__LIVE_CATEGORY, TL__LIVE_STREAM };
enum tl__live_state { TL__LIVE_CATCHING_UP, TL__LIVE_JOINED, TL__LIVE_ENDED };

struct tl_live {
    struct tl_live *next; /* of the feed */
    struct tl__feed *feed;
    enum tl__live_kind kind;
    enum tl__live_state state;
    bool is_freed; /* stopped while handlers run: gone when they have returned */
    char *name;    /* stream or category; NULL: all */
    size_t name_len;
    char *pattern; /* NULL: every type */
    char **types;
    size_t type_count;
    char *tenant_id;
    uint32_t batch;
    int64_t cursor;  /* version of a stream, else position */
    uint64_t served; /* when it was read for last */
    uint64_t number; /* they are numbered as they are made */
    tl_live_fn handler;
    tl_live_ended_fn ended;
    void *userdata;
    int status;
    struct tl_error error;
};

struct tl__feed {
    struct tl__feed *next;
    struct tl__hub *hub;
    char *topic;
    int64_t position;               /* all that joined have what they want up to here */
    bool is_wanted;                 /* there may be more */
    uint64_t retry_at_us, pause_us; /* a read of it failed */
    uint32_t failures;              /* in a row */
    uint64_t read_at_us;
    uint64_t served;
    struct tl_live *subscriptions;
};

/* The read at hand: sent, or answered and being handed out. */
struct tl__live_read {
    struct tl__feed *feed; /* NULL: none */
    struct tl_live *page;  /* whose page it is; NULL: of the feed */
    uint32_t batch;
    PGresult *res; /* NULL: not answered */
    int row;       /* next to be handed out */
};

struct tl__hub {
    struct tl_client *client;
    struct tl_error error; /* of the bell */
    struct tl__bell *bell; /* NULL: none runs */
    struct tl__feed *feeds;
    struct tl__live_read read;
    struct tl__statement log_statement, stream_statement;
    struct tl__buf streams, categories, patterns;
    uint64_t turn;
    uint64_t made;       /* subscriptions so far */
    uint64_t reconnects; /* seen of the bell's */
    bool is_inside;      /* handlers may be running */
    bool is_dirty;       /* subscriptions came or went: process */
    bool is_woken;
    struct tl_live_stats stats;
};

/* live.c */
/* It ended by itself: e may be NULL. */
void tl__live_end(struct tl_live *s, int status, const struct tl_error *e);
static inline bool tl__live_is_running(const struct tl_live *s)
{
    return s->state != TL__LIVE_ENDED;
}

/* live_feed.c */
extern const struct tl__bell_owner tl__live_bell_owner;
tl_status tl__live_statements_init(struct tl__hub *hub);
/* Send the next read, if one is needed and none is on its way. */
void tl__live_schedule(struct tl__hub *hub, uint64_t now_us);
/* Hand out what was read, for a while. */
void tl__live_dispatch(struct tl__hub *hub, uint64_t now_us);
/* Could it go on at once? */
bool tl__live_has_work(const struct tl__hub *hub);
/* After a new connection: who follows a stream makes sure that it did not go back. */
void tl__live_reconnected(struct tl__hub *hub);
void tl__live_drop_read(struct tl__hub *hub);

#endif
