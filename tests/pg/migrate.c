/* migrate.c: migrations on a real server (MIG-1, MIG-2, MIG-4): fresh, again, ten at once, tampered
 * with, newer, older, without rights, as a script. */
#include "client_test.h"

#include <pthread.h>
#include <unistd.h>

static int setup_empty(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->conninfo = test_db_create(0);
    f->db = test_db_connect(f->conninfo);
    *state = f;
    return 0;
}

#define test_on_empty(name) cmocka_unit_test_setup_teardown(name, setup_empty, teardown)

static tl_client *open_unchecked(const char *conninfo, const char *schema)
{
    tl_client *c;

    assert_status(c, tl_client_open_unchecked(conninfo, TL_CLIENT_OPTIONS(.schema = schema), &c),
                  TL_OK);
    return c;
}

/* Open and close again; expects a status and words in message or hint. */
static void expect_open(const struct fixture *f, tl_status status, const char *words)
{
    tl_client *c;

    assert_status(c, tl_client_open(f->conninfo, NULL, &c), status);
    if (words != NULL && strstr(message(c), words) == NULL)
        assert_contains(tl_error_hint(tl_client_error(c)), words);
    c = tl_client_close(c);
}

static tl_migrate_state state_of(tl_client *c)
{
    tl_migrate_state state = TL_MIGRATE_TAMPERED;

    assert_status(c, tl_migrate_status(c, NULL, NULL, &state), TL_OK);
    return state;
}

static void fresh_and_again(void **state)
{
    struct fixture *f = *state;
    tl_client *c;
    int applied = -1;

    expect_open(f, TL_E_SCHEMA, "trunkline migrate");
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM pg_namespace WHERE nspname = "
                                         "'trunkline'"),
                     0); /* opening changes nothing */
    c = open_unchecked(f->conninfo, NULL);
    assert_int_equal(state_of(c), TL_MIGRATE_MISSING);
    assert_status(c, tl_migrate_verify(c), TL_E_SCHEMA);
    assert_status(c, tl_migrate_up(c, &applied), TL_OK);
    assert_true(applied >= 1);
    assert_int_equal(state_of(c), TL_MIGRATE_CURRENT);
    assert_status(c, tl_migrate_verify(c), TL_OK);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.migrations"), applied);
    assert_status(c, tl_migrate_up(c, &applied), TL_OK);
    assert_int_equal(applied, 0);
    c = tl_client_close(c);
    expect_open(f, TL_OK, NULL);
}

struct runner {
    pthread_t thread;
    const char *conninfo;
    tl_status status;
    int applied;
    char error[512];
};

static void *run_migrate(void *arg)
{
    struct runner *r = arg;
    tl_client *c;

    r->status = tl_client_open_unchecked(r->conninfo, NULL, &c);
    if (r->status == TL_OK)
        r->status = tl_migrate_up(c, &r->applied);
    snprintf(r->error, sizeof r->error, "%s", message(c));
    c = tl_client_close(c);
    return NULL;
}

static void ten_at_once(void **state)
{
    struct fixture *f = *state;
    struct runner runners[10];
    int applied = 0;

    memset(runners, 0, sizeof runners);
    for (int i = 0; i < 10; i++) {
        runners[i].conninfo = f->conninfo;
        assert_int_equal(pthread_create(&runners[i].thread, NULL, run_migrate, &runners[i]), 0);
    }
    for (int i = 0; i < 10; i++) {
        assert_int_equal(pthread_join(runners[i].thread, NULL), 0);
        if (runners[i].status != TL_OK)
            fail_msg("run %d: %s", i, runners[i].error);
        applied += runners[i].applied;
    }
    /* each migration by one of them */
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.migrations"), applied);
    expect_open(f, TL_OK, NULL);
}

static void tampered_is_refused(void **state)
{
    struct fixture *f = *state;

    test_db_exec(f->db, "UPDATE trunkline.migrations SET checksum = repeat('0', 64) "
                        "WHERE number = 1");
    assert_int_equal(state_of(f->c), TL_MIGRATE_TAMPERED);
    assert_status(f->c, tl_migrate_up(f->c, NULL), TL_E_SCHEMA);
    assert_contains(message(f->c), "migration 1 of schema \"trunkline\"");
    assert_contains(message(f->c), "checksum");
    assert_status(f->c, tl_migrate_verify(f->c), TL_E_SCHEMA);
    assert_int_equal(PQtransactionStatus(tl_client_pgconn(f->c)), PQTRANS_IDLE);
}

