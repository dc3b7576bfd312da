/*
 * pooled.c: the client behind PgBouncer in transaction mode, where a prepared statement may be in
 * another session at the next call: everything works, and the client notices and does without.
 */
#include "client_test.h"

#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT 6543
#define CLIENTS 3
#define SINGLE 40
#define MANY 1500

struct pool {
    struct fixture *f;
    char directory[64];
    pid_t pid;
    char conninfo[256];
};

static void write_config(struct pool *pool)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/ini", pool->directory);
    file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file,
            "[databases]\n* = host=%s port=%s user=%s\n[pgbouncer]\nlisten_addr =\n"
            "listen_port = %d\nunix_socket_dir = %s\nauth_type = any\npool_mode = transaction\n"
            "default_pool_size = 2\nserver_round_robin = 1\nlogfile = %s/log\n",
            PQhost(pool->f->db), PQport(pool->f->db), PQuser(pool->f->db), PORT, pool->directory,
            pool->directory);
    assert_int_equal(fclose(file), 0);
}

/* PgBouncer refuses to be root: be whoever owns the server's socket. */
static void run_bouncer(const struct pool *pool, const struct stat *owner)
{
    char path[128];

    if (getuid() == 0 &&
        (setgroups(0, NULL) != 0 || setgid(owner->st_gid) != 0 || setuid(owner->st_uid) != 0))
        _exit(126);
    snprintf(path, sizeof path, "%s/ini", pool->directory);
    execl("/usr/sbin/pgbouncer", "pgbouncer", "-q", path, (char *)NULL);
    _exit(127);
}

static bool is_up(const struct pool *pool)
{
    int status;

    if (waitpid(pool->pid, &status, WNOHANG) != 0)
        fail_msg("pgbouncer ended with status %d (127: not installed)", WEXITSTATUS(status));
    return PQping(pool->conninfo) == PQPING_OK;
}

static int setup_pool(void **state)
{
    struct pool *pool = calloc(1, sizeof *pool);
    struct stat owner;

    assert_non_null(pool);
    assert_int_equal(setup((void **)&pool->f), 0);
    snprintf(pool->directory, sizeof pool->directory, "/tmp/tl-pool-XXXXXX");
    assert_non_null(mkdtemp(pool->directory));
    assert_int_equal(stat(PQhost(pool->f->db), &owner), 0);
    if (getuid() == 0)
        assert_int_equal(chown(pool->directory, owner.st_uid, owner.st_gid), 0);
    write_config(pool);
    snprintf(pool->conninfo, sizeof pool->conninfo, "host=%s port=%d user=%s dbname=%s",
             pool->directory, PORT, PQuser(pool->f->db), PQdb(pool->f->db));
    pool->pid = fork();
    assert_true(pool->pid >= 0);
    if (pool->pid == 0)
        run_bouncer(pool, &owner);
    for (int i = 0; !is_up(pool); i++) {
        struct timespec pause = {.tv_nsec = 10000000};

        assert_true(i < 12000);
        (void)nanosleep(&pause, NULL);
    }
    *state = pool;
    return 0;
}

static int teardown_pool(void **state)
{
    static const char *const files[] = {"ini", "log"};
    struct pool *pool = *state;
    char path[128];

    (void)kill(pool->pid, SIGTERM);
    (void)waitpid(pool->pid, NULL, 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", pool->directory, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(pool->directory);
    assert_int_equal(teardown((void **)&pool->f), 0);
    free(pool);
    return 0;
}

struct user {
    pthread_t thread;
    const char *conninfo;
    int failures;
    char error[256];
};

static void note(struct user *u, tl_client *c, tl_status status)
{
    if (status == TL_OK)
        return;
    u->failures++;
    snprintf(u->error, sizeof u->error, "%s", message(c));
}

static void *use(void *arg)
{
    struct user *u = arg;
    tl_new_event *events = calloc(MANY, sizeof *events);
    tl_client *c;

    for (size_t i = 0; i < MANY; i++)
        events[i] = (tl_new_event){.size = sizeof events[i], .type = "many"};
    note(u, c, tl_client_open(u->conninfo, NULL, &c));
    for (int i = 0; i < SINGLE; i++)
        note(u, c, tl_publish(c, NULL, TL_NEW_EVENT(.type = "single"), NULL));
    note(u, c, tl_publish_batch(c, NULL, events, MANY, NULL));
    note(u, c, tl_publish_batch(c, NULL, events, 10, NULL));
    c = tl_client_close(c);
    free(events);
    return NULL;
}

static void transaction_pooling_works(void **state)
{
    struct pool *pool = *state;
    struct user users[CLIENTS];

    memset(users, 0, sizeof users);
    for (int i = 0; i < CLIENTS; i++) {
        users[i].conninfo = pool->conninfo;
        assert_int_equal(pthread_create(&users[i].thread, NULL, use, &users[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_join(users[i].thread, NULL), 0);
    for (int i = 0; i < CLIENTS; i++) {
        if (users[i].failures > 0)
            fail_msg("client %d: %d failures, the last: %s", i, users[i].failures, users[i].error);
    }
    assert_int_equal(event_count(pool->f->db), CLIENTS * (SINGLE + MANY + 10));
}

static tl_verdict count(tl_delivery *d, void *seen)
{
    (void)d;
    ++*(int *)seen;
    return TL_DONE;
}

/* What a worker leaves in its session, others behind the proxy would inherit: a lock of the sentinel,
 * so that nobody can be one, or synchronous_commit = off, so that their commits may be lost. */
static void a_worker_leaves_nothing_behind(void **state)
{
    struct pool *pool = *state;
    tl_client *c = NULL;
    tl_router *r = NULL;
    tl_worker *w = NULL;
    tl_worker_stats stats = {0};
    int seen = 0;

    assert_int_equal(tl_client_open(pool->conninfo, NULL, &c), TL_OK);
    assert_int_equal(tl_router_new(NULL, &r), TL_OK);
    assert_int_equal(tl_router_on(r, "**", count, &seen, NULL), TL_OK);
    assert_int_equal(tl_worker_new(c, "m", r, TL_WORKER_OPTIONS(.poll_interval_us = 10000), &w),
                     TL_OK);
    assert_int_equal(tl_publish(c, NULL, TL_NEW_EVENT(.type = "a"), NULL), TL_OK);
    for (int i = 0; seen == 0 || stats.polls < 20; i++) {
        struct pollfd fd = {.fd = tl_worker_fd(w), .events = POLLIN};

        assert_true(i < 24000);
        assert_int_equal(tl_worker_process(w), TL_OK);
        (void)poll(&fd, 1, 5);
        tl_worker_get_stats(w, &stats);
    }
    assert_int_equal(seen, 1);
    assert_false(stats.is_listening);
    assert_false(stats.is_sentinel);
    assert_int_equal(query_number(pool->f->db,
                                  "select count(*) from pg_locks l join pg_database d on d.oid = "
                                  "l.database and d.datname = current_database() where "
                                  "l.locktype = 'advisory'"),
                     0);
    for (int i = 0; i < 4; i++) {
        PGresult *res = PQexec(tl_client_pgconn(c), "show synchronous_commit");

        assert_string_equal(PQgetvalue(res, 0, 0), "on");
        PQclear(res);
    }
    tl_worker_free(w);
    tl_router_free(r);
    tl_client_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(transaction_pooling_works, setup_pool, teardown_pool),
        cmocka_unit_test_setup_teardown(a_worker_leaves_nothing_behind, setup_pool, teardown_pool),
    };

    return cmocka_run_group_tests_name("pooled", tests, NULL, NULL);
}
