/*
 * client.c: the handle: open, close, reconnect between calls, cancel and wake from elsewhere.
 * How a call is sent and waited for is in exec.c.
 */
#include "internal.h"

#include "clock.h"
#include "str.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEFAULT_CONNECT_TIMEOUT_US 10000000
#define DEFAULT_TIMEOUT_US 30000000
#define DEFAULT_RECONNECT_BASE_US 100000
#define DEFAULT_RECONNECT_CAP_US 30000000
#define DEFAULT_POLL_INTERVAL_US 1000000
#define APPLICATION_NAME_LIMIT_BYTES 63

tl_status tl__options_load(struct tl_error *e, const char *call, void *to, size_t to_size,
                           const void *from)
{
    size_t size;

    memset(to, 0, to_size);
    memcpy(to, &to_size, sizeof to_size);
    if (from == NULL)
        return TL_OK;
    memcpy(&size, from, sizeof size);
    if (size < sizeof size || size > 65536)
        return tl__error_set(e, TL_E_INVALID, NULL,
                             "%s: size of a struct is not set (use the macro in capitals)", call);
    for (size_t i = to_size; i < size; i++) {
        if (((const char *)from)[i] != 0)
            return tl__error_set(e, TL_E_INVALID, NULL,
                                 "%s: options have a member that libtrunkline %s does not know",
                                 call, tl_version());
    }
    memcpy(to, from, size < to_size ? size : to_size);
    memcpy(to, &to_size, sizeof to_size);
    return TL_OK;
}

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
    return value != 0 ? value : otherwise;
}

static tl_status settings_load(struct tl__settings *s, struct tl_error *e, const char *conninfo,
                               const tl_client_options *from)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf quoted = TL_BUF_INIT;
    tl_client_options opts;
    const char *schema;

    if (tl__options_load(e, "tl_client_open", &opts, sizeof opts, from) != TL_OK) {
        e->is_fatal = true;
        return TL_E_INVALID;
    }
    schema = opts.schema != NULL ? opts.schema : "trunkline";
    if (tl__schema_check(e, schema) != TL_OK)
        return TL_E_INVALID;
    tl__quote_name(&quoted, schema);
    s->conninfo = strdup(conninfo != NULL ? conninfo : "");
    if (opts.application_name != NULL) {
        s->application_name = strndup(opts.application_name, APPLICATION_NAME_LIMIT_BYTES);
        if (s->application_name == NULL)
            return tl__error_nomem(e);
    }
    if (s->conninfo == NULL || quoted.is_failed)
        return tl__error_nomem(e);
    tl__str_copy(s->schema, sizeof s->schema, schema);
    tl__str_copy(s->schema_quoted, sizeof s->schema_quoted, quoted.data);
    s->connect_timeout_us = or_default(opts.connect_timeout_us, DEFAULT_CONNECT_TIMEOUT_US);
    s->timeout_us = or_default(opts.timeout_us, DEFAULT_TIMEOUT_US);
    s->reconnect_base_us = or_default(opts.reconnect_base_us, DEFAULT_RECONNECT_BASE_US);
    s->reconnect_cap_us = or_default(opts.reconnect_cap_us, DEFAULT_RECONNECT_CAP_US);
    s->reconnect_attempts = opts.reconnect_attempts;
    s->poll_interval_us = or_default(opts.poll_interval_us, DEFAULT_POLL_INTERVAL_US);
    s->no_listen = opts.no_listen;
    s->log = opts.log;
    s->log_userdata = opts.log_userdata;
    return TL_OK;
}

/* ------------------------------------------------------------------------------ open, close -- */

