/*
 * hello.c: the smallest round trip. A router with one handler, a worker, one event. The worker runs in
 * this thread; the handler stops it.
 *
 *   $ TRUNKLINE_DB=… build/examples/hello
 *   got: {"msg": "hi"}
 */
#include "example.h"

static tl_worker *worker;

static tl_verdict on_hello(tl_delivery *d, void *userdata)
{
    (void)userdata;
    printf("got: %s\n", tl_event_data(tl_delivery_event(d), NULL));
    tl_worker_stop(worker);
    return TL_DONE;
}

int main(void)
{
    tl_client *c = open_client();
    tl_router *router;

    need(tl_router_new("demo", &router), NULL);
    need(tl_router_on(router, "hello", on_hello, NULL, NULL), NULL);
    need(tl_worker_new(c, "example", router, NULL, &worker), tl_client_error(c));

    need(tl_publish(c, NULL, TL_NEW_EVENT(.type = "demo.hello", .data = "{\"msg\": \"hi\"}"), NULL),
         tl_client_error(c));
    need(tl_worker_run(worker), tl_worker_error(worker));

    tl_worker_free(worker);
    tl_router_free(router);
    tl_client_close(c);
    return 0;
}
