#!/usr/bin/env bash
# tools/mutants: every change still fits the code, the table in the docs is the one of the files, and a
# mutant that no test notices is reported.
set -euo pipefail
cd "$TRUNKLINE_SOURCE"
# shellcheck source=tests/support/tap.sh
. tests/support/tap.sh
dir=$TRUNKLINE_TEST_DIR

status=0
out=$(tools/mutants check 2>&1) || status=$?
ok "$status" "every mutant fits the code" "$out"
tools/mutants table >"$dir/table"
status=0
python3 -c 'import sys; sys.exit(open(sys.argv[1]).read() not in open(sys.argv[2]).read())' \
    "$dir/table" docs/internals/mutations.md || status=1
ok "$status" "docs/internals/mutations.md has the tables that tools/mutants prints"

# a small project of its own, with a change that is noticed, one that is not, and one that is stale
mkdir -p "$dir/p/tools" "$dir/p/tests/mutants"
cp tools/mutants "$dir/p/tools/"
cat >"$dir/p/tools/run-tests" <<'SH'
#!/bin/sh
# --build BUILD TEST: what the program prints is what the test wants
[ "$("$2/answer")" = "$3" ]
SH
chmod +x "$dir/p/tools/run-tests"
cat >"$dir/p/meson.build" <<'M'
project('p', 'c')
executable('answer', 'answer.c')
M
echo "option('bench', type: 'boolean', value: true)" >"$dir/p/meson_options.txt"
cat >"$dir/p/answer.c" <<'C'
#include <stdio.h>
int main(void)
{
    int unused = 7;
    (void)unused;
    return printf("%d", 42) < 0;
}
C
# mutant NAME OLD NEW TEST: one entry
mutant() {
    printf '[[mutant]]\nname = "%s"\nchange = "-"\nfile = "answer.c"\nold = "%s"\nnew = "%s"\ntests = ["%s"]\n' "$@"
}
{
    echo 'title = "Some"'
    mutant noticed 42 41 42
    mutant unnoticed 'unused = 7' 'unused = 8' 42
    mutant broken 'return printf' 'return print' 42
} >"$dir/p/tests/mutants/some.toml"
git -C "$dir/p" init -q
status=0
out=$("$dir/p/tools/mutants" --work "$dir/work" 2>&1) || status=$?
is "$status" 1 "a survivor is a failure"
like "$out" 'caught    noticed: 42' "what a test notices is caught"
like "$out" 'SURVIVED  unnoticed: 42' "what it does not notice survives"
like "$out" 'SURVIVED  broken: does not build' "what does not build proves nothing"
like "$out" '1 caught, 2 survived' "they are counted"
is "$(cat "$dir/p/answer.c")" "$(cat "$dir/work/src/answer.c")" "the copy is as it was"
{
    echo 'title = "Some"'
    mutant stale nowhere 41 42
    mutant blind 'unused = 7' 'unused = 8' 43
} >"$dir/p/tests/mutants/some.toml"
mkdir "$dir/work/src/.cache"
touch "$dir/work/src/.cache/fetched" "$dir/work/src/stray"
status=0
out=$("$dir/p/tools/mutants" check 2>&1) || status=$?
is "$status" 1 "a change that does not fit is a failure of check"
like "$out" 'stale does not fit answer.c' "it is named"
status=0
out=$("$dir/p/tools/mutants" --work "$dir/work" blind 2>&1) || status=$?
is "$status" 1 "a test that fails anyway notices nothing"
like "$out" '43 fails in the copy without any change' "it is named"
is "$(cd "$dir/work/src" && echo stray* .cache/*)" 'stray* .cache/fetched' "what the tests fetched stays in the copy, what is not of the tree goes"
finish
