/*
 * main.c: the program. Parses, runs one command, ends with its exit code.
 */
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#include "command.h"
#include "out.h"

/* One that we were started without would be the number of a socket, and get results or logs. What
 * takes its place refuses to be read or written, as a closed one does. */
static bool keep_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    struct tl__args args;
    bool is_done;

    if (!keep_standard_files())
        return tl_status_exit_code(TL_E_LIMIT);
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
