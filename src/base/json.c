/* json.c: see json.h. */
#include "json.h"

#include <string.h>

/* Two-character escape of a byte, or 0 when it has none. */
static char short_escape(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

void tl__json_add_string(struct tl__buf *b, const char *text, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    size_t plain_from = 0;

    tl__buf_add_char(b, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        char escaped;

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        escaped = short_escape(c);
        tl__buf_add(b, text + plain_from, i - plain_from);
        plain_from = i + 1;
        if (escaped != 0) {
            char pair[2] = {'\\', escaped};

            tl__buf_add(b, pair, sizeof pair);
        } else {
            char code[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};

            tl__buf_add(b, code, sizeof code);
        }
    }
    tl__buf_add(b, text + plain_from, len - plain_from);
    tl__buf_add_char(b, '"');
}

void tl__json_add_text(struct tl__buf *b, const char *text)
{
    if (text == NULL)
        tl__buf_add(b, "null", 4);
    else
        tl__json_add_string(b, text, strlen(text));
}

void tl__json_add_name(struct tl__buf *b, const char *name)
{
    if (b->len > 0 && b->data[b->len - 1] != '{' && b->data[b->len - 1] != '[')
        tl__buf_add_char(b, ',');
    tl__json_add_text(b, name);
    tl__buf_add_char(b, ':');
}
