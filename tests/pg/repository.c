/* repository.c: aggregates through their repository: load, save at the loaded version, conflicts, retry,
 * refusals, snapshots and what becomes of bad ones, unknown and old events, tenants (AGG-3..6, SNP-2, SNP-3). */
#include "client_test.h"

/* An account: a balance and how many entries it had. */
struct account {
    long balance;
    long entries;
    bool is_closed;
};

struct app { /* userdata of the type */
    int alive;
    int applied;
    bool is_restore_broken;
    bool is_snapshot_broken;
};
static struct app app;

static void *account_create(void *userdata)
{
    ((struct app *)userdata)->alive++;
    return calloc(1, sizeof(struct account));
}

static void account_free(void *state, void *userdata)
{
    ((struct app *)userdata)->alive--;
    free(state);
}

static tl_status account_apply(void *state, const tl_event *e, void *userdata)
{
    struct account *a = state;

    if (strcmp(tl_event_type(e), "closed") == 0) {
        if (a->balance != 0)
            return TL_E_REJECTED;
        a->is_closed = true;
    } else if (strcmp(tl_event_type(e), "lost") == 0) {
        return TL_E_NOTFOUND;
    } else if (strcmp(tl_event_type(e), "added") == 0) {
        a->balance += strtol(tl_event_data(e, NULL), NULL, 10);
    } else {
        return TL_NOTHING;
    }
    ((struct app *)userdata)->applied++;
    a->entries++;
    return TL_OK;
}

static tl_status account_snapshot(const void *state, char **ret_json, void *userdata)
{
    const struct account *a = state;

    if (((struct app *)userdata)->is_snapshot_broken) {
        *ret_json = strdup("{");
        return TL_OK;
    }
    *ret_json = malloc(100);
    snprintf(*ret_json, 100, "[%ld, %ld, %d]", a->balance, a->entries, a->is_closed);
    return TL_OK;
}

static tl_status account_restore(void *state, const char *json, size_t len, void *userdata)
{
    struct account *a = state;
    int is_closed;

    assert_int_equal(strlen(json), len);
    a->balance = 999999; /* whatever a failure leaves is thrown away */
    if (((struct app *)userdata)->is_restore_broken ||
        sscanf(json, "[%ld, %ld, %d]", &a->balance, &a->entries, &is_closed) != 3)
        return TL_E_INVALID;
    a->is_closed = is_closed != 0;
    return TL_OK;
}

static tl_aggregate_type account_type(void)
{
    return (tl_aggregate_type){.size = sizeof(tl_aggregate_type),
                               .name = "account",
                               .create = account_create,
                               .apply = account_apply,
                               .free = account_free,
                               .snapshot = account_snapshot,
                               .restore = account_restore,
                               .userdata = &app};
}

static tl_repository *open_repository(struct fixture *f, const tl_repository_options *opts)
{
    tl_aggregate_type type = account_type();
    tl_repository *r = NULL;

    app = (struct app){.alive = 0};
    assert_status(f->c, tl_repository_new(f->c, &type, opts, &r), TL_OK);
    return r;
}

static const struct account *state_of(const tl_aggregate *a)
{
    return tl_aggregate_state(a);
}

static tl_status add(tl_aggregate *a, const char *amount)
{
    return tl_aggregate_raise(a, TL_NEW_EVENT(.type = "added", .data = amount));
}

/* Append behind the repository's back. */
static void append(struct fixture *f, const char *stream, const char *type, const char *data)
{
    PGconn *db = test_db_connect(f->conninfo);

    assert_int_equal(tl_append_in(db, NULL, stream, TL_EXPECT_ANY,
                                  TL_NEW_EVENT(.type = type, .data = data), 1, NULL, NULL, NULL),
                     TL_OK);
    PQfinish(db);
}

static void assert_loads(struct fixture *f, tl_repository *r, const char *id, long balance,
                         int64_t version)
{
    tl_aggregate *a = NULL;

    assert_status(f->c, tl_repository_load(r, id, &a), TL_OK);
    assert_int_equal(state_of(a)->balance, balance);
    assert_int_equal(tl_aggregate_version(a), version);
    a = tl_aggregate_free(a);
}

