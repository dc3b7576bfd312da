/*
 * worker_tx.c: transactional handlers: effects and ack are one transaction, whatever dies between
 * (WRK-7, WRK-8, RET-8; DESIGN: exactly once for effects in the same database).
 */
#include "worker_env.h"

#include <libpq-fe.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int tx_setup(void **state)
{
    struct env *e;

    env_setup(state);
    e = *state;
    test_db_exec(e->admin, "create table effects (position bigint, note text)");
    return 0;
}

/* Write down the event that is handled. */
static tl_status take_effect(tl_delivery *d)
{
    char position[24];
    const char *values[] = {position, tl_event_type(tl_delivery_event(d))};

    snprintf(position, sizeof position, "%lld", (long long)tl_event_position(tl_delivery_event(d)));
    return tl_tx_exec(tl_delivery_tx(d), "insert into effects values ($1, $2)", 2, values, NULL);
}

static bool is_settled(void *arg)
{
    return number(arg, "select (select count(*) from trunkline.leases) + "
                       "(select count(*) from trunkline.retries)") == 0;
}

/* Every published event has exactly one effect. */
static bool has_each_once(void *arg)
{
    return is_settled(arg) &&
           number(arg, "select count(*) from (select e.\"position\" from trunkline.topic_bus e "
                       "left join effects f using (\"position\") group by 1 "
                       "having count(f.\"position\") <> 1) q") == 0 &&
           number(arg, "select count(*) from effects") > 0;
}

struct script {
    struct seen seen;
    int step;
    tl_delivery *held;
};

static tl_verdict effect(tl_delivery *d, void *userdata)
{
    struct script *s = userdata;

    see(&s->seen, d);
    assert_int_equal(take_effect(d), TL_OK);
    return TL_DONE;
}

static tl_worker *tx_worker(struct env *e, tl_client *c, tl_handler_fn fn, void *userdata,
                            const tl_worker_options *options)
{
    (void)e;
    return simple_worker(c, fn, userdata, TL_ORDERING_KEY, true, options);
}

/* WRK-7 */
static void effect_and_ack_commit_together(void **state)
{
    struct env *e = *state;
    struct script s = {0};
    tl_worker *w = tx_worker(e, e->client, effect, &s, TL_WORKER_OPTIONS(.claim_batch = 20));

    publish(e, "a", "", 50);
    drive_one(w, has_each_once, e);
    assert_int_equal(s.seen.count, 50);
    tl_worker_free(w);
}

static tl_verdict fail_first(tl_delivery *d, void *userdata)
{
    struct script *s = userdata;

    see(&s->seen, d);
    assert_int_equal(take_effect(d), TL_OK);
    if (tl_delivery_attempt(d) == 1)
        return tl_event_position(tl_delivery_event(d)) % 2 == 0 ? TL_RETRY : TL_DONE;
    return TL_DONE;
}

/* WRK-7: failure rolls both back; failures beside successes in one lease */
static void failure_rolls_both_back(void **state)
{
    struct env *e = *state;
    struct script s = {0};
    tl_worker *w = tx_worker(e, e->client, fail_first, &s, TL_WORKER_OPTIONS(.claim_batch = 7));

    publish(e, "a", "", 20);
    drive_one(w, has_each_once, e);
    assert_int_equal(s.seen.count, 30);
    assert_int_equal(stats_of(w).retried, 10);
    tl_worker_free(w);
}

static tl_verdict swallow_failure(tl_delivery *d, void *userdata)
{
    struct script *s = userdata;

    see(&s->seen, d);
    assert_int_equal(take_effect(d), TL_OK);
    if (tl_delivery_attempt(d) == 1) {
        assert_int_equal(tl_tx_exec(tl_delivery_tx(d), "select 1 / 0", 0, NULL, NULL),
                         TL_E_INVALID);
        assert_string_equal(tl_error_sqlstate(tl_tx_error(tl_delivery_tx(d))), "22012");
    }
    return TL_DONE;
}

