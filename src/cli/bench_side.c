/*
 * bench_side.c: the three ways in which `trunkline bench` writes an event. All of them are blocking
 * calls over the same connection, prepared, with binary parameters, and get position and id back.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "out.h"
#include "process.h"

#define INSERT                                                                                     \
    "INSERT INTO " TL__BENCH_SCHEMA ".bare (type, key, data) SELECT * FROM "                       \
    "unnest($1::text[], $2::text[], $3::jsonb[]) RETURNING \"position\", id"
#define INSERT_ONE                                                                                 \
    "INSERT INTO " TL__BENCH_SCHEMA ".bare (type, key, data) VALUES ($1, $2, $3) "                 \
    "RETURNING \"position\", id"
/* One statement and one notification, whatever the batch; it carries the time. */
#define NOTIFY(insert)                                                                             \
    "WITH i AS (" insert "), n AS MATERIALIZED (SELECT pg_notify('" TL__BENCH_CHANNEL "', $4) AS " \
    "x) SELECT i.\"position\", i.id, n.x FROM i, n"

enum { TEXT_OID = 25, JSONB_OID = 3802 };

const char *const tl__bench_side_names[TL__BENCH_SIDES] = {
    [TL__BENCH_BARE] = "bare INSERT",
    [TL__BENCH_NOTIFY] = "bare INSERT + NOTIFY",
    [TL__BENCH_TRUNKLINE] = "trunkline",
};

static const struct {
    const char *name, *one, *many;
} statements[] = {
    [TL__BENCH_BARE] = {"trunkline_bench_bare", INSERT_ONE, INSERT},
    [TL__BENCH_NOTIFY] = {"trunkline_bench_notify", NOTIFY(INSERT_ONE), NOTIFY(INSERT)},
};

static bool fail(struct tl__bench_connection *c, const char *why)
{
    snprintf(c->error, sizeof c->error, "%s", why);
    c->error[strcspn(c->error, "\n")] = '\0';
    return false;
}

static const struct tl__bench_event *next_event(struct tl__bench_connection *c)
{
    const struct tl__bench_event *e = &c->events->items[c->next];

    c->next = (c->next + 1) % c->events->count;
    return e;
}

/* ------------------------------------------------------------------------------------- bare -- */

struct parameters {
    const char *values[4];
    int lengths[4], formats[4];
};

static void set(struct parameters *p, int i, const char *value, size_t len)
{
    p->values[i] = value;
    p->lengths[i] = (int)len;
    p->formats[i] = 1;
}

static void begin_array(struct tl__buf *b, uint32_t oid, size_t n, bool has_nulls)
{
    tl__buf_clear(b);
    tl__buf_put_u32(b, 1);
    tl__buf_put_u32(b, has_nulls);
    tl__buf_put_u32(b, oid);
    tl__buf_put_u32(b, (uint32_t)n);
    tl__buf_put_u32(b, 1);
}

static void add_element(struct tl__buf *b, const char *text)
{
    tl__buf_put_u32(b, text ? (uint32_t)strlen(text) : UINT32_MAX);
    tl__buf_add_str(b, text ? text : "");
}

/* jsonb on the wire is its version, 1, and the text. */
static void add_stamped(struct tl__buf *b, const struct tl__bench_event *e, uint64_t due_ns)
{
    tl__buf_add_char(b, 1);
    tl__bench_stamp(b, e, due_ns);
}

static void set_one(struct tl__bench_connection *c, struct parameters *p, uint64_t due_ns)
{
    const struct tl__bench_event *e = next_event(c);

    tl__buf_clear(&c->data);
    add_stamped(&c->data, e, due_ns);
    set(p, 0, e->type, strlen(e->type));
    set(p, 1, e->key, e->key ? strlen(e->key) : 0);
    set(p, 2, c->data.data, c->data.len);
}

static void set_many(struct tl__bench_connection *c, struct parameters *p, uint64_t due_ns)
{
    struct tl__buf *types = &c->columns[0], *keys = &c->columns[1], *data = &c->columns[2];

    begin_array(types, TEXT_OID, c->batch, false);
    begin_array(keys, TEXT_OID, c->batch, true);
    begin_array(data, JSONB_OID, c->batch, false);
    for (size_t i = 0; i < c->batch; i++) {
        const struct tl__bench_event *e = next_event(c);
        add_element(types, e->type);
        add_element(keys, e->key);
        tl__buf_clear(&c->data);
        add_stamped(&c->data, e, due_ns);
        tl__buf_put_u32(data, (uint32_t)c->data.len);
        tl__buf_add(data, c->data.data, c->data.len);
    }
    for (int i = 0; i < 3; i++)
        set(p, i, c->columns[i].data, c->columns[i].len);
}

