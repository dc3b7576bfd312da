/*
 * start.c: see start.h.
 */
#define _XOPEN_SOURCE 700
#include "start.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "out.h"

enum { DATE_LEN = 10, TIME_LEN = 19 };

/* "2026-11-20T21:40:01Z", with a fraction and without the Z as well; UTC. */
static bool parse_time(const char *text, int64_t *ret_us)
{
    struct tm tm = {0}, given;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int64_t fraction = 0, unit = 100000, seconds;

    if (!rest)
        rest = strptime(text, "%Y-%m-%d", &tm);
    /* strptime() would have white space and fewer digits, too */
    if (!rest || (rest - text != DATE_LEN && rest - text != TIME_LEN) ||
        strpbrk(text, " \t\n\v\f\r"))
        return false;
    if (*rest == '.' && isdigit((unsigned char)rest[1]))
        for (rest++; isdigit((unsigned char)*rest); rest++, unit /= 10)
            fraction += (*rest - '0') * unit;
    if (*rest == 'Z')
        rest++;
    given = tm;
    seconds = timegm(&tm); /* which makes 3 March of 31 February */
    if (*rest != 0 || given.tm_mday != tm.tm_mday || given.tm_sec != tm.tm_sec)
        return false;
    *ret_us = seconds * 1000000 + fraction;
    return true;
}

int tl__parse_start(const char *option, const char *text, tl_start *ret_start, int64_t *ret_value)
{
    uint64_t position;

    if (!text || strcmp(text, "end") == 0) {
        *ret_start = TL_START_END;
    } else if (strcmp(text, "beginning") == 0) {
        *ret_start = TL_START_BEGINNING;
    } else if (tl__parse_count(text, &position)) {
        *ret_start = TL_START_POSITION;
        *ret_value = (int64_t)position;
    } else if (parse_time(text, ret_value)) {
        *ret_start = TL_START_TIME;
    } else {
        return tl__fail(TL_E_INVALID, "times are UTC: 2026-11-20 or 2026-11-20T21:40:00Z",
                        "%s is beginning, end, a position or a time, not \"%s\"", option, text);
    }
    return 0;
}

int tl__parse_since(const struct tl__args *args, const char *option, int64_t *ret_us)
{
    const char *text = tl__args_text(args, option);
    uint64_t ago;

    *ret_us = 0;
    if (!text || parse_time(text, ret_us))
        return 0;
    if (!tl__parse_duration_us(text, &ago))
        return tl__fail(TL_E_INVALID, "times are UTC: 2026-11-20 or 2026-11-20T21:40:00Z",
                        "--%s is a time or how long ago, such as 2h, not \"%s\"", option, text);
    *ret_us = tl__wall_us() - (int64_t)ago;
    return 0;
}

int tl__parse_at(const struct tl__args *args, const char *option, int64_t *ret_us)
{
    const char *text = tl__args_text(args, option);

    *ret_us = 0;
    if (text && (!parse_time(text, ret_us) || *ret_us == 0))
        return tl__fail(TL_E_INVALID, "times are UTC: 2026-11-20 or 2026-11-20T21:40:00Z",
                        "--%s is a time, not \"%s\"", option, text);
    return 0;
}
