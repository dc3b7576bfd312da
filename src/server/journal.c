/*
 * journal.c: see journal.h.
 */
#include "journal.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "buf.h"

enum { MAX_BYTES = 64 << 20, MAX_PEEK_BYTES = 4 << 20 };

struct entry {
    struct entry *next;
    uint64_t seq;
    size_t len;
    char *text;
};

struct tl__journal {
    void (*on_add)(void *userdata);
    void *userdata;
    uv_mutex_t lock; /* of what follows */
    struct entry *first, **end;
    uint64_t added, dropped;
    size_t bytes;
};

struct tl__journal *tl__journal_new(void (*on_add)(void *userdata), void *userdata)
{
    struct tl__journal *j = calloc(1, sizeof *j);

    if (!j)
        return NULL;
    j->on_add = on_add;
    j->userdata = userdata;
    j->end = &j->first;
    uv_mutex_init(&j->lock);
    return j;
}

static void entry_free(struct entry *e)
{
    if (e)
        free(e->text);
    free(e);
}

struct tl__journal *tl__journal_free(struct tl__journal *j)
{
    if (!j)
        return NULL;
    while (j->first) {
        struct entry *e = j->first;
        j->first = e->next;
        entry_free(e);
    }
    uv_mutex_destroy(&j->lock);
    free(j);
    return NULL;
}

uint64_t tl__journal_add(struct tl__journal *j, char *text, size_t len)
{
    struct entry *e = text ? malloc(sizeof *e) : NULL;

    uv_mutex_lock(&j->lock);
    uint64_t seq = ++j->added;
    if (e && j->bytes + len <= MAX_BYTES) {
        *e = (struct entry){.seq = seq, .len = len, .text = text};
        *j->end = e;
        j->end = &e->next;
        j->bytes += len;
        e = NULL;
        text = NULL;
    } else {
        j->dropped++;
    }
    uv_mutex_unlock(&j->lock);
    free(e);
    free(text);
    j->on_add(j->userdata);
    return seq;
}

bool tl__journal_is_empty(struct tl__journal *j)
{
    uv_mutex_lock(&j->lock);
    bool is_empty = !j->first;
    uv_mutex_unlock(&j->lock);
    return is_empty;
}

static void add_fields(struct tl__buf arrays[TL__JOURNAL_FIELDS], const struct entry *e,
                       char divider)
{
    const char *field = e->text;

    for (int i = 0; i < TL__JOURNAL_FIELDS; i++, field += strlen(field) + 1) {
        tl__buf_add_char(&arrays[i], divider);
        tl__buf_add_str(&arrays[i], field);
    }
}

int tl__journal_peek(struct tl__journal *j, int most, char *ret_arrays[TL__JOURNAL_FIELDS],
                     uint64_t *ret_upto)
{
    struct tl__buf arrays[TL__JOURNAL_FIELDS];
    bool is_failed = false;
    size_t bytes = 0;
    int n = 0;

    for (int i = 0; i < TL__JOURNAL_FIELDS; i++)
        arrays[i] = TL_BUF_INIT;
    uv_mutex_lock(&j->lock);
    for (struct entry *e = j->first; e && n < most; e = e->next, n++) {
        if (n > 0 && bytes + e->len > MAX_PEEK_BYTES)
            break;
        add_fields(arrays, e, n == 0 ? '{' : ',');
        bytes += e->len;
        *ret_upto = e->seq;
    }
    uv_mutex_unlock(&j->lock);
    for (int i = 0; i < TL__JOURNAL_FIELDS && n > 0; i++) {
        tl__buf_add_char(&arrays[i], '}');
        ret_arrays[i] = tl__buf_take(&arrays[i], NULL);
        is_failed = is_failed || !ret_arrays[i];
    }
    for (int i = 0; i < TL__JOURNAL_FIELDS && is_failed; i++)
        free(ret_arrays[i]);
    return is_failed ? 0 : n;
}

void tl__journal_forget(struct tl__journal *j, uint64_t upto)
{
    struct entry *gone = NULL;

    uv_mutex_lock(&j->lock);
    while (j->first && j->first->seq <= upto) {
        struct entry *e = j->first;
        j->first = e->next;
        j->bytes -= e->len;
        e->next = gone;
        gone = e;
    }
    if (!j->first)
        j->end = &j->first;
    uv_mutex_unlock(&j->lock);
    while (gone) {
        struct entry *e = gone;
        gone = e->next;
        entry_free(e);
    }
}

uint64_t tl__journal_seq(struct tl__journal *j)
{
    uv_mutex_lock(&j->lock);
    uint64_t seq = j->first ? j->first->seq - 1 : j->added;
    uv_mutex_unlock(&j->lock);
    return seq;
}

uint64_t tl__journal_take_dropped(struct tl__journal *j)
{
    uv_mutex_lock(&j->lock);
    uint64_t dropped = j->dropped;
    j->dropped = 0;
    uv_mutex_unlock(&j->lock);
    return dropped;
}
