# TAP for shell tests: source it, call `is`, `like` or `ok`, end with `finish`.
# shellcheck shell=bash
tap_count=0
tap_failed=0

# ok CONDITION_STATUS NAME [DETAIL]
ok() {
    tap_count=$((tap_count + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $tap_count - $2"
    else
        tap_failed=$((tap_failed + 1))
        echo "not ok $tap_count - $2"
        [ -z "${3:-}" ] || printf '%s\n' "$3" | sed 's/^/# /'
    fi
}

# is GOT EXPECTED NAME
is() {
    local status=0
    [ "$1" = "$2" ] || status=1
    ok $status "$3" "got:      $1
expected: $2"
}

# like GOT EXTENDED_REGEX NAME
like() {
    local status=0
    [[ $1 =~ $2 ]] || status=1
    ok $status "$3" "got:        $1
not like:   $2"
}

# A test that this machine does not permit: skip NAME REASON
skip() {
    tap_count=$((tap_count + 1))
    echo "ok $tap_count - $1 # SKIP $2"
}

finish() {
    echo "1..$tap_count"
    [ "$tap_failed" -eq 0 ]
    exit
}
