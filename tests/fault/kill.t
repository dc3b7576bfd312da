#!/usr/bin/env python3
"""kill -9 of workers, daemons and server backends at random points, under publishers of every kind.

Afterwards, with everything drained, the log is the truth and this checks the guarantees of the README:
every acknowledged event is in the log once and in order; nothing that was rolled back is; every
subscription got every event, in order per key; transactional handlers had their effect exactly once.

FAULT_SECONDS (10) is how long the killing lasts, FAULT_SEED replays the choices of a run.
"""
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

build, source = os.environ["TRUNKLINE_BUILD"], os.environ["TRUNKLINE_SOURCE"]
seconds = float(os.environ.get("FAULT_SECONDS", "10"))
seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1 << 30))
dice = random.Random(seed)
work = tempfile.mkdtemp(prefix="tl-kill-", dir="/tmp")
os.chmod(work, 0o755)
results = []
processes = {}
log_starts = {}
NO_CONNECTION = 3  # exit code of serve


def check(is_good, name, detail=""):
    results.append(bool(is_good))
    print(f"{'ok' if is_good else 'not ok'} {len(results)} - {name}", flush=True)
    if not is_good and detail:
        print("\n".join("# " + line for line in str(detail).splitlines()[:20]))


def sql(query):
    done = subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", db, "-c", query],
                          capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else None


def sql_surely(query, limit=240):
    """Through a server that recovers from a crash."""
    deadline = time.monotonic() + limit
    while (rows := sql(query)) is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"server did not come back for: {query}")
        time.sleep(0.05)
    return rows


def start(name, *command):
    log = open(f"{work}/{name}.err", "a")
    log_starts[name] = log.tell()
    processes[name] = (subprocess.Popen(command, stdout=log, stderr=log,
                                        env={**os.environ, "TRUNKLINE_DB": db}), command)


def end(name, how):
    process, _ = processes[name]
    process.send_signal(how)
    return process.wait(timeout=240)


def kill_one():
    victim = dice.choice(["worker", "worker", "daemon", "daemon", "backend"])
    if victim == "backend":
        # a backend killed like this takes the whole server through crash recovery
        pids = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                   " AND datname = current_database() AND pid <> pg_backend_pid()")
        if pids:
            try:
                os.kill(int(dice.choice(pids)), signal.SIGKILL)
            except ProcessLookupError:
                pass
        return
    name = f"{victim}{dice.randrange(2)}"
    end(name, signal.SIGKILL)
    start(name, *processes[name][1])


def all_ready():
    """Daemons as under a supervisor: one that came while the server recovered has ended, and starts again."""
    ready = 0
    for i in range(2):
        name = f"daemon{i}"
        process, command = processes[name]
        if process.poll() == NO_CONNECTION:
            start(name, *command)
        with open(f"{work}/{name}.err") as log:
            log.seek(log_starts[name])
            ready += "event=ready" in log.read()
    return ready == 2


def drained():
    rows = sql("SELECT name FROM trunkline.subscription_status WHERE behind + leased + retrying > 0")
    return rows == []


def by_key(rows):
    keys = {}
    for key, value in rows:
        keys.setdefault(key, []).append(value)
    return keys


def out_of_order(rows):
    """Keys whose values, each at its first appearance, do not ascend."""
    bad = []
    for key, values in by_key(rows).items():
        firsts = list(dict.fromkeys(values))
        if firsts != sorted(firsts):
            bad.append(key)
    return bad


