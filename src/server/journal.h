/*
 * journal.h: what became of requests to webhooks, on its way from the lanes to the database, so that
 * no delivery waits for it. Bounded: what finds no room is dropped and counted.
 *
 * @thread: any; peek and forget only one.
 */
#ifndef TL_SERVER_JOURNAL_H
#define TL_SERVER_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tl__journal;

/* Parameters of record_attempts(), and so the fields of an entry. */
enum { TL__JOURNAL_FIELDS = 14 };
enum { TL__JOURNAL_MOST = 1000 /* entries for one statement */ };

/* `on_add` is called after an entry came in, without a lock. NULL: no memory. */
struct tl__journal *tl__journal_new(void (*on_add)(void *userdata), void *userdata);
struct tl__journal *tl__journal_free(struct tl__journal *journal);

/* Add an entry: so many texts, each ended by a NUL and fit to be an element of an array in SQL. Copied;
 * NULL: there was no memory for it. Returns its number, from 1. */
uint64_t tl__journal_add(struct tl__journal *journal, const char *entry, size_t len);
bool tl__journal_is_empty(struct tl__journal *journal);
/* The oldest entries, at most `most` and a few megabytes, as an array for each field; free(3) each. They
 * stay until they are forgotten. How many; 0: none, or no memory. *ret_upto is the number of the last one. */
int tl__journal_peek(struct tl__journal *journal, int most, char *ret_arrays[TL__JOURNAL_FIELDS],
                     uint64_t *ret_upto);
void tl__journal_forget(struct tl__journal *journal, uint64_t upto);
/* Everything up to this number is forgotten or was dropped. */
uint64_t tl__journal_seq(struct tl__journal *journal);
/* How many were dropped since the last call. */
uint64_t tl__journal_take_dropped(struct tl__journal *journal);

#endif
