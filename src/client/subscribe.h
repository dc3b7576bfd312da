/*
 * subscribe.h: what the calls on subscriptions share. For src/client only.
 */
#ifndef TL_CLIENT_SUBSCRIBE_H
#define TL_CLIENT_SUBSCRIBE_H

#include "clock.h"
#include "internal.h"

tl_status tl__subscription_check(tl_client *c, const char *name);
/* start_at of the SQL functions; may be text. */
const char *tl__start_text(tl_start start, int64_t value, char text[TL_TIME_TEXT_SIZE]);

#endif
