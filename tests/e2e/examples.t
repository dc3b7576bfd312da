#!/bin/bash
# Every program of examples/ does what its opening comment says (DOC-1; seeds A1, A2, A3, D1, D2).
. "$TRUNKLINE_SOURCE/tests/support/tap.sh"

run() {
    TRUNKLINE_DB=$(tools_db)
    export TRUNKLINE_DB
    got=$(timeout 240 "$TRUNKLINE_BUILD/examples/$1" 2>&1)
    ok $? "$1 exits with 0" "$got"
}
tools_db() {
    "$TRUNKLINE_SOURCE/tools/pg-db" create
}

run hello
is "$got" 'got: {"msg": "hi"}' 'hello: the handler got the event'
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

listed=$(find "$TRUNKLINE_SOURCE/examples" -name '*.c' -exec basename {} .c \; | sort | tr '\n' ' ')
is "$listed" 'hello invoice modules pull ' 'no example is without a test'
finish
