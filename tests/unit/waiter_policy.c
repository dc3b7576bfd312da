/*
 * waiter_policy.c: the doorbell protocol with a clock of its own: naps, arming, election, waking
 * others, polling without notifications (WAK-1, WAK-3, WAK-4, WAK-9).
 */
#include "waiter_policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000u
#define SECOND 1000000u

/* A server that answers at once. */
struct world {
    struct tl__waiter_policy p;
    uint64_t now_us;
    int64_t activity;
    uint64_t others;
    uint64_t rows;
    bool is_held;
    int64_t due_us;
    uint64_t look_us; /* how long a tick takes */
    bool is_election_won;
    bool is_arming_possible;
    bool are_notifications_lost;
    unsigned last; /* actions of the last exchange */
    int ticks, nexts, wakes, arms, disarms, dues, elections, probes;
};

static void answer(struct world *w, unsigned actions)
{
    w->last = actions;
    if (actions & TL__WAITER_ELECT) {
        w->elections++;
        tl__waiter_policy_elected(&w->p, w->is_election_won);
    }
    if (actions & TL__WAITER_PROBE)
        w->probes++;
    if (actions & TL__WAITER_NEXT) {
        assert_int_equal(actions, TL__WAITER_NEXT);
        assert_true(w->p.is_sentinel && w->p.is_armed);
        w->nexts++;
    }
    if (actions & TL__WAITER_DISARM)
        w->disarms++;
    if (actions & TL__WAITER_DUE)
        w->dues++;
    if (actions & TL__WAITER_WAKE)
        w->wakes++;
    if (actions & TL__WAITER_ARM) {
        assert_true(w->p.is_sentinel && w->p.is_listening && !w->p.is_armed);
        assert_true(actions & TL__WAITER_TICK); /* one more look behind it */
        w->arms++;
        tl__waiter_policy_armed(&w->p, w->is_arming_possible);
    }
    if (actions & TL__WAITER_TICK) {
        w->ticks++;
        w->now_us += w->look_us;
        tl__waiter_policy_ticked(&w->p, w->now_us, w->activity, w->is_held, w->others, w->rows);
    }
    if (actions & TL__WAITER_DUE)
        tl__waiter_policy_due(&w->p, w->now_us, w->due_us);
    tl__waiter_policy_answered(&w->p);
    if ((actions & TL__WAITER_PROBE) && !w->are_notifications_lost)
        tl__waiter_policy_probed(&w->p, w->now_us);
}

/* Let time pass until `until_us`, exchanging whatever is due. */
static void run_until(struct world *w, uint64_t until_us)
{
    for (int guard = 0;; guard++) {
        uint64_t at = tl__waiter_policy_deadline_us(&w->p);
        unsigned actions;

        assert_true(guard < 100000); /* no hot loop */
        if (at > until_us)
            break;
        if (at > w->now_us)
            w->now_us = at;
        actions = tl__waiter_policy_next(&w->p, w->now_us);
        if (actions == 0)
            continue;
        assert_int_equal(tl__waiter_policy_next(&w->p, w->now_us), 0); /* busy */
        assert_true(tl__waiter_policy_deadline_us(&w->p) == UINT64_MAX);
        answer(w, actions);
    }
    w->now_us = until_us;
}

static struct world new_world(bool can_listen)
{
    struct world w = {
        .now_us = 1000 * SECOND, .due_us = -1, .is_election_won = true, .is_arming_possible = true};

    tl__waiter_policy_init(&w.p, 60 * SECOND, can_listen, 42);
    assert_true(tl__waiter_policy_deadline_us(&w.p) == UINT64_MAX); /* no connection */
    assert_int_equal(tl__waiter_policy_next(&w.p, w.now_us), 0);
    tl__waiter_policy_connected(&w.p, w.now_us);
    assert_true(tl__waiter_policy_deadline_us(&w.p) == 0);
    return w;
}

/* So many that it is better awake. */
static void ring_a_lot(struct world *w)
{
    for (int i = 0; i < 5; i++)
        tl__waiter_policy_notified(&w->p, w->now_us);
    w->activity++;
}

