/*
 * waiter_policy.c: see waiter_policy.h. Why the handshake loses no wake-up: the sentinel looks once
 * more after the bell is armed, and a publisher who found it unarmed holds the bell's lock shared
 * until its transaction ends, so that arming fails until its events are visible. While few events come
 * the bell stays armed and each of them rings: an awake sentinel would cost more than they do.
 */
#include "waiter_policy.h"

#define NAP_MIN_US 200
#define NAP_MAX_US 2000
#define PLENTY_ROWS 16
#define PLENTY_NAP_LOOKS 4 /* so many events a look: fewer looks leave publishers the processor */
#define NAP_PLENTY_MAX_US 10000
#define NAP_PARKED_MAX_US 20000 /* a publisher sits in its transaction: arming fails */
#define QUIET_US 10000          /* no events for so long: arm */
#define RING_EVERY_US 5000      /* what a ring costs publishers they can afford so often, */
#define RINGS_AHEAD_US 20000    /* and four at once */
#define DUE_LATER_US 2000       /* first what a look has brought, then what falls due */
#define DEAF_POLL_MIN_US 50000  /* polling without notifications begins here, doubles */
#define DUE_MIN_US 5000         /* "due" events that nobody gets must not make a hot loop */
#define ELECT_MIN_US 500000
#define ELECT_JITTER_US 500000
#define ELECT_SOON_US 50000 /* a notification may mean that the sentinel left */
#define PROBE_EVERY_US 15000000
#define PROBE_TIMEOUT_US 5000000
#define STALL_US 100000        /* an awake sentinel that nobody calls for so long sees nothing */
#define STALL_PAUSE_US 3000000 /* it leaves the office to others for so long */
#define WAKE_GAP_US 1000       /* one wake-up serves all that came in between */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* xorshift64*: jitter only. */
static uint64_t jitter(struct tl__waiter_policy *p, uint64_t below)
{
    p->random ^= p->random >> 12;
    p->random ^= p->random << 25;
    p->random ^= p->random >> 27;
    return below == 0 ? 0 : (p->random * 2685821657736338717u >> 11) % below;
}

void tl__waiter_policy_init(struct tl__waiter_policy *p, uint64_t poll_interval_us, bool can_listen,
                            uint64_t seed)
{
    *p = (struct tl__waiter_policy){
        .poll_interval_us = poll_interval_us, .can_listen = can_listen, .random = seed | 1};
}

void tl__waiter_policy_connected(struct tl__waiter_policy *p, uint64_t now_us)
{
    tl__waiter_policy_disconnected(p);
    p->is_connected = true;
    p->is_tick_wanted = true;
    p->nap_us = 0;
    p->quiet_since_us = now_us;
    p->due_at_us = UINT64_MAX;
    p->next_tick_us = now_us;
    p->next_elect_us = now_us;
    p->next_probe_us = now_us;
    p->next_wake_us = now_us;
    p->last_next_us = now_us;
}

void tl__waiter_policy_disconnected(struct tl__waiter_policy *p)
{
    p->is_connected = p->is_busy = p->is_listening = p->is_sentinel = p->is_armed = false;
    p->is_disarm_wanted = p->is_release_wanted = p->is_wake_wanted = p->is_new_sentinel = false;
    p->is_probing = p->is_activity_known = p->has_stalled = false;
    p->is_rung = p->is_tick_rung = p->is_next_tried = false;
    p->arm_failures = 0;
    p->others = 0;
}

void tl__waiter_policy_notified(struct tl__waiter_policy *p, uint64_t now_us)
{
    p->is_tick_wanted = true;
    if (p->is_listening)
        p->next_probe_us = now_us + PROBE_EVERY_US; /* it is the proof that a probe would give */
    if (p->is_sentinel) {
        if (p->is_armed) {
            p->is_rung = true;
            if (p->rings_until_us < now_us)
                p->rings_until_us = now_us;
            p->rings_until_us += RING_EVERY_US;
            if (p->rings_until_us > now_us + RINGS_AHEAD_US)
                p->is_disarm_wanted = true;
        }
        p->quiet_since_us = now_us;
        p->nap_us = 0;
    } else {
        p->next_elect_us = least(p->next_elect_us, p->last_elect_us + ELECT_SOON_US);
    }
}

void tl__waiter_policy_probed(struct tl__waiter_policy *p, uint64_t now_us)
{
    p->is_probing = p->is_deaf = false;
    if (!p->is_listening) {
        p->is_listening = true;
        p->nap_us = 0;
        /* the same tick that every change of role needs: nothing lies between poll and sleep */
        p->is_tick_wanted = true;
        p->next_elect_us = now_us;
    }
    p->next_probe_us = now_us + PROBE_EVERY_US + jitter(p, PROBE_EVERY_US / 10);
}

void tl__waiter_policy_want_tick(struct tl__waiter_policy *p)
{
    p->is_tick_wanted = true;
}

