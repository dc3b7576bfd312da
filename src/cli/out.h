/*
 * out.h: how the program speaks. Results go to stdout, everything else to stderr; passwords go
 * nowhere. For src/cli only.
 */
#ifndef TL_CLI_OUT_H
#define TL_CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <trunkline/trunkline.h>

/* Set once by main from -q and -v. */
extern bool tl__is_quiet;
extern bool tl__is_verbose;

/* "trunkline: error: …", "detail: …", "hint: …" on stderr; detail and hint may be NULL or "". */
void tl__error(const char *message, const char *detail, const char *hint);
/* The same with a formatted message; returns the exit code of the status. */
int tl__fail(tl_status status, const char *hint, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Report a failed call by its handle's error; returns the exit code of the status. */
int tl__fail_error(tl_status status, const tl_error *error);
int tl__fail_client(tl_status status, const tl_client *client);
/* "trunkline: …" on stderr unless -q. */
void tl__note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Flush stdout: 0, or the exit code after an error was printed (a full disk). A reader that went
 * away is no error. */
int tl__out_finish(void);

/* Remember a secret: whatever is printed to stderr from now on shows it as ****. */
void tl__secret_add(const char *secret);

/* A table: header, rows of the same width; printed aligned, control characters shown as '?'. */
struct tl__table;
struct tl__table *tl__table_new(int columns, const char *const *headers);
void tl__table_add(struct tl__table *t, const char *const *cells); /* copies; NULL prints "-" */
void tl__table_print(const struct tl__table *t, FILE *to);
struct tl__table *tl__table_free(struct tl__table *t);

/* Text without control characters, for a terminal. */
void tl__print_plain(FILE *to, const char *text, size_t max_columns);
/* Columns of the terminal on stdout, SIZE_MAX when it is none. */
size_t tl__out_columns(void);

/* One event for people: position, time, type, stream and version or key, data. */
void tl__print_event(const tl_event *e);
/* One event as a line of JSON. Returns false when there is no memory. */
bool tl__print_event_json(const tl_event *e);

/* Progress of long work, on stderr and only when that is a terminal. */
struct tl__progress {
    const char *what;
    uint64_t total; /* 0: unknown */
    uint64_t shown_at_us;
    bool is_on;
};
void tl__progress_start(struct tl__progress *p, const char *what, uint64_t total);
void tl__progress_update(struct tl__progress *p, uint64_t done, uint64_t count);
void tl__progress_end(struct tl__progress *p);

#endif
