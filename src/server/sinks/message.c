/*
 * message.c: see message.h. Standard Webhooks headers; CloudEvents 1.0 with its JSON format and its
 * HTTP binding.
 */
#include "message.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"

static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/* -------------------------------------------------------------------------------------- headers */

static bool add_line(struct tl__message *m, const char *line)
{
    struct curl_slist *list = line ? curl_slist_append(m->headers, line) : NULL;

    if (list)
        m->headers = list;
    return list != NULL;
}

static bool add_header(struct tl__message *m, const char *name, const char *value)
{
    struct tl__buf line = TL_BUF_INIT;

    tl__buf_add_str(&line, name);
    tl__buf_add_str(&line, ": ");
    tl__buf_add_str(&line, value);
    bool is_added = add_line(m, line.is_failed ? NULL : line.data);
    tl__buf_done(&line);
    return is_added;
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
static bool add_ce_header(struct tl__message *m, const char *name, const char *value)
{
    struct tl__buf text = TL_BUF_INIT;

    for (; *value; value++)
        if (*value > 0x20 && *value < 0x7f && *value != '"' && *value != '%')
            tl__buf_add_char(&text, *value);
        else
            add_percent(&text, (unsigned char)*value);
    bool is_added = !text.is_failed && add_header(m, name, text.data ? text.data : "");
    tl__buf_done(&text);
    return is_added;
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
        for (size_t i = 0; is_made && i < n; i++)
            is_made = add_ce_header(m, attributes[i].header, attributes[i].value);
    } else if (is_made) {
        make_structured(m, attributes, n, e);
        is_made = !m->own.is_failed;
    }
    tl__buf_done(&scratch.source);
    return is_made && add_header(m, "content-type",
                                 is_binary ? "application/json"
                                           : "application/cloudevents+json; charset=utf-8");
}

/* --------------------------------------------------------------------------------------- public */

static bool sign(const struct tl__message_form *form, const char *id, int64_t now_s,
                 struct tl__message *m)
{
    char *signature = NULL, now[24];

    snprintf(now, sizeof now, "%lld", (long long)now_s);
    if (!add_header(m, "webhook-id", id) || !add_header(m, "webhook-timestamp", now))
        return false;
    if (form->secret_count == 0)
        return true;
    bool is_signed = tl_webhook_sign(form->secrets, form->secret_count, id, now_s, m->body,
                                     m->body_len, &signature) == TL_OK &&
                     add_header(m, "webhook-signature", signature);
    tl_free(signature);
    return is_signed;
}

bool tl__message_make(const struct tl__message_form *form, const struct tl__sink_delivery *d,
                      int64_t now_s, struct tl__message *ret)
{
    bool is_made;

    *ret = (struct tl__message){.body = d->body, .body_len = d->body_len, .own = TL_BUF_INIT};
    if (form->format == TL__MESSAGE_PLAIN)
        is_made = add_header(ret, "content-type", "application/json");
    else
        is_made = make_cloudevent(ret, &d->event, form->format == TL__MESSAGE_CLOUDEVENT_BINARY);
    if (!is_made || !sign(form, d->id, now_s, ret) || !add_line(ret, "expect:"))
        return false;
    for (size_t i = 0; i < form->header_count; i++)
        if (!add_line(ret, form->headers[i]))
            return false;
    return true;
}

void tl__message_done(struct tl__message *message)
{
    curl_slist_free_all(message->headers);
    message->headers = NULL;
    tl__buf_done(&message->own);
}
