/*
 * demo_daemon.h: `trunkline serve` as a child process of the demo.
 */
#ifndef TL_CLI_DEMO_DAEMON_H
#define TL_CLI_DEMO_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

struct tl__demo_daemon;

/* Start this program's serve on `conninfo` (NULL: the embedded database); webhooks may reach the
 * loopback address. NULL: cannot be started. */
struct tl__demo_daemon *tl__demo_daemon_start(const char *conninfo, const char *schema);
/* Wait until it says that it is ready. */
bool tl__demo_daemon_wait_ready(struct tl__demo_daemon *d, uint64_t timeout_us);
/* Ask it to take up new subscriptions at once. */
void tl__demo_daemon_reload(struct tl__demo_daemon *d);
/* The last lines of its log. */
const char *tl__demo_daemon_log(struct tl__demo_daemon *d);
/* SIGTERM and wait: its exit code, 128 + n after signal n. Frees d. NULL: 0. */
int tl__demo_daemon_stop(struct tl__demo_daemon *d);

#endif
