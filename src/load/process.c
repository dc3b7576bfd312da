/*
 * process.c: see process.h.
 */
#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static bool read_proc(int pid, const char *file, char *text, size_t size)
{
    char path[64];
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    f = fopen(path, "re");
    if (!f)
        return false;
    n = fread(text, 1, size - 1, f);
    text[n] = '\0';
    fclose(f);
    return n > 0;
}

uint64_t tl__process_cpu_ns(int pid)
{
    struct timespec ts = {0};
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) == 0)
        clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t tl__own_cpu_ns(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000u;
}

uint64_t tl__process_resident_bytes(int pid)
{
    char text[4096];
    const char *line;

    if (!read_proc(pid, "status", text, sizeof text))
        return 0;
    line = strstr(text, "VmRSS:");
    return line ? strtoull(line + 6, NULL, 10) * 1024 : 0;
}

bool tl__process_is(int pid, const char *command)
{
    char text[256];

    return read_proc(pid, "cmdline", text, sizeof text) &&
           strncmp(text, command, strlen(command)) == 0;
}
