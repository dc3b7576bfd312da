/*
 * histogram.h: counts of times, each to within 1 %, from 1 ns to 18 minutes (longer ones count as
 * that): every power of two has 128 buckets, as HdrHistogram has them. Its size is fixed and adding
 * is a few instructions. Any folder may use it.
 */
#ifndef TL_HISTOGRAM_H
#define TL_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { TL__HISTOGRAM_BITS = 7, TL__HISTOGRAM_MAX_BITS = 40 };
#define TL__HISTOGRAM_BUCKETS                                                                      \
    ((size_t)(TL__HISTOGRAM_MAX_BITS - TL__HISTOGRAM_BITS + 1) << TL__HISTOGRAM_BITS)

/* All zeros is an empty one. */
struct tl__histogram {
    uint64_t count, max_ns;
    uint64_t buckets[TL__HISTOGRAM_BUCKETS];
};

void tl__histogram_add(struct tl__histogram *h, uint64_t ns, uint64_t times);
void tl__histogram_merge(struct tl__histogram *into, const struct tl__histogram *from);
/* The least time that a share q (0..1) of all does not exceed, in ns; 0 when empty. The greatest
 * one is exact. */
uint64_t tl__histogram_quantile(const struct tl__histogram *h, double q);

#endif