/* A failed statement and TL_DONE must not become a silent success. */
static void done_after_a_failed_statement_is_a_retry(void **state)
{
    struct env *e = *state;
    struct script s = {0};
    tl_worker *w = tx_worker(e, e->client, swallow_failure, &s, NULL);

    publish(e, "a", "", 1);
    drive_one(w, has_each_once, e);
    assert_int_equal(s.seen.count, 2);
    assert_int_equal(stats_of(w).retried, 1);
    tl_worker_free(w);
}

static tl_verdict try_to_end_it(tl_delivery *d, void *userdata)
{
    static const char *const refused[] = {
        "commit",     "  COMMIT and chain", "-- x\nrollback",         "/* a /* b */ */ Begin",
        "end",        ";; abort",           "start transaction",      "prepare transaction 'x'",
        "( rollback", "rollback work",      "copy effects to stdout", NULL,
    };
    static const char *const allowed[] = {
        "savepoint a",         "select 1 / (select count(*) from effects where false)",
        "rollback to a",       "rollback work to savepoint a",
        "release a",           "prepare commit_x as select 1",
        "deallocate commit_x", NULL,
    };
    struct script *s = userdata;
    tl_tx *tx = tl_delivery_tx(d);
    struct pg_result *res = NULL;

    see(&s->seen, d);
    for (int i = 0; refused[i] != NULL; i++) {
        assert_int_equal(tl_tx_exec(tx, refused[i], 0, NULL, NULL), TL_E_INVALID);
        assert_true(tl_error_hint(tl_tx_error(tx))[0] != '\0');
    }
    for (int i = 0; allowed[i] != NULL; i++)
        assert_int_equal(tl_tx_exec(tx, allowed[i], 0, NULL, NULL), i == 1 ? TL_E_INVALID : TL_OK);
    /* two statements at once are no way around */
    assert_int_equal(tl_tx_exec(tx, "savepoint b", 0, NULL, NULL), TL_OK);
    assert_int_not_equal(tl_tx_exec(tx, "select 1; commit", 0, NULL, NULL), TL_OK);
    assert_int_equal(tl_tx_exec(tx, "rollback to b", 0, NULL, NULL), TL_OK);
    assert_int_equal(tl_tx_exec(tx, "select 42", 0, NULL, &res), TL_OK);
    assert_string_equal(PQgetvalue(res, 0, 0), "42");
    PQclear(res);
    assert_int_equal(take_effect(d), TL_OK);
    return TL_DONE;
}

/* WRK-8 */
static void transaction_control_is_refused(void **state)
{
    struct env *e = *state;
    struct script s = {0};
    tl_worker *w = tx_worker(e, e->client, try_to_end_it, &s, NULL);

    publish(e, "a", "", 1);
    drive_one(w, has_each_once, e);
    assert_int_equal(s.seen.count, 1);
    tl_worker_free(w);
}

static tl_verdict commit_unsafely(tl_delivery *d, void *userdata)
{
    struct script *s = userdata;

    see(&s->seen, d);
    PQclear(PQexec(tl_tx_unsafe(tl_delivery_tx(d)), "commit"));
    return TL_DONE;
}

/* WRK-8: the escape hatch is watched */
static void an_ended_transaction_is_reported(void **state)
{
    struct env *e = *state;
    struct script s = {0};
    tl_worker *w = tx_worker(e, e->client, commit_unsafely, &s, NULL);

    publish(e, "a", "", 1);
    s.seen.until = 1;
    drive_one(w, has_seen, &s.seen);
    drive_one(w, is_settled, e);
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters where error_message "
                               "like 'handler ended its transaction%' and reason = 'rejected'"),
                     1);
    tl_worker_free(w);
}