static void newer_is_refused(void **state)
{
    struct fixture *f = *state;

    test_db_exec(f->db, "INSERT INTO trunkline.migrations (number, name, checksum) "
                        "VALUES (9999, '9999_future', repeat('0', 64))");
    expect_open(f, TL_E_SCHEMA, "newer than this library");
    expect_open(f, TL_E_SCHEMA, "upgrade libtrunkline");
    assert_int_equal(state_of(f->c), TL_MIGRATE_NEWER);
    assert_status(f->c, tl_migrate_up(f->c, NULL), TL_E_SCHEMA);
    assert_contains(message(f->c), "newer than this library");
    assert_status(f->c, tl_migrate_verify(f->c), TL_E_SCHEMA);
}

static void functions_of_a_newer_library_are_left_alone(void **state)
{
    struct fixture *f = *state;

    test_db_exec(f->db, "UPDATE trunkline.installed SET functions_checksum = repeat('0', 64), "
                        "library_version = '99.10.1'");
    expect_open(f, TL_E_SCHEMA, "99.10.1");
    assert_status(f->c, tl_migrate_up(f->c, NULL), TL_E_SCHEMA);
}

static void older_functions_are_applied_again(void **state)
{
    struct fixture *f = *state;
    int applied = -1;

    test_db_exec(f->db, "UPDATE trunkline.installed SET functions_checksum = repeat('0', 64), "
                        "library_version = '0.0.9'");
    expect_open(f, TL_E_SCHEMA, "older than this library");
    assert_int_equal(state_of(f->c), TL_MIGRATE_PENDING);
    assert_status(f->c, tl_migrate_verify(f->c), TL_E_SCHEMA);
    assert_status(f->c, tl_migrate_up(f->c, &applied), TL_OK);
    assert_int_equal(applied, 0);
    expect_open(f, TL_OK, NULL);
}

static void functions_changed_by_hand_are_noticed_and_restored(void **state)
{
    struct fixture *f = *state;

    assert_status(f->c, tl_migrate_verify(f->c), TL_OK);
    test_db_exec(f->db, "CREATE OR REPLACE FUNCTION trunkline.type_problem(type text) RETURNS text "
                        "LANGUAGE sql AS 'SELECT NULL::text'");
    assert_status(f->c, tl_migrate_verify(f->c), TL_E_SCHEMA);
    assert_contains(message(f->c), "changed by hand");
    assert_status(f->c, tl_migrate_up(f->c, NULL), TL_OK);
    assert_status(f->c, tl_migrate_verify(f->c), TL_OK);
    assert_int_equal(query_number(f->db, "SELECT (trunkline.type_problem('') = 'is empty')::int"),
                     1);
}

struct seen {
    int count;
    char states[64];
};

static void remember(int number, const char *name, const char *state, void *userdata)
{
    struct seen *seen = userdata;

    assert_true(number > 0);
    assert_true(strlen(name) > 5);
    seen->count++;
    snprintf(seen->states, sizeof seen->states, "%s", state);
}

static void status_lists_each_migration(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    tl_client *c = open_unchecked(f->conninfo, "Other-schema");

    assert_status(c, tl_migrate_status(c, remember, &seen, NULL), TL_OK);
    assert_true(seen.count >= 1);
    assert_string_equal(seen.states, "pending");
    c = tl_client_close(c);
    test_db_exec(f->db, "INSERT INTO trunkline.migrations (number, name, checksum) "
                        "VALUES (9999, '9999_future', repeat('0', 64))");
    seen.count = 0;
    assert_status(f->c, tl_migrate_status(f->c, remember, &seen, NULL), TL_OK);
    assert_string_equal(seen.states, "unknown");
    assert_true(seen.count >= 2);
}

static void several_schemas_side_by_side(void **state)
{
    struct fixture *f = *state;
    tl_client *c = open_unchecked(f->conninfo, "Other-schema");
    tl_receipt receipt;

    assert_status(c, tl_migrate_up(c, NULL), TL_OK);
    assert_status(c, tl_publish(c, NULL, TL_NEW_EVENT(.type = "a"), &receipt), TL_OK);
    assert_int_equal(receipt.position, 1);
    assert_int_equal(
        tl_publish_in(f->db, "Other-schema", NULL, TL_NEW_EVENT(.type = "b"), &receipt, NULL),
        TL_OK);
    assert_int_equal(event_count(f->db), 0);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM \"Other-schema\".events"), 2);
    c = tl_client_close(c);
}

