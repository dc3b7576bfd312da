/*
 * server.c: the server process: look for one, start it, stop it.
 *
 * postmaster.pid is evidence, never proof: it outlives crashes, process ids are reused, and a copied
 * directory carries the pid file of its original. Proof is a process that stands in our data
 * directory, or the lock on server.lock that only our server's processes hold.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PID_FILE DATA_DIR "/postmaster.pid"
#define IMMEDIATE_STOP_US 15000000
#define LEFT_OVER_US 10000000

/* glibc has wrappers from 2.36 on. */
static int open_pid(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static int send_signal(int pid_fd, int number)
{
    return (int)syscall(SYS_pidfd_send_signal, pid_fd, number, NULL, 0);
}

/* The eight lines of postmaster.pid; of a half-written one the first of them. */
enum {
    LINE_PID,
    LINE_DATA,
    LINE_STARTED,
    LINE_PORT,
    LINE_SOCKET,
    LINE_LISTEN,
    LINE_SHMEM,
    LINE_STATUS
};
#define LINE_COUNT 8

struct pid_file {
    char text[4096];
    const char *lines[LINE_COUNT];
    pid_t pid;
};

static void read_pid_file(const tl__embedded *e, struct pid_file *file)
{
    for (int i = 0; i < LINE_COUNT; i++)
        file->lines[i] = "";
    file->pid = 0;
    int fd = openat(e->dir_fd, PID_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t length = fd < 0 ? -1 : read(fd, file->text, sizeof(file->text) - 1);
    tl__embedded_close_fd(fd);
    if (length <= 0)
        return;
    file->text[length] = '\0';
    char *rest = file->text;
    for (int i = 0; i < LINE_COUNT && rest; i++) {
        file->lines[i] = rest;
        rest = strchr(rest, '\n');
        if (rest)
            *rest++ = '\0';
    }
    long pid = strtol(file->lines[LINE_PID], NULL, 10);
    if (pid > 1 && pid <= INT_MAX)
        file->pid = (pid_t)pid;
}

/* Without the right to look into another user's process its name and owner must do. */
static bool is_named_postgres(const tl__embedded *e, pid_t pid)
{
    char path[48], name[17] = "";
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_read = fd >= 0 && fstat(fd, &st) == 0 && read(fd, name, sizeof(name) - 1) > 0;
    tl__embedded_close_fd(fd);
    return is_read && st.st_uid == e->user.uid && strcmp(name, "postgres\n") == 0;
}

/* A postmaster lives in its data directory. A zombie lives nowhere. */
static bool is_our_postmaster(const tl__embedded *e, const struct pid_file *file, bool is_plausible)
{
    char path[48];
    struct stat there, here;
    snprintf(path, sizeof(path), "/proc/%d/cwd", file->pid);
    if (stat(path, &there) == 0)
        return fstatat(e->dir_fd, DATA_DIR, &here, AT_SYMLINK_NOFOLLOW) == 0 &&
               there.st_dev == here.st_dev && there.st_ino == here.st_ino;
    return (errno == EACCES || errno == EPERM) && is_plausible && is_named_postgres(e, file->pid);
}

static enum server_state state_of(const char *status)
{
    if (strncmp(status, "ready", 5) == 0)
        return SERVER_READY;
    return strncmp(status, "stopping", 8) == 0 ? SERVER_STOPPING : SERVER_STARTING;
}

/* Under the decision lock. */
void tl__embedded_look(const tl__embedded *e, struct server *ret)
{
    *ret = (struct server){.state = SERVER_BUSY, .pid_fd = -1, .lock_fd = -1};
    int lock_fd = tl__embedded_open_lock(e, SERVER_FILE);
    bool is_held = lock_fd < 0 || !tl__embedded_try_lock(lock_fd, LOCK_EX);

    struct pid_file file;
    read_pid_file(e, &file);
    char data[TL__EMBEDDED_DIR_BYTES + 16];
    snprintf(data, sizeof(data), "%s/%s", e->dir, DATA_DIR);
    bool is_plausible = is_held && strcmp(file.lines[LINE_DATA], data) == 0;
    if (file.pid > 0) {
        /* Open it first, then look whose it is: the descriptor cannot come to mean another one. */
        ret->pid_fd = open_pid(file.pid);
        if (ret->pid_fd >= 0 && is_our_postmaster(e, &file, is_plausible))
            ret->pid = file.pid;
        else
            ret->pid_fd = tl__embedded_close_fd(ret->pid_fd);
    }
    if (ret->pid > 0 || is_plausible) {
        ret->state = state_of(file.lines[LINE_STATUS]);
        if (strlen(file.lines[LINE_SOCKET]) < sizeof(ret->socket_dir))
            snprintf(ret->socket_dir, sizeof(ret->socket_dir), "%s", file.lines[LINE_SOCKET]);
    } else if (!is_held) {
        ret->state = SERVER_NONE;
        ret->lock_fd = lock_fd;
        lock_fd = -1;
    }
    tl__embedded_close_fd(lock_fd);
}

void tl__embedded_look_done(struct server *server)
{
    server->pid_fd = tl__embedded_close_fd(server->pid_fd);
    server->lock_fd = tl__embedded_close_fd(server->lock_fd);
}

/*
 * The server refuses to start while the pid in a left-over lock file is that of any process of its
 * user, be it reused or a zombie. Here server.lock is ours, so no process of the old server is left.
 */
static void remove_stale_files(const tl__embedded *e)
{
    struct pid_file file;
    read_pid_file(e, &file);
    if (file.pid > 0 && kill(file.pid, 0) == 0)
        (void)unlinkat(e->dir_fd, PID_FILE, 0);
    char path[SOCKET_PATH_BYTES + sizeof("/" SOCKET_NAME ".lock")];
    snprintf(path, sizeof(path), "%s/%s.lock", e->socket_dir, SOCKET_NAME);
    (void)unlink(path);
}

tl_status tl__embedded_start_server(tl__embedded *e, struct server *none, tl__embedded_error *err)
{
    bool has_data = false;
    tl_status status = tl__embedded_check_data(e, &has_data, err);
    if (status == TL_OK)
        status = tl__embedded_choose_socket_dir(e, err);
    if (status == TL_OK)
        tl__embedded_rotate_log(e);
    if (status == TL_OK && !has_data)
        status = tl__embedded_make_data(e, none->lock_fd, err);
    if (status != TL_OK)
        return status;

    remove_stale_files(e);
    tl__embedded_report(e, TL__EMBEDDED_STARTING);
    char data[TL__EMBEDDED_DIR_BYTES + 16], port[16];
    snprintf(data, sizeof(data), "%s/%s", e->dir, DATA_DIR);
    snprintf(port, sizeof(port), "%d", SERVER_PORT);
    const char *const arguments[] = {"-D", data,
                                     "-k", e->socket_dir,
                                     "-p", port,
                                     "-c", "listen_addresses=",
                                     "-c", "unix_socket_permissions=0700",
                                     "-c", "logging_collector=off",
                                     NULL};
    pid_t pid = 0;
    status = tl__embedded_spawn(e,
                                &(struct spawn){.program = "postgres",
                                                .arguments = arguments,
                                                .stdin_fd = -1,
                                                .log_fd = -1,
                                                .lock_fd = none->lock_fd,
                                                .is_daemon = true},
                                &pid, err);
    if (status == TL_OK) {
        e->child = pid;
        e->was_started = true;
    }
    return status;
}

void tl__embedded_reap(tl__embedded *e)
{
    /* ECHILD: somebody else's waitpid got it */
    if (e->child > 0 && waitpid(e->child, NULL, WNOHANG) != 0)
        e->child = 0;
}

/* --------------------------------------------------------------------------------------- stop -- */

bool tl__embedded_is_stop_unfinished(const tl__embedded *e)
{
    return faccessat(e->dir_fd, MARK_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void tl__embedded_stop_is_finished(const tl__embedded *e)
{
    (void)unlinkat(e->dir_fd, MARK_FILE, 0);
}

/* Also true for a zombie, which still takes signals: the descriptor is readable then. */
static bool wait_for_end(int pid_fd, uint64_t limit_us)
{
    uint64_t now_us = tl__clock_us(), deadline_us = tl__deadline_us(now_us, limit_us);
    struct pollfd end = {.fd = pid_fd, .events = POLLIN};
    while (poll(&end, 1, tl__poll_ms(now_us, deadline_us)) <= 0) {
        now_us = tl__clock_us();
        if (now_us >= deadline_us)
            return false;
    }
    return true;
}

/* Under the decision lock, with nobody attached. TL_NOTHING: none runs that we can see. */
tl_status tl__embedded_stop_server(tl__embedded *e, tl__embedded_error *err)
{
    struct server server;
    tl__embedded_look(e, &server);
    if (server.pid == 0) {
        tl__embedded_look_done(&server);
        tl__embedded_reap(e);
        return TL_NOTHING;
    }
    tl__embedded_report(e, TL__EMBEDDED_STOPPING);
    /* If the disk is so full that the mark cannot be made the stop goes on: the mark only matters
     * when this process is killed within it. */
    tl__embedded_close_fd(
        openat(e->dir_fd, MARK_FILE, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    tl_status status = TL_OK;
    if ((send_signal(server.pid_fd, SIGINT) != 0 && errno != ESRCH) ||
        !wait_for_end(server.pid_fd, e->stop_timeout_us)) {
        (void)send_signal(server.pid_fd, SIGQUIT);
        if (!wait_for_end(server.pid_fd, IMMEDIATE_STOP_US))
            status = tl__embedded_fail(err, TL_E_TIMEOUT,
                                       "private PostgreSQL (process %d) did not stop", server.pid);
    }
    tl__embedded_look_done(&server);
    tl__embedded_reap(e);
    if (status == TL_OK) {
        /* Its children may take a moment longer. */
        uint64_t deadline_us = tl__clock_us() + LEFT_OVER_US;
        do {
            tl__embedded_look(e, &server);
            tl__embedded_look_done(&server);
            if (server.state != SERVER_NONE)
                tl__embedded_nap(-1);
        } while (server.state != SERVER_NONE && tl__clock_us() < deadline_us);
        tl__embedded_stop_is_finished(e);
    }
    return status;
}
