/*
 * internal.h: what the files of libtrunkline share. It is not API: programs see trunkline.h only.
 * Only src/client/ and unit tests may include it.
 *
 * Map: status.c error.c       codes, SQLSTATE -> status, error detail
 *      connect.c              libpq connections (also the worker's and the waiter's)
 *      client.c exec.c        the handle; one blocking call: send, wait, time out, cancel
 *      sqlnames.c             names, SQL templates, prepared statements, parameters
 *      event.c                rows to events, batches
 *      arrays.c json_peek.c   binary arrays; one member of a JSON object
 *      append*.c stream.c reader.c find.c snapshot.c upcast.c   the event store
 *      aggregate.c repository*.c    state from events, on top of these
 *      live*.c                live subscriptions
 *      publisher*.c           events of many callers in one commit
 *      publish*.c read.c topic.c pattern.c subscribe.c operate.c claim.c migrate*.c   the calls
 */
#ifndef TL_CLIENT_INTERNAL_H
#define TL_CLIENT_INTERNAL_H

#include "buf.h"
#include "cleanup.h"
#include "uuid.h"

#include <libpq-fe.h>
#include <stdarg.h>
#include <trunkline/trunkline.h>

/* ----------------------------------------------------------------------------------- error -- */

struct tl_error { /* no pointers: setting an error never fails, copying one is an assignment */
    tl_status status;
    bool is_fatal;
    bool is_outcome_unknown;
    int64_t index;
    int64_t expected_version; /* TL_EXPECT_ANY: no conflict */
    int64_t actual_version;   /* -1: no conflict */
    char sqlstate[6];
    char message[512];
    char detail[1024];
    char hint[256];
};

