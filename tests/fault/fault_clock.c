/*
 * fault_clock.c: preloaded into PostgreSQL it makes the clock jump: by as many nanoseconds as the file
 * FAULT_CLOCK holds (8 bytes) at the moment. Only the time of day; what measures durations goes on.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset_ns;

static int64_t now_ns(void)
{
    static int (*real)(clockid_t, struct timespec *);
    struct timespec t;

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    (void)real(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec + (offset_ns != NULL ? *offset_ns : 0);
}

__attribute__((constructor)) static void map_offset(void)
{
    const char *path = getenv("FAULT_CLOCK");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = fd >= 0 ? mmap(NULL, sizeof *offset_ns, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (page != MAP_FAILED)
        offset_ns = page;
    if (fd >= 0)
        (void)close(fd);
}

int gettimeofday(struct timeval *tv, void *zone)
{
    int64_t now = now_ns();

    (void)zone;
    *tv = (struct timeval){.tv_sec = now / 1000000000, .tv_usec = now % 1000000000 / 1000};
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    int64_t now;

    if (clock != CLOCK_REALTIME) {
        if (real == NULL)
            *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
        return real(clock, t);
    }
    now = now_ns();
    *t = (struct timespec){.tv_sec = now / 1000000000, .tv_nsec = now % 1000000000};
    return 0;
}

time_t time(time_t *ret)
{
    time_t now = (time_t)(now_ns() / 1000000000);

    if (ret != NULL)
        *ret = now;
    return now;
}
