/*
 * publisher_batch.c: the connection of a publisher: a batch becomes statements in one pipeline, which is one
 * transaction that ends with its sync. A batch that the server refuses is halved until those to blame are
 * alone. Nothing here waits; nothing here knows threads.
 */
#include "publisher.h"

#include "clock.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

/* An event with an id waits for whoever publishes the same id; not for long, since others wait behind it. */
#define LOCK_TIMEOUT_MS 1000
/* While it is one of several: who is in nobody's way shall not wait until it is found. */
#define SHORT_LOCK_TIMEOUT_MS 100

static const char limit_sql[] = "SELECT set_config('lock_timeout', $1, true)";

bool tl__publisher_is_waiting(const tl_publisher *p)
{
    return p->phase == TL__CONNECTING || p->phase == TL__BUSY;
}

void tl__publisher_drop_conn(tl_publisher *p)
{
    PQfinish(p->conn);
    p->conn = NULL;
    p->phase = TL__OFF;
    p->events = 0;
    p->watched_fd = -1; /* closed: it has left epoll by itself, and the number may come again */
}

/* -------------------------------------------------------------------------------- connection -- */

/* Nobody can be served: all hear of it, and the next event tries again. */
static void fail_everybody(tl_publisher *p)
{
    struct tl_error e = p->error;

    tl__publisher_drop_conn(p);
    while (p->ended < p->member_count) {
        struct tl__request *r = p->members[p->ended++];

        r->status = e.status;
        r->error = e;
        tl__publisher_finish(p, r);
    }
    p->part_count = 0;
    tl__publisher_fail_queue(p, &e);
}

static void start_connecting(tl_publisher *p)
{
    tl__error_clear(&p->error);
    p->conn = tl__connect_start(p->settings, &p->error);
    if (p->conn == NULL) {
        fail_everybody(p);
        return;
    }
    p->phase = TL__CONNECTING;
    p->events = POLLOUT;
    p->answer_until_us = tl__deadline_us(tl__clock_us(), p->settings->connect_timeout_us);
}

/* True: there is a next step. */
static bool go_on_connecting(tl_publisher *p)
{
    struct pollfd fd = {.fd = PQsocket(p->conn), .events = p->events};
    tl_status status = TL_NOTHING;

    /* libpq takes a call for a sign that the socket is ready */
    if (poll(&fd, 1, 0) > 0) {
        status = tl__connect_poll(p->conn, &p->error, &p->events);
        p->watched_fd = -1; /* it may be another one now */
    }
    if (status == TL_NOTHING && tl__clock_us() < p->answer_until_us)
        return false;
    if (status == TL_NOTHING)
        tl__error_set(&p->error, TL_E_CONNECTION, NULL,
                      "cannot connect to the server: no answer within %llu ms",
                      (unsigned long long)(p->settings->connect_timeout_us / 1000));
    else if (status == TL_OK &&
             (PQsetnonblocking(p->conn, 1) != 0 || !PQenterPipelineMode(p->conn)))
        status = tl__error_from_conn(&p->error, p->conn, false);
    if (status != TL_OK) {
        fail_everybody(p);
        return false;
    }
    p->phase = TL__READY;
    p->events = 0;
    p->generation++;
    p->vanished_count = 0;
    p->is_unprepared = false;
    (void)pthread_mutex_lock(&p->lock);
    p->stats.connections++;
    (void)pthread_mutex_unlock(&p->lock);
    return true;
}

/* -------------------------------------------------------------------------------------- parts -- */

static size_t part_end(const tl_publisher *p)
{
    return p->part_ends[p->part_count - 1];
}

/* The part has ended, with the same result for each of its events that has no receipt. */
static void end_part(tl_publisher *p, tl_status status)
{
    size_t end = part_end(p);

    p->part_count--;
    (void)pthread_mutex_lock(&p->lock);
    if (status == TL_OK) {
        p->stats.commits++;
        if (end - p->ended > p->stats.largest_batch)
            p->stats.largest_batch = end - p->ended;
    }
    (void)pthread_mutex_unlock(&p->lock);
    while (p->ended < end) {
        struct tl__request *r = p->members[p->ended++];

        r->status = status;
        if (status != TL_OK)
            r->error = p->error;
        tl__publisher_finish(p, r);
    }
}

static void count_rollback(tl_publisher *p)
{
    (void)pthread_mutex_lock(&p->lock);
    p->stats.rollbacks++;
    (void)pthread_mutex_unlock(&p->lock);
}

static bool is_same_kind(const struct tl__element *a, const struct tl__element *b)
{
    return tl__element_is_timed(a) == tl__element_is_timed(b) &&
           tl__element_is_by_function(a) == tl__element_is_by_function(b);
}

