/*
 * fault_writer.c: publishes and appends in every way there is until SIGTERM, through every fault, and keeps
 * a journal for the checker (tests/fault/README.md has its lines): what it is about to do before it does it,
 * what it was told afterwards. What has no outcome there may have happened or not.
 *
 *   fault_writer NUMBER SEED JOURNAL     database: TRUNKLINE_DB
 *
 * NUMBER is of this process alone. Its events are numbered as they are made; data has both.
 */
#include <fcntl.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <trunkline/trunkline.h>
#include <unistd.h>

enum { KEYS = 4, MOST = 12, STREAMS = 5, HANG_S = 10, TEXT = 4096 };

/* ttl of the events of type fault.brief */
static const uint64_t BRIEF_US = 300000;

static volatile sig_atomic_t is_ending;
static volatile sig_atomic_t raw_fd = -1;
static unsigned number, seed;
static long last_n, last_op;
static int journal;
static tl_client *client;
static PGconn *raw; /* what a program has that knows only libpq */
static long long belief[STREAMS];

struct message {
    char key[32];
    char data[96];
    char id[37];
    const char *type, *tenant_id;
    long n;
    int64_t due_us;
};

static void on_term(int signal_number)
{
    (void)signal_number;
    is_ending = 1;
}

/* libpq alone would wait for ever on a connection that is dead without a word. */
static void on_alarm(int signal_number)
{
    (void)signal_number;
    if (raw_fd >= 0)
        (void)shutdown(raw_fd, SHUT_RDWR);
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static unsigned pick(unsigned below)
{
    return (unsigned)rand_r(&seed) % below;
}

/* ------------------------------------------------------------------------------------ journal -- */

/* One write of one line: there or not, however this process ends. */
__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
    char line[TEXT];
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof line || write(journal, line, (size_t)length) != length)
        abort();
}

/* About to do this: B op kind stream expected key:n:due,... */
static long begin(const char *kind, const char *stream, long long expected, const struct message *m,
                  unsigned count)
{
    char events[TEXT - 200];
    int length = 0;

    events[0] = '\0';
    for (unsigned i = 0; i < count; i++)
        length += snprintf(events + length, sizeof events - (size_t)length, "%s%s:%ld:%lld",
                           i ? "," : "", m[i].key, m[i].n, (long long)m[i].due_us);
    note("B %ld %s %s %lld %s\n", ++last_op, kind, stream, expected, events);
    return last_op;
}

static void told(char what, long op, const char *more)
{
    note("%c %ld %s\n", what, op, more);
}

/* A call of the library failed. */
static void failed(long op, const tl_error *e)
{
    bool is_unknown = tl_error_outcome_unknown(e);

    told(is_unknown ? 'U' : 'F', op, tl_error_sqlstate(e)[0] ? tl_error_sqlstate(e) : "-");
    if (tl_error_status(e) == TL_E_INVALID)
        (void)fprintf(stderr, "op %ld: %s\n", op, tl_error_message(e));
    pause_ms(10);
}

/* ----------------------------------------------------------------------------------- messages -- */

static void make(struct message *m)
{
    static const char *const types[] = {"fault.some", "fault.some",  "fault.some", "fault.some",
                                        "fault.some", "fault.other", "fault.rare", "fault.brief"};

    *m = (struct message){.type = types[pick(8)], .tenant_id = pick(3) ? "a" : "b", .n = ++last_n};
    (void)snprintf(m->key, sizeof m->key, "w%u-%u", number, pick(KEYS));
    (void)snprintf(m->data, sizeof m->data, "{\"w\": %u, \"n\": %ld, \"x\": %u}", number, m->n,
                   pick(2));
    (void)snprintf(m->id, sizeof m->id, "%08x-0000-4000-8000-%012lx", number, m->n);
}

static tl_new_event event_of(const struct message *m, bool with_id)
{
    tl_new_event e = {.size = sizeof e, .type = m->type, .data = m->data, .key = m->key};

    e.tenant_id = m->tenant_id;
    e.id = with_id ? m->id : NULL;
    e.run_at_us = m->due_us;
    if (strcmp(m->type, "fault.brief") == 0)
        e.ttl_us = BRIEF_US;
    return e;
}

static void fill(struct message *m, tl_new_event *e, unsigned count, bool with_id)
{
    for (unsigned i = 0; i < count; i++) {
        make(&m[i]);
        e[i] = event_of(&m[i], with_id);
    }
}

static int64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* -------------------------------------------------------------------- publishing, with a client -- */

