/*
 * start.c: see start.h.
 */
#define _XOPEN_SOURCE 700
#include "start.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#include "command.h"
#include "out.h"

/* "2026-11-20T21:40:01Z", with a fraction and without the Z as well; UTC. */
static bool parse_time(const char *text, int64_t *ret_us)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int64_t fraction = 0, unit = 100000;

    if (!rest)
        rest = strptime(text, "%Y-%m-%d", &tm);
    if (!rest)
        return false;
    if (*rest == '.')
        for (rest++; isdigit((unsigned char)*rest); rest++, unit /= 10)
            fraction += (*rest - '0') * unit;
    if (*rest == 'Z')
        rest++;
    *ret_us = (int64_t)timegm(&tm) * 1000000 + fraction;
    return *rest == 0;
}

int tl__parse_start(const char *option, const char *text, tl_subscribe_options *options)
{
    uint64_t position;

    if (!text || strcmp(text, "end") == 0) {
        options->start = TL_START_END;
    } else if (strcmp(text, "beginning") == 0) {
        options->start = TL_START_BEGINNING;
    } else if (tl__parse_count(text, &position)) {
        options->start = TL_START_POSITION;
        options->start_value = (int64_t)position;
    } else if (parse_time(text, &options->start_value)) {
        options->start = TL_START_TIME;
    } else {
        return tl__fail(TL_E_INVALID, "times are UTC: 2026-11-20 or 2026-11-20T21:40:00Z",
                        "--%s is beginning, end, a position or a time, not \"%s\"", option, text);
    }
    return 0;
}
