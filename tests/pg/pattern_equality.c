/* pattern_equality.c: the matcher in C and the one in SQL give the same answers, and the same
 * reasons, on many generated pairs (PAT-1). A failure prints the seed; run again with
 * TRUNKLINE_TEST_SEED set to it. */
#include "client_test.h"

#include <unistd.h>

#define PAIRS 6000

static uint64_t random_state;

static unsigned int next(unsigned int below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned int)(random_state >> 11) % below;
}

struct text {
    char bytes[600];
    size_t len;
};

static void add(struct text *to, const char *part)
{
    size_t len = strlen(part);

    assert_true(to->len + len < sizeof to->bytes);
    memcpy(to->bytes + to->len, part, len + 1);
    to->len += len;
}

/* Few segments over a small alphabet, so that many pairs match; odd ones too. */
static void make_text(struct text *to, bool is_pattern)
{
    static const char *const words[] = {"a",   "b",   "ab", "_",        "%", "[a]",
                                        "a+",  "\\d", "(",  "\xc3\xbc", "$", "^a",
                                        "{2}", "-",   "|",  "?",        " ", "\\"};
    static const char *const wild[] = {"*", "**", "a*", "***", "*", "**"};
    unsigned int segments = next(12) == 0 ? 0 : 1 + next(4);

    *to = (struct text){.len = 0};
    for (unsigned int i = 0; i < segments; i++) {
        if (i > 0 || next(60) == 0)
            add(to, ".");
        if (is_pattern && next(3) == 0)
            add(to, wild[next(6)]);
        else if (next(40) == 0)
            add(to, next(2) == 0 ? "*" : "");
        else
            add(to, words[next(4) != 0 ? next(3) : next(18)]);
    }
    if (next(80) == 0)
        add(to, ".");
    if (next(200) == 0) {
        for (size_t end = 250 + next(12); to->len < end;)
            add(to, "x");
    }
}

static void both_matchers_agree(void **state)
{
    struct fixture *f = *state;
    const char *seed = getenv("TRUNKLINE_TEST_SEED");
    uint64_t first = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 2654435761u;
    int matches = 0;

    random_state = first != 0 ? first : 1;
    test_db_exec(f->db, "PREPARE ask AS SELECT trunkline.matches($1::text, $2::text)::int, "
                        "coalesce(trunkline.type_problem($1::text), ''), "
                        "coalesce(trunkline.pattern_problem($2::text), '')");
    for (int i = 0; i < PAIRS; i++) {
        struct text type_text, pattern_text;
        const char *type = type_text.bytes, *pattern = pattern_text.bytes;
        const char *values[2] = {type, pattern};
        const char *type_problem = "", *pattern_problem = "";
        bool is_match;
        PGresult *res;

        make_text(&type_text, false);
        make_text(&pattern_text, true);
        is_match = tl_pattern_matches(pattern, type);
        matches += is_match;
        (void)!tl_type_check(type, &type_problem);
        (void)!tl_pattern_check(pattern, &pattern_problem);
        res = PQexecPrepared(f->db, "ask", 2, values, NULL, NULL, 0);
        assert_int_equal(PQresultStatus(res), PGRES_TUPLES_OK);
        if ((PQgetvalue(res, 0, 0)[0] == '1') != is_match ||
            strcmp(PQgetvalue(res, 0, 1), type_problem) != 0 ||
            strcmp(PQgetvalue(res, 0, 2), pattern_problem) != 0)
            fail_msg("seed %llu: '%s' on '%s': C %d '%s' '%s', SQL %s '%s' '%s'",
                     (unsigned long long)first, pattern, type, is_match, type_problem,
                     pattern_problem, PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 1),
                     PQgetvalue(res, 0, 2));
        PQclear(res);
    }
    assert_true(matches > PAIRS / 50); /* the generator is not all noise */
}

int main(void)
{
    const struct CMUnitTest tests[] = {test_with_client(both_matchers_agree)};

    return cmocka_run_group_tests_name("pattern_equality", tests, NULL, NULL);
}
