/* values.c: numbers, durations, rates and places as options have them, each against a slower reading. */
#include "fuzz.h"

#include <ctype.h>

#include "clock.h"
#include "command.h"
#include "start.h"

static bool is_number(const char *text, size_t len, unsigned __int128 *ret)
{
    *ret = 0;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        if (*ret < (unsigned __int128)1 << 100)
            *ret = *ret * 10 + (unsigned)(text[i] - '0');
    }
    return len > 0;
}

static void check_count(const char *text)
{
    unsigned __int128 wanted;
    uint64_t got;
    bool is_fine = is_number(text, strlen(text), &wanted) && wanted <= INT64_MAX;

    fuzz_check(tl__parse_count(text, &got) == is_fine);
    fuzz_check(!is_fine || got == (uint64_t)wanted);
}

/* "1m30s": a number and a unit, again and again; a number alone is seconds. */
static bool slow_duration(const char *text, unsigned __int128 *ret)
{
    static const struct {
        const char *name;
        uint64_t us;
    } units[] = {{"us", 1},         {"ms", 1000},      {"s", 1000000},    {"m", 60000000},
                 {"min", 60000000}, {"h", 3600000000}, {"d", 86400000000}};
    unsigned __int128 number;

    *ret = 0;
    if (is_number(text, strlen(text), &number)) {
        *ret = number * 1000000;
        return number <= INT64_MAX / 1000000;
    }
    if (*text == '\0')
        return false;
    while (*text != '\0') {
        size_t digits = 0, letters, i = 0;

        while (isdigit((unsigned char)text[digits]))
            digits++;
        if (!is_number(text, digits, &number) || digits > 15)
            return false;
        text += digits;
        for (letters = 0; text[letters] != '\0' && !isdigit((unsigned char)text[letters]);)
            letters++;
        while (i < 7 &&
               !(strlen(units[i].name) == letters && memcmp(units[i].name, text, letters) == 0))
            i++;
        if (i == 7)
            return false;
        *ret += number * units[i].us;
        if (*ret > INT64_MAX)
            return false;
        text += letters;
    }
    return true;
}

static void check_duration(const char *text)
{
    unsigned __int128 wanted;
    uint64_t got;
    bool is_fine = slow_duration(text, &wanted);

    fuzz_check(tl__parse_duration_us(text, &got) == is_fine);
    fuzz_check(!is_fine || got == (uint64_t)wanted);
}

static void check_rate(const char *text)
{
    char *end;
    double got, wanted;

    if (!tl__parse_rate(text, &got))
        return;
    fuzz_check(strspn(text, "0123456789.") == strlen(text));
    wanted = strtod(text, &end);
    fuzz_check(*end == '\0' && got > 0);
    fuzz_check(got > wanted * 0.999999 && got < wanted * 1.000001);
}

/* A time that is taken is one that the calendar has: written again it is the same. */
static void check_place(const char *text)
{
    tl_start start = TL_START_END;
    int64_t value = 0;
    char again[TL_TIME_TEXT_SIZE];
    size_t len;

    if (tl__parse_start("--from", text, &start, &value) != 0)
        return;
    switch (start) {
    case TL_START_END:
        fuzz_check(strcmp(text, "end") == 0);
        break;
    case TL_START_BEGINNING:
        fuzz_check(strcmp(text, "beginning") == 0);
        break;
    case TL_START_POSITION:
        fuzz_check(isdigit((unsigned char)text[0]) && value >= 0);
        break;
    default:
        tl__time_format(value, again);
        len = strcspn(text, ".Z");
        fuzz_check(len == 10 || len == 19);
        fuzz_check(memcmp(text, again, len) == 0);
        if (text[len] == '.') {
            size_t digits = strspn(text + len + 1, "0123456789");

            fuzz_check(digits > 0);
            fuzz_check(memcmp(text + len + 1, again + 20, digits < 6 ? digits : 6) == 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    char *text = fuzz_line(&in), *choices = fuzz_line(&in);

    check_count(text);
    check_duration(text);
    check_rate(text);
    check_place(text);
    if (tl__choice_has(choices, text))
        fuzz_check(*text != '\0' && strstr(choices, text) != NULL);
    free(text);
    free(choices);
    return 0;
}
