/* uuid.c: see uuid.h. */
#include "uuid.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool has_hyphen_before(int byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

bool tl__uuid_parse(const char *text, uint8_t ret_bytes[16])
{
    uint8_t bytes[16];

    for (int i = 0; i < 16; i++) {
        int high, low;

        if (has_hyphen_before(i) && *text++ != '-')
            return false;
        high = hex_value(text[0]);
        low = high < 0 ? -1 : hex_value(text[1]);
        if (low < 0)
            return false;
        bytes[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0')
        return false;
    for (int i = 0; i < 16; i++)
        ret_bytes[i] = bytes[i];
    return true;
}

void tl__uuid_format(const uint8_t bytes[16], char ret_text[TL_UUID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    char *p = ret_text;

    for (int i = 0; i < 16; i++) {
        if (has_hyphen_before(i))
            *p++ = '-';
        *p++ = digits[bytes[i] >> 4];
        *p++ = digits[bytes[i] & 15];
    }
    *p = '\0';
}
