/*
 * store.h: the part of libtrunkline's interface that makes the log an event store: streams, append,
 * reading, snapshots, upcasters, aggregates. trunkline.h includes it and its conventions hold; what
 * is in neither is not API.
 *
 * A stream is a sequence of events of one topic with versions 1, 2, 3... and no hole. Its name is
 * "<category>-<id>", "order-42"; the category ends at the first '-'. Only topics made with streams
 * hold any; "store" is one and the default of every call here.
 */
#ifndef TRUNKLINE_STORE_H
#define TRUNKLINE_STORE_H

#include <trunkline/trunkline.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TL_MAX_APPEND 10000 /* events in one append */

/* What version a stream must have for an append to happen. Any number above 0 is exactly that one. */
#define TL_EXPECT_ANY INT64_MIN /* whatever it has */
#define TL_EXPECT_EXISTS (-1)   /* at least one event */
#define TL_EXPECT_NO_STREAM 0   /* none yet, or none since it was deleted */

#ifdef __cplusplus
}
#endif
#endif /* TRUNKLINE_STORE_H */
