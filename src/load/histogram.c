/*
 * histogram.c: see histogram.h.
 */
#include "histogram.h"

#include <math.h>

/* Below 2^(BITS + 1) each value has its own bucket; above, the top BITS + 1 bits tell which. */
static size_t bucket_of(uint64_t ns)
{
    if (ns >> TL__HISTOGRAM_MAX_BITS)
        return TL__HISTOGRAM_BUCKETS - 1;
    if (!(ns >> TL__HISTOGRAM_BITS))
        return (size_t)ns;
    int shift = 63 - __builtin_clzll(ns) - TL__HISTOGRAM_BITS;
    return ((size_t)shift << TL__HISTOGRAM_BITS) + (size_t)(ns >> shift);
}

/* The greatest value of a bucket. */
static uint64_t top_of(size_t bucket)
{
    if (!(bucket >> TL__HISTOGRAM_BITS))
        return bucket;
    size_t shift = (bucket >> TL__HISTOGRAM_BITS) - 1;
    uint64_t step = bucket - (shift << TL__HISTOGRAM_BITS);
    return ((step + 1) << shift) - 1;
}

void tl__histogram_add(struct tl__histogram *h, uint64_t ns, uint64_t times)
{
    h->buckets[bucket_of(ns)] += times;
    h->count += times;
    if (ns > h->max_ns)
        h->max_ns = ns;
}

void tl__histogram_merge(struct tl__histogram *into, const struct tl__histogram *from)
{
    for (size_t i = 0; i < TL__HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
}

uint64_t tl__histogram_quantile(const struct tl__histogram *h, double q)
{
    uint64_t wanted = (uint64_t)ceil(q * (double)h->count), seen = 0;

    if (wanted >= h->count)
        return h->max_ns;
    for (size_t i = 0; i < TL__HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > 0 && seen >= wanted)
            return top_of(i) < h->max_ns ? top_of(i) : h->max_ns;
    }
    return h->max_ns;
}
