/*
 * webhook_message.c: see webhook_message.h.
 */
#include "webhook_message.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "buf.h"
#include "cleanup.h"
#include "clock.h"
#include "json.h"
#include "out.h"
#include "receiver.h"

enum { MAX_KEYS = 16, MAX_BODY_BYTES = 16 << 20 };

/* Keys of --secret, else of TRUNKLINE_WEBHOOK_SECRET. */
struct keys {
    const char *key[MAX_KEYS];
    size_t count;
    char *own;
};

static void keys_done(struct keys *keys)
{
    free(keys->own);
}

static int load_keys(const struct tl__args *args, struct keys *ret)
{
    const char *environment = getenv("TRUNKLINE_WEBHOOK_SECRET");
    char *rest = NULL;

    *ret = (struct keys){.count = 0};
    for (int i = 0; i < args->value_count; i++)
        if (strcmp(args->values[i].option->name, "secret") == 0 && ret->count < MAX_KEYS)
            ret->key[ret->count++] = args->values[i].value;
    if (ret->count == 0 && environment && (ret->own = strdup(environment)))
        for (char *word = strtok_r(ret->own, " \t\n", &rest); word && ret->count < MAX_KEYS;
             word = strtok_r(NULL, " \t\n", &rest))
            ret->key[ret->count++] = word;
    for (size_t i = 0; i < ret->count; i++)
        tl__secret_add(ret->key[i]);
    return 0;
}

static int need_keys(const struct keys *keys)
{
    return keys->count > 0 ? 0
                           : tl__fail(TL_E_INVALID, "give --secret or set TRUNKLINE_WEBHOOK_SECRET",
                                      "no key given");
}

static int read_body(struct tl__buf *body)
{
    char part[65536];
    size_t n;

    while ((n = fread(part, 1, sizeof part, stdin)) > 0) {
        tl__buf_add(body, part, n);
        if (body->len > MAX_BODY_BYTES)
            return tl__fail(TL_E_LIMIT, NULL, "the body on stdin is larger than 16 MiB");
    }
    if (ferror(stdin))
        return tl__fail(TL_E_INVALID, NULL, "cannot read stdin");
    return body->is_failed ? tl__fail(TL_E_NOMEM, NULL, "out of memory") : 0;
}

/* ----------------------------------------------------------------------------------------- sign */

int tl__webhook_run_sign(const struct tl__args *args)
{
    TL_CLEANUP(keys_done)
    struct keys keys;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf body = TL_BUF_INIT;
    const char *id = tl__args_text(args, "id");
    uint64_t at = tl__args_count(args, "timestamp", (uint64_t)time(NULL));
    char *signature = NULL;
    int rc = load_keys(args, &keys);

    if (rc || (rc = need_keys(&keys)) || (rc = read_body(&body)))
        return rc;
    if (!id)
        return tl__fail(TL_E_INVALID, NULL, "sign needs --id");
    if (tl_webhook_sign(keys.key, keys.count, id, (int64_t)at, body.data ? body.data : "", body.len,
                        &signature) != TL_OK)
        return tl__fail(TL_E_INVALID,
                        "keys that sign are whsec_ or whsk_ and base64; an id has 1 to 255 bytes "
                        "without white space",
                        "malformed key or id");
    if (tl__args_has(args, "json")) {
        TL_CLEANUP(tl__buf_done)
        struct tl__buf out = TL_BUF_INIT;
        tl__buf_add_char(&out, '{');
        tl__json_add_name(&out, "webhook-id");
        tl__json_add_text(&out, id);
        tl__buf_addf(&out, ",\"webhook-timestamp\":\"%llu\"", (unsigned long long)at);
        tl__json_add_name(&out, "webhook-signature");
        tl__json_add_text(&out, signature);
        printf("%s}\n", out.data ? out.data : "");
    } else {
        printf("webhook-id: %s\nwebhook-timestamp: %llu\nwebhook-signature: %s\n", id,
               (unsigned long long)at, signature);
    }
    tl_free(signature);
    return 0;
}

/* --------------------------------------------------------------------------------------- verify */

static tl_webhook_verify_options verify_options(const struct tl__args *args)
{
    return (tl_webhook_verify_options){
        .size = sizeof(tl_webhook_verify_options),
        .tolerance_us = tl__args_duration_us(args, "tolerance", 0),
        .any_time = tl__args_has(args, "any-time"),
    };
}

int tl__webhook_run_verify(const struct tl__args *args)
{
    TL_CLEANUP(keys_done)
    struct keys keys;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf body = TL_BUF_INIT;
    tl_webhook_verify_options options = verify_options(args);
    const char *why = NULL;
    int rc = load_keys(args, &keys);

    if (rc || (rc = need_keys(&keys)) || (rc = read_body(&body)))
        return rc;
    tl_status status = tl_webhook_verify(
        keys.key, keys.count, tl__args_text(args, "id"), tl__args_text(args, "timestamp"),
        tl__args_text(args, "signature"), body.data ? body.data : "", body.len, &options, &why);
    if (status != TL_OK)
        return tl__fail(status, NULL, "not verified: %s", why ? why : tl_status_text(status));
    printf(tl__args_has(args, "json") ? "{\"verified\":true}\n" : "verified\n");
    return 0;
}

/* --------------------------------------------------------------------------------------- listen */

struct seen {
    struct seen *next;
    uint64_t requests;
    char id[];
};

