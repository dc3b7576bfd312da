/*
 * out.c: errors, notes, tables, events and progress; see out.h. Not for logs of the daemon.
 */
#include "out.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"

bool tl__is_quiet;
bool tl__is_verbose;

/* ------------------------------------------------------------------------------------ stderr -- */

static struct {
    char *text[16];
    size_t count;
} secrets;

void tl__secret_add(const char *secret)
{
    /* One or two bytes would blank out half of every message and hide nothing. */
    if (!secret || strlen(secret) < 3 ||
        secrets.count == sizeof secrets.text / sizeof *secrets.text)
        return;
    for (size_t i = 0; i < secrets.count; i++)
        if (strcmp(secrets.text[i], secret) == 0)
            return;
    char *copy = strdup(secret);
    if (copy)
        secrets.text[secrets.count++] = copy;
}

static size_t secret_at(const char *text)
{
    size_t longest = 0;
    for (size_t i = 0; i < secrets.count; i++) {
        size_t len = strlen(secrets.text[i]);
        if (len > longest && strncmp(text, secrets.text[i], len) == 0)
            longest = len;
    }
    return longest;
}

static void put_line(const char *label, const char *text)
{
    fprintf(stderr, "%s", label);
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '\n')
        len--;
    for (size_t i = 0; i < len;) {
        size_t hidden = secret_at(text + i);
        if (hidden) {
            fputs("****", stderr);
            i += hidden;
        } else {
            unsigned char c = (unsigned char)text[i++];
            if (c == '\n')
                fputs("\n  ", stderr);
            else
                fputc(c < 0x20 || c == 0x7f ? '?' : c, stderr);
        }
    }
    fputc('\n', stderr);
}

void tl__error(const char *message, const char *detail, const char *hint)
{
    fflush(stdout);
    put_line("trunkline: error: ", message);
    if (detail && *detail)
        put_line("detail: ", detail);
    if (hint && *hint)
        put_line("hint: ", hint);
}

int tl__fail(tl_status status, const char *hint, const char *format, ...)
{
    char message[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    tl__error(message, NULL, hint);
    return tl_status_exit_code(status);
}

int tl__fail_error(tl_status status, const tl_error *error)
{
    const char *message = error ? tl_error_message(error) : "";
    const char *hint = error ? tl_error_hint(error) : "";
    if (!*hint && status == TL_E_SCHEMA)
        hint = "run trunkline migrate";
    tl__error(*message ? message : tl_status_text(status), error ? tl_error_detail(error) : NULL,
              hint);
    if (error && tl_error_outcome_unknown(error))
        tl__error("the outcome is unknown: the work may be stored or not", NULL,
                  "repeat it with the same event ids; it is then stored once");
    return tl_status_exit_code(status);
}

int tl__fail_client(tl_status status, const tl_client *client)
{
    return tl__fail_error(status, client ? tl_client_error(client) : NULL);
}

void tl__note(const char *format, ...)
{
    if (tl__is_quiet)
        return;
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fflush(stdout);
    put_line("trunkline: ", text);
}

static bool is_reader_gone(void)
{
    struct pollfd pfd = {.fd = STDOUT_FILENO, .events = POLLOUT};

    return poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLERR);
}

int tl__out_finish(void)
{
    errno = 0; /* it may have been an earlier write that failed */
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    if (errno == EPIPE || is_reader_gone())
        return 0;
    char text[128];
    return tl__fail(TL_E_LIMIT, "make room or write elsewhere", "cannot write results%s%s",
                    errno ? ": " : "", errno ? strerror_r(errno, text, sizeof text) : "");
}

/* ------------------------------------------------------------------------------------- tables -- */

struct tl__table {
    int columns;
    size_t count, room; /* cells */
    char **cells;
};

/* Columns that text takes on a terminal, taking one for each code point. */
static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

struct tl__table *tl__table_new(int columns, const char *const *headers)
{
    struct tl__table *t = calloc(1, sizeof *t);
    if (!t)
        abort();
    t->columns = columns;
    tl__table_add(t, headers);
    return t;
}

