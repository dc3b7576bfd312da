/*
 * breaker.c: see breaker.h.
 */
#include "breaker.h"

static void change(struct tl__breaker *b, enum tl__breaker_state state, uint64_t seq)
{
    if (b->state == state)
        return;
    b->state = state;
    b->changed_seq = seq;
}

void tl__breaker_count(struct tl__breaker *b, bool is_delivered, uint32_t most, uint64_t seq)
{
    if (is_delivered) {
        b->failures = 0;
        change(b, TL__BREAKER_CLOSED, seq);
    } else {
        b->failures += b->failures < UINT32_MAX;
        if (most > 0 && (b->state == TL__BREAKER_TRYING || b->failures >= most))
            change(b, TL__BREAKER_OPEN, seq);
    }
}

void tl__breaker_take(struct tl__breaker *b, bool is_open, bool is_probe, uint64_t seq)
{
    if (seq < b->changed_seq) /* older than what was seen here */
        return;
    enum tl__breaker_state said = is_probe  ? TL__BREAKER_TRYING
                                  : is_open ? TL__BREAKER_OPEN
                                            : TL__BREAKER_CLOSED;
    if (said == TL__BREAKER_CLOSED && b->state != said)
        b->failures = 0; /* another daemon had a success */
    b->state = said;
}