def verify():
    log = [(int(p), t, k, int(n)) for p, t, k, n in (
        row.split("|") for row in sql("SELECT \"position\", type, key, data ->> 'n' FROM trunkline.events"
                                      " ORDER BY \"position\""))]
    positions = [p for p, *_ in log]
    stored = [(k, n) for _, _, k, n in log]
    acked = []
    for i in range(3):
        with open(f"{work}/acks{i}") as lines:
            acked += [(k, int(n)) for k, n in (line.split() for line in lines)]
    print(f"# {len(log)} events in the log, {len(acked)} acknowledged, {kills} kills, seed {seed}")
    check(len(acked) > 200 and kills >= 5, "the run was worth something", f"{len(acked)} {kills}")
    check(not [t for _, t, *_ in log if t == "fault.ghost"], "nothing that was rolled back is in the log")
    check(not set(acked) - set(stored), "every acknowledged event is in the log (PUB-1)",
          set(acked) - set(stored))
    check(len(stored) == len(set(stored)), "each once, repeats with the same id included (PUB-4)")
    check(not out_of_order([(k, n) for k, n in stored]), "in the order of publishing, by key")

    seen = {"plain": [], "flaky": []}
    with open(f"{work}/deliveries") as lines:
        for handler, position, key in (line.split() for line in lines):
            seen[handler].append((key, int(position)))
    for handler, got in seen.items():
        missing = set(positions) - {p for _, p in got}
        check(not missing, f"{handler}: every event was delivered (SUB-10, WRK-4)", sorted(missing)[:20])
        check({p for _, p in got} <= set(positions), f"{handler}: and no other")
        print(f"# {handler}: {len(got) - len(set(got))} redeliveries")
    check(not out_of_order(seen["plain"]), "plain: in order by key", out_of_order(seen["plain"]))

    for handler in "exact", "sql":
        rows = [row.split("|") for row in
                sql(f"SELECT key, at FROM fault_effects WHERE handler = '{handler}' ORDER BY n")]
        got = [(k, int(p)) for k, p in rows]
        check(sorted(p for _, p in got) == positions, f"{handler}: every effect exactly once (WRK-7, IDM-4)",
              sorted(set(positions) ^ {p for _, p in got})[:20])
        check(not out_of_order(got), f"{handler}: effects in order by key")

    rare = {p for p, t, *_ in log if t == "fault.rare"}
    with open(f"{work}/exec") as lines:
        ran = [int(line) for line in lines]
    check(rare == set(ran), "exec: the command ran for every event of its pattern and no other (WRK-6)",
          sorted(rare ^ set(ran))[:20])
    dead = sql("SELECT subscription, \"position\", error_message FROM trunkline.dead_letters")
    check(dead == [], "nobody was given up", dead)
    dead = sql("SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables WHERE relname LIKE 'leaf_bus%'")
    print(f"# dead tuples on events (rolled back by publishers): {dead[0]}")


cluster = f"{work}/pg"
exports = subprocess.run([f"{source}/tools/pg-temp", "start", cluster], check=True, capture_output=True,
                         text=True).stdout
for name, value in re.findall(r"export (\w+)=(.*)", exports):
    os.environ[name] = value.strip("'\"")
db = os.environ["TRUNKLINE_TEST_DB"]
try:
    subprocess.run([f"{build}/trunkline", "migrate", "--db", db], check=True, capture_output=True)
    sql("CREATE TABLE fault_effects (n bigint GENERATED ALWAYS AS IDENTITY, handler text, at bigint, key text,"
        " PRIMARY KEY (handler, at))")
    sql("CREATE FUNCTION public.fault_sql(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.fault_effects"
        " (handler, at, key) SELECT 'sql', (event ->> 'position')::bigint, event ->> 'key' $$")
    subprocess.run(["install", "-m", "666", "/dev/null", f"{work}/exec"], check=True)
    sql(f"SELECT trunkline.subscribe('fault/exec', 'fault.rare', start_at => 'beginning', max_attempts => 1000, target => "
        f"'exec:read -r e && expr \"$e\" : ''.*\"position\":\\([0-9]*\\)'' >> {work}/exec')")
    sql("SELECT trunkline.subscribe('fault/sql', '**', start_at => 'beginning', max_attempts => 100, target => 'sql:public.fault_sql')")
    for i in range(3):
        start(f"publisher{i}", f"{build}/tests/fault/fault_publisher", str(i), str(seed + i), f"{work}/acks{i}")
    for i in range(2):
        start(f"worker{i}", f"{build}/tests/fault/fault_worker", f"{work}/deliveries")
        start(f"daemon{i}", f"{build}/trunkline", "serve", "--db", db, "--lease", "700ms", "--allow-exec")
    kills = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(dice.uniform(0.1, 0.8))  # not to wait for anything: kills at random times
        kill_one()
        kills += 1
    sql_surely("SELECT 1")
    for i in range(3):
        check(end(f"publisher{i}", signal.SIGTERM) == 0, f"publisher {i} ended well", open(f"{work}/publisher{i}.err").read())
    deadline = time.monotonic() + 240
    while not (all_ready() and drained()) and time.monotonic() < deadline:
        time.sleep(0.05)
    check(drained(), "everything drained",
          sql("SELECT name, behind, leased, retrying FROM trunkline.subscription_status"))
    for i in range(2):
        check(end(f"worker{i}", signal.SIGTERM) == 0, f"worker {i} stopped cleanly", open(f"{work}/worker{i}.err").read())
        check(end(f"daemon{i}", signal.SIGTERM) == 0, f"daemon {i} stopped cleanly", open(f"{work}/daemon{i}.err").read()[-2000:])
    verify()
finally:
    for process, _ in processes.values():
        if process.poll() is None:
            process.kill()
            process.wait()
    subprocess.run([f"{source}/tools/pg-temp", "stop", cluster], stdout=subprocess.DEVNULL, check=False)
    if all(results) and not os.environ.get("FAULT_KEEP"):
        shutil.rmtree(work, ignore_errors=True)
    else:
        print(f"# kept: {work}, seed {seed}")
print(f"1..{len(results)}")
sys.exit(0 if all(results) else 1)
