/*
 * message.c: see message.h. Standard Webhooks headers; CloudEvents 1.0 with its JSON format and its
 * HTTP binding.
 */
#include "message.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "trunkline/trunkline_version.h"

#define USER_AGENT "\r\nuser-agent: trunkline/" TL_VERSION

/* libcurl asks first (Expect: 100-continue) before it sends a body larger than a limit; no version has one lower
 * than this. */
enum { MAX_UNASKED_BYTES = 1024 };

static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/* -------------------------------------------------------------------------------------- headers */

static void add_name(struct tl__message *m, const char *name)
{
    tl__buf_add(&m->lines, "\r\n", 2);
    tl__buf_add_str(&m->lines, name);
    tl__buf_add(&m->lines, ": ", 2);
}

static void add_header(struct tl__message *m, const char *name, const char *value)
{
    add_name(m, name);
    tl__buf_add_str(&m->lines, value);
}

/* All lines as one header: libcurl sends the text as it is, and each header of its list costs about as much
 * as 20 bytes of it. It has to see the type of the content, which therefore comes first. */
static const char *const first_lines[] = {
    [TL__MESSAGE_PLAIN] = "content-type: application/json" USER_AGENT,
    [TL__MESSAGE_CLOUDEVENT] =
        "content-type: application/cloudevents+json; charset=utf-8" USER_AGENT,
    [TL__MESSAGE_CLOUDEVENT_BINARY] = "content-type: application/json" USER_AGENT,
};

/* The list that libcurl wants. */
static bool link_headers(struct tl__message *m, const struct tl__message_form *form)
{
    static char no_expect[] = "expect:";
    bool may_expect = m->body_len > MAX_UNASKED_BYTES;

    m->own_headers[0] = (struct curl_slist){m->lines.data, form->headers};
    if (may_expect) {
        m->own_headers[1] = (struct curl_slist){no_expect, form->headers};
        m->own_headers[0].next = &m->own_headers[1];
    }
    m->headers = m->own_headers;
    return !m->lines.is_failed;
}

static void add_percent(struct tl__buf *to, unsigned char c)
{
    tl__buf_addf(to, "%%%02X", c);
}

/* A URI reference of any text: what RFC 3986 does not allow is percent-encoded. */
static void add_uri(struct tl__buf *to, const char *text)
{
    for (; *text; text++) {
        bool is_escape = *text == '%' && strspn(text + 1, "0123456789ABCDEFabcdef") >= 2;
        if (is_escape || strchr(unreserved, *text) || strchr("-._~:/?#[]@!$&'()*+,;=", *text))
            tl__buf_add_char(to, *text);
        else
            add_percent(to, (unsigned char)*text);
    }
}

/* An attribute as a header: the HTTP binding has space, '"', '%' and what is not printable ASCII
 * percent-encoded. */
static void add_ce_header(struct tl__message *m, const char *name, const char *value)
{
    add_name(m, name);
    for (; *value; value++)
        if (*value > 0x20 && *value < 0x7f && *value != '"' && *value != '%')
            tl__buf_add_char(&m->lines, *value);
        else
            add_percent(&m->lines, (unsigned char)*value);
}

/* --------------------------------------------------------------------------------- CloudEvents */

struct attribute {
    const char *header; /* "ce-" and its name */
    const char *value;
};

enum { MAX_ATTRIBUTES = 12 };

/* The attributes that the event has; text of numbers and times goes into `scratch`. */
struct scratch {
    char time[TL_TIME_TEXT_SIZE], expires[TL_TIME_TEXT_SIZE], position[24], version[24];
    struct tl__buf source;
};

static size_t attributes_of(const struct tl__sink_event *e, struct scratch *scratch,
                            struct attribute ret[MAX_ATTRIBUTES])
{
    size_t n = 0;

