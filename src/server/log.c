/*
 * log.c: see log.h.
 */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "cleanup.h"
#include "clock.h"
#include "json.h"
#include "str.h"

static struct {
    tl_log_level level;
    bool is_json;
} settings = {.level = TL_LOG_INFO};

void tl__log_setup(tl_log_level level, bool is_json)
{
    settings.level = level;
    settings.is_json = is_json;
}

const char *tl__number(struct tl__number *n, long long value)
{
    (void)tl__i64_format(value, n->text);
    return n->text;
}

/* A value with a space, a quote or a control character is written as a JSON string. */
static bool is_plain(const char *value)
{
    for (const char *p = value; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == '"' || *p == '=' || *p == '\\' || *p == 0x7f)
            return false;
    return *value != 0;
}

static void add_pair(struct tl__buf *line, const char *key, const char *value)
{
    if (settings.is_json) {
        tl__json_add_name(line, key);
        tl__json_add_text(line, value);
        return;
    }
    if (line->len > 0)
        tl__buf_add_char(line, ' ');
    tl__buf_add_str(line, key);
    tl__buf_add_char(line, '=');
    if (is_plain(value))
        tl__buf_add_str(line, value);
    else
        tl__json_add_text(line, value);
}

void tl__log_event(tl_log_level level, const char *event, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    TL_CLEANUP(tl__buf_done)
    struct tl__buf line = TL_BUF_INIT;
    char now[TL_TIME_TEXT_SIZE];
    va_list list;

    if (level > settings.level)
        return;
    if (settings.is_json)
        tl__buf_add_char(&line, '{');
    tl__time_format(tl__wall_us(), now);
    add_pair(&line, "time", now);
    add_pair(&line, "level", names[level]);
    add_pair(&line, "event", event);
    va_start(list, event);
    for (const char *key; (key = va_arg(list, const char *)) != NULL;) {
        const char *value = va_arg(list, const char *);
        if (value)
            add_pair(&line, key, value);
    }
    va_end(list);
    tl__buf_add_str(&line, settings.is_json ? "}\n" : "\n");
    /* One write: lines of several threads do not mix. Nothing can be done about a failure. */
    if (!line.is_failed && write(STDERR_FILENO, line.data, line.len) < 0)
        return;
}

void tl__log_error(tl_log_level level, const char *event, tl_status status, const tl_error *error)
{
    const char *message = error ? tl_error_message(error) : "";
    const char *sqlstate = error ? tl_error_sqlstate(error) : "";
    const char *hint = error ? tl_error_hint(error) : "";

    tl__log_event(level, event, "status", tl_status_name(status), "message",
                  *message ? message : tl_status_text(status), "sqlstate",
                  *sqlstate ? sqlstate : NULL, "hint", *hint ? hint : NULL, NULL);
}

void tl__log_library(tl_log_level level, const char *message, void *userdata)
{
    (void)userdata;
    tl__log_event(level, "library", "message", message, NULL);
}
