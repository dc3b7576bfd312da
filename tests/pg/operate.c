/* operate.c: pause, resume, reset, drain, slots, replay, dead letters: what the C calls make of the SQL.
 * What they promise in every race is proved in tests/sql. */
#include "client_test.h"

static void publish(struct fixture *f, int n)
{
    for (int i = 0; i < n; i++)
        assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "n.x", .key = "k"), NULL),
                      TL_OK);
}

static size_t claim_and_ack(struct fixture *f, const char *name)
{
    tl_batch *batch = NULL;
    tl_status status = tl_claim(f->c, name, NULL, &batch);
    size_t count = tl_batch_count(batch);

    if (status != TL_NOTHING) {
        assert_status(f->c, status, TL_OK);
        assert_status(f->c, tl_ack(f->c, tl_batch_token(batch), 0, NULL), TL_OK);
    }
    batch = tl_batch_free(batch);
    return count;
}

/* SUB-2 */
static void pause_and_resume(void **state)
{
    struct fixture *f = *state;

    assert_status(f->c, tl_subscribe(f->c, "s", "**", NULL), TL_OK);
    publish(f, 2);
    assert_status(f->c, tl_subscription_pause(f->c, "s", "moving"), TL_OK);
    assert_status(f->c, tl_subscription_pause(f->c, "s", NULL), TL_NOTHING);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.subscriptions WHERE NOT "
                                         "active AND pause_reason = 'moving'"),
                     1);
    assert_int_equal(claim_and_ack(f, "s"), 0);
    assert_status(f->c, tl_subscription_resume(f->c, "s", true), TL_E_CONFLICT);
    assert_contains(message(f->c), "not stopped by an event");
    assert_status(f->c, tl_subscription_resume(f->c, "s", false), TL_OK);
    assert_status(f->c, tl_subscription_resume(f->c, "s", false), TL_NOTHING);
    assert_int_equal(claim_and_ack(f, "s"), 2);
    assert_status(f->c, tl_subscription_pause(f->c, "t", NULL), TL_E_NOTFOUND);
    assert_status(f->c, tl_subscription_pause(f->c, NULL, NULL), TL_E_INVALID);
    assert_status(f->c, tl_subscription_resume(f->c, "t", false), TL_E_NOTFOUND);
}