static void an_idle_sentinel_arms_and_sleeps(void **state)
{
    struct world w = new_world(true);
    int ticks;

    (void)state;
    run_until(&w, w.now_us + 50 * MS);
    assert_true(w.p.is_sentinel && w.p.is_listening && w.p.is_armed);
    assert_int_equal(w.arms, 1);
    ticks = w.ticks;
    run_until(&w, w.now_us + 40 * SECOND);
    assert_int_equal(w.ticks, ticks); /* asleep: probes only */
    assert_true(w.probes >= 3 && w.probes <= 5);
    assert_int_equal(w.elections, 1);
    run_until(&w, w.now_us + 25 * SECOND); /* the fallback poll, still armed */
    assert_int_equal(w.ticks, ticks + 1);
    assert_true(w.p.is_armed);
}

static struct world asleep(void)
{
    struct world w = new_world(true);

    run_until(&w, w.now_us + 50 * MS);
    assert_true(w.p.is_sentinel && w.p.is_armed);
    w.ticks = w.arms = w.disarms = w.dues = 0;
    return w;
}

static void ring(struct world *w, int events)
{
    tl__waiter_policy_notified(&w->p, w->now_us);
    w->activity += events;
}

static void few_events_ring_each_and_leave_it_armed(void **state)
{
    struct world w = asleep();
    unsigned actions;

    (void)state;
    for (int i = 1; i <= 100; i++) {
        ring(&w, 3);
        actions = tl__waiter_policy_next(&w.p, w.now_us);
        assert_int_equal(actions, TL__WAITER_NEXT);
        answer(&w, actions);
        actions = tl__waiter_policy_next(&w.p, w.now_us);
        assert_int_equal(actions & ~(unsigned)TL__WAITER_PROBE,
                         TL__WAITER_TICK); /* and nothing behind it */
        answer(&w, actions);
        run_until(&w, w.now_us + 20 * MS);
        assert_int_equal(w.dues, i);
    }
    assert_int_equal(w.arms + w.disarms, 0);
    for (int i = 1; i <= 4; i++) { /* a few may come together */
        ring(&w, 1);
        run_until(&w, w.now_us);
    }
    assert_true(w.p.is_armed);
    ring(&w, 1); /* but these are many */
    run_until(&w, w.now_us);
    assert_int_equal(w.disarms, 1);
    assert_false(w.p.is_armed);
}

/* What is claimed without a look is not looked for, so a look follows, whatever it has brought. */
static void a_look_follows_what_is_next(void **state)
{
    struct world w = asleep();

    (void)state;
    ring(&w, 1);
    run_until(&w, w.now_us);
    assert_int_equal(w.nexts, 1);
    assert_int_equal(w.ticks, 1);
    ring(&w, 1);
    tl__waiter_policy_want_tick(&w.p);
    run_until(&w, w.now_us);
    assert_int_equal(w.nexts, 2);
    tl__waiter_policy_want_tick(&w.p); /* nothing has rung */
    run_until(&w, w.now_us);
    assert_int_equal(w.nexts, 2);
    for (int i = 0; i < 5; i++) /* too many for the bell to stay armed */
        ring(&w, 1);
    run_until(&w, w.now_us);
    assert_int_equal(w.nexts, 2);
    ring(&w, 1); /* awake it looks, and wants none */
    assert_false(w.p.is_armed);
    run_until(&w, w.now_us + MS);
    assert_int_equal(w.nexts, 2);
    w = asleep();
    ring(&w, 1);
    answer(&w, tl__waiter_policy_next(&w.p, w.now_us));
    tl__waiter_policy_disconnected(&w.p); /* and the look starts over with the connection */
    assert_false(w.p.is_next_tried);
}

static void many_events_in_one_ring_disarm(void **state)
{
    struct world w = asleep();

    (void)state;
    ring(&w, 15);
    run_until(&w, w.now_us + 10 * MS);
    assert_int_equal(w.disarms, 0);
    ring(&w, 16);
    run_until(&w, w.now_us + MS);
    assert_int_equal(w.disarms, 1);
    w = asleep();
    w.rows = 16;
    ring(&w, 1);
    run_until(&w, w.now_us);
    assert_int_equal(w.disarms, 1);
}

