/*
 * bell.c: see bell.h. Every statement is followed by a sync of its own, so that one failing leaves
 * its neighbours alone; answers come back in the order of a queue.
 */
#include "bell.h"

#include "clock.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define UNUSED_LEASE_US 1000000 /* of a claim of nothing */

enum statement_id {
    ST_TICK,
    ST_DUE,
    ST_DISARM,
    ST_RELEASE,
    ST_ELECT,
    ST_PROBE,
    ST_WAKE,
    ST_ARM,
    ST_LISTEN,
    ST_JOIN,
    ST_SETTINGS,
    ST_WHO,
    ST_COUNT,
};

static const char *const statement_texts[ST_COUNT] = {
    [ST_TICK] = "select subscription_id, token, attempt, " TL__EVENT_LIST
                ", members from @extschema@.claim_live($1::bigint[], $2::integer[], $3::interval, "
                "$4::text, $5::integer, $6::bigint, $7::boolean)",
    [ST_DUE] = "select @extschema@.next_due($1::bigint[])",
    [ST_DISARM] = "select @extschema@.bell_disarm()",
    [ST_RELEASE] = "select @extschema@.sentinel_release()",
    [ST_ELECT] = "select @extschema@.sentinel_try()",
    [ST_PROBE] = "select pg_notify(@extschema@.channel(), 'probe:' || $1::text)",
    [ST_WAKE] = "select @extschema@.wake_listeners()",
    [ST_ARM] = "select @extschema@.bell_arm()",
    /* LISTEN takes no parameter; the server quotes the name. */
    [ST_LISTEN] = "do $tl$ begin execute format('listen %I', @extschema@.channel()); end $tl$",
    [ST_JOIN] = "select @extschema@.listener_join()",
    /* Losing a claim or an ack in a crash of the server only repeats a delivery. */
    [ST_SETTINGS] = "select set_config('synchronous_commit', 'off', false), "
                    "set_config('default_transaction_isolation', 'read committed', false), "
                    /* the log is read along its primary key, whatever statistics say */
                    "set_config('enable_seqscan', 'off', false), "
                    "set_config('enable_bitmapscan', 'off', false), "
                    "set_config('enable_sort', 'off', false), set_config('jit', 'off', false), "
                    "set_config('statement_timeout', '0', false), "
                    "set_config('idle_session_timeout', '0', false)",
    [ST_WHO] = "select pg_backend_pid()::bigint",
};

enum answer_kind {
    ANSWER_WHO,
    ANSWER_SETUP,
    ANSWER_SETUP_LAST,
    ANSWER_PREPARE,
    ANSWER_OWNER,
    ANSWER_NEXT,
    ANSWER_TICK,
    ANSWER_DUE,
    ANSWER_ELECT,
    ANSWER_ARM,
    ANSWER_IGNORED,
};

struct answer {
    enum answer_kind kind;
    bool has_sync; /* a sync follows: its result ends this entry */
    tl__bell_answer_fn fn;
    const void *arg;
};

enum phase { OFFLINE, CONNECTING, SETTING_UP, READY };

struct tl__bell {
    const struct tl__settings *settings;
    const struct tl__bell_owner *calls;
    void *owner;
    struct tl_error *error;
    struct tl__waiter_policy policy;
    struct tl__bell_counts counts;
    struct tl__statement statements[ST_COUNT];
    uint64_t connection; /* counts connections, for prepared_on */

    enum phase phase;
    PGconn *conn;
    int epoll_fd;
    int wake_fd;
    int watched_fd; /* -1: none */
    short watched_events;
    uint64_t offline_until_us;
    uint64_t answer_until_us; /* of connecting or of the oldest answer */
    uint64_t backoff_us;
    uint32_t attempts;
    bool can_listen;
    bool is_unprepared; /* a proxy shares sessions: nothing may live in one */
    bool is_unflushed;
    bool is_broken; /* a statement could not be sent whole: whose the next answer is nobody knows */
    char nonce[24];

    struct answer *answers; /* ring */
    size_t answers_size, answers_first, answers_count;
    size_t policy_answers; /* of these, what the policy waits for */
    PGresult *answering;   /* what an answer function sees */
};

/* ------------------------------------------------------------------------------- life -- */

