/*
 * webhooks.h: what control does for webhooks beside the list of subscriptions: their settings and
 * keys, the journal, resends. For control.c, on its thread.
 */
#ifndef TL_SERVER_WEBHOOKS_H
#define TL_SERVER_WEBHOOKS_H

#include <libpq-fe.h>

#include "journal.h"
#include "resends.h"
#include "subscriptions.h"

/* Runs one statement that names the schema as @schema@; NULL: failed and logged, and `refusal` is the
 * SQLSTATE of the server, empty where it did not answer. */
typedef PGresult *(*tl__query_fn)(void *userdata, const char *event, const char *sql, int n,
                                  const char *const *values);

enum { TL__SQLSTATE_SIZE = 6 };

struct tl__webhooks {
    tl__query_fn query;
    void *userdata;
    struct tl__journal *journal;
    char owner[64];      /* this daemon, among those that look after the same endpoints */
    const char *refusal; /* of the last query that failed */
    bool has_complained;
    uint64_t refused_at_us; /* 0: the journal was not refused */
};

void tl__webhooks_init(struct tl__webhooks *w, tl__query_fn query, void *userdata,
                       const char *refusal, struct tl__journal *journal);
/*
 * Add settings, keys and states to the list. Text is borrowed from the result, which the caller
 * clears after the list. NULL: failed; the list is not to be used. Without the right to know the
 * keys webhooks stay without a form, so that nobody serves them.
 */
PGresult *tl__webhooks_load(struct tl__webhooks *w, struct tl__subscription_list *list);
/*
 * Write what is in the journal. What the server refuses for a passing reason stays and is offered again
 * a second later; of entries that it would refuse for ever only these are dropped. `is_last`: nothing comes
 * later. False: no answer, the rest stays.
 */
bool tl__webhooks_flush(struct tl__webhooks *w, bool is_last);
/* Events to be sent once more; NULL: none. */
struct tl__resends *tl__webhooks_resends(struct tl__webhooks *w);

#endif
