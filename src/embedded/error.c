/*
 * error.c: error texts and progress of src/embedded.
 */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void tl__embedded_clear(tl__embedded_error *err)
{
    if (err) {
        err->status = TL_OK;
        err->message[0] = err->detail[0] = err->hint[0] = '\0';
    }
}

tl_status tl__embedded_fail(tl__embedded_error *err, tl_status status, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format); /* before anything can change errno: callers use %m */
        vsnprintf(err->message, sizeof(err->message), format, args);
        va_end(args);
        err->status = status;
        err->detail[0] = err->hint[0] = '\0';
    }
    return status;
}

void tl__embedded_detail(tl__embedded_error *err, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->detail, sizeof(err->detail), format, args);
        va_end(args);
    }
}

void tl__embedded_hint(tl__embedded_error *err, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->hint, sizeof(err->hint), format, args);
        va_end(args);
    }
}

void tl__embedded_report(const tl__embedded *e, tl__embedded_phase phase)
{
    static const char *const texts[] = {
        [TL__EMBEDDED_INITIALISING] = "initialising private PostgreSQL",
        [TL__EMBEDDED_STARTING] = "starting private PostgreSQL",
        [TL__EMBEDDED_RECOVERING] =
            "private PostgreSQL is still starting; after a crash it recovers first",
        [TL__EMBEDDED_WAITING] = "waiting for another process to start or stop private PostgreSQL",
        [TL__EMBEDDED_STOPPING] = "stopping private PostgreSQL",
    };
    if (e->progress)
        e->progress(phase, texts[phase], e->userdata);
}

int tl__embedded_close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
    return -1;
}