static tl_repository_stats stats_of(const tl_repository *r)
{
    tl_repository_stats stats;

    tl_repository_get_stats(r, &stats);
    return stats;
}

/* AGG-3, AGG-4, AGG-5 */
static void created_saved_and_loaded(void **state)
{
    struct fixture *f = *state;
    tl_repository *r = open_repository(f, NULL);
    tl_aggregate *a = NULL, *b = NULL;
    int64_t version = -1;
    bool exists = true;

    assert_status(f->c, tl_repository_load(r, "1", &a), TL_E_NOTFOUND);
    assert_contains(message(f->c), "account-1");
    assert_status(f->c, tl_repository_exists(r, "1", &exists), TL_OK);
    assert_false(exists);
    assert_status(f->c, tl_repository_version(r, "1", &version), TL_OK);
    assert_int_equal(version, 0);
    assert_status(f->c, tl_repository_version(r, "", &version), TL_E_INVALID);

    /* two creators: one wins */
    assert_status(f->c, tl_repository_load_or_create(r, "1", &a), TL_OK);
    assert_status(f->c, tl_repository_create(r, "1", &b), TL_OK);
    assert_int_equal(tl_aggregate_version(a), 0);
    assert_status(f->c, add(a, "5"), TL_OK);
    assert_status(f->c, add(a, "7"), TL_OK);
    assert_status(f->c, add(b, "100"), TL_OK);
    assert_status(f->c, tl_repository_save(r, a), TL_OK);
    assert_int_equal(tl_aggregate_version(a), 2);
    assert_int_equal(tl_aggregate_pending(a), 0);
    assert_status(f->c, tl_repository_save(r, a), TL_NOTHING);
    assert_status(f->c, tl_repository_save(r, b), TL_E_CONFLICT);
    assert_int_equal(tl_error_expected_version(tl_client_error(f->c)), 0);
    assert_int_equal(tl_error_actual_version(tl_client_error(f->c)), 2);
    assert_int_equal(tl_aggregate_pending(b), 1);
    assert_int_equal(stats_of(r).conflicts, 1);
    assert_loads(f, r, "1", 12, 2);
    assert_status(f->c, tl_repository_exists(r, "1", &exists), TL_OK);
    assert_true(exists);
    assert_status(f->c, tl_repository_version(r, "1", &version), TL_OK);
    assert_int_equal(version, 2);

    /* what the loser had raised makes sense still: on the state of now */
    assert_status(f->c, tl_repository_reload(r, b), TL_OK);
    assert_int_equal(state_of(b)->balance, 112);
    assert_int_equal(tl_aggregate_version(b), 2);
    assert_status(f->c, tl_repository_save(r, b), TL_OK);
    assert_loads(f, r, "1", 112, 3);

    /* and sometimes it does not: then nothing has changed */
    assert_status(f->c, add(b, "-112"), TL_OK);
    assert_status(f->c, tl_aggregate_raise(b, TL_NEW_EVENT(.type = "closed")), TL_OK);
    append(f, "account-1", "added", "1");
    assert_status(f->c, tl_repository_save(r, b), TL_E_CONFLICT);
    assert_status(f->c, tl_repository_reload(r, b), TL_E_REJECTED);
    assert_int_equal(tl_aggregate_version(b), 3);
    assert_true(state_of(b)->is_closed);
    assert_int_equal(tl_aggregate_pending(b), 2);
    b = tl_aggregate_free(b);

    /* the next save goes on from the last */
    assert_status(f->c, tl_repository_reload(r, a), TL_OK);
    for (int i = 0; i < 3; i++) {
        assert_status(f->c, add(a, "1"), TL_OK);
        assert_status(f->c, tl_repository_save(r, a), TL_OK);
    }
    assert_int_equal(tl_aggregate_version(a), 7);
    a = tl_aggregate_free(a);
    r = tl_repository_free(r);
    assert_int_equal(app.alive, 0);
}