/* SUB-5, SUB-7 */
static void reset_drain_unsubscribe(void **state)
{
    struct fixture *f = *state;
    tl_reset_result result = {0};
    int64_t upto = -1, begin_us;
    tl_batch *batch = NULL;

    assert_status(f->c, tl_subscribe(f->c, "s", "**", NULL), TL_OK);
    begin_us =
        query_number(f->db, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8");
    publish(f, 4);
    assert_status(f->c, tl_claim(f->c, "s", TL_CLAIM_OPTIONS(.max_events = 2), &batch), TL_OK);
    assert_status(f->c, tl_nack(f->c, tl_batch_token(batch), 1, "x", NULL), TL_OK);
    assert_status(f->c, tl_subscription_reset(f->c, "s", TL_START_POSITION, 3, &result), TL_OK);
    assert_int_equal(result.cursor, 3);
    assert_int_equal(result.leases, 1);
    assert_int_equal(result.retries, 1);
    assert_int_equal(result.replays, 0);
    assert_status(f->c, tl_ack(f->c, tl_batch_token(batch), 0, NULL), TL_E_FENCED);
    batch = tl_batch_free(batch);
    assert_int_equal(claim_and_ack(f, "s"), 1);
    assert_status(f->c, tl_subscription_reset(f->c, "s", TL_START_TIME, begin_us, NULL), TL_OK);
    assert_int_equal(claim_and_ack(f, "s"), 4);
    assert_status(f->c, tl_subscription_reset(f->c, "s", TL_START_BEGINNING, 0, &result), TL_OK);
    assert_int_equal(result.cursor, 0);
    assert_status(f->c, tl_subscription_reset(f->c, "s", TL_START_POSITION, 99, NULL),
                  TL_E_INVALID);
    assert_contains(message(f->c), "start_at 99");
    assert_status(f->c, tl_subscription_reset(f->c, "s", TL_START_POSITION, -1, NULL),
                  TL_E_INVALID);
    assert_status(f->c, tl_subscription_reset(f->c, "s", (tl_start)4, 0, NULL), TL_E_INVALID);
    assert_status(f->c, tl_subscription_reset(f->c, "t", TL_START_END, 0, NULL), TL_E_NOTFOUND);

    assert_status(f->c, tl_unsubscribe(f->c, "s"), TL_E_CONFLICT);
    assert_contains(message(f->c), "not settled");
    assert_status(f->c, tl_subscription_drain(f->c, "s", &upto), TL_OK);
    assert_int_equal(upto, 4);
    assert_int_equal(query_number(f->db, "SELECT drain_at FROM trunkline.subscriptions"), 4);
    assert_status(f->c, tl_subscription_pause(f->c, "s", NULL), TL_OK);
    assert_status(f->c, tl_subscription_drain(f->c, "s", NULL), TL_E_CONFLICT);
    assert_status(f->c, tl_subscription_drain(f->c, "t", NULL), TL_E_NOTFOUND);
    assert_status(f->c, tl_unsubscribe_force(f->c, "s"), TL_OK);
    assert_status(f->c, tl_unsubscribe_force(f->c, "s"), TL_E_NOTFOUND);
}

/* SUB-10 */
static void slots_and_replay(void **state)
{
    struct fixture *f = *state;
    tl_batch *batch = NULL;
    bool is_in_force = false;
    int64_t replay = -1, events = -1;

    assert_status(f->c, tl_subscribe(f->c, "s", "**", NULL), TL_OK);
    publish(f, 4);
    assert_int_equal(claim_and_ack(f, "s"), 4);
    assert_status(
        f->c,
        tl_replay(f->c, "s",
                  TL_REPLAY_OPTIONS(.start = TL_START_POSITION, .start_value = 1,
                                    .end = TL_START_POSITION, .end_value = 3, .dry_run = true),
                  &replay, &events),
        TL_OK);
    assert_int_equal(replay, -1);
    assert_int_equal(events, 2);
    assert_status(f->c, tl_replay(f->c, "s", NULL, &replay, &events), TL_NOTHING);
    assert_int_equal(events, 0);
    assert_status(f->c,
                  tl_replay(f->c, "s", TL_REPLAY_OPTIONS(.start = TL_START_BEGINNING, .rate = 2.5),
                            &replay, &events),
                  TL_OK);
    assert_int_equal(events, 4);
    assert_int_equal(
        query_number(f->db,
                     "SELECT replay_id FROM trunkline.replays WHERE rate = 2.5 AND upto = 4"),
        replay);
    assert_status(f->c, tl_subscription_set_slots(f->c, "s", 2, &is_in_force), TL_E_CONFLICT);
    assert_status(f->c, tl_replay_cancel(f->c, replay), TL_OK);
    assert_status(f->c, tl_replay_cancel(f->c, replay), TL_E_NOTFOUND);
    assert_status(f->c, tl_replay(f->c, "s", TL_REPLAY_OPTIONS(.rate = -1), NULL, NULL),
                  TL_E_INVALID);
    assert_status(f->c, tl_replay(f->c, "s", TL_REPLAY_OPTIONS(.end = (tl_start)9), NULL, NULL),
                  TL_E_INVALID);
    assert_contains(message(f->c), "end is not");
    assert_status(f->c, tl_replay(f->c, "t", NULL, NULL, NULL), TL_E_NOTFOUND);

    assert_status(f->c, tl_subscription_set_slots(f->c, "s", 3, &is_in_force), TL_OK);
    assert_true(is_in_force);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.cursors"), 3);
    for (int i = 0; i < 9; i++) { /* some in each slot */
        char key[2] = {(char)('a' + i), '\0'};

        assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "n.x", .key = key), NULL),
                      TL_OK);
    }
    assert_status(f->c, tl_claim(f->c, "s", NULL, &batch), TL_OK);
    assert_status(f->c, tl_subscription_set_slots(f->c, "s", 1, &is_in_force), TL_OK);
    assert_false(is_in_force);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.cursors"), 3);
    batch = tl_batch_free(batch);
    assert_status(f->c, tl_subscription_set_slots(f->c, "s", 0, NULL), TL_E_INVALID);
    assert_status(f->c, tl_subscription_set_slots(f->c, "s", UINT32_MAX, NULL), TL_E_INVALID);
    assert_status(f->c, tl_subscription_set_slots(f->c, "t", 1, NULL), TL_E_NOTFOUND);
}

