/*
 * router.c: prefixes, names, includes and what is refused (WRK-1).
 */
#include "router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static tl_verdict handler(tl_delivery *d, void *userdata)
{
    (void)d;
    (void)userdata;
    return TL_DONE;
}

static void expect(const struct tl__router_entry *e, const char *pattern, const char *name)
{
    assert_non_null(e);
    assert_string_equal(e->pattern, pattern);
    assert_string_equal(e->name, name);
    assert_ptr_equal(e->fn, handler);
}

static void prefixes_apply_to_direct_and_included_handlers(void **state)
{
    tl_router *root, *billing, *invoice;
    const struct tl__router_entry *e;
    char filter[] = "{}", target_options[] = "{}";
    uint64_t pauses[] = {7, 8};
    int app;

    (void)state;
    assert_int_equal(tl_router_new("shop", &root), TL_OK);
    assert_int_equal(tl_router_new("billing", &billing), TL_OK);
    assert_int_equal(tl_router_new(NULL, &invoice), TL_OK);
    assert_int_equal(tl_router_on(root, "order.*", handler, NULL, NULL), TL_OK);
    assert_int_equal(
        tl_router_on(invoice, "created", handler, &app,
                     TL_ROUTE_OPTIONS(.name = "mail", .transactional = true,
                                      .subscribe = {.size = sizeof(tl_subscribe_options),
                                                    .priority = 8,
                                                    .filter = filter,
                                                    .target_options = target_options,
                                                    .retry_schedule = pauses,
                                                    .retry_schedule_count = 2})),
        TL_OK);
    filter[0] = target_options[0] = '!'; /* what was given is copied */
    pauses[0] = pauses[1] = 0;
    assert_int_equal(tl_router_on(invoice, "**", handler, NULL, NULL), TL_OK);
    assert_int_equal(tl_router_include(billing, invoice, "invoice"), TL_OK);
    assert_int_equal(tl_router_include(root, billing, NULL), TL_OK);
    tl_router_free(invoice);
    tl_router_free(billing);

    e = root->entries;
    expect(e, "shop.order.*", "shop.order.*");
    assert_int_equal(e->subscribe.priority, 0);
    e = e->next;
    expect(e, "shop.billing.invoice.created", "mail");
    assert_true(e->is_transactional);
    assert_ptr_equal(e->userdata, &app);
    assert_int_equal(e->subscribe.priority, 8);
    assert_string_equal(e->subscribe.filter, "{}");
    assert_string_equal(e->subscribe.target_options, "{}");
    assert_int_equal(e->subscribe.retry_schedule_count, 2);
    assert_int_equal(e->subscribe.retry_schedule[0], 7);
    assert_int_equal(e->subscribe.retry_schedule[1], 8);
    e = e->next;
    expect(e, "shop.billing.invoice.**", "shop.billing.invoice.**");
    assert_null(e->next);
    assert_null(tl_router_free(root));
    assert_null(tl_router_free(NULL));
}

static void what_cannot_work_is_refused(void **state)
{
    tl_router *r, *other;

    (void)state;
    assert_int_equal(tl_router_new("", &r), TL_OK);
    assert_int_equal(tl_router_new(NULL, &other), TL_OK);
    assert_int_equal(tl_router_on(r, "a.b", handler, NULL, NULL), TL_OK);
    assert_int_equal(tl_router_on(r, "a.b", handler, NULL, NULL), TL_E_INVALID);
    assert_int_equal(tl_router_on(r, "a.b", handler, NULL, TL_ROUTE_OPTIONS(.name = "x")), TL_OK);
    /* one name is one subscription: it cannot have two patterns */
    assert_int_equal(tl_router_on(r, "c", handler, NULL, TL_ROUTE_OPTIONS(.name = "x")),
                     TL_E_INVALID);
    assert_int_equal(tl_router_on(r, "a..b", handler, NULL, NULL), TL_E_INVALID);
    assert_int_equal(tl_router_on(r, "", handler, NULL, NULL), TL_E_INVALID);
    assert_int_equal(tl_router_on(r, NULL, handler, NULL, NULL), TL_E_INVALID);
    assert_int_equal(tl_router_on(r, "d", NULL, NULL, NULL), TL_E_INVALID);
    assert_int_equal(tl_router_on(r, "d", handler, NULL, TL_ROUTE_OPTIONS(.name = "")),
                     TL_E_INVALID);
    assert_int_equal(
        tl_router_on(r, "d", handler, NULL,
                     TL_ROUTE_OPTIONS(.subscribe = {.size = sizeof(tl_subscribe_options),
                                                    .target = "exec:true"})),
        TL_E_INVALID);
    /* all or nothing */
    assert_int_equal(tl_router_on(other, "new", handler, NULL, NULL), TL_OK);
    assert_int_equal(tl_router_on(other, "q", handler, NULL, TL_ROUTE_OPTIONS(.name = "x")), TL_OK);
    assert_int_equal(tl_router_include(r, other, "p"), TL_E_INVALID);
    assert_int_equal(tl_router_include(r, r, "p"), TL_E_INVALID);
    expect(r->entries->next, "a.b", "x");
    assert_null(r->entries->next->next);
    tl_router_free(other);
    tl_router_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_apply_to_direct_and_included_handlers),
        cmocka_unit_test(what_cannot_work_is_refused),
    };

    return cmocka_run_group_tests_name("router", tests, NULL, NULL);
}
