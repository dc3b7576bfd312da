/*
 * start.h: places in a log as people write them. For src/cli only.
 */
#ifndef TL_CLI_START_H
#define TL_CLI_START_H

#include <stdbool.h>
#include <stdint.h>

#include <trunkline/trunkline.h>

/* Fill start and start_value from "beginning", "end", a position or a time (UTC); NULL is the end.
 * Returns 0 or an exit code after it printed an error that names the option. */
int tl__parse_start(const char *option, const char *text, tl_subscribe_options *options);

#endif
