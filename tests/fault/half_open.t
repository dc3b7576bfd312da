#!/usr/bin/env python3
"""A daemon whose connections died without a word notices it and goes on (WRK-4, WAK-4): the server is alive, the client's
side of each connection is never told, and no packet is refused, so neither TCP nor keepalives help."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from net import Proxy  # noqa: E402

build, source = os.environ["TRUNKLINE_BUILD"], os.environ["TRUNKLINE_SOURCE"]
LIMIT_S = 240
results = []


def check(is_good, name, detail=""):
    results.append(bool(is_good))
    print(f"{'ok' if is_good else 'not ok'} {len(results)} - {name}", flush=True)
    if not is_good and detail:
        print("\n".join("# " + line for line in str(detail).splitlines()[-20:]))


def sql(query):
    return subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", db, "-c", query], check=True, capture_output=True,
                          text=True).stdout.strip()


def wait(condition):
    deadline = time.monotonic() + LIMIT_S
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def said():
    with open(log_path, encoding="utf-8") as log:
        return log.read()


def has_come(kind):
    return sql(f"SELECT count(*) FROM trunkline.topic_bus WHERE type = '{kind}'") == "1"


db = subprocess.run([f"{source}/tools/pg-db", "create"], check=True, capture_output=True, text=True).stdout.strip()
proxy = Proxy(f"{os.environ['PGHOST']}/.s.PGSQL.{os.environ['PGPORT']}")
log_path = f"{os.environ.get('TRUNKLINE_TEST_DIR', '/tmp')}/serve.err"
through = f"{db} host=127.0.0.1 port={proxy.port}"
with open(log_path, "w", encoding="utf-8") as log:
    daemon = subprocess.Popen([f"{build}/trunkline", "serve", "--db", through], stdout=log, stderr=log)
try:
    check(wait(lambda: "event=leader" in said()), "a daemon leads", said())
    sql("SELECT trunkline.publish('first', '1', delay => '10 ms')")
    check(wait(lambda: has_come("first")), "and moves what falls due", said())
    proxy.set("swallow")  # all that is connected, for good
    proxy.set("pass")
    sql("SELECT trunkline.publish('second', '1', delay => '10 ms')")
    check(wait(lambda: has_come("second")), "its connections are half-open: it connects anew and goes on", said())
    # Whichever of its connections is the first to be given up moves it; control says so when it gives up its own.
    check(wait(lambda: "no answer from the server within" in said()), "and says why", said())
    daemon.terminate()
    check(daemon.wait(timeout=LIMIT_S) == 0, "it stops cleanly", said())
finally:
    if daemon.poll() is None:
        daemon.kill()
        daemon.wait()
    subprocess.run([f"{source}/tools/pg-db", "drop", db], check=False)
print(f"1..{len(results)}")
sys.exit(0 if all(results) else 1)