void tl__waiter_policy_leave(struct tl__waiter_policy *p)
{
    if (p->is_sentinel)
        p->is_release_wanted = true;
}

void tl__waiter_policy_elected(struct tl__waiter_policy *p, bool is_elected)
{
    p->is_sentinel = p->is_new_sentinel = is_elected;
    if (is_elected)
        p->is_tick_wanted = true;
}

bool tl__waiter_policy_is_awake(const struct tl__waiter_policy *p)
{
    return p->is_sentinel && p->is_listening && !p->is_armed;
}

void tl__waiter_policy_armed(struct tl__waiter_policy *p, bool is_armed)
{
    p->is_armed = is_armed;
    p->arm_failures = is_armed ? 0 : p->arm_failures + 1;
}

static uint64_t doubled(uint64_t nap_us, uint64_t min_us, uint64_t max_us)
{
    if (nap_us < min_us)
        return min_us;
    return least(nap_us * 2, max_us);
}

/* As long as the look took: what is to be had more often would cost publishers half a processor. Several
 * times as long under load: a look at many events costs each of them less. */
static uint64_t shortest_nap_us(const struct tl__waiter_policy *p, uint64_t now_us)
{
    uint64_t look_us = now_us - p->tick_sent_us;

    if (p->last_rows >= PLENTY_ROWS)
        return least(look_us * PLENTY_NAP_LOOKS + NAP_MIN_US, NAP_PLENTY_MAX_US);
    return look_us < NAP_MIN_US ? NAP_MIN_US : least(look_us, NAP_MAX_US);
}

/* An armed bell may stay so when all that is in the log was seen, and was not much. Held: something is
 * not readable yet. Where nothing rang its ring is still to come; else that may be spent, and who
 * holds it back may roll back without one. Of a backlog, of which nothing is new, nobody rings. */
static bool must_disarm(const struct tl__waiter_policy *p, int64_t news, uint64_t rows,
                        bool is_held)
{
    return p->is_armed && ((p->is_tick_rung && is_held) || news >= PLENTY_ROWS ||
                           (rows >= PLENTY_ROWS && (news > 0 || p->is_tick_rung)));
}

bool tl__waiter_policy_ticked(struct tl__waiter_policy *p, uint64_t now_us, int64_t activity,
                              bool is_held, uint64_t others, uint64_t rows)
{
    bool is_first = !p->is_activity_known;
    bool has_changed = is_first || activity != p->activity;

    if (must_disarm(p, is_first ? 0 : activity - p->activity, rows, is_held))
        p->is_disarm_wanted = true;
    p->activity = activity;
    p->is_activity_known = true;
    p->others = others;
    p->last_rows = rows;
    p->is_quiet = !has_changed && rows == 0;
    if (!p->is_quiet) {
        p->quiet_since_us = now_us;
        p->nap_us = 0;
        p->arm_failures = 0;
    }
    if (p->is_sentinel && ((has_changed && !is_first) || p->is_new_sentinel)) {
        p->is_wake_wanted = p->is_wake_wanted || others > 0;
        p->is_new_sentinel = false;
    }
    if (!p->is_listening) {
        p->nap_us =
            doubled(p->nap_us, least(DEAF_POLL_MIN_US, p->poll_interval_us), p->poll_interval_us);
    } else if (p->is_sentinel && !p->is_armed) {
        /* Mostly who keeps us from arming is about to commit what has to be seen soon. */
        if (p->arm_failures == 1)
            p->nap_us = shortest_nap_us(p, now_us);
        else
            p->nap_us = doubled(p->nap_us, shortest_nap_us(p, now_us),
                                p->arm_failures > 0 ? NAP_PARKED_MAX_US : NAP_MAX_US);
    } else {
        p->nap_us = p->poll_interval_us - jitter(p, p->poll_interval_us / 8);
    }
    p->next_tick_us = now_us + p->nap_us;
    p->due_ask_us = rows > 0 ? now_us + DUE_LATER_US : now_us;
    return has_changed;
}

void tl__waiter_policy_due(struct tl__waiter_policy *p, uint64_t now_us, int64_t due_us)
{
    uint64_t wait_us = due_us < DUE_MIN_US ? DUE_MIN_US : (uint64_t)due_us;

    p->is_due_known = true;
    p->due_at_us = due_us < 0 ? UINT64_MAX : now_us + wait_us;
}

void tl__waiter_policy_answered(struct tl__waiter_policy *p)
{
    p->is_busy = false;
}

/* Who is about to sleep needs to know what falls due without a notification. */
static bool needs_due(const struct tl__waiter_policy *p)
{
    return !p->is_due_known && (!p->is_sentinel || p->is_armed);
}