static tl_verdict leave_running(tl_delivery *d, void *userdata)
{
    struct script *s = userdata;

    see(&s->seen, d);
    assert_int_equal(take_effect(d), TL_OK);
    assert_int_equal(PQsendQuery(tl_tx_unsafe(tl_delivery_tx(d)), "select pg_sleep(3600)"), 1);
    return TL_DONE;
}

static tl_verdict return_nonsense(tl_delivery *d, void *userdata)
{
    struct script *s = userdata;

    see(&s->seen, d);
    assert_int_equal(take_effect(d), TL_OK);
    return (tl_verdict)99;
}

/* Three attempts, none of which has an effect, and the reason is kept. */
static void ends_as_dead_letter(struct env *e, tl_handler_fn fn, const char *why)
{
    struct script s = {0};
    tl_worker *w = tx_worker(e, e->client, fn, &s, NULL);
    char sql[200];

    publish(e, "a", "", 1);
    s.seen.until = 3;
    drive_one(w, has_seen, &s.seen);
    drive_one(w, is_settled, e);
    assert_int_equal(s.seen.count, 3);
    snprintf(sql, sizeof sql,
             "select count(*) from trunkline.dead_letters where error_message = '%s'", why);
    assert_int_equal(number(e, sql), 1);
    assert_int_equal(number(e, "select count(*) from effects"), 0);
    tl_worker_free(w);
}

/* WRK-8: nobody waits for it, and the next attempt has a connection */
static void a_statement_left_running_is_reported(void **state)
{
    ends_as_dead_letter(*state, leave_running,
                        "handler left a statement running in its transaction");
}

/* WRK-7 */
static void no_verdict_is_a_retry(void **state)
{
    ends_as_dead_letter(*state, return_nonsense, "handler returned no verdict");
}

static tl_verdict die_first(tl_delivery *d, void *userdata)
{
    struct script *s = userdata;
    struct pg_result *res = NULL;

    see(&s->seen, d);
    assert_int_equal(take_effect(d), TL_OK);
    if (s->step++ == 1) {
        assert_int_equal(tl_tx_exec(tl_delivery_tx(d),
                                    "select pg_terminate_backend(pg_backend_pid())", 0, NULL, &res),
                         TL_E_CONNECTION);
        assert_int_equal(tl_tx_exec(tl_delivery_tx(d), "select 1", 0, NULL, NULL), TL_E_CONNECTION);
    }
    return TL_DONE;
}

/* The handler's connection dies: as after a crash the event comes again, with the next attempt. */
static void a_lost_connection_is_a_crash(void **state)
{
    struct env *e = *state;
    struct script s = {0};
    tl_worker *w = tx_worker(e, e->client, die_first, &s, NULL);

    publish(e, "a", "", 3);
    drive_one(w, has_each_once, e);
    assert_int_equal(s.seen.count, 4);
    assert_int_equal(s.seen.positions[1], s.seen.positions[2]);
    assert_int_equal(s.seen.attempts[1], 1);
    assert_int_equal(s.seen.attempts[2], 2);
    tl_worker_free(w);
}

static tl_verdict die_of_the_second(tl_delivery *d, void *userdata)
{
    struct script *s = userdata;
    struct pg_result *res = NULL;

    see(&s->seen, d);
    assert_int_equal(take_effect(d), TL_OK);
    if (tl_event_position(tl_delivery_event(d)) == 2)
        assert_int_equal(tl_tx_exec(tl_delivery_tx(d),
                                    "select pg_terminate_backend(pg_backend_pid())", 0, NULL, &res),
                         TL_E_CONNECTION);
    return TL_DONE;
}

static bool has_one_dead(void *arg)
{
    return is_settled(arg) && number(arg, "select count(*) from effects") == 2 &&
           number(arg, "select count(*) from trunkline.dead_letters where \"position\" = 2 and "
                       "reason = 'crashed' and attempts = 2") == 1;
}

