/*
 * demo_events.h: the real webhook payloads that are built into the program. For src/cli only.
 */
#ifndef TL_CLI_DEMO_EVENTS_H
#define TL_CLI_DEMO_EVENTS_H

#include "demo_data.h"
#include "demo_ledger.h"

/* NULL: there is none of that name. */
const struct tl__demo_file *tl__demo_file(const char *name);
/* All events of the data set; false when it cannot be read. Call free in both cases. */
bool tl__demo_events_load(struct tl__demo_event **ret, size_t *ret_count);
void tl__demo_events_free(struct tl__demo_event *events, size_t count);

#endif
