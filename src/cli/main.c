/*
 * main.c: the program. Parses, runs one command, ends with its exit code.
 */
#include <locale.h>
#include <signal.h>

#include "command.h"
#include "out.h"

int main(int argc, char **argv)
{
    struct tl__args args;
    bool is_done;

    /* A reader that goes away ends the command in the ordinary way, so that an embedded server is
     * left in order. */
    signal(SIGPIPE, SIG_IGN);
    setlocale(LC_CTYPE, "");
    int rc = tl__args_parse(argc, argv, &args, &is_done);
    if (!is_done) {
        tl__is_quiet = tl__args_has(&args, "quiet");
        tl__is_verbose = tl__args_has(&args, "verbose");
        rc = args.command->run(&args);
    }
    int flushed = tl__out_finish();
    return rc ? rc : flushed;
}
