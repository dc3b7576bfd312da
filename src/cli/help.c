/*
 * help.c: --help texts, made from the command table.
 */
#include <stdio.h>
#include <string.h>

#include "command.h"

enum { WIDTH = 96, OPTION_COLUMN = 28 };

/* Print text wrapped at WIDTH, its further lines indented. The first line starts at `column`. */
static void print_wrapped(const char *text, int column, int indent)
{
    bool is_space_due = false;

    while (*text) {
        size_t word = strcspn(text, " \n");
        int width = (int)word + is_space_due;
        if (is_space_due && column + width > WIDTH) {
            printf("\n%*s", indent, "");
            column = indent;
            is_space_due = false;
        }
        printf("%s%.*s", is_space_due ? " " : "", (int)word, text);
        column += (int)word + is_space_due;
        is_space_due = word > 0;
        text += word;
        if (*text == '\n') {
            printf("\n%*s", text[1] == '\n' || !text[1] ? 0 : indent, "");
            column = indent;
            is_space_due = false;
        }
        text += *text != 0;
    }
    putchar('\n');
}

static void print_options(const struct tl__option *option)
{
    for (; option && option->name; option++) {
        char left[64];
        int n =
            snprintf(left, sizeof left, "  %c%c%s--%s%s%s", option->letter ? '-' : ' ',
                     option->letter ? option->letter : ' ', option->letter ? ", " : "  ",
                     option->name, option->value ? " " : "", option->value ? option->value : "");
        if (n >= OPTION_COLUMN)
            printf("%s\n%*s", left, OPTION_COLUMN, "");
        else
            printf("%-*s", OPTION_COLUMN, left);
        print_wrapped(option->help, OPTION_COLUMN, OPTION_COLUMN);
    }
}

void tl__help_program(void)
{
    printf("trunkline: an event bus and event store in PostgreSQL\n\n"
           "usage: trunkline COMMAND [ARGUMENT…] [OPTION…]\n\ncommands:\n");
    for (size_t i = 0; tl__commands[i]; i++)
        printf("  %-15s %s\n", tl__commands[i]->name, tl__commands[i]->summary);
    printf("\noptions of every command:\n");
    print_options(tl__global_options);
    printf("\nWith no database configured, commands use a private PostgreSQL that they start "
           "themselves.\n`trunkline COMMAND --help` tells more; `trunkline demo` shows it "
           "working.\n");
}

void tl__help_command(const struct tl__command *command)
{
    char usage[256];

    snprintf(usage, sizeof usage, "usage: trunkline %s%s%s%s", command->name,
             command->operands ? " " : "", command->operands ? command->operands : "",
             command->options ? " [OPTION…]" : "");
    printf("trunkline %s: %s\n\n", command->name, command->summary);
    print_wrapped(usage, 0, 7);
    if (command->details) {
        putchar('\n');
        print_wrapped(command->details, 0, 0);
    }
    if (command->options) {
        printf("\noptions:\n");
        print_options(command->options);
    }
    printf("\noptions of every command:\n");
    print_options(tl__global_options);
    if (command->examples)
        printf("\nexamples:\n%s\n", command->examples);
}
