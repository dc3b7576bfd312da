/*
 * cmd_db.c: trunkline db: which database the other commands use, and how to open it with psql.
 */
#include <stdio.h>

#include "buf.h"
#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "json.h"
#include "out.h"

static int run(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    int rc = tl__db_attach(args, &db);

    if (rc)
        return rc;
    if (tl__args_has(args, "json")) {
        TL_CLEANUP(tl__buf_done)
        struct tl__buf line = TL_BUF_INIT;
        tl__buf_add_char(&line, '{');
        tl__json_add_name(&line, "conninfo");
        tl__json_add_text(&line, db.shown);
        tl__json_add_name(&line, "source");
        tl__json_add_text(&line, db.source_name);
        tl__json_add_name(&line, "schema");
        tl__json_add_text(&line, db.schema);
        if (db.embedded) {
            tl__json_add_name(&line, "directory");
            tl__json_add_text(&line, tl__embedded_dir(db.embedded));
            tl__json_add_name(&line, "pid");
            tl__buf_add_i64(&line, tl__embedded_server_pid(db.embedded));
        }
        tl__buf_add_char(&line, '}');
        if (line.is_failed)
            return tl__fail(TL_E_NOMEM, NULL, "out of memory");
        puts(line.data);
        return 0;
    }
    puts(db.shown);
    if (db.embedded && tl__embedded_was_started(db.embedded))
        tl__note("the embedded server runs while a command uses it; keep it up with trunkline "
                 "serve, then: psql \"$(trunkline db -q)\"");
    else
        tl__note("from %s; open it with: psql \"$(trunkline db -q)\"", db.source_name);
    return 0;
}

const struct tl__command tl__cmd_db = {
    .name = "db",
    .summary = "print the database in use, without its password",
    .details = "With no database configured this is the embedded PostgreSQL; it answers as long as "
               "some command (usually `trunkline serve`) is attached to it.",
    .examples = "  psql \"$(trunkline db -q)\" -c 'table trunkline.topic_status'",
    .run = run,
};
