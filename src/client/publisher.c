/*
 * publisher.c: group publish: the queue of events and who drives. A thread that waits for its event drives the
 * connection while nobody else does; when its own event has ended it hands that on to another one that
 * waits. So there is no thread of the library's, and a thread that does not drive sleeps until it is told. What
 * becomes of a batch is in publisher_batch.c.
 */
#include "publisher.h"

#include "clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEFAULT_BATCH 1000
#define MOST_BATCH 10000
#define DEFAULT_PENDING 10000

/* --------------------------------------------------------------------------------------- wake -- */

/* @locks lock. Whoever sleeps on the descriptor looks again. */
static void ring(tl_publisher *p)
{
    uint64_t one = 1;

    if (p->is_rung)
        return;
    p->is_rung = write(p->wake_fd, &one, sizeof one) == sizeof one;
}

/* By the thread that drives. */
static void answer_ring(tl_publisher *p)
{
    uint64_t ignored;
    struct tl_error e;
    bool is_stopped;

    (void)pthread_mutex_lock(&p->lock);
    if (p->is_rung && read(p->wake_fd, &ignored, sizeof ignored) > 0)
        p->is_rung = false;
    is_stopped = p->is_stopped;
    (void)pthread_mutex_unlock(&p->lock);
    if (!is_stopped)
        return;
    tl__error_set(&e, TL_E_CLOSED, NULL, "publisher was stopped");
    tl__publisher_fail_queue(p, &e);
    if (p->phase == TL__CONNECTING && p->part_count == 0)
        tl__publisher_drop_conn(p);
}

/* For loops; a thread that drives looks at the socket itself. */
static void watch(tl_publisher *p, bool is_wanted)
{
    int fd = is_wanted && tl__publisher_is_waiting(p) ? PQsocket(p->conn) : -1;
    struct epoll_event event = {.events = (p->events & POLLIN ? EPOLLIN : 0u) |
                                          (p->events & POLLOUT ? EPOLLOUT : 0u)};

    if (fd == p->watched_fd && (fd < 0 || p->events == p->watched_events))
        return;
    if (p->watched_fd >= 0 && p->watched_fd != fd)
        (void)epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, p->watched_fd, NULL);
    if (fd >= 0 && epoll_ctl(p->epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0)
        (void)epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    p->watched_fd = fd;
    p->watched_events = p->events;
}

/* -------------------------------------------------------------------------------------- queue -- */

bool tl__publisher_has_queue(tl_publisher *p)
{
    bool has_queue;

    (void)pthread_mutex_lock(&p->lock);
    has_queue = p->queue != NULL;
    (void)pthread_mutex_unlock(&p->lock);
    return has_queue;
}

/* @locks lock. */
static struct tl__request *pop(tl_publisher *p)
{
    struct tl__request *r = p->queue;

    p->queue = r->next;
    if (p->queue == NULL)
        p->queue_end = &p->queue;
    return r;
}

/* By topic, else as they came. */
static int compare(const void *a, const void *b)
{
    const struct tl__request *x = *(struct tl__request *const *)a;
    const struct tl__request *y = *(struct tl__request *const *)b;
    int order = x->topic == y->topic ? 0 : strcmp(x->topic, y->topic);

    return order != 0 ? order : (x->number > y->number) - (x->number < y->number);
}

/* @locks lock. Does its turn end it, without being sent? */
static bool is_at_end(const tl_publisher *p, struct tl__request *r, uint64_t now_us)
{
    if (p->is_stopped)
        r->status = tl__error_set(&r->error, TL_E_CLOSED, NULL, "publisher was stopped");
    else if (r->topic == NULL)
        r->status = TL_OK;
    else if (r->deadline_us <= now_us)
        r->status = tl__error_set(&r->error, TL_E_TIMEOUT, NULL, "not sent within %llu ms",
                                  (unsigned long long)(p->settings->timeout_us / 1000));
    else
        return false;
    return true;
}

