/* args.c: a command line, one word a line. What the parser lets through can be read by the accessors. */
#include "fuzz.h"

#include <trunkline/trunkline.h>

#include "command.h"
#include "out.h"

enum { MAX_WORDS = 80 };

/* The values of a command that runs are what its table says. */
static void check_values(const struct tl__args *args)
{
    for (int i = 0; i < args->value_count; i++) {
        const struct tl__option *option = args->values[i].option;
        const char *value = args->values[i].value;
        uint64_t number;
        double rate;

        fuzz_check((value == NULL) == (option->value == NULL));
        fuzz_check(tl__args_has(args, option->name));
        if (value == NULL)
            continue;
        fuzz_check(tl__args_text(args, option->name) != NULL);
        if (strcmp(option->value, "N") == 0)
            fuzz_check(tl__parse_count(value, &number));
        if (strcmp(option->value, "DURATION") == 0)
            fuzz_check(tl__parse_duration_us(value, &number));
        if (strcmp(option->value, "RATE") == 0)
            fuzz_check(tl__parse_rate(value, &rate) && tl__args_rate(args, option->name) > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char name[] = "trunkline";
    struct fuzz_input in = {data, data + size};
    char *argv[MAX_WORDS + 2] = {name}, *words[MAX_WORDS];
    struct tl__args args;
    bool is_done = false;
    int n = 0, rc;

    while (n < MAX_WORDS && in.at < in.end) {
        words[n] = fuzz_line(&in);
        argv[n + 1] = words[n];
        n++;
    }
    rc = tl__args_parse(n + 1, argv, &args, &is_done);
    fuzz_check(rc == 0 || rc == tl_status_exit_code(TL_E_INVALID));
    fuzz_check(is_done || (rc == 0 && args.command != NULL));
    fuzz_check(rc == 0 || is_done);
    if (!is_done) {
        fuzz_check(args.operand_count >= 0 && args.operand_count <= TL__MAX_OPERANDS);
        check_values(&args);
    }
    for (int i = 0; i < n; i++)
        free(words[i]);
    return 0;
}
