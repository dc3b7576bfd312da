/*
 * cmd_completion.c: trunkline completion: scripts for bash and zsh, made from the command table.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"

static void print_words(const char *choices)
{
    for (; *choices; choices++)
        if (*choices == '|')
            putchar(' ');
        else if (!isupper((unsigned char)*choices))
            putchar(*choices);
}

static bool is_choices(const char *value)
{
    return value && strchr(value, '|') && islower((unsigned char)*value);
}

static void print_option_words(const struct tl__option *option)
{
    for (; option && option->name; option++)
        printf(" --%s", option->name);
}

/* --------------------------------------------------------------------------------------- bash -- */

static void print_bash_values(const char *command, const struct tl__option *option)
{
    for (; option && option->name; option++) {
        if (!option->value)
            continue;
        printf("        %s:--%s", command, option->name);
        if (option->letter)
            printf("|%s:-%c", command, option->letter);
        if (is_choices(option->value)) {
            printf(") COMPREPLY=($(compgen -W '");
            print_words(option->value);
            printf("' -- \"$word\")); return ;;\n");
        } else if (strcmp(option->value, "FILE") == 0) {
            printf(") compopt -o filenames 2>/dev/null || true; COMPREPLY=($(compgen -f -- "
                   "\"$word\")); return ;;\n");
        } else {
            printf(") return ;;\n");
        }
    }
}

static void print_bash(void)
{
    printf("# bash completion of trunkline; made by: trunkline completion bash\n"
           "_trunkline() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    local command= i\n"
           "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
           "        case ${COMP_WORDS[i]} in\n"
           "        --db | --schema) ((i++)) ;;\n"
           "        -*) ;;\n"
           "        *) command=${COMP_WORDS[i]}; break ;;\n"
           "        esac\n"
           "    done\n"
           "    COMPREPLY=()\n"
           "    case $command:$before in\n"
           "        *:--db | *:--schema) return ;;\n");
    for (size_t i = 0; tl__commands[i]; i++)
        print_bash_values(tl__commands[i]->name, tl__commands[i]->options);
    printf("    esac\n"
           "    local options='");
    print_option_words(tl__global_options);
    printf("' words=\n"
           "    case $command in\n"
           "        '') words='help");
    for (size_t i = 0; tl__commands[i]; i++)
        printf(" %s", tl__commands[i]->name);
    printf("' ;;\n");
    for (size_t i = 0; tl__commands[i]; i++) {
        const struct tl__command *command = tl__commands[i];
        const char *cursor = command->operands;
        struct tl__operand operand;
        printf("        %s) options+='", command->name);
        print_option_words(command->options);
        printf("'");
        if (tl__operand_next(&cursor, &operand) && operand.is_choice) {
            printf("; ((COMP_CWORD == i + 1)) && words='");
            print_words(operand.name);
            printf("'");
        }
        printf(" ;;\n");
    }
    printf("        help) words='");
    for (size_t i = 0; tl__commands[i]; i++)
        printf(" %s", tl__commands[i]->name);
    printf("' ;;\n"
           "    esac\n"
           "    [[ $word == -* ]] && words=$options\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
           "}\n"
           "complete -F _trunkline trunkline\n");
}

/* ---------------------------------------------------------------------------------------- zsh -- */

/* Text inside '…[…]': what zsh or the quotes would read is escaped. */
static void print_zsh_text(const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            printf("'\\''");
        else if (strchr("[]:\\", *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void print_zsh_options(const struct tl__option *option, const char *indent)
{
    for (; option && option->name; option++) {
        printf("%s'*--%s%s[", indent, option->name, option->value ? "=" : "");
        print_zsh_text(option->help);
        putchar(']');
        if (is_choices(option->value)) {
            printf(":%s:(", option->name);
            print_words(option->value);
            putchar(')');
        } else if (option->value && strcmp(option->value, "FILE") == 0) {
            printf(":file:_files");
        } else if (option->value) {
            printf(":");
            print_zsh_text(option->value);
            printf(": ");
        }
        printf("' \\\n");
    }
}

static void print_zsh(void)
{
    printf("#compdef trunkline\n"
           "# zsh completion of trunkline; made by: trunkline completion zsh\n"
           "_trunkline() {\n"
           "    local curcontext=$curcontext state line\n"
           "    local -a commands global\n"
           "    commands=(\n");
    for (size_t i = 0; tl__commands[i]; i++) {
        printf("        '%s:", tl__commands[i]->name);
        print_zsh_text(tl__commands[i]->summary);
        printf("'\n");
    }
    printf("    )\n"
           "    _arguments -C \\\n");
    print_zsh_options(tl__global_options, "        ");
    printf("        '1:command:->command' '*::argument:->argument'\n"
           "    case $state in\n"
           "    command) _describe command commands ;;\n"
           "    argument)\n"
           "        case $words[1] in\n");
    for (size_t i = 0; tl__commands[i]; i++) {
        const struct tl__command *command = tl__commands[i];
        const char *cursor = command->operands;
        struct tl__operand operand;
        printf("        %s)\n            _arguments \\\n", command->name);
        print_zsh_options(command->options, "                ");
        print_zsh_options(tl__global_options, "                ");
        if (tl__operand_next(&cursor, &operand) && operand.is_choice) {
            printf("                '1:action:(");
            print_words(operand.name);
            printf(")' \\\n");
        }
        printf("                '*: :' ;;\n");
    }
    printf("        esac ;;\n"
           "    esac\n"
           "}\n"
           "if [[ $funcstack[1] == _trunkline ]]; then _trunkline \"$@\"; else compdef _trunkline "
           "trunkline; fi\n");
}

static int run(struct tl__args *args)
{
    if (strcmp(tl__args_operand(args, 0), "bash") == 0)
        print_bash();
    else
        print_zsh();
    return 0;
}

const struct tl__command tl__cmd_completion = {
    .name = "completion",
    .operands = "bash|zsh",
    .summary = "print a completion script for your shell",
    .examples = "  source <(trunkline completion bash)\n"
                "  trunkline completion zsh > ~/.zfunc/_trunkline",
    .run = run,
};
