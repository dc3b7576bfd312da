/*
 * no_memory.c: the first, the second, the third... allocation of the library fails, one run each,
 * until a run needs no more. Every run ends in TL_E_NOMEM or success, the handle stays usable, and
 * nothing is stored by halves. The build wraps malloc and its kin (tests/pg/meson.build).
 */
#include "client_test.h"

static int64_t countdown = -1; /* allocations until one fails; < 0: none does */

static bool is_my_turn(void)
{
    return countdown >= 0 && countdown-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t n);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t n);

void *__wrap_malloc(size_t size)
{
    return is_my_turn() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return is_my_turn() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return is_my_turn() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *text)
{
    return is_my_turn() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t n)
{
    return is_my_turn() ? NULL : __real_strndup(text, n);
}

static tl_status open_and_close(struct fixture *f)
{
    tl_client *c;
    tl_status status =
        tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.application_name = "hungry"), &c);

    assert_true(c != NULL || status == TL_E_NOMEM);
    c = tl_client_close(c);
    return status;
}

static tl_status publish_one(struct fixture *f)
{
    return tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a", .metadata = "{}"), NULL);
}

static tl_status publish_many(struct fixture *f)
{
    static tl_new_event events[1500];

    for (size_t i = 0; i < 1500; i++)
        events[i] = (tl_new_event){.size = sizeof events[i], .type = "a", .data = "{}", .key = "k"};
    return tl_publish_batch(f->c, NULL, events, 1500, NULL);
}

static tl_status publish_in(struct fixture *f)
{
    tl_error *error = NULL;
    tl_status status = tl_publish_in(f->db, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, &error);

    error = tl_error_free(error);
    return status;
}

static tl_status read_and_print(struct fixture *f)
{
    tl_batch *batch = NULL;
    tl_status status = tl_read(f->c, NULL, &batch);

    if (status == TL_OK) {
        char *json = tl_event_to_json(tl_batch_event(batch, 0), NULL);

        status = json != NULL ? TL_OK : TL_E_NOMEM;
        tl_free(json);
    }
    batch = tl_batch_free(batch);
    return status;
}

static tl_status subscribe_and_claim(struct fixture *f)
{
    tl_batch *batch = NULL;
    tl_status status =
        tl_subscribe(f->c, "s", "a",
                     TL_SUBSCRIBE_OPTIONS(.filter = "{}", .ordering = TL_ORDERING_NONE,
                                          .start = TL_START_BEGINNING));

    if (status == TL_OK)
        status = tl_claim(f->c, "s", TL_CLAIM_OPTIONS(.max_events = 2), &batch);
    if (status == TL_OK)
        status = tl_nack(f->c, tl_batch_token(batch), tl_batch_upto(batch), "no", NULL);
    batch = tl_batch_free(batch);
    return status;
}

static tl_status migrate(struct fixture *f)
{
    char *sql = NULL;
    tl_status status = tl_migrate_up(f->c, NULL);

    if (status == TL_OK)
        status = tl_migrate_verify(f->c);
    if (status == TL_OK)
        status = tl_migrate_sql("other", &sql);
    tl_free(sql);
    return status;
}

static const struct {
    const char *name;
    tl_status (*run)(struct fixture *f);
    int64_t events; /* a run without failure stores these */
} calls[] = {
    {"open", open_and_close, 0},   {"publish", publish_one, 1},
    {"batch", publish_many, 1500}, {"publish_in", publish_in, 1},
    {"read", read_and_print, 0},   {"subscribe, claim, nack", subscribe_and_claim, 0},
    {"migrate", migrate, 0},
};

static void every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;

    assert_status(f->c, publish_many(f), TL_OK); /* something to read and to claim */
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        int64_t before = event_count(f->db);
        tl_status status = TL_E_NOMEM;
        int64_t n;

        for (n = 0; status != TL_OK; n++) {
            /* statements are made anew, too */
            f->c = tl_client_close(f->c);
            assert_status(f->c, tl_client_open(f->conninfo, NULL, &f->c), TL_OK);
            assert_int_equal(event_count(f->db), before);
            countdown = n;
            status = calls[i].run(f);
            countdown = -1;
            if (status != TL_OK && status != TL_E_NOMEM)
                fail_msg("%s, allocation %d: %s (%s)", calls[i].name, (int)n,
                         tl_status_name(status), message(f->c));
            assert_status(f->c, tl_migrate_status(f->c, NULL, NULL, NULL), TL_OK);
        }
        print_message("# %s: %d allocations\n", calls[i].name, (int)n - 1);
        assert_int_equal(event_count(f->db), before + calls[i].events);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {test_with_client(every_allocation_may_fail)};

    return cmocka_run_group_tests_name("no_memory", tests, NULL, NULL);
}
