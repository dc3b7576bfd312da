/* conninfo.c: a connection string of --db: what is shown of it has no secret and says the same. */
#include "fuzz.h"

#include <libpq-fe.h>
#include <trunkline/trunkline.h>

#include "database.h"
#include "out.h"

static const char *value_of(const PQconninfoOption *options, const char *keyword)
{
    while (options->keyword != NULL && strcmp(options->keyword, keyword) != 0)
        options++;
    return options->val;
}

/* Each word that libpq does not call a secret is what it was. */
static void compare(const PQconninfoOption *given, const PQconninfoOption *shown)
{
    for (const PQconninfoOption *o = given; o->keyword != NULL; o++) {
        const char *now = value_of(shown, o->keyword);

        if (o->val == NULL)
            fuzz_check(now == NULL);
        else if (strchr(o->dispchar, '*') != NULL || strcmp(o->keyword, "passfile") == 0)
            fuzz_check(now != NULL && strcmp(now, "****") == 0);
        else
            fuzz_check(now != NULL && strcmp(now, o->val) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char name[] = "trunkline", command[] = "topics", option[] = "--db";
    struct fuzz_input in = {data, data + size};
    char *text = fuzz_line(&in);
    char *argv[] = {name, command, option, text, NULL};
    PQconninfoOption *given = PQconninfoParse(text, NULL);
    struct tl__args args;
    struct tl__db db = TL__DB_INIT;
    bool is_done;

    fuzz_check(tl__args_parse(4, argv, &args, &is_done) == 0 && !is_done);
    if (tl__db_attach(&args, &db) == 0) {
        PQconninfoOption *shown = PQconninfoParse(db.shown, NULL);

        fuzz_check(given != NULL && strcmp(db.conninfo, text) == 0);
        fuzz_check(shown != NULL);
        compare(given, shown);
        PQconninfoFree(shown);
    } else {
        fuzz_check(given == NULL);
    }
    tl__db_close(&db);
    PQconninfoFree(given);
    free(text);
    return 0;
}
