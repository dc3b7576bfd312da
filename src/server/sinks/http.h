/*
 * http.h: POST requests by libcurl on a libuv loop, with the guard over where they may go. Knows
 * nothing of events or signatures. For webhook.c.
 */
#ifndef TL_SERVER_HTTP_H
#define TL_SERVER_HTTP_H

#include <curl/curl.h>

#include "sink.h"

#define TL_HTTP_MAX_KEPT_BYTES 20000 /* of an answer; a longer one is cut off */

struct tl__http; /* all requests of one loop */

enum tl__http_end {
    TL__HTTP_ANSWERED,
    TL__HTTP_TIMED_OUT,
    TL__HTTP_REFUSED, /* the guard: an address that may not be reached */
    TL__HTTP_FAILED,  /* no connection, TLS, ... */
    TL__HTTP_ABORTED, /* tl__http_abort */
};

struct tl__http_answer {
    enum tl__http_end end;
    int status;       /* 0: none */
    const char *body; /* never NULL, ends in NUL; as it came, NULs and all */
    size_t body_len;
    uint64_t retry_after_us; /* what it asked for; 0: nothing */
    uint64_t duration_us;
    const char *error; /* with FAILED and TIMED_OUT */
};

typedef void (*tl__http_done_fn)(void *userdata, const struct tl__http_answer *answer);

struct tl__http_request {
    const char *url, *body; /* borrowed until done */
    size_t body_len;
    struct curl_slist *headers; /* borrowed until done */
    uint64_t timeout_us;
    bool is_host_allowed; /* whatever its address */
    tl__http_done_fn done;
    void *userdata;
};

/* NULL: no memory. */
struct tl__http *tl__http_start(const struct tl__sink_env *env);
/* Its handles close as the loop runs on, then it frees itself. */
void tl__http_stop(struct tl__http *http);
/* False: it cannot be started, done is not called. */
bool tl__http_post(struct tl__http *http, const struct tl__http_request *request);
/* End all that is in flight. */
void tl__http_abort(struct tl__http *http);

#endif
