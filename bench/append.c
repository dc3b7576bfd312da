/*
 * append.c: what it costs to append one event to a stream, beside a bare INSERT of the same row and
 * beside message-db; and what many writers of one stream get through. store.c reads.
 */
#include "bench.h"

#include <inttypes.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define CONNECTIONS 16
#define STREAMS 10000
#define CATEGORIES 1000
#define STREAMS_EACH (STREAMS / CONNECTIONS)

extern char **environ;

/* $1 stream, $2 version as each of them counts, $3 type, $4 data */
static const char bare_append_sql[] = "INSERT INTO bench_bare (stream, version, type, data) "
                                      "VALUES ($1, $2, $3, $4) RETURNING \"position\", id";
static const char append_sql[] =
    "SELECT a.version, a.\"position\", a.id FROM trunkline.append_event(stream => $1, "
    "type => $3, data => $4, expected_version => $2) a";
static const char append_id_sql[] =
    "SELECT a.version, a.\"position\", a.id FROM trunkline.append_event(stream => $1, "
    "type => $3, data => $4, expected_version => $2, event_id => gen_random_uuid()) a";
static const char message_db_sql[] =
    "SELECT message_store.write_message(gen_random_uuid()::varchar, $1, $3, $4, NULL, $2)";

/* ----------------------------------------------------------------------- many streams, exact -- */

/* The streams of one variant. Each connection has its own share of them, so none conflicts. */
struct streams {
    char names[STREAMS][32];
    int64_t events[STREAMS];
    int offset; /* it sends n + offset for a stream of n events */
    int turn[CONNECTIONS];
    struct statement st[CONNECTIONS];
    char version[CONNECTIONS][8];
    struct pool *pool;
};

/* `write` (NULL: none) makes each stream in advance, as text with the stream for %s. */
static struct streams *streams_new(const struct bench *b, const char *prefix, const char *sql,
                                   int offset, const char *write)
{
    struct streams *s = need(calloc(1, sizeof *s));

    s->offset = offset;
    for (int k = 0; k < STREAMS; k++) {
        snprintf(s->names[k], sizeof s->names[k], "%s%d-%d", prefix, k % CATEGORIES, k);
        s->events[k] = write != NULL;
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        s->st[i] = (struct statement){.name = prefix, .sql = sql};
        statement_text(&s->st[i], s->names[0]);
        statement_int8(&s->st[i], s->version[i]);
        statement_text(&s->st[i], event_type);
        statement_invoice(&s->st[i]);
    }
    s->pool = pool_open(b->conninfo, CONNECTIONS);
    pool_exec(s->pool, "SET search_path = message_store, public"); /* write_message needs it */
    if (write != NULL) {
        char text[512];

        snprintf(text, sizeof text,
                 "SET search_path = message_store, public; SELECT count(%s) FROM (SELECT "
                 "format('%s%%s-%%s', k %% %d, k) AS stream FROM generate_series(0, %d) k) s; "
                 "RESET search_path",
                 write, prefix, CATEGORIES, STREAMS - 1);
        sql_exec(b->admin, text);
    }
    pool_prepare(s->pool, &s->st[0]);
    return s;
}

static void streams_free(struct streams *s)
{
    pool_close(s->pool);
    free(s);
}

static const struct statement *next_append(void *context, int i)
{
    struct streams *s = context;
    int k = i * STREAMS_EACH + s->turn[i];

    s->turn[i] = (s->turn[i] + 1) % STREAMS_EACH;
    s->st[i].values[0] = s->names[k];
    s->st[i].lengths[0] = (int)strlen(s->names[k]);
    put_int8(s->version[i], s->events[k] + s->offset);
    s->events[k]++; /* an error ends the program */
    return &s->st[i];
}

