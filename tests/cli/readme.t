#!/bin/bash
# The README's commands, SQL and C run as printed (DOC-1), with a private PostgreSQL of their own (CFG-5).
. "$TRUNKLINE_SOURCE/tests/support/tap.sh"
readme=$TRUNKLINE_SOURCE/README.md

# The n-th block of a language
block() {
    awk -v fence="\`\`\`$1" -v want="$2" '
        $0 == fence { n++; inside = n == want; next }
        $0 == "```" { inside = 0 }
        inside' "$readme"
}

work=$(mktemp -d /tmp/tl-readme-XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

# -- the quick start, from nothing, without any configured database
shell=$({ block sh 1; block sh 2; } | sed "s|\$PWD/build|$TRUNKLINE_BUILD|")
out=$(
    cd "$work" || exit 1
    for variable in $(compgen -e PG) DATABASE_URL TRUNKLINE_DB; do unset "$variable"; done
    TRUNKLINE_DATA_DIR=$work/pg bash -e -u -o pipefail -c "$shell" 2>"$work/err"
)
ok $? 'the quick start runs' "$out
$(cat "$work/err")"
like "$out" 'order\.42\.paid' 'it shows the event'
like "$out" 'billing/mail' 'it shows the subscription'
like "$out" '19\.90' 'claim gives the payload'
like "$out" 'order-42 2 2 .*OrderCreated  order-42@1 .*OrderShipped  order-42@2 .*OrderShipped  order-42@2' 'append, read and tail of a stream'
[ ! -e "$work/pg/postmaster.pid" ]
ok $? 'the private PostgreSQL ended with the last command'

# -- the SQL
db=$("$TRUNKLINE_SOURCE/tools/pg-db" create)
out=$(psql -X -q -v ON_ERROR_STOP=1 -d "$db" -c 'CREATE TABLE invoices (id int PRIMARY KEY, total numeric)' \
    -f <(block sql 1) 2>&1)
ok $? 'the SQL runs' "$out"
like "$out" 'financial\.invoice\.created \| \{"invoice_id": 7\}.*financial\.invoice\.created \| \{"invoice_id": 8\}' \
    'claim gives both invoices in order'
out=$(psql -X -q -v ON_ERROR_STOP=1 -d "$db" -f <(block sql 2) 2>&1)
ok $? 'the SQL of the store runs' "$out"
like "$out" 'InvoiceMade \| \{"total": "19\.90"\}.*invoice-7 \| +1 \| \{"total": "19\.90"\}' 'it reads and claims what it appended'
"$TRUNKLINE_SOURCE/tools/pg-db" drop "$db"

# -- the C, as a program: what stands before the blank line is a function, the rest statements
{
    printf '#include <stdio.h>\n#include <trunkline/trunkline.h>\n'
    block c 1 | awk '/^$/ && !n++ {
        print "int main(void) { tl_client *client; tl_router *router; tl_worker *worker;"; next } { print }'
    echo 'return 0; }'
} >"$work/readme.c"
out=$(cc -Wall -Wextra -Werror -Wno-unused-result -Wno-unused-parameter -fsyntax-only -I"$TRUNKLINE_SOURCE/include" \
    -I"$TRUNKLINE_BUILD/include" "$work/readme.c" 2>&1)
ok $? 'the C compiles' "$out"

# -- links
for link in $(grep -o '](\([^)#h][^)#]*\))' "$readme" | sed 's/](\(.*\))/\1/'); do
    [ -e "$TRUNKLINE_SOURCE/$link" ]
    ok $? "link $link"
done
finish
