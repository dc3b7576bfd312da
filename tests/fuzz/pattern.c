/* pattern.c: "pattern\ntype": checks and the matcher against a recursive one that is plain to see. */
#include "fuzz.h"

#include <trunkline/trunkline.h>

/* Of two well-formed ones. */
static bool naive_match(const char *pattern, const char *type)
{
    size_t p = strcspn(pattern, "."), t = strcspn(type, ".");

    if (strcmp(pattern, "**") == 0)
        return true;
    if (strncmp(pattern, "*", p) != 0 && (p != t || strncmp(pattern, type, p) != 0))
        return false;
    if (pattern[p] == '\0' || type[t] == '\0')
        return pattern[p] == type[t];
    return naive_match(pattern + p + 1, type + t + 1);
}

static bool is_well_formed(const char *text, bool is_pattern)
{
    size_t len = strlen(text);

    if (len < 1 || len > 255)
        return false;
    for (;;) {
        size_t n = strcspn(text, ".");
        size_t stars = strspn(text, "*");

        if (n == 0)
            return false;
        if (memchr(text, '*', n) != NULL &&
            !(is_pattern && stars == n && (n == 1 || (n == 2 && text[n] == '\0'))))
            return false;
        if (text[n] == '\0')
            return true;
        text += n + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    char *pattern = fuzz_line(&in), *type = fuzz_line(&in);
    bool is_pattern = tl_pattern_check(pattern, NULL) == TL_OK;
    bool is_type = tl_type_check(type, NULL) == TL_OK;
    bool is_match = tl_pattern_matches(pattern, type);
    const char *why = NULL;

    fuzz_check(is_pattern == is_well_formed(pattern, true));
    fuzz_check(is_type == is_well_formed(type, false));
    fuzz_check(is_match == (is_pattern && is_type &&
                            (strcmp(pattern, "*") == 0 || naive_match(pattern, type))));
    fuzz_check(tl_pattern_check(pattern, &why) == TL_OK || why != NULL);
    /* a type is a pattern of itself */
    fuzz_check(!is_type || tl_pattern_matches(type, type));
    free(pattern);
    free(type);
    return 0;
}
