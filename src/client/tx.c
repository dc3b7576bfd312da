/*
 * tx.c: the transaction of a transactional handler. The ack is its last statement, so the
 * handler's effects and the settling commit together or not at all, and a worker that has lost
 * its lease cannot commit. Blocks: the handler's own statements do as well.
 */
#include "worker.h"

#include "clock.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

void tl__tx_init(struct tl_tx *tx, struct tl_client *client)
{
    *tx = (struct tl_tx){.client = {.settings = client->settings,
                                    .cancel_fd = client->cancel_fd,
                                    .wake_fd = client->wake_fd}};
    tl__error_clear(&tx->client.error);
}

void tl__tx_done(struct tl_tx *tx)
{
    PQfinish(tx->client.conn);
    tl__cached_free(tx->client.cached);
    tx->client.conn = NULL;
    tx->client.cached = NULL;
}

/* Give the connection up and pause before the next. */
static tl_status lose(struct tl_tx *tx)
{
    const struct tl__settings *s = &tx->client.settings;

    tl__client_drop_conn(&tx->client);
    tx->pause_us = tx->pause_us == 0 ? s->reconnect_base_us : tx->pause_us * 2;
    if (tx->pause_us > s->reconnect_cap_us)
        tx->pause_us = s->reconnect_cap_us;
    tx->retry_at_us = tl__clock_us() + tx->pause_us;
    tx->is_busy = false;
    return TL_E_CONNECTION;
}

/* One statement without parameters, or several that stop at the first failure. */
static tl_status run(struct tl_tx *tx, const char *sql)
{
    struct tl_client *c = &tx->client;

    if (c->conn == NULL)
        return TL_E_CONNECTION;
    c->deadline_us = tl__deadline_us(tl__clock_us(), c->settings.timeout_us);
    (void)PQsetnonblocking(c->conn, 1);
    return tl__call_simple(c, TL__WRITES, sql, NULL);
}

tl_status tl__tx_begin(struct tl_tx *tx)
{
    tl_status status = tl__call_begin(&tx->client);

    if (status == TL_OK)
        status = run(tx, "begin isolation level read committed read write");
    if (status != TL_OK) {
        lose(tx);
        return status;
    }
    tx->is_busy = true;
    return TL_OK;
}

static tl_status roll_back(struct tl_tx *tx)
{
    struct tl_error kept = tx->client.error;
    tl_status status = run(tx, "rollback");

    tx->client.error = kept;
    if (status != TL_OK)
        return lose(tx);
    tx->is_busy = false;
    return TL_OK;
}

/* The ack of everything up to the delivery, earlier failures of the lease included, and COMMIT. */
static tl_status commit(struct tl_tx *tx, struct tl_delivery *d)
{
    struct tl_client *c = &tx->client;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf failures = TL_BUF_INIT;
    char token[TL_UUID_TEXT_SIZE];
    char sql[256];
    long long position = (long long)d->event->position;
    tl_status status = TL_OK;

    tl__lease_failures(d->lease, d->index, &failures);
    if (failures.is_failed)
        return tl__error_nomem(&c->error);
    tl__uuid_format(d->lease->token, token);
    if (failures.len > 0) {
        struct tl__params p = TL_PARAMS_INIT;

        tl__param_uuid(&p, d->lease->token);
        tl__param_i64(&p, position);
        tl__param_text(&p, failures.data);
        p.formats[2] = 0;
        d->lease->route->may_have_more = true; /* as behind any ack with failures */
        c->deadline_us = tl__deadline_us(tl__clock_us(), c->settings.timeout_us);
        (void)PQsetnonblocking(c->conn, 1);
        status = tl__call(c, TL__WRITES, NULL,
                          "select @extschema@.ack($1::uuid, $2::bigint, $3::jsonb)", &p, NULL);
        return status == TL_OK ? run(tx, "commit") : status;
    }
    /* both are ours, not a caller's text: a uuid and a number */
    (void)snprintf(sql, sizeof sql, "select %s.ack('%s', %lld); commit", c->settings.schema_quoted,
                   token, position);
    return run(tx, sql);
}

tl_status tl__tx_end(struct tl_tx *tx, struct tl_delivery *d, tl_verdict *verdict)
{
    PGconn *conn = tx->client.conn;
    PGTransactionStatusType state = conn != NULL ? PQtransactionStatus(conn) : PQTRANS_UNKNOWN;
    tl_status status;

    if (conn == NULL || PQstatus(conn) != CONNECTION_OK || state == PQTRANS_UNKNOWN) {
        lose(tx);
        /* what the handler says for good holds; a failure may be our connection's */
        return *verdict == TL_SKIP || *verdict == TL_FAIL ? TL_OK : TL_E_CONNECTION;
    }
    if (state == PQTRANS_ACTIVE) {
        tl_delivery_set_error(d, "handler left a statement running in its transaction");
        lose(tx);
        *verdict = TL_RETRY;
        return TL_OK;
    }
    if (state == PQTRANS_IDLE) {
        tl_delivery_set_error(d, "handler ended its transaction: effects and ack are not one");
        tx->is_busy = false;
        *verdict = TL_FAIL;
        return TL_OK;
    }
    if (*verdict != TL_DONE)
        return roll_back(tx);
    if (state == PQTRANS_INERROR) {
        char text[600];

        (void)snprintf(text, sizeof text, "a statement of the handler failed: %s",
                       tl_error_message(&tx->client.error));
        tl_delivery_set_error(d, text);
        *verdict = TL_RETRY;
        return roll_back(tx);
    }
    status = commit(tx, d);
    if (status == TL_OK) {
        tx->is_busy = false;
        tx->pause_us = 0;
        return TL_OK;
    }
    if (tx->client.conn == NULL || PQstatus(tx->client.conn) != CONNECTION_OK)
        return lose(tx);
    if (status != TL_E_FENCED) {
        tl_delivery_set_error(d, tl_error_message(&tx->client.error));
        *verdict = TL_RETRY;
    }
    /* a failed COMMIT has ended the transaction already */
    if (PQtransactionStatus(tx->client.conn) == PQTRANS_IDLE)
        tx->is_busy = false;
    else if (roll_back(tx) != TL_OK)
        return TL_E_CONNECTION;
    return status == TL_E_FENCED ? TL_E_FENCED : TL_OK;
}

