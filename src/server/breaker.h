/*
 * breaker.h: the circuit breaker of one endpoint as one daemon sees it. It opens by itself after so
 * many failures in a row; how long is the database's business, which all daemons share: the list
 * says when this one may try again, and what others found out. Pure: no clock, no I/O.
 */
#ifndef TL_SERVER_BREAKER_H
#define TL_SERVER_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum tl__breaker_state {
    TL__BREAKER_CLOSED, /* all goes through */
    TL__BREAKER_OPEN,   /* nothing */
    TL__BREAKER_TRYING, /* one at a time */
};

struct tl__breaker {
    enum tl__breaker_state state;
    uint32_t failures;    /* since the last success, here */
    uint64_t changed_seq; /* number of the journal's entry that changed the state here */
};

/* A request ended; `seq` is the number of its entry in the journal, `most` failures open (0: never). */
void tl__breaker_count(struct tl__breaker *b, bool is_delivered, uint32_t most, uint64_t seq);
/* What the database says, with the journal up to `seq` in it. */
void tl__breaker_take(struct tl__breaker *b, bool is_open, bool is_probe, uint64_t seq);

#endif
