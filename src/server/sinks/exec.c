/*
 * exec.c: targets "exec:command line": /bin/sh runs the command for each event, with the event as
 * a line of JSON on stdin. Exit 0 is done, anything else (75, EX_TEMPFAIL, by name) is tried again,
 * with the end of stderr as the error.
 * The command is a process group of its own; a time-out ends the group.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sink.h"

enum { TAIL_BYTES = 1000, REST_BYTES = 1048576 /* the largest pipe */ };

extern char **environ;

/* Shared: the commands that run, to end them at an immediate stop. */
struct driver {
    struct run *first;
};

struct tl__sink {
    const struct tl__sink_env *env;
    char *command;
};

struct run {
    struct run *next, **link;
    struct tl__sink_delivery *delivery;
    uv_process_t process;
    uv_pipe_t in, err;
    uv_timer_t timer;
    uv_write_t write;
    int open_handles;
    bool is_timed_out, has_process;
    char tail[TAIL_BYTES + 1]; /* last bytes of stderr */
    size_t tail_len;
    char chunk[4096];
};

static void *start(const struct tl__sink_env *env)
{
    (void)env;
    return calloc(1, sizeof(struct driver));
}

static void *stop(void *shared)
{
    free(shared);
    return NULL;
}

/* ---------------------------------------------------------------------------------- one command */

static void on_closed(uv_handle_t *handle)
{
    struct run *run = handle->data;

    if (--run->open_handles == 0)
        free(run);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, on_closed);
}

static void keep_tail(struct run *run, const char *data, size_t len)
{
    if (len > TAIL_BYTES) {
        data += len - TAIL_BYTES;
        len = TAIL_BYTES;
    }
    if (run->tail_len + len > TAIL_BYTES) {
        size_t drop = run->tail_len + len - TAIL_BYTES;
        memmove(run->tail, run->tail + drop, run->tail_len - drop);
        run->tail_len -= drop;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];
        run->tail[run->tail_len++] = c < 0x20 && c != '\n' ? ' ' : (char)c;
    }
    run->tail[run->tail_len] = 0;
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct run *run = handle->data;

    (void)suggested;
    *buf = uv_buf_init(run->chunk, sizeof run->chunk);
}

static void on_stderr(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct run *run = stream->data;

    if (n > 0)
        keep_tail(run, buf->base, (size_t)n);
    else if (n < 0)
        uv_read_stop(stream);
}

static void on_written(uv_write_t *write, int status)
{
    struct run *run = write->data;

    (void)status; /* a command need not read its input */
    close_handle((uv_handle_t *)&run->in);
}

/* What is still in the pipe when the command has ended; its children may keep it open and full. */
static void read_rest(struct run *run)
{
    uv_os_fd_t fd;
    ssize_t n;

    if (uv_fileno((uv_handle_t *)&run->err, &fd) == 0)
        for (size_t len = 0; len < REST_BYTES && (n = read(fd, run->chunk, sizeof run->chunk)) > 0;
             len += (size_t)n)
            keep_tail(run, run->chunk, (size_t)n);
}

static void summarise(const struct run *run, int64_t status, int number, char *text, size_t size)
{
    if (run->is_timed_out)
        snprintf(text, size, "timed out");
    else if (number)
        snprintf(text, size, "ended by signal %d", number);
    else
        snprintf(text, size, "exit status %lld", (long long)status);
}

static void unlink_run(struct run *run)
{
    *run->link = run->next;
    if (run->next)
        run->next->link = run->link;
}

static void on_exit_status(uv_process_t *process, int64_t status, int number)
{
    struct run *run = process->data;
    struct tl__sink_delivery *delivery = run->delivery;
    struct tl__sink_result result = {.word = TL__SINK_DELIVERED};
    char text[TAIL_BYTES + 64], summary[32];

    if (status != 0 || number != 0) {
        read_rest(run);
        while (run->tail_len > 0 && run->tail[run->tail_len - 1] == '\n')
            run->tail[--run->tail_len] = 0;
        summarise(run, status, number, summary, sizeof summary);
        snprintf(text, sizeof text, "%s%s%s", summary, run->tail_len ? ": " : "", run->tail);
        result =
            (struct tl__sink_result){.word = TL__SINK_RETRY, .error = text, .summary = summary};
    }
    unlink_run(run);
    close_handle((uv_handle_t *)&run->process);
    close_handle((uv_handle_t *)&run->in);
    close_handle((uv_handle_t *)&run->err);
    close_handle((uv_handle_t *)&run->timer);
    delivery->done(delivery, &result);
}

static void on_timeout(uv_timer_t *timer)
{
    struct run *run = timer->data;

    run->is_timed_out = true;
    kill(-run->process.pid, SIGKILL); /* the group */
}

