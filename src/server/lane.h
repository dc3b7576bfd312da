/*
 * lane.h: one loop with one worker and the targets it serves. The daemon has one for targets that
 * never block (webhooks, commands) and, once there is a SQL function to call, one on a thread of its
 * own for those, so that a slow function delays no webhook.
 *
 * @thread: open, run's callbacks and close on the loop's thread; post_* from any.
 */
#ifndef TL_SERVER_LANE_H
#define TL_SERVER_LANE_H

#include <uv.h>

#include "journal.h"
#include "netguard.h"
#include "resends.h"
#include "serve.h"
#include "sinks/sink.h"
#include "subscriptions.h"

struct tl__lane;

struct tl__lane_settings {
    const char *name;                        /* for the log */
    const struct tl__serve_options *options; /* borrowed until close */
    const struct tl__netguard *guard;
    struct tl__journal *journal;              /* gets what became of requests */
    const struct tl__sink_kind *const *kinds; /* ends with NULL; targets of others are ignored */
    /* On the loop's thread: the first list was taken; the worker ended (drained, aborted, failed). */
    void (*on_ready)(void *userdata);
    void (*on_end)(tl_status status, void *userdata);
    void *userdata;
};

/* Connect and watch the worker on the loop. Failures are logged. */
TL_MUSTCHECK tl_status tl__lane_open(const struct tl__lane_settings *settings, uv_loop_t *loop,
                                     struct tl__lane **ret);
/* Serve this list from now on; takes it over. */
void tl__lane_post_list(struct tl__lane *lane, struct tl__subscription_list *list);
/* Send these outside of any order, once; takes them over. */
void tl__lane_post_resends(struct tl__lane *lane, struct tl__resends *resends);
/* Take nothing new, finish what runs. */
void tl__lane_post_stop(struct tl__lane *lane);
/* End now: commands are killed, requests dropped, all events handed back. */
void tl__lane_post_abort(struct tl__lane *lane);
/* After on_end. Its handles close as the loop runs on; then call tl__lane_free. */
void tl__lane_close(struct tl__lane *lane);
struct tl__lane *tl__lane_free(struct tl__lane *lane);

bool tl__lane_serves(const struct tl__sink_kind *const *kinds, const char *target);

#endif
