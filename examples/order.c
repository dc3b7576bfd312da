/*
 * order.c: event sourcing. An order is the state that the events of its stream give: create it, ship it,
 * load it again, list what happened. Run twice it makes two orders.
 *
 *   $ TRUNKLINE_DB=… build/examples/order [ID [TENANT]]
 *   Created order …, version 1
 *   …
 *   SUCCESS
 */
#include "example.h"

#include <jansson.h>
#include <string.h>
#include <sys/random.h>

struct order {
    char customer[64];
    char total[32]; /* text: money is not rounded */
    char status[16];
    char tracking[64];
};

/* -------------------------------------------------------------- the type, for the repository -- */

static void *order_create(void *userdata)
{
    (void)userdata;
    return calloc(1, sizeof(struct order));
}

static void copy_member(char *to, size_t size, const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    (void)snprintf(to, size, "%s", text != NULL ? text : "");
}

static tl_status order_apply(void *state, const tl_event *e, void *userdata)
{
    struct order *o = state;
    json_t *data;
    tl_status status = TL_OK;
    size_t len;
    const char *text = tl_event_data(e, &len);

    (void)userdata;
    data = json_loadb(text, len, JSON_DECODE_ANY, NULL);
    if (strcmp(tl_event_type(e), "OrderCreated") == 0) {
        copy_member(o->customer, sizeof o->customer, data, "customer_id");
        copy_member(o->total, sizeof o->total, data, "total_amount");
        (void)snprintf(o->status, sizeof o->status, "created");
    } else if (strcmp(tl_event_type(e), "OrderShipped") == 0) {
        copy_member(o->tracking, sizeof o->tracking, data, "tracking_number");
        (void)snprintf(o->status, sizeof o->status, "shipped");
    } else {
        status = TL_NOTHING; /* of a later version of this program: not ours to understand */
    }
    json_decref(data);
    return status;
}

/* ---------------------------------------------------------- commands: decide, raise or reject -- */

static tl_status raise(tl_aggregate *a, const char *type, json_t *data)
{
    char *text = json_dumps(data, JSON_COMPACT);
    tl_status status = tl_aggregate_raise(a, TL_NEW_EVENT(.type = type, .data = text));

    free(text);
    json_decref(data);
    return status;
}

static tl_status create(tl_aggregate *a, void *userdata)
{
    (void)userdata;
    if (tl_aggregate_version(a) != 0)
        return tl_aggregate_reject(a, "order already exists");
    return raise(a, "OrderCreated",
                 json_pack("{s:s, s:s}", "customer_id", "customer-456", "total_amount", "299.99"));
}

static tl_status ship(tl_aggregate *a, void *userdata)
{
    const struct order *o = tl_aggregate_state(a);

    (void)userdata;
    if (strcmp(o->status, "created") != 0)
        return tl_aggregate_reject(a, "cannot ship an order that is not in status created");
    return raise(a, "OrderShipped", json_pack("{s:s}", "tracking_number", "TRACK-123456"));
}

/* ------------------------------------------------------------------------------------ run -- */

static void list_events(tl_client *c, const char *stream, const char *tenant)
{
    tl_reader *reader;
    const tl_event *e;
    tl_status status;
    char lines[256] = "";
    size_t count = 0;

    need(tl_reader_open_stream(c, stream, TL_READER_OPTIONS(.tenant_id = tenant), &reader),
         tl_client_error(c));
    while ((status = tl_reader_next(reader, &e)) == TL_OK) {
        size_t len = strlen(lines);

        (void)snprintf(lines + len, sizeof lines - len, "  version %lld: %s\n",
                       (long long)tl_event_version(e), tl_event_type(e));
        count++;
    }
    need(status, tl_client_error(c)); /* the end, and not an outage */
    printf("Found %zu events\n%s", count, lines);
    tl_reader_close(reader);
}

/* Another tenant sees no such order. */
static void look_as_somebody_else(tl_client *c, const tl_aggregate_type *type, const char *id)
{
    tl_repository *others;
    tl_aggregate *a = NULL;

    need(tl_repository_new(c, type, TL_REPOSITORY_OPTIONS(.tenant_id = "somebody-else"), &others),
         tl_client_error(c));
    if (tl_repository_load(others, id, &a) == TL_E_NOTFOUND)
        printf("Another tenant: not found\n");
    tl_aggregate_free(a);
    tl_repository_free(others);
}

int main(int argc, char **argv)
{
    const tl_aggregate_type *type =
        TL_AGGREGATE_TYPE(.name = "order", .create = order_create, .apply = order_apply);
    const char *tenant = argc > 2 ? argv[2] : NULL;
    tl_client *c = open_client();
    tl_repository *orders;
    tl_aggregate *a;
    const struct order *o;
    char id[64];
    int64_t version;
    uint64_t random;

    if (argc > 1)
        (void)snprintf(id, sizeof id, "%s", argv[1]);
    else if (getrandom(&random, sizeof random, 0) == sizeof random)
        (void)snprintf(id, sizeof id, "%016llx", (unsigned long long)random);
    else
        return 1;
    need(tl_repository_new(c, type, TL_REPOSITORY_OPTIONS(.tenant_id = tenant), &orders),
         tl_client_error(c));

    need(
        tl_repository_update(orders, id, create, NULL, TL_UPDATE_OPTIONS(.create = true), &version),
        tl_client_error(c));
    printf("Created order %s, version %lld\n", id, (long long)version);
    need(tl_repository_load(orders, id, &a), tl_client_error(c));
    o = tl_aggregate_state(a);
    printf("Customer: %s\nTotal: %s\nStatus: %s\n", o->customer, o->total, o->status);
    tl_aggregate_free(a);

    need(tl_repository_update(orders, id, ship, NULL, NULL, &version), tl_client_error(c));
    printf("Shipped order, version %lld\n", (long long)version);

    need(tl_repository_load(orders, id, &a), tl_client_error(c));
    o = tl_aggregate_state(a);
    printf("Loaded order, version %lld\nStatus: %s\nTracking: %s\n",
           (long long)tl_aggregate_version(a), o->status, o->tracking);
    list_events(c, tl_aggregate_stream(a), tenant);
    tl_aggregate_free(a);

    if (tl_repository_update(orders, id, ship, NULL, NULL, NULL) == TL_E_REJECTED)
        printf("Refused: %s\n", tl_error_message(tl_client_error(c)));
    if (tenant != NULL)
        look_as_somebody_else(c, type, id);
    printf("SUCCESS\n");

    tl_repository_free(orders);
    tl_client_close(c);
    return 0;
}
