/*
 * webhook_sink.c: a webhook subscription, an event and the answer, line by line: target, format, secrets,
 * headers (divided by |), allowed hosts, id, type, source, stream, key, tenant, status, retry-after,
 * data; then the body of the answer. The network is this file's: what would be sent is looked at.
 */
#include "fuzz.h"

#include <ctype.h>
#include <jansson.h>
#include <strings.h>

#include "http.h"
#include "netguard.h"
#include "str.h"

enum { FIELDS = 14 };
enum {
    TARGET,
    FORMAT,
    SECRETS,
    HEADERS,
    ALLOWED,
    ID,
    TYPE,
    SOURCE,
    STREAM,
    KEY,
    TENANT,
    STATUS,
    AFTER,
    DATA
};

static struct {
    const struct tl__sink_delivery *delivery;
    const char *format;
    const struct tl__netguard *guard;
    struct tl__http_answer answer;
} now;
static struct {
    int sent, done;
    enum tl__sink_word word;
} seen;

/* ---------------------------------------------------------------------------- what is sent -- */

static const char *header_value(const struct curl_slist *headers, const char *name)
{
    size_t len = strlen(name);

    for (; headers != NULL; headers = headers->next)
        if (strncasecmp(headers->data, name, len) == 0 &&
            strncmp(headers->data + len, ": ", 2) == 0)
            return headers->data + len + 2;
    return NULL;
}

/* An attribute in a header is printable ASCII and decodes to what it was. */
static void check_attribute(const struct curl_slist *headers, const char *name, const char *wanted)
{
    const char *text = header_value(headers, name);

    fuzz_check((text != NULL) == (wanted != NULL));
    for (; wanted != NULL && *wanted != '\0'; wanted++) {
        fuzz_check(*text > 0x20 && *text < 0x7f && *text != '"');
        if (*text == '%') {
            char code[3] = {text[1], text[2], '\0'};

            fuzz_check(isxdigit((unsigned char)code[0]) && isxdigit((unsigned char)code[1]));
            fuzz_check((unsigned char)*wanted == strtoul(code, NULL, 16));
            text += 3;
        } else {
            fuzz_check(*text++ == *wanted);
        }
    }
    fuzz_check(wanted == NULL || *text == '\0');
}

static void check_member(const json_t *body, const char *name, const char *wanted)
{
    const char *text = json_string_value(json_object_get(body, name));

    fuzz_check((text != NULL) == (wanted != NULL));
    fuzz_check(text == NULL || strcmp(text, wanted) == 0);
}

static bool is_uri(const char *text)
{
    for (; *text != '\0'; text++)
        if (!isalnum((unsigned char)*text) && strchr("-._~:/?#[]@!$&'()*+,;=%", *text) == NULL)
            return false;
    return true;
}

static void check_binary(const struct tl__http_request *q, const struct tl__sink_event *e)
{
    check_attribute(q->headers, "ce-id", e->id);
    check_attribute(q->headers, "ce-type", e->type);
    check_attribute(q->headers, "ce-subject", e->stream ? e->stream : e->key);
    check_attribute(q->headers, "ce-partitionkey", e->key);
    check_attribute(q->headers, "ce-tenantid", e->tenant_id);
    check_attribute(q->headers, "ce-specversion", "1.0");
    fuzz_check(q->body == e->data && q->body_len == e->data_len);
    fuzz_check(header_value(q->headers, "ce-source") != NULL);
}

