/*
 * exec.c: targets "exec:command line": /bin/sh runs the command for each event, with the event as
 * a line of JSON on stdin and its parts in the environment. The exit status is the verdict: 0 done,
 * 65 (EX_DATAERR) never, a dead letter, 99 not for me, skipped; anything else (75, EX_TEMPFAIL, by
 * name) is tried again. The end of what it wrote to stdout and stderr is the error.
 *
 * The command is a process group of its own. A time-out asks the group to end (TERM) and some
 * seconds later makes it (KILL); only then is the event tried again. What leaves the group, by
 * setsid, is out of reach. Children that outlive a command that ended in time are left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sink.h"

enum {
    TAIL_BYTES = 1000,
    REST_BYTES = 1048576, /* the largest pipe */
    EXIT_REJECT = 65,
    EXIT_SKIP = 99,
    GRACE_MS = 2000, /* from TERM to KILL */
    TICK_MS = 20,    /* between two looks at a group that is ending */
    TRACE_BYTES = 512,
};

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
    uv_pipe_t in, out;
    uv_timer_t timer;
    uv_write_t write;
    int open_handles;
    uint64_t limit_ms, kill_at_ms;
    int64_t status; /* once it has exited */
    int signal_number;
    bool has_process, has_exited, is_timed_out, is_killed;
    char tail[TAIL_BYTES + 1]; /* last bytes of its output */
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

/* ------------------------------------------------------------------------------------ its output */

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

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
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

    if (uv_fileno((uv_handle_t *)&run->out, &fd) == 0)
        for (size_t len = 0; len < REST_BYTES && (n = read(fd, run->chunk, sizeof run->chunk)) > 0;
             len += (size_t)n)
            keep_tail(run, run->chunk, (size_t)n);
}

/* -------------------------------------------------------------------------------------- its end */

static enum tl__sink_word word_of(const struct run *run)
{
    if (run->is_timed_out || run->signal_number)
        return TL__SINK_RETRY;
    return run->status == 0             ? TL__SINK_DELIVERED
           : run->status == EXIT_REJECT ? TL__SINK_REJECT
           : run->status == EXIT_SKIP   ? TL__SINK_SKIP
                                        : TL__SINK_RETRY;
}

static void summarise(const struct run *run, char *text, size_t size)
{
    if (run->is_timed_out)
        snprintf(text, size, "timed out after %llu ms", (unsigned long long)run->limit_ms);
    else if (run->signal_number)
        snprintf(text, size, "ended by signal %d", run->signal_number);
    else
        snprintf(text, size, "exit status %lld", (long long)run->status);
}

static void finish(struct run *run)
{
    struct tl__sink_delivery *delivery = run->delivery;
    struct tl__sink_result result = {.word = word_of(run)};
    char text[TAIL_BYTES + 64], summary[48];

    if (result.word != TL__SINK_DELIVERED) {
        read_rest(run);
        while (run->tail_len > 0 && run->tail[run->tail_len - 1] == '\n')
            run->tail[--run->tail_len] = 0;
        summarise(run, summary, sizeof summary);
        snprintf(text, sizeof text, "%s%s%s", summary, run->tail_len ? ": " : "", run->tail);
        result.error = text;
        result.summary = summary;
    }
    *run->link = run->next;
    if (run->next)
        run->next->link = run->link;
    close_handle((uv_handle_t *)&run->process);
    close_handle((uv_handle_t *)&run->in);
    close_handle((uv_handle_t *)&run->out);
    close_handle((uv_handle_t *)&run->timer);
    delivery->done(delivery, &result);
}

static void kill_group(const struct run *run, int signal_number)
{
    kill(-run->process.pid, signal_number);
}

/* The leader is a zombie, and so in the group, until it was waited for. */
static bool is_group_gone(const struct run *run)
{
    return run->has_exited && kill(-run->process.pid, 0) < 0 && errno == ESRCH;
}