/* Neighbours of one topic and kind are one statement. */
static void cut_segments(tl_publisher *p)
{
    size_t end = part_end(p);
    size_t at = p->ended;

    p->segment_count = 0;
    while (at < end && p->segment_count < TL__MAX_SEGMENTS) {
        struct tl__segment *s = &p->segments[p->segment_count++];
        const struct tl__request *head = p->members[at];
        size_t bytes = 0;

        *s = (struct tl__segment){.first = at};
        while (at < end && at - s->first < TL__CHUNK_EVENTS &&
               (at == s->first || bytes < TL__CHUNK_BYTES) &&
               strcmp(p->members[at]->topic, head->topic) == 0 &&
               is_same_kind(&p->members[at]->element, &head->element))
            bytes += tl__element_bytes(&p->members[at++]->element);
        s->end = at;
    }
    if (at < end)
        p->part_ends[p->part_count++] = at;
}

/* --------------------------------------------------------------------------------------- send -- */

static tl_status queue_statement(tl_publisher *p, const char *topic, const char *template_text,
                                 const struct tl__params *params, int segment)
{
    struct tl__statement *st = NULL;
    tl_status status = tl__cached_get(&p->cached, &p->error, p->settings->schema_quoted, topic,
                                      template_text, &st);
    int is_queued;

    if (status != TL_OK || st == NULL)
        return status;
    if (p->is_unprepared) {
        is_queued = PQsendQueryParams(p->conn, st->sql, params->n, NULL, params->values,
                                      params->lengths, params->formats, 1);
    } else {
        if (st->prepared_on != p->generation) {
            if (!PQsendPrepare(p->conn, st->name, st->sql, 0, NULL))
                return tl__error_from_conn(&p->error, p->conn, false);
            p->queued[p->queued_count++] = (struct tl__queued){st, segment, true};
            /* or the same statement would be prepared twice in this pipeline */
            st->prepared_on = p->generation;
        }
        is_queued = PQsendQueryPrepared(p->conn, st->name, params->n, params->values,
                                        params->lengths, params->formats, 1);
    }
    if (!is_queued)
        return tl__error_from_conn(&p->error, p->conn, false);
    p->queued[p->queued_count++] = (struct tl__queued){st, segment, false};
    return TL_OK;
}

static tl_status queue_lock_timeout(tl_publisher *p)
{
    struct tl__params params = TL_PARAMS_INIT;
    char text[24];

    for (int i = 0; i < p->segment_count; i++) {
        if (!tl__element_is_by_function(&p->members[p->segments[i].first]->element))
            continue;
        snprintf(text, sizeof text, "%dms",
                 part_end(p) - p->ended > 1 ? SHORT_LOCK_TIMEOUT_MS : LOCK_TIMEOUT_MS);
        tl__param_text(&params, text);
        return queue_statement(p, NULL, limit_sql, &params, -1);
    }
    return TL_OK;
}

static tl_status queue_segment(tl_publisher *p, int i)
{
    const struct tl__segment *s = &p->segments[i];
    const struct tl__request *head = p->members[s->first];
    struct tl__params params = TL_PARAMS_INIT;
    struct tl__chunk chunk = {p->elements, s->end - s->first,
                              tl__element_is_by_function(&head->element),
                              tl__element_is_timed(&head->element)};
    const char *template_text;
    tl_status status;

    tl__buf_clear(&p->buf);
    if (chunk.count == 1) {
        template_text = tl__publish_template(&head->element, true);
        status = tl__publish_params(&p->error, &head->element, head->topic, &p->buf, &params);
    } else {
        for (size_t m = s->first; m < s->end; m++)
            p->elements[m - s->first] = p->members[m]->element;
        template_text = tl__chunk_template(&chunk);
        status = tl__chunk_params(&p->error, &chunk, head->topic, &p->buf, &params);
    }
    /* sticky, but the next batch may be smaller */
    if (p->buf.is_failed)
        tl__buf_done(&p->buf);
    if (status != TL_OK)
        return status;
    return queue_statement(p, tl__chunk_topic(&chunk, head->topic), template_text, &params, i);
}

/* What was sent of a part that could not be sent whole is of no use: without its sync nothing of it is stored. */
static void give_up_part(tl_publisher *p)
{
    for (int i = 0; i < p->segment_count; i++) {
        PQclear(p->segments[i].res);
        p->segments[i].res = NULL;
    }
    tl__publisher_drop_conn(p);
    end_part(p, p->error.status);
}

static tl_status flush(tl_publisher *p)
{
    int left = PQflush(p->conn);

    if (left < 0)
        return tl__error_from_conn(&p->error, p->conn, false);
    p->is_unflushed = left > 0;
    p->is_sent = left == 0;
    p->events = p->is_unflushed ? POLLIN | POLLOUT : POLLIN;
    return TL_OK;
}