bool tl__publisher_collect(tl_publisher *p)
{
    uint64_t now_us = tl__clock_us();
    struct tl__request *gone = NULL;
    struct tl__request **gone_end = &gone;
    bool is_mixed = false;
    size_t bytes = 0;

    (void)pthread_mutex_lock(&p->lock);
    while (p->queue != NULL) {
        struct tl__request *r = p->queue;

        /* a mark ends when everything before it has, and so not beside a batch */
        if (p->member_count > 0 && (r->topic == NULL || p->member_count == p->max_batch ||
                                    bytes + tl__element_bytes(&r->element) > TL__CHUNK_BYTES))
            break;
        (void)pop(p);
        if (is_at_end(p, r, now_us)) {
            r->next = NULL;
            *gone_end = r;
            gone_end = &r->next;
            continue;
        }
        is_mixed = is_mixed || (p->member_count > 0 && p->members[0]->topic != r->topic);
        bytes += tl__element_bytes(&r->element);
        p->members[p->member_count++] = r;
    }
    (void)pthread_mutex_unlock(&p->lock);
    while (gone != NULL) {
        struct tl__request *next = gone->next;

        tl__publisher_finish(p, gone);
        gone = next;
    }
    if (is_mixed)
        qsort(p->members, p->member_count, sizeof(struct tl__request *), compare);
    return p->member_count > 0;
}

void tl__publisher_fail_queue(tl_publisher *p, const struct tl_error *e)
{
    struct tl__request *r;

    (void)pthread_mutex_lock(&p->lock);
    r = p->queue;
    p->queue = NULL;
    p->queue_end = &p->queue;
    (void)pthread_mutex_unlock(&p->lock);
    while (r != NULL) {
        struct tl__request *next = r->next;

        if (r->topic != NULL) {
            r->status = e->status;
            r->error = *e;
        }
        tl__publisher_finish(p, r);
        r = next;
    }
}

void tl__publisher_finish(tl_publisher *p, struct tl__request *r)
{
    bool is_submitted = r->is_submitted;

    (void)pthread_mutex_lock(&p->lock);
    p->unreported -= is_submitted;
    if (r->topic != NULL) {
        p->stats.pending--;
        *(r->status == TL_OK ? &p->stats.published : &p->stats.failed) += 1;
    }
    p->is_calling = is_submitted;
    (void)pthread_mutex_unlock(&p->lock);
    if (!is_submitted) {
        r->is_finished = true;
        (void)sem_post(&r->wakeup);
        return;
    }
    if (r->done != NULL)
        r->done(r->status, r->status == TL_OK ? &r->receipt : NULL,
                r->status == TL_OK ? NULL : &r->error, r->userdata);
    free(r);
    (void)pthread_mutex_lock(&p->lock);
    p->is_calling = false;
    (void)pthread_mutex_unlock(&p->lock);
}

/* --------------------------------------------------------------------------------------- drive -- */

/* A thread that waits for what is left; NULL: none. @locks lock. */
static struct tl__request *find_successor(tl_publisher *p)
{
    if (p->waiting == 0)
        return NULL;
    for (size_t i = p->ended; i < p->member_count; i++) {
        if (!p->members[i]->is_submitted)
            return p->members[i];
    }
    for (struct tl__request *r = p->queue; r != NULL; r = r->next) {
        if (!r->is_submitted)
            return r;
    }
    return NULL;
}

/* @locks lock. */
static bool can_begin(const tl_publisher *p)
{
    return p->queue != NULL && !tl__publisher_is_waiting(p);
}

/* Drive no more: a thread that waits goes on, else whoever comes next. A loop that slept meanwhile does not
 * know until when the answer is waited for: is_its_own says that it is the loop that stops driving. */
static void hand_over(tl_publisher *p, bool is_its_own)
{
    struct tl__request *successor;

    (void)pthread_mutex_lock(&p->lock);
    successor = find_successor(p);
    if (successor == NULL && can_begin(p)) {
        (void)pthread_mutex_unlock(&p->lock);
        tl__publisher_step(p);
        (void)pthread_mutex_lock(&p->lock);
        successor = find_successor(p);
    }
    watch(p, successor == NULL);
    if (successor == NULL) {
        p->is_driven = false;
        if (can_begin(p) || (!is_its_own && tl__publisher_is_waiting(p)))
            ring(p);
    }
    (void)pthread_mutex_unlock(&p->lock);
    if (successor != NULL) /* to be woken without having ended says that it is to drive */
        (void)sem_post(&successor->wakeup);
}