struct command {
    struct fixture *f;
    int calls;
    int intruders; /* so many calls are overtaken */
    tl_status ret;
};

static tl_status run_command(tl_aggregate *a, void *userdata)
{
    struct command *c = userdata;
    tl_status status;

    c->calls++;
    if (c->ret == TL_E_REJECTED)
        return tl_aggregate_reject(a, "cannot ship");
    if (c->ret != TL_OK)
        return c->ret;
    status = add(a, "10");
    if (c->intruders-- > 0)
        append(c->f, tl_aggregate_stream(a), "added", "1");
    return status;
}

/* The decision is made anew on the state of now, so often and no more; AGG-6. */
static void updates_are_repeated(void **state)
{
    struct fixture *f = *state;
    tl_repository *r = open_repository(f, NULL);
    struct command c = {.f = f};
    int64_t version = -1;

    assert_status(f->c, tl_repository_update(r, "1", run_command, &c, NULL, &version),
                  TL_E_NOTFOUND);
    assert_int_equal(c.calls, 0);
    assert_status(
        f->c,
        tl_repository_update(r, "1", run_command, &c, TL_UPDATE_OPTIONS(.create = true), &version),
        TL_OK);
    assert_int_equal(version, 1);
    c = (struct command){.f = f, .intruders = 2};
    assert_status(f->c, tl_repository_update(r, "1", run_command, &c, NULL, &version), TL_OK);
    assert_int_equal(c.calls, 3);
    assert_int_equal(version, 4);
    assert_loads(f, r, "1", 22, 4);
    c = (struct command){.f = f, .intruders = 10};
    assert_status(
        f->c,
        tl_repository_update(r, "1", run_command, &c, TL_UPDATE_OPTIONS(.attempts = 2), &version),
        TL_E_CONFLICT);
    assert_int_equal(c.calls, 2);
    c = (struct command){.f = f, .intruders = 10};
    assert_status(f->c, tl_repository_update(r, "1", run_command, &c, NULL, &version),
                  TL_E_CONFLICT);
    assert_int_equal(c.calls, 5);
    assert_int_equal(version, 4); /* untouched */
    assert_loads(f, r, "1", 29, 11);

    c = (struct command){.f = f, .ret = TL_E_REJECTED};
    assert_status(f->c, tl_repository_update(r, "1", run_command, &c, NULL, NULL), TL_E_REJECTED);
    assert_string_equal(message(f->c), "cannot ship");
    assert_int_equal(c.calls, 1);
    c = (struct command){.f = f, .ret = TL_E_CONFLICT}; /* its own, and final */
    assert_status(f->c, tl_repository_update(r, "1", run_command, &c, NULL, NULL), TL_E_CONFLICT);
    assert_int_equal(c.calls, 1);
    c = (struct command){.f = f, .ret = TL_NOTHING};
    assert_status(f->c, tl_repository_update(r, "1", run_command, &c, NULL, &version), TL_NOTHING);
    assert_int_equal(version, 11);
    assert_status(f->c, tl_repository_update(r, "1", NULL, &c, NULL, NULL), TL_E_INVALID);
    assert_status(
        f->c,
        tl_repository_update(r, "1", run_command, &c, TL_UPDATE_OPTIONS(.attempts = 101), NULL),
        TL_E_INVALID);
    assert_loads(f, r, "1", 29, 11);
    r = tl_repository_free(r);
    assert_int_equal(app.alive, 0);
}

