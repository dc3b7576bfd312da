/*
 * json_scan.c: see json_scan.h.
 */
#include "json_scan.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void skip_space(struct tl__json_scan *scan)
{
    while (scan->at < scan->end && strchr(" \t\r\n", *scan->at) && *scan->at)
        scan->at++;
}

static bool fail(struct tl__json_scan *scan, const char *problem)
{
    scan->problem = problem;
    return false;
}

static bool skip_string(struct tl__json_scan *scan)
{
    for (scan->at++; scan->at < scan->end; scan->at++) {
        if (*scan->at == '\\')
            scan->at++;
        else if (*scan->at == '"')
            return scan->at++, true;
    }
    return fail(scan, "string without an end");
}

/* To the end of one value, brackets balanced by number only. */
static bool skip_value(struct tl__json_scan *scan)
{
    const char *start = scan->at;
    size_t depth = 0;

    while (scan->at < scan->end) {
        char c = *scan->at;
        if (c == '"') {
            if (!skip_string(scan))
                return false;
        } else if (c == '{' || c == '[') {
            depth++;
            scan->at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                break;
            depth--;
            scan->at++;
        } else if (depth == 0 && (c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n')) {
            break;
        } else {
            scan->at++;
            continue;
        }
        if (depth == 0)
            break;
    }
    if (depth > 0)
        return fail(scan, "object or array without an end");
    return scan->at > start || fail(scan, "value expected");
}

void tl__json_scan_start(struct tl__json_scan *scan, const char *text, size_t len)
{
    *scan = (struct tl__json_scan){.at = text, .end = text + len};
}

static bool finish(struct tl__json_scan *scan)
{
    scan->at++;
    skip_space(scan);
    if (scan->at < scan->end)
        fail(scan, "text after the object");
    return false;
}

bool tl__json_scan_next(struct tl__json_scan *scan, struct tl__json_member *ret)
{
    skip_space(scan);
    if (!scan->is_inside) {
        if (scan->at >= scan->end || *scan->at != '{')
            return fail(scan, "not a JSON object");
        scan->at++;
        scan->is_inside = true;
        skip_space(scan);
        if (scan->at < scan->end && *scan->at == '}')
            return finish(scan);
    } else if (scan->is_after_member) {
        if (scan->at < scan->end && *scan->at == '}')
            return finish(scan);
        if (scan->at >= scan->end || *scan->at != ',')
            return fail(scan, "',' or '}' expected");
        scan->at++;
        skip_space(scan);
    }
    if (scan->at >= scan->end || *scan->at != '"')
        return fail(scan, "member name expected");
    ret->name = scan->at + 1;
    if (!skip_string(scan))
        return false;
    ret->name_len = (size_t)(scan->at - 1 - ret->name);
    skip_space(scan);
    if (scan->at >= scan->end || *scan->at != ':')
        return fail(scan, "':' expected");
    scan->at++;
    skip_space(scan);
    ret->value = scan->at;
    if (!skip_value(scan))
        return false;
    ret->value_len = (size_t)(scan->at - ret->value);
    scan->is_after_member = true;
    return true;
}

/* ------------------------------------------------------------------------------------ strings -- */

static int hex4(const char *p, const char *end)
{
    int value = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        const char *found = p[i] ? strchr(digits, p[i]) : NULL;
        if (!found)
            return -1;
        value = value * 16 + (int)((found - digits) % 16);
    }
    return value;
}

static char *put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

/* The code point of the escape at p ("\uXXXX", maybe a pair), 0 when it is none; moves *p. */
static uint32_t unicode_escape(const char **p, const char *end)
{
    int high = hex4(*p + 2, end);

    *p += 6;
    if (high < 0 || high == 0 || (high >= 0xdc00 && high <= 0xdfff))
        return 0;
    if (high < 0xd800 || high > 0xdbff)
        return (uint32_t)high;
    int low = end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u' ? hex4(*p + 2, end) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return 0;
    *p += 6;
    return 0x10000 + (((uint32_t)high & 0x3ff) << 10 | ((uint32_t)low & 0x3ff));
}

char *tl__json_string_dup(const char *value, size_t len)
{
    static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";

    if (len < 2 || value[0] != '"' || value[len - 1] != '"')
        return NULL;
    char *copy = malloc(len), *to = copy;
    const char *end = value + len - 1;
    for (const char *p = value + 1; copy && p < end;) {
        if (*p != '\\') {
            if (!*p)
                goto bad;
            *to++ = *p++;
            continue;
        }
        if (p + 1 < end && p[1] == 'u') {
            uint32_t c = unicode_escape(&p, end);
            if (!c)
                goto bad;
            to = put_utf8(to, c);
        } else {
            const char *found = p + 1 < end && p[1] ? strchr(plain, p[1]) : NULL;
            if (!found)
                goto bad;
            *to++ = meant[found - plain];
            p += 2;
        }
    }
    if (copy)
        *to = 0;
    return copy;
bad:
    free(copy);
    return NULL;
}
