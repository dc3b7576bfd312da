#!/bin/bash
# Every program of examples/ does what its opening comment says (DOC-1; seeds A1, A2, A3, D1, D2, E1, E2).
. "$TRUNKLINE_SOURCE/tests/support/tap.sh"

run() {
    TRUNKLINE_DB=$(tools_db)
    export TRUNKLINE_DB
    got=$(timeout 240 "$TRUNKLINE_BUILD/examples/$1" "${@:2}" 2>&1)
    ok $? "$1 exits with 0" "$got"
}
tools_db() {
    "$TRUNKLINE_SOURCE/tools/pg-db" create
}

run hello
is "$got" 'got: {"msg": "hi"}' 'hello: the handler got the event'
"$TRUNKLINE_SOURCE/tools/pg-db" drop "$TRUNKLINE_DB"

run group
is "$got" 'refused: data or metadata is not valid JSON
80 events of 8 threads, 1 failed
20 events from a loop' 'group: each caller hears of its own event'
is "$(psql -XAtd "$TRUNKLINE_DB" -c 'SELECT type, count(*) FROM trunkline.topic_bus GROUP BY 1 ORDER BY 1' | tr '\n' ' ')" \
    'loop.turned|20 request.served|80 ' 'group: and all of them are stored'
is "$(psql -XAtd "$TRUNKLINE_DB" -c 'SELECT count(DISTINCT xmin::text) < 100 FROM trunkline.topic_bus')" t \
    'group: in fewer transactions'
"$TRUNKLINE_SOURCE/tools/pg-db" drop "$TRUNKLINE_DB"

run invoice
is "$got" 'financial.invoice.created {"total": "12345678901234567890.10"}' \
    'invoice: only the committed one, to the last digit'
is "$(psql -XAtd "$TRUNKLINE_DB" -c 'SELECT total FROM example_invoices')" '12345678901234567890.10' \
    'invoice: row and event stand or fall together'
"$TRUNKLINE_SOURCE/tools/pg-db" drop "$TRUNKLINE_DB"

run modules
is "$got" 'new invoice: financial.invoice.created
finance: accounts of acme
any invoice: financial.invoice.created' 'modules: higher priority first, then by name; each handler once'
is "$(psql -XAtd "$TRUNKLINE_DB" -c 'SELECT count(*) FROM example_accounts')" 2 'modules: accounts exist once'
is "$(psql -XAtd "$TRUNKLINE_DB" -c 'SELECT count(*) FROM trunkline.leases')" 0 'modules: everything is settled'
"$TRUNKLINE_SOURCE/tools/pg-db" drop "$TRUNKLINE_DB"

run pull
is "$got" 'job.one attempt 1
job.two attempt 1
job.three attempt 1
job.three attempt 2' 'pull: in order, the failure again'
"$TRUNKLINE_SOURCE/tools/pg-db" drop "$TRUNKLINE_DB"

order='Customer: customer-456
Total: 299.99
Status: created
Shipped order, version 2
Loaded order, version 2
Status: shipped
Tracking: TRACK-123456
Found 2 events
  version 1: OrderCreated
  version 2: OrderShipped
Refused: cannot ship an order that is not in status created'
run order 42
is "$got" "Created order 42, version 1
$order
SUCCESS" 'order: created, shipped, loaded and listed (E1)'
for _ in 1 2; do
    TRUNKLINE_DB=$TRUNKLINE_DB "$TRUNKLINE_BUILD/examples/order" >"$TRUNKLINE_TEST_DIR/order.out" 2>&1
    ok $? 'order: a new order each run' "$(cat "$TRUNKLINE_TEST_DIR/order.out")"
done
is "$(psql -XAtd "$TRUNKLINE_DB" -c 'SELECT count(DISTINCT stream), count(*) FROM trunkline.topic_store')" '3|6' \
    'order: three orders of two events'
got=$(TRUNKLINE_DB=$TRUNKLINE_DB "$TRUNKLINE_BUILD/examples/order" 42 2>&1)
is "$?" 14 'order: what is refused by the domain ends with the exit code of TL_E_REJECTED'
is "$got" 'TL_E_REJECTED: order already exists' 'order: an id is taken once'
"$TRUNKLINE_SOURCE/tools/pg-db" drop "$TRUNKLINE_DB"

run order 7 acme
is "$got" "Created order 7, version 1
$order
Another tenant: not found
SUCCESS" 'order: of a tenant, which no other one can load (E2)'
is "$(psql -XAtd "$TRUNKLINE_DB" -c 'SELECT DISTINCT tenant_id FROM trunkline.topic_store')" acme 'order: its events are of the tenant'
"$TRUNKLINE_SOURCE/tools/pg-db" drop "$TRUNKLINE_DB"

run store
# the two followers take turns as they please
is "$(printf '%s\n' "$got" | grep -v Subscribe)" 'stored order.created as version 1
stored order.paid as version 2
refused: expected version 1, actual 2
read version 1 order.created {"total": "299.99"}
read version 2 order.paid {}
stored order.shipped as version 3
each saw 3 and 3 events
latest version 3, seen up to 3' 'store: append, refuse, read, follow (C1)'
for follower in SubscribeToStream SubscribeToAll; do
    is "$(printf '%s\n' "$got" | grep $follower)" "$follower: version 1 order.created
$follower: version 2 order.paid
$follower: version 3 order.shipped" "store: $follower, once, in order, over a cut connection (C2)"
done
"$TRUNKLINE_SOURCE/tools/pg-db" drop "$TRUNKLINE_DB"

listed=$(find "$TRUNKLINE_SOURCE/examples" -name '*.c' -exec basename {} .c \; | sort | tr '\n' ' ')
is "$listed" 'group hello invoice modules order pull store ' 'no example is without a test'
finish