/* SNP-2: with any policy, load is what a full replay gives; the snapshot is used. */
static void snapshots_change_nothing_but_time(void **state)
{
    static const struct {
        uint32_t every;
        bool is_later;
    } policies[] = {{0, false}, {1, false}, {3, false}, {10, false}, {3, true}, {1000, false}};
    struct fixture *f = *state;

    for (size_t p = 0; p < sizeof policies / sizeof policies[0]; p++) {
        tl_repository *r =
            open_repository(f, TL_REPOSITORY_OPTIONS(.snapshot_every = policies[p].every,
                                                     .snapshot_later = policies[p].is_later));
        tl_aggregate *a = NULL;
        char id[20];
        long balance = 0;
        int64_t version = 0;
        uint64_t saved;

        snprintf(id, sizeof id, "p%zu", p);
        for (int i = 0; i < 15; i++) {
            assert_status(f->c, tl_repository_load_or_create(r, id, &a), TL_OK);
            assert_int_equal(state_of(a)->balance, balance);
            assert_int_equal(state_of(a)->entries, version);
            for (int k = 0; k <= i % 3; k++) {
                char amount[20];

                balance += i * 10 + k;
                snprintf(amount, sizeof amount, "%d", i * 10 + k);
                assert_status(f->c, add(a, amount), TL_OK);
            }
            assert_status(f->c, tl_repository_save(r, a), TL_OK);
            version += 1 + i % 3;
            assert_int_equal(tl_aggregate_version(a), version);
            a = tl_aggregate_free(a);
            if (policies[p].is_later && i % 4 == 0) {
                while (tl_repository_process(r) == TL_OK) {
                }
            }
        }
        saved = stats_of(r).snapshots_saved;
        switch (policies[p].every) {
        case 0:
        case 1000:
            assert_int_equal(saved, 0);
            break;
        case 1:
            assert_int_equal(saved, 15);
            break;
        default:
            assert_true(saved >= 2 && saved < 15);
        }
        if (policies[p].every == 0) {
            assert_status(f->c, tl_repository_load(r, id, &a), TL_OK);
            assert_status(f->c, tl_repository_snapshot(r, a), TL_OK);
            assert_status(f->c, add(a, "1"), TL_OK);
            assert_status(f->c, tl_repository_snapshot(r, a), TL_E_INVALID); /* pending */
            a = tl_aggregate_free(a);
        }
        if (policies[p].every != 1000) {
            uint64_t hits = stats_of(r).snapshot_hits;

            app.applied = 0;
            assert_loads(f, r, id, balance, version);
            assert_int_equal(stats_of(r).snapshot_hits, hits + 1);
            assert_true(app.applied < 15);
        }
        assert_int_equal(stats_of(r).snapshot_refused, 0);
        assert_int_equal(stats_of(r).snapshots_failed, 0);
        r = tl_repository_free(r);
        assert_int_equal(app.alive, 0);
    }
}