    tl__time_format(e->created_at_us, scratch->time);
    snprintf(scratch->position, sizeof scratch->position, "%lld", (long long)e->position);
    snprintf(scratch->version, sizeof scratch->version, "%lld", (long long)e->version);
    add_uri(&scratch->source, e->source ? e->source : "/trunkline");
    ret[n++] = (struct attribute){"ce-specversion", "1.0"};
    ret[n++] = (struct attribute){"ce-id", e->id};
    ret[n++] = (struct attribute){"ce-source", scratch->source.data};
    ret[n++] = (struct attribute){"ce-type", e->type};
    ret[n++] = (struct attribute){"ce-time", scratch->time};
    ret[n++] = (struct attribute){"ce-position", scratch->position};
    if (e->stream || e->key)
        ret[n++] = (struct attribute){"ce-subject", e->stream ? e->stream : e->key};
    if (e->stream)
        ret[n++] = (struct attribute){"ce-streamversion", scratch->version};
    if (e->key)
        ret[n++] = (struct attribute){"ce-partitionkey", e->key};
    if (e->tenant_id)
        ret[n++] = (struct attribute){"ce-tenantid", e->tenant_id};
    if (e->expires_at_us) {
        tl__time_format(e->expires_at_us, scratch->expires);
        ret[n++] = (struct attribute){"ce-expirytime", scratch->expires};
    }
    return n;
}

static void make_structured(struct tl__message *m, const struct attribute *attributes, size_t n,
                            const struct tl__sink_event *e)
{
    tl__buf_add_char(&m->own, '{');
    for (size_t i = 0; i < n; i++) {
        tl__json_add_name(&m->own, attributes[i].header + strlen("ce-"));
        tl__json_add_text(&m->own, attributes[i].value);
    }
    tl__json_add_name(&m->own, "datacontenttype");
    tl__json_add_text(&m->own, "application/json");
    tl__json_add_name(&m->own, "data");
    tl__buf_add(&m->own, e->data, e->data_len);
    tl__buf_add_char(&m->own, '}');
    m->body = m->own.data;
    m->body_len = m->own.len;
}

static bool make_cloudevent(struct tl__message *m, const struct tl__sink_event *e, bool is_binary)
{
    struct attribute attributes[MAX_ATTRIBUTES];
    struct scratch scratch = {.source = TL_BUF_INIT};
    size_t n = attributes_of(e, &scratch, attributes);
    bool is_made = !scratch.source.is_failed;

    if (is_made && is_binary) {
        m->body = e->data;
        m->body_len = e->data_len;
        for (size_t i = 0; i < n; i++)
            add_ce_header(m, attributes[i].header, attributes[i].value);
    } else if (is_made) {
        make_structured(m, attributes, n, e);
        is_made = !m->own.is_failed;
    }
    tl__buf_done(&scratch.source);
    return is_made;
}

/* --------------------------------------------------------------------------------------- public */

static bool sign(const struct tl__message_form *form, const char *id, int64_t now_s,
                 struct tl__message *m)
{
    char *signature = NULL;

    add_header(m, "webhook-id", id);
    add_name(m, "webhook-timestamp");
    tl__buf_add_i64(&m->lines, now_s);
    if (form->secret_count == 0)
        return true;
    if (tl_webhook_sign(form->secrets, form->secret_count, id, now_s, m->body, m->body_len,
                        &signature) != TL_OK)
        return false;
    add_header(m, "webhook-signature", signature);
    tl_free(signature);
    return true;
}

bool tl__message_make(const struct tl__message_form *form, const struct tl__sink_delivery *d,
                      int64_t now_s, struct tl__message *ret)
{
    bool is_made = true;

    *ret = (struct tl__message){
        .body = d->body, .body_len = d->body_len, .own = TL_BUF_INIT, .lines = TL_BUF_INIT};
    tl__buf_reserve(&ret->lines, 500);
    tl__buf_add_str(&ret->lines, first_lines[form->format]);
    if (form->format != TL__MESSAGE_PLAIN)
        is_made = make_cloudevent(ret, &d->event, form->format == TL__MESSAGE_CLOUDEVENT_BINARY);
    return is_made && sign(form, d->id, now_s, ret) && link_headers(ret, form);
}

void tl__message_done(struct tl__message *message)
{
    tl__buf_done(&message->lines);
    tl__buf_done(&message->own);
}
