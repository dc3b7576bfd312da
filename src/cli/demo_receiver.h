/*
 * demo_receiver.h: a small HTTP server on the loopback interface that takes webhooks for the demo.
 */
#ifndef TL_CLI_DEMO_RECEIVER_H
#define TL_CLI_DEMO_RECEIVER_H

#include <stdint.h>

struct tl__demo_receiver;

/* On the server's own thread, for each POST that is a whole event. */
typedef void (*tl__demo_receive_fn)(int64_t position, void *userdata);

/* Listen on 127.0.0.1:*port (0: any free port, then told). NULL: failed, errno says why. */
struct tl__demo_receiver *tl__demo_receiver_start(uint16_t *port, tl__demo_receive_fn fn,
                                                  void *userdata);
struct tl__demo_receiver *tl__demo_receiver_stop(struct tl__demo_receiver *r);

#endif