/* RET-1: an event whose handler always kills its connection is given up, and nothing else is. */
static void a_handler_that_kills_its_connection_has_an_end(void **state)
{
    struct env *e = *state;
    struct script s = {0};
    tl_worker *w = tx_worker(e, e->client, die_of_the_second, &s, NULL);

    test_db_exec(e->admin, "update trunkline.subscriptions set max_attempts = 2");
    publish(e, "a", "", 3);
    drive_one(w, has_one_dead, e);
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters"), 1);
    tl_worker_free(w);
}

static tl_verdict kill_myself(tl_delivery *d, void *userdata)
{
    assert_int_equal(take_effect(d), TL_OK);
    if (tl_event_position(tl_delivery_event(d)) == *(int *)userdata)
        raise(SIGKILL);
    return TL_DONE;
}

/* kill -9 between effect and commit; events before it are not repeated, none is lost */
static void killed_between_effect_and_commit(void **state)
{
    struct env *e = *state;
    struct script s = {0};
    int victim = 4;
    int child_status;
    pid_t child;
    tl_worker *w;

    publish(e, "a", "", 6);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        tl_client *c = open_client(e->conninfo);

        w = tx_worker(e, c, kill_myself, &victim,
                      TL_WORKER_OPTIONS(.lease_us = 3 * SECOND_US, .claim_batch = 5));
        (void)!tl_worker_run(w);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &child_status, 0), child);
    assert_true(WIFSIGNALED(child_status) && WTERMSIG(child_status) == SIGKILL);
    w = tx_worker(e, e->client, effect, &s, TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));
    drive_one(w, has_each_once, e);
    assert_int_equal(s.seen.count, 3);
    assert_int_equal(s.seen.positions[0], 4);
    assert_int_equal(s.seen.attempts[0], 2);
    tl_worker_free(w);
}

struct overtaken {
    struct script first, second;
    struct env *e;
    tl_client *other;
};

static tl_verdict lose_the_lease(tl_delivery *d, void *userdata)
{
    struct overtaken *o = userdata;

    see(&o->first.seen, d);
    assert_int_equal(take_effect(d), TL_OK);
    if (o->first.seen.count == 1) { /* somebody else comes while we dawdle */
        tl_worker *w = simple_worker(o->other, effect, &o->second, TL_ORDERING_KEY, true,
                                     TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));

        drive_one(w, has_each_once, o->e);
        tl_worker_free(w);
    }
    return TL_DONE;
}

/* RET-5: the ack inside the transaction is the fence */
static void a_fenced_worker_cannot_commit(void **state)
{
    struct env *e = *state;
    struct overtaken o = {.e = e, .other = open_client(e->conninfo)};
    tl_worker *w = simple_worker(e->client, lose_the_lease, &o, TL_ORDERING_KEY, true,
                                 TL_WORKER_OPTIONS(.lease_us = 2 * SECOND_US));

    publish(e, "a", "", 1);
    o.first.seen.until = 1;
    drive_one(w, has_seen, &o.first.seen);
    publish(e, "b", "", 1); /* and goes on */
    o.first.seen.until = 2;
    drive_one(w, has_seen, &o.first.seen);
    drive_one(w, has_each_once, e);
    assert_int_equal(o.second.seen.count, 1);
    tl_worker_free(w);
    tl_client_close(o.other);
}

static tl_verdict publish_more(tl_delivery *d, void *userdata)
{
    struct script *s = userdata;

    see(&s->seen, d);
    if (strcmp(tl_event_type(tl_delivery_event(d)), "first") != 0)
        return TL_DONE;
    assert_int_equal(
        tl_tx_publish(tl_delivery_tx(d), NULL, TL_NEW_EVENT(.type = "second", .data = "{}"), NULL),
        TL_OK);
    return tl_delivery_attempt(d) == 1 ? TL_RETRY : TL_DONE;
}