void tl__table_add(struct tl__table *t, const char *const *cells)
{
    if (t->count + (size_t)t->columns > t->room) {
        t->room = t->room ? t->room * 2 : (size_t)t->columns * 16;
        t->cells = realloc(t->cells, t->room * sizeof *t->cells);
        if (!t->cells)
            abort();
    }
    for (int i = 0; i < t->columns; i++) {
        t->cells[t->count] = strdup(cells[i] ? cells[i] : "-");
        if (!t->cells[t->count])
            abort();
        t->count++;
    }
}

void tl__table_print(const struct tl__table *t, FILE *to)
{
    for (size_t row = 0; row < t->count; row += (size_t)t->columns) {
        for (int i = 0; i < t->columns; i++) {
            size_t width = 0;
            for (size_t r = 0; r < t->count; r += (size_t)t->columns) {
                size_t w = width_of(t->cells[r + (size_t)i]);
                width = w > width ? w : width;
            }
            const char *cell = t->cells[row + (size_t)i];
            tl__print_plain(to, cell, SIZE_MAX);
            if (i < t->columns - 1)
                fprintf(to, "%*s", (int)(width - width_of(cell) + 2), "");
        }
        fputc('\n', to);
    }
}

struct tl__table *tl__table_free(struct tl__table *t)
{
    if (!t)
        return NULL;
    for (size_t i = 0; i < t->count; i++)
        free(t->cells[i]);
    free(t->cells);
    free(t);
    return NULL;
}

/* ------------------------------------------------------------------------------------- values -- */

void tl__print_plain(FILE *to, const char *text, size_t max_columns)
{
    size_t columns = 0;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool is_start = (c & 0xc0) != 0x80;
        if (is_start && columns++ == max_columns) {
            fputs("…", to);
            return;
        }
        fputc(c < 0x20 || c == 0x7f ? '?' : c, to);
    }
}

size_t tl__out_columns(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || !size.ws_col)
        return SIZE_MAX;
    return size.ws_col;
}

void tl__print_event(const tl_event *e)
{
    char at[TL_TIME_TEXT_SIZE], place[300] = "", head[900];
    const char *key = tl_event_key(e), *stream = tl_event_stream(e);
    tl__time_format(tl_event_created_at_us(e), at);
    if (stream)
        snprintf(place, sizeof place, "  %s@%lld", stream, (long long)tl_event_version(e));
    else if (key)
        snprintf(place, sizeof place, "  key=%s", key);
    int n = snprintf(head, sizeof head, "%8lld  %.23sZ  %s%s%s  ", (long long)tl_event_position(e),
                     at, tl_event_type(e), place, tl_event_is_redacted(e) ? "  (redacted)" : "");
    size_t columns = tl__out_columns(), used = n < 0 ? 0 : width_of(head);
    tl__print_plain(stdout, head, SIZE_MAX);
    tl__print_plain(stdout, tl_event_data(e, NULL),
                    columns == SIZE_MAX   ? SIZE_MAX
                    : columns > used + 12 ? columns - used - 1
                                          : 10);
    putchar('\n');
}

bool tl__print_event_json(const tl_event *e)
{
    size_t len;
    char *line = tl_event_to_json(e, &len);
    if (!line)
        return false;
    fwrite(line, 1, len, stdout);
    putchar('\n');
    tl_free(line);
    return true;
}

/* ----------------------------------------------------------------------------------- progress -- */

void tl__progress_start(struct tl__progress *p, const char *what, uint64_t total)
{
    *p = (struct tl__progress){.what = what, .total = total, .shown_at_us = tl__clock_us()};
    p->is_on = !tl__is_quiet && isatty(STDERR_FILENO);
}

void tl__progress_update(struct tl__progress *p, uint64_t done, uint64_t count)
{
    if (!p->is_on || tl__clock_us() - p->shown_at_us < 100000)
        return;
    p->shown_at_us = tl__clock_us();
    if (p->total > 0) {
        int bar = (int)(done >= p->total ? 30 : done * 30 / p->total);
        fprintf(stderr, "\r\033[K%s [%.*s%*s] %3d%%  %llu", p->what, bar,
                "##############################", 30 - bar, "",
                (int)(done >= p->total ? 100 : done * 100 / p->total), (unsigned long long)count);
    } else {
        fprintf(stderr, "\r\033[K%s %llu", p->what, (unsigned long long)count);
    }
    fflush(stderr);
}

void tl__progress_end(struct tl__progress *p)
{
    if (p->is_on)
        fputs("\r\033[K", stderr);
    p->is_on = false;
}