/* Nobody publishes: what would be saved is nothing, and looks at an empty log would follow. */
static void a_backlog_leaves_it_armed(void **state)
{
    struct world w = asleep();

    (void)state;
    w.rows = 500;
    for (int i = 0; i < 10; i++) {
        tl__waiter_policy_want_tick(&w.p);
        run_until(&w, w.now_us + 30 * MS);
    }
    assert_int_equal(w.ticks, 10);
    assert_int_equal(w.disarms, 0);
    assert_true(w.p.is_armed);
    ring(&w, 1); /* but somebody does */
    run_until(&w, w.now_us);
    assert_int_equal(w.disarms, 1);
    w = asleep();
    w.rows = 16; /* what rang was seen by the look before */
    tl__waiter_policy_notified(&w.p, w.now_us);
    run_until(&w, w.now_us);
    assert_int_equal(w.disarms, 1);
}

/* The ring of what is not readable yet is spent, and who holds it back may roll back. */
static void what_is_held_back_is_waited_for_awake(void **state)
{
    struct world w = asleep();
    int ticks;

    (void)state;
    w.is_held = true;
    tl__waiter_policy_notified(&w.p, w.now_us); /* nothing new is readable */
    run_until(&w, w.now_us);
    assert_int_equal(w.disarms, 1);
    assert_false(w.p.is_armed);
    ticks = w.ticks;
    run_until(&w, w.now_us + 5 * MS);
    assert_true(w.ticks > ticks + 2);
    w = asleep();
    w.is_held = true; /* no ring: whoever is in flight found it armed, and will ring */
    tl__waiter_policy_want_tick(&w.p);
    run_until(&w, w.now_us);
    assert_int_equal(w.ticks, 1);
    assert_true(w.p.is_armed);
}

static void what_rings_during_a_look_is_looked_for(void **state)
{
    struct world w = asleep();
    unsigned actions;

    (void)state;
    ring(&w, 1);
    answer(&w, tl__waiter_policy_next(&w.p, w.now_us));
    tl__waiter_policy_notified(&w.p, w.now_us); /* one look for both */
    actions = tl__waiter_policy_next(&w.p, w.now_us);
    assert_int_equal(actions, TL__WAITER_TICK);
    tl__waiter_policy_notified(&w.p, w.now_us);
    answer(&w, actions);
    w.is_held = true;
    run_until(&w, w.now_us);
    assert_true(w.ticks >= 2);
    assert_int_equal(w.disarms, 1); /* and that look counts as rung too */
}

static void what_nobody_rang_for_is_told_to_others(void **state)
{
    struct world w = asleep();

    (void)state;
    w.others = 1;
    w.is_held = true;
    w.activity++;
    run_until(&w, w.now_us + 61 * SECOND); /* the fallback poll */
    assert_int_equal(w.disarms, 0);
    assert_int_equal(w.wakes, 1);
    w.activity += 16;
    run_until(&w, w.now_us + 61 * SECOND);
    assert_int_equal(w.disarms, 1);
}

/* What a look has brought is handled first. */
static void due_is_asked_behind_the_work(void **state)
{
    struct world w = asleep();

    (void)state;
    w.rows = 1;
    ring(&w, 1);
    run_until(&w, w.now_us + 1900);
    assert_int_equal(w.ticks, 1);
    assert_int_equal(w.dues, 0);
    run_until(&w, w.now_us + 200); /* though the work should last */
    assert_int_equal(w.dues, 1);
    ring(&w, 1);
    run_until(&w, w.now_us);
    w.rows = 0;
    tl__waiter_policy_want_tick(&w.p); /* it is done: nothing more, so it is asked at once */
    run_until(&w, w.now_us);
    assert_int_equal(w.ticks, 3);
    assert_int_equal(w.dues, 2);
}

