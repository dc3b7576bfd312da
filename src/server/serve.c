/*
 * serve.c: the daemon: signals, start, graceful and immediate stop. What it consists of:
 *   main thread     loop with the lane of webhooks and commands
 *   control thread  discovery, leader election, maintenance (control.c)
 *   SQL thread      loop with the lane of SQL functions; started with the first such target
 */
#include "serve.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"
#include "lane.h"
#include "log.h"
#include "trunkline/trunkline_version.h"

enum { ABORT_TIMEOUT_MS = 1000, MAX_FILES = 8192 };

struct daemon {
    const struct tl__serve_options *options;
    struct tl__serve_options own_options;
    uv_loop_t own_loop;
    struct tl__netguard guard;
    uv_loop_t *loop;
    uv_signal_t signals[3];
    uv_timer_t stop_timer;
    uv_async_t sql_ended;
    struct tl__control *control;
    struct tl__journal *journal;
    struct tl__lane *lane;
    tl_status start_status, lane_status, sql_status;
    bool has_lane_ended, is_stopping, is_aborted, is_late, is_abandoned;
    /* The SQL thread. @locks: sql_lock guards these; sql_lane is NULL while it does not run. */
    uv_mutex_t sql_lock;
    uv_thread_t sql_thread;
    struct tl__lane *sql_lane;
    bool has_sql_thread, is_sql_refused;
};

static const struct tl__sink_kind *const loop_kinds[] = {&tl__sink_webhook, &tl__sink_exec, NULL};
static const struct tl__sink_kind *const sql_kinds[] = {&tl__sink_sqlfunction, NULL};

/* ------------------------------------------------------------------------------------- SQL lane */

static void on_sql_end(tl_status status, void *userdata)
{
    struct daemon *d = userdata;

    d->sql_status = status;
    uv_mutex_lock(&d->sql_lock);
    struct tl__lane *lane = d->sql_lane;
    d->sql_lane = NULL; /* nobody posts to it any more */
    uv_mutex_unlock(&d->sql_lock);
    tl__lane_close(lane); /* and the thread's loop runs empty */
}

struct sql_start {
    struct daemon *daemon;
    uv_sem_t is_started;
};

static void run_sql_lane(void *userdata)
{
    struct sql_start *start = userdata;
    struct daemon *d = start->daemon;
    struct tl__lane_settings settings = {
        .name = "sql",
        .options = d->options,
        .guard = &d->guard,
        .journal = d->journal,
        .kinds = sql_kinds,
        .on_end = on_sql_end,
        .userdata = d,
    };
    struct tl__lane *lane = NULL;
    uv_loop_t loop;

    int failed = uv_loop_init(&loop);
    if (failed)
        tl__log_event(TL_LOG_ERROR, "start_failed", "message", uv_strerror(failed), NULL);
    else if (tl__lane_open(&settings, &loop, &lane) == TL_OK)
        d->sql_lane = lane; /* the starter holds the lock and waits */
    uv_sem_post(&start->is_started);
    if (!failed) {
        uv_run(&loop, UV_RUN_DEFAULT);
        tl__lane_free(lane);
        uv_loop_close(&loop);
    }
    uv_async_send(&d->sql_ended);
}

/* With sql_lock held. */
static void start_sql_thread(struct daemon *d)
{
    struct sql_start start = {.daemon = d};

    if (d->has_sql_thread) { /* it could not connect last time */
        uv_thread_join(&d->sql_thread);
        d->has_sql_thread = false;
    }
    uv_sem_init(&start.is_started, 0);
    if (uv_thread_create(&d->sql_thread, run_sql_lane, &start) == 0) {
        d->has_sql_thread = true;
        uv_sem_wait(&start.is_started);
    }
    uv_sem_destroy(&start.is_started);
}

/* On control's thread. */
static void on_list(const struct tl__subscription_list *list, void *userdata)
{
    struct daemon *d = userdata;
    struct tl__subscription_list *copy = tl__subscription_list_dup(list);
    bool has_sql = false;

    if (copy)
        tl__lane_post_list(d->lane, copy);
    for (size_t i = 0; i < list->count; i++) {
        const char *target = list->items[i].target;
        has_sql = has_sql || tl__lane_serves(sql_kinds, target);
    }
    uv_mutex_lock(&d->sql_lock);
    if (has_sql && !d->sql_lane && !d->is_sql_refused)
        start_sql_thread(d);
    copy = d->sql_lane ? tl__subscription_list_dup(list) : NULL;
    if (copy)
        tl__lane_post_list(d->sql_lane, copy);
    uv_mutex_unlock(&d->sql_lock);
}

