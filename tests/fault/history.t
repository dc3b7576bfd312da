#!/usr/bin/env python3
"""Random verdicts, crashes, slot changes, pauses and redrives, and a checker of the history (SUB-10, WRK-4, WRK-7,
RET-1, RET-6).

Three workers with six subscriptions each write down every start and end of a handler. They are killed, their
handlers die, subscriptions are paused, get other slots, dead letters are redriven. Then everything is let run to its
end and the history is held against the promises: nothing lost, order per key, attempts within their limit, effects of
transactions exactly once, nothing outside of tenant, filter and pattern.

FAULT_SECONDS (8) is how long that lasts, FAULT_SEED replays the choices of a run.
"""
import collections
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
seconds = float(os.environ.get("FAULT_SECONDS", "8"))
seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1 << 30))
dice = random.Random(seed)
work = tempfile.mkdtemp(prefix="tl-history-", dir="/tmp")
os.chmod(work, 0o755)
history_file = f"{work}/history"
results, workers = [], {}
DONE, RETRY, SKIP, FAIL = "0", "1", "2", "3"
MAX_ATTEMPTS = {"hist/key": 4, "hist/one": 4, "hist/total": 3, "hist/none": 3, "hist/exact": 4, "hist/picky": 5}
counts = collections.Counter()


def check(is_good, name, detail=""):
    results.append(bool(is_good))
    print(f"{'ok' if is_good else 'not ok'} {len(results)} - {name}", flush=True)
    if not is_good and detail:
        print("\n".join("# " + line for line in str(detail).splitlines()[:20]))


def sql(query, may_fail=False):
    done = subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", db, "-c", query],
                          capture_output=True, text=True)
    if done.returncode != 0 and not may_fail:
        raise SystemExit(f"{query}: {done.stderr}")
    return done.stdout.splitlines() if done.returncode == 0 else None


def start(i, mood):
    log = open(f"{work}/worker{i}.err", "a")
    workers[i] = subprocess.Popen([f"{build}/tests/fault/fault_deliver", str(dice.randrange(1 << 30)), history_file, mood],
                                  stdout=log, stderr=log, env={**os.environ, "TRUNKLINE_DB": db})


def publish(count):
    """Keys at random, a few events without one; of type hist.some or hist.other, tenant a or b, x 0 or 1."""
    sql("INSERT INTO trunkline.topic_bus (type, tenant_id, key, data) SELECT"
        f" CASE WHEN random() < 0.7 THEN 'hist.some' ELSE 'hist.other' END, CASE WHEN random() < 0.7 THEN 'a' ELSE 'b' END,"
        f" CASE WHEN random() < 0.9 THEN 'k' || floor(random() * 6) END, jsonb_build_object('x', round(random()))"
        f" FROM generate_series(1, {count})")


def disturb():
    name = dice.choice(list(MAX_ATTEMPTS))
    what = dice.choice(["kill", "kill", "pause", "resume", "slots", "redrive", "publish", "publish"])
    counts[what] += 1
    if what == "kill":
        i = dice.randrange(3)
        workers[i].send_signal(signal.SIGKILL)
        workers[i].wait(timeout=240)
        start(i, "wild")
    elif what == "pause":
        sql(f"SELECT trunkline.pause('{name}', 'a test')")
    elif what == "resume":
        sql(f"SELECT trunkline.resume(name) FROM trunkline.subscriptions WHERE NOT active")
    elif what == "slots":
        sql(f"SELECT trunkline.set_slots('hist/key', {dice.choice([1, 2, 3, 4, 8])})", may_fail=True)
    elif what == "redrive":
        # only of these, so that a test of order can tell a redriven event from one that lost its place
        sql("SELECT trunkline.redrive(subscription => 'hist/none')")
        sql("SELECT trunkline.redrive(subscription => 'hist/picky')")
    else:
        publish(dice.randrange(1, 60))
    for i, process in workers.items():
        if process.poll() is not None:  # a handler ended its process
            counts["died"] += 1
            start(i, "wild")


def is_drained():
    return sql("SELECT name FROM trunkline.subscription_status WHERE behind + leased + retrying > 0") == []


def read_history():
    with open(history_file) as lines:
        for line in lines:
            what, pid, name, position, attempt, verdict = line.split()
            yield what, pid, name, int(position), int(attempt), verdict


def overtaken(name, events, dead):
    """Events that began, the first time, before an earlier one of their key was settled."""
    key_of = {p: (k if name != "hist/total" else "") for p, k, *_ in events}
    waiting, settled, begun, bad = collections.defaultdict(list), set(), set(), []
    for p, key in sorted(key_of.items()):
        if key is not None:
            waiting[key].append(p)
    for what, _, of, position, attempt, verdict in read_history():
        key = key_of.get(position)
        if of != name or key is None:
            continue
        if what == "E":
            # one that failed for the last time is a dead letter, if it is one in the end
            if verdict in (DONE, SKIP, FAIL) or attempt >= MAX_ATTEMPTS[name]:
                settled.add(position)
        elif position not in begun:
            begun.add(position)
            line = waiting[key]
            while line and line[0] < position and (line[0] in settled or line[0] in dead):
                line.pop(0)
            if line and line[0] < position:
                bad.append(f"{name}: {position} of key {key!r} began before {line[0]} was settled")
    return bad


def doubled(name, events):
    """Events of one key that ran at once. Who died in a handler ran until then, no longer."""
    key_of = {p: (k if name != "hist/total" else "") for p, k, *_ in events}
    running, bad = {}, []
    for what, pid, of, position, _, _ in read_history():
        key = key_of.get(position)
        if of != name or key is None:
            continue
        if what == "S":
            other = running.get(key)
            if other and other[0] == pid:
                bad.append(f"{name}: {position} of key {key!r} began while {other[1]} ran in the same process")
            running[key] = (pid, position)
        elif running.get(key) == (pid, position):
            del running[key]
    return bad