static unsigned tick_actions(struct tl__waiter_policy *p, uint64_t now_us)
{
    unsigned actions = TL__WAITER_TICK;

    p->is_tick_wanted = p->is_due_known = false;
    p->due_at_us = UINT64_MAX;
    p->tick_sent_us = now_us;
    p->is_tick_rung = p->is_rung;
    p->is_rung = p->is_next_tried = false;
    if (p->last_rows == 0 && needs_due(p) && !p->is_tick_rung)
        actions |= TL__WAITER_DUE;
    /* a look that found something may be as long ago as that, after a long nap: nothing is quiet then */
    if (p->is_sentinel && p->is_listening && !p->is_armed && !p->is_disarm_wanted &&
        !p->is_new_sentinel && !p->is_wake_wanted && p->is_quiet &&
        now_us >= p->quiet_since_us + QUIET_US)
        actions |= TL__WAITER_ARM | TL__WAITER_DUE;
    return actions;
}

/* A slow handler (or a busy program) kept the sentinel from looking, and publishers took it for
 * awake: if anybody else listens, let them do it. */
static void watch_for_stall(struct tl__waiter_policy *p, uint64_t now_us)
{
    if (p->is_sentinel && !p->is_armed && p->others > 0 && now_us > p->last_next_us + STALL_US) {
        p->is_release_wanted = true;
        p->has_stalled = true;
    }
    p->last_next_us = now_us;
}

unsigned tl__waiter_policy_next(struct tl__waiter_policy *p, uint64_t now_us)
{
    unsigned actions = 0;

    if (!p->is_connected)
        return 0;
    watch_for_stall(p, now_us);
    if (p->is_busy)
        return 0;
    if (p->is_probing && now_us >= p->probe_until_us) {
        p->is_probing = false;
        p->has_gone_deaf = p->has_gone_deaf || !p->is_deaf;
        p->is_deaf = true;
        p->is_listening = false;
        p->is_tick_wanted = true;
        p->is_release_wanted = p->is_sentinel;
    }
    if (p->is_release_wanted) {
        actions |= TL__WAITER_RELEASE;
        p->is_disarm_wanted = p->is_armed;
        p->is_wake_wanted = p->others > 0;
        p->is_release_wanted = p->is_sentinel = p->is_new_sentinel = false;
        p->next_wake_us = now_us;
        p->next_elect_us = p->has_stalled ? now_us + STALL_PAUSE_US : now_us;
        p->last_elect_us = p->next_elect_us;
        p->has_stalled = false;
    }
    if (p->is_rung && !p->is_next_tried && !p->is_disarm_wanted && actions == 0) {
        p->is_next_tried = p->is_busy = true;
        return TL__WAITER_NEXT;
    }
    if (p->is_disarm_wanted) {
        actions |= TL__WAITER_DISARM;
        p->is_disarm_wanted = p->is_armed = false;
        p->nap_us = 0; /* it was that of a sleeper */
        p->is_tick_wanted = p->is_tick_wanted || p->is_sentinel;
    }
    if (p->can_listen && !p->is_probing && now_us >= p->next_probe_us) {
        actions |= TL__WAITER_PROBE;
        p->is_probing = true;
        p->probe_until_us = now_us + PROBE_TIMEOUT_US;
        p->next_probe_us = now_us + PROBE_EVERY_US + jitter(p, PROBE_EVERY_US / 10);
    }
    if (p->is_wake_wanted && now_us >= p->next_wake_us) {
        actions |= TL__WAITER_WAKE;
        p->is_wake_wanted = false;
        p->next_wake_us = now_us + WAKE_GAP_US;
    }
    if (p->is_listening && !p->is_sentinel && !(actions & TL__WAITER_RELEASE) &&
        now_us >= p->next_elect_us) {
        actions |= TL__WAITER_ELECT;
        p->last_elect_us = now_us;
        p->next_elect_us = now_us + ELECT_MIN_US + jitter(p, ELECT_JITTER_US);
    }
    if (p->is_tick_wanted || now_us >= p->next_tick_us || now_us >= p->due_at_us)
        actions |= tick_actions(p, now_us);
    else if (needs_due(p) && now_us >= p->due_ask_us)
        actions |= TL__WAITER_DUE;
    p->is_busy = actions != 0;
    return actions;
}

uint64_t tl__waiter_policy_deadline_us(const struct tl__waiter_policy *p)
{
    uint64_t at;

    if (!p->is_connected || p->is_busy)
        return UINT64_MAX;
    if (p->is_tick_wanted || p->is_disarm_wanted || p->is_release_wanted)
        return 0;
    at = least(p->next_tick_us, p->due_at_us);
    if (needs_due(p))
        at = least(at, p->due_ask_us);
    if (p->can_listen)
        at = least(at, p->is_probing ? p->probe_until_us : p->next_probe_us);
    if (p->is_wake_wanted)
        at = least(at, p->next_wake_us);
    if (p->is_listening && !p->is_sentinel)
        at = least(at, p->next_elect_us);
    return at;
}
