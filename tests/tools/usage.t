#!/usr/bin/env bash
# Every tool says with --help what it does, and says in a line of its own what it cannot do.
set -euo pipefail
cd "$TRUNKLINE_SOURCE"
# shellcheck source=tests/support/tap.sh
. tests/support/tap.sh
dir=$TRUNKLINE_TEST_DIR

for tool in tools/* bench/run bench/report models/run tests/fault/soak.py; do
    # what follows it is a program
    [ "$tool" != tools/valgrind ] || continue
    status=0
    out=$(env -u TRUNKLINE_TEST_DB "$tool" --help 2>"$dir/err" </dev/null) || status=$?
    is "$status $(cat "$dir/err")" "0 " "$tool --help"
    like "$out" "${tool##*/} [A-Z[-]|${tool##*/} [a-z]{3}" "$tool --help says how it is called"
    status=0
    [ "$(grep -vc '^usage: ' <<<"$out")" -gt 2 ] || status=1
    ok "$status" "$tool --help says what it does" "$out"
done

# refused STATUS SAID COMMAND...: it ends so, with these words on standard error and no traceback
refused() {
    local expected=$1 said=$2 status=0 err
    shift 2
    err=$("$@" 2>&1 >/dev/null </dev/null) || status=$?
    is "$status" "$expected" "$*: exit status"
    like "$err" "$said" "$*: why"
    status=0
    [[ ! $err =~ Traceback|"parameter not set" ]] || status=1
    ok "$status" "$*: in words" "$err"
}
mkdir "$dir/empty" "$dir/odd" "$dir/one"
echo nonsense >"$dir/odd/compile_commands.json"
echo "[{\"directory\": \"$PWD\", \"file\": \"src/base/base.c\", \"command\": \"cc\"}]" >"$dir/one/compile_commands.json"
refused 1 "analyze: $dir/empty is no build directory" tools/analyze "$dir/empty"
refused 1 "analyze: $dir/odd is no build directory" tools/analyze "$dir/odd"
refused 1 "not among the files .*: src/no.c" tools/analyze "$dir/one" src/no.c
refused 2 'jobs is not 1 or more' tools/analyze --jobs 0 "$dir/one"
refused 1 "nothing has run in $dir/empty: run make coverage" tools/coverage "$dir/empty"
echo nonsense >"$dir/odd/x.gcda"
refused 1 'coverage: ' tools/coverage "$dir/odd"
refused 2 'no fuzz targets in .*: run make fuzz' tools/fuzz "$dir/empty" 1
mkdir -p "$dir/fuzzing/tests/fuzz"
refused 2 "SECONDS is not a number of seconds: ''" tools/fuzz "$dir/fuzzing"
refused 2 "SECONDS is not a number of seconds: 'many'" tools/fuzz "$dir/fuzzing" many
refused 2 'there is no .*/fuzz_nothing' tools/fuzz "$dir/fuzzing" 1 nothing
refused 2 'tools/fuzz BUILDDIR SECONDS' tools/fuzz
refused 1 'mutants: none is called nothing' tools/mutants check nothing
refused 1 'an option has no value' tools/embed --output
refused 1 'what is stray' tools/embed stray
refused 1 "there is no trunkline in $dir/empty: run make" tools/reference "$dir/empty"
refused 2 'there is no tests/none/package-lock.json' tools/node-modules tests/none
refused 2 'tools/pg-fetch MAJOR' tools/pg-fetch 13
refused 2 'tools/bootstrap build' tools/bootstrap all
refused 2 'tools/pg-temp run' tools/pg-temp walk
refused 2 'no such fault: flood' tests/fault/soak.py --faults flood
refused 2 'greater than 0' tests/fault/soak.py --episodes 0
refused 2 'no bench/trunkline-bench in .*: run make bench' bench/run "$dir/empty"
refused 2 'bench/report RESULTS.ndjson FOLDER' bench/report
refused 1 'no.ndjson: .*No such file' bench/report "$dir/no.ndjson" "$dir/report"
refused 1 'no result is in it' bench/report /dev/null "$dir/report"
echo '{"kind":"figure","name":"x","unit":"s"}' >"$dir/r.ndjson"
refused 1 'r.ndjson:1: not of bench/run, it has no section, no median, no rounds' bench/report "$dir/r.ndjson" "$dir/report"
echo 7 >"$dir/r.ndjson"
refused 1 'r.ndjson:1: not of bench/run, it has no kind' bench/report "$dir/r.ndjson" "$dir/report"
echo '{"kind":"note","text":"x"}' >"$dir/r.ndjson"
refused 1 "$dir/r.ndjson: (File exists|Not a directory)" bench/report "$dir/r.ndjson" "$dir/r.ndjson"
finish