/* SNP-3: a snapshot that is of no use costs a replay, is counted, and is nobody's error. */
static void bad_snapshots_cost_a_replay(void **state)
{
    struct fixture *f = *state;
    tl_repository *r = open_repository(f, TL_REPOSITORY_OPTIONS(.snapshot_every = 5));
    tl_aggregate_type type = account_type();
    tl_repository *newer = NULL;
    tl_aggregate *a = NULL;

    assert_status(f->c, tl_repository_create(r, "1", &a), TL_OK);
    for (int i = 0; i < 6; i++)
        assert_status(f->c, add(a, "1"), TL_OK);
    assert_status(f->c, tl_repository_save(r, a), TL_OK);
    a = tl_aggregate_free(a);
    append(f, "account-1", "added", "1");
    assert_loads(f, r, "1", 7, 7);
    assert_int_equal(stats_of(r).snapshot_hits, 1);

    app.is_restore_broken = true; /* undecodable */
    assert_loads(f, r, "1", 7, 7);
    assert_int_equal(stats_of(r).snapshot_refused, 1);
    /* when all events are too old to be read, nothing is left */
    test_db_exec(f->db, "SELECT trunkline.set_stream('account-1', max_age => '1 microsecond')");
    assert_status(f->c, tl_repository_load(r, "1", &a), TL_E_NOTFOUND);
    assert_null(a);
    test_db_exec(f->db, "SELECT trunkline.set_stream('account-1')");
    app.is_restore_broken = false;
    test_db_exec(f->db, "UPDATE trunkline.snapshots SET state = '\"nonsense\"'");
    assert_loads(f, r, "1", 7, 7);
    assert_int_equal(stats_of(r).snapshot_refused, 3);
    /* after such a load the next save makes a good one */
    assert_status(f->c, tl_repository_load(r, "1", &a), TL_OK);
    assert_status(f->c, add(a, "1"), TL_OK);
    assert_status(f->c, tl_repository_save(r, a), TL_OK);
    a = tl_aggregate_free(a);
    app.applied = 0;
    assert_loads(f, r, "1", 8, 8);
    assert_int_equal(app.applied, 0);
    assert_int_equal(stats_of(r).snapshot_hits, 2);

    /* of another schema version: not even looked at */
    type.schema_version = 2;
    assert_status(f->c, tl_repository_new(f->c, &type, NULL, &newer), TL_OK);
    assert_loads(f, newer, "1", 8, 8);
    assert_int_equal(stats_of(newer).snapshot_misses, 1);
    assert_int_equal(stats_of(newer).snapshot_hits, 0);
    newer = tl_repository_free(newer);

    /* events behind it are not there any more: the state would be wrong */
    test_db_exec(f->db, "UPDATE trunkline.snapshots SET version = 2, state = '[2, 2, 0]'; UPDATE "
                        "trunkline.streams SET max_count = 4");
    assert_loads(f, r, "1", 4, 8);
    assert_int_equal(stats_of(r).snapshot_refused, 5);
    test_db_exec(f->db, "UPDATE trunkline.streams SET max_count = NULL");

    /* one that cannot be taken, or not be saved, does not fail the save */
    test_db_exec(f->db, "DELETE FROM trunkline.snapshots");
    app.is_snapshot_broken = true;
    assert_status(f->c, tl_repository_load(r, "1", &a), TL_OK);
    assert_status(f->c, add(a, "1"), TL_OK);
    assert_status(f->c, tl_repository_save(r, a), TL_OK);
    assert_string_equal(message(f->c), "");
    assert_int_equal(stats_of(r).snapshots_failed, 1);
    assert_status(f->c, tl_repository_snapshot(r, a), TL_E_INVALID);
    app.is_snapshot_broken = false;
    assert_status(f->c, tl_repository_snapshot(r, a), TL_OK);
    append(f, "account-1", "added", "1");
    a = tl_aggregate_free(a);
    assert_loads(f, r, "1", 10, 10);
    r = tl_repository_free(r);
    assert_int_equal(app.alive, 0);
}

/* Those that wait are bounded: the latest of each stream, the oldest make room. */
static void snapshots_that_wait(void **state)
{
    struct fixture *f = *state;
    tl_repository *r =
        open_repository(f, TL_REPOSITORY_OPTIONS(.snapshot_every = 1, .snapshot_later = true));
    tl_aggregate *a = NULL;
    char id[20];

    assert_status(f->c, tl_repository_process(r), TL_NOTHING);
    for (int i = 0; i < 66; i++) {
        snprintf(id, sizeof id, "%d", i);
        assert_status(f->c, tl_repository_create(r, id, &a), TL_OK);
        for (int k = 0; k < 2; k++) {
            assert_status(f->c, add(a, "1"), TL_OK);
            assert_status(f->c, tl_repository_save(r, a), TL_OK);
        }
        a = tl_aggregate_free(a);
    }
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.snapshots"), 0);
    assert_int_equal(stats_of(r).snapshots_dropped, 2);
    for (int i = 0; i < 64; i++)
        assert_status(f->c, tl_repository_process(r), TL_OK);
    assert_status(f->c, tl_repository_process(r), TL_NOTHING);
    assert_int_equal(
        query_number(
            f->db,
            "SELECT count(*) FROM trunkline.snapshots WHERE version = 2 AND state = '[2, 2, 0]'"),
        64);
    assert_int_equal(stats_of(r).snapshots_saved, 64);
    r = tl_repository_free(r);
}