static void publish_some(void)
{
    struct message m[MOST];
    tl_new_event e[MOST];
    bool with_id = pick(2), is_delayed;
    unsigned count = pick(3) ? 1 : 2 + pick(MOST - 2);
    tl_status status;
    long op;

    fill(m, e, count, with_id);
    is_delayed = count == 1 && pick(5) == 0;
    if (is_delayed) {
        m[0].due_us = now_us() + (int64_t)pick(1500) * 1000;
        e[0] = event_of(&m[0], with_id);
    }
    op = begin(is_delayed ? "delayed" : count == 1 ? "publish" : "batch", "-", 0, m, count);
    for (;;) {
        status = count == 1 ? tl_publish(client, NULL, e, NULL)
                            : tl_publish_batch(client, NULL, e, count, NULL);
        /* with an id it may be repeated until the outcome is known: it is stored once */
        if (status == TL_OK || !with_id || status == TL_E_INVALID || status == TL_E_CONFLICT)
            break;
        pause_ms(20);
    }
    if (status == TL_OK)
        told('A', op, "");
    else
        failed(op, tl_client_error(client));
}

/* An event that falls due later is taken back, in time or not. */
static void cancel_one(void)
{
    struct message m;
    tl_new_event e;
    tl_status status;
    long op;

    make(&m);
    m.due_us = now_us() + (int64_t)pick(200) * 1000;
    e = event_of(&m, true);
    op = begin("delayed", "-", 0, &m, 1);
    if (tl_publish(client, NULL, &e, NULL) != TL_OK) {
        failed(op, tl_client_error(client));
        return;
    }
    pause_ms(pick(200));
    status = tl_cancel(client, m.id);
    if (status == TL_OK)
        told('X', op, ""); /* taken back: it must never come */
    else if (status == TL_E_INVALID)
        told('A', op, ""); /* too late */
    /* else: nothing was heard of the cancelling */
}

/* ---------------------------------------------------------------------------------- appending -- */

static void append_some(void)
{
    static char names[STREAMS][16];
    struct message m[3];
    tl_new_event e[3];
    tl_appended ret[3];
    unsigned s = pick(STREAMS), count = 1 + pick(3) % 3;
    bool with_id = pick(2);
    long long expected = pick(4) == 0 ? TL_EXPECT_ANY : belief[s];
    char more[64];
    tl_status status;
    long op;

    (void)snprintf(names[s], sizeof names[s], "order-%u", s);
    for (unsigned i = 0; i < count; i++) {
        make(&m[i]);
        m[i].type = "order.changed";
        (void)snprintf(m[i].key, sizeof m[i].key, "%s", names[s]);
        m[i].tenant_id = NULL;
        e[i] = event_of(&m[i], with_id);
        e[i].key = NULL;
    }
    op = begin("append", names[s], expected, m, count);
    do {
        status = tl_append(client, names[s], expected, e, count, NULL, ret);
        if (status != TL_OK && status != TL_E_CONFLICT)
            pause_ms(20);
    } while (with_id && status != TL_OK && status != TL_E_CONFLICT && status != TL_E_INVALID);
    if (status == TL_OK) {
        belief[s] = ret[count - 1].version;
        (void)snprintf(more, sizeof more, "%lld %lld", (long long)ret[0].version,
                       (long long)ret[0].position);
        told('A', op, more);
    } else if (status == TL_E_CONFLICT && tl_error_actual_version(tl_client_error(client)) >= 0) {
        belief[s] = tl_error_actual_version(tl_client_error(client));
        (void)snprintf(more, sizeof more, "%lld", belief[s]);
        told('C', op, more);
    } else {
        failed(op, tl_client_error(client));
    }
}

/* ----------------------------------------------------------------------- with libpq and SQL only -- */