/* On control's thread. */
static void on_resends(struct tl__resends *resends, void *userdata)
{
    struct daemon *d = userdata;

    tl__lane_post_resends(d->lane, resends);
}

/* On a lane's thread. */
static void on_journal(void *userdata)
{
    struct daemon *d = userdata;

    if (d->control)
        tl__control_note(d->control);
}

/* ----------------------------------------------------------------------------------------- stop */

static bool has_sql_ended(struct daemon *d)
{
    uv_mutex_lock(&d->sql_lock);
    bool has_ended = !d->sql_lane;
    uv_mutex_unlock(&d->sql_lock);
    return has_ended;
}

static void close_handle(void *handle)
{
    if (uv_handle_get_type(handle) != UV_UNKNOWN_HANDLE && !uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Both lanes have ended: let the loop run out. */
static void maybe_finish(struct daemon *d)
{
    if (!d->has_lane_ended || !has_sql_ended(d))
        return;
    close_handle(&d->stop_timer);
    close_handle(&d->sql_ended);
    for (int i = 0; i < 3; i++)
        close_handle(&d->signals[i]);
}

static void on_abort_timeout(uv_timer_t *timer)
{
    struct daemon *d = timer->data;

    tl__log_event(TL_LOG_WARN, "abandoned", "message",
                  "a SQL function still runs; its transaction ends with the process", NULL);
    d->is_abandoned = true;
    uv_stop(d->loop);
}

static void abort_lanes(struct daemon *d)
{
    uv_timer_start(&d->stop_timer, on_abort_timeout, ABORT_TIMEOUT_MS, 0);
    tl__lane_post_abort(d->lane);
    uv_mutex_lock(&d->sql_lock);
    if (d->sql_lane)
        tl__lane_post_abort(d->sql_lane);
    uv_mutex_unlock(&d->sql_lock);
}

static void on_stop_timeout(uv_timer_t *timer)
{
    struct daemon *d = timer->data;

    d->is_late = true;
    tl__log_event(TL_LOG_WARN, "stop_timeout", "message",
                  "deliveries still run; they are ended and handed back", NULL);
    abort_lanes(d);
}

static void begin_stop(struct daemon *d, const char *reason)
{
    if (d->is_stopping)
        return;
    d->is_stopping = true;
    tl__log_event(TL_LOG_INFO, "stopping", "reason", reason, NULL);
    uv_timer_start(&d->stop_timer, on_stop_timeout, d->options->stop_timeout_us / 1000, 0);
    tl__lane_post_stop(d->lane);
    uv_mutex_lock(&d->sql_lock);
    d->is_sql_refused = true;
    if (d->sql_lane)
        tl__lane_post_stop(d->sql_lane);
    uv_mutex_unlock(&d->sql_lock);
}

static void on_lane_end(tl_status status, void *userdata)
{
    struct daemon *d = userdata;

    d->lane_status = status;
    d->has_lane_ended = true;
    tl__lane_close(d->lane);
    begin_stop(d, tl_status_name(status)); /* unless it is stopping: then the worker gave up */
    maybe_finish(d);
}

static void on_sql_ended(uv_async_t *async)
{
    struct daemon *d = async->data;

    if (!d->is_stopping && d->sql_status < 0)
        begin_stop(d, tl_status_name(d->sql_status));
    maybe_finish(d);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;

    if (number == SIGHUP) {
        tl__log_event(TL_LOG_INFO, "reload", NULL);
        if (d->control)
            tl__control_wake(d->control);
    } else if (!d->is_stopping) {
        begin_stop(d, number == SIGTERM ? "SIGTERM" : "SIGINT");
    } else if (!d->is_aborted) {
        d->is_aborted = true;
        tl__log_event(TL_LOG_WARN, "stopping_now", NULL);
        abort_lanes(d);
    }
}

/* ---------------------------------------------------------------------------------------- start */

/* sd_notify(3) in its simple form; systemd wants nothing else of us. */
static void notify_systemd(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;

    if (len < 2 || len >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, len);
    if (path[0] == '@')
        to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}

static void on_ready(void *userdata)
{
    struct daemon *d = userdata;

    tl__log_event(TL_LOG_INFO, "ready", "version", TL_VERSION, "pid", TL_NUMBER(getpid()),
                  "database", d->options->shown_database, "schema", d->options->client.schema,
                  NULL);
    notify_systemd("READY=1");
}

static bool watch_signals(struct daemon *d)
{
    static const int numbers[3] = {SIGTERM, SIGINT, SIGHUP};

    uv_timer_init(d->loop, &d->stop_timer);
    if (uv_async_init(d->loop, &d->sql_ended, on_sql_ended) != 0)
        return false;
    d->stop_timer.data = d->sql_ended.data = d;
    for (int i = 0; i < 3; i++) {
        if (uv_signal_init(d->loop, &d->signals[i]) != 0)
            return false;
        d->signals[i].data = d;
        if (uv_signal_start(&d->signals[i], on_signal, numbers[i]) != 0)
            return false;
    }
    return true;
}

static tl_status result_of(const struct daemon *d)
{
    if (d->start_status < 0)
        return d->start_status;
    if (d->is_aborted)
        return TL_E_CANCELLED;
    if (d->is_late)
        return TL_E_TIMEOUT;
    return d->lane_status < 0 ? d->lane_status : d->sql_status < 0 ? d->sql_status : TL_OK;
}

static tl_status serve(struct daemon *d)
{
    struct tl__lane_settings settings = {
        .name = "main",
        .options = d->options,
        .guard = &d->guard,
        .journal = d->journal,
        .kinds = loop_kinds,
        .on_ready = on_ready,
        .on_end = on_lane_end,
        .userdata = d,
    };
    tl_status status = tl__lane_open(&settings, d->loop, &d->lane);

    if (status != TL_OK)
        return status;
    if (watch_signals(d))
        d->control = tl__control_start(&(struct tl__control_settings){.options = d->options,
                                                                      .on_list = on_list,
                                                                      .on_resends = on_resends,
                                                                      .userdata = d,
                                                                      .journal = d->journal});
    if (!d->control) {
        tl__log_event(TL_LOG_ERROR, "start_failed", "message", "out of threads or file descriptors",
                      NULL);
        d->start_status = TL_E_LIMIT;
        tl__lane_post_abort(d->lane);
    }
    uv_run(d->loop, UV_RUN_DEFAULT);
    if (!tl__control_stop(d->control)) {
        tl__log_event(TL_LOG_WARN, "abandoned", "message", "the database does not answer", NULL);
        d->is_abandoned = true;
    }
    d->control = NULL;
    if (d->has_sql_thread && !d->is_abandoned)
        uv_thread_join(&d->sql_thread);
    if (!d->is_abandoned)
        d->lane = tl__lane_free(d->lane);
    status = result_of(d);
    tl__log_event(TL_LOG_INFO, "stopped", "status", tl_status_name(status), NULL);
    return status;
}

/* A connection for each webhook in flight: as many files as we may have. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < MAX_FILES ? limit.rlim_max : MAX_FILES;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

tl_status tl__serve_run(const struct tl__serve_options *options)
{
    struct daemon *d = calloc(1, sizeof *d);

    if (!d)
        return TL_E_NOMEM;
    d->own_options = *options;
    d->own_options.client.log = tl__log_library;
    d->own_options.client.log_userdata = NULL;
    d->options = &d->own_options;
    d->guard.is_open = options->allow_private;
    tl__log_setup(options->log_level, options->is_log_json);
    raise_file_limit();
    if (options->webhook_allow && !tl__netguard_allow(&d->guard, options->webhook_allow)) {
        tl__log_event(TL_LOG_ERROR, "start_failed", "message",
                      "the list of allowed addresses is malformed", "list", options->webhook_allow,
                      "hint", "such as 10.0.0.0/8,127.0.0.1,fd00::/8,hooks.example.com", NULL);
        free(d);
        return TL_E_INVALID;
    }
    if (options->webhook_ca_file && access(options->webhook_ca_file, R_OK) != 0) {
        tl__log_event(TL_LOG_ERROR, "start_failed", "message",
                      "the file of certificate authorities cannot be read", "file",
                      options->webhook_ca_file, NULL);
        free(d);
        return TL_E_INVALID;
    }
    d->journal = tl__journal_new(on_journal, d);
    if (!d->journal || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        uv_loop_init(&d->own_loop) != 0) {
        tl__journal_free(d->journal);
        free(d);
        return TL_E_NOMEM;
    }
    d->loop = &d->own_loop;
    uv_mutex_init(&d->sql_lock);
    tl_status status = serve(d);
    if (d->is_abandoned) /* a thread still uses all of it until the process ends */
        return status;
    uv_mutex_destroy(&d->sql_lock);
    uv_loop_close(d->loop);
    curl_global_cleanup();
    tl__journal_free(d->journal);
    free(d);
    return status;
}
