/*
 * log.h: the daemon's log: one line for each event on stderr, key=value or JSON. Values may be
 * anything: a line stays one line. Never a payload or a password. Any thread may log.
 */
#ifndef TL_SERVER_LOG_H
#define TL_SERVER_LOG_H

#include <stdbool.h>

#include <trunkline/trunkline.h>

/* Once, before the first line. */
void tl__log_setup(tl_log_level level, bool is_json);
/* Pairs of key and value (const char *; NULL leaves the pair out), ended by a NULL key. */
void tl__log_event(tl_log_level level, const char *event, ...) __attribute__((sentinel));
/* Log a failed call of a handle. */
void tl__log_error(tl_log_level level, const char *event, tl_status status, const tl_error *error);
/* A tl_log_fn. */
void tl__log_library(tl_log_level level, const char *message, void *userdata);

/* A number as text, for a pair; in the caller's buffer. */
struct tl__number {
    char text[24];
};
const char *tl__number(struct tl__number *n, long long value);
#define TL_NUMBER(value) tl__number(&(struct tl__number){{0}}, (long long)(value))

#endif
