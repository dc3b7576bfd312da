/*
 * initdb.c: make the cluster, whole or not at all.
 *
 * It is made under another name, without syncs, with settings, role and database in it; then synced
 * once and renamed. Nothing that was interrupted is ever taken for a cluster.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * What is not about the connection (that stands on the command line, see server.c) stands in the
 * file, where its owner may change it. Statements and values of events must not reach the log:
 * clients get their errors, the log has the server's own messages.
 */
static const char settings[] = "\n"
                               "# trunkline\n"
                               "shared_buffers = 64MB\n"
                               "max_connections = 100\n"
                               "min_wal_size = 32MB\n"
                               "max_wal_size = 512MB\n"
                               "checkpoint_warning = 0\n"
                               "jit = off\n"
                               "log_min_messages = log\n"
                               "log_min_error_statement = panic\n"
                               "log_error_verbosity = terse\n"
                               "log_checkpoints = off\n"
                               "log_line_prefix = '%m [%p] '\n";

static const char hba[] =
    "# Made by trunkline. Only who may enter the socket's directory gets here;\n"
    "# of those only the users of pg_ident.conf may connect.\n"
    "local  all          all  peer  map=trunkline\n"
    "local  replication  all  peer  map=trunkline\n";

static const char bootstrap[] =
    "CREATE ROLE trunkline LOGIN CREATEDB CREATEROLE IN ROLE pg_monitor, pg_signal_backend;\n"
    "CREATE DATABASE trunkline OWNER trunkline;\n"
    /* The role has the name of our schema: without this, "$user" would put users' tables into it. */
    "ALTER DATABASE trunkline SET search_path = public;\n";

static tl_status write_file(const tl__embedded *e, int dir_fd, const char *name, int flags,
                            const char *text, tl__embedded_error *err)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags);
    size_t length = strlen(text);
    bool is_written = fd >= 0 && write(fd, text, length) == (ssize_t)length;
    if (!is_written)
        tl__embedded_fail(err, TL_E_SERVER, "could not write \"%s/%s/%s\": %m", e->dir, TMP_DIR,
                          name);
    tl__embedded_close_fd(fd);
    return is_written ? TL_OK : TL_E_SERVER;
}

