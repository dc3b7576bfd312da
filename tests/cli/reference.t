#!/bin/bash
# docs/reference says what the header, the SQL and the program say (DOC-2).
. "$TRUNKLINE_SOURCE/tests/support/tap.sh"
out=$("$TRUNKLINE_SOURCE/tools/reference" --check "$TRUNKLINE_BUILD" 2>&1)
ok $? 'docs/reference is up to date' "$out"
for name in publish claim ack subscribe horizon maintain; do
    grep -q "^## $name\$" "$TRUNKLINE_SOURCE/docs/reference/sql.md"
    ok $? "sql.md has $name"
done
finish