/* The load of an aggregate is one round trip, snapshot and events. */
static void a_load_is_one_round_trip(void **state)
{
    struct fixture *f = *state;
    tl_repository *r = open_repository(f, TL_REPOSITORY_OPTIONS(.snapshot_every = 3));
    tl_aggregate *a = NULL;
    char *trace = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&trace, &size);
    int syncs = 0;

    assert_status(f->c, tl_repository_create(r, "1", &a), TL_OK);
    for (int i = 0; i < 5; i++)
        assert_status(f->c, add(a, "1"), TL_OK);
    assert_status(f->c, tl_repository_save(r, a), TL_OK);
    a = tl_aggregate_free(a);
    append(f, "account-1", "added", "1");
    assert_loads(f, r, "1", 6, 6); /* prepared */
    PQtrace(tl_client_pgconn(f->c), file);
    assert_loads(f, r, "1", 6, 6);
    PQuntrace(tl_client_pgconn(f->c));
    assert_int_equal(fclose(file), 0);
    for (const char *at = trace; (at = strstr(at, "ReadyForQuery")) != NULL; at++)
        syncs++;
    assert_int_equal(syncs, 1);
    free(trace);
    r = tl_repository_free(r);
}

/* Long streams come in pages, and every event is applied once. */
static void long_streams(void **state)
{
    struct fixture *f = *state;
    tl_repository *r = open_repository(f, NULL);

    test_db_exec(f->db,
                 "SELECT count(*) FROM trunkline.append_rows('account-1', "
                 "array_fill('added'::text, ARRAY[500]), array_fill('1'::jsonb, ARRAY[500]))");
    assert_loads(f, r, "1", 500, 500);
    assert_int_equal(app.applied, 500);
    test_db_exec(f->db,
                 "SELECT count(*) FROM trunkline.append_rows('account-1', "
                 "array_fill('added'::text, ARRAY[2100]), array_fill('1'::jsonb, ARRAY[2100]))");
    assert_loads(f, r, "1", 2600, 2600);
    assert_int_equal(app.applied, 3100);
    r = tl_repository_free(r);
}

static tl_status double_it(const tl_event *e, const char *data, size_t len, char **ret_data,
                           void *userdata)
{
    (void)e;
    (void)len;
    (void)userdata;
    *ret_data = malloc(30);
    snprintf(*ret_data, 30, "%ld", strtol(data, NULL, 10) * 2);
    return TL_OK;
}

/* What apply does not know, by policy; old events by upcasters of both kinds. */
static void unknown_and_old_events(void **state)
{
    struct fixture *f = *state;
    tl_aggregate_type type = account_type();
    tl_repository *r = open_repository(f, NULL);
    tl_aggregate *a = NULL;
    tl_upcasters *u;

    append(f, "account-1", "added", "3");
    append(f, "account-1", "audited", "null");
    append(f, "account-1", "added", "4");
    assert_loads(f, r, "1", 7, 3);
    r = tl_repository_free(r);

    type.unknown = TL_UNKNOWN_FAIL;
    assert_status(f->c, tl_repository_new(f->c, &type, NULL, &r), TL_OK);
    assert_status(f->c, tl_repository_load(r, "1", &a), TL_E_UNSUPPORTED);
    assert_contains(message(f->c), "audited");
    assert_contains(message(f->c), "version 2");
    r = tl_repository_free(r);

    type.unknown = TL_UNKNOWN_FAIL; /* the upcasters leave it out before apply sees it */
    assert_int_equal(tl_upcasters_new(TL_UNKNOWN_SKIP, &u), TL_OK);
    assert_int_equal(tl_upcasters_add(u, "added", 1, double_it, NULL), TL_OK);
    assert_status(f->c, tl_repository_new(f->c, &type, TL_REPOSITORY_OPTIONS(.upcasters = u), &r),
                  TL_OK);
    assert_loads(f, r, "1", 14, 3);
    r = tl_repository_free(r);
    u = tl_upcasters_free(u);

    test_db_exec(f->db, "CREATE FUNCTION public.up(data jsonb, metadata jsonb) RETURNS jsonb "
                        "IMMUTABLE LANGUAGE sql AS "
                        "'SELECT to_jsonb((data #>> ''{}'')::int * 100)'; SELECT "
                        "trunkline.upcaster_add('added', 1, 'public.up')");
    type.unknown = TL_UNKNOWN_SKIP;
    for (int i = 0; i < 2; i++) {
        if (i == 1)
            type.snapshot = NULL,
            type.restore = NULL; /* without snapshots it is read another way */
        assert_status(
            f->c, tl_repository_new(f->c, &type, TL_REPOSITORY_OPTIONS(.upcast = true), &r), TL_OK);
        assert_loads(f, r, "1", 700, 3);
        r = tl_repository_free(r);
    }
    assert_null(a);
}