/* Until this one has ended, or (NULL) nothing is left. By the thread that drives. */
static void drive(tl_publisher *p, const struct tl__request *r)
{
    (void)pthread_mutex_lock(&p->lock);
    p->driver = pthread_self();
    watch(p, false);
    (void)pthread_mutex_unlock(&p->lock);
    for (;;) {
        struct pollfd fds[2] = {{.fd = p->wake_fd, .events = POLLIN}, {.fd = -1}};

        tl__publisher_step(p);
        if (r != NULL ? r->is_finished : !tl__publisher_is_waiting(p))
            return;
        fds[1].fd = PQsocket(p->conn);
        fds[1].events = p->events;
        if (poll(fds, 2, tl__poll_ms(tl__clock_us(), p->answer_until_us)) > 0 &&
            fds[0].revents != 0)
            answer_ring(p);
    }
}

static void wait_for_wakeup(struct tl__request *r)
{
    while (sem_wait(&r->wakeup) != 0 && errno == EINTR) {
    }
}

/* Refuses to wait in a callback: nobody else drives. @locks lock. */
static bool is_inside(const tl_publisher *p)
{
    return p->is_calling && pthread_equal(p->driver, pthread_self());
}

/* @locks lock. */
static tl_status enqueue(tl_publisher *p, struct tl__request *r, struct tl_error *e)
{
    if (p->is_stopped)
        return tl__error_set(e, TL_E_CLOSED, NULL, "publisher was stopped");
    if (!r->is_submitted && is_inside(p))
        return tl__error_set(e, TL_E_INVALID, NULL,
                             "a callback of the publisher cannot wait for it");
    if (r->is_submitted && p->unreported >= p->max_pending) {
        tl__error_set(e, TL_E_LIMIT, NULL, "%llu events have not ended",
                      (unsigned long long)p->unreported);
        tl__error_set_hint(e, "process first, or raise max_pending");
        return TL_E_LIMIT;
    }
    r->number = p->numbers++;
    r->next = NULL;
    *p->queue_end = r;
    p->queue_end = &r->next;
    if (r->topic != NULL)
        p->stats.pending++;
    p->unreported += r->is_submitted;
    return TL_OK;
}

/* Put it into the queue and wait until it has ended. */
static tl_status wait_for(tl_publisher *p, struct tl__request *r)
{
    struct tl_error *e = &r->error;
    bool is_leader;
    tl_status status;

    if (sem_init(&r->wakeup, 0, 0) != 0)
        return tl__error_nomem(e);
    (void)pthread_mutex_lock(&p->lock);
    status = enqueue(p, r, e);
    if (status != TL_OK) {
        (void)pthread_mutex_unlock(&p->lock);
        (void)sem_destroy(&r->wakeup);
        return status;
    }
    p->waiting++;
    is_leader = !p->is_driven;
    p->is_driven = true;
    (void)pthread_mutex_unlock(&p->lock);

    if (!is_leader) {
        wait_for_wakeup(r);
        is_leader = !r->is_finished;
    }
    if (is_leader) {
        drive(p, r);
        hand_over(p, false);
    }

    (void)pthread_mutex_lock(&p->lock);
    p->waiting--;
    if (p->is_stopped && p->waiting == 0)
        (void)pthread_cond_signal(&p->left);
    (void)pthread_mutex_unlock(&p->lock);
    (void)sem_destroy(&r->wakeup);
    return r->status;
}

/* ----------------------------------------------------------------------------------------- life -- */

static tl_publisher *destroy(tl_publisher *p)
{
    PQfinish(p->conn);
    tl__cached_free(p->cached);
    tl__buf_done(&p->buf);
    free(p->members);
    free(p->elements);
    if (p->wake_fd >= 0)
        (void)close(p->wake_fd);
    if (p->epoll_fd >= 0)
        (void)close(p->epoll_fd);
    (void)pthread_mutex_destroy(&p->lock);
    (void)pthread_cond_destroy(&p->left);
    free(p);
    return NULL;
}

