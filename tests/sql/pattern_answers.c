/*
 * pattern_answers.c: what the C matcher says. Reads lines of "pattern TAB type", both in hexadecimal,
 * and answers "t|problem of the pattern|problem of the type" each. For patterns.t.
 */
#include <trunkline/trunkline.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In place; the text is half as long. */
static char *from_hex(char *hex)
{
    size_t len = strlen(hex) / 2;

    for (size_t i = 0; i < len; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

        hex[i] = (char)strtol(pair, NULL, 16);
    }
    hex[len] = '\0';
    return hex;
}

int main(void)
{
    char line[4096];

    while (fgets(line, sizeof line, stdin) != NULL) {
        char *tab = strchr(line, '\t');
        const char *pattern, *type;
        const char *pattern_why = "", *type_why = "";

        if (tab == NULL)
            return 1;
        *tab = '\0';
        tab[1 + strcspn(tab + 1, "\n")] = '\0';
        pattern = from_hex(line);
        type = from_hex(tab + 1);
        (void)tl_pattern_check(pattern, &pattern_why);
        (void)tl_type_check(type, &type_why);
        printf("%c|%s|%s\n", tl_pattern_matches(pattern, type) ? 't' : 'f', pattern_why, type_why);
    }
    return 0;
}
