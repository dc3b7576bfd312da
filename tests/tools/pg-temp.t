#!/usr/bin/env bash
# tools/pg-temp leaves nothing behind on any way out, and does not listen on the network (TST-2).
set -euo pipefail
cd "$TRUNKLINE_SOURCE"
# shellcheck source=tests/support/tap.sh
. tests/support/tap.sh
unset PG_TEMP_DIR PG_TEMP_LOG PG_TEMP_OPTIONS
dir=$TRUNKLINE_TEST_DIR

wait_for() { # a deadline, not a pace: SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}
gone() { ! grep -q postgres "/proc/$1/cmdline" 2>/dev/null; } # a zombie is gone too

status=0
# shellcheck disable=SC2016
tools/pg-temp run bash -c '
    psql -XAtc "show listen_addresses" -c "show max_prepared_transactions" -c "show is_superuser"
    psql -XAt "$TRUNKLINE_TEST_DB" -c "select 1"
    head -n 1 "$PG_TEMP_DIR/data/postmaster.pid"; stat -c %U "$PG_TEMP_DIR/data"; echo "$PG_TEMP_DIR"
    exit 7' >"$dir/out" || status=$?
mapfile -t lines <"$dir/out"
is "$status" 7 "the command's exit status is passed on"
is "${lines[0]}|${lines[1]}|${lines[2]}|${lines[3]}" "|10|on|1" "no network address, prepared transactions, superuser, conninfo"
gone=0; gone "${lines[4]}" || gone=1
ok $gone "the server is gone"
owner=0
[ "${lines[5]}" != root ] || owner=1
ok $owner "the server does not run as root" "${lines[5]}"
left=0; [ ! -e "${lines[6]}" ] || left=1
ok $left "the directory is gone"

# shellcheck disable=SC2016
tools/pg-temp run bash -c '
    head -n 1 "$PG_TEMP_DIR/data/postmaster.pid" >'"$dir"'/pid; echo "$PG_TEMP_DIR" >'"$dir"'/where
    echo >'"$dir"'/ready; exec tail -f /dev/null' &
run_pid=$!
wait_for 60 test -e "$dir/ready" || true
kill -TERM $run_pid
status=0; wait $run_pid || status=$?
is "$status" 143 "SIGTERM ends it with 143"
left=0; [ ! -e "$(cat "$dir/where")" ] || left=1
gone "$(cat "$dir/pid")" || left=1
ok $left "after SIGTERM server and directory are gone"

is "$(PG_TEMP_OPTIONS='-c max_connections=17' tools/pg-temp run psql -XAtc 'show max_connections')" 17 "PG_TEMP_OPTIONS are settings"
PG_TEMP_LOG=$dir/log tools/pg-temp run true
like "$(cat "$dir/log")" 'ready to accept connections' "PG_TEMP_LOG keeps the server's log"

where=$(mktemp -d -u /tmp/tlpg.XXXXXX)
environment=$(tools/pg-temp start "$where")
is "$(eval "$environment"; psql -XAtc 'select 5')" 5 "start prints the environment"
status=0; message=$(tools/pg-temp start "$where" 2>&1) || status=$?
is "$status $message" "1 pg-temp: $where exists already" "a directory that exists is refused"
tools/pg-temp stop "$where"
left=0; [ ! -e "$where" ] || left=1
ok $left "stop removes it"
status=0; message=$(tools/pg-temp stop "$where" 2>&1) || status=$?
is "$status $message" "1 pg-temp: $where holds no cluster" "stop refuses what is no cluster"
status=0; message=$(PGBINDIR=/nowhere tools/pg-temp run true 2>&1) || status=$?
is "$status $message" "1 pg-temp: no initdb in /nowhere: install postgresql-15 or set PGBINDIR" "missing server programs are named"
finish
