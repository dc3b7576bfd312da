/*
 * webhook.c: targets "https://…" and "http://…": one POST for each event. Only 2xx is success. What
 * is sent is made by message.c, how it gets there is http.c's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "http.h"
#include "message.h"
#include "netguard.h"
#include "str.h"

enum { MAX_SNIPPET_BYTES = 200 /* of an answer kept with the error */ };
static const uint64_t LONG_WAIT_US = 60000000; /* after 429 and time-outs, at least */

struct tl__sink {
    const struct tl__sink_env *env;
    char *url, *shown_url;
    bool is_host_allowed;
    struct tl__message_form form;
    char *secrets; /* what form points into */
};

struct request {
    struct tl__sink *sink;
    struct tl__sink_delivery *delivery;
    struct tl__message message;
    int64_t started_at_us;
};

/* ---------------------------------------------------------------------------------- one request */

static void describe(const struct tl__http_answer *a, char *text, size_t size, char summary[16])
{
    size_t n;

    snprintf(summary, 16, "HTTP %d", a->status);
    n = (size_t)snprintf(text, size, "%s%s", summary, a->body_len ? ": " : "");
    for (size_t i = 0; i < a->body_len && i < MAX_SNIPPET_BYTES && n + 1 < size; i++) {
        unsigned char c = (unsigned char)a->body[i];
        text[n++] = c < 0x20 || c >= 0x7f ? ' ' : (char)c;
    }
    text[n] = 0;
}

static struct tl__sink_result judge(const struct tl__http_answer *a, char *text, size_t size,
                                    char summary[16])
{
    struct tl__sink_result result = {.word = TL__SINK_RETRY, .error = text};

    switch (a->end) {
    case TL__HTTP_ANSWERED:
        if (a->status >= 200 && a->status <= 299)
            return (struct tl__sink_result){.word = TL__SINK_DELIVERED};
        describe(a, text, size, summary);
        result.summary = summary;
        result.wish_us = a->retry_after_us;
        result.floor_us = a->status == 429 ? LONG_WAIT_US : 0;
        break;
    case TL__HTTP_REFUSED:
        result.error = "address refused: private, loopback and reserved addresses need "
                       "--webhook-allow or --allow-private";
        break;
    case TL__HTTP_TIMED_OUT:
        result.floor_us = LONG_WAIT_US;
        /* fall through */
    default:
        snprintf(text, size, "%s", a->error);
    }
    return result;
}

static void request_free(struct request *r)
{
    tl__message_done(&r->message);
    free(r);
}

static void on_done(void *userdata, const struct tl__http_answer *a)
{
    struct request *r = userdata;
    struct tl__sink_delivery *delivery = r->delivery;
    char text[CURL_ERROR_SIZE + 300], summary[16];
    struct tl__sink_result result = judge(a, text, sizeof text, summary);
    struct tl__sink_attempt attempt = {
        .url = r->sink->shown_url,
        .status = a->status,
        .response = a->body,
        .response_len = a->body_len,
        .started_at_us = r->started_at_us,
        .duration_us = a->duration_us,
    };

    if (a->end != TL__HTTP_ABORTED)
        result.attempt = &attempt;
    delivery->done(delivery, &result); /* may close the sink */
    request_free(r);
}

static void deliver(struct tl__sink *sink, struct tl__sink_delivery *delivery)
{
    struct request *r = malloc(sizeof *r);
    bool is_sent = false;

    if (r) {
        r->sink = sink;
        r->delivery = delivery;
        r->started_at_us = tl__wall_us();
        if (tl__message_make(&sink->form, delivery, r->started_at_us / 1000000, &r->message)) {
            is_sent = tl__http_post(sink->env->shared,
                                    &(struct tl__http_request){
                                        .url = sink->url,
                                        .body = r->message.body,
                                        .body_len = r->message.body_len,
                                        .headers = r->message.headers,
                                        .timeout_us = delivery->timeout_us
                                                          ? delivery->timeout_us
                                                          : sink->env->webhook_timeout_us,
                                        .is_host_allowed = sink->is_host_allowed,
                                        .done = on_done,
                                        .userdata = r,
                                    });
        }
    }
    if (is_sent)
        return;
    if (r)
        request_free(r);
    delivery->done(delivery, &(struct tl__sink_result){.word = TL__SINK_RETRY,
                                                       .error = "cannot start the request"});
}

static void *start(const struct tl__sink_env *env)
{
    return tl__http_start(env);
}

