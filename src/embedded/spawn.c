/*
 * spawn.c: run a program of PostgreSQL as the server's user, its stderr in the server log.
 *
 * By fork and exec, not through pg_ctl: the process id is ours and nothing has to be parsed. The
 * child inherits no descriptor but those named and server.lock, no signal setting, and of the
 * environment only what it needs: no PG* variable changes it, no password can be read from it.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ARGUMENTS 40
#define LOG_LIMIT (8 << 20)
#define TAIL_BYTES 2000
#define FULL_DISK_BYTES (16 << 20) /* less than a WAL segment */

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

enum stage { STAGE_USER, STAGE_REACH, STAGE_LOG, STAGE_EXEC };

/* What a child that could not exec says before it exits. */
struct report {
    enum stage stage;
    int error;
};

/* All that the child needs, made before fork: after it only system calls are safe. */
struct plan {
    const tl__embedded *e;
    const struct spawn *spawn;
    char path[PATH_MAX + 16];
    char *arguments[MAX_ARGUMENTS];
    char *environment[8];
    char *storage[8]; /* of environment */
    int report_fd;
};

static void make_environment(struct plan *plan)
{
    static const char *const kept[] = {"PATH", "TZ", "LD_LIBRARY_PATH"};
    size_t count = 0;
    plan->environment[count++] = (char *)"LC_ALL=C";
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        const char *value = getenv(kept[i]);
        /* asprintf leaves its result undefined on failure; the variable is then just missing */
        if (value && asprintf(&plan->storage[i], "%s=%s", kept[i], value) >= 0)
            plan->environment[count++] = plan->storage[i];
        else
            plan->storage[i] = NULL;
    }
    plan->environment[count] = NULL;
}

static void free_environment(struct plan *plan)
{
    for (size_t i = 0; i < sizeof(plan->storage) / sizeof(plan->storage[0]); i++)
        free(plan->storage[i]);
}

/* ------------------------------------------------------------------------------ in the child -- */

static void give_up(const struct plan *plan, enum stage stage)
{
    struct report report = {.stage = stage, .error = errno};
    ssize_t written = write(plan->report_fd, &report, sizeof(report));
    _exit(written == (ssize_t)sizeof(report) ? 126 : 127);
}