/* ------------------------------------------------------------ what handlers may send -- */

/* Skip what may stand before a statement's first word. */
static const char *skip_blank(const char *p)
{
    for (;;) {
        while (isspace((unsigned char)*p) || *p == ';' || *p == '(')
            p++;
        if (p[0] == '-' && p[1] == '-') {
            while (*p != '\0' && *p != '\n' && *p != '\r')
                p++;
        } else if (p[0] == '/' && p[1] == '*') {
            int depth = 1; /* they nest in PostgreSQL */

            for (p += 2; *p != '\0' && depth > 0;) {
                if (p[0] == '*' && p[1] == '/') {
                    depth--;
                    p += 2;
                } else if (p[0] == '/' && p[1] == '*') {
                    depth++;
                    p += 2;
                } else {
                    p++;
                }
            }
        } else {
            return p;
        }
    }
}

/* Is the next word this one? Then *p moves behind it. */
static bool take_word(const char **p, const char *word)
{
    const char *at = skip_blank(*p);
    size_t len = strlen(word);

    if (strncasecmp(at, word, len) != 0 || isalnum((unsigned char)at[len]) || at[len] == '_')
        return false;
    *p = at + len;
    return true;
}

/* Why a statement is refused, NULL when it is not. The server sees one statement at a time (the
 * extended protocol takes no more), so its first words decide. */
static const char *refusal(const char *sql)
{
    const char *p = sql;

    if (take_word(&p, "commit") || take_word(&p, "begin") || take_word(&p, "end") ||
        take_word(&p, "abort") || take_word(&p, "start"))
        return "a transactional handler does not begin or end transactions";
    if (take_word(&p, "rollback")) {
        if (!take_word(&p, "work"))
            (void)take_word(&p, "transaction");
        return take_word(&p, "to") ? NULL : "a transactional handler does not end its transaction";
    }
    if (take_word(&p, "prepare"))
        return take_word(&p, "transaction")
                   ? "a transactional handler does not prepare its transaction"
                   : NULL;
    if (take_word(&p, "copy"))
        return "copy is not possible here";
    return NULL;
}

static tl_status no_connection(tl_tx *tx)
{
    return tl__error_set(&tx->client.error, TL_E_CONNECTION, NULL,
                         "the connection of the handler's transaction is lost");
}

tl_status tl_tx_exec(tl_tx *tx, const char *sql, int n, const char *const *values,
                     struct pg_result **ret_result)
{
    struct tl_client *c = &tx->client;
    struct tl__exec x;
    const char *why;
    tl_status status;

    if (sql == NULL || n < 0 || (n > 0 && values == NULL))
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "no statement or no values");
    why = refusal(sql);
    if (why != NULL) {
        tl__error_set(&c->error, TL_E_INVALID, NULL, "%s", why);
        tl__error_set_hint(&c->error, "return a verdict; tl_tx_unsafe() is the explicit escape");
        return TL_E_INVALID;
    }
    if (c->conn == NULL)
        return no_connection(tx);
    tl__error_clear(&c->error);
    c->deadline_us = tl__deadline_us(tl__clock_us(), c->settings.timeout_us);
    (void)PQsetnonblocking(c->conn, 1);
    x = tl__exec_start(c, TL__READS); /* nothing is stored before the commit */
    if (!PQsendQueryParams(c->conn, sql, n, NULL, values, NULL, NULL, 0)) {
        tl__error_from_conn(&c->error, c->conn, false);
        return TL_E_CONNECTION;
    }
    status = tl__exec_flush(&x);
    if (status != TL_OK)
        return status;
    x.is_sent = true;
    return tl__exec_finish(&x, ret_result);
}

tl_status tl_tx_publish(tl_tx *tx, const char *topic, const tl_new_event *event, tl_receipt *ret)
{
    struct tl_client *c = &tx->client;

    if (c->conn == NULL)
        return no_connection(tx);
    tl__error_clear(&c->error);
    (void)PQsetnonblocking(c->conn, 0);
    return tl__publish_on(c->conn, c->settings.schema, topic, event, ret, &c->error);
}

const tl_error *tl_tx_error(const tl_tx *tx)
{
    return &tx->client.error;
}

struct pg_conn *tl_tx_unsafe(tl_tx *tx)
{
    return tl_client_pgconn(&tx->client);
}
