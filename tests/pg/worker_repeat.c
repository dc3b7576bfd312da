/*
 * worker_repeat.c: RET-8: an ack whose answer is lost with the connection is repeated, and what
 * failed meanwhile is not lost with it.
 */
#include "worker_env.h"

#include <dirent.h>
#include <sys/socket.h>
#include <unistd.h>

#define LEASE_US (8 * SECOND_US)

struct held {
    struct seen seen;
    tl_delivery *deliveries[8];
    int count;
};

/* First attempts stay in flight, later ones are done. */
static tl_verdict hold_first(tl_delivery *d, void *userdata)
{
    struct held *h = userdata;

    see(&h->seen, d);
    if (tl_delivery_attempt(d) > 1)
        return TL_DONE;
    assert_true(h->count < 8);
    h->deliveries[h->count++] = d;
    return TL_PENDING;
}

static bool holds_four(void *arg)
{
    return ((struct held *)arg)->count == 4;
}

static bool is_past(void *arg)
{
    return clock_us() >= *(uint64_t *)arg;
}

static bool is_all_settled(void *arg)
{
    struct env *e = arg;

    return number(e, "select count(*) from trunkline.leases") == 0 &&
           number(e, "select count(*) from trunkline.retries") == 0;
}

/* Throw away what has arrived on every connection but `spared`, and cut them. */
static void cut_connections(const int *spared, int spared_count)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    int cut = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        char ignored[4096];
        bool is_spared = false;

        for (int i = 0; i < spared_count; i++)
            is_spared = is_spared || fd == spared[i];
        if (is_spared || getpeername(fd, (struct sockaddr *)&peer, &len) != 0)
            continue;
        while (recv(fd, ignored, sizeof ignored, MSG_DONTWAIT) > 0) {
        }
        cut += shutdown(fd, SHUT_RDWR) == 0;
    }
    closedir(dir);
    assert_int_equal(cut, 1); /* the worker's */
}

static void a_failure_beside_a_lost_answer_is_kept(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(1, sizeof *h);
    int spared[2] = {PQsocket(e->admin), PQsocket(tl_client_pgconn(e->client))};
    uint64_t until_us;
    tl_worker *w = simple_worker(e->client, hold_first, h, TL_ORDERING_KEY, false,
                                 TL_WORKER_OPTIONS(.lease_us = LEASE_US));

    publish(e, "a", NULL, 4);
    drive_one(w, holds_four, h);
    /* the ack of the first event is sent at half the lease, and waits there */
    test_db_exec(e->admin, "begin");
    test_db_exec(e->admin, "select from trunkline.leases for update");
    tl_delivery_complete(h->deliveries[0], TL_RETRY);
    until_us = clock_us() + LEASE_US * 5 / 8;
    drive_one(w, is_past, &until_us);
    assert_int_equal(tl_worker_process(w), TL_OK); /* at the latest now */
    test_db_exec(e->admin, "commit");
    for (until_us = clock_us() + DEADLINE_US;
         number(e, "select count(*) from trunkline.retries") == 0;)
        assert_true(clock_us() < until_us);
    cut_connections(spared, 2); /* it was executed, and the worker will not hear so */

    tl_delivery_complete(h->deliveries[1], TL_RETRY);
    tl_delivery_complete(h->deliveries[2], TL_DONE);
    tl_delivery_complete(h->deliveries[3], TL_DONE);
    drive_one(w, is_all_settled, e);
    assert_int_equal(h->seen.count, 6); /* four, and the two that failed once more */
    assert_int_equal(h->seen.positions[4] + h->seen.positions[5],
                     h->seen.positions[0] + h->seen.positions[1]);
    assert_int_equal(stats_of(w).reconnects, 1);
    tl_worker_free(w);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_failure_beside_a_lost_answer_is_kept, env_setup,
                                        env_teardown),
    };

    return cmocka_run_group_tests_name("RET-8 worker repeat", tests, NULL, NULL);
}