tl_status tl__bell_new(const struct tl__settings *settings, const struct tl__bell_owner *calls,
                       void *owner, uint64_t poll_interval_us, bool can_listen, int wake_fd,
                       struct tl_error *error, struct tl__bell **ret)
{
    struct tl__bell *b = calloc(1, sizeof *b);
    struct epoll_event event = {.events = EPOLLIN};
    uint64_t seed = 0;

    if (b == NULL)
        return tl__error_nomem(error);
    b->settings = settings;
    b->calls = calls;
    b->owner = owner;
    b->error = error;
    b->wake_fd = wake_fd;
    b->watched_fd = -1;
    b->can_listen = can_listen;
    b->is_unprepared = !can_listen;
    b->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    event.data.fd = wake_fd;
    if (b->epoll_fd < 0 || epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, wake_fd, &event) != 0) {
        tl__bell_free(b);
        return tl__error_set(error, TL_E_NOMEM, NULL, "cannot make an epoll descriptor");
    }
    for (int i = 0; i < ST_COUNT; i++) {
        if (tl__statement_init(&b->statements[i], error, settings->schema_quoted, NULL,
                               statement_texts[i]) != TL_OK) {
            tl__bell_free(b);
            return TL_E_NOMEM;
        }
    }
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = tl__clock_us() ^ (uint64_t)getpid() << 32;
    tl__waiter_policy_init(&b->policy, poll_interval_us, can_listen, seed);
    (void)snprintf(b->nonce, sizeof b->nonce, "%016" PRIx64, seed);
    *ret = b;
    return TL_OK;
}

