/*
 * pattern.c: event types and patterns: what is well-formed and what matches. The SQL functions
 * type_problem, pattern_problem and matches give the same answers; a test compares them.
 */
#include "internal.h"

#include <string.h>

static const char *segment_end(const char *segment)
{
    return segment + strcspn(segment, ".");
}

/* What types and patterns have in common; NULL when fine. */
static const char *shape_problem(const char *text)
{
    size_t len = text == NULL ? 0 : strlen(text);

    if (len == 0)
        return "is empty";
    if (len > TL_MAX_TYPE_BYTES)
        return "is longer than 255 bytes";
    if (text[0] == '.' || text[len - 1] == '.' || strstr(text, "..") != NULL)
        return "has an empty segment";
    return NULL;
}

static const char *type_problem(const char *type)
{
    const char *problem = shape_problem(type);

    if (problem == NULL && strchr(type, '*') != NULL)
        problem = "contains *";
    return problem;
}

static const char *pattern_problem(const char *pattern)
{
    const char *problem = shape_problem(pattern);

    for (const char *segment = pattern; problem == NULL;) {
        const char *end = segment_end(segment);
        size_t len = (size_t)(end - segment);
        bool is_wild = segment[0] == '*' && (len == 1 || (len == 2 && segment[1] == '*'));

        if ((memchr(segment, '*', len) != NULL && !is_wild) ||
            (is_wild && len == 2 && *end != '\0'))
            problem = "has * beside other characters of a segment, or ** before its end";
        if (*end == '\0')
            break;
        segment = end + 1;
    }
    return problem;
}

static tl_status give(const char *problem, const char **why)
{
    if (problem == NULL)
        return TL_OK;
    if (why != NULL)
        *why = problem;
    return TL_E_INVALID;
}

tl_status tl_type_check(const char *type, const char **why)
{
    return give(type_problem(type), why);
}

tl_status tl_pattern_check(const char *pattern, const char **why)
{
    return give(pattern_problem(pattern), why);
}

bool tl_pattern_matches(const char *pattern, const char *type)
{
    if (pattern_problem(pattern) != NULL || type_problem(type) != NULL)
        return false;
    if (strcmp(pattern, "*") == 0)
        return true;
    for (;;) {
        const char *pattern_end = segment_end(pattern);
        const char *type_end = segment_end(type);
        size_t len = (size_t)(pattern_end - pattern);
        bool is_any = pattern[0] == '*';

        if (is_any && len == 2) /* last in its pattern; one segment at least is there */
            return true;
        if (!is_any && (len != (size_t)(type_end - type) || memcmp(pattern, type, len) != 0))
            return false;
        if (*pattern_end == '\0' || *type_end == '\0')
            return *pattern_end == *type_end;
        pattern = pattern_end + 1;
        type = type_end + 1;
    }
}
