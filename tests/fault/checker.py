"""What was promised, held against what happened.

A History has what writers did and were told, the log, what consumers saw, effects, dead letters and what was
left over. check() returns every broken promise as (promise, what happened); none for a good history. It knows
neither processes nor a database: tests/fault/checker.t feeds it broken histories, episode.py real ones.
"""
import collections
import dataclasses
from typing import Callable, Optional

DONE, RETRY, SKIP, FAIL = 0, 1, 2, 3
EXPECT_ANY = -(1 << 63)
# What a statement may fail with under faults: locks, cancelled, disk full, shut down, connection, read-only standby.
EXPECTED_ERRORS = {"-", "55P03", "57014", "53100", "53200", "53300", "40001", "40P01", "57P01", "57P02", "57P03", "57P05",
                   "08000", "08003", "08006", "25006", "25P02", "25P03", "58030"}


@dataclasses.dataclass
class Asked:
    """One event as its writer made it."""
    key: str
    n: int
    due_us: int = 0


@dataclasses.dataclass
class Operation:
    """outcome: A acknowledged, F failed for certain, X undone on purpose, C conflict, U or None unknown."""
    writer: int
    number: int
    kind: str
    events: list
    outcome: Optional[str] = None
    detail: str = ""
    stream: str = "-"
    expected: int = 0


@dataclasses.dataclass
class Event:
    """A row of the log."""
    topic: str
    position: int
    type: str
    writer: Optional[int] = None
    n: Optional[int] = None
    key: Optional[str] = None
    tenant: Optional[str] = None
    x: Optional[int] = None
    stream: Optional[str] = None
    version: Optional[int] = None
    created_us: int = 0
    expires_us: Optional[int] = None
    slot: Optional[int] = None


@dataclasses.dataclass
class Run:
    """A handler began (verdict None) or ended. attempt 0: not known."""
    subscription: str
    position: int
    attempt: int
    verdict: Optional[int] = None


@dataclasses.dataclass
class Dead:
    subscription: str
    position: int
    reason: str
    attempts: int


@dataclasses.dataclass
class Subscription:
    name: str
    wants: Callable = lambda e: e.topic == "bus"
    ordering: str = "key"  # key, total, none
    max_attempts: int = 10
    has_effects: bool = False  # in the transaction that settles: exactly once
    has_runs: bool = True  # its runs were recorded


@dataclasses.dataclass
class History:
    operations: list = dataclasses.field(default_factory=list)
    log: list = dataclasses.field(default_factory=list)
    subscriptions: list = dataclasses.field(default_factory=list)
    runs: list = dataclasses.field(default_factory=list)
    effects: dict = dataclasses.field(default_factory=dict)  # subscription: positions in the order of effects
    dead: list = dataclasses.field(default_factory=list)
    live: dict = dataclasses.field(default_factory=dict)  # name: (what it wants, column, places it got, in order)
    projection: dict = dataclasses.field(default_factory=dict)  # stream: (version, events that did not fit)
    has_slots: bool = False  # a schedule of one event a second ran
    leftovers: list = dataclasses.field(default_factory=list)  # leases, retries ... after everything was done


def check(history):
    problems = []
    for promise in (check_publishing, check_order_of_log, check_appends, check_delayed, check_slots, check_deliveries,
                    check_order_of_keys, check_effects, check_dead_letters, check_live, check_projection, check_leftovers):
        problems += [(promise.__name__.removeprefix("check_"), text) for text in promise(history)]
    return problems


def stored_by(history):
    at = collections.defaultdict(list)
    for e in history.log:
        if e.writer is not None:
            at[e.writer, e.n].append(e)
    return at


# ---------------------------------------------------------------------------------------------- the log

def check_publishing(history):
    """Acknowledged: there, once. Not known: once or not at all, and all of a transaction or nothing. Undone: never."""
    at, known = stored_by(history), set()
    for op in history.operations:
        name = f"{op.kind} {op.writer}/{op.number} ({op.outcome or 'no answer'} {op.detail})"
        counts = [len(at[op.writer, a.n]) for a in op.events]
        known.update((op.writer, a.n) for a in op.events)
        if max(counts, default=0) > 1:
            yield f"{name}: an event is in the log {max(counts)} times"
        if op.outcome == "A" and 0 in counts:
            yield f"{name}: was acknowledged, but event {op.events[counts.index(0)].n} is lost"
        elif op.outcome in ("F", "X", "C") and any(counts):
            yield f"{name}: stored nothing, but it is in the log"
        elif 0 in counts and any(counts):
            yield f"{name}: a part of it is in the log: {counts}"
        if op.outcome == "F" and op.detail not in EXPECTED_ERRORS:
            yield f"{name}: an error that no fault explains"
        for a in op.events:
            for e in at[op.writer, a.n]:
                if (e.stream or e.key) != a.key:
                    yield f"{name}: event {a.n} has key {e.key}, not {a.key}"
    for e in history.log:
        if e.writer is not None and (e.writer, e.n) not in known:
            yield f"{e.topic} {e.position}: nobody published event {e.writer}/{e.n}"


