/*
 * publish_wait.c: tl_publish_wait and tl_event_outcomes: what became of an event. The database
 * derives it from cursors, leases, retries and dead letters; this file asks, and asks again. Not the
 * publishing itself: publish.c.
 */
#include "publish.h"

#include "clock.h"
#include "json.h"

#include <poll.h>
#include <string.h>

/* Pauses between two looks: most handlers need a few milliseconds, the others can wait. */
#define FIRST_PAUSE_US 2000
#define LONGEST_PAUSE_US 50000

#define OUTCOME_COLUMNS "subscription, mode, active, state, attempts, error"
enum { COL_SUBSCRIPTION, COL_MODE, COL_ACTIVE, COL_STATE, COL_ATTEMPTS, COL_ERROR };

static const char outcomes_sql[] =
    "SELECT " OUTCOME_COLUMNS " FROM @extschema@.outcomes(topic => $1, at => $2)";
static const char sync_outcomes_sql[] =
    "SELECT " OUTCOME_COLUMNS
    " FROM @extschema@.outcomes(topic => $1, at => $2) WHERE mode = 'sync'";
/* Runs nothing, but fails when the right to look is missing. */
static const char right_sql[] = "SELECT state FROM @extschema@.outcomes(at => 0) LIMIT 0";

struct tl_outcomes {
    PGresult *res;
};

tl_outcomes *tl_outcomes_free(tl_outcomes *o)
{
    if (o != NULL) {
        PQclear(o->res);
        free(o);
    }
    return NULL;
}

static void outcomes_freep(tl_outcomes **o)
{
    tl_outcomes_free(*o);
}

size_t tl_outcomes_count(const tl_outcomes *o)
{
    return o == NULL ? 0 : (size_t)PQntuples(o->res);
}

const char *tl_outcomes_subscription(const tl_outcomes *o, size_t i)
{
    return tl__cell_text(o->res, (int)i, COL_SUBSCRIPTION);
}

bool tl_outcomes_is_sync(const tl_outcomes *o, size_t i)
{
    return strcmp(tl__cell_text(o->res, (int)i, COL_MODE), "sync") == 0;
}

bool tl_outcomes_is_active(const tl_outcomes *o, size_t i)
{
    return tl__cell_bool(o->res, (int)i, COL_ACTIVE);
}

const char *tl_outcomes_state(const tl_outcomes *o, size_t i)
{
    return tl__cell_text(o->res, (int)i, COL_STATE);
}

uint32_t tl_outcomes_attempts(const tl_outcomes *o, size_t i)
{
    return (uint32_t)tl__cell_i64(o->res, (int)i, COL_ATTEMPTS);
}

const char *tl_outcomes_error(const tl_outcomes *o, size_t i)
{
    return tl__cell_text(o->res, (int)i, COL_ERROR);
}

static bool has_state(const tl_outcomes *o, size_t i, const char *const *states)
{
    for (; *states != NULL; states++)
        if (strcmp(tl_outcomes_state(o, i), *states) == 0)
            return true;
    return false;
}

bool tl_outcomes_has_ended(const tl_outcomes *o, size_t i)
{
    static const char *const open[] = {"pending", "processing", "retrying", NULL};

    return !has_state(o, i, open);
}

/* A call of its own within the public one. */
static tl_status look(tl_client *c, const char *sql, const char *topic, int64_t position,
                      tl_outcomes **ret)
{
    struct tl__params params = TL_PARAMS_INIT;
    PGresult *res = NULL;
    tl_outcomes *o;
    tl_status status = tl__call_begin(c);

    if (status != TL_OK)
        return status;
    tl__param_text(&params, topic);
    tl__param_i64(&params, position);
    status = tl__call(c, TL__READS, NULL, sql, &params, &res);
    if (status != TL_OK)
        return status;
    o = malloc(sizeof *o);
    if (o == NULL) {
        PQclear(res);
        return tl__error_nomem(&c->error);
    }
    o->res = res;
    tl_outcomes_free(*ret);
    *ret = o;
    return TL_OK;
}

tl_status tl_event_outcomes(tl_client *c, const char *topic, int64_t position, tl_outcomes **ret)
{
    tl_outcomes *found = NULL;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__topic_load(&c->error, topic, &topic)) != TL_OK ||
        (status = look(c, outcomes_sql, topic, position, &found)) != TL_OK)
        return status;
    *ret = found;
    return TL_OK;
}

/* Names of those that are not finished (or, with states, of those in one of them) as a JSON array
 * and as text. */
static size_t name_them(const tl_outcomes *o, const char *const *states, struct tl__buf *json,
                        struct tl__buf *text)
{
    size_t count = 0;

    tl__buf_add_char(json, '[');
    for (size_t i = 0; i < tl_outcomes_count(o); i++) {
        if (states != NULL ? !has_state(o, i, states)
                           : tl_outcomes_has_ended(o, i) || !tl_outcomes_is_active(o, i))
            continue;
        if (count++ > 0) {
            tl__buf_add_char(json, ',');
            tl__buf_add_str(text, ", ");
        }
        tl__json_add_text(json, tl_outcomes_subscription(o, i));
        tl__buf_addf(text, "\"%s\"", tl_outcomes_subscription(o, i));
    }
    tl__buf_add_str(json, "]}");
    return count;
}

