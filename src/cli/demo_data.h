/*
 * demo_data.h: the files that are built into the demo (tools/embed): examples/data and demo.sql.
 */
#ifndef TL_CLI_DEMO_DATA_H
#define TL_CLI_DEMO_DATA_H

#include <stddef.h>

struct tl__demo_file {
    const char *name;
    const char *text;
    size_t len;
};

extern const struct tl__demo_file tl__demo_files[]; /* sorted by name: demo.sql, github-… */
extern const size_t tl__demo_files_count;

#endif