static void naps_are_short_while_events_flow_and_grow(void **state)
{
    struct world w = new_world(true);
    int ticks;

    (void)state;
    run_until(&w, w.now_us + 50 * MS);
    ring_a_lot(&w);
    run_until(&w, w.now_us);
    assert_int_equal(w.last & (TL__WAITER_DISARM | TL__WAITER_TICK),
                     TL__WAITER_DISARM | TL__WAITER_TICK);
    assert_false(w.p.is_armed);
    ticks = w.ticks;
    for (int i = 0; i < 100; i++) { /* an event every 200 us */
        w.activity++;
        run_until(&w, w.now_us + 200);
    }
    assert_true(w.ticks - ticks >= 90);
    assert_int_equal(w.arms, 1);
    ticks = w.ticks;
    run_until(&w, w.now_us + 9 * MS);
    assert_in_range(w.ticks - ticks, 5, 10); /* 0.2, 0.4, 0.8, 1.6, 2, 2, 2 ms */
    run_until(&w, w.now_us + 5 * MS);
    assert_true(w.p.is_armed);
}

static void a_nap_is_as_long_as_a_slow_look(void **state)
{
    struct world w = new_world(true);
    int ticks;

    (void)state;
    run_until(&w, w.now_us + 5 * MS);
    assert_true(tl__waiter_policy_is_awake(&w.p));
    w.look_us = 1500;
    ticks = w.ticks;
    for (int i = 0; i < 30; i++) { /* events all the time */
        w.activity++;
        run_until(&w, w.now_us + MS);
    }
    assert_in_range(w.ticks - ticks, 9, 16);
    w.look_us = 50 * MS; /* but never longer than the longest nap */
    w.activity++;
    run_until(&w, w.now_us + 3 * MS);
    assert_int_equal(w.p.nap_us, 2 * MS);
}

static uint64_t nap_after(uint64_t rows, uint64_t look_us)
{
    struct world w = new_world(true);

    run_until(&w, w.now_us + 5 * MS);
    assert_true(tl__waiter_policy_is_awake(&w.p));
    w.rows = rows;
    w.look_us = look_us;
    w.activity++;
    run_until(&w, w.now_us + 3 * MS);
    return w.p.nap_us;
}

static void plenty_of_events_make_for_longer_naps(void **state)
{
    (void)state;
    assert_int_equal(nap_after(15, 1500), 1500);
    assert_int_equal(nap_after(16, 1500), 6200);
    assert_int_equal(nap_after(16, 0), 200);
    assert_int_equal(nap_after(1000, 4 * MS), 10 * MS); /* but never longer than that */
}

/* The longest nap is as long as what counts as quiet: under load nobody may take the one for the other. */
static void a_long_nap_under_load_is_no_quiet(void **state)
{
    struct world w = new_world(true);

    (void)state;
    run_until(&w, w.now_us + 5 * MS);
    assert_true(tl__waiter_policy_is_awake(&w.p));
    w.look_us = 4 * MS;
    w.rows = 100;
    for (int i = 0; i < 30; i++) {
        w.activity += 100;
        run_until(&w, w.now_us + 14 * MS);
        assert_int_equal(w.p.nap_us, 10 * MS);
    }
    assert_int_equal(w.arms, 0);
    w.look_us = 0;
    w.rows = 0;
    run_until(&w, w.now_us + 30 * MS); /* when the events end, it does */
    assert_true(w.p.is_armed);
}

static void the_poll_behind_arming_finds(int events, struct world *ret)
{
    struct world w = new_world(true);

    run_until(&w, w.now_us + 5 * MS);
    assert_true(w.p.is_sentinel && !w.p.is_armed);
    w.others = 1;
    for (;;) {
        unsigned actions;

        w.now_us = tl__waiter_policy_deadline_us(&w.p) > w.now_us
                       ? tl__waiter_policy_deadline_us(&w.p)
                       : w.now_us;
        actions = tl__waiter_policy_next(&w.p, w.now_us);
        if (actions & TL__WAITER_ARM)
            w.activity += events; /* committed just before */
        answer(&w, actions);
        if (actions & TL__WAITER_ARM)
            break;
    }
    w.wakes = 0;
    run_until(&w, w.now_us + MS);
    *ret = w;
}