/* Stored events that cannot be applied, and versions that do not follow each other, are no state. */
static void broken_streams_are_errors(void **state)
{
    struct fixture *f = *state;
    tl_repository *r = open_repository(f, NULL);
    tl_aggregate *a = NULL;

    append(f, "account-1", "added", "3");
    append(f, "account-1", "closed", "null");
    assert_status(f->c, tl_repository_load(r, "1", &a), TL_E_REJECTED);
    assert_contains(message(f->c), "version 2 of stream \"account-1\"");
    /* what apply says is no word on whether there are events */
    append(f, "account-3", "lost", "null");
    assert_status(f->c, tl_repository_load_or_create(r, "3", &a), TL_E_NOTFOUND);
    assert_contains(message(f->c), "version 1 of stream \"account-3\"");
    assert_null(a);
    for (int i = 0; i < 4; i++)
        append(f, "account-2", "added", "1");
    test_db_exec(f->db, "SET session_replication_role = replica; DELETE FROM trunkline.topic_store "
                        "WHERE stream = 'account-2' AND version = 3; "
                        "SET session_replication_role = origin");
    assert_status(f->c, tl_repository_load(r, "2", &a), TL_E_SERVER);
    assert_contains(message(f->c), "behind 2");
    assert_null(a);
    r = tl_repository_free(r);
    assert_int_equal(app.alive, 0);
}

/* TEN-2, TOP-3: a repository of a tenant, and of a topic of one's own. */
static void tenants_and_topics(void **state)
{
    struct fixture *f = *state;
    tl_repository *of_a =
        open_repository(f, TL_REPOSITORY_OPTIONS(.tenant_id = "A", .snapshot_every = 1));
    tl_repository *of_b, *elsewhere;
    tl_aggregate_type type = account_type();
    tl_aggregate *a = NULL;
    bool exists = true;

    assert_status(f->c,
                  tl_repository_new(f->c, &type, TL_REPOSITORY_OPTIONS(.tenant_id = "B"), &of_b),
                  TL_OK);
    test_db_exec(f->db, "SELECT trunkline.create_topic('mine', streams => true)");
    assert_status(f->c,
                  tl_repository_new(f->c, &type,
                                    TL_REPOSITORY_OPTIONS(.topic = "mine", .snapshot_every = 1),
                                    &elsewhere),
                  TL_OK);
    assert_status(f->c, tl_repository_create(of_a, "1", &a), TL_OK);
    assert_status(f->c, add(a, "1"), TL_OK);
    assert_status(f->c, tl_repository_save(of_b, a), TL_E_INVALID); /* of another repository */
    assert_status(f->c, tl_repository_save(of_a, a), TL_OK);
    a = tl_aggregate_free(a);
    assert_loads(f, of_a, "1", 1, 1);
    assert_status(f->c, tl_repository_load(of_b, "1", &a), TL_E_NOTFOUND);
    assert_status(f->c, tl_repository_exists(of_b, "1", &exists), TL_OK);
    assert_false(exists);
    assert_status(f->c, tl_repository_load_or_create(of_b, "1", &a), TL_OK);
    assert_status(f->c, add(a, "1"), TL_OK);
    assert_status(f->c, tl_repository_save(of_b, a), TL_E_DENIED);
    a = tl_aggregate_free(a);
    assert_status(f->c, tl_repository_load(elsewhere, "1", &a), TL_E_NOTFOUND);
    assert_status(f->c, tl_repository_create(elsewhere, "1", &a), TL_OK);
    assert_status(f->c, add(a, "8"), TL_OK);
    assert_status(f->c, tl_repository_save(elsewhere, a), TL_OK);
    a = tl_aggregate_free(a);
    assert_loads(f, elsewhere, "1", 8, 1);
    assert_int_equal(stats_of(elsewhere).snapshot_hits, 1);
    of_a = tl_repository_free(of_a);
    of_b = tl_repository_free(of_b);
    elsewhere = tl_repository_free(elsewhere);
    assert_int_equal(app.alive, 0);
}