static void check_structured(const struct tl__http_request *q, const struct tl__sink_event *e)
{
    json_t *body = json_loadb(q->body, q->body_len, JSON_REJECT_DUPLICATES, NULL);
    json_t *data = json_loadb(e->data, e->data_len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    const char *source = json_string_value(json_object_get(body, "source"));

    /* of data that PostgreSQL took */
    if (data != NULL) {
        fuzz_check(json_is_object(body));
        check_member(body, "id", e->id);
        check_member(body, "type", e->type);
        check_member(body, "subject", e->stream ? e->stream : e->key);
        check_member(body, "partitionkey", e->key);
        check_member(body, "tenantid", e->tenant_id);
        check_member(body, "specversion", "1.0");
        fuzz_check(source != NULL && is_uri(source));
        fuzz_check(json_equal(json_object_get(body, "data"), data));
    }
    json_decref(data);
    json_decref(body);
}

/* The name between "//", a user and a port, as a person reads it. */
static void check_host(const char *url, bool is_allowed)
{
    const char *host = strstr(url, "//") + 2, *at;
    size_t authority = strcspn(host, "/?#");
    char name[TL_NETGUARD_MAX_HOST];
    size_t len;

    for (at = host + authority; at > host && at[-1] != '@';)
        at--;
    if (!is_allowed)
        return;
    for (len = 0; strchr(":/?#", *at) == NULL; len++) { /* or the end */
        fuzz_check(len + 1 < sizeof name);
        if (*at == '%')
            name[len] = (char)strtoul((const char[]){at[1], at[2], '\0'}, NULL, 16);
        else
            name[len] = *at;
        at += *at == '%' ? 3 : 1;
    }
    name[len] = '\0';
    fuzz_check(tl__netguard_permits_host(now.guard, name));
}

struct tl__http *tl__http_start(const struct tl__sink_env *env)
{
    (void)env;
    return NULL;
}

void tl__http_stop(struct tl__http *http)
{
    (void)http;
}

void tl__http_abort(struct tl__http *http)
{
    (void)http;
}

/* A text of the list may be several lines, of which none has another end. Ours are there once. */
static struct curl_slist *lines_of(const struct curl_slist *headers)
{
    static const char *const ours[] = {"content-type",      "user-agent", "webhook-id",
                                       "webhook-timestamp", "ce-id",      "ce-type"};
    struct curl_slist *lines = NULL;

    for (; headers != NULL; headers = headers->next) {
        char *text = strdup(headers->data);

        fuzz_check(text != NULL);
        for (char *line = text, *end; line != NULL; line = end) {
            end = strstr(line, "\r\n");
            if (end != NULL) {
                *end = '\0';
                end += 2;
            }
            fuzz_check(strpbrk(line, "\r\n") == NULL);
            for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
                fuzz_check(strncmp(line, ours[i], strlen(ours[i])) != 0 ||
                           line[strlen(ours[i])] != ':' || header_value(lines, ours[i]) == NULL);
            lines = curl_slist_append(lines, line);
            fuzz_check(lines != NULL);
        }
        free(text);
    }
    return lines;
}

bool tl__http_post(struct tl__http *http, const struct tl__http_request *from)
{
    const struct tl__sink_event *e = &now.delivery->event;
    struct tl__http_request copy = *from, *request = &copy;

    (void)http;
    request->headers = lines_of(from->headers);
    seen.sent++;
    check_host(request->url, request->is_host_allowed);
    fuzz_check(strcmp(header_value(request->headers, "webhook-id"), now.delivery->id) == 0);
    if (strcmp(now.format, "cloudevents-binary") == 0)
        check_binary(request, e);
    else if (strcmp(now.format, "cloudevents") == 0)
        check_structured(request, e);
    else
        fuzz_check(request->body == now.delivery->body);
    curl_slist_free_all(request->headers);
    if (now.answer.status % 7 == 6) /* no memory for it */
        return false;
    request->done(request->userdata, &now.answer);
    return true;
}

/* ----------------------------------------------------------------------- what comes of it -- */

static void on_done(struct tl__sink_delivery *d, const struct tl__sink_result *result)
{
    (void)d;
    seen.done++;
    seen.word = result->word;
    if (result->word == TL__SINK_DELIVERED)
        return;
    fuzz_check(result->word == TL__SINK_RETRY && result->error != NULL);
    fuzz_check(strlen(result->error) < CURL_ERROR_SIZE + 300);
    fuzz_check(result->summary == NULL || strlen(result->summary) < 16);
    if (now.answer.status == 429 && seen.sent > 0)
        fuzz_check(result->floor_us >= 60000000);
}

static void deliver(struct tl__sink *sink, char *fields[FIELDS], const char *answer, size_t len)
{
#define OR_NULL(text) (*(text) != '\0' ? (text) : NULL)
    struct tl__sink_delivery d = {
        .id = fields[ID],
        .subscription = "s",
        .body = "{}",
        .body_len = 2,
        .done = on_done,
        .event = {.id = fields[ID],
                  .type = fields[TYPE],
                  .source = OR_NULL(fields[SOURCE]),
                  .stream = OR_NULL(fields[STREAM]),
                  .key = OR_NULL(fields[KEY]),
                  .tenant_id = OR_NULL(fields[TENANT]),
                  .data = fields[DATA],
                  .data_len = strlen(fields[DATA]),
                  .position = 1,
                  .version = 1,
                  .created_at_us = 1700000000000000},
    };
    long status = strtol(fields[STATUS], NULL, 10);
    bool is_answered = status >= 0 && status < 1000;

    now.delivery = &d;
    now.answer = (struct tl__http_answer){
        .end = is_answered ? TL__HTTP_ANSWERED : TL__HTTP_TIMED_OUT,
        .status = is_answered ? (int)status : 0,
        .body = answer,
        .body_len = len,
        .retry_after_us = strtoul(fields[AFTER], NULL, 10),
        .error = fields[TYPE],
    };
    tl__sink_webhook.deliver(sink, &d);
    fuzz_check(seen.done == 1);
    if (seen.sent > 0 && status % 7 != 6)
        fuzz_check((seen.word == TL__SINK_DELIVERED) == (status >= 200 && status <= 299));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    struct tl__netguard guard = {.is_open = false};
    int loop;
    struct tl__sink_env env = {.guard = &guard, .shared = &loop};
    const char *problem = NULL;
    struct tl__sink *sink;
    char *fields[FIELDS], *answer;
    size_t len;

    for (int i = 0; i < FIELDS; i++) {
        fields[i] = fuzz_line(&in);
        tl__utf8_clean(fields[i]); /* a text of PostgreSQL */
    }
    answer = fuzz_rest(&in, &len);
    for (char *c = fields[HEADERS]; *c != '\0'; c++)
        *c = (char)(*c == '|'    ? '\n'
                    : *c == '\r' ? ' '
                                 : *c);         /* no line has one: headers_problem() */
    for (char *c = fields[ID]; *c != '\0'; c++) /* a uuid, or letters, digits and hyphens */
        *c = (char)(isalnum((unsigned char)*c) || *c == '-' ? *c : 'x');
    seen.sent = seen.done = 0;
    now.format = fields[FORMAT];
    now.guard = &guard;
    env.is_https_only = strchr(fields[ALLOWED], '!') != NULL;
    (void)tl__netguard_allow(&guard, fields[ALLOWED]);
    sink = tl__sink_webhook.open(&env,
                                 &(struct tl__sink_target){.target = fields[TARGET],
                                                           .secrets = OR_NULL(fields[SECRETS]),
                                                           .headers = OR_NULL(fields[HEADERS]),
                                                           .format = OR_NULL(fields[FORMAT])},
                                 &problem);
    fuzz_check(sink != NULL || problem != NULL);
    /* the daemon gives it only what begins with its prefix */
    if (sink != NULL &&
        (strncmp(fields[TARGET], "https://", 8) == 0 || strncmp(fields[TARGET], "http://", 7) == 0))
        deliver(sink, fields, answer, len);
    if (sink != NULL)
        sink = tl__sink_webhook.close(sink);
    for (int i = 0; i < FIELDS; i++)
        free(fields[i]);
    free(answer);
    return 0;
}