def check_order_of_log(history):
    """What a writer was told before it went on lies before what came next, and in the order it was given."""
    at, last = stored_by(history), {}
    for op in history.operations:
        if op.outcome != "A" or op.kind == "delayed":
            continue
        for a in op.events:
            for e in at[op.writer, a.n][:1]:
                before = last.get((op.writer, e.topic), 0)
                if e.position <= before:
                    yield f"{op.kind} {op.writer}/{op.number}: event {a.n} is at {e.topic} {e.position}, behind an earlier one's {before}"
                last[op.writer, e.topic] = e.position
    seen = set()
    for e in history.log:
        if (e.topic, e.position) in seen:
            yield f"{e.topic} {e.position} is there twice"
        seen.add((e.topic, e.position))


def check_appends(history):
    """One winner a version, no hole in a stream, and every answer true."""
    at, last = stored_by(history), collections.Counter()
    for e in sorted(history.log, key=lambda e: (e.topic, e.position)):
        if e.stream is not None:
            if e.version != last[e.stream] + 1:
                yield f"{e.stream}: version {e.version} comes after {last[e.stream]}"
            last[e.stream] = e.version
    winners = {}
    for op in history.operations:
        if op.kind != "append":
            continue
        name = f"append {op.writer}/{op.number} to {op.stream} at {op.expected}"
        if op.outcome == "A":
            version, position = map(int, op.detail.split())
            rows = [e for a in op.events for e in at[op.writer, a.n]]
            if rows and [(e.version, e.stream) for e in rows] != [(version + i, op.stream) for i in range(len(op.events))]:
                yield f"{name}: was told version {version}, the log has {[(e.stream, e.version) for e in rows]}"
            elif rows and rows[0].position != position:
                yield f"{name}: was told position {position}, the log has {rows[0].position}"
            if op.expected >= 0 and version != op.expected + 1:
                yield f"{name}: won with version {version}"
            if winners.setdefault((op.stream, version), op) is not op:
                yield f"{name}: version {version} was given to another append, too"
        elif op.outcome == "C":
            actual = int(op.detail)
            if actual == op.expected or op.expected == EXPECT_ANY:
                yield f"{name}: a conflict with what it expected"
            if actual > last[op.stream]:
                yield f"{name}: was told that the stream is at {actual}, it ends at {last[op.stream]}"


def check_delayed(history):
    """Not before it is due. (Exactly once: check_publishing.)"""
    at = stored_by(history)
    for op in history.operations:
        for a in op.events:
            for e in at[op.writer, a.n]:
                if e.created_us < a.due_us:
                    yield f"delayed {op.writer}/{a.n}: came {(a.due_us - e.created_us) / 1e6:.3f} s early"


def check_slots(history):
    """One event for each second of the schedule."""
    slots = [e.slot for e in history.log if e.slot is not None]
    twice = sorted(s for s, n in collections.Counter(slots).items() if n > 1)
    if twice:
        yield f"slots that fired twice: {twice[:10]}"
    missing = sorted(set(range(min(slots), max(slots))) - set(slots)) if slots else []
    if missing:
        yield f"slots that never fired: {missing[:10]}"
    if history.has_slots and not slots:
        yield "the schedule never fired"


# -------------------------------------------------------------------------------------------- deliveries

def wanted_by(history, subscription):
    return {e.position: e for e in history.log if subscription.wants(e)}


def runs_of(history, subscription):
    return [r for r in history.runs if r.subscription == subscription.name]


def dead_of(history, subscription):
    return {d.position: d for d in history.dead if d.subscription == subscription.name}


def check_deliveries(history):
    """Everything that a subscription wants ended well or is a dead letter; nothing else came; attempts have an end."""
    for s in history.subscriptions:
        wanted, dead, runs = wanted_by(history, s), dead_of(history, s), runs_of(history, s)
        settled = {r.position for r in runs if r.verdict in (DONE, SKIP)}
        vanished = set(wanted) - settled - set(dead)
        if vanished and s.has_runs:
            yield f"{s.name}: neither handled nor a dead letter: {sorted(vanished)[:10]}"
        foreign = ({r.position for r in runs} | set(dead)) - set(wanted)
        if foreign:
            yield f"{s.name}: got what is not of its topic, pattern, tenant or filter: {sorted(foreign)[:10]}"
        most = max((r.attempt for r in runs), default=0)
        if most > s.max_attempts:
            yield f"{s.name}: attempt {most} of {s.max_attempts}"