static void watch(struct tl__bell *b, int fd, short events)
{
    struct epoll_event event = {.data.fd = fd};

    if (fd == b->watched_fd && events == b->watched_events)
        return;
    if (b->watched_fd >= 0 && fd != b->watched_fd)
        (void)epoll_ctl(b->epoll_fd, EPOLL_CTL_DEL, b->watched_fd, NULL);
    b->watched_fd = fd;
    b->watched_events = events;
    if (fd < 0)
        return;
    event.events = ((events & POLLIN) ? EPOLLIN : 0u) | ((events & POLLOUT) ? EPOLLOUT : 0u);
    if (epoll_ctl(b->epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0 && errno == ENOENT)
        (void)epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static struct answer *pop_answer(struct tl__bell *b)
{
    struct answer *a = &b->answers[b->answers_first];

    b->answers_first = (b->answers_first + 1) % b->answers_size;
    b->answers_count--;
    return a;
}

static void disconnect(struct tl__bell *b)
{
    watch(b, -1, 0);
    PQfinish(b->conn);
    b->conn = NULL;
    b->phase = OFFLINE;
    b->is_unflushed = b->is_broken = false;
    b->policy_answers = 0;
    tl__waiter_policy_disconnected(&b->policy);
    while (b->answers_count > 0) {
        struct answer a = *pop_answer(b);

        if (a.fn != NULL)
            a.fn(b->owner, (void *)(uintptr_t)a.arg, NULL);
    }
}

struct tl__bell *tl__bell_free(struct tl__bell *b)
{
    if (b == NULL)
        return NULL;
    for (size_t i = 0; i < b->answers_count; i++)
        b->answers[(b->answers_first + i) % b->answers_size].fn = NULL;
    disconnect(b);
    for (int i = 0; i < ST_COUNT; i++)
        tl__statement_done(&b->statements[i]);
    if (b->epoll_fd >= 0)
        close(b->epoll_fd);
    free(b->answers);
    free(b);
    return NULL;
}

/* ------------------------------------------------------------------------ connecting -- */

/* The connection failed or is lost: try again after a pause between base and three times the last
 * one ("decorrelated jitter"), so that many workers do not come back in step. */
static tl_status lose(struct tl__bell *b, uint64_t now_us, const char *what)
{
    uint64_t base_us = b->settings->reconnect_base_us;
    uint64_t spread_us = b->backoff_us * 3 > base_us ? b->backoff_us * 3 - base_us : 0;
    uint64_t random = 0;
    bool was_ready = b->phase == READY;

    tl__log(b->settings, was_ready || b->attempts == 0 ? TL_LOG_WARN : TL_LOG_DEBUG, "%s: %s", what,
            tl_error_message(b->error));
    disconnect(b);
    b->attempts++;
    if (b->settings->reconnect_attempts > 0 && b->attempts > b->settings->reconnect_attempts) {
        b->offline_until_us = UINT64_MAX;
        return TL_E_CONNECTION;
    }
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        random = now_us;
    b->backoff_us = base_us + (spread_us > 0 ? random % spread_us : 0);
    if (b->backoff_us > b->settings->reconnect_cap_us)
        b->backoff_us = b->settings->reconnect_cap_us;
    b->offline_until_us = now_us + b->backoff_us;
    return TL_OK;
}

static tl_status lose_conn(struct tl__bell *b, uint64_t now_us)
{
    tl__error_from_conn(b->error, b->conn, false);
    return lose(b, now_us, "connection lost");
}

/* Room for n more entries, so that what was given to libpq never lacks its entry. */
static bool reserve_answers(struct tl__bell *b, size_t n)
{
    size_t size = b->answers_size > 0 ? b->answers_size * 2 : 32;
    struct answer *answers;

    if (b->answers_size - b->answers_count >= n)
        return true;
    answers = calloc(size, sizeof *answers);
    if (answers == NULL)
        return false;
    for (size_t i = 0; i < b->answers_count; i++)
        /* Some answers mean some size. NOLINTNEXTLINE(clang-analyzer-core.DivideZero) */
        answers[i] = b->answers[(b->answers_first + i) % b->answers_size];
    free(b->answers);
    b->answers = answers;
    b->answers_size = size;
    b->answers_first = 0;
    return true;
}

static void push_answer(struct tl__bell *b, struct answer a)
{
    b->answers[(b->answers_first + b->answers_count++) % b->answers_size] = a;
}

static bool give_statement(struct tl__bell *b, struct tl__statement *st, const struct tl__params *p,
                           struct answer a)
{
    static const struct tl__params none = TL_PARAMS_INIT;

    if (p == NULL)
        p = &none;
    if (!reserve_answers(b, 2))
        return false;
    if (b->answers_count == 0)
        b->answer_until_us = tl__deadline_us(tl__clock_us(), b->settings->timeout_us);
    if (b->is_unprepared || st->is_planned_anew) {
        if (!PQsendQueryParams(b->conn, st->sql, p->n, NULL, p->values, p->lengths, p->formats, 1))
            return false;
    } else {
        if (st->prepared_on != b->connection) {
            if (!PQsendPrepare(b->conn, st->name, st->sql, 0, NULL))
                return false;
            st->prepared_on = b->connection;
            push_answer(b, (struct answer){.kind = ANSWER_PREPARE});
        }
        if (!PQsendQueryPrepared(b->conn, st->name, p->n, p->values, p->lengths, p->formats, 1))
            return false;
    }
    push_answer(b, a);
    b->is_unflushed = true;
    if (!a.has_sync || PQpipelineSync(b->conn))
        return true;
    /* the sender hears of it by our result, and may be gone when the answers are called off */
    b->answers[(b->answers_first + b->answers_count - 1) % b->answers_size].fn = NULL;
    return false;
}

/* Give one statement to libpq, with its sync unless it shares the next one's. What libpq refuses, and
 * lives on, costs the connection all the same. */
static bool send_statement(struct tl__bell *b, struct tl__statement *st, const struct tl__params *p,
                           struct answer a)
{
    b->is_broken = b->is_broken || !give_statement(b, st, p, a);
    return !b->is_broken;
}

/*
 * First ask who answers. Behind a proxy that pools transactions it is another process than the one we
 * connected to, and whatever we left in its session would stay with its other users: settings,
 * locks, a LISTEN. Then nothing of the kind is done and the waiter polls.
 */
static bool set_up(struct tl__bell *b)
{
    bool is_unprepared = b->is_unprepared;
    bool is_sent;

    if (PQsetnonblocking(b->conn, 1) != 0 || !PQenterPipelineMode(b->conn))
        return false;
    b->connection++;
    if (!b->can_listen) {
        b->phase = READY;
        return true;
    }
    b->phase = SETTING_UP;
    b->is_unprepared = true;
    is_sent = send_statement(b, &b->statements[ST_WHO], NULL,
                             (struct answer){.kind = ANSWER_WHO, .has_sync = true});
    b->is_unprepared = is_unprepared;
    return is_sent;
}

/* LISTEN before the first look, in this order, so that nothing falls between the two. */
static void set_up_session(struct tl__bell *b)
{
    /* a failure shows when the answers are read */
    (void)(send_statement(b, &b->statements[ST_SETTINGS], NULL,
                          (struct answer){.kind = ANSWER_SETUP}) &&
           send_statement(b, &b->statements[ST_LISTEN], NULL,
                          (struct answer){.kind = ANSWER_SETUP}) &&
           send_statement(b, &b->statements[ST_JOIN], NULL,
                          (struct answer){.kind = ANSWER_SETUP_LAST, .has_sync = true}));
}

static void became_ready(struct tl__bell *b, uint64_t now_us)
{
    b->phase = READY;
    if (b->attempts > 0)
        tl__log(b->settings, TL_LOG_INFO, "connected again");
    if (b->connection > 1)
        b->counts.reconnects++;
    tl__waiter_policy_connected(&b->policy, now_us);
}

static tl_status start_connecting(struct tl__bell *b, uint64_t now_us)
{
    b->conn = tl__connect_start(b->settings, b->error);
    if (b->conn == NULL) {
        if (b->error->status != TL_E_CONNECTION)
            return b->error->status;
        return lose(b, now_us, "cannot connect");
    }
    b->phase = CONNECTING;
    b->answer_until_us = tl__deadline_us(now_us, b->settings->connect_timeout_us);
    watch(b, PQsocket(b->conn), POLLOUT);
    return TL_OK;
}

static tl_status go_on_connecting(struct tl__bell *b, uint64_t now_us)
{
    struct pollfd fd = {.fd = PQsocket(b->conn), .events = b->watched_events};
    short events = 0;
    tl_status status;

    if (now_us >= b->answer_until_us) {
        tl__error_set(b->error, TL_E_CONNECTION, NULL, "no answer from the server");
        return lose(b, now_us, "cannot connect");
    }
    if (poll(&fd, 1, 0) <= 0)
        return TL_OK;
    status = tl__connect_poll(b->conn, b->error, &events);
    if (status == TL_NOTHING) {
        /* libpq may have closed the socket and opened another under the same number */
        watch(b, -1, 0);
        watch(b, PQsocket(b->conn), events);
        return TL_OK;
    }
    if (status != TL_OK)
        return lose(b, now_us, "cannot connect");
    if (!set_up(b))
        return lose_conn(b, now_us);
    watch(b, -1, 0);
    watch(b, PQsocket(b->conn), POLLIN);
    if (b->phase == READY)
        became_ready(b, now_us);
    return TL_OK;
}

/* --------------------------------------------------------------------------- answers -- */

static bool answer_bool(const PGresult *res)
{
    return PQntuples(res) == 1 && tl__cell_bool(res, 0, 0);
}

/* In claimed rows; those of a range, at most, are between "position" and version. */
static uint64_t count_events(const PGresult *res)
{
    enum { TOKEN = 1, POSITION = 3, ID = 4, VERSION = 8 };
    uint64_t events = (uint64_t)PQntuples(res) - 1;

    for (int row = 1; row < PQntuples(res); row++) {
        if (PQgetisnull(res, row, ID) && !PQgetisnull(res, row, TOKEN) &&
            !PQgetisnull(res, row, VERSION))
            events +=
                (uint64_t)(tl__cell_i64(res, row, VERSION) - tl__cell_i64(res, row, POSITION));
    }
    return events;
}

static void answer_tick(struct tl__bell *b, PGresult *res, uint64_t now_us)
{
    enum { OTHERS = 2, ACTIVITY = 3, HELD = 15 };
    uint64_t rows = count_events(res);
    uint64_t others = (uint64_t)tl__cell_i64(res, 0, OTHERS);
    bool is_held = PQgetisnull(res, 0, HELD) || tl__cell_i64(res, 0, HELD) != 0;
    bool has_changed = tl__waiter_policy_ticked(&b->policy, now_us, tl__cell_i64(res, 0, ACTIVITY),
                                                is_held, others, rows);

    /* Only now: a server that lets us in and then fails every look gets longer pauses too. */
    b->attempts = 0;
    b->backoff_us = 0;
    b->counts.ticks++;
    b->calls->claimed(b->owner, res, has_changed);
}

/* A result of the entry at the head. Returns false when the connection is of no use any more; the
 * error is set. Takes res. */
static bool take_result(struct tl__bell *b, PGresult *res, uint64_t now_us)
{
    struct answer *a = &b->answers[b->answers_first];
    ExecStatusType status = PQresultStatus(res);
    bool is_good = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;

    if (a->kind == ANSWER_OWNER || a->kind == ANSWER_NEXT) {
        b->answering = res;
        if (a->kind == ANSWER_NEXT)
            b->calls->next_done(b->owner, res);
        else if (a->fn != NULL)
            a->fn(b->owner, (void *)(uintptr_t)a->arg, res);
        a->fn = NULL;
        PQclear(tl__bell_take_result(b));
        return true;
    }
    if (!is_good || (a->kind == ANSWER_TICK && PQntuples(res) < 1)) {
        const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

        /* prepared statement unknown or known already: sessions are shared behind our back */
        if (sqlstate != NULL && (strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "42P05") == 0))
            b->is_unprepared = true;
        if (a->kind != ANSWER_PREPARE || status == PGRES_FATAL_ERROR)
            tl__error_from_result(b->error, res, false);
        PQclear(res);
        return false;
    }
    switch (a->kind) {
    case ANSWER_WHO:
        if (tl__cell_i64(res, 0, 0) != PQbackendPID(b->conn)) {
            b->is_unprepared = true;
            b->can_listen = b->policy.can_listen = false;
            tl__log(b->settings, TL_LOG_WARN,
                    "a proxy pools the connection: polling instead of listening");
        }
        break;
    case ANSWER_TICK:
        answer_tick(b, res, now_us);
        return true;
    case ANSWER_DUE:
        tl__waiter_policy_due(&b->policy, now_us,
                              PQgetisnull(res, 0, 0) ? -1 : tl__cell_i64(res, 0, 0));
        break;
    case ANSWER_ELECT:
        tl__waiter_policy_elected(&b->policy, answer_bool(res));
        break;
    case ANSWER_ARM:
        tl__waiter_policy_armed(&b->policy, answer_bool(res));
        break;
    default:
        break;
    }
    PQclear(res);
    return true;
}

/* The entry at the head is complete. */
static void end_answer(struct tl__bell *b, uint64_t now_us)
{
    struct answer a = *pop_answer(b);

    b->answer_until_us = tl__deadline_us(now_us, b->settings->timeout_us);
    switch (a.kind) {
    case ANSWER_WHO:
        if (b->can_listen)
            set_up_session(b);
        else
            became_ready(b, now_us);
        break;
    case ANSWER_SETUP_LAST:
        became_ready(b, now_us);
        break;
    case ANSWER_NEXT:
    case ANSWER_TICK:
    case ANSWER_DUE:
    case ANSWER_ELECT:
    case ANSWER_ARM:
    case ANSWER_IGNORED:
        if (--b->policy_answers == 0)
            tl__waiter_policy_answered(&b->policy);
        break;
    default:
        break;
    }
}

/*
 * libpq gives for each statement its result and a NULL, and for each sync one result without NULL.
 * After an error the rest up to the sync is PGRES_PIPELINE_ABORTED.
 */
static bool read_answers(struct tl__bell *b, uint64_t now_us)
{
    while (b->answers_count > 0 && !PQisBusy(b->conn)) {
        struct answer *a = &b->answers[b->answers_first];
        PGresult *res = PQgetResult(b->conn);

        if (res == NULL) {
            if (PQstatus(b->conn) != CONNECTION_OK) {
                tl__error_from_conn(b->error, b->conn, false);
                return false;
            }
            if (!a->has_sync)
                end_answer(b, now_us);
        } else if (PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
            PQclear(res);
            end_answer(b, now_us);
        } else if (!take_result(b, res, now_us)) {
            return false;
        }
    }
    return true;
}

static void read_notifications(struct tl__bell *b, uint64_t now_us)
{
    PGnotify *n;

    while ((n = PQnotifies(b->conn)) != NULL) {
        if (n->extra[0] == '\0' && n->be_pid != PQbackendPID(b->conn)) {
            b->counts.wakes++;
            tl__waiter_policy_notified(&b->policy, now_us);
        } else if (strncmp(n->extra, "probe:", 6) == 0 && strcmp(n->extra + 6, b->nonce) == 0) {
            tl__waiter_policy_probed(&b->policy, now_us);
        }
        PQfreemem(n);
    }
}

static tl_status read_connection(struct tl__bell *b, uint64_t now_us)
{
    if (!PQconsumeInput(b->conn))
        return lose_conn(b, now_us);
    if (!read_answers(b, now_us))
        return lose(b, now_us, "connection given up");
    read_notifications(b, now_us);
    return TL_OK;
}

/* --------------------------------------------------------------------------- process -- */

static bool empty_wake_fd(struct tl__bell *b)
{
    uint64_t count;

    return read(b->wake_fd, &count, sizeof count) == (ssize_t)sizeof count;
}

tl_status tl__bell_process(struct tl__bell *b, uint64_t now_us, bool *ret_is_woken)
{
    struct epoll_event events[2];
    int n = epoll_wait(b->epoll_fd, events, 2, 0);
    bool is_readable = false;

    *ret_is_woken = false;
    for (int i = 0; i < n; i++) {
        if (events[i].data.fd == b->wake_fd)
            *ret_is_woken = empty_wake_fd(b);
        else
            is_readable = true;
    }
    switch (b->phase) {
    case OFFLINE:
        if (b->offline_until_us == UINT64_MAX)
            return TL_E_CONNECTION;
        return now_us >= b->offline_until_us ? start_connecting(b, now_us) : TL_OK;
    case CONNECTING:
        return go_on_connecting(b, now_us);
    default:
        if (b->is_broken)
            return lose_conn(b, now_us);
        if (is_readable || PQstatus(b->conn) != CONNECTION_OK)
            return read_connection(b, now_us);
        if (b->answers_count > 0 && now_us >= b->answer_until_us) {
            tl__error_set(b->error, TL_E_CONNECTION, NULL, "no answer from the server");
            return lose(b, now_us, "connection given up");
        }
        return TL_OK;
    }
}

static void no_params(struct tl__params *p, unsigned action)
{
    tl__param_text(p, "{}");
    p->formats[0] = 0;
    if (action == TL__WAITER_DUE)
        return;
    tl__param_text(p, "{}");
    p->formats[1] = 0;
    tl__param_interval(p, UNUSED_LEASE_US);
    tl__param_null(p);
    tl__param_null(p);
}

/* What it saw last, and whether plans may stay in the session. */
static void look_params(const struct tl__bell *b, struct tl__params *p)
{
    if (b->policy.is_activity_known)
        tl__param_i64(p, b->policy.activity);
    else
        tl__param_null(p);
    tl__param_bool(p, !b->is_unprepared);
}

static void send_actions(struct tl__bell *b, unsigned actions)
{
    static const struct {
        unsigned action;
        enum statement_id statement;
        enum answer_kind kind;
    } table[] = {
        {TL__WAITER_RELEASE, ST_RELEASE, ANSWER_IGNORED},
        {TL__WAITER_ELECT, ST_ELECT, ANSWER_ELECT},
        {TL__WAITER_PROBE, ST_PROBE, ANSWER_IGNORED},
        {TL__WAITER_WAKE, ST_WAKE, ANSWER_IGNORED},
        {TL__WAITER_ARM, ST_ARM, ANSWER_ARM},
        {TL__WAITER_TICK, ST_TICK, ANSWER_TICK},
        {TL__WAITER_DISARM, ST_DISARM, ANSWER_IGNORED},
        {TL__WAITER_DUE, ST_DUE, ANSWER_DUE},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct tl__params p = TL_PARAMS_INIT;

        if (!(actions & table[i].action))
            continue;
        if (table[i].action == TL__WAITER_TICK && b->calls->claim_params != NULL)
            b->calls->claim_params(b->owner, &p);
        else if (table[i].action == TL__WAITER_DUE && b->calls->due_params != NULL)
            b->calls->due_params(b->owner, &p);
        else if (table[i].action == TL__WAITER_TICK || table[i].action == TL__WAITER_DUE)
            no_params(&p, table[i].action);
        else if (table[i].action == TL__WAITER_PROBE)
            tl__param_text(&p, b->nonce);
        if (table[i].action == TL__WAITER_TICK)
            look_params(b, &p);
        b->policy_answers++;
        if (!send_statement(b, &b->statements[table[i].statement], &p,
                            (struct answer){.kind = table[i].kind, .has_sync = true}))
            return; /* and with it the connection */
    }
}

/* False: the owner expects nothing. */
static bool claim_next(struct tl__bell *b)
{
    struct tl__params p = TL_PARAMS_INIT;
    struct tl__statement *st = b->calls->next != NULL ? b->calls->next(b->owner, &p) : NULL;

    if (st == NULL)
        return false;
    b->policy_answers++;
    (void)send_statement(b, st, &p, (struct answer){.kind = ANSWER_NEXT, .has_sync = true});
    return true;
}

void tl__bell_write(struct tl__bell *b, uint64_t now_us)
{
    unsigned actions;

    if (b->phase == READY) {
        if (b->calls->before != NULL)
            b->calls->before(b->owner);
        actions = tl__waiter_policy_next(&b->policy, now_us);
        if (actions == TL__WAITER_NEXT && !claim_next(b)) {
            tl__waiter_policy_answered(&b->policy);
            actions = tl__waiter_policy_next(&b->policy, now_us);
        }
        if (actions != 0)
            send_actions(b, actions);
        if (b->policy.has_gone_deaf) {
            b->policy.has_gone_deaf = false;
            tl__log(b->settings, TL_LOG_WARN,
                    "notifications do not arrive (a pooling proxy?): polling every %" PRIu64 " ms",
                    b->policy.poll_interval_us / 1000);
        }
    }
    if (b->phase < SETTING_UP)
        return;
    if (b->is_unflushed)
        b->is_unflushed = PQflush(b->conn) > 0;
    watch(b, PQsocket(b->conn), b->is_unflushed ? POLLIN | POLLOUT : POLLIN);
}

uint64_t tl__bell_deadline_us(const struct tl__bell *b)
{
    uint64_t at;

    switch (b->phase) {
    case OFFLINE:
        return b->offline_until_us;
    case CONNECTING:
        return b->answer_until_us;
    default:
        if (b->is_broken || PQstatus(b->conn) != CONNECTION_OK)
            return 0;
        at = tl__waiter_policy_deadline_us(&b->policy);
        if (b->answers_count > 0 && b->answer_until_us < at)
            at = b->answer_until_us;
        return at;
    }
}

int tl__bell_fd(const struct tl__bell *b)
{
    return b->epoll_fd;
}

bool tl__bell_is_ready(const struct tl__bell *b)
{
    return b->phase == READY;
}

uint64_t tl__bell_session(const struct tl__bell *b)
{
    return b->phase == READY && !b->is_unprepared ? b->connection : 0;
}

bool tl__bell_is_idle(const struct tl__bell *b)
{
    return b->answers_count == 0;
}

bool tl__bell_send(struct tl__bell *b, struct tl__statement *st, const struct tl__params *p,
                   tl__bell_answer_fn fn, void *arg)
{
    return b->phase == READY &&
           send_statement(
               b, st, p,
               (struct answer){.kind = ANSWER_OWNER, .has_sync = true, .fn = fn, .arg = arg});
}

PGresult *tl__bell_take_result(struct tl__bell *b)
{
    PGresult *res = b->answering;

    b->answering = NULL;
    return res;
}

void tl__bell_forget(struct tl__bell *b, const void *arg)
{
    for (size_t i = 0; i < b->answers_count; i++) {
        struct answer *a = &b->answers[(b->answers_first + i) % b->answers_size];

        if (a->arg == arg)
            a->fn = NULL;
    }
}

void tl__bell_wake_others(struct tl__bell *b)
{
    b->policy.is_wake_wanted = true;
}

/* Naps of the sentinel are shorter than a millisecond: ppoll, not poll. */
void tl__bell_sleep(const struct tl__bell *b, uint64_t until_us)
{
    struct pollfd pfd = {.fd = b->epoll_fd, .events = POLLIN};
    uint64_t now_us = tl__clock_us();
    uint64_t left_us = until_us > now_us ? until_us - now_us : 0;
    struct timespec ts = {.tv_sec = (time_t)(left_us / 1000000),
                          .tv_nsec = (long)(left_us % 1000000 * 1000)};

    if (left_us > 0)
        (void)ppoll(&pfd, 1, until_us == UINT64_MAX ? NULL : &ts, NULL);
}

struct tl__waiter_policy *tl__bell_policy(struct tl__bell *b)
{
    return &b->policy;
}

const struct tl__bell_counts *tl__bell_get_counts(const struct tl__bell *b)
{
    return &b->counts;
}
