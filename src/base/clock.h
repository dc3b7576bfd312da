/*
 * clock.h: monotonic time, deadlines, and timestamps as text. No time zones: everything is UTC.
 * Any folder may use it.
 */
#ifndef TL_CLOCK_H
#define TL_CLOCK_H

#include <stdint.h>

#define TL_FOREVER UINT64_MAX /* a deadline that never comes */

/* Length of a time as tl__time_format writes it, with the NUL. */
#define TL_TIME_TEXT_SIZE 64

/* CLOCK_MONOTONIC in microseconds. */
uint64_t tl__clock_us(void);
/* Time since 1970 in microseconds, UTC. */
int64_t tl__wall_us(void);
/* now + timeout, saturating at TL_FOREVER. */
uint64_t tl__deadline_us(uint64_t now_us, uint64_t timeout_us);
/* Timeout for poll(2): -1 for TL_FOREVER, 0 when past, else rounded up and at most a day. */
int tl__poll_ms(uint64_t now_us, uint64_t deadline_us);
/* "2026-01-31T12:00:00.000000Z"; years before 0 or after 9999 keep more digits or a sign. */
void tl__time_format(int64_t at_us, char ret_text[TL_TIME_TEXT_SIZE]);

#endif