tl_status tl_publisher_new(tl_client *c, const tl_publisher_options *from, tl_publisher **ret)
{
    struct epoll_event event = {.events = EPOLLIN};
    tl_publisher_options opts;
    tl_publisher *p;
    tl_status status;

    tl__error_clear(&c->error);
    status = tl__options_load(&c->error, "tl_publisher_new", &opts, sizeof opts, from);
    if (status != TL_OK)
        return status;
    if (c->settings.conninfo == NULL || c->wake_fd < 0)
        return tl__error_set(&c->error, TL_E_CLOSED, NULL, "client was not opened");
    if (opts.max_batch > MOST_BATCH)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "max_batch is not 1 to %d", MOST_BATCH);
    p = calloc(1, sizeof *p);
    if (p == NULL)
        return tl__error_nomem(&c->error);
    p->settings = &c->settings;
    p->max_batch = opts.max_batch != 0 ? opts.max_batch : DEFAULT_BATCH;
    p->max_pending = opts.max_pending != 0 ? opts.max_pending : DEFAULT_PENDING;
    p->queue_end = &p->queue;
    p->watched_fd = -1;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->left, NULL);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    p->members = calloc(p->max_batch, sizeof(struct tl__request *));
    p->elements = calloc(p->max_batch < TL__CHUNK_EVENTS ? p->max_batch : TL__CHUNK_EVENTS,
                         sizeof p->elements[0]);
    if (p->members == NULL || p->elements == NULL || p->wake_fd < 0 || p->epoll_fd < 0 ||
        epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->wake_fd, &event) != 0) {
        bool is_memory = p->members == NULL || p->elements == NULL;

        p = destroy(p);
        return is_memory ? tl__error_nomem(&c->error)
                         : tl__error_set(&c->error, TL_E_NOMEM, NULL, "no file descriptor is free");
    }
    *ret = p;
    return TL_OK;
}

void tl_publisher_stop(tl_publisher *p)
{
    (void)pthread_mutex_lock(&p->lock);
    p->is_stopped = true;
    ring(p);
    (void)pthread_mutex_unlock(&p->lock);
}

tl_publisher *tl_publisher_free(tl_publisher *p)
{
    bool is_in_callback;

    if (p == NULL)
        return NULL;
    (void)pthread_mutex_lock(&p->lock);
    is_in_callback = is_inside(p);
    (void)pthread_mutex_unlock(&p->lock);
    if (is_in_callback)
        return p;
    tl_publisher_stop(p);
    (void)pthread_mutex_lock(&p->lock);
    while (p->waiting > 0)
        (void)pthread_cond_wait(&p->left, &p->lock);
    p->is_driven = true;
    p->driver = pthread_self(); /* callbacks begin here */
    (void)pthread_mutex_unlock(&p->lock);
    answer_ring(p);
    drive(p, NULL);
    return destroy(p);
}

/* ------------------------------------------------------------------------------------- publish -- */

static tl_status give(tl_status status, const struct tl_error *e, tl_error **ret)
{
    if (status != TL_OK)
        tl__error_give(e, ret);
    return status;
}

tl_status tl_publisher_publish(tl_publisher *p, const char *topic, const tl_new_event *event,
                               tl_receipt *ret, tl_error **ret_error)
{
    struct tl__request r = {.deadline_us =
                                tl__deadline_us(tl__clock_us(), p->settings->timeout_us)};
    tl_status status;

    tl__error_clear(&r.error);
    if ((status = tl__topic_load(&r.error, topic, &r.topic)) == TL_OK &&
        (status = tl__element_load(&r.error, event, &r.element)) == TL_OK)
        status = wait_for(p, &r);
    if (status == TL_OK && ret != NULL)
        *ret = r.receipt;
    return give(status, &r.error, ret_error);
}

tl_status tl_publisher_flush(tl_publisher *p)
{
    struct tl__request r = {.deadline_us = TL_FOREVER};

    tl__error_clear(&r.error);
    return wait_for(p, &r);
}

/* The texts of an event, to be copied behind the request. */
static void place(const char **text, char **to)
{
    size_t size;

    if (*text == NULL)
        return;
    size = strlen(*text) + 1;
    memcpy(*to, *text, size);
    *text = *to;
    *to += size;
}

