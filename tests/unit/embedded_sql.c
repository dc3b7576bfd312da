/*
 * embedded_sql.c: the SQL text inside the library is the files of sql/, byte for byte, all of them,
 * sorted (MIG-1). What tools/embed does with odd bytes is proved by tests/cli/embed.t.
 */
#include "embedded_sql.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int is_sql(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return length > 4 && strcmp(entry->d_name + length - 4, ".sql") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void same_as_file(const struct tl__sql_file *embedded, const char *folder, const char *name)
{
    char path[4096];
    char *content = malloc(embedded->length + 1);
    FILE *file;

    assert_non_null(content);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_string_equal(embedded->name, name);
    file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(content, 1, embedded->length + 1, file), embedded->length);
    assert_memory_equal(content, embedded->text, embedded->length);
    assert_int_equal(embedded->text[embedded->length], '\0');
    fclose(file);
    free(content);
}

static void same_as_folder(const struct tl__sql_file *files, size_t count, const char *name)
{
    const char *source = getenv("TRUNKLINE_SOURCE");
    struct dirent **entries;
    char folder[2048];
    int found;

    assert_non_null(source);
    snprintf(folder, sizeof folder, "%s/sql/%s", source, name);
    found = scandir(folder, &entries, is_sql, by_bytes);
    assert_int_equal(found, (int)count);
    for (int i = 0; i < found; i++) {
        same_as_file(&files[i], folder, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
}

static void migrations_are_the_files(void **state)
{
    (void)state;
    same_as_folder(tl__sql_migrations, tl__sql_migrations_count, "migrations");
}

static void functions_are_the_files(void **state)
{
    (void)state;
    same_as_folder(tl__sql_functions, tl__sql_functions_count, "functions");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(migrations_are_the_files),
        cmocka_unit_test(functions_are_the_files),
    };

    return cmocka_run_group_tests_name("embedded_sql", tests, NULL, NULL);
}