/* Used by the receiver's thread; the main thread waits. */
struct listener {
    struct keys keys;
    tl_webhook_verify_options options;
    uint64_t fail, count, sent;
    unsigned status;
    bool is_json;
    struct seen *seen;
};

/* Which request of this id it is, from 1. */
static uint64_t number_of(struct listener *l, const char *id)
{
    struct seen *s = l->seen;

    while (s && strcmp(s->id, id) != 0)
        s = s->next;
    if (!s && (s = calloc(1, sizeof *s + strlen(id) + 1))) {
        memcpy(s->id, id, strlen(id) + 1);
        s->next = l->seen;
        l->seen = s;
    }
    return s ? ++s->requests : 1;
}

static void print_json(const struct tl__received *request, const char *id, uint64_t number,
                       const char *verdict, const char *why, unsigned status)
{
    static const char *const names[] = {"webhook-id", "webhook-timestamp", "webhook-signature",
                                        "content-type"};
    TL_CLEANUP(tl__buf_done)
    struct tl__buf out = TL_BUF_INIT;

    tl__buf_add_char(&out, '{');
    tl__json_add_name(&out, "id");
    tl__json_add_text(&out, id);
    tl__buf_addf(&out, ",\"request\":%llu,\"status\":%u", (unsigned long long)number, status);
    tl__json_add_name(&out, "verdict");
    tl__json_add_text(&out, verdict);
    tl__json_add_name(&out, "why");
    tl__json_add_text(&out, why);
    tl__json_add_name(&out, "path");
    tl__json_add_text(&out, request->path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tl__json_add_name(&out, names[i]);
        tl__json_add_text(&out, tl__received_header(request, names[i]));
    }
    tl__json_add_name(&out, "body");
    tl__json_add_string(&out, request->body, request->body_len);
    tl__buf_add_str(&out, "}\n");
    fwrite(out.data ? out.data : "", 1, out.len, stdout);
}

static unsigned on_request(const struct tl__received *request, void *userdata)
{
    struct listener *l = userdata;
    const char *id = tl__received_header(request, "webhook-id"), *why = NULL,
               *verdict = "not checked";
    unsigned status = l->status;
    uint64_t number = number_of(l, id ? id : "");
    bool is_good = true;

    if (strcmp(request->method, "POST") != 0)
        return 405;
    if (l->keys.count > 0) {
        is_good = tl_webhook_verify(l->keys.key, l->keys.count, id,
                                    tl__received_header(request, "webhook-timestamp"),
                                    tl__received_header(request, "webhook-signature"),
                                    request->body, request->body_len, &l->options, &why) == TL_OK;
        verdict = is_good ? "verified" : "refused";
    }
    if (!is_good)
        status = 401;
    else if (number <= l->fail)
        status = 500;
    if (l->is_json) {
        print_json(request, id, number, verdict, why, status);
    } else {
        char now[TL_TIME_TEXT_SIZE];
        tl__time_format(tl__wall_us(), now);
        printf("%.19sZ  %s%s%s  ", now, verdict, why ? ": " : "", why ? why : "");
        tl__print_plain(stdout, id ? id : "-", 100);
        printf("  request %llu  answered %u\n  ", (unsigned long long)number, status);
        tl__print_plain(stdout, request->body, tl__out_columns() - 2);
        putchar('\n');
    }
    fflush(stdout);
    return status;
}

static void on_sent(void *userdata)
{
    struct listener *l = userdata;

    if (++l->sent == l->count)
        kill(getpid(), SIGTERM); /* the main thread waits for it */
}

int tl__webhook_run_listen(const struct tl__args *args)
{
    struct listener l = {
        .options = verify_options(args),
        .fail = tl__args_count(args, "fail", 0),
        .count = tl__args_count(args, "count", 0),
        .status = (unsigned)tl__args_count(args, "status", 204),
        .is_json = tl__args_has(args, "json"),
    };
    uint64_t wanted = tl__args_count(args, "port", 0);
    uint16_t port = (uint16_t)wanted;
    sigset_t signals;
    int number = 0, rc = load_keys(args, &l.keys);
    const char *why = NULL;

    if (l.keys.count > 0 &&
        tl_webhook_verify(l.keys.key, l.keys.count, "x", "1", "x", "", 0,
                          TL_WEBHOOK_VERIFY_OPTIONS(.any_time = true), &why) == TL_E_INVALID)
        rc = tl__fail(TL_E_INVALID, NULL, "%s", why);
    else if (wanted > UINT16_MAX)
        rc = tl__fail(TL_E_INVALID, NULL, "--port is at most 65535");
    else if (l.status < 200 || l.status > 599)
        rc = tl__fail(TL_E_INVALID, NULL, "--status is 200 to 599");
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* the receiver's thread inherits it */
    struct tl__receiver *receiver = rc ? NULL : tl__receiver_start(&port, on_request, on_sent, &l);
    if (receiver) {
        tl__note("listening on http://127.0.0.1:%u/%s", port,
                 l.keys.count > 0 ? "" : ", without a key: signatures are not checked");
        sigwait(&signals, &number);
        tl__receiver_stop(receiver);
    } else if (!rc) {
        char text[128];
        rc = tl__fail(TL_E_CONNECTION, NULL, "cannot listen on 127.0.0.1:%u: %s", port,
                      strerror_r(errno, text, sizeof text));
    }
    while (l.seen) {
        struct seen *s = l.seen;
        l.seen = s->next;
        free(s);
    }
    keys_done(&l.keys);
    return rc;
}