static void on_exit_status(uv_process_t *process, int64_t status, int number)
{
    struct run *run = process->data;

    run->has_exited = true;
    run->status = status;
    run->signal_number = number;
    if (!run->is_timed_out || is_group_gone(run))
        finish(run);
}

static void on_timer(uv_timer_t *timer)
{
    struct run *run = timer->data;
    uint64_t now_ms = uv_now(timer->loop);

    if (!run->is_timed_out) {
        run->is_timed_out = true;
        run->kill_at_ms = now_ms + GRACE_MS;
        kill_group(run, SIGTERM);
        uv_timer_start(timer, on_timer, TICK_MS, TICK_MS);
    } else if (is_group_gone(run) || (run->is_killed && run->has_exited)) {
        /* after KILL zombies may be left in the group, where nobody waits for orphans */
        finish(run);
    } else if (!run->is_killed && now_ms >= run->kill_at_ms) {
        run->is_killed = true;
        kill_group(run, SIGKILL);
    }
}

static void abort_all(const struct tl__sink_env *env)
{
    struct driver *driver = env->shared;

    for (struct run *run = driver->first; run; run = run->next) {
        run->is_killed = true;
        kill_group(run, SIGKILL);
    }
}

/* -------------------------------------------------------------------------------- its environment */

/* Behind the string that starts at p, or at its end. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\')
            p++;
    return p < end ? p + 1 : end;
}

/* The value of a top-level member, if it is a string of plain characters, as those of the W3C's
 * trace context are. The text is PostgreSQL's, so it is well-formed. */
static void copy_member(const char *json, size_t len, const char *name, char *to, size_t size)
{
    const char *p = json, *end = json + len, *text = NULL;
    size_t name_len = strlen(name);
    int depth = 0;

    while (p < end) {
        if (*p == '"') {
            const char *next = skip_string(p, end), *value = next;
            while (value < end && (*value == ':' || *value == ' '))
                value++;
            if (depth == 1 && value > next && *value == '"' && (size_t)(next - p) == name_len + 2 &&
                memcmp(p + 1, name, name_len) == 0)
                text = value;
            p = value > next && *value == '"' ? skip_string(value, end) : next;
            if (text) {
                len = (size_t)(p - text) - 2;
                if (len < size && !memchr(text, '\\', len + 1))
                    snprintf(to, size, "%.*s", (int)len, text + 1);
                return;
            }
            continue;
        }
        depth += *p == '{' || *p == '[' ? 1 : *p == '}' || *p == ']' ? -1 : 0;
        p++;
    }
}

enum { VARIABLES = 13 };

static const char *const names[VARIABLES] = {
    "TRUNKLINE_EVENT_ID",  "TRUNKLINE_EVENT_TYPE",  "TRUNKLINE_POSITION",     "TRUNKLINE_KEY",
    "TRUNKLINE_TENANT_ID", "TRUNKLINE_SOURCE",      "TRUNKLINE_STREAM",       "TRUNKLINE_VERSION",
    "TRUNKLINE_ATTEMPT",   "TRUNKLINE_DELIVERY_ID", "TRUNKLINE_SUBSCRIPTION", "TRACEPARENT",
    "TRACESTATE",
};

/* Is it one of ours, inherited from whoever started the daemon? */
static bool is_ours(const char *assignment)
{
    for (int i = 0; i < VARIABLES; i++) {
        size_t len = strlen(names[i]);
        if (strncmp(assignment, names[i], len) == 0 && assignment[len] == '=')
            return true;
    }
    return false;
}

static void free_environment(char **env, size_t own)
{
    for (size_t i = 0; env && i < own; i++)
        free(env[i]);
    free(env);
}

/* Ours first, for free_environment(), then the daemon's own. An event without a key has no variable
 * for it. NULL: no memory. */
