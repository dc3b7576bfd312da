/* text.c: UTF-8, uuids and times: what base reads and writes. */
#include "fuzz.h"

#include "clock.h"
#include "str.h"
#include "uuid.h"

/* The table of RFC 3629, one code point at a time. */
static bool is_utf8(const unsigned char *p, size_t len)
{
    while (len > 0) {
        size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        uint32_t c = n == 1 ? p[0] : n == 0 || p[0] > 0xf7 ? UINT32_MAX : p[0] & (0x7fu >> n);

        if (n == 0 || n > len || c == UINT32_MAX)
            return false;
        for (size_t i = 1; i < n; i++) {
            if ((p[i] & 0xc0) != 0x80)
                return false;
            c = c << 6 | (p[i] & 0x3f);
        }
        if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return false;
        p += n;
        len -= n;
    }
    return true;
}

static void check_utf8(const char *exact, size_t len, char *text)
{
    size_t text_len = strlen(text), cut;
    char small[17];
    bool is_valid = tl__utf8_is_valid(exact, len);

    fuzz_check(is_valid == is_utf8((const unsigned char *)exact, len));
    cut = tl__utf8_cut(exact, len, len / 2);
    fuzz_check(cut <= len / 2 && (!is_valid || tl__utf8_is_valid(exact, cut)));
    tl__str_copy(small, sizeof small, text);
    fuzz_check(strlen(small) < sizeof small && memcmp(small, text, strlen(small)) == 0);
    tl__utf8_clean(text);
    fuzz_check(strlen(text) == text_len && tl__utf8_is_valid(text, text_len));
}

static void check_uuid(const char *text)
{
    char again[TL_UUID_TEXT_SIZE];
    uint8_t bytes[16], same[16];

    if (!tl__uuid_parse(text, bytes))
        return;
    tl__uuid_format(bytes, again);
    fuzz_check(strlen(text) == strlen(again));
    for (size_t i = 0; again[i] != '\0'; i++)
        fuzz_check(again[i] == (text[i] >= 'A' && text[i] <= 'F' ? text[i] + 32 : text[i]));
    fuzz_check(tl__uuid_parse(again, same) && memcmp(bytes, same, 16) == 0);
}

static void check_time(const char *exact, size_t len)
{
    char text[TL_TIME_TEXT_SIZE];
    int64_t at_us = 0;

    memcpy(&at_us, exact, len < sizeof at_us ? len : sizeof at_us);
    tl__time_format(at_us, text);
    fuzz_check(strlen(text) < TL_TIME_TEXT_SIZE && text[strlen(text) - 1] == 'Z');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    size_t len;
    char *exact = fuzz_exact(&in, &len);
    char *text = fuzz_copy(data, strnlen((const char *)data, size));

    check_uuid(text);
    check_utf8(exact, len, text);
    check_time(exact, len);
    free(exact);
    free(text);
    return 0;
}
