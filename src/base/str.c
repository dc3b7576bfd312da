/* str.c: see str.h. */
#include "str.h"

#include <stdint.h>
#include <string.h>

static bool is_continuation(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

size_t tl__utf8_cut(const char *text, size_t len, size_t limit)
{
    if (len <= limit)
        return len;
    while (limit > 0 && is_continuation((unsigned char)text[limit]))
        limit--;
    return limit;
}

bool tl__utf8_is_valid(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char *end = p + len;

    while (p < end) {
        unsigned char c = *p++;
        unsigned char least = 0x80, most = 0xbf; /* of the second byte */
        size_t more;

        if (c < 0x80) {
            uint64_t eight;

            /* ASCII, eight bytes at a time */
            while (end - p >= 8) {
                memcpy(&eight, p, 8);
                if ((eight & 0x8080808080808080u) != 0)
                    break;
                p += 8;
            }
            continue;
        }
        if (c >= 0xc2 && c <= 0xdf) {
            more = 1;
        } else if (c >= 0xe0 && c <= 0xef) {
            more = 2;
            if (c == 0xe0)
                least = 0xa0;
            else if (c == 0xed)
                most = 0x9f;
        } else if (c >= 0xf0 && c <= 0xf4) {
            more = 3;
            if (c == 0xf0)
                least = 0x90;
            else if (c == 0xf4)
                most = 0x8f;
        } else {
            return false;
        }
        if ((size_t)(end - p) < more || p[0] < least || p[0] > most)
            return false;
        for (size_t i = 1; i < more; i++) {
            if (!is_continuation(p[i]))
                return false;
        }
        p += more;
    }
    return true;
}

void tl__utf8_clean(char *text)
{
    size_t len = strlen(text);

    /* One pass over text that is fine, which is nearly all there is. */
    if (tl__utf8_is_valid(text, len))
        return;
    for (size_t i = 0; i < len;) {
        size_t size = 1;

        while (size < 4 && i + size < len && is_continuation((unsigned char)text[i + size]))
            size++;
        if (tl__utf8_is_valid(text + i, size)) {
            i += size;
        } else {
            text[i++] = '?';
        }
    }
}

void tl__str_copy(char *to, size_t size, const char *from)
{
    size_t len = tl__utf8_cut(from, strlen(from), size - 1);

    memcpy(to, from, len);
    to[len] = '\0';
}

bool tl__str_equal(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

size_t tl__i64_format(int64_t value, char ret_text[TL_I64_TEXT_SIZE])
{
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    char digits[TL_I64_TEXT_SIZE];
    size_t at = sizeof digits, len;

    digits[--at] = '\0';
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        digits[--at] = '-';
    len = sizeof digits - at;
    memcpy(ret_text, digits + at, len);
    return len - 1;
}
