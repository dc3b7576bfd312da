#!/usr/bin/env python3
"""An episode of every fault that the machine permits, from a random seed (SUB-10, WRK-4, WRK-7, PUB-1, PUB-4, EVS-3, EVS-8).

FAULT_SECONDS (8) is how long the faults last, FAULT_SEED replays their plan; tests/fault/README.md.
"""
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import soak  # noqa: E402

soak.enter_namespace()
from episode import ALL_FAULTS, run  # noqa: E402

# Half-open connections are noticed after half a minute: that is for `make soak`.
SLOW = {"swallow", "hook_swallow"}
build, source = os.environ["TRUNKLINE_BUILD"], os.environ["TRUNKLINE_SOURCE"]
seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1 << 30))
print(f"# FAULT_SEED={seed}", flush=True)
names = soak.choose([n for n in ALL_FAULTS if n not in SLOW], seed)
result = run(seed, float(os.environ.get("FAULT_SECONDS", "8")), names, build, source, bool(os.environ.get("FAULT_KEEP")))
print(f"# {result}")
promises = ["publishing", "order_of_log", "appends", "delayed", "slots", "deliveries", "order_of_keys", "effects",
            "dead_letters", "live", "projection", "leftovers", "liveness", "process", "driver"]
for number, promise in enumerate(promises, 1):
    broken = [text for p, text in result.problems if p == promise]
    print(f"{'not ok' if broken else 'ok'} {number} - {promise.replace('_', ' ')}")
    for text in broken[:10]:
        print("\n".join("# " + line for line in text.splitlines()[:12]))
number = len(promises) + 1
is_worth = result.counts["acknowledged"] >= 20 and sum(result.counts["faults"].values()) >= 5
print(f"{'ok' if is_worth else 'not ok'} {number} - the episode was worth something")
number += 1
if "disk_full" in names:
    print(f"ok {number} - with a disk that fills up")
else:
    print(f"ok {number} - with a disk that fills up # SKIP mount namespaces are not permitted here")
print(f"1..{number}")
sys.exit(1 if result.problems or not is_worth else 0)
