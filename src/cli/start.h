/*
 * start.h: places in a log as people write them. For src/cli only.
 */
#ifndef TL_CLI_START_H
#define TL_CLI_START_H

#include <stdbool.h>
#include <stdint.h>

#include <trunkline/trunkline.h>

#include "command.h"

/* "beginning", "end", a position or a time (UTC); NULL is the end. Returns 0 or an exit code after
 * it printed an error that names the option or argument. */
int tl__parse_start(const char *option, const char *text, tl_start *ret_start, int64_t *ret_value);
/* An option that is a time (UTC) or a duration, which means so long ago; 0 when absent. Returns as
 * tl__parse_start. */
int tl__parse_since(const struct tl__args *args, const char *option, int64_t *ret_us);
/* An option that is a time (UTC); 0 when absent. Returns as tl__parse_start. */
int tl__parse_at(const struct tl__args *args, const char *option, int64_t *ret_us);

#endif
