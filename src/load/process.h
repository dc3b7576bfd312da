/*
 * process.h: what processes use, as the kernel tells. Any folder may use it.
 */
#ifndef TL_PROCESS_H
#define TL_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* CPU time that a process has used, all its threads; 0: no such process. */
uint64_t tl__process_cpu_ns(int pid);
/* The same of this process. */
uint64_t tl__own_cpu_ns(void);
/* 0: no such process, or no /proc. */
uint64_t tl__process_resident_bytes(int pid);
/* Is there such a process on this machine whose command line begins so? */
bool tl__process_is(int pid, const char *command);

#endif