def check_order_of_keys(history):
    """With an order no event begins for the first time before the earlier ones of its key are settled."""
    for s in history.subscriptions:
        if s.ordering == "none":
            continue
        wanted, dead = wanted_by(history, s), dead_of(history, s)
        waiting, settled, begun = collections.defaultdict(collections.deque), set(), set()

        def key_of(e, total=s.ordering == "total"):
            return "" if total else e.key or e.stream

        for position in sorted(wanted):
            if key_of(wanted[position]) is not None:
                waiting[key_of(wanted[position])].append(position)
        for r in runs_of(history, s):
            e = wanted.get(r.position)
            if e is None or key_of(e) is None:
                continue
            if r.verdict is not None:
                if r.verdict in (DONE, SKIP, FAIL) or r.attempt >= s.max_attempts:
                    settled.add(r.position)
            elif r.position not in begun:
                begun.add(r.position)
                line = waiting[key_of(e)]
                while line and line[0] < r.position and (line[0] in settled or line[0] in dead):
                    line.popleft()
                if line and line[0] < r.position:
                    yield f"{s.name}: {r.position} of key {key_of(e)!r} began before {line[0]} was settled"


def check_effects(history):
    """Effects in the transaction that settles: once, in order, and none of what was given up or skipped."""
    for s in history.subscriptions:
        if not s.has_effects:
            continue
        wanted, dead = wanted_by(history, s), dead_of(history, s)
        effects = history.effects.get(s.name, [])
        counts = collections.Counter(effects)
        skipped = {r.position for r in runs_of(history, s) if r.verdict == SKIP}
        if max(counts.values(), default=0) > 1:
            yield f"{s.name}: effects more than once: {[p for p, n in counts.items() if n > 1][:10]}"
        missing = set(wanted) - set(counts) - set(dead) - skipped
        if missing:
            yield f"{s.name}: effects missing: {sorted(missing)[:10]}"
        both = set(counts) & set(dead)
        if both:
            yield f"{s.name}: dead letters that had an effect: {sorted(both)[:10]}"
        foreign = set(counts) - set(wanted)
        if foreign:
            yield f"{s.name}: effects of what it does not want: {sorted(foreign)[:10]}"
        last = {}
        for position in effects:
            e = wanted.get(position)
            key = "" if s.ordering == "total" else e and (e.key or e.stream)
            if e is None or key is None or s.ordering == "none":
                continue
            if position < last.get(key, 0):
                yield f"{s.name}: the effect of {position} came after that of {last[key]}, key {key!r}"
            last[key] = position


def check_dead_letters(history):
    """Given up after the last attempt and no sooner, for a reason that holds."""
    for s in history.subscriptions:
        wanted, dead = wanted_by(history, s), dead_of(history, s)
        rejected = {r.position for r in runs_of(history, s) if r.verdict == FAIL}
        for d in dead.values():
            e = wanted.get(d.position)
            if d.reason in ("max_attempts", "crashed") and d.attempts != s.max_attempts:
                yield f"{s.name}: {d.position} was given up ({d.reason}) after {d.attempts} of {s.max_attempts} attempts"
            elif d.reason == "rejected" and s.has_runs and d.position not in rejected:
                yield f"{s.name}: {d.position} is rejected, but no handler said so"
            elif d.reason == "expired" and (e is None or e.expires_us is None):
                yield f"{s.name}: {d.position} expired, but it never expires"
            elif d.reason not in ("max_attempts", "crashed", "rejected", "expired"):
                yield f"{s.name}: {d.position} was given up: {d.reason}"
    for (name, position), n in collections.Counter((d.subscription, d.position) for d in history.dead).items():
        if n > 1:
            yield f"{name}: {n} dead letters of {position}"


# ------------------------------------------------------------------------------------------ live, leftovers

def check_live(history):
    """No gap, nothing twice, no other order."""
    for name, (wants, column, got) in history.live.items():
        expected = [getattr(e, column) for e in sorted(history.log, key=lambda e: e.position) if wants(e)]
        for i in range(max(len(expected), len(got))):
            is_at = got[i] if i < len(got) else None
            should = expected[i] if i < len(expected) else None
            if is_at != should:
                yield f"live {name}: number {i} is {is_at}, not {should} (of {len(got)} and {len(expected)})"
                break


def check_projection(history):
    last = collections.Counter()
    for e in history.log:
        if e.stream is not None:
            last[e.stream] = max(last[e.stream], e.version)
    if not history.projection:
        return
    for stream in sorted(set(last) | set(history.projection)):
        version, wrong = history.projection.get(stream, (0, 0))
        if version != last[stream] or wrong:
            yield f"projection of {stream}: at {version} of {last[stream]}, {wrong} events did not fit"


def check_leftovers(history):
    yield from history.leftovers
