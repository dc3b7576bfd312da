#!/usr/bin/env python3
"""The checker of histories is held to histories that are broken on purpose: each kind of violation must be named.

A good history of all there is comes first; each case changes it in one way and says which promise must be reported
as broken, or that none is.
"""
import copy
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from checker import (DONE, EXPECT_ANY, FAIL, RETRY, SKIP, Asked, Dead, Event, History, Operation, Run, Subscription,
                     check)

results = 0
failures = 0


def report(is_good, name, detail=""):
    global results, failures
    results += 1
    failures += not is_good
    print(f"{'ok' if is_good else 'not ok'} {results} - {name}")
    if not is_good:
        print("\n".join("# " + line for line in str(detail).splitlines()))


def good():
    """Two writers; 10 events in the bus, 4 in two streams; one of each kind of consumer."""
    h = History()
    h.operations = [
        Operation(1, 1, "publish", [Asked("k", 1)], "A"),
        Operation(1, 2, "batch", [Asked("k", 2), Asked("l", 3)], "A"),
        Operation(1, 3, "publish", [Asked("k", 4)], "F", "55P03"),
        Operation(1, 4, "insert", [Asked("k", 5), Asked("k", 6)], "U", "-"),  # happened
        Operation(1, 5, "copy", [Asked("k", 7), Asked("k", 8)], None),  # did not
        Operation(2, 1, "delayed", [Asked("m", 1, due_us=5_000_000)], "A"),
        Operation(2, 2, "transaction", [Asked("m", 2)], "X"),
        Operation(2, 3, "publish", [Asked("m", 3)], "A"),
        Operation(2, 4, "append", [Asked("s", 4), Asked("s", 5)], "A", "1 1", "s", 0),
        Operation(1, 6, "append", [Asked("s", 9)], "C", "2", "s", 0),
        Operation(1, 7, "append", [Asked("s", 10)], "A", "3 4", "s", 2),
        Operation(2, 5, "append", [Asked("t", 6)], "A", "1 6", "t", EXPECT_ANY),
    ]
    bus = [(1, 1, "k"), (1, 2, "k"), (1, 3, "l"), (2, 3, "m"), (1, 5, "k"), (1, 6, "k"), (2, 1, "m")]
    h.log = [Event("bus", i + 1 + (i > 2), "a", w, n, k, tenant="x" if n % 2 else "y", created_us=6_000_000)
             for i, (w, n, k) in enumerate(bus)]
    h.log += [Event("bus", 9, "tick", slot=100), Event("bus", 10, "tick", slot=101), Event("bus", 11, "tick", slot=102)]
    h.log += [Event("store", p, "o", w, n, None, stream=s, version=v)
              for p, w, n, s, v in ((1, 2, 4, "s", 1), (2, 2, 5, "s", 2), (4, 1, 10, "s", 3), (6, 2, 6, "t", 1))]
    h.log[1].expires_us = 7_000_000
    h.has_slots = True
    h.subscriptions = [
        Subscription("keyed", max_attempts=3),
        Subscription("total", ordering="total", max_attempts=3),
        Subscription("none", ordering="none", max_attempts=3),
        Subscription("exact", has_effects=True, max_attempts=3),
        Subscription("picky", wants=lambda e: e.topic == "bus" and e.tenant == "x"),
        Subscription("orders", wants=lambda e: e.topic == "store"),
    ]
    for s in h.subscriptions:
        for e in h.log:
            if s.wants(e):
                h.runs += [Run(s.name, e.position, 1), Run(s.name, e.position, 1, DONE)]
    h.effects["exact"] = [e.position for e in h.log if e.topic == "bus"]
    h.live = {"all": (lambda e: e.topic == "bus", "position", [e.position for e in h.log if e.topic == "bus"]),
              "stream": (lambda e: e.stream == "s", "version", [1, 2, 3])}
    h.projection = {"s": (3, 0), "t": (1, 0)}
    return h


def op(h, writer, number):
    return next(o for o in h.operations if (o.writer, o.number) == (writer, number))


