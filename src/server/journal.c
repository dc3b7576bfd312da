/*
 * journal.c: see journal.h.
 */
#include "journal.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "buf.h"

enum { MAX_BYTES = 64 << 20, MAX_PEEK_BYTES = 4 << 20, BLOCK_BYTES = 60000 };

/* In front of the text of each entry, unaligned. */
struct head {
    uint64_t seq;
    size_t len;
};

/* Entries one behind the other: memory for one of them alone would be made by a lane and freed by the control
 * thread, which makes both wait for the allocator. */
struct block {
    struct block *next;
    size_t start, end, size; /* of data; from start to end are those that wait */
    char data[];
};

struct tl__journal {
    void (*on_add)(void *userdata);
    void *userdata;
    uv_mutex_t lock;            /* of what follows */
    struct block *first, *last; /* only the last may be empty */
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
    uv_mutex_init(&j->lock);
    return j;
}

static void blocks_free(struct block *b)
{
    while (b) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
}

struct tl__journal *tl__journal_free(struct tl__journal *j)
{
    if (!j)
        return NULL;
    blocks_free(j->first);
    uv_mutex_destroy(&j->lock);
    free(j);
    return NULL;
}

/* Where so many bytes have room at the end; NULL: no memory. */
static struct block *make_room(struct tl__journal *j, size_t need)
{
    struct block *b = j->last;
    size_t size = need < BLOCK_BYTES ? BLOCK_BYTES : need;

    if (b && b->size - b->end >= need)
        return b;
    b = malloc(sizeof *b + size);
    if (!b)
        return NULL;
    *b = (struct block){.size = size};
    if (j->last)
        j->last->next = b;
    else
        j->first = b;
    j->last = b;
    return b;
}

static bool append(struct tl__journal *j, const char *text, size_t len)
{
    struct head head = {.seq = j->added, .len = len};
    struct block *b = text && j->bytes + len <= MAX_BYTES ? make_room(j, sizeof head + len) : NULL;

    if (!b)
        return false;
    memcpy(b->data + b->end, &head, sizeof head);
    memcpy(b->data + b->end + sizeof head, text, len);
    b->end += sizeof head + len;
    j->bytes += len;
    return true;
}

uint64_t tl__journal_add(struct tl__journal *j, const char *entry, size_t len)
{
    uv_mutex_lock(&j->lock);
    uint64_t seq = ++j->added;
    if (!append(j, entry, len))
        j->dropped++;
    uv_mutex_unlock(&j->lock);
    j->on_add(j->userdata);
    return seq;
}

/* Its first entry; NULL: it is empty. */
static const char *first_of(const struct block *b, struct head *ret)
{
    if (!b || b->start == b->end)
        return NULL;
    memcpy(ret, b->data + b->start, sizeof *ret);
    return b->data + b->start + sizeof *ret;
}

bool tl__journal_is_empty(struct tl__journal *j)
{
    struct head head;

    uv_mutex_lock(&j->lock);
    bool is_empty = !first_of(j->first, &head);
    uv_mutex_unlock(&j->lock);
    return is_empty;
}

static void add_fields(struct tl__buf arrays[TL__JOURNAL_FIELDS], const char *field, char divider)
{
    for (int i = 0; i < TL__JOURNAL_FIELDS; i++) {
        size_t len = strlen(field);
        tl__buf_add_char(&arrays[i], divider);
        tl__buf_add(&arrays[i], field, len);
        field += len + 1;
    }
}

/* Entries stay where they are until this thread forgets them, so nobody waits while they are copied: `upto` is
 * where they ended in the last block. */
static int copy(const struct block *b, const struct block *last, size_t upto, int most,
                struct tl__buf arrays[TL__JOURNAL_FIELDS], uint64_t *ret_upto)
{
    size_t bytes = 0;
    int n = 0;

    for (; b; b = b == last ? NULL : b->next) {
        size_t end = b == last ? upto : b->end;
        for (size_t at = b->start; at < end; n++) {
            struct head head;
            memcpy(&head, b->data + at, sizeof head);
            if (n == most || (n > 0 && bytes + head.len > MAX_PEEK_BYTES))
                return n;
            add_fields(arrays, b->data + at + sizeof head, n == 0 ? '{' : ',');
            bytes += head.len;
            at += sizeof head + head.len;
            *ret_upto = head.seq;
        }
    }
    return n;
}

int tl__journal_peek(struct tl__journal *j, int most, char *ret_arrays[TL__JOURNAL_FIELDS],
                     uint64_t *ret_upto)
{
    struct tl__buf arrays[TL__JOURNAL_FIELDS];
    bool is_failed = false;

    for (int i = 0; i < TL__JOURNAL_FIELDS; i++)
        arrays[i] = TL_BUF_INIT;
    uv_mutex_lock(&j->lock);
    const struct block *first = j->first, *last = j->last;
    size_t upto = last ? last->end : 0;
    uv_mutex_unlock(&j->lock);
    int n = copy(first, last, upto, most, arrays, ret_upto);
    for (int i = 0; i < TL__JOURNAL_FIELDS && n > 0; i++) {
        tl__buf_add_char(&arrays[i], '}');
        ret_arrays[i] = tl__buf_take(&arrays[i], NULL);
        is_failed = is_failed || !ret_arrays[i];
    }
    for (int i = 0; i < TL__JOURNAL_FIELDS && is_failed; i++)
        free(ret_arrays[i]);
    return is_failed ? 0 : n;
}

/* Take out the entries up to this number at the front of the block. */
static void shorten(struct tl__journal *j, struct block *b, uint64_t upto)
{
    struct head head;

    while (first_of(b, &head) && head.seq <= upto) {
        b->start += sizeof head + head.len;
        j->bytes -= head.len;
    }
}

void tl__journal_forget(struct tl__journal *j, uint64_t upto)
{
    struct block *gone = NULL;

    uv_mutex_lock(&j->lock);
    for (struct block *b = j->first; b; b = j->first) {
        shorten(j, b, upto);
        if (b->start < b->end)
            break;
        b->start = b->end = 0;
        if (b == j->last && b->size == BLOCK_BYTES)
            break; /* the next entries go there */
        j->first = b->next;
        b->next = gone;
        gone = b;
    }
    if (!j->first)
        j->last = NULL;
    uv_mutex_unlock(&j->lock);
    blocks_free(gone);
}

uint64_t tl__journal_seq(struct tl__journal *j)
{
    struct head head;

    uv_mutex_lock(&j->lock);
    uint64_t seq = first_of(j->first, &head) ? head.seq - 1 : j->added;
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