static void send_part(tl_publisher *p)
{
    tl_status status;

    tl__error_clear(&p->error);
    cut_segments(p);
    p->queued_count = p->answered = 0;
    p->failed = -1;
    p->is_sent = p->is_cancelled = p->is_ending = false;
    status = queue_lock_timeout(p);
    for (int i = 0; status == TL_OK && i < p->segment_count; i++)
        status = queue_segment(p, i);
    if (status == TL_OK && !PQpipelineSync(p->conn))
        status = tl__error_from_conn(&p->error, p->conn, false);
    if (status == TL_OK)
        status = flush(p);
    if (status != TL_OK) {
        give_up_part(p);
        return;
    }
    p->phase = TL__BUSY;
    p->answer_until_us = tl__deadline_us(tl__clock_us(), p->settings->timeout_us);
}

/* ----------------------------------------------------------------------------------- conclude -- */

/* Would another event in its place have met the same error? Then it makes no sense to look for who is to blame. */
static bool is_about_all(const struct tl_error *e)
{
    static const char *const states[] = {"08", "25", "28", "3F", "42", "53", "57", "58", "TL006"};

    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        if (strncmp(e->sqlstate, states[i], strlen(states[i])) == 0)
            return true;
    }
    return false;
}

static void explain(tl_publisher *p)
{
    struct tl_error *e = &p->error;

    e->index = -1; /* of our array, not of the caller's event */
    if (strcmp(e->sqlstate, "22P02") == 0)
        (void)tl__json_named(e, "data or metadata", e->status);
    else if (strcmp(e->sqlstate, "42P01") == 0)
        (void)tl__publish_no_topic(e, p->settings->schema, p->members[p->ended]->topic);
    else if (strcmp(e->sqlstate, "55P03") == 0)
        tl__error_set(e, TL_E_TIMEOUT, "55P03",
                      "waited longer than %d ms for a lock that another transaction holds",
                      LOCK_TIMEOUT_MS);
    else if (strcmp(e->sqlstate, "57014") == 0 && p->is_cancelled)
        tl__error_set(e, TL_E_TIMEOUT, "57014", "no answer from the server within %llu ms",
                      (unsigned long long)(p->settings->timeout_us / 1000));
}

/* True: the statement was not there any more, or there already (behind a proxy); the part is sent again. */
static bool is_to_be_repeated(tl_publisher *p)
{
    struct tl__statement *st = p->failed < p->queued_count ? p->queued[p->failed].statement : NULL;

    if (st == NULL || p->is_unprepared)
        return false;
    if (strcmp(p->error.sqlstate, "42P05") == 0 && p->queued[p->failed].is_prepare) {
        st->prepared_on = p->generation;
        return true;
    }
    if (strcmp(p->error.sqlstate, "26000") != 0)
        return false;
    st->prepared_on = 0;
    if (++p->vanished_count >= TL__MAX_VANISHED)
        p->is_unprepared = true;
    return true;
}

/* What comes behind a failure in a pipeline is not run: those statements are not prepared. */
static void forget_unprepared(tl_publisher *p)
{
    for (int i = p->failed; i >= 0 && i < p->queued_count; i++) {
        if (p->queued[i].is_prepare)
            p->queued[i].statement->prepared_on = 0;
    }
}

static void conclude_failure(tl_publisher *p)
{
    size_t end = part_end(p);

    forget_unprepared(p);
    if (is_to_be_repeated(p))
        return;
    count_rollback(p);
    if (end - p->ended > 1 && !p->is_cancelled &&
        (p->segment_count > 1 || !is_about_all(&p->error))) {
        p->part_ends[p->part_count++] = p->ended + (end - p->ended) / 2;
        return;
    }
    explain(p);
    end_part(p, p->error.status);
}

static void conclude_success(tl_publisher *p)
{
    tl_status status = TL_OK;

    for (int i = 0; i < p->segment_count; i++) {
        const struct tl__segment *s = &p->segments[i];

        if ((size_t)PQntuples(s->res) != s->end - s->first) {
            status = tl__error_set(&p->error, TL_E_SERVER, NULL,
                                   "the server did not answer for every event of the batch");
            p->error.is_outcome_unknown = true;
            break;
        }
        for (size_t m = s->first; m < s->end; m++)
            tl__receipt_from_row(s->res, (int)(m - s->first), &p->members[m]->receipt);
    }
    end_part(p, status);
}