static bool write_bare(struct tl__bench_connection *c, uint64_t due_ns)
{
    PGconn *conn = tl_client_pgconn(c->client);
    struct parameters p;
    char stamp[24];

    if (c->batch == 1)
        set_one(c, &p, due_ns);
    else
        set_many(c, &p, due_ns);
    if (c->data.is_failed || c->columns[2].is_failed)
        return fail(c, "no memory for a batch");
    snprintf(stamp, sizeof stamp, "%llu", (unsigned long long)due_ns);
    set(&p, 3, stamp, strlen(stamp));
    PGresult *r =
        PQexecPrepared(conn, statements[c->side].name, c->side == TL__BENCH_NOTIFY ? 4 : 3,
                       p.values, p.lengths, p.formats, 1);
    bool is_ok = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == (int)c->batch;
    if (!is_ok)
        fail(c, PQerrorMessage(conn));
    PQclear(r);
    return is_ok;
}

/* -------------------------------------------------------------------------------- trunkline -- */

static bool write_events(struct tl__bench_connection *c, uint64_t due_ns)
{
    tl_status status;
    size_t at = 0;

    tl__buf_clear(&c->data);
    for (size_t i = 0; i < c->batch; i++) {
        const struct tl__bench_event *e = next_event(c);
        size_t before = c->data.len;
        tl__bench_stamp(&c->data, e, due_ns);
        c->batch_events[i] = (tl_new_event){.size = sizeof(tl_new_event),
                                            .type = e->type,
                                            .key = e->key,
                                            .data_len = c->data.len - before};
    }
    if (c->data.is_failed)
        return fail(c, "no memory for a batch");
    for (size_t i = 0; i < c->batch; i++) { /* the buffer has moved while it grew */
        c->batch_events[i].data = c->data.data + at;
        at += c->batch_events[i].data_len;
    }
    if (c->batch == 1)
        status = tl_publish(c->client, TL__BENCH_TOPIC, c->batch_events, c->receipts);
    else
        status =
            tl_publish_batch(c->client, TL__BENCH_TOPIC, c->batch_events, c->batch, c->receipts);
    return status == TL_OK || fail(c, tl_error_message(tl_client_error(c->client)));
}

bool tl__bench_call(void *connection, uint64_t due_ns)
{
    struct tl__bench_connection *c = connection;

    return c->side == TL__BENCH_TRUNKLINE ? write_events(c, due_ns) : write_bare(c, due_ns);
}

/* ------------------------------------------------------------------------------- connection -- */

/* Behind a pooler libpq knows another number than the server. */
int tl__bench_server_pid(PGconn *conn)
{
    PGresult *r = PQexec(conn, "SELECT pg_backend_pid()");
    long pid = PQntuples(r) == 1 ? strtol(PQgetvalue(r, 0, 0), NULL, 10) : 0;

    PQclear(r);
    return (int)pid;
}

/* A process of that number on this machine is the session only if the server is on it. */
uint64_t tl__bench_server_cpu_ns(PGconn *conn, int server_pid)
{
    const char *host = PQhost(conn), *address = PQhostaddr(conn);
    bool is_local = (host && *host == '/') || (address && strncmp(address, "127.", 4) == 0) ||
                    (address && strcmp(address, "::1") == 0);

    return is_local && server_pid > 0 && tl__process_is(server_pid, "postgres")
               ? tl__process_cpu_ns(server_pid)
               : 0;
}

int tl__bench_connection_open(struct tl__bench_connection *c, const struct tl__args *args,
                              struct tl__db *db)
{
    tl_client_options options = tl__db_client_options(args, db);
    tl_status status = tl_client_open(db->conninfo, &options, &c->client);

    if (status != TL_OK)
        return tl__fail_client(status, c->client);
    c->batch_events = calloc(c->batch, sizeof *c->batch_events);
    c->receipts = calloc(c->batch, sizeof *c->receipts);
    if (!c->batch_events || !c->receipts)
        return tl__fail(TL_E_NOMEM, NULL, "no memory for a batch");
    PGconn *conn = tl_client_pgconn(c->client);
    c->server_pid = tl__bench_server_pid(conn);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        PGresult *r = PQprepare(conn, statements[i].name,
                                c->batch == 1 ? statements[i].one : statements[i].many, 0, NULL);
        bool is_ok = PQresultStatus(r) == PGRES_COMMAND_OK;
        PQclear(r);
        if (!is_ok)
            return tl__fail(TL_E_SERVER, NULL, "%s", PQerrorMessage(conn));
    }
    return 0;
}

void tl__bench_connection_close(struct tl__bench_connection *c)
{
    c->client = tl_client_close(c->client);
    free(c->batch_events);
    free(c->receipts);
    tl__buf_done(&c->data);
    for (int i = 0; i < 3; i++)
        tl__buf_done(&c->columns[i]);
}