/* WRK-7 */
static void publishing_belongs_to_the_transaction(void **state)
{
    struct env *e = *state;
    struct script s = {.seen = {.until = 3}};
    tl_worker *w = tx_worker(e, e->client, publish_more, &s, NULL);

    publish(e, "first", "", 1);
    drive_one(w, has_seen, &s.seen);
    drive_one(w, is_settled, e);
    assert_int_equal(number(e, "select count(*) from trunkline.topic_bus where type = 'second'"),
                     1);
    tl_worker_free(w);
}

static tl_verdict stay(tl_delivery *d, void *userdata)
{
    struct script *s = userdata;

    see(&s->seen, d);
    assert_int_equal(take_effect(d), TL_OK);
    assert_null(s->held); /* one transaction, one delivery */
    s->held = d;
    return TL_PENDING;
}

static bool holds(void *arg)
{
    struct script *s = arg;

    return s->held != NULL;
}

static void a_transaction_may_stay_pending(void **state)
{
    struct env *e = *state;
    struct script s = {0};
    tl_worker *w = tx_worker(e, e->client, stay, &s, NULL);

    publish(e, "a", "", 3);
    for (int i = 0; i < 3; i++) {
        tl_delivery *d;

        drive_one(w, holds, &s);
        for (int k = 0; k < 10; k++)
            assert_int_equal(tl_worker_process(w), TL_OK);
        d = s.held;
        s.held = NULL;
        tl_delivery_complete(d, TL_DONE);
    }
    drive_one(w, has_each_once, e);
    tl_worker_free(w);
}

static tl_verdict reject_the_last(tl_delivery *d, void *userdata)
{
    if (tl_event_position(tl_delivery_event(d)) == 20)
        return TL_FAIL;
    return effect(d, userdata);
}

/* In one look: a claim may be on its way. */
static bool has_been_twice(void *arg)
{
    return number(arg, "select (select count(*) from trunkline.leases) + "
                       "(select count(*) from trunkline.retries) + "
                       "(select count(*) from trunkline.replays) + "
                       "(select count(*) from trunkline.dead_letters where state = 'dead')") == 0;
}

/* SUB-7, DLQ-2: what is redriven comes first, though it lies behind what is replayed */
static void a_redriven_event_settles_no_replay(void **state)
{
    struct env *e = *state;
    struct script s = {0};
    tl_worker *w = tx_worker(e, e->client, reject_the_last, &s, NULL);

    publish(e, "a", "", 20);
    s.seen.until = 19;
    drive_one(w, has_seen, &s.seen);
    drive_one(w, is_settled, e);
    tl_worker_free(w);
    test_db_exec(e->admin, "select trunkline.replay('m/h', 'beginning', '19'); "
                           "select trunkline.redrive(subscription => 'm/h')");
    w = tx_worker(e, e->client, effect, &s, NULL);
    drive_one(w, has_been_twice, e);
    assert_int_equal(number(e, "select count(*) from effects"), 19 + 20);
    assert_int_equal(number(e, "select count(distinct \"position\") from effects"), 20);
    tl_worker_free(w);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, tx_setup, env_teardown)
    const struct CMUnitTest tests[] = {
        TEST(effect_and_ack_commit_together),
        TEST(failure_rolls_both_back),
        TEST(done_after_a_failed_statement_is_a_retry),
        TEST(transaction_control_is_refused),
        TEST(an_ended_transaction_is_reported),
        TEST(a_statement_left_running_is_reported),
        TEST(no_verdict_is_a_retry),
        TEST(a_lost_connection_is_a_crash),
        TEST(a_handler_that_kills_its_connection_has_an_end),
        TEST(killed_between_effect_and_commit),
        TEST(a_fenced_worker_cannot_commit),
        TEST(publishing_belongs_to_the_transaction),
        TEST(a_transaction_may_stay_pending),
        TEST(a_redriven_event_settles_no_replay),
    };

    return cmocka_run_group_tests_name("worker_tx", tests, NULL, NULL);
}