def at(h, position, topic="bus"):
    return next(e for e in h.log if (e.topic, e.position) == (topic, position))


def forget(h, position):
    """As if it had never been stored."""
    h.log.remove(at(h, position))
    h.runs = [r for r in h.runs if r.position != position or r.subscription == "orders"]
    h.effects["exact"].remove(position)
    h.live["all"][2].remove(position)


def store(h, position, writer, n, key="k"):
    h.log.append(Event("bus", position, "a", writer, n, key, tenant="y", created_us=9_000_000))
    for s in h.subscriptions:
        if s.wants(h.log[-1]):
            h.runs += [Run(s.name, position, 1), Run(s.name, position, 1, DONE)]
    h.effects["exact"].append(position)
    h.live["all"][2].append(position)


def run(h, subscription, position, verdict=DONE):
    return next(r for r in h.runs if (r.subscription, r.position, r.verdict) == (subscription, position, verdict))


def drop(h, subscription, position):
    h.runs = [r for r in h.runs if (r.subscription, r.position) != (subscription, position)]


def swap(h, subscription, first, second):
    """Both runs of one before both of the other."""
    mine = [r for r in h.runs if r.subscription == subscription]
    moved = [r for r in mine if r.position == second]
    drop(h, subscription, second)
    place = next(i for i, r in enumerate(h.runs) if (r.subscription, r.position) == (subscription, first))
    h.runs[place:place] = moved


def end(h, subscription, position, verdict):
    run(h, subscription, position).verdict = verdict


def die(h, subscription, position, reason, attempts, keep=False):
    if not keep:
        h.runs = [r for r in h.runs if (r.subscription, r.position, r.verdict) != (subscription, position, DONE)]
    h.dead.append(Dead(subscription, position, reason, attempts))


def without_effect(h, position):
    h.effects["exact"].remove(position)