/* tl_snapshot_*: what SNP-1 says of the SQL functions holds through C. */
static void snapshots_by_hand(void **state)
{
    struct fixture *f = *state;
    tl_snapshot *s = NULL;
    int64_t count = -1;
    size_t len;

    append(f, "account-1", "added", "1");
    append(f, "account-1", "added", "1");
    assert_status(f->c, tl_snapshot_get(f->c, "account-1", NULL, &s), TL_E_NOTFOUND);
    assert_status(f->c, tl_snapshot_save(f->c, "account-1", 3, "{}", 0, NULL), TL_E_INVALID);
    assert_contains(message(f->c), "ahead");
    assert_status(f->c, tl_snapshot_save(f->c, "account-1", 2, "{", 0, NULL), TL_E_INVALID);
    assert_string_equal(message(f->c), "state is not valid JSON");
    assert_status(f->c, tl_snapshot_save(f->c, "account-1", 2, NULL, 0, NULL), TL_E_INVALID);
    assert_status(f->c, tl_snapshot_save(f->c, "account-1", 2, "{\"a\": 1.50}rest", 11, NULL),
                  TL_OK);
    assert_status(f->c, tl_snapshot_save(f->c, "account-1", 1, "{}", 0, NULL), TL_NOTHING);
    assert_status(
        f->c,
        tl_snapshot_save(f->c, "account-1", 1, "[]", 0, TL_SNAPSHOT_OPTIONS(.schema_version = 3)),
        TL_OK);
    assert_status(f->c, tl_snapshot_get(f->c, "account-1", NULL, &s), TL_OK);
    assert_int_equal(tl_snapshot_version(s), 2);
    assert_string_equal(tl_snapshot_state(s, &len), "{\"a\": 1.50}");
    assert_int_equal(len, 11);
    assert_true(tl_snapshot_created_at_us(s) > 1600000000000000);
    s = tl_snapshot_free(s);
    assert_status(f->c,
                  tl_snapshot_get(f->c, "account-1", TL_SNAPSHOT_OPTIONS(.schema_version = 2), &s),
                  TL_E_NOTFOUND);
    assert_status(f->c, tl_snapshot_delete(f->c, "account-1", 2, NULL, &count), TL_OK);
    assert_int_equal(count, 1);
    assert_status(f->c, tl_snapshot_delete(f->c, "account-*", 0, NULL, &count), TL_OK);
    assert_int_equal(count, 1);
    assert_status(f->c, tl_snapshot_delete(f->c, "account-1", 0, NULL, NULL), TL_OK);
    assert_null(tl_snapshot_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(created_saved_and_loaded),
        test_with_client(updates_are_repeated),
        test_with_client(snapshots_change_nothing_but_time),
        test_with_client(bad_snapshots_cost_a_replay),
        test_with_client(snapshots_that_wait),
        test_with_client(a_load_is_one_round_trip),
        test_with_client(long_streams),
        test_with_client(unknown_and_old_events),
        test_with_client(broken_streams_are_errors),
        test_with_client(tenants_and_topics),
        test_with_client(snapshots_by_hand),
    };

    return cmocka_run_group_tests_name("repository", tests, NULL, NULL);
}