static void what_the_poll_behind_arming_finds(void **state)
{
    struct world w;

    (void)state;
    the_poll_behind_arming_finds(1, &w);
    assert_true(w.p.is_armed); /* it was seen, and that is all */
    assert_int_equal(w.wakes, 1);
    the_poll_behind_arming_finds(16, &w);
    assert_int_equal(w.disarms, 1);
    assert_false(w.p.is_armed);
    assert_int_equal(w.wakes, 1);
}

static void a_parked_publisher_costs_longer_naps_only(void **state)
{
    struct world w = new_world(true);
    int ticks;

    (void)state;
    w.is_arming_possible = false;
    run_until(&w, w.now_us + 100 * MS);
    assert_false(w.p.is_armed);
    ticks = w.ticks;
    run_until(&w, w.now_us + SECOND);
    assert_in_range(w.ticks - ticks, 48, 54); /* 20 ms */
    w.is_arming_possible = true;
    run_until(&w, w.now_us + 25 * MS);
    assert_true(w.p.is_armed);
}

static void who_keeps_it_from_arming_is_seen_soon(void **state)
{
    struct world w = new_world(true);
    uint64_t first_us;

    (void)state;
    w.is_arming_possible = false;
    while (w.arms == 0)
        run_until(&w, w.now_us + 100);
    first_us = w.now_us;
    assert_int_equal(w.p.nap_us, 200);
    w.activity++; /* it commits: found without its ring */
    run_until(&w, w.now_us + 500);
    assert_int_equal(w.p.activity, w.activity);
    w.activity++;
    run_until(&w, first_us + 100 * MS); /* and the next one sits there for long */
    assert_int_equal(w.p.nap_us, 20 * MS);
}

static void the_sentinel_wakes_others_once_for_many(void **state)
{
    struct world w = new_world(true);

    (void)state;
    run_until(&w, w.now_us + 50 * MS);
    w.others = 3;
    run_until(&w, w.now_us + 70 * SECOND);
    w.wakes = 0;
    ring_a_lot(&w);
    for (int i = 0; i < 50; i++) {
        w.activity++;
        run_until(&w, w.now_us + 200);
    }
    assert_in_range(w.wakes, 9, 11); /* 10 ms: one a millisecond at most */
    w.others = 0;
    run_until(&w, w.now_us + 100 * MS);
    w.wakes = 0;
    tl__waiter_policy_notified(&w.p, w.now_us);
    w.activity++;
    run_until(&w, w.now_us + 100 * MS);
    assert_int_equal(w.wakes, 0); /* nobody is there */
}

static void others_sleep_and_stand_for_election(void **state)
{
    struct world w = new_world(true);
    int ticks;

    (void)state;
    w.is_election_won = false;
    run_until(&w, w.now_us + 100 * MS);
    ticks = w.ticks;
    run_until(&w, w.now_us + 10 * SECOND);
    assert_int_equal(w.ticks, ticks);
    assert_in_range(w.elections, 10, 22);
    assert_int_equal(w.arms, 0);
    /* a notification: look, and see whether the sentinel left */
    tl__waiter_policy_notified(&w.p, w.now_us);
    run_until(&w, w.now_us);
    assert_int_equal(w.ticks, ticks + 1);
    /* it died: elected, and whoever slept through its end is woken */
    w.is_election_won = true;
    w.others = 1;
    w.wakes = 0;
    run_until(&w, w.now_us + SECOND + 50 * MS);
    assert_true(w.p.is_sentinel);
    assert_int_equal(w.wakes, 1);
    assert_true(w.p.is_armed);
}