static size_t size_of(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

static struct tl__request *copy_request(const struct tl__element *el, const char *topic)
{
    const tl_new_event *from = &el->event;
    size_t size = sizeof(struct tl__request) + size_of(topic) + size_of(from->type) +
                  size_of(from->id) + size_of(from->key) + size_of(from->source) +
                  size_of(from->tenant_id) + size_of(from->metadata) + from->data_len + 1;
    struct tl__request *r = malloc(size);
    char *at;

    if (r == NULL)
        return NULL;
    *r = (struct tl__request){.element = *el, .topic = topic, .is_submitted = true};
    at = (char *)(r + 1);
    place(&r->topic, &at);
    place(&r->element.event.type, &at);
    place(&r->element.event.id, &at);
    place(&r->element.event.key, &at);
    place(&r->element.event.source, &at);
    place(&r->element.event.tenant_id, &at);
    place(&r->element.event.metadata, &at);
    memcpy(at, from->data, from->data_len);
    at[from->data_len] = '\0';
    r->element.event.data = at;
    return r;
}

tl_status tl_publisher_submit(tl_publisher *p, const char *topic, const tl_new_event *event,
                              tl_published_fn done, void *userdata, tl_error **ret_error)
{
    struct tl__element el;
    struct tl__request *r;
    struct tl_error e;
    tl_status status;

    tl__error_clear(&e);
    if ((status = tl__topic_load(&e, topic, &topic)) != TL_OK ||
        (status = tl__element_load(&e, event, &el)) != TL_OK)
        return give(status, &e, ret_error);
    r = copy_request(&el, topic);
    if (r == NULL)
        return give(tl__error_nomem(&e), &e, ret_error);
    tl__error_clear(&r->error);
    r->done = done;
    r->userdata = userdata;
    r->deadline_us = tl__deadline_us(tl__clock_us(), p->settings->timeout_us);
    (void)pthread_mutex_lock(&p->lock);
    status = enqueue(p, r, &e);
    if (status == TL_OK && !p->is_driven)
        ring(p);
    (void)pthread_mutex_unlock(&p->lock);
    if (status != TL_OK)
        free(r);
    return give(status, &e, ret_error);
}

/* ---------------------------------------------------------------------------------------- loop -- */

int tl_publisher_fd(const tl_publisher *p)
{
    return p->epoll_fd;
}

int tl_publisher_events(const tl_publisher *p)
{
    (void)p;
    return POLLIN;
}

/* The lock of a publisher that is only looked at. */
static pthread_mutex_t *lock_of(const tl_publisher *p)
{
    return &((tl_publisher *)(uintptr_t)p)->lock;
}

uint64_t tl_publisher_deadline_us(const tl_publisher *p)
{
    uint64_t at = TL_FOREVER;

    (void)pthread_mutex_lock(lock_of(p));
    if (!p->is_driven && can_begin(p))
        at = 0;
    else if (!p->is_driven && tl__publisher_is_waiting(p))
        at = p->answer_until_us;
    (void)pthread_mutex_unlock(lock_of(p));
    return at;
}

tl_status tl_publisher_process(tl_publisher *p)
{
    bool is_mine;
    bool is_over;

    (void)pthread_mutex_lock(&p->lock);
    is_mine = !p->is_driven;
    is_over = p->is_stopped && p->stats.pending == 0;
    if (is_mine) {
        p->is_driven = true;
        p->driver = pthread_self();
    }
    (void)pthread_mutex_unlock(&p->lock);
    if (!is_mine)
        return is_over ? TL_NOTHING : TL_OK;
    answer_ring(p);
    tl__publisher_step(p);
    hand_over(p, true);
    (void)pthread_mutex_lock(&p->lock);
    is_over = p->is_stopped && p->stats.pending == 0;
    (void)pthread_mutex_unlock(&p->lock);
    return is_over ? TL_NOTHING : TL_OK;
}

void tl_publisher_get_stats(const tl_publisher *p, tl_publisher_stats *ret)
{
    (void)pthread_mutex_lock(lock_of(p));
    *ret = p->stats;
    (void)pthread_mutex_unlock(lock_of(p));
}
