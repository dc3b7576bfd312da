/*
 * no_memory.c: every allocation of what needs no server fails once: webhook helpers, routers, upcasters,
 * what the daemon sends, what the program reads. Each run ends in the status for it, or NULL, or success; nothing
 * leaks (the ASan run), and what was passed in stays as it was. On a server: tests/pg/no_memory*.c.
 */
#include "no_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <trunkline/trunkline.h>

#include "database.h"
#include "event_input.h"
#include "json_scan.h"
#include "message.h"

#define SECRET "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"

static const char *const secrets[] = {SECRET};
static char header[] = "x-a: b";

static tl_status of_message(int format, bool is_signed)
{
    struct curl_slist headers = {.data = header};
    struct tl__message message;
    struct tl__message_form form = {.format = format,
                                    .secrets = secrets,
                                    .secret_count = is_signed ? 1 : 0,
                                    .headers = &headers};
    static char long_source[700];
    struct tl__sink_delivery d = {.id = "id",
                                  .body = "{}",
                                  .body_len = 2,
                                  .event = {.id = "id", .type = "a", .data = "{}", .data_len = 2}};
    bool is_made;

    memset(long_source, '\x01', sizeof long_source - 1);
    d.event.source = d.event.key = long_source;
    is_made = tl__message_make(&form, &d, 1700000000, &message);
    tl__message_done(&message);
    return is_made ? TL_OK : TL_E_NOMEM;
}

static tl_status plain_message(void)
{
    return of_message(TL__MESSAGE_PLAIN, true);
}

static tl_status structured_message(void)
{
    return of_message(TL__MESSAGE_CLOUDEVENT, true);
}

static tl_status binary_message(void)
{
    return of_message(TL__MESSAGE_CLOUDEVENT_BINARY, false);
}

static tl_status webhook_keys(void)
{
    char *secret = NULL, *public_text = NULL, *signature = NULL;
    tl_status status = tl_webhook_key_new(TL_WEBHOOK_V1A, &secret, &public_text);

    if (status == TL_OK)
        status = tl_webhook_sign((const char *const[]){secret}, 1, "id", 1, "body", 4, &signature);
    if (status == TL_OK)
        status = tl_webhook_verify((const char *const[]){public_text}, 1, "id", "1", signature,
                                   "body", 4, TL_WEBHOOK_VERIFY_OPTIONS(.any_time = true), NULL);
    tl_free(secret);
    tl_free(public_text);
    tl_free(signature);
    return status;
}

static tl_status symmetric_key(void)
{
    char *secret = NULL;
    tl_status status = tl_webhook_key_new(TL_WEBHOOK_V1, &secret, NULL);

    tl_free(secret);
    return status;
}

static tl_verdict handler(tl_delivery *d, void *userdata)
{
    (void)d;
    (void)userdata;
    return TL_DONE;
}

static tl_status routers(void)
{
    const uint64_t pauses[] = {1, 2};
    tl_router *r = NULL, *whole = NULL;
    tl_status status = tl_router_new("a", &r);

    if (status == TL_OK)
        status = tl_router_new("b", &whole);
    if (status == TL_OK)
        status = tl_router_on(r, "c", handler, NULL,
                              TL_ROUTE_OPTIONS(.subscribe = {.size = sizeof(tl_subscribe_options),
                                                             .topic = "t",
                                                             .tenant_id = "t",
                                                             .filter = "{}",
                                                             .filter_path = "$.a == 1",
                                                             .target_options = "{}",
                                                             .retry_schedule = pauses,
                                                             .retry_schedule_count = 2}));
    if (status == TL_OK) {
        status = tl_router_include(whole, r, "d");
        /* it left nothing behind: the same names can be added now */
        if (status == TL_E_NOMEM)
            assert_int_equal(tl_router_include(whole, r, "d"), TL_OK);
    }
    r = tl_router_free(r);
    whole = tl_router_free(whole);
    return status;
}

static tl_status upcast(const tl_event *e, const char *data, size_t len, char **ret_data,
                        void *userdata)
{
    (void)e;
    (void)data;
    (void)len;
    (void)userdata;
    *ret_data = strdup("2");
    return *ret_data != NULL ? TL_OK : TL_E_NOMEM;
}