/* Out of the way of 0, 1 and 2, which a caller may have closed. */
static int above_standard(int fd)
{
    return fd < 0 || fd > 2 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static void become(struct plan *plan)
{
    const struct server_user *user = &plan->e->user;
    if (user->is_other && (setgroups((size_t)user->group_count, user->groups) != 0 ||
                           setgid(user->gid) != 0 || setuid(user->uid) != 0))
        give_up(plan, STAGE_USER);
    umask(077);
    if (chdir(plan->e->dir) != 0)
        give_up(plan, STAGE_REACH);
}

static int open_log(const struct plan *plan, int null_fd)
{
    if (plan->spawn->log_fd >= 0)
        return above_standard(plan->spawn->log_fd);
    int fd = openat(plan->e->dir_fd, LOG_FILE,
                    O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 && errno == ENOSPC ? null_fd : above_standard(fd);
}

static void redirect(struct plan *plan)
{
    int null_fd = above_standard(open("/dev/null", O_RDWR | O_CLOEXEC));
    int log_fd = open_log(plan, null_fd);
    int stdin_fd = plan->spawn->stdin_fd >= 0 ? above_standard(plan->spawn->stdin_fd) : null_fd;
    if (null_fd < 0 || log_fd < 0 || dup2(stdin_fd, 0) < 0 || dup2(null_fd, 1) < 0 ||
        dup2(log_fd, 2) < 0)
        give_up(plan, STAGE_LOG);
}

static void keep_only(int lock_fd)
{
    if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
        for (int fd = 3; fd < 1024; fd++) /* a kernel before 5.11 */
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(lock_fd, F_SETFD, 0);
}

static void reset_signals(void)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        (void)sigaction(number, &standard, NULL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void run_child(struct plan *plan)
{
    plan->report_fd = above_standard(plan->report_fd);
    int lock_fd = above_standard(plan->spawn->lock_fd);
    if (plan->spawn->is_daemon)
        (void)setsid(); /* Ctrl-C at the starter's terminal is not for the server */
    reset_signals();
    become(plan);
    redirect(plan);
    keep_only(lock_fd);
    execve(plan->path, plan->arguments, plan->environment);
    give_up(plan, STAGE_EXEC);
}

/* ----------------------------------------------------------------------------- in the parent -- */

static tl_status explain(const struct plan *plan, const struct report *report,
                         tl__embedded_error *err)
{
    const tl__embedded *e = plan->e;
    errno = report->error;
    switch (report->stage) {
    case STAGE_USER:
        return tl__embedded_fail(err, TL_E_DENIED, "could not become user \"%s\": %m",
                                 e->user.name);
    case STAGE_REACH:
        tl__embedded_fail(err, TL_E_DENIED, "user \"%s\" cannot reach directory \"%s\": %m",
                          e->user.name, e->dir);
        tl__embedded_detail(err, "the private PostgreSQL runs as that user");
        tl__embedded_hint(err, "set TRUNKLINE_DATA_DIR to a directory whose parents it may enter");
        return TL_E_DENIED;
    case STAGE_LOG:
        return tl__embedded_fail(err, TL_E_SERVER, "could not open \"%s/%s\": %m", e->dir,
                                 LOG_FILE);
    case STAGE_EXEC:
        break;
    }
    return tl__embedded_fail(err, TL_E_SERVER, "could not execute \"%s\": %m", plan->path);
}

tl_status tl__embedded_spawn(const tl__embedded *e, const struct spawn *spawn, pid_t *ret_pid,
                             tl__embedded_error *err)
{
    struct plan plan = {.e = e, .spawn = spawn};
    snprintf(plan.path, sizeof(plan.path), "%s/%s", e->bindir, spawn->program);
    size_t count = 0;
    plan.arguments[count++] = plan.path;
    for (const char *const *argument = spawn->arguments; *argument; argument++)
        if (count < MAX_ARGUMENTS - 1)
            plan.arguments[count++] = (char *)*argument;
    make_environment(&plan);

    tl_status status = TL_OK;
    int ends[2] = {-1, -1};
    pid_t pid = -1;
    if (pipe2(ends, O_CLOEXEC) == 0) {
        plan.report_fd = ends[1];
        pid = fork();
    }
    if (pid == 0)
        run_child(&plan);
    if (pid < 0)
        status = tl__embedded_fail(err, TL_E_SERVER, "could not run \"%s\": %m", plan.path);
    tl__embedded_close_fd(ends[1]);
    if (pid > 0) {
        struct report report;
        ssize_t got;
        while ((got = read(ends[0], &report, sizeof(report))) < 0 && errno == EINTR)
            ;
        if (got == (ssize_t)sizeof(report)) {
            status = explain(&plan, &report, err);
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        } else {
            *ret_pid = pid;
        }
    }
    tl__embedded_close_fd(ends[0]);
    free_environment(&plan);
    return status;
}

/* --------------------------------------------------------------------------------- server log -- */

off_t tl__embedded_log_size(const tl__embedded *e)
{
    struct stat st;
    return fstatat(e->dir_fd, LOG_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_size : 0;
}

void tl__embedded_rotate_log(const tl__embedded *e)
{
    if (tl__embedded_log_size(e) > LOG_LIMIT)
        (void)renameat(e->dir_fd, LOG_FILE, e->dir_fd, LOG_FILE ".1");
}

/* Put the end of a file into the detail. */
static void tail(int fd, off_t from, tl__embedded_error *err)
{
    char text[TAIL_BYTES + 1];
    struct stat st;
    if (fstat(fd, &st) != 0)
        return;
    bool is_cut = st.st_size - from > TAIL_BYTES;
    ssize_t length = pread(fd, text, TAIL_BYTES, is_cut ? st.st_size - TAIL_BYTES : from);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
        length--;
    text[length > 0 ? length : 0] = '\0';
    const char *newline = is_cut ? strchr(text, '\n') : NULL;
    tl__embedded_detail(err, "%s", newline ? newline + 1 : text);
}

void tl__embedded_log_tail(const tl__embedded *e, off_t from, tl__embedded_error *err)
{
    int fd = openat(e->dir_fd, LOG_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0)
        tail(fd, from, err);
    tl__embedded_close_fd(fd);
    struct statvfs disk;
    if (fstatvfs(e->dir_fd, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize <
                                               FULL_DISK_BYTES) /* the log itself may be cut off */
        tl__embedded_hint(err, "no space left on the disk of \"%s\": make some", e->dir);
    else
        tl__embedded_hint(err, "the whole log is in \"%s/%s\"", e->dir, LOG_FILE);
}

/* ---------------------------------------------------------------------------- run to the end -- */

static tl_status outcome(const tl__embedded *e, const char *program, pid_t pid,
                         tl__embedded_error *err)
{
    int code = 0;
    pid_t ended;
    while ((ended = waitpid(pid, &code, 0)) < 0 && errno == EINTR)
        ;
    if (ended != pid)
        return tl__embedded_fail(err, TL_E_SERVER, "could not wait for \"%s\": %m", program);
    if (WIFSIGNALED(code))
        return tl__embedded_fail(err, TL_E_SERVER, "\"%s/%s\" was killed by signal %d", e->bindir,
                                 program, WTERMSIG(code));
    if (WEXITSTATUS(code) != 0)
        return tl__embedded_fail(err, TL_E_SERVER, "\"%s/%s\" failed with exit code %d", e->bindir,
                                 program, WEXITSTATUS(code));
    return TL_OK;
}

tl_status tl__embedded_run(const tl__embedded *e, const struct spawn *spawn,
                           tl__embedded_error *err)
{
    /* In memory: on a full disk the reason of the failure could not be written down. */
    struct spawn logged = *spawn;
    logged.log_fd = memfd_create("stderr", MFD_CLOEXEC);
    if (logged.log_fd < 0)
        return tl__embedded_fail(err, TL_E_SERVER, "could not make a file in memory: %m");
    pid_t pid = 0;
    tl_status status = tl__embedded_spawn(e, &logged, &pid, err);
    if (status == TL_OK) {
        status = outcome(e, spawn->program, pid, err);
        if (status != TL_OK)
            tail(logged.log_fd, 0, err);
    }
    tl__embedded_close_fd(logged.log_fd);
    return status;
}