static void what_falls_due_wakes(void **state)
{
    struct world w = new_world(true);
    int ticks;

    (void)state;
    w.is_election_won = false;
    w.due_us = 300 * MS;
    run_until(&w, w.now_us + 10 * MS);
    ticks = w.ticks;
    run_until(&w, w.now_us + 250 * MS);
    assert_int_equal(w.ticks, ticks);
    w.due_us = -1;
    run_until(&w, w.now_us + 100 * MS);
    assert_int_equal(w.ticks, ticks + 1);
    /* due for ever and not to be had: no hot loop */
    w.due_us = 0;
    tl__waiter_policy_notified(&w.p, w.now_us);
    ticks = w.ticks;
    run_until(&w, w.now_us + 100 * MS);
    assert_in_range(w.ticks - ticks, 10, 22);
}

static void rows_make_the_next_due_known_again(void **state)
{
    struct world w = new_world(true);
    int ticks;

    (void)state;
    run_until(&w, w.now_us + 50 * MS);
    assert_true(w.p.is_armed);
    w.rows = 5; /* a retry, no new event: the bell stays armed */
    tl__waiter_policy_want_tick(&w.p);
    run_until(&w, w.now_us);
    w.rows = 0;
    w.due_us = 200 * MS;
    tl__waiter_policy_want_tick(&w.p);
    run_until(&w, w.now_us);
    assert_true(w.p.is_armed);
    ticks = w.ticks;
    w.due_us = -1;
    run_until(&w, w.now_us + 250 * MS);
    assert_int_equal(w.ticks, ticks + 1);
}

static void without_notifications_it_polls_and_recovers(void **state)
{
    struct world w = new_world(true);
    int ticks;

    (void)state;
    w.are_notifications_lost = true;
    w.p.poll_interval_us = SECOND;
    run_until(&w, w.now_us + 4 * SECOND);
    assert_false(w.p.has_gone_deaf);
    run_until(&w, w.now_us + 2 * SECOND);
    assert_true(w.p.has_gone_deaf);
    w.p.has_gone_deaf = false;
    ticks = w.ticks;
    run_until(&w, w.now_us + 10 * SECOND);
    assert_in_range(w.ticks - ticks, 9, 13);
    w.activity++; /* while events come it looks more often */
    run_until(&w, w.now_us + SECOND);
    ticks = w.ticks;
    w.activity++;
    run_until(&w, w.now_us + SECOND);
    assert_in_range(w.ticks - ticks, 1, 6);
    assert_int_equal(w.elections, 0);
    assert_int_equal(w.arms, 0);
    run_until(&w, w.now_us + 40 * SECOND);
    assert_false(w.p.has_gone_deaf); /* said once */
    w.are_notifications_lost = false;
    run_until(&w, w.now_us + 20 * SECOND);
    assert_true(w.p.is_listening && w.p.is_sentinel && w.p.is_armed);
}

static void a_sentinel_that_goes_deaf_resigns(void **state)
{
    struct world w = new_world(true);

    (void)state;
    run_until(&w, w.now_us + 50 * MS);
    assert_true(w.p.is_sentinel && w.p.is_armed);
    w.are_notifications_lost = true;
    run_until(&w, w.now_us + 25 * SECOND);
    assert_true(w.p.has_gone_deaf);
    assert_false(w.p.is_sentinel || w.p.is_armed || w.p.is_listening);
}

static void no_listen_polls_only(void **state)
{
    struct world w = new_world(false);

    (void)state;
    w.p.poll_interval_us = SECOND;
    run_until(&w, w.now_us + 20 * SECOND);
    assert_in_range(w.ticks, 20, 27);
    assert_int_equal(w.probes + w.elections + w.arms + w.wakes, 0);
}

static void leaving_hands_the_duty_on(void **state)
{
    struct world w = new_world(true);

    (void)state;
    w.others = 1;
    run_until(&w, w.now_us + 50 * MS);
    assert_true(w.p.is_armed);
    tl__waiter_policy_leave(&w.p);
    answer(&w, tl__waiter_policy_next(&w.p, w.now_us));
    assert_int_equal(w.last & (TL__WAITER_DISARM | TL__WAITER_RELEASE | TL__WAITER_WAKE),
                     TL__WAITER_DISARM | TL__WAITER_RELEASE | TL__WAITER_WAKE);
    assert_false(w.last & TL__WAITER_ELECT);
    assert_false(w.p.is_sentinel || w.p.is_armed);
    run_until(&w, w.now_us); /* back again: stands at once */
    assert_true(w.p.is_sentinel);
}

