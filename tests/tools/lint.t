#!/usr/bin/env bash
# Each check of tools/lint can fail: a tree with one fault for each, and the same tree without.
set -euo pipefail
cd "$TRUNKLINE_SOURCE"
# shellcheck source=tests/support/tap.sh
. tests/support/tap.sh
dir=$TRUNKLINE_TEST_DIR

tree() { # tree NAME: the linter, its settings and one good file
    mkdir -p "$1"/{src/base,src/server,sql/functions,tests/support,tools,build}
    cp tools/lint "$1/tools/"
    cp tests/support/tap.sh "$1/tests/support/"
    cp .clang-format .clang-tidy .cppcheck-suppressions "$1/"
    echo "base_sources = files('good.c', 'bad.c')" >"$1/src/base/meson.build"
    echo "server_sources = files('reach.c')" >"$1/src/server/meson.build"
    echo "sql_functions = files('functions/long.sql')" >"$1/sql/meson.build"
    echo 'int good(void);' >"$1/src/base/good.c"
    echo "[{\"directory\": \"$1/build\", \"command\": \"cc -c ../src/base/bad.c\", \"file\": \"../src/base/bad.c\"}]" \
        >"$1/build/compile_commands.json"
}

tree "$dir/clean"
echo '[]' >"$dir/clean/build/compile_commands.json"
status=0
output=$("$dir/clean/tools/lint" "$dir/clean/build") || status=$?
is "$status" 0 "a clean tree passes"
like "$output" 'ok 8 - clang-tidy' "all checks were made"

tree "$dir/faulty"
cd "$dir/faulty"
cat >src/base/bad.c <<'C'
#include <stdlib.h>
#include <string.h>
int bad(int n);
int bad(int n)
{
    int table[2];
    char *leak = malloc(10), text[4];
    strcpy(text, "x");
    if (n == 0)
        return 1 / n;
    if (n > 3)
        return *leak + text[0];
    table[2] = n;
    free(leak);
  return  table[2];
}
C
printf '#include "../client/conn.h"\n#include <openssl/evp.h>\n' >src/server/reach.c
echo 'int forgotten(void);' >src/server/forgotten.c
seq 901 | sed 's/.*/select 1;/' >sql/functions/long.sql
printf '#!/bin/sh\nlocal x=1\n' >tools/careless
status=0
output=$(tools/lint "$PWD/build") || status=$?
is "$status" 1 "a faulty tree fails"
expected=(
    'not ok 1 - clang-format.# src/base/bad.c: run make format'
    'not ok 2 - no banned calls.# src/base/bad.c:8:'
    'not ok 3 - no file over 900 lines.# sql/functions/long.sql: 901 lines'
    'not ok 4 - includes.*src/server/reach.c:1:.*src/server/reach.c:2:'
    'not ok 5 - every source.*# src/server/forgotten.c is not listed in src/server/meson.build'
    'not ok 6 - shellcheck.*tools/careless line 2'
    'not ok 7 - cppcheck.*src/base/bad.c:1[0-9]:'
    'not ok 8 - clang-tidy.*src/base/bad.c:1[0-9]:'
)
for words in "${expected[@]}"; do
    like "$(tr '\n' ' ' <<<"$output")" "${words//\.#/ #}" "${words%%.*}"
done

status=0
mkdir "$dir/bin"
ln -s "$(command -v dirname)" "$dir/bin/"
output=$(PATH=$dir/bin /bin/bash tools/lint "$PWD/build" 2>&1) || status=$?
is "$status $output" "1 Bail out! clang-format is missing: tools/bootstrap test" "a missing program is no success"
finish
