/*
 * cleanup.h: ownership by scope. TL_CLEANUP(freep) T *x = NULL; frees x when the block ends.
 * Any folder may use it.
 */
#ifndef TL_CLEANUP_H
#define TL_CLEANUP_H

#include <stdlib.h>

#define TL_CLEANUP(fn) __attribute__((cleanup(fn)))

/* free(3) for TL_CLEANUP; p is the address of the pointer. */
static inline void tl__freep(void *p)
{
    free(*(void **)p);
}

/* Give *p away: returns it and leaves NULL behind. */
#define TL_STEAL(p)                                                                                \
    __extension__({                                                                                \
        __typeof__(p) tl_steal_ = (p);                                                             \
        (p) = NULL;                                                                                \
        tl_steal_;                                                                                 \
    })

#endif
