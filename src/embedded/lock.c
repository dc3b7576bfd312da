/*
 * lock.c: lock files. flock(2) locks belong to an open file: they die with its holder, and a child
 * that inherits the descriptor holds them too. The protocol stands in embedded.h.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int tl__embedded_open_lock(const tl__embedded *e, const char *name)
{
    int fd = openat(e->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
        (e->user.is_other && st.st_uid != e->user.uid && fchown(fd, e->user.uid, e->user.gid) != 0))
        return tl__embedded_close_fd(fd);
    return fd;
}

bool tl__embedded_try_lock(int fd, int operation)
{
    return flock(fd, operation | LOCK_NB) == 0;
}

tl_status tl__embedded_wait_lock(const tl__embedded *e, int fd, uint64_t deadline_us,
                                 tl__embedded_error *err)
{
    uint64_t began_us = tl__clock_us();
    for (bool is_reported = false; !tl__embedded_try_lock(fd, LOCK_EX);) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return tl__embedded_fail(err, TL_E_SERVER, "could not lock \"%s/%s\": %m", e->dir,
                                     LOCK_FILE);
        uint64_t now_us = tl__clock_us();
        if (now_us >= deadline_us) {
            tl__embedded_fail(err, TL_E_TIMEOUT,
                              "another process keeps starting or stopping the private PostgreSQL");
            tl__embedded_detail(err, "it holds the lock on \"%s/%s\"", e->dir, LOCK_FILE);
            return TL_E_TIMEOUT;
        }
        if (!is_reported && now_us - began_us > 500000) {
            is_reported = true;
            tl__embedded_report(e, TL__EMBEDDED_WAITING);
        }
        tl__embedded_nap(-1);
    }
    return TL_OK;
}

void tl__embedded_nap(int pid_fd)
{
    struct pollfd end = {.fd = pid_fd, .events = POLLIN}; /* a negative fd is ignored */
    (void)poll(&end, 1, NAP_MS);
}
