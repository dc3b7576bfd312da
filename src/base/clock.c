/* clock.c: see clock.h. */
#include "clock.h"

#include <stdio.h>
#include <time.h>

#define SECOND_US 1000000
#define DAY_US (86400LL * SECOND_US)

static int64_t clock_read_us(clockid_t id)
{
    struct timespec ts;

    (void)clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * SECOND_US + ts.tv_nsec / 1000;
}

uint64_t tl__clock_us(void)
{
    return (uint64_t)clock_read_us(CLOCK_MONOTONIC);
}

int64_t tl__wall_us(void)
{
    return clock_read_us(CLOCK_REALTIME);
}

uint64_t tl__deadline_us(uint64_t now_us, uint64_t timeout_us)
{
    return timeout_us > TL_FOREVER - now_us ? TL_FOREVER : now_us + timeout_us;
}

int tl__poll_ms(uint64_t now_us, uint64_t deadline_us)
{
    uint64_t left_us;

    if (deadline_us == TL_FOREVER)
        return -1;
    if (deadline_us <= now_us)
        return 0;
    left_us = deadline_us - now_us;
    return left_us >= (uint64_t)DAY_US ? (int)(DAY_US / 1000) : (int)((left_us + 999) / 1000);
}

/* Behind so many digits of a number. */
static char *put_digits(char *to, unsigned int number, int digits)
{
    for (int i = digits; i > 0; number /= 10)
        to[--i] = (char)('0' + number % 10);
    return to + digits;
}

void tl__time_format(int64_t at_us, char ret_text[TL_TIME_TEXT_SIZE])
{
    int64_t days = at_us / DAY_US;
    int64_t rest = at_us % DAY_US;
    int64_t era, year;
    unsigned int day_of_era, year_of_era, day_of_year, month_from_march, day, month, second;

    if (rest < 0) {
        rest += DAY_US;
        days--;
    }
    /* Days to a civil date in the proleptic Gregorian calendar, in eras of 400 years that start
     * on a first of March, so that the leap day is the last day of a year. */
    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    day_of_era = (unsigned int)(days - era * 146097);
    year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    month_from_march = (5 * day_of_year + 2) / 153;
    day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    year = era * 400 + year_of_era + (month <= 2);
    second = (unsigned int)(rest / SECOND_US);
    /* every event that is written as JSON has one, and printf would be the half of that */
    char *to = ret_text;
    if (year >= 0 && year <= 9999)
        to = put_digits(to, (unsigned int)year, 4);
    else
        to += snprintf(to, TL_TIME_TEXT_SIZE / 2, "%04lld", (long long)year);
    *to++ = '-';
    to = put_digits(to, month, 2);
    *to++ = '-';
    to = put_digits(to, day, 2);
    *to++ = 'T';
    to = put_digits(to, second / 3600, 2);
    *to++ = ':';
    to = put_digits(to, second / 60 % 60, 2);
    *to++ = ':';
    to = put_digits(to, second % 60, 2);
    *to++ = '.';
    to = put_digits(to, (unsigned int)(rest % SECOND_US), 6);
    *to++ = 'Z';
    *to = '\0';
}
