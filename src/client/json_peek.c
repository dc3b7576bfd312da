/* json_peek.c: one member of a JSON object, found by skipping what stands before it. */
#include "json_peek.h"

#include <string.h>

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

/* Behind the string that begins at p; NULL when it has no end. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end; p++) {
        if (*p == '\\' && p + 1 < end)
            p++;
        else if (*p == '"')
            return p + 1;
    }
    return NULL;
}

/* Behind the value that begins at p; NULL when there is none or it has no end. */
static const char *skip_value(const char *p, const char *end)
{
    size_t depth = 0;

    if (p < end && *p != '"' && *p != '{' && *p != '[') {
        const char *start = p;

        while (p < end && *p != ',' && *p != '}' && *p != ']' && skip_space(p, end) == p)
            p++;
        return p > start ? p : NULL;
    }
    while (p != NULL && p < end) {
        if (*p == '"') {
            p = skip_string(p, end);
        } else {
            if (*p == '{' || *p == '[')
                depth++;
            else if (*p == '}' || *p == ']')
                depth--;
            p++;
        }
        if (depth == 0)
            return p;
    }
    return NULL;
}

bool tl__json_member(const char *text, size_t len, const char *name, const char **ret_value,
                     size_t *ret_len)
{
    const char *end = text + len;
    const char *p = skip_space(text, end);
    size_t name_len = strlen(name);

    if (p == end || *p != '{')
        return false;
    for (p = skip_space(p + 1, end); p < end && *p == '"'; p = skip_space(p, end)) {
        const char *key = p + 1;
        const char *value;
        bool is_it;

        p = skip_string(p, end);
        if (p == NULL)
            return false;
        is_it = (size_t)(p - 1 - key) == name_len && memcmp(key, name, name_len) == 0;
        p = skip_space(p, end);
        if (p == end || *p != ':')
            return false;
        value = skip_space(p + 1, end);
        p = skip_value(value, end);
        if (p == NULL)
            return false;
        if (is_it) {
            *ret_value = value;
            *ret_len = (size_t)(p - value);
            return true;
        }
        p = skip_space(p, end);
        if (p == end || *p != ',')
            return false;
        p++;
    }
    return false;
}

bool tl__json_member_i64(const char *text, size_t len, const char *name, int64_t *ret)
{
    const char *value;
    size_t value_len;
    int64_t number = 0;
    bool is_negative;

    if (!tl__json_member(text, len, name, &value, &value_len))
        return false;
    is_negative = value_len > 0 && value[0] == '-';
    if (is_negative) {
        value++;
        value_len--;
    }
    if (value_len < 1)
        return false;
    for (size_t i = 0; i < value_len; i++) {
        if (value[i] < '0' || value[i] > '9' || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, value[i] - '0', &number))
            return false;
    }
    *ret = is_negative ? -number : number;
    return true;
}
