/*
 * fault_publisher.c: publishes in every way there is until SIGTERM, through crashes, and writes down
 * what was acknowledged: a line "key n" for each event. Each key is this process's alone and its n
 * ascend, so the log must hold them in that order.
 *
 *   fault_publisher NUMBER SEED ACKS     database: TRUNKLINE_DB
 */
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <trunkline/trunkline.h>

#define KEYS 5
#define MOST 20

static volatile sig_atomic_t is_ending;
static unsigned number, seed;
static long next_n[KEYS];
static FILE *acks;

struct message {
    char key[32];
    char data[80];
    char id[37];
    const char *type;
    long n;
};

static void on_term(int signal_number)
{
    (void)signal_number;
    is_ending = 1;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static unsigned pick(unsigned below)
{
    return (unsigned)rand_r(&seed) % below;
}

static void make(struct message *m)
{
    unsigned k = pick(KEYS);

    m->n = ++next_n[k];
    m->type = pick(20) == 0 ? "fault.rare" : "fault.common";
    (void)snprintf(m->key, sizeof m->key, "p%u-%u", number, k);
    (void)snprintf(m->data, sizeof m->data, "{\"n\": %ld}", m->n);
    (void)snprintf(m->id, sizeof m->id, "%08x-%04x-4000-8000-%012lx", number, k, m->n);
}

static tl_new_event event_of(const struct message *m, bool with_id)
{
    return (tl_new_event){.size = sizeof(tl_new_event),
                          .type = m->type,
                          .data = m->data,
                          .key = m->key,
                          .id = with_id ? m->id : NULL};
}

static void acknowledge(const struct message *m, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        (void)fprintf(acks, "%s %ld\n", m[i].key, m[i].n);
    (void)fflush(acks);
}

/* With an id a publish may be repeated until its outcome is known: it is stored once. */
static void one_with_id(tl_client *c)
{
    struct message m;
    tl_new_event e;

    make(&m);
    e = event_of(&m, true);
    for (;;) {
        tl_status status = tl_publish(c, NULL, &e, NULL);

        if (status == TL_OK) {
            acknowledge(&m, 1);
            return;
        }
        if (status != TL_E_CONNECTION && !tl_error_is_retriable(tl_client_error(c))) {
            (void)fprintf(stderr, "publish: %s\n", tl_error_message(tl_client_error(c)));
            exit(1);
        }
        pause_ms(20);
    }
}

/* Without one, an event whose outcome is unknown is left at that. */
static void one_or_many(tl_client *c, unsigned count)
{
    struct message m[MOST];
    tl_new_event e[MOST];
    tl_status status;

    for (unsigned i = 0; i < count; i++) {
        make(&m[i]);
        e[i] = event_of(&m[i], false);
    }
    status = count == 1 ? tl_publish(c, NULL, e, NULL) : tl_publish_batch(c, NULL, e, count, NULL);
    if (status == TL_OK)
        acknowledge(m, count);
    else
        pause_ms(20);
}

static bool command(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);
    bool is_good = PQresultStatus(res) == PGRES_COMMAND_OK;

    PQclear(res);
    return is_good;
}

static bool publish_in(PGconn *conn, const tl_new_event *e)
{
    return tl_publish_in(conn, NULL, NULL, e, NULL, NULL) == TL_OK;
}

/* A transaction of ours, with a savepoint undone in its middle; committed, or rolled back. */
static void transaction(PGconn *conn, unsigned count, bool is_committed)
{
    const tl_new_event ghost = {.size = sizeof ghost, .type = "fault.ghost", .data = "{\"n\": 0}"};
    struct message m[MOST];
    bool is_good = command(conn, "BEGIN");

    for (unsigned i = 0; i < count && is_good; i++) {
        tl_new_event e;

        if (i == count / 2 && pick(2) == 0)
            is_good = command(conn, "SAVEPOINT s") && publish_in(conn, &ghost) &&
                      command(conn, "ROLLBACK TO s");
        if (!is_committed) {
            is_good = is_good && publish_in(conn, &ghost);
            continue;
        }
        make(&m[i]);
        e = event_of(&m[i], false);
        is_good = is_good && publish_in(conn, &e);
        if (pick(8) == 0)
            pause_ms(3); /* a slow early writer */
    }
    if (!is_committed)
        (void)command(conn, "ROLLBACK");
    else if (is_good && command(conn, "COMMIT"))
        acknowledge(m, count);
    else
        (void)command(conn, "ROLLBACK");
    if (PQstatus(conn) != CONNECTION_OK) {
        pause_ms(20);
        PQreset(conn);
    }
}

int main(int argc, char **argv)
{
    const char *db = getenv("TRUNKLINE_DB");
    struct sigaction action = {.sa_handler = on_term};
    tl_client *c = NULL;
    PGconn *conn;

    if (argc != 4 || db == NULL || !(acks = fopen(argv[3], "w")))
        return 2;
    number = (unsigned)strtoul(argv[1], NULL, 10);
    seed = (unsigned)strtoul(argv[2], NULL, 10);
    sigaction(SIGTERM, &action, NULL);
    while (tl_client_open(db, NULL, &c) != TL_OK) {
        c = tl_client_close(c);
        pause_ms(20);
    }
    conn = PQconnectdb(db);
    while (!is_ending) {
        switch (pick(5)) {
        case 0:
            one_with_id(c);
            break;
        case 1:
            one_or_many(c, 1);
            break;
        case 2:
            one_or_many(c, 2 + pick(MOST - 2));
            break;
        case 3:
            transaction(conn, 1 + pick(6), true);
            break;
        default:
            transaction(conn, 1 + pick(3), false);
        }
        pause_ms(pick(6));
    }
    PQfinish(conn);
    tl_client_close(c);
    return fclose(acks) == 0 ? 0 : 1;
}