static void rights_of_an_owner_are_enough(void **state)
{
    struct fixture *f = *state;
    char role[64], conninfo[512], sql[512];
    tl_client *c;

    snprintf(role, sizeof role, "owner_%ld", (long)getpid());
    snprintf(sql, sizeof sql, "CREATE ROLE %s LOGIN NOSUPERUSER", role);
    test_db_exec(f->db, sql);
    snprintf(conninfo, sizeof conninfo, "%s user=%s", f->conninfo, role);
    c = open_unchecked(conninfo, NULL);
    assert_status(c, tl_migrate_up(c, NULL), TL_E_DENIED);
    assert_int_equal(PQtransactionStatus(tl_client_pgconn(c)), PQTRANS_IDLE);
    snprintf(sql, sizeof sql, "GRANT CREATE ON DATABASE %s TO %s", PQdb(f->db), role);
    test_db_exec(f->db, sql);
    assert_status(c, tl_migrate_up(c, NULL), TL_OK);
    assert_status(c, tl_publish(c, NULL, TL_NEW_EVENT(.type = "a"), NULL), TL_OK);
    assert_status(c, tl_topic_create(c, "mine", NULL), TL_OK);
    c = tl_client_close(c);

    /* an existing schema, without the right to make one */
    snprintf(sql, sizeof sql,
             "REVOKE CREATE ON DATABASE %s FROM %s; CREATE SCHEMA given AUTHORIZATION %s",
             PQdb(f->db), role, role);
    test_db_exec(f->db, sql);
    c = open_unchecked(conninfo, "given");
    assert_status(c, tl_migrate_up(c, NULL), TL_OK);
    c = tl_client_close(c);
    snprintf(sql, sizeof sql, "DROP OWNED BY %s CASCADE; DROP ROLE %s", role, role);
    test_db_exec(f->db, sql);
}

static void a_failed_migration_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    tl_client *c;

    /* in the way of 0001 */
    test_db_exec(f->db, "CREATE SCHEMA trunkline; CREATE TABLE trunkline.topics ()");
    c = open_unchecked(f->conninfo, NULL);
    assert_status(c, tl_migrate_up(c, NULL), TL_E_SERVER);
    assert_contains(message(c), "0001_");
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM pg_class WHERE relnamespace = "
                                         "'trunkline'::regnamespace AND relkind = 'r'"),
                     1);
    test_db_exec(f->db, "DROP TABLE trunkline.topics");
    assert_status(c, tl_migrate_up(c, NULL), TL_OK);
    c = tl_client_close(c);
}

/* Catalogue of a schema as one digest, to compare a script's with a client's. */
#define FINGERPRINT                                                                                \
    "SELECT ('x' || left(md5(string_agg(l, ';' ORDER BY l COLLATE \"C\")), 15))::bit(60)::bigint " \
    "FROM (SELECT format('%s %s %s %s', c.relname, a.attname, a.atttypid::regtype, "               \
    "a.attnotnull) AS l FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE "          \
    "c.relnamespace = 'trunkline'::regnamespace AND a.attnum > 0 UNION ALL SELECT "                \
    "md5(pg_get_functiondef(oid)) FROM pg_proc WHERE pronamespace = 'trunkline'::regnamespace "    \
    "UNION ALL SELECT number || name || checksum FROM trunkline.migrations UNION ALL SELECT "      \
    "functions_checksum || live_digest || library_version FROM trunkline.installed) x"

static void the_script_installs_the_same(void **state)
{
    struct fixture *f = *state;
    char path[] = "/tmp/tl-script-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    char command[1024];
    char *fresh = test_db_create(1);
    PGconn *template_db = test_db_connect(fresh);
    char *sql = NULL;

    assert_non_null(file);
    assert_int_equal(tl_migrate_sql(NULL, &sql), TL_OK);
    assert_true(fputs(sql, file) >= 0);
    assert_int_equal(fclose(file), 0);
    tl_free(sql);
    snprintf(command, sizeof command, "psql -X -q -v ON_ERROR_STOP=1 -f %s '%s' >/dev/null 2>&1",
             path, f->conninfo);
    assert_int_equal(system(command), 0);
    expect_open(f, TL_OK, NULL);
    assert_true(query_number(f->db, FINGERPRINT) == query_number(template_db, FINGERPRINT));
    /* a second time it changes nothing */
    assert_int_not_equal(system(command), 0);
    expect_open(f, TL_OK, NULL);
    (void)unlink(path);
    PQfinish(template_db);
    fresh = test_db_drop(fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_on_empty(fresh_and_again),
        test_on_empty(ten_at_once),
        test_with_client(tampered_is_refused),
        test_with_client(newer_is_refused),
        test_with_client(functions_of_a_newer_library_are_left_alone),
        test_with_client(older_functions_are_applied_again),
        test_with_client(functions_changed_by_hand_are_noticed_and_restored),
        test_with_client(status_lists_each_migration),
        test_with_client(several_schemas_side_by_side),
        test_on_empty(rights_of_an_owner_are_enough),
        test_on_empty(a_failed_migration_leaves_nothing),
        test_on_empty(the_script_installs_the_same),
    };

    return cmocka_run_group_tests_name("migrate", tests, NULL, NULL);
}