/* TL_NOTHING while somebody has to finish; TL_OK; TL_E_REJECTED when one failed for good. */
static tl_status judge(tl_client *c, const tl_outcomes *o, bool is_late, uint64_t timeout_us)
{
    static const char *const failures[] = {"failed", "expired", NULL};
    TL_CLEANUP(tl__buf_done)
    struct tl__buf json = TL_BUF_INIT;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf text = TL_BUF_INIT;

    tl__buf_add_str(&json, "{\"pending\":");
    if (name_them(o, NULL, &json, &text) > 0) {
        if (!is_late)
            return TL_NOTHING;
        if (json.is_failed || text.is_failed)
            return tl__error_nomem(&c->error);
        tl__error_set(&c->error, TL_E_TIMEOUT, NULL,
                      "event is stored, but not handled within %llu ms by %s",
                      (unsigned long long)(timeout_us / 1000), text.data);
        tl__error_set_detail(&c->error, json.data);
        tl__error_set_hint(&c->error, "it is still delivered; do not publish it again");
        return TL_E_TIMEOUT;
    }
    tl__buf_clear(&json);
    tl__buf_clear(&text);
    tl__buf_add_str(&json, "{\"failed\":");
    if (name_them(o, failures, &json, &text) > 0) {
        if (json.is_failed || text.is_failed)
            return tl__error_nomem(&c->error);
        tl__error_set(&c->error, TL_E_REJECTED, NULL, "event is stored, but was given up by %s",
                      text.data);
        tl__error_set_detail(&c->error, json.data);
        return TL_E_REJECTED;
    }
    return TL_OK;
}

/* Sleep; true: tl_client_cancel() was called. */
static bool is_cancelled_within(tl_client *c, uint64_t until_us)
{
    struct pollfd fd = {.fd = c->cancel_fd, .events = POLLIN};

    for (;;) {
        uint64_t now_us = tl__clock_us();
        int n = poll(&fd, 1, tl__poll_ms(now_us, until_us));

        if (n > 0)
            return true;
        if (tl__clock_us() >= until_us)
            return false;
    }
}

static tl_status wait_for_outcomes(tl_client *c, const char *topic, int64_t position,
                                   uint64_t timeout_us, tl_outcomes **found)
{
    uint64_t deadline_us = tl__deadline_us(tl__clock_us(), timeout_us);
    uint64_t pause_us = FIRST_PAUSE_US;

    for (;;) {
        bool is_late = tl__clock_us() >= deadline_us;
        tl_status status = look(c, sync_outcomes_sql, topic, position, found);
        uint64_t now_us = tl__clock_us(), until_us;

        if (status == TL_OK)
            status = judge(c, *found, is_late, timeout_us);
        /* a lost connection is made anew at the next look */
        if (status != TL_NOTHING && (status != TL_E_CONNECTION || is_late))
            return status;
        until_us = tl__deadline_us(now_us, pause_us);
        if (is_cancelled_within(c, until_us < deadline_us ? until_us : deadline_us))
            return tl__error_set(&c->error, TL_E_CANCELLED, NULL,
                                 "the call was cancelled; the event is stored");
        pause_us = pause_us * 3 / 2;
        if (pause_us > LONGEST_PAUSE_US)
            pause_us = LONGEST_PAUSE_US;
    }
}

tl_status tl_publish_wait(tl_client *c, const char *topic, const tl_new_event *event,
                          uint64_t timeout_us, tl_receipt *ret, tl_outcomes **ret_outcomes)
{
    TL_CLEANUP(outcomes_freep)
    tl_outcomes *found = NULL;
    struct tl__params none = TL_PARAMS_INIT;
    struct tl__element el;
    tl_receipt receipt = {0};
    tl_status status;

    tl__error_clear(&c->error);
    if (ret != NULL)
        *ret = receipt;
    if (ret_outcomes != NULL)
        *ret_outcomes = NULL;
    if ((status = tl__topic_load(&c->error, topic, &topic)) != TL_OK ||
        (status = tl__element_load(&c->error, event, &el)) != TL_OK)
        return status;
    if (el.event.run_at_us != 0 || el.event.delay_us != 0)
        return tl__error_set(&c->error, TL_E_INVALID, NULL,
                             "%s: an event that falls due later is not waited for",
                             el.event.run_at_us != 0 ? "run_at" : "delay");
    if ((status = tl__call_begin(c)) != TL_OK ||
        (status = tl__call(c, TL__READS, NULL, right_sql, &none, NULL)) != TL_OK ||
        (status = tl_publish(c, topic, event, &receipt)) != TL_OK)
        return status;
    if (ret != NULL)
        *ret = receipt;
    if (receipt.position == 0)
        return tl__error_set(&c->error, TL_E_INVALID, NULL,
                             "the event of this id falls due later: it is not waited for");
    if (timeout_us == 0)
        timeout_us = c->settings.timeout_us;
    status = wait_for_outcomes(c, topic, receipt.position, timeout_us, &found);
    if (ret_outcomes != NULL) {
        *ret_outcomes = found;
        found = NULL;
    }
    return status;
}