/* environ and five variables more; free(3) the array and its first five. NULL: no memory. */
static char **make_environment(const struct tl__sink_delivery *d)
{
    static const char *const names[5] = {"ID", "TYPE", "SUBSCRIPTION", "ATTEMPT", "DELIVERY_ID"};
    char attempt[16];
    const char *const values[5] = {d->event.id, d->event.type, d->subscription, attempt, d->id};
    size_t count = 0;

    snprintf(attempt, sizeof attempt, "%u", d->attempt);
    while (environ[count])
        count++;
    char **env = calloc(count + 6, sizeof *env);
    if (!env)
        return NULL;
    for (int i = 0; i < 5; i++) {
        size_t size = strlen(values[i]) + 40;
        env[i] = malloc(size);
        if (!env[i])
            continue;
        snprintf(env[i], size, "TRUNKLINE_%s%s=%s", i < 2 ? "EVENT_" : "", names[i], values[i]);
    }
    memcpy(env + 5, environ, count * sizeof *env);
    return env;
}

static void free_environment(char **env)
{
    for (int i = 0; env && i < 5; i++)
        free(env[i]);
    free(env);
}

static void open_handle(struct run *run, uv_handle_t *handle)
{
    handle->data = run;
    run->open_handles++;
}

static int spawn(struct run *run, const struct tl__sink *sink)
{
    uv_loop_t *loop = sink->env->loop;
    char **env = make_environment(run->delivery);
    char *arguments[] = {(char *)"/bin/sh", (char *)"-c", sink->command, NULL};

    uv_pipe_init(loop, &run->in, 0);
    open_handle(run, (uv_handle_t *)&run->in);
    uv_pipe_init(loop, &run->err, 0);
    open_handle(run, (uv_handle_t *)&run->err);
    uv_timer_init(loop, &run->timer);
    open_handle(run, (uv_handle_t *)&run->timer);
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&run->in},
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&run->err},
    };
    uv_process_options_t options = {
        .exit_cb = on_exit_status,
        .file = "/bin/sh",
        .args = arguments,
        .env = env,
        .flags = UV_PROCESS_DETACHED,
        .stdio_count = 3,
        .stdio = stdio,
    };
    if (!env)
        return UV_ENOMEM;
    int failed = uv_spawn(loop, &run->process, &options);
    open_handle(run, (uv_handle_t *)&run->process); /* to be closed also when it failed */
    run->has_process = true;
    free_environment(env);
    return failed;
}

static void deliver(struct tl__sink *sink, struct tl__sink_delivery *delivery)
{
    struct run *run = calloc(1, sizeof *run);
    struct driver *driver = sink->env->shared;
    int failed = UV_ENOMEM;

    if (run) {
        run->delivery = delivery;
        failed = spawn(run, sink);
    }
    if (run && failed) {
        close_handle((uv_handle_t *)&run->in);
        close_handle((uv_handle_t *)&run->err);
        close_handle((uv_handle_t *)&run->timer);
        if (run->has_process)
            close_handle((uv_handle_t *)&run->process);
    }
    if (failed) {
        char text[160];
        snprintf(text, sizeof text, "cannot run the command: %s", uv_strerror(failed));
        delivery->done(delivery, &(struct tl__sink_result){.word = TL__SINK_RETRY, .error = text});
        return;
    }
    run->link = &driver->first;
    run->next = driver->first;
    if (run->next)
        run->next->link = &run->next;
    driver->first = run;
    uint64_t limit_us = delivery->timeout_us ? delivery->timeout_us : sink->env->exec_timeout_us;
    uv_timer_start(&run->timer, on_timeout, limit_us / 1000, 0);
    uv_read_start((uv_stream_t *)&run->err, give_buffer, on_stderr);
    static char newline[] = "\n"; /* a line, for `read` and for >> into a file */
    uv_buf_t body[] = {uv_buf_init((char *)delivery->body, (unsigned)delivery->body_len),
                       uv_buf_init(newline, 1)};
    run->write.data = run;
    if (uv_write(&run->write, (uv_stream_t *)&run->in, body, 2, on_written) != 0)
        close_handle((uv_handle_t *)&run->in);
}

static void abort_all(const struct tl__sink_env *env)
{
    struct driver *driver = env->shared;

    for (struct run *run = driver->first; run; run = run->next)
        kill(-run->process.pid, SIGKILL);
}

/* --------------------------------------------------------------------------------------- target */

static struct tl__sink *open_target(const struct tl__sink_env *env,
                                    const struct tl__sink_target *what, const char **ret_problem)
{
    struct tl__sink *sink = NULL;

    if (!env->allow_exec) {
        *ret_problem = "commands are run only with serve --allow-exec, or on the embedded database";
        return NULL;
    }
    *ret_problem = "out of memory";
    sink = env->shared ? calloc(1, sizeof *sink) : NULL;
    if (!sink)
        return NULL;
    sink->env = env;
    sink->command = strdup(what->target + strlen("exec:"));
    if (sink->command)
        return sink;
    free(sink);
    return NULL;
}

static struct tl__sink *close_target(struct tl__sink *sink)
{
    if (sink)
        free(sink->command);
    free(sink);
    return NULL;
}

static const char *const prefixes[] = {"exec:", NULL};

const struct tl__sink_kind tl__sink_exec = {
    .name = "exec",
    .prefixes = prefixes,
    .start = start,
    .stop = stop,
    .open = open_target,
    .deliver = deliver,
    .abort = abort_all,
    .close = close_target,
};
