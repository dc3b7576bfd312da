/*
 * command.c: parse the command line by the command table. Knows nothing of what commands do.
 */
#include "command.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <trunkline/trunkline.h>

#include "out.h"

const struct tl__option tl__global_options[] = {
    {"db", 0, "CONNINFO",
     "database (URI or key=value); else TRUNKLINE_DB, DATABASE_URL, PGHOST and the like, else an "
     "embedded PostgreSQL"},
    {"schema", 0, "NAME", "schema of Trunkline in that database (TRUNKLINE_SCHEMA; trunkline)"},
    {"json", 0, NULL, "machine-readable results"},
    {"quiet", 'q', NULL, "no progress and no notes on stderr"},
    {"verbose", 'v', NULL, "say more on stderr"},
    {"help", 'h', NULL, "show help and exit"},
    {"version", 0, NULL, "show the version and exit"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command *tl__command_find(const char *name)
{
    for (size_t i = 0; tl__commands[i]; i++)
        if (strcmp(tl__commands[i]->name, name) == 0)
            return tl__commands[i];
    return NULL;
}

/* ------------------------------------------------------------------------------------ values -- */

bool tl__parse_count(const char *text, uint64_t *ret)
{
    if (!*text || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    unsigned long long n = strtoull(text, NULL, 10);
    if (errno || n > INT64_MAX)
        return false;
    *ret = n;
    return true;
}

/* Microseconds in a unit of `len` bytes; 0: there is no such unit. */
static uint64_t unit_us(const char *unit, size_t len)
{
    static const struct {
        const char *name;
        uint64_t us;
    } units[] = {{"us", 1},         {"ms", 1000},      {"s", 1000000},    {"m", 60000000},
                 {"min", 60000000}, {"h", 3600000000}, {"d", 86400000000}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strlen(units[i].name) == len && memcmp(units[i].name, unit, len) == 0)
            return units[i].us;
    return 0;
}

bool tl__parse_duration_us(const char *text, uint64_t *ret_us)
{
    static const char decimal[] = "0123456789";
    uint64_t sum = 0, part;
    if (strspn(text, decimal) == strlen(text)) { /* a number alone is seconds */
        if (!tl__parse_count(text, &part) || __builtin_mul_overflow(part, 1000000, ret_us))
            return false;
        return *ret_us <= INT64_MAX;
    }
    while (*text) {
        size_t digits = strspn(text, decimal), letters = strcspn(text + digits, decimal);
        if (digits == 0 || digits > 15)
            return false;
        if (__builtin_mul_overflow(strtoull(text, NULL, 10), unit_us(text + digits, letters),
                                   &part) ||
            __builtin_add_overflow(sum, part, &sum) || unit_us(text + digits, letters) == 0)
            return false;
        text += digits + letters;
    }
    *ret_us = sum;
    return sum <= INT64_MAX;
}

/* By hand, since strtod() listens to the locale. */
bool tl__parse_rate(const char *text, double *ret)
{
    double value = 0, unit = 1;
    bool is_fraction = false;
    if (!*text || strlen(text) > 20)
        return false;
    for (; *text; text++) {
        if (*text == '.' && !is_fraction && text[1]) {
            is_fraction = true;
            continue;
        }
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (*text - '0');
        unit *= is_fraction ? 10 : 1;
    }
    *ret = value / unit;
    return value > 0;
}

bool tl__choice_has(const char *choices, const char *text)
{
    size_t len = strlen(text);
    for (const char *at = choices; len > 0; at++) {
        size_t n = strcspn(at, "|");
        if (n == len && memcmp(at, text, len) == 0)
            return true;
        at += n;
        if (!*at)
            break;
    }
    return false;
}

bool tl__operand_next(const char **cursor, struct tl__operand *ret)
{
    const char *word = *cursor ? *cursor + strspn(*cursor, " ") : "";
    size_t n = strcspn(word, " ");
    if (n == 0)
        return false;
    *cursor = word + n;
    ret->is_optional = word[0] == '[';
    if (ret->is_optional) {
        word++;
        n -= 2;
    }
    assert(n < sizeof ret->name);
    memcpy(ret->name, word, n);
    ret->name[n] = 0;
    ret->is_choice = strchr(ret->name, '|') != NULL;
    return true;
}

/* ------------------------------------------------------------------------------------ parser -- */

static const struct tl__option *find_in(const struct tl__option *options, const char *name,
                                        size_t len, char letter)
{
    for (; options && options->name; options++) {
        if (letter ? options->letter == letter
                   : strlen(options->name) == len && memcmp(options->name, name, len) == 0)
            return options;
    }
    return NULL;
}

static const struct tl__option *find_option(const struct tl__command *command, const char *name,
                                            size_t len, char letter)
{
    const struct tl__option *option = NULL;
    if (command)
        option = find_in(command->options, name, len, letter);
    return option ? option : find_in(tl__global_options, name, len, letter);
}

static int usage_hint(const struct tl__command *command, const char *format, const char *a,
                      const char *b)
{
    char message[512], hint[128];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(message, sizeof message, format, a, b); /* the callers below, in this file, own it */
#pragma GCC diagnostic pop
    snprintf(hint, sizeof hint, "see trunkline %s%s--help", command ? command->name : "",
             command ? " " : "");
    tl__error(message, NULL, hint);
    return tl_status_exit_code(TL_E_INVALID);
}

static int check_value(const struct tl__command *command, const struct tl__option *option,
                       const char *value)
{
    uint64_t ignored;
    if (strcmp(option->value, "N") == 0 && !tl__parse_count(value, &ignored))
        return usage_hint(command, "--%s takes a whole number, not \"%s\"", option->name, value);
    if (strcmp(option->value, "DURATION") == 0 && !tl__parse_duration_us(value, &ignored))
        return usage_hint(command,
                          "--%s takes a duration such as 250ms, 30s, 5m, 2h or 7d, not "
                          "\"%s\"",
                          option->name, value);
    double rate;
    if (strcmp(option->value, "RATE") == 0 && !tl__parse_rate(value, &rate))
        return usage_hint(command,
                          "--%s takes a number a second above 0 such as 20 or 0.5, not \"%s\"",
                          option->name, value);
    if (strchr(option->value, '|') && option->value[0] >= 'a' &&
        !tl__choice_has(option->value, value)) {
        /* A choice may end in an upper-case word that stands for any other value. */
        const char *last = strrchr(option->value, '|') + 1;
        if (!(*last >= 'A' && *last <= 'Z'))
            return usage_hint(command, "--%s is one of %s", option->name, option->value);
    }
    return 0;
}

static int add_value(struct tl__args *args, const struct tl__option *option, const char *value)
{
    if (args->value_count == TL__MAX_VALUES)
        return usage_hint(args->command, "too many options at --%s%s", option->name, "");
    args->values[args->value_count].option = option;
    args->values[args->value_count].value = value;
    args->value_count++;
    return 0;
}

/* Parse the option at argv[*i], moving *i over its value. */
static int parse_option(int argc, char **argv, int *i, struct tl__args *args)
{
    const char *word = argv[*i];
    bool is_long = word[1] == '-';
    const char *name = word + (is_long ? 2 : 1);
    size_t len = is_long ? strcspn(name, "=") : 1;
    const char *value = is_long ? (name[len] ? name + len + 1 : NULL) : (name[1] ? name + 1 : NULL);
    const struct tl__option *option = find_option(args->command, name, len, is_long ? 0 : name[0]);
    if (!option)
        return usage_hint(args->command, "unknown option %s%s", word, "");
    if (!option->value) {
        if (value && is_long)
            return usage_hint(args->command, "--%s takes no value%s", option->name, "");
        int rc = add_value(args, option, NULL);
        if (rc == 0 && value) { /* -qv */
            char *rest = argv[*i];
            rest[1] = rest[2];
            memmove(rest + 2, rest + 3, strlen(rest + 3) + 1);
            return parse_option(argc, argv, i, args);
        }
        return rc;
    }
    if (!value) {
        if (*i + 1 >= argc)
            return usage_hint(args->command, "--%s needs a value: %s", option->name, option->value);
        value = argv[++*i];
    }
    int rc = check_value(args->command, option, value);
    return rc ? rc : add_value(args, option, value);
}

static int check_operands(const struct tl__args *args)
{
    const char *cursor = args->command->operands;
    struct tl__operand operand;
    int n = 0;
    for (; tl__operand_next(&cursor, &operand); n++) {
        const char *given = tl__args_operand(args, n);
        if (!given && !operand.is_optional)
            return usage_hint(args->command, "%s needs %s", args->command->name, operand.name);
        if (given && operand.is_choice && !tl__choice_has(operand.name, given))
            return usage_hint(args->command, "\"%s\" is not one of %s", given, operand.name);
    }
    if (args->operand_count > n)
        return usage_hint(args->command, "unexpected argument \"%s\"%s", args->operands[n], "");
    return 0;
}

/* The command is the first word that is neither an option nor a global option's value. */
static const char *find_command_word(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (word[0] != '-' || !word[1])
            return word;
        if (word[1] == '-' && !strchr(word, '=')) {
            const struct tl__option *option =
                find_in(tl__global_options, word + 2, strlen(word + 2), 0);
            if (option && option->value)
                i++;
        }
    }
    return NULL;
}

int tl__args_parse(int argc, char **argv, struct tl__args *args, bool *ret_done)
{
    *args = (struct tl__args){0};
    *ret_done = true;
    const char *command_word = find_command_word(argc, argv);
    bool is_help_command = command_word && strcmp(command_word, "help") == 0;
    if (command_word && !is_help_command) {
        args->command = tl__command_find(command_word);
        if (!args->command)
            return usage_hint(NULL, "no such command: %s%s", command_word, "");
    }
    bool options_ended = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (word == command_word) {
            continue;
        } else if (!options_ended && strcmp(word, "--") == 0) {
            options_ended = true;
        } else if (!options_ended && word[0] == '-' && word[1]) {
            int rc = parse_option(argc, argv, &i, args);
            if (rc)
                return rc;
        } else if (args->operand_count == TL__MAX_OPERANDS) {
            return usage_hint(args->command, "unexpected argument \"%s\"%s", word, "");
        } else {
            args->operands[args->operand_count++] = word;
        }
    }
    if (is_help_command && args->operand_count > 0) {
        args->command = tl__command_find(args->operands[0]);
        if (!args->command)
            return usage_hint(NULL, "no such command: %s%s", args->operands[0], "");
    }
    if (tl__args_has(args, "version")) {
        args->command = tl__command_find("version");
        *ret_done = false;
        return 0;
    }
    if (is_help_command || !args->command || tl__args_has(args, "help")) {
        if (args->command)
            tl__help_command(args->command);
        else
            tl__help_program();
        return 0;
    }
    int rc = check_operands(args);
    *ret_done = rc != 0;
    return rc;
}

/* --------------------------------------------------------------------------------- accessors -- */

const char *tl__args_operand(const struct tl__args *args, int i)
{
    return i < args->operand_count ? args->operands[i] : NULL;
}

bool tl__args_has(const struct tl__args *args, const char *name)
{
    for (int i = 0; i < args->value_count; i++)
        if (strcmp(args->values[i].option->name, name) == 0)
            return true;
    return false;
}

const char *tl__args_text(const struct tl__args *args, const char *name)
{
    assert(!args->command || find_option(args->command, name, strlen(name), 0));
    for (int i = args->value_count - 1; i >= 0; i--)
        if (strcmp(args->values[i].option->name, name) == 0)
            return args->values[i].value;
    return NULL;
}

uint64_t tl__args_count(const struct tl__args *args, const char *name, uint64_t fallback)
{
    const char *text = tl__args_text(args, name);
    uint64_t n = fallback;
    if (text && !tl__parse_count(text, &n))
        return fallback;
    return n;
}

uint64_t tl__args_duration_us(const struct tl__args *args, const char *name, uint64_t fallback_us)
{
    const char *text = tl__args_text(args, name);
    uint64_t us = fallback_us;
    if (text && !tl__parse_duration_us(text, &us))
        return fallback_us;
    return us;
}

double tl__args_rate(const struct tl__args *args, const char *name)
{
    const char *text = tl__args_text(args, name);
    double rate = 0;
    if (text && !tl__parse_rate(text, &rate))
        return 0;
    return rate;
}

int tl__args_check_action(const struct tl__args *args, const char *action,
                          const struct tl__goes_with *list)
{
    for (; list->option; list++)
        if (tl__args_has(args, list->option) && !tl__choice_has(list->actions, action))
            return usage_hint(args->command, "--%s goes with %s", list->option, list->actions);
    return 0;
}
