/*
 * router.h: what a worker reads of a router. Not API; only router.c, worker.c and unit tests.
 */
#ifndef TL_ROUTER_H
#define TL_ROUTER_H

#include <trunkline/trunkline.h>

struct tl__router_entry {
    struct tl__router_entry *next; /* in the order of tl_router_on */
    char *pattern;                 /* with every prefix */
    char *name;
    bool is_name_default; /* it is the pattern and follows it through includes */
    bool is_transactional;
    tl_handler_fn fn;
    void *userdata;
    tl_subscribe_options subscribe; /* its strings are owned */
};

struct tl_router {
    char *prefix; /* NULL: none */
    struct tl__router_entry *entries;
};

#endif