tl_status tl_client_open_unchecked(const char *conninfo, const tl_client_options *opts,
                                   tl_client **ret)
{
    tl_client *c = calloc(1, sizeof *c);
    tl_status status;

    *ret = c;
    if (c == NULL)
        return TL_E_NOMEM;
    tl__error_clear(&c->error);
    c->wake_fd = -1;
    c->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    status = settings_load(&c->settings, &c->error, conninfo, opts);
    if (status != TL_OK)
        return status;
    if (c->cancel_fd < 0 || (c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return tl__error_set(&c->error, TL_E_NOMEM, NULL, "no file descriptor is free");
    return tl__call_begin(c);
}

tl_status tl_client_open(const char *conninfo, const tl_client_options *opts, tl_client **ret)
{
    tl_status status = tl_client_open_unchecked(conninfo, opts, ret);

    return status == TL_OK ? tl__schema_version_check(*ret) : status;
}

tl_client *tl_client_close(tl_client *c)
{
    if (c == NULL)
        return NULL;
    if (!tl__hub_free(c->hub)) {
        tl__error_set(&c->error, TL_E_INVALID, NULL, "client is closed by a handler it runs");
        return c;
    }
    tl__waiter_free(c->waiter);
    PQfinish(c->conn);
    tl__cached_free(c->cached);
    if (c->cancel_fd >= 0)
        (void)close(c->cancel_fd);
    if (c->wake_fd >= 0)
        (void)close(c->wake_fd);
    free(c->settings.application_name);
    if (c->settings.conninfo != NULL) /* may hold a password */
        explicit_bzero(c->settings.conninfo, strlen(c->settings.conninfo));
    free(c->settings.conninfo);
    free(c);
    return NULL;
}

void tl__client_drop_conn(tl_client *c)
{
    PQfinish(c->conn);
    c->conn = NULL;
}

/* ------------------------------------------------------------------------------- each call -- */

tl_status tl__call_begin(tl_client *c)
{
    uint64_t ignored;

    tl__error_clear(&c->error);
    if (c->settings.conninfo == NULL || c->wake_fd < 0) {
        tl__error_set(&c->error, TL_E_CLOSED, NULL, "client was not opened");
        return TL_E_CLOSED;
    }
    while (read(c->cancel_fd, &ignored, sizeof ignored) > 0) {
        /* a request for an earlier call */
    }
    c->deadline_us = tl__deadline_us(tl__clock_us(), c->settings.timeout_us);
    if (c->conn != NULL && !tl__conn_is_alive(c->conn)) {
        tl__log(&c->settings, TL_LOG_WARN, "connection lost between calls; reconnecting");
        tl__client_drop_conn(c);
    }
    if (c->conn == NULL) {
        tl_status status = tl__connect(&c->settings, c->cancel_fd, &c->error, &c->conn);

        if (status != TL_OK)
            return status;
        c->generation++;
        c->vanished_count = 0;
        c->is_unprepared = false;
    } else if (PQpipelineStatus(c->conn) != PQ_PIPELINE_OFF ||
               PQtransactionStatus(c->conn) != PQTRANS_IDLE) {
        tl__error_set(&c->error, TL_E_INVALID, NULL,
                      "the client's connection was left in a transaction, query or pipeline");
        tl__error_set_hint(&c->error, "end it first, or publish in it with tl_publish_in");
        return TL_E_INVALID;
    }
    (void)PQsetnonblocking(c->conn, 1);
    return TL_OK;
}

tl_status tl__client_pause(tl_client *c, uint64_t pause_us)
{
    struct pollfd fd = {.fd = c->cancel_fd, .events = POLLIN};
    uint64_t now_us = tl__clock_us();

    if (poll(&fd, 1, tl__poll_ms(now_us, tl__deadline_us(now_us, pause_us))) > 0)
        return tl__error_set(&c->error, TL_E_CANCELLED, NULL, "the call was cancelled");
    return TL_OK;
}

/* ------------------------------------------------------------------------------- accessors -- */

const tl_error *tl_client_error(const tl_client *c)
{
    return c == NULL ? NULL : &c->error;
}

struct pg_conn *tl_client_pgconn(tl_client *c)
{
    /* A borrower expects libpq's default, blocking mode; each call sets its own. */
    if (c->conn != NULL)
        (void)PQsetnonblocking(c->conn, 0);
    return c->conn;
}

const char *tl_client_schema(const tl_client *c)
{
    return c->settings.schema;
}

/* Safe from other threads and from signal handlers: one write to a descriptor that lives as long
 * as the client. */
static void ring(int fd)
{
    uint64_t one = 1;
    int saved = errno;

    if (write(fd, &one, sizeof one) < 0) {
        /* full: it rings already */
    }
    errno = saved;
}

void tl_client_cancel(tl_client *c)
{
    ring(c->cancel_fd);
}

void tl_client_wake(tl_client *c)
{
    ring(c->wake_fd);
}
