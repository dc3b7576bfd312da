/*
 * demo_daemon.c: see demo_daemon.h. A thread reads the child's log, so that it never blocks.
 */
#include "demo_daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOG_BYTES = 4096 };

struct tl__demo_daemon {
    pid_t pid;
    int log_fd;
    pthread_t reader;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_ready, has_ended;
    char log[LOG_BYTES + 1]; /* the end of it */
    size_t len;
};

static void keep(struct tl__demo_daemon *d, const char *data, size_t len)
{
    if (d->len + len > LOG_BYTES) {
        size_t drop = d->len + len - LOG_BYTES;
        memmove(d->log, d->log + drop, d->len - drop);
        d->len -= drop;
    }
    memcpy(d->log + d->len, data, len);
    d->len += len;
    d->log[d->len] = 0;
    if (strstr(d->log, "event=ready"))
        d->is_ready = true;
}

static void *read_log(void *userdata)
{
    struct tl__demo_daemon *d = userdata;
    char chunk[LOG_BYTES / 2];

    for (;;) {
        ssize_t n = read(d->log_fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        pthread_mutex_lock(&d->lock);
        if (n > 0)
            keep(d, chunk, (size_t)n);
        else
            d->has_ended = true;
        pthread_cond_broadcast(&d->changed);
        pthread_mutex_unlock(&d->lock);
        if (n <= 0)
            return NULL;
    }
}

/* In the child. The conninfo goes by the environment: arguments are there for all to read. */
static _Noreturn void exec_serve(const char *conninfo, const char *schema, int log_fd, pid_t parent)
{
    char program[4096]; /* its real name, so that ps does not say "exe" */
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    sigset_t none;

    if (len < 0)
        _exit(127);
    program[len] = 0;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (getppid() == parent && dup2(log_fd, STDERR_FILENO) >= 0 &&
        (!conninfo || setenv("TRUNKLINE_DB", conninfo, 1) == 0))
        execl(program, "trunkline", "serve", "--schema", schema, "--webhook-allow", "127.0.0.1",
              "--stop-timeout", "10s", (char *)NULL);
    _exit(127);
}

struct tl__demo_daemon *tl__demo_daemon_start(const char *conninfo, const char *schema)
{
    struct tl__demo_daemon *d = calloc(1, sizeof *d);
    int fds[2];

    if (!d || pipe2(fds, O_CLOEXEC) != 0) {
        free(d);
        return NULL;
    }
    pid_t parent = getpid();
    d->pid = fork();
    if (d->pid == 0)
        exec_serve(conninfo, schema, fds[1], parent);
    close(fds[1]);
    d->log_fd = fds[0];
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    if (d->pid < 0 || pthread_create(&d->reader, NULL, read_log, d) != 0) {
        close(d->log_fd);
        free(d);
        return NULL;
    }
    return d;
}

bool tl__demo_daemon_wait_ready(struct tl__demo_daemon *d, uint64_t timeout_us)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(timeout_us / 1000000);
    pthread_mutex_lock(&d->lock);
    int rc = 0;
    while (!d->is_ready && !d->has_ended && rc == 0)
        rc = pthread_cond_timedwait(&d->changed, &d->lock, &until);
    bool is_ready = d->is_ready && !d->has_ended;
    pthread_mutex_unlock(&d->lock);
    return is_ready;
}

void tl__demo_daemon_reload(struct tl__demo_daemon *d)
{
    kill(d->pid, SIGHUP);
}

const char *tl__demo_daemon_log(struct tl__demo_daemon *d)
{
    return d->log;
}

int tl__demo_daemon_stop(struct tl__demo_daemon *d)
{
    int status = 0;

    if (!d)
        return 0;
    kill(d->pid, SIGTERM);
    while (waitpid(d->pid, &status, 0) < 0 && errno == EINTR)
        ;
    pthread_join(d->reader, NULL);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->changed);
    close(d->log_fd);
    free(d);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