static void a_sentinel_that_nobody_calls_hands_over(void **state)
{
    struct world w = new_world(true);

    (void)state;
    w.others = 1;
    run_until(&w, w.now_us + 50 * MS);
    w.now_us += 20 * SECOND; /* asleep and armed: publishers ring everybody, nothing is lost */
    run_until(&w, w.now_us);
    assert_true(w.p.is_sentinel);
    ring_a_lot(&w);
    run_until(&w, w.now_us);
    assert_false(w.p.is_armed);
    w.now_us += 300 * MS; /* a slow handler */
    w.wakes = 0;
    w.is_election_won = false;
    run_until(&w, w.now_us);
    assert_false(w.p.is_sentinel);
    assert_int_equal(w.wakes, 1);
    w.elections = 0;
    run_until(&w, w.now_us + 2 * SECOND);
    assert_int_equal(w.elections, 0);
    w.is_election_won = true;
    run_until(&w, w.now_us + 2 * SECOND);
    assert_true(w.p.is_sentinel); /* nobody else wanted it */
    w.others = 0;
    ring_a_lot(&w);
    run_until(&w, w.now_us);
    w.now_us += 300 * MS;
    run_until(&w, w.now_us);
    assert_true(w.p.is_sentinel); /* alone it stays */
}

static void a_new_connection_starts_from_nothing(void **state)
{
    struct world w = new_world(true);

    (void)state;
    run_until(&w, w.now_us + 50 * MS);
    tl__waiter_policy_disconnected(&w.p);
    assert_true(tl__waiter_policy_deadline_us(&w.p) == UINT64_MAX);
    assert_false(w.p.is_sentinel || w.p.is_armed || w.p.is_listening);
    w.ticks = 0;
    tl__waiter_policy_connected(&w.p, w.now_us);
    run_until(&w, w.now_us);
    assert_true(w.ticks >= 1); /* before any wait */
    assert_true(w.p.is_sentinel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_sentinel_arms_and_sleeps),
        cmocka_unit_test(few_events_ring_each_and_leave_it_armed),
        cmocka_unit_test(a_look_follows_what_is_next),
        cmocka_unit_test(many_events_in_one_ring_disarm),
        cmocka_unit_test(a_backlog_leaves_it_armed),
        cmocka_unit_test(what_is_held_back_is_waited_for_awake),
        cmocka_unit_test(what_rings_during_a_look_is_looked_for),
        cmocka_unit_test(what_nobody_rang_for_is_told_to_others),
        cmocka_unit_test(due_is_asked_behind_the_work),
        cmocka_unit_test(naps_are_short_while_events_flow_and_grow),
        cmocka_unit_test(a_nap_is_as_long_as_a_slow_look),
        cmocka_unit_test(plenty_of_events_make_for_longer_naps),
        cmocka_unit_test(a_long_nap_under_load_is_no_quiet),
        cmocka_unit_test(what_the_poll_behind_arming_finds),
        cmocka_unit_test(a_parked_publisher_costs_longer_naps_only),
        cmocka_unit_test(who_keeps_it_from_arming_is_seen_soon),
        cmocka_unit_test(the_sentinel_wakes_others_once_for_many),
        cmocka_unit_test(others_sleep_and_stand_for_election),
        cmocka_unit_test(what_falls_due_wakes),
        cmocka_unit_test(rows_make_the_next_due_known_again),
        cmocka_unit_test(without_notifications_it_polls_and_recovers),
        cmocka_unit_test(a_sentinel_that_goes_deaf_resigns),
        cmocka_unit_test(no_listen_polls_only),
        cmocka_unit_test(leaving_hands_the_duty_on),
        cmocka_unit_test(a_sentinel_that_nobody_calls_hands_over),
        cmocka_unit_test(a_new_connection_starts_from_nothing),
    };

    return cmocka_run_group_tests_name("waiter_policy", tests, NULL, NULL);
}