static void conclude(tl_publisher *p)
{
    bool is_cancelled = p->is_cancelled;

    p->phase = TL__READY;
    p->events = 0;
    if (p->failed >= 0)
        conclude_failure(p);
    else
        conclude_success(p);
    for (int i = 0; i < p->segment_count; i++) {
        PQclear(p->segments[i].res);
        p->segments[i].res = NULL;
    }
    /* a cancel request may still be on its way */
    if (is_cancelled)
        tl__publisher_drop_conn(p);
}

/* The connection is lost. Where the server had refused the part before, that is known. */
static void conclude_lost(tl_publisher *p)
{
    if (p->failed >= 0) {
        conclude(p);
        tl__publisher_drop_conn(p);
        return;
    }
    if (!p->is_ending)
        tl__error_from_conn(&p->error, p->conn, p->is_sent);
    give_up_part(p);
}

/* ------------------------------------------------------------------------------------ receive -- */

static void note_error(tl_publisher *p, const PGresult *res)
{
    if (p->failed >= 0 || p->is_ending || PQresultErrorField(res, PG_DIAG_SQLSTATE) == NULL)
        return; /* told already, or libpq's own: then the connection is lost */
    if (tl__error_from_result(&p->error, res, p->is_sent) == TL_E_CONNECTION)
        p->is_ending = true;
    else
        p->failed = p->answered;
}

/* Take what has come. True: the answer is complete. */
static bool take_answers(tl_publisher *p)
{
    while (!PQisBusy(p->conn)) {
        PGresult *res = PQgetResult(p->conn);
        const struct tl__queued *q = p->answered < p->queued_count ? &p->queued[p->answered] : NULL;

        switch (res != NULL ? PQresultStatus(res) : PGRES_EMPTY_QUERY) {
        case PGRES_PIPELINE_SYNC:
            PQclear(res);
            return true;
        case PGRES_TUPLES_OK:
            if (q != NULL && q->segment >= 0 && p->segments[q->segment].res == NULL) {
                p->segments[q->segment].res = res;
                res = NULL;
                continue;
            }
            break;
        case PGRES_FATAL_ERROR:
            note_error(p, res);
            break;
        default:
            break;
        }
        if (res == NULL && (PQstatus(p->conn) != CONNECTION_OK || p->answered > p->queued_count))
            return false;
        p->answered += res == NULL;
        PQclear(res);
    }
    return false;
}

/* No answer in time: ask the server to cancel; the second time give up. */
static bool is_over(tl_publisher *p)
{
    PGcancel *cancel;
    char ignored[256];

    if (tl__clock_us() < p->answer_until_us)
        return false;
    if (p->is_cancelled) {
        tl__error_set(&p->error, TL_E_TIMEOUT, NULL, "no answer from the server within %llu ms",
                      (unsigned long long)(p->settings->timeout_us / 1000));
        p->error.is_outcome_unknown = p->is_sent;
        give_up_part(p);
        return true;
    }
    p->is_cancelled = true;
    p->answer_until_us = tl__deadline_us(tl__clock_us(), TL__CANCEL_GRACE_US);
    cancel = PQgetCancel(p->conn);
    if (cancel != NULL) {
        (void)PQcancel(cancel, ignored, sizeof ignored);
        PQfreeCancel(cancel);
    }
    return false;
}

/* True: there is a next step. */
static bool receive(tl_publisher *p)
{
    bool is_alive = PQconsumeInput(p->conn) != 0;

    if (is_alive && p->is_unflushed && flush(p) != TL_OK)
        is_alive = false;
    if (take_answers(p)) {
        conclude(p);
        return true;
    }
    if (!is_alive || PQstatus(p->conn) != CONNECTION_OK) {
        conclude_lost(p);
        return true;
    }
    return is_over(p);
}

/* --------------------------------------------------------------------------------------- step -- */

/* Is there a part to send? */
static bool has_part(tl_publisher *p)
{
    if (p->part_count > 0)
        return true;
    p->member_count = p->ended = 0;
    if (!tl__publisher_collect(p))
        return false;
    p->part_ends[p->part_count++] = p->member_count;
    return true;
}

void tl__publisher_step(tl_publisher *p)
{
    bool goes_on = true;

    while (goes_on) {
        switch (p->phase) {
        case TL__OFF:
            if (p->part_count == 0 && !tl__publisher_has_queue(p))
                return;
            start_connecting(p);
            return;
        case TL__CONNECTING:
            goes_on = go_on_connecting(p);
            break;
        case TL__READY:
            if (!has_part(p))
                return;
            if (tl__conn_is_alive(p->conn))
                send_part(p);
            else
                tl__publisher_drop_conn(p); /* and make a new one */
            goes_on = p->phase != TL__BUSY;
            break;
        case TL__BUSY:
            goes_on = receive(p);
            break;
        }
    }
}