static bool install_message_db(const struct bench *b)
{
    pid_t pid;
    int status;

    return b->message_db != NULL &&
           posix_spawn(&pid, b->message_db, NULL, NULL, (char *[]){argv_text(b->message_db), NULL},
                       environ) == 0 &&
           waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

enum { BARE, APPEND, APPEND_ID, MESSAGE_DB, VARIANTS };

static void append_to_many(const struct bench *b)
{
    static struct figure f[VARIANTS];
    static const char *const names[VARIANTS] = {
        "bare INSERT", "append_event", "append_event with an id", "message-db write_message"};
    struct streams *s[VARIANTS];
    int variants = install_message_db(b) ? VARIANTS : MESSAGE_DB;

    report_section("Append, 16 connections over 10,000 streams, one event each, exact version",
                   "events/s; server us: CPU of the appending backends for one event");
    s[BARE] = streams_new(b, "bare", bare_append_sql, 1, NULL);
    s[APPEND] = streams_new(b, "plain", append_sql, 0,
                            "(SELECT version FROM trunkline.append_event(stream, 'made', 'null'))");
    s[APPEND_ID] =
        streams_new(b, "ident", append_id_sql, 0,
                    "(SELECT version FROM trunkline.append_event(stream, 'made', 'null'))");
    if (variants > MESSAGE_DB)
        s[MESSAGE_DB] = streams_new(
            b, "messagedb", message_db_sql, -1,
            "write_message(gen_random_uuid()::varchar, stream::varchar, 'made', 'null')");
    else
        report_note("message-db is not installed: not compared");
    for (int v = 0; v < variants; v++) {
        f[v] = (struct figure){.section = "append-16",
                               .name = names[v],
                               .unit = "events/s",
                               .base = v == BARE ? NULL : &f[BARE],
                               .rounds = b->rounds};
        pool_run_source(s[v]->pool, &(struct source){next_append, NULL, s[v]}, 0.3);
    }
    for (int round = 0; round < b->rounds; round++) {
        sql_exec(b->admin, "CHECKPOINT");
        for (int v = 0; v < variants; v++) {
            struct load load =
                pool_run_source(s[v]->pool, &(struct source){next_append, NULL, s[v]}, b->round_s);

            f[v].values[round] = load.per_s;
            f[v].cpu_us[round] = load.cpu_us;
        }
    }
    for (int v = 0; v < variants; v++) {
        report_figure(&f[v]);
        streams_free(s[v]);
    }
    report_ratio_min("append_event, exact version", &f[APPEND], &f[BARE], 0.5, "x bare INSERT");
    if (variants > MESSAGE_DB) {
        report_ratio_min("append_event, exact version", &f[APPEND], &f[MESSAGE_DB], 2,
                         "x write_message");
        report_ratio_min("append_event with an id, as write_message has one", &f[APPEND_ID],
                         &f[MESSAGE_DB], 2, "x write_message");
    }
}

/* ---------------------------------------------------------------------------- one hot stream -- */

static const char update_sql[] =
    "UPDATE bench_hot SET version = version + 1 WHERE id = 1 RETURNING version";
static const char any_sql[] =
    "SELECT a.version FROM trunkline.append_event(stream => $1, type => $2, data => $3) a";

/* Writers that all want to be next: who loses learns the version by the error and tries again. */
struct hot {
    struct statement st[CONNECTIONS];
    char version[CONNECTIONS][8];
    uint64_t losses;
};

static const struct statement *next_hot(void *context, int i)
{
    return &((struct hot *)context)->st[i];
}

static bool hot_result(void *context, int i, const PGresult *res)
{
    static const char actual[] = "\"actual\":";
    struct hot *hot = context;
    const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);
    const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

    if (PQresultStatus(res) == PGRES_TUPLES_OK) {
        memcpy(hot->version[i], PQgetvalue(res, 0, 0), 8);
        return true;
    }
    if (sqlstate == NULL || strcmp(sqlstate, "TL001") != 0 || detail == NULL ||
        strstr(detail, actual) == NULL)
        die("append_event", PQresultErrorMessage(res));
    put_int8(hot->version[i], strtoll(strstr(detail, actual) + strlen(actual), NULL, 10));
    hot->losses++;
    return false;
}

static struct hot *hot_new(const char *stream)
{
    struct hot *hot = need(calloc(1, sizeof *hot));

    for (int i = 0; i < CONNECTIONS; i++) {
        hot->st[i] = (struct statement){.name = "hot", .sql = append_sql};
        statement_text(&hot->st[i], stream);
        statement_int8(&hot->st[i], hot->version[i]);
        statement_text(&hot->st[i], event_type);
        statement_invoice(&hot->st[i]);
    }
    return hot;
}

enum { UPDATE, HOT_EXACT, HOT_ANY, HOT_VARIANTS };

static void append_to_one(const struct bench *b)
{
    static struct figure f[HOT_VARIANTS] = {
        [UPDATE] = {"hot-16", "bare UPDATE of one row", "1/s", NULL},
        [HOT_EXACT] = {"hot-16", "append_event, exact: winners", "1/s", &f[UPDATE]},
        [HOT_ANY] = {"hot-16", "append_event, any version", "1/s", &f[UPDATE]},
    };
    struct pool *pool = pool_open(b->conninfo, CONNECTIONS);
    struct statement update = {.name = "update", .sql = update_sql};
    struct statement any = {.name = "any", .sql = any_sql};
    struct hot *hot = hot_new("hot-exact");
    struct source exact = {next_hot, hot_result, hot};
    double winners = 0;

    report_section("Append, 16 connections, all to one stream", "appends that succeeded, 1/s");
    sql_exec(b->admin, "DROP TABLE IF EXISTS bench_hot; CREATE TABLE bench_hot (id integer PRIMARY "
                       "KEY, version bigint NOT NULL) WITH (fillfactor = 50); "
                       "INSERT INTO bench_hot VALUES (1, 0)");
    statement_text(&any, "hot-any");
    statement_text(&any, event_type);
    statement_invoice(&any);
    pool_prepare(pool, &update);
    pool_prepare(pool, &any);
    pool_prepare(pool, &hot->st[0]);
    pool_run(pool, &update, 0.3);
    pool_run(pool, &any, 0.3);
    pool_run_source(pool, &exact, 0.3);
    hot->losses = 0;
    for (int round = 0; round < b->rounds; round++) {
        struct load load[HOT_VARIANTS];

        sql_exec(b->admin, "CHECKPOINT");
        load[UPDATE] = pool_run(pool, &update, b->round_s);
        load[HOT_EXACT] = pool_run_source(pool, &exact, b->round_s);
        load[HOT_ANY] = pool_run(pool, &any, b->round_s);
        winners += load[HOT_EXACT].per_s * b->round_s;
        for (int v = 0; v < HOT_VARIANTS; v++) {
            f[v].values[round] = load[v].per_s;
            f[v].cpu_us[round] = load[v].cpu_us;
        }
    }
    for (int v = 0; v < HOT_VARIANTS; v++) {
        f[v].rounds = b->rounds;
        report_figure(&f[v]);
    }
    report_note("%.1f conflicts for each winner", (double)hot->losses / winners);
    report_ratio_min("one hot stream, exact version: winners", &f[HOT_EXACT], &f[UPDATE], 0.5,
                     "x bare UPDATE");
    pool_close(pool);
    free(hot);
}

void measure_append(const struct bench *b)
{
    append_to_many(b);
    append_to_one(b);
}