static char **make_environment(const struct tl__sink_delivery *d, size_t *ret_own)
{
    const struct tl__sink_event *e = &d->event;
    char position[24], version[24], attempt[16], parent[TRACE_BYTES], state[TRACE_BYTES];

    snprintf(position, sizeof position, "%lld", (long long)e->position);
    snprintf(version, sizeof version, "%lld", (long long)e->version);
    snprintf(attempt, sizeof attempt, "%u", d->attempt);
    *parent = *state = 0;
    if (e->metadata) {
        copy_member(e->metadata, e->metadata_len, "traceparent", parent, sizeof parent);
        copy_member(e->metadata, e->metadata_len, "tracestate", state, sizeof state);
    }
    const char *const values[VARIABLES] = {
        e->id,
        e->type,
        position,
        e->key,
        e->tenant_id,
        e->source,
        e->stream,
        e->stream ? version : NULL,
        attempt,
        d->id,
        d->subscription,
        *parent ? parent : NULL,
        *state ? state : NULL,
    };
    size_t count = 0;

    while (environ[count])
        count++;
    char **env = calloc(count + VARIABLES + 1, sizeof *env);
    if (!env)
        return NULL;
    *ret_own = 0;
    for (int i = 0; i < VARIABLES; i++) {
        if (!values[i])
            continue;
        size_t size = strlen(names[i]) + strlen(values[i]) + 2;
        char *text = malloc(size);
        if (!text) {
            free_environment(env, *ret_own);
            return NULL;
        }
        snprintf(text, size, "%s=%s", names[i], values[i]);
        env[(*ret_own)++] = text;
    }
    for (size_t i = 0, at = *ret_own; i < count; i++)
        if (!is_ours(environ[i]))
            env[at++] = environ[i];
    return env;
}

/* ------------------------------------------------------------------------------------ its start */

static void open_handle(struct run *run, uv_handle_t *handle)
{
    handle->data = run;
    run->open_handles++;
}

static int spawn(struct run *run, const struct tl__sink *sink)
{
    uv_loop_t *loop = sink->env->loop;
    char *arguments[] = {(char *)"/bin/sh", (char *)"-c", sink->command, NULL};
    uv_file output[2];
    size_t own = 0;
    int failed;

    uv_pipe_init(loop, &run->in, 0);
    open_handle(run, (uv_handle_t *)&run->in);
    uv_pipe_init(loop, &run->out, 0);
    open_handle(run, (uv_handle_t *)&run->out);
    uv_timer_init(loop, &run->timer);
    open_handle(run, (uv_handle_t *)&run->timer);
    /* one pipe for both, so that lines stay in their order */
    failed = uv_pipe(output, UV_NONBLOCK_PIPE, 0);
    if (failed)
        return failed;
    failed = uv_pipe_open(&run->out, output[0]);
    if (failed)
        close(output[0]);
    char **env = failed ? NULL : make_environment(run->delivery, &own);
    if (env) {
        uv_stdio_container_t stdio[3] = {
            {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&run->in},
            {.flags = UV_INHERIT_FD, .data.fd = output[1]},
            {.flags = UV_INHERIT_FD, .data.fd = output[1]},
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
        failed = uv_spawn(loop, &run->process, &options);
        open_handle(run, (uv_handle_t *)&run->process); /* to be closed also when it failed */
        run->has_process = true;
    } else if (!failed) {
        failed = UV_ENOMEM;
    }
    close(output[1]);
    free_environment(env, own);
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
        close_handle((uv_handle_t *)&run->out);
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
    run->limit_ms = limit_us / 1000;
    uv_timer_start(&run->timer, on_timer, run->limit_ms, 0);
    uv_read_start((uv_stream_t *)&run->out, give_buffer, on_output);
    static char newline[] = "\n"; /* a line, for `read` and for >> into a file */
    uv_buf_t body[] = {uv_buf_init((char *)delivery->body, (unsigned)delivery->body_len),
                       uv_buf_init(newline, 1)};
    run->write.data = run;
    if (uv_write(&run->write, (uv_stream_t *)&run->in, body, 2, on_written) != 0)
        close_handle((uv_handle_t *)&run->in);
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