static tl_status upcasters(void)
{
    tl_upcasters *u = NULL;
    tl_status status = tl_upcasters_new(TL_UNKNOWN_FAIL, &u);

    for (uint32_t from = 1; from < 6 && status == TL_OK; from++)
        status = tl_upcasters_add(u, "a", from, upcast, NULL);
    if (status == TL_OK)
        status = tl_upcasters_know(u, "b", 1);
    u = tl_upcasters_free(u);
    return status;
}

static tl_status json_text(void)
{
    char *text = tl__json_string_dup("\"a\\u00e9\"", 9);

    free(text);
    return text != NULL ? TL_OK : TL_E_NOMEM;
}

/* That there is no memory may be told as a problem of the line: it is refused, never taken by halves. */
static tl_status event_line(void)
{
    static const char text[] = "{\"type\":\"a\",\"key\":\"k\",\"data\":{},\"metadata\":{\"b\":1}}";
    struct tl__texts texts = {0};
    struct tl__event_line line = {.event = {.size = sizeof line.event}};
    const char *problem = tl__event_line_parse(&texts, text, sizeof text - 1, false, &line);

    if (problem == NULL) {
        assert_string_equal(line.event.type, "a");
        assert_string_equal(line.event.key, "k");
        assert_string_equal(line.event.metadata, "{\"b\":1}");
    }
    tl__texts_done(&texts);
    return problem == NULL ? TL_OK : TL_E_NOMEM;
}

static tl_status metadata_option(void)
{
    char words[][24] = {"trunkline", "publish", "a", "{}", "--meta", "b=c", "--meta", "d=\x01"};
    char *argv[8];
    struct tl__texts texts = {0};
    const char *metadata = NULL;
    struct tl__args args;
    bool is_done;
    int rc;

    for (int i = 0; i < 8; i++)
        argv[i] = words[i];
    assert_int_equal(tl__args_parse(8, argv, &args, &is_done), 0);
    rc = tl__metadata_option(&args, &texts, &metadata);
    if (rc == 0)
        assert_string_equal(metadata, "{\"b\":\"c\",\"d\":\"\\u0001\"}");
    tl__texts_done(&texts);
    return rc == 0 ? TL_OK : TL_E_NOMEM;
}

/* Without memory nothing is shown, rather than a part of it or a secret. */
static tl_status conninfo(void)
{
    char words[][60] = {"trunkline", "topics", "--db", "postgresql://me:hidden@h/d?options=a%20b"};
    char *argv[] = {words[0], words[1], words[2], words[3]};
    struct tl__db db = TL__DB_INIT;
    struct tl__args args;
    bool is_done;
    int rc;

    assert_int_equal(tl__args_parse(4, argv, &args, &is_done), 0);
    rc = tl__db_attach(&args, &db);
    assert_true(db.shown == NULL || strstr(db.shown, "hidden") == NULL);
    if (rc == 0)
        assert_non_null(strstr(db.shown, "password=****"));
    tl__db_close(&db);
    return rc == 0 ? TL_OK : TL_E_NOMEM;
}

static const struct {
    const char *name;
    tl_status (*run)(void);
} calls[] = {
    {"plain message", plain_message},
    {"CloudEvent, structured", structured_message},
    {"CloudEvent, binary", binary_message},
    {"webhook keys", webhook_keys},
    {"symmetric key", symmetric_key},
    {"routers", routers},
    {"upcasters", upcasters},
    {"JSON text", json_text},
    {"event line", event_line},
    {"metadata option", metadata_option},
    {"connection string", conninfo},
};

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        bool has_failed = true;
        int n;

        for (n = 0; has_failed; n++) {
            tl_status status;

            fail_allocation(n);
            status = calls[i].run();
            has_failed = end_of_failing();
            if (status != TL_OK && (status != TL_E_NOMEM || !has_failed))
                fail_msg("%s, allocation %d: %s", calls[i].name, n, tl_status_name(status));
            /* in these, none is one that one can do without */
            if (status == TL_OK && has_failed && calls[i].run != conninfo)
                fail_msg("%s, allocation %d: it was not noticed", calls[i].name, n);
        }
        assert_true(n > 1);
        print_message("# %s: %d allocations\n", calls[i].name, n - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};

    return cmocka_run_group_tests_name("no_memory", tests, NULL, NULL);
}