/* RET-7 */
static void dead_letters(void **state)
{
    struct fixture *f = *state;
    tl_batch *batch = NULL;
    int64_t n = -1, since_us, until_us;
    int64_t ids[2];

    assert_status(f->c, tl_subscribe(f->c, "s", "**", TL_SUBSCRIBE_OPTIONS(.max_attempts = 1)),
                  TL_OK);
    since_us =
        query_number(f->db, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8");
    publish(f, 6);
    assert_status(
        f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "other", .tenant_id = "t"), NULL), TL_OK);
    assert_status(f->c, tl_claim(f->c, "s", NULL, &batch), TL_OK);
    for (int i = 1; i <= 7; i++)
        assert_status(f->c, tl_nack(f->c, tl_batch_token(batch), i, "no", NULL), TL_OK);
    batch = tl_batch_free(batch);
    until_us =
        query_number(f->db, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8");
    ids[0] = query_number(f->db, "SELECT min(dead_letter_id) FROM trunkline.dead_letters");
    ids[1] = ids[0] + 1;

    /* every member of the filter has its effect */
    const struct {
        tl_dead_filter filter;
        int64_t expected;
    } cases[] = {
        {{.ids = ids, .id_count = 2}, 2},
        {{.ids = ids, .id_count = 0}, 0},
        {{.subscription = "s"}, 7},
        {{.pattern = "other"}, 1},
        {{.pattern = "**"}, 7},
        {{.reason = "max_attempts"}, 7},
        {{.reason = "crashed"}, 0},
        {{.tenant_id = "t"}, 1},
        {{.since_us = since_us}, 7},
        {{.since_us = until_us}, 0},
        {{.until_us = until_us}, 7},
        {{.until_us = since_us}, 0},
        {{.subscription = "s", .limit = 3}, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl_dead_filter filter = cases[i].filter;

        filter.size = sizeof filter;
        assert_status(f->c, tl_dead_redrive(f->c, &filter, 0, true, &n), TL_OK);
        assert_int_equal(n, cases[i].expected);
    }
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.dead_letters WHERE state "
                                         "= 'dead'"),
                     7);

    assert_status(
        f->c, tl_dead_redrive(f->c, TL_DEAD_FILTER(.ids = ids, .id_count = 2), 0.001, false, &n),
        TL_OK);
    assert_int_equal(n, 2);
    assert_status(f->c,
                  tl_dead_redrive(f->c, TL_DEAD_FILTER(.ids = ids, .id_count = 2), 0, false, &n),
                  TL_OK);
    assert_int_equal(n, 0); /* on their way */
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.retries WHERE "
                                         "next_attempt_at > clock_timestamp() + interval '10 min'"),
                     1); /* the second, by the rate */
    assert_status(f->c, tl_dead_discard(f->c, TL_DEAD_FILTER(.pattern = "other"), "junk", true, &n),
                  TL_OK);
    assert_status(f->c,
                  tl_dead_discard(f->c, TL_DEAD_FILTER(.pattern = "other"), "junk", false, NULL),
                  TL_OK);
    assert_status(
        f->c,
        tl_dead_resolve(f->c, TL_DEAD_FILTER(.subscription = "s", .limit = 1), NULL, false, &n),
        TL_OK);
    assert_int_equal(n, 1);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.dead_letters WHERE "
                                         "state = 'discarded' AND note = 'junk'"),
                     1);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.dead_letters WHERE "
                                         "state = 'resolved' AND note IS NULL"),
                     1);

    ids[1] = 1000000;
    assert_status(
        f->c, tl_dead_resolve(f->c, TL_DEAD_FILTER(.ids = ids, .id_count = 2), NULL, false, NULL),
        TL_E_NOTFOUND);
    assert_contains(message(f->c), "1000000");
    assert_status(f->c, tl_dead_redrive(f->c, NULL, 0, false, NULL), TL_E_INVALID);
    assert_contains(message(f->c), "no condition");
    assert_status(f->c, tl_dead_redrive(f->c, TL_DEAD_FILTER(.pattern = "**"), -2, false, NULL),
                  TL_E_INVALID);
    assert_status(f->c, tl_dead_redrive(f->c, TL_DEAD_FILTER(.subscription = "t"), 0, false, NULL),
                  TL_E_NOTFOUND);
    assert_status(f->c,
                  tl_dead_discard(f->c, TL_DEAD_FILTER(.pattern = "**", .limit = UINT32_MAX), NULL,
                                  false, NULL),
                  TL_E_INVALID);
    assert_status(f->c, tl_unsubscribe_force(f->c, "s"), TL_OK);
    ids[1] = ids[0] + 3;
    assert_status(f->c,
                  tl_dead_redrive(f->c, TL_DEAD_FILTER(.ids = ids, .id_count = 2), 0, false, NULL),
                  TL_E_CONFLICT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(pause_and_resume),
        test_with_client(reset_drain_unsubscribe),
        test_with_client(slots_and_replay),
        test_with_client(dead_letters),
    };

    return cmocka_run_group_tests_name("operate", tests, NULL, NULL);
}