/* In all of these `e` may be NULL: then only the status is worked out and returned. */
void tl__error_clear(struct tl_error *e);
/* Replaces what was there; returns status. sqlstate may be NULL. */
tl_status tl__error_set(struct tl_error *e, tl_status status, const char *sqlstate,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Adds to an error that was set. */
void tl__error_set_hint(struct tl_error *e, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void tl__error_set_detail(struct tl_error *e, const char *detail);
/* From a failed result. DETAIL is kept for class TL only and CONTEXT never: both may hold payload.
 * is_outcome_unknown is taken over only when the status is TL_E_CONNECTION. */
tl_status tl__error_from_result(struct tl_error *e, const PGresult *res, bool is_outcome_unknown);
/* From a connection that is lost or could not be made: TL_E_CONNECTION. */
tl_status tl__error_from_conn(struct tl_error *e, const PGconn *conn, bool is_outcome_unknown);
tl_status tl__error_nomem(struct tl_error *e);
/* Say which element of a batch the error that was set is about: "event 3 of the <of>: type is empty".
 * Returns its status. Not for NULL. */
tl_status tl__error_blame(struct tl_error *e, const char *of, size_t index);
/* Give a copy to the caller of a call without a handle; ret may be NULL. Without memory: NULL. */
void tl__error_give(const struct tl_error *e, tl_error **ret);

/* SQLSTATE to status. constraint: its name for class 23, else NULL. */
tl_status tl__status_from_sqlstate(const char *sqlstate, const char *constraint);

/* -------------------------------------------------------------------------------- settings -- */

/* What a connection is made with. Fixed once the client is open; worker and waiter borrow it. */
struct tl__settings {
    char *conninfo;         /* "" when absent */
    char *application_name; /* NULL: what conninfo says */
    char schema[TL_MAX_TOPIC_BYTES + 1];
    char schema_quoted[TL_MAX_TOPIC_BYTES + 3];
    uint64_t connect_timeout_us;
    uint64_t timeout_us;
    uint64_t reconnect_base_us;
    uint64_t reconnect_cap_us;
    uint32_t reconnect_attempts;
    uint64_t poll_interval_us; /* of waiter and live subscriptions; workers have their own */
    bool no_listen;
    tl_log_fn log;
    void *log_userdata;
};

/* Call the log function, if there is one. */
void tl__log(const struct tl__settings *s, tl_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Copy a caller's options struct into *to (to_size bytes, zeroed first). NULL gives zeroes; a
 * shorter one is from an older header; a longer one must have a zero tail. `call` is for the
 * message. Returns TL_OK or TL_E_INVALID. */
tl_status tl__options_load(struct tl_error *e, const char *call, void *to, size_t to_size,
                           const void *from);

/* ----------------------------------------------------------------------------- connections -- */

/*
 * Begin a connection with these settings (keepalives, UTF-8, application name, silent notices).
 * Returns NULL on failure. Then call tl__connect_poll() until it returns TL_OK:
 *   TL_NOTHING       wait until PQsocket() has *ret_events (POLLIN or POLLOUT), call again
 *   TL_E_CONNECTION  failed; PQfinish it
 * The socket may change between two calls.
 */
PGconn *tl__connect_start(const struct tl__settings *s, struct tl_error *e);
tl_status tl__connect_poll(PGconn *conn, struct tl_error *e, short *ret_events);
/* The blocking form, for up to connect_timeout_us. wake_fd: gives up with TL_E_CANCELLED when
 * readable; -1: none. */
tl_status tl__connect(const struct tl__settings *s, int wake_fd, struct tl_error *e,
                      PGconn **ret_conn);
/* Reads what has arrived; is the other side still there? No round trip. */
bool tl__conn_is_alive(PGconn *conn);

/* ------------------------------------------------------------------- names, SQL, statements -- */

tl_status tl__schema_check(struct tl_error *e, const char *schema);
tl_status tl__topic_check(struct tl_error *e, const char *topic);
/* The one quoting function: "name" with quotes doubled. */
void tl__quote_name(struct tl__buf *out, const char *name);
/* Append an SQL template: @extschema@ becomes the quoted schema, @topic@ the topic (may be NULL:
 * then it is left alone). */
void tl__sql_expand(struct tl__buf *out, const char *schema_quoted, const char *topic,
                    const char *template_text, size_t len);

/* A statement prepared at most once per connection. Its name is a digest of its text, so one name
 * never means two statements, whoever else shares the server session. */
struct tl__statement {
    char name[40];
    char *sql;
    uint64_t prepared_on; /* c->generation it was prepared on; the worker may use its own count */
    bool is_planned_anew; /* by the worker: sent whole, planned for the values of each execution */
};
tl_status tl__statement_init(struct tl__statement *st, struct tl_error *e,
                             const char *schema_quoted, const char *topic,
                             const char *template_text);
void tl__statement_done(struct tl__statement *st);

/* Parameters of one execution: borrowed values, numbers kept inside. All in binary format. */
#define TL__MAX_PARAMS 24
struct tl__params {
    int n;
    const char *values[TL__MAX_PARAMS];
    int lengths[TL__MAX_PARAMS];
    int formats[TL__MAX_PARAMS];
    char scratch[TL__MAX_PARAMS][16];
};
#define TL_PARAMS_INIT ((struct tl__params){.n = 0})
void tl__param_text(struct tl__params *p, const char *text);              /* NULL: SQL NULL */
void tl__param_bytes(struct tl__params *p, const void *data, size_t len); /* as the type's recv */
void tl__param_i64(struct tl__params *p, int64_t value);
void tl__param_i32(struct tl__params *p, int32_t value);
void tl__param_f64(struct tl__params *p, double value);
void tl__param_bool(struct tl__params *p, bool value);
void tl__param_null(struct tl__params *p);
void tl__param_uuid(struct tl__params *p, const uint8_t bytes[16]);
void tl__param_time(struct tl__params *p, int64_t at_us);   /* timestamptz; 0: NULL */
void tl__param_interval(struct tl__params *p, uint64_t us); /* interval; 0: NULL */

/* us since 1970 to PostgreSQL's timestamptz, saturating. */
int64_t tl__time_to_pg(int64_t at_us);

/* Cells of a binary result. NULL text for SQL NULL. */
const char *tl__cell_text(const PGresult *res, int row, int col);
int64_t tl__cell_i64(const PGresult *res, int row, int col); /* int2, int4, int8; 0 for NULL */
bool tl__cell_bool(const PGresult *res, int row, int col);
/* interval to us, a month being 30 days and a day 24 hours, saturating; 0 for NULL. */
uint64_t tl__cell_interval(const PGresult *res, int row, int col);
/* timestamptz to us since 1970; 0 for NULL. */
int64_t tl__cell_time(const PGresult *res, int row, int col);
/* false for NULL */
bool tl__cell_uuid(const PGresult *res, int row, int col, char ret_text[TL_UUID_TEXT_SIZE]);

static inline void tl__pqclearp(PGresult **p)
{
    PQclear(*p);
}

static inline void tl__pqfinishp(PGconn **p)
{
    PQfinish(*p);
}

/* ---------------------------------------------------------------------------------- client -- */

struct tl__waiter; /* waiter.c: state of tl_client_wait, on a connection of its own */
struct tl__hub;    /* live.c: live subscriptions, on a connection of its own */
struct tl__cached; /* exec.c: statements by template and topic */

struct tl_client {
    struct tl__settings settings;
    struct tl_error error;
    PGconn *conn;         /* NULL or dead: the next call reconnects */
    uint64_t generation;  /* counts connections; 0: none yet */
    int cancel_fd;        /* eventfd of tl_client_cancel; emptied when a call begins */
    int wake_fd;          /* eventfd of tl_client_wake; belongs to waiter.c */
    uint64_t deadline_us; /* of the call in progress */
    struct tl__cached *cached;
    int vanished_count;        /* prepared statements that this connection lost */
    bool is_unprepared;        /* too many: does without */
    struct tl__waiter *waiter; /* NULL until the first tl_client_wait */
    struct tl__hub *hub;       /* live.c: NULL until the first live subscription */
};

/* waiter.c: free it; called by tl_client_close. */
void tl__waiter_free(struct tl__waiter *w);
/* live.c: the same for live subscriptions. False: one of their handlers is running. */
bool tl__hub_free(struct tl__hub *hub);

/* How long the server may take to obey a cancel request before the connection is given up. */
#define TL__CANCEL_GRACE_US 5000000
/* Prepared statements that may vanish from one connection (DISCARD ALL, say) before we do without. */
#define TL__MAX_VANISHED 3

/* What a lost connection means for a call. */
enum tl__effect {
    TL__READS, /* nothing can have been stored */
    TL__WRITES /* once it was sent the outcome is unknown */
};

/* Begin a public call: clears error and cancel request, sets the deadline, replaces a dead
 * connection, refuses a connection that the caller left in a transaction or pipeline. */
tl_status tl__call_begin(tl_client *c);
/* Execute one statement (template text, a static string, is the cache key) and give its result,
 * in binary format, after the server said that it is ready again. topic may be NULL. ret may be
 * NULL. Between tl__call_begin() and the end of the public call, any number of times. */
tl_status tl__call(tl_client *c, enum tl__effect effect, const char *topic,
                   const char *template_text, const struct tl__params *params, PGresult **ret);
/* Unprepared SQL (may be several statements) with text results; ret is the last result. */
tl_status tl__call_simple(tl_client *c, enum tl__effect effect, const char *sql, PGresult **ret);

/* The parts of a call, for pipelines: queue with PQsend*, flush, take results. */
struct tl__exec {
    tl_client *c;
    enum tl__effect effect;
    bool is_sent;           /* everything that could commit has left */
    tl_status interruption; /* TL_OK, or why the server was asked to cancel */
    uint64_t deadline_us;
};
struct tl__exec tl__exec_start(tl_client *c, enum tl__effect effect);
/* Send what libpq has queued, reading meanwhile so that neither side blocks the other. */
tl_status tl__exec_flush(struct tl__exec *x);
/* The next PQgetResult(); *ret is NULL at the end of a statement. */
tl_status tl__exec_result(struct tl__exec *x, PGresult **ret);
/* Read up to the end of a statement and its commit. The first failure wins. ret may be NULL. */
tl_status tl__exec_finish(struct tl__exec *x, PGresult **ret);
/* An error of a failed result, with timeout and cancel told apart. */
tl_status tl__exec_error(struct tl__exec *x, const PGresult *res);
/* Wait before a call is tried again; TL_E_CANCELLED when tl_client_cancel() ends it. */
tl_status tl__client_pause(tl_client *c, uint64_t pause_us);
/* Close a connection that is of no use any more; the next call makes a new one. */
void tl__client_drop_conn(tl_client *c);
/* The statement of a template, made if needed, prepared on this connection if needed. */
tl_status tl__client_statement(tl_client *c, const char *topic, const char *template_text,
                               struct tl__statement **ret);
/* Queue its execution: prepared, or whole when this connection does not keep statements. */
bool tl__client_send(tl_client *c, const struct tl__statement *st, const struct tl__params *p);
/* A call failed: because its statement is not there any more (DISCARD ALL, or a proxy that moved us
 * to another session)? Then nothing ran; true: do it again, from tl__client_statement() on. */
bool tl__client_is_vanished(tl_client *c, struct tl__statement *st);
/* Find or make the statement of a template in a list of one's own; the one used last stands first. Valid until
 * tl__cached_free(). */
tl_status tl__cached_get(struct tl__cached **list, struct tl_error *e, const char *schema_quoted,
                         const char *topic, const char *template_text, struct tl__statement **ret);
void tl__cached_free(struct tl__cached *list);

/* migrate_check.c: is the schema there and of our version? One query. */
tl_status tl__schema_version_check(tl_client *c);

/* ---------------------------------------------------------------------------------- events -- */

struct tl_event { /* borrowed from the result it was read from */
    int64_t position;
    int64_t version;
    int64_t expires_at_us;
    int64_t created_at_us;
    const char *type;
    const char *source;
    const char *stream;
    const char *key;
    const char *tenant_id;
    const char *data;
    const char *metadata;
    size_t data_len;
    size_t metadata_len;
    int32_t schema_version; /* of data after an upcast; 0: as metadata says */
    char id[TL_UUID_TEXT_SIZE];
};

#define TL__EVENT_COLUMNS 12
/* EVENT columns in their order, for a select list. */
#define TL__EVENT_LIST                                                                             \
    "\"position\", id, type, source, stream, version, key, tenant_id, data, metadata, "            \
    "expires_at, created_at"

/* Read the 12 EVENT columns that start at first_col of a binary result; data and metadata may be jsonb or
 * text. Copies nothing: text points into res, which must live as long as the event. Cannot fail. */
void tl__event_from_row(const PGresult *res, int row, int first_col, struct tl_event *ret);

/* The same batch for read and claim: owns the result its events point into. */
struct tl_batch {
    PGresult *res;
    size_t count;
    int64_t upto;
    bool is_claim;
    char token[TL_UUID_TEXT_SIZE];
    uint32_t *attempts; /* NULL: not a claim */
    struct tl_event events[];
};
/* Make a batch of all rows of res (takes res, also on failure). attempt_col < 0: no claim. NULL:
 * no memory. */
struct tl_batch *tl__batch_new(PGresult *res, int first_event_col, int token_col, int attempt_col);

/* ----------------------------------------------------------------- a caller's own connection -- */

/* Execute one statement, given as a template, on a connection that is not ours: never begins or ends a
 * transaction, leaves pipeline and nonblocking mode as they are. schema NULL: "trunkline". e->is_outcome_unknown only
 * without a transaction of the caller, whose commit decides otherwise. */
tl_status tl__exec_on(PGconn *conn, const char *schema, const char *topic,
                      const char *template_text, const struct tl__params *params,
                      struct tl_error *e, PGresult **ret);

/* --------------------------------------------------------------------------------- publish -- */

/* tl_publish_in with the error in the caller's struct; for tl_tx_publish too. */
tl_status tl__publish_on(PGconn *conn, const char *schema, const char *topic,
                         const tl_new_event *event, tl_receipt *ret, struct tl_error *e);

#endif