static void *stop(void *shared)
{
    tl__http_stop(shared);
    return NULL;
}

static void abort_all(const struct tl__sink_env *env)
{
    tl__http_abort(env->shared);
}

/* --------------------------------------------------------------------------------------- target */

static struct tl__sink *close_target(struct tl__sink *sink)
{
    if (sink) {
        if (sink->secrets)
            explicit_bzero(sink->secrets, strlen(sink->secrets));
        free(sink->secrets);
        free((void *)sink->form.secrets);
        curl_slist_free_all(sink->form.headers);
        free(sink->url);
        free(sink->shown_url);
    }
    free(sink);
    return NULL;
}

/* Cut a list into its words, in place; NULL: no memory. */
static const char *const *split(char *list, size_t *ret_count)
{
    size_t most = 1, n = 0;

    for (const char *c = list; *c; c++)
        most += *c == ' ';
    const char **words = calloc(most, sizeof *words);
    for (char *rest = list, *word; words && (word = strsep(&rest, " "));)
        if (*word)
            words[n++] = word;
    *ret_count = n;
    return words;
}

static bool take_headers(struct tl__sink *sink, const char *lines)
{
    char *copy = strdup(lines), *rest = copy, *line;
    struct curl_slist *list = NULL, *longer;
    bool is_fine = copy != NULL;

    while (is_fine && (line = strsep(&rest, "\n"))) {
        longer = curl_slist_append(list, line);
        is_fine = longer != NULL;
        list = is_fine ? longer : list;
    }
    sink->form.headers = list;
    free(copy);
    return is_fine;
}

/* URL for people: without user, password, query and fragment, which may be secrets. */
static bool take_url(struct tl__sink *sink, const char *target, CURLU *parsed)
{
    char *host = NULL, *shown = NULL;

    sink->url = strdup(target);
    if (curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK)
        sink->is_host_allowed = tl__netguard_permits_host(sink->env->guard, host);
    curl_url_set(parsed, CURLUPART_USER, NULL, 0);
    curl_url_set(parsed, CURLUPART_PASSWORD, NULL, 0);
    curl_url_set(parsed, CURLUPART_QUERY, NULL, 0);
    curl_url_set(parsed, CURLUPART_FRAGMENT, NULL, 0);
    if (curl_url_get(parsed, CURLUPART_URL, &shown, 0) == CURLUE_OK)
        sink->shown_url = strdup(shown);
    curl_free(host);
    curl_free(shown);
    return sink->url && sink->shown_url;
}

static bool take_form(struct tl__sink *sink, const struct tl__sink_target *what)
{
    sink->form.format = strcmp(what->format, "cloudevents") == 0 ? TL__MESSAGE_CLOUDEVENT
                        : strcmp(what->format, "cloudevents-binary") == 0
                            ? TL__MESSAGE_CLOUDEVENT_BINARY
                            : TL__MESSAGE_PLAIN;
    sink->secrets = strdup(what->secrets ? what->secrets : "");
    if (!sink->secrets || (what->headers && !take_headers(sink, what->headers)))
        return false;
    sink->form.secrets = split(sink->secrets, &sink->form.secret_count);
    return sink->form.secrets != NULL;
}

static struct tl__sink *open_target(const struct tl__sink_env *env,
                                    const struct tl__sink_target *what, const char **ret_problem)
{
    CURLU *parsed = curl_url();
    bool is_url = parsed && curl_url_set(parsed, CURLUPART_URL, what->target, 0) == CURLUE_OK;
    struct tl__sink *sink = NULL;

    *ret_problem = "out of memory";
    if (!is_url) {
        *ret_problem = "malformed URL";
    } else if (env->is_https_only && strncmp(what->target, "https://", 8) != 0) {
        *ret_problem = "only https is allowed here (--https-only)";
    } else if (!what->format) {
        *ret_problem = "this role may not read the keys of webhooks: see grant_serve()";
    } else if (env->shared && (sink = calloc(1, sizeof *sink))) {
        sink->env = env;
        if (!take_url(sink, what->target, parsed) || !take_form(sink, what))
            sink = close_target(sink);
    }
    curl_url_cleanup(parsed);
    return sink;
}

static const char *const prefixes[] = {"https://", "http://", NULL};

const struct tl__sink_kind tl__sink_webhook = {
    .name = "webhook",
    .prefixes = prefixes,
    .start = start,
    .stop = stop,
    .open = open_target,
    .deliver = deliver,
    .abort = abort_all,
    .close = close_target,
};