# (name, break it, promise that must be reported or None)
CASES = [
    ("an acknowledged event is lost", lambda h: forget(h, 1), "publishing"),
    ("one of an acknowledged batch is lost", lambda h: forget(h, 3), "publishing"),
    ("an acknowledged event is there twice", lambda h: store(h, 12, 1, 1), "publishing"),
    ("an unknown outcome is there twice", lambda h: (store(h, 12, 1, 5), store(h, 13, 1, 6)), "publishing"),
    ("a part of an unknown insert is there", lambda h: forget(h, 7), "publishing"),
    ("an unknown COPY that happened", lambda h: (store(h, 12, 1, 7), store(h, 13, 1, 8)), None),
    ("an event that failed is there", lambda h: store(h, 12, 1, 4), "publishing"),
    ("a transaction that was rolled back is there", lambda h: store(h, 12, 2, 2, "m"), "publishing"),
    ("an event that nobody published", lambda h: store(h, 12, 7, 7), "publishing"),
    ("an event under another key", lambda h: setattr(at(h, 1), "key", "z"), "publishing"),
    ("an error that no fault explains", lambda h: setattr(op(h, 1, 3), "detail", "XX000"), "publishing"),
    ("what failed is in the log with a conflict", lambda h: store(h, 12, 1, 9, "s"), "publishing"),

    ("a batch in another order", lambda h: [setattr(at(h, p), "n", n) or setattr(at(h, p), "key", k)
                                            for p, n, k in ((2, 3, "k"), (3, 2, "k"))]
     and setattr(op(h, 1, 2), "events", [Asked("k", 2), Asked("k", 3)]), "order_of_log"),
    ("a later publish lies before an earlier one", lambda h: [setattr(at(h, p), "n", n) for p, n in ((1, 2), (2, 1))],
     "order_of_log"),
    ("an unknown one may come later", lambda h: (forget(h, 6), forget(h, 7), store(h, 12, 1, 5), store(h, 13, 1, 6)), None),
    ("a position twice", lambda h: setattr(at(h, 11), "position", 10), "order_of_log"),

    ("a hole in a stream", lambda h: (setattr(at(h, 4, "store"), "version", 4), setattr(op(h, 1, 7), "detail", "4 4"),
                                      setattr(op(h, 1, 7), "expected", EXPECT_ANY), h.projection.update(s=(4, 0)),
                                      h.live["stream"][2].__setitem__(2, 4)), "appends"),
    ("a version twice", lambda h: (setattr(at(h, 4, "store"), "version", 2), setattr(op(h, 1, 7), "detail", "2 4"),
                                   setattr(op(h, 1, 7), "expected", 1), h.projection.update(s=(2, 0)),
                                   h.live["stream"][2].__setitem__(2, 2)), "appends"),
    ("two winners of one version", lambda h: (setattr(op(h, 1, 6), "outcome", "A"), setattr(op(h, 1, 6), "events", []),
                                              setattr(op(h, 1, 6), "detail", "1 1")), "appends"),
    ("a winner of another version than he expected", lambda h: setattr(op(h, 1, 7), "expected", 1), "appends"),
    ("a winner who was told another version", lambda h: setattr(op(h, 2, 5), "detail", "2 6"), "appends"),
    ("a winner who was told another position", lambda h: setattr(op(h, 1, 7), "detail", "3 5"), "appends"),
    ("a conflict with what was expected", lambda h: setattr(op(h, 1, 6), "expected", 2), "appends"),
    ("a conflict without an expectation", lambda h: setattr(op(h, 1, 6), "expected", EXPECT_ANY), "appends"),
    ("a conflict with a version that never was", lambda h: setattr(op(h, 1, 6), "detail", "9"), "appends"),

    ("a delayed event that is early", lambda h: setattr(at(h, 8), "created_us", 4_999_999), "delayed"),
    ("a delayed event that is lost", lambda h: forget(h, 8), "publishing"),
    ("a delayed event that was moved twice", lambda h: store(h, 12, 2, 1, "m"), "publishing"),
    ("a slot that fired twice", lambda h: setattr(at(h, 10), "slot", 100), "slots"),
    ("a slot that was left out", lambda h: setattr(at(h, 11), "slot", 103), "slots"),
    ("a schedule that never fired", lambda h: [forget(h, p) for p in (9, 10, 11)], "slots"),

    ("an event that a subscription never got", lambda h: drop(h, "none", 5), "deliveries"),
    ("an event that failed and is gone", lambda h: end(h, "none", 5, RETRY), "deliveries"),
    ("an event that crashed its handler and is gone",
     lambda h: h.runs.remove(run(h, "none", 5)), "deliveries"),
    ("an event of another tenant", lambda h: h.runs.extend([Run("picky", 2, 1), Run("picky", 2, 1, DONE)]), "deliveries"),
    ("an event that is not in the log", lambda h: h.runs.extend([Run("none", 99, 1), Run("none", 99, 1, DONE)]), "deliveries"),
    ("a dead letter of another tenant", lambda h: h.dead.append(Dead("picky", 2, "crashed", 10)), "deliveries"),
    ("one attempt too many", lambda h: h.runs.append(Run("none", 5, 4)), "deliveries"),
    ("a delivery again", lambda h: h.runs.extend([Run("keyed", 5, 2), Run("keyed", 5, 2, DONE)]), None),

    ("a key out of order", lambda h: swap(h, "keyed", 2, 6), "order_of_keys"),
    ("other keys may overtake", lambda h: swap(h, "keyed", 5, 6), None),
    ("a total order that is none", lambda h: swap(h, "total", 5, 6), "order_of_keys"),
    ("no order, none to break", lambda h: swap(h, "none", 1, 5), None),
    ("a later event of the key while one is tried again",
     lambda h: (end(h, "keyed", 2, RETRY), h.runs.extend([Run("keyed", 2, 2), Run("keyed", 2, 2, DONE)])), "order_of_keys"),
    ("a later event after the last attempt",
     lambda h: (setattr(run(h, "keyed", 2), "attempt", 3), end(h, "keyed", 2, RETRY),
                h.dead.append(Dead("keyed", 2, "max_attempts", 3))), None),
    ("a stream out of order", lambda h: swap(h, "orders", 1, 2), "order_of_keys"),

    ("an effect twice", lambda h: h.effects["exact"].append(11), "effects"),
    ("no effect", lambda h: without_effect(h, 5), "effects"),
    ("no effect of what was skipped", lambda h: (without_effect(h, 5), end(h, "exact", 5, SKIP)), None),
    ("no effect of what is dead", lambda h: (without_effect(h, 5), end(h, "exact", 5, FAIL),
                                             h.dead.append(Dead("exact", 5, "rejected", 1))), None),
    ("an effect of what is dead", lambda h: (end(h, "exact", 5, FAIL), h.dead.append(Dead("exact", 5, "rejected", 1))),
     "effects"),
    ("an effect of what is not in the log", lambda h: h.effects["exact"].append(99), "effects"),
    ("effects of a key out of order", lambda h: h.effects.update(exact=[1, 6, 2, 3, 5, 7, 8, 9, 10, 11]), "effects"),
    ("effects of other keys in any order", lambda h: h.effects.update(exact=[3, 5, 1, 2, 8, 6, 7, 9, 10, 11]), None),

    ("dead after the last attempt", lambda h: die(h, "none", 5, "max_attempts", 3), None),
    ("dead too soon", lambda h: die(h, "none", 5, "max_attempts", 2), "dead_letters"),
    ("crashed too seldom", lambda h: die(h, "none", 5, "crashed", 1), "dead_letters"),
    ("rejected by a handler", lambda h: (end(h, "none", 5, FAIL), h.dead.append(Dead("none", 5, "rejected", 1))), None),
    ("rejected by nobody", lambda h: die(h, "none", 5, "rejected", 1), "dead_letters"),
    ("expired", lambda h: (drop(h, "none", 2), h.dead.append(Dead("none", 2, "expired", 0))), None),
    ("expired though it never does", lambda h: (drop(h, "none", 5), h.dead.append(Dead("none", 5, "expired", 0))), "dead_letters"),
    ("given up for a reason that is none", lambda h: die(h, "none", 5, "tired", 1), "dead_letters"),
    ("two dead letters of one event", lambda h: (die(h, "none", 5, "crashed", 3), die(h, "none", 5, "crashed", 3)), "dead_letters"),

    ("a live subscriber misses the last", lambda h: h.live["all"][2].pop(), "live"),
    ("a live subscriber misses one in the middle", lambda h: h.live["all"][2].pop(4), "live"),
    ("a live subscriber gets one twice", lambda h: h.live["all"][2].insert(4, h.live["all"][2][4]), "live"),
    ("a live subscriber in another order", lambda h: h.live["all"][2].sort(key=lambda p: (p != 2, p)), "live"),
    ("a live subscriber of a stream misses a version", lambda h: h.live["stream"][2].pop(1), "live"),
    ("a live subscriber gets what is not there", lambda h: h.live["all"][2].append(12), "live"),

    ("a projection that is behind", lambda h: h.projection.update(s=(2, 0)), "projection"),
    ("a projection that took one in another order", lambda h: h.projection.update(t=(1, 1)), "projection"),
    ("a projection of a stream that is not there", lambda h: h.projection.update(u=(1, 0)), "projection"),
    ("a projection without a stream", lambda h: h.projection.pop("t"), "projection"),
    ("a lease that is left", lambda h: h.leftovers.append("a lease of keyed"), "leftovers"),
]

report(check(good()) == [], "a good history", check(good()))
for name, damage, promise in CASES:
    history = good()
    damage(history)
    problems = check(history)
    found = sorted({p for p, _ in problems})
    report(promise in found if promise else not found, f"{promise or 'nothing wrong'}: {name}", f"found {problems}")
# every check has a case that it must find
untested = {c.removeprefix("check_") for c in dir(sys.modules["checker"]) if c.startswith("check_")} - {p for _, _, p in CASES}
report(not untested, "each promise is broken at least once", untested)
print(f"1..{results}")
sys.exit(1 if failures else 0)