static tl_status configure(const tl__embedded *e, tl__embedded_error *err)
{
    char ident[512] = "";
    const char *names[] = {e->user.name, e->user.is_other ? "root" : NULL};
    for (size_t i = 0; i < 2 && names[i]; i++) {
        size_t length = strlen(ident);
        snprintf(ident + length, sizeof(ident) - length,
                 "trunkline  \"%s\"  trunkline\ntrunkline  \"%s\"  postgres\n", names[i], names[i]);
    }
    int fd = openat(e->dir_fd, TMP_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return tl__embedded_fail(err, TL_E_SERVER, "could not open \"%s/%s\": %m", e->dir, TMP_DIR);
    tl_status status = write_file(e, fd, "postgresql.conf", O_APPEND, settings, err);
    if (status == TL_OK)
        status = write_file(e, fd, "pg_hba.conf", O_TRUNC, hba, err);
    if (status == TL_OK)
        status = write_file(e, fd, "pg_ident.conf", O_TRUNC, ident, err);
    tl__embedded_close_fd(fd);
    return status;
}

/* Role and database, by the server in single-user mode: no client could connect yet. */
static tl_status run_bootstrap(const tl__embedded *e, int server_lock_fd, tl__embedded_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return tl__embedded_fail(err, TL_E_SERVER, "could not make a pipe: %m");
    /* It fits in the pipe, and the read end is still open: this neither blocks nor signals. */
    ssize_t written = write(ends[1], bootstrap, sizeof(bootstrap) - 1);
    tl__embedded_close_fd(ends[1]);
    tl_status status;
    if (written == (ssize_t)sizeof(bootstrap) - 1) {
        const char *const arguments[] = {"--single",           "-F",       "-D", TMP_DIR, "-c",
                                         "exit_on_error=true", "postgres", NULL};
        status = tl__embedded_run(e,
                                  &(struct spawn){.program = "postgres",
                                                  .arguments = arguments,
                                                  .stdin_fd = ends[0],
                                                  .lock_fd = server_lock_fd},
                                  err);
    } else {
        status = tl__embedded_fail(err, TL_E_SERVER, "could not write to a pipe: %m");
    }
    tl__embedded_close_fd(ends[0]);
    return status;
}

static tl_status run_initdb(const tl__embedded *e, const char *const *arguments, int server_lock_fd,
                            tl__embedded_error *err)
{
    return tl__embedded_run(
        e,
        &(struct spawn){
            .program = "initdb", .arguments = arguments, .stdin_fd = -1, .lock_fd = server_lock_fd},
        err);
}

static tl_status make_tmp(const tl__embedded *e, int server_lock_fd, tl__embedded_error *err)
{
    static const char *const create[] = {"-D",
                                         TMP_DIR,
                                         "-N",
                                         "--no-instructions",
                                         "-E",
                                         "UTF8",
                                         "--locale=C",
                                         "-U",
                                         "postgres",
                                         "--auth-local=peer",
                                         "--auth-host=reject",
                                         NULL};
    static const char *const sync[] = {"-D", TMP_DIR, "--sync-only", NULL};
    tl_status status = run_initdb(e, create, server_lock_fd, err);
    if (status == TL_OK)
        status = configure(e, err);
    if (status == TL_OK)
        status = run_bootstrap(e, server_lock_fd, err);
    if (status == TL_OK)
        status = run_initdb(e, sync, server_lock_fd, err);
    return status;
}

tl_status tl__embedded_make_data(const tl__embedded *e, int server_lock_fd, tl__embedded_error *err)
{
    tl__embedded_report(e, TL__EMBEDDED_INITIALISING);
    /* Of an initdb that was killed; server.lock says that it is gone. */
    if (tl__embedded_remove_tree(e->dir_fd, TMP_DIR) != 0)
        return tl__embedded_fail(err, TL_E_SERVER, "could not remove \"%s/%s\": %m", e->dir,
                                 TMP_DIR);
    tl_status status = make_tmp(e, server_lock_fd, err);
    if (status == TL_OK &&
        (renameat(e->dir_fd, TMP_DIR, e->dir_fd, DATA_DIR) != 0 || fsync(e->dir_fd) != 0))
        status = tl__embedded_fail(err, TL_E_SERVER, "could not rename \"%s/%s\" to \"%s\": %m",
                                   e->dir, TMP_DIR, DATA_DIR);
    if (status != TL_OK)
        (void)tl__embedded_remove_tree(e->dir_fd, TMP_DIR);
    return status;
}

tl_status tl__embedded_check_data(const tl__embedded *e, bool *ret_exists, tl__embedded_error *err)
{
    struct stat st;
    if (fstatat(e->dir_fd, DATA_DIR, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno != ENOENT)
            return tl__embedded_fail(err, TL_E_SERVER, "could not stat \"%s/%s\": %m", e->dir,
                                     DATA_DIR);
        *ret_exists = false;
        return TL_OK;
    }
    int major =
        S_ISDIR(st.st_mode) ? tl__embedded_read_major(e->dir_fd, DATA_DIR "/PG_VERSION") : -1;
    if (major <= 0) {
        tl__embedded_fail(err, TL_E_INVALID, "\"%s/%s\" is not a PostgreSQL cluster", e->dir,
                          DATA_DIR);
        tl__embedded_detail(err, "it has no valid PG_VERSION; nothing in it was changed");
        tl__embedded_hint(err,
                          "restore it from a backup, or set TRUNKLINE_DATA_DIR to a new directory");
        return TL_E_INVALID;
    }
    if (major != e->major) {
        tl__embedded_fail(
            err, TL_E_UNSUPPORTED,
            "private data was made by PostgreSQL %d, the programs found are version %d", major,
            e->major);
        tl__embedded_detail(err, "data directory \"%s\"; nothing in it was changed", e->dir);
        tl__embedded_hint(err, "set TRUNKLINE_PG_BINDIR to the programs of PostgreSQL %d", major);
        return TL_E_UNSUPPORTED;
    }
    *ret_exists = true;
    return TL_OK;
}