def verify():
    log = [(int(p), k or None, t, tenant, x) for p, k, t, tenant, x in (
        row.split("|") for row in sql("SELECT \"position\", key, type, tenant_id, data ->> 'x' FROM trunkline.topic_bus"
                                      " ORDER BY \"position\""))]
    wanted = {name: log for name in MAX_ATTEMPTS}
    wanted["hist/picky"] = [e for e in log if e[2:] == ("hist.some", "a", "1")]
    dead = collections.defaultdict(dict)
    for row in sql("SELECT subscription, \"position\", state, reason, attempts FROM trunkline.dead_letters"):
        name, position, state, reason, attempts = row.split("|")
        dead[name][int(position)] = (state, reason, int(attempts))
    starts, ends, most = collections.Counter(), collections.defaultdict(set), collections.Counter()
    for what, _, name, position, attempt, verdict in read_history():
        most[name] = max(most[name], attempt)
        if what == "S":
            starts[name, position] += 1
        elif verdict in (DONE, SKIP):
            ends[name].add(position)
    print(f"# {len(log)} events, {sum(starts.values())} deliveries, {dict(counts)}, seed {seed}")
    check(len(log) >= 100 and counts["kill"] + counts["died"] >= 2, "the run was worth something")
    for name, events in wanted.items():
        positions = {p for p, *_ in events}
        got = {p for n, p in starts if n == name}
        # one that crashed at every attempt may have done its work each time
        lost = positions - ends[name] - set(dead[name])
        check(not lost, f"{name}: every event was settled (WRK-4)", sorted(lost)[:20])
        check(got <= positions, f"{name}: nothing from outside of pattern, tenant, filter", sorted(got - positions)[:20])
        check(most[name] <= MAX_ATTEMPTS[name], f"{name}: no attempt beyond max_attempts (RET-1)", most[name])
        used_up = {p: d for p, d in dead[name].items() if d[1] == "max_attempts" and d[2] != MAX_ATTEMPTS[name]}
        check(not used_up, f"{name}: given up after max_attempts and no sooner (RET-1)", used_up)
        wrong = {p: d for p, d in dead[name].items() if d[1] not in ("max_attempts", "rejected", "crashed")}
        check(not wrong, f"{name}: for no other reason", wrong)
    for name in "hist/key", "hist/one", "hist/total", "hist/exact", "hist/picky":
        bad = overtaken(name, wanted[name], dead[name])
        check(not bad, f"{name}: in the order of keys, over failures, crashes and slots (SUB-10)", "\n".join(bad))
    for name in "hist/key", "hist/one", "hist/total", "hist/exact":
        bad = doubled(name, wanted[name])
        check(not bad, f"{name}: no two of a key at once in a process (SUB-10)", "\n".join(bad))
    effects = collections.Counter(int(p) for p in sql("SELECT at FROM fault_effects"))
    twice = [p for p, n in effects.items() if n > 1]
    check(not twice, "hist/exact: no effect twice (WRK-7)", twice)
    skipped = {p for what, _, n, p, _, v in read_history() if n == "hist/exact" and what == "E" and v == SKIP}
    missing = {p for p, *_ in log} - set(effects) - set(dead["hist/exact"]) - skipped
    check(not missing, "hist/exact: no effect missing (WRK-7)", sorted(missing)[:20])
    both = set(effects) & {p for p, d in dead["hist/exact"].items() if d[0] == "dead"}
    check(not both, "hist/exact: a dead letter had no effect (RET-6)", sorted(both)[:20])


cluster = f"{work}/pg"
exports = subprocess.run([f"{source}/tools/pg-temp", "start", cluster], check=True, capture_output=True,
                         text=True).stdout
for name, value in re.findall(r"export (\w+)=(.*)", exports):
    os.environ[name] = value.strip("'\"")
db = os.environ["TRUNKLINE_TEST_DB"]
try:
    subprocess.run([f"{build}/trunkline", "migrate", "--db", db], check=True, capture_output=True)
    sql("CREATE TABLE fault_effects (at bigint)")
    publish(100)
    for i in range(3):
        start(i, "wild")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(dice.uniform(0.02, 0.3))  # not to wait for anything: disturbances at random times
        disturb()
    for process in workers.values():
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=240)
    sql("SELECT trunkline.resume(name) FROM trunkline.subscriptions WHERE NOT active")
    for i in range(2):
        start(i, "calm")
    deadline = time.monotonic() + 240
    while not is_drained() and time.monotonic() < deadline:
        time.sleep(0.05)
    check(is_drained(), "everything drained",
          "\n".join(sql("SELECT name, active, behind, leased, retrying FROM trunkline.subscription_status")))
    for i in range(2):
        workers[i].send_signal(signal.SIGTERM)
        check(workers[i].wait(timeout=240) == 0, f"worker {i} stopped cleanly", open(f"{work}/worker{i}.err").read()[-2000:])
    verify()
finally:
    for process in workers.values():
        if process.poll() is None:
            process.kill()
            process.wait()
    subprocess.run([f"{source}/tools/pg-temp", "stop", cluster], stdout=subprocess.DEVNULL, check=False)
    if all(results) and results and not os.environ.get("FAULT_KEEP"):
        shutil.rmtree(work, ignore_errors=True)
    else:
        print(f"# kept: {work}, seed {seed}")
print(f"1..{len(results)}")
sys.exit(0 if all(results) else 1)
