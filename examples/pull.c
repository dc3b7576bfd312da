/*
 * pull.c: no worker, no callbacks: claim a batch, handle it, settle it. The last event fails once and
 * comes back with attempt 2.
 */
#include "example.h"

#include <string.h>

static void handle_batch(tl_client *c, tl_batch *batch)
{
    for (size_t i = 0; i < tl_batch_count(batch); i++) {
        const tl_event *e = tl_batch_event(batch, i);
        unsigned attempt = tl_batch_attempt(batch, i);

        printf("%s attempt %u\n", tl_event_type(e), attempt);
        if (strcmp(tl_event_type(e), "job.three") == 0 && attempt == 1)
            need(tl_nack(c, tl_batch_token(batch), tl_event_position(e), "not today", NULL),
                 tl_client_error(c));
        else
            need(tl_ack(c, tl_batch_token(batch), tl_event_position(e), NULL), tl_client_error(c));
    }
}

int main(void)
{
    tl_client *c = open_client();
    tl_new_event jobs[] = {
        {.size = sizeof(tl_new_event), .type = "job.one"},
        {.size = sizeof(tl_new_event), .type = "job.two"},
        {.size = sizeof(tl_new_event), .type = "job.three"},
    };
    int left = 4;

    need(tl_subscribe(c, "example/pull", "job.*", TL_SUBSCRIBE_OPTIONS(.retry_delay_us = 1000)),
         tl_client_error(c));
    need(tl_publish_batch(c, NULL, jobs, 3, NULL), tl_client_error(c));
    while (left > 0) {
        tl_batch *batch = NULL;
        tl_status status = tl_claim(c, "example/pull", NULL, &batch);

        need(status, tl_client_error(c));
        if (status == TL_NOTHING) {
            /* until the next event or, for retries, a moment */
            (void)!tl_client_wait(c, 20000);
        } else {
            left -= (int)tl_batch_count(batch);
            handle_batch(c, batch);
        }
        tl_batch_free(batch);
    }
    need(tl_unsubscribe(c, "example/pull"), tl_client_error(c));
    tl_client_close(c);
    return 0;
}