static bool is_good(PGresult *res)
{
    ExecStatusType status = PQresultStatus(res);

    PQclear(res);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* The outcome of what committed by itself, or of a COMMIT. */
static void told_raw(long op, PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    char text[16];

    (void)snprintf(text, sizeof text, "%s", state != NULL ? state : "-");
    if (is_good(res))
        told('A', op, "");
    else /* as long as the connection lives the answer is about this statement */
        told(PQstatus(raw) == CONNECTION_OK ? 'F' : 'U', op, text);
}

static void publish_sql(void)
{
    struct message m[MOST];
    char sql[TEXT] = "INSERT INTO trunkline.topic_bus (type, key, tenant_id, data) VALUES ";
    unsigned count = 1 + pick(MOST);
    size_t length = strlen(sql);
    long op;

    for (unsigned i = 0; i < count; i++) {
        make(&m[i]);
        length += (size_t)snprintf(sql + length, sizeof sql - length, "%s('%s', '%s', '%s', '%s')",
                                   i ? ", " : "", m[i].type, m[i].key, m[i].tenant_id, m[i].data);
    }
    op = begin("insert", "-", 0, m, count);
    told_raw(op, PQexec(raw, sql));
}

static void publish_function(void)
{
    struct message m;
    const char *values[4];
    long op;

    make(&m);
    values[0] = m.type, values[1] = m.data, values[2] = m.key, values[3] = m.tenant_id;
    op = begin("function", "-", 0, &m, 1);
    told_raw(op, PQexecParams(raw,
                              "SELECT trunkline.publish($1, $2::jsonb, key => $3, tenant_id => $4)",
                              4, NULL, values, NULL, NULL, 0));
}

static void publish_copy(void)
{
    struct message m[MOST];
    unsigned count = 1 + pick(MOST);
    PGresult *res;
    long op;

    for (unsigned i = 0; i < count; i++)
        make(&m[i]);
    op = begin("copy", "-", 0, m, count);
    res = PQexec(raw, "COPY trunkline.topic_bus (type, key, tenant_id, data) FROM STDIN");
    if (PQresultStatus(res) != PGRES_COPY_IN) {
        told_raw(op, res);
        return;
    }
    PQclear(res);
    for (unsigned i = 0; i < count; i++) {
        char row[200];
        int length = snprintf(row, sizeof row, "%s\t%s\t%s\t%s\n", m[i].type, m[i].key,
                              m[i].tenant_id, m[i].data);

        (void)PQputCopyData(raw, row, length);
    }
    (void)PQputCopyEnd(raw, NULL);
    told_raw(op, PQgetResult(raw));
    while ((res = PQgetResult(raw)) != NULL)
        PQclear(res);
}

/* A transaction of several events with a savepoint that is undone in its middle, committed or not;
 * an append now and then. Other transactions pass it meanwhile. */
static void transaction(bool is_committed)
{
    struct message m[MOST], ghost;
    unsigned count = 1 + pick(6), kept = 0;
    bool works = is_good(PQexec(raw, "BEGIN"));
    long op, ghost_op;

    for (unsigned i = 0; i < count; i++)
        make(&m[i]);
    make(&ghost);
    op = begin("transaction", "-", 0, m, count);
    ghost_op = begin("undone", "-", 0, &ghost, 1);
    for (unsigned i = 0; i < count && works; i++) {
        tl_new_event e = event_of(&m[i], false);

        if (i == count / 2) {
            tl_new_event g = event_of(&ghost, false);

            works = is_good(PQexec(raw, "SAVEPOINT s")) &&
                    tl_publish_in(raw, NULL, NULL, &g, NULL, NULL) == TL_OK &&
                    is_good(PQexec(raw, "ROLLBACK TO s"));
        }
        e.ttl_us = 0;
        works = works && tl_publish_in(raw, NULL, NULL, &e, NULL, NULL) == TL_OK;
        kept += works;
        if (pick(6) == 0)
            pause_ms(1 + pick(40));
    }
    told('X', ghost_op, "");
    if (!is_committed) {
        (void)is_good(PQexec(raw, "ROLLBACK"));
        told('X', op, "");
    } else if (works && kept == count) {
        told_raw(op, PQexec(raw, "COMMIT"));
    } else {
        (void)is_good(PQexec(raw, "ROLLBACK"));
        told('F', op, "-"); /* nobody said commit */
    }
}

static void with_libpq(void)
{
    (void)alarm(HANG_S);
    if (raw == NULL || PQstatus(raw) != CONNECTION_OK) {
        raw_fd = -1;
        PQfinish(raw);
        raw = PQconnectdb(getenv("TRUNKLINE_DB"));
        if (PQstatus(raw) != CONNECTION_OK) {
            (void)alarm(0);
            pause_ms(30);
            return;
        }
        raw_fd = PQsocket(raw);
    }
    switch (pick(6)) {
    case 0:
        publish_sql();
        break;
    case 1:
        publish_function();
        break;
    case 2:
        publish_copy();
        break;
    case 3:
        transaction(false);
        break;
    default:
        transaction(true);
    }
    (void)alarm(0);
}

static void open_client(void)
{
    const char *db = getenv("TRUNKLINE_DB");

    while (tl_client_open(db, TL_CLIENT_OPTIONS(.timeout_us = HANG_S * 1000000ULL), &client) !=
               TL_OK &&
           !is_ending) {
        client = tl_client_close(client);
        pause_ms(30);
    }
}

int main(int argc, char **argv)
{
    struct sigaction term = {.sa_handler = on_term}, alarms = {.sa_handler = on_alarm};

    if (argc != 4)
        return 2;
    number = (unsigned)strtoul(argv[1], NULL, 10);
    seed = (unsigned)strtoul(argv[2], NULL, 10);
    journal = open(argv[3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    (void)signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &term, NULL);
    sigaction(SIGALRM, &alarms, NULL);
    open_client();
    while (!is_ending) {
        switch (pick(8)) {
        case 0:
        case 1:
        case 2:
            publish_some();
            break;
        case 3:
            cancel_one();
            break;
        case 4:
        case 5:
            append_some();
            break;
        default:
            with_libpq();
        }
        pause_ms(20 + pick(120));
    }
    PQfinish(raw);
    tl_client_close(client);
    return 0;
}
