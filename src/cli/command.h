/*
 * command.h: the one table that the parser, --help and the shell completions are made from.
 * Each cmd_<name>.c defines one `struct tl__command`; commands.c lists them. For src/cli only.
 */
#ifndef TL_CLI_COMMAND_H
#define TL_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The placeholder of an option's value says what the parser accepts: NULL is a flag, "a|b" a choice,
 * "N" a whole number, "DURATION" 250ms, 30s (or 30), 1m30s, 2h, 7d, "RATE" a number above 0 such as
 * 0.5; anything else is text ("FILE" completes file names).
 */
struct tl__option {
    const char *name;
    char letter; /* 0: none */
    const char *value;
    const char *help;
};

struct tl__args;

struct tl__command {
    const char *name;
    /* Words: NAME is required, [NAME] may be left out, a|b is a choice. Parser and help read it. */
    const char *operands;
    const char *summary; /* one line, lower case, no period */
    const char *details; /* paragraphs for --help; NULL: none */
    const char *examples;
    const struct tl__option *options;  /* ends with a NULL name; NULL: none */
    int (*run)(struct tl__args *args); /* exit code */
};

/* All commands in the order of --help; ends with NULL. */
extern const struct tl__command *const tl__commands[];
/* Options that every command takes. */
extern const struct tl__option tl__global_options[];

const struct tl__command *tl__command_find(const char *name);

#define TL__MAX_OPERANDS 5
#define TL__MAX_VALUES 64

struct tl__args {
    const struct tl__command *command;
    const char *operands[TL__MAX_OPERANDS];
    int operand_count;
    struct {
        const struct tl__option *option;
        const char *value; /* NULL: flag */
    } values[TL__MAX_VALUES];
    int value_count;
};

/*
 * Parse argv (argv[0] is the program). Returns 0, or the exit code after it has printed an error,
 * a help text or the version; then *ret_done is true and there is nothing more to do.
 */
int tl__args_parse(int argc, char **argv, struct tl__args *args, bool *ret_done);

/* Operand i, NULL when it was left out. */
const char *tl__args_operand(const struct tl__args *args, int i);
/* Last value of an option, NULL when absent. The name must stand in the command's table. */
const char *tl__args_text(const struct tl__args *args, const char *name);
bool tl__args_has(const struct tl__args *args, const char *name);
/* Value of an "N" or "DURATION" option (the parser has checked it), `fallback` when absent. */
uint64_t tl__args_count(const struct tl__args *args, const char *name, uint64_t fallback);
uint64_t tl__args_duration_us(const struct tl__args *args, const char *name, uint64_t fallback_us);

double tl__args_rate(const struct tl__args *args, const char *name); /* 0 when absent */

/* For commands with actions: which actions an option goes with ("a|b"). */
struct tl__goes_with {
    const char *option, *actions;
};
/* Is each option that was given one of the action's? Options that the list (ends with NULL) does
 * not name go with all. Returns 0 or an exit code after it printed an error. */
int tl__args_check_action(const struct tl__args *args, const char *action,
                          const struct tl__goes_with *list);

/* Whole text as a number, duration or rate; false: it is none (or does not fit). */
bool tl__parse_count(const char *text, uint64_t *ret);
bool tl__parse_duration_us(const char *text, uint64_t *ret_us);
bool tl__parse_rate(const char *text, double *ret);

/* One word of an operands string: its name or choices, and whether it may be left out. */
struct tl__operand {
    char name[64];
    bool is_optional, is_choice;
};
/* Next operand of *cursor (start with the operands string); false at the end. */
bool tl__operand_next(const char **cursor, struct tl__operand *ret);
/* Is `text` one of the words in "a|b|c"? */
bool tl__choice_has(const char *choices, const char *text);

void tl__help_program(void);
void tl__help_command(const struct tl__command *command);

#endif
