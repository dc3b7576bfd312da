/*
 * waiter.c: tl_client_wait: a blocking wait for new events on a connection of its own. It claims
 * nothing; it takes part in the doorbell so that no publisher pays for it. Between two waits it is
 * never the sentinel: nobody may depend on a program that is busy elsewhere.
 */
#include "bell.h"

#include "clock.h"

#define GRACE_US 1000000

struct tl__waiter {
    struct tl__bell *bell;
    bool has_changed;
};

static void on_claimed(void *owner, PGresult *res, bool has_changed)
{
    struct tl__waiter *w = owner;

    w->has_changed = w->has_changed || has_changed;
    PQclear(res);
}

static const struct tl__bell_owner bell_owner = {
    .claimed = on_claimed,
};

void tl__waiter_free(struct tl__waiter *w)
{
    if (w != NULL) {
        tl__bell_free(w->bell);
        free(w);
    }
}

static tl_status make(tl_client *c)
{
    struct tl__waiter *w = calloc(1, sizeof *w);
    tl_status status;

    if (w == NULL)
        return tl__error_nomem(&c->error);
    status = tl__bell_new(&c->settings, &bell_owner, w, c->settings.poll_interval_us,
                          !c->settings.no_listen, c->wake_fd, &c->error, &w->bell);
    if (status != TL_OK) {
        free(w);
        return status;
    }
    c->waiter = w;
    return TL_OK;
}

/* What was sent is read to its end before we go: a bell that is being armed must not stay so. */
static tl_status wait_for_change(tl_client *c, uint64_t until_us)
{
    struct tl__waiter *w = c->waiter;
    const struct tl__waiter_policy *p = tl__bell_policy(w->bell);
    bool is_cancelled = false;

    for (;;) {
        uint64_t now_us = tl__clock_us();
        uint64_t deadline_us = until_us;
        bool is_woken;
        tl_status status = tl__bell_process(w->bell, now_us, &is_woken);

        if (status != TL_OK)
            return status;
        is_cancelled = is_cancelled || is_woken;
        if (!p->is_busy || now_us >= tl__deadline_us(until_us, GRACE_US)) {
            if (is_cancelled)
                return tl__error_set(&c->error, TL_E_CANCELLED, NULL, "the wait was ended");
            if (w->has_changed)
                return TL_OK;
            if (now_us >= until_us)
                return tl__error_set(&c->error, TL_E_TIMEOUT, NULL, "nothing happened");
            tl__bell_write(w->bell, now_us);
        }
        if (p->is_busy)
            deadline_us = tl__deadline_us(until_us, GRACE_US);
        if (tl__bell_deadline_us(w->bell) < deadline_us)
            deadline_us = tl__bell_deadline_us(w->bell);
        tl__bell_sleep(w->bell, deadline_us);
    }
}

tl_status tl_client_wait(tl_client *c, uint64_t timeout_us)
{
    uint64_t now_us = tl__clock_us();
    struct tl__waiter *w;
    tl_status status;

    if (c->settings.conninfo == NULL || c->wake_fd < 0)
        return tl__error_set(&c->error, TL_E_CLOSED, NULL, "client was not opened");
    if (c->waiter == NULL) {
        status = make(c);
        if (status != TL_OK)
            return status;
    }
    w = c->waiter;
    w->has_changed = false;
    tl__waiter_policy_want_tick(tl__bell_policy(w->bell));
    status = wait_for_change(c, tl__deadline_us(now_us, timeout_us));
    /* On the way out, without waiting for the answers: whoever else listens is woken and elects. */
    tl__waiter_policy_leave(tl__bell_policy(w->bell));
    tl__bell_write(w->bell, tl__clock_us());
    return status;
}
