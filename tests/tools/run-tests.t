#!/usr/bin/env bash
# tools/run-tests cannot be fooled: every way in which a test program can go wrong is a failure.
set -euo pipefail
cd "$TRUNKLINE_SOURCE"
# shellcheck source=tests/support/tap.sh
. tests/support/tap.sh
dir=$TRUNKLINE_TEST_DIR
unset CI

# expect NAME SUMMARY STATUS WORDS SCRIPT: run one program that is this shell script.
expect() {
    local build=$dir/build status=0 output
    rm -rf "$build"
    mkdir -p "$build/meson-info"
    printf '#!/bin/bash\n%s\n' "$5" >"$dir/program"
    chmod +x "$dir/program"
    echo '[{"name": "b_sanitize", "value": "none"}]' >"$build/meson-info/intro-buildoptions.json"
    printf '[{"suite": ["x:unit"], "name": "it", "cmd": ["%s"], "env": {}, "timeout": 0.5, "is_parallel": true}]' \
        "$dir/program" >"$build/meson-info/intro-tests.json"
    output=$(tools/run-tests --build "$build" 2>&1) || status=$?
    is "$(tail -n 1 <<<"$output") ($status)" "$2 ($3)" "$1"
    like "$output" "$4" "$1: says why"
    summary=$(sed -n '/^failed:$/,$p' <<<"$output")
}

expect "plan and points agree" "2 passed, 0 failed, 0 skipped" 0 "2 passed" 'echo 1..2; echo ok 1; echo ok 2 - x'
expect "failed point" "1 passed, 1 failed, 0 skipped" 1 "not ok 2 - broken" 'echo ok 1; echo not ok 2 - broken; echo 1..2; exit 1'
expect "no plan" "1 passed, 1 failed, 0 skipped" 1 "without a plan" 'echo ok 1'
expect "silence" "0 passed, 1 failed, 0 skipped" 1 "without a plan" 'true'
expect "plan of nothing" "0 passed, 1 failed, 0 skipped" 1 "planned no tests" 'echo 1..0'
expect "fewer than planned" "1 passed, 1 failed, 0 skipped" 1 "planned 2 tests, ran 1" 'echo 1..2; echo ok 1'
expect "exit status" "1 passed, 1 failed, 0 skipped" 1 "exit status 3" 'echo 1..1; echo ok 1; exit 3'
# shellcheck disable=SC2016
expect "signal" "1 passed, 1 failed, 0 skipped" 1 "SIGSEGV" 'echo 1..1; echo ok 1; kill -SEGV $$'
expect "bail out" "1 passed, 1 failed, 0 skipped" 1 "Bail out! no server" 'echo 1..1; echo ok 1; echo Bail out! no server'
expect "too late" "1 passed, 1 failed, 0 skipped" 1 "timed out after 2 s" 'echo 1..1; echo ok 1; exec tail -f /dev/null'
expect "process left behind" "1 passed, 1 failed, 0 skipped" 1 "left processes behind" 'echo 1..1; echo ok 1; tail -f /dev/null &'
expect "skip" "1 passed, 0 failed, 1 skipped" 0 "skipped: no mount" 'echo 1..2; echo ok 1; echo "ok 2 - disk # SKIP no mount"'
expect "skip of all" "0 passed, 0 failed, 1 skipped" 0 "skipped: why" 'echo "1..0 # SKIP why"'
export CI=true
expect "unexpected skip" "0 passed, 1 failed, 1 skipped" 1 "unexpected skip: why" 'echo "1..0 # SKIP why"'
unset CI
# shellcheck disable=SC2016
expect "own directory and no database of the user" "1 passed, 0 failed, 0 skipped" 0 "1 passed" \
    'echo 1..1; [ -w "$TRUNKLINE_TEST_DIR" ] && [ "$HOME" = "$TRUNKLINE_TEST_DIR" ] && [ -z "$DATABASE_URL" ] && echo ok 1'

# The end of the output alone says what failed, however much came before.
expect "a summary" "2 passed, 2 failed, 0 skipped" 1 "not ok 2 - two" \
    'echo ok 1; echo not ok 2 - two; echo "# got: 1"; echo "# expected: 2"; echo "# of nothing"; echo ok 3; echo "# fine"; echo "    not ok 1 - inner"; echo not ok 4 - four; for i in {1..300}; do echo noise; done; echo 1..4; exit 2'
is "$summary" "failed:
  unit/it
    exit status 2
    not ok 2 - two
    # got: 1
    # expected: 2
    # of nothing
        not ok 1 - inner
    not ok 4 - four
2 passed, 2 failed, 0 skipped" "the summary has the failed points with what they say, and nothing else"
expect "a long summary" "0 passed, 100 failed, 0 skipped" 1 "not ok 100" 'for i in {1..100}; do echo "not ok $i"; done; echo 1..100'
is "$(wc -l <<<"$summary") $(tail -n 2 <<<"$summary" | head -n 1 | cut -d'(' -f 2 | cut -d' ' -f 1-4)" "34 70 more lines in" "it is bounded"
expect "death without a point" "0 passed, 1 failed, 0 skipped" 1 "SIGKILL" 'kill -KILL $$'
is "$(sed -n 2,3p <<<"$summary")" "  unit/it
    ended without a plan" "a program that died is named with its end"
expect "nothing failed" "1 passed, 0 failed, 0 skipped" 0 "1 passed" 'echo ok 1; echo 1..1'
is "$summary" "" "no summary of nothing"

# --wrap: a program itself, and for a script what it knows as trunkline.
printf '[{"suite": ["x:unit"], "name": "it", "cmd": ["/usr/bin/printenv", "SAID"], "env": {}, "timeout": 30, "is_parallel": true}, {"suite": ["x:unit"], "name": "script", "cmd": ["%s"], "env": {"TRUNKLINE_BIN": "/usr/bin/printenv"}, "timeout": 30, "is_parallel": true}]' \
    "$dir/program" >"$dir/build/meson-info/intro-tests.json"
# shellcheck disable=SC2016
printf '#!/bin/bash\n[ -z "${SAID:-}" ] && "$TRUNKLINE_BIN" SAID\n' >"$dir/program"
is "$(tools/run-tests --build "$dir/build" --wrap "env 'SAID=1..1
ok 1'" | tail -n 1)" "2 passed, 0 failed, 0 skipped" "a wrapped program, and a wrapped trunkline"

status=0
output=$(tools/run-tests --build "$dir/build" nothing 2>&1) || status=$?
is "$status $output" "1 run-tests: no test or suite 'nothing'" "an unknown test is refused"
finish
