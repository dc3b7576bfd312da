"""One episode: everything there is of Trunkline under load, faults from a plan, then peace, and the checker.

run(seed, seconds, ...) gives a Result. tests/fault/README.md says what is recorded and how to replay.
"""
import collections
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import checker
from checker import Asked, Dead, Event, History, Operation, Run, Subscription
from cluster import LIMIT_S, Cluster
from faults import FAULTS, Hands, make_plan
from net import Proxy, Receiver

DIED, NO_CONNECTION = 9, 3  # exit codes of a handler that ends its process, and of serve
ALL_FAULTS = list(FAULTS)

SUBSCRIPTIONS = [
    Subscription("fault/key", lambda e: e.topic == "bus" and e.type.startswith("fault."), "key", 4),
    Subscription("fault/total", lambda e: e.topic == "bus", "total", 3),
    Subscription("fault/none", lambda e: e.topic == "bus", "none", 3),
    Subscription("fault/exact", lambda e: e.topic == "bus" and e.type.startswith("fault."), "key", 4, has_effects=True),
    Subscription("fault/picky", lambda e: (e.topic, e.type, e.tenant, e.x) == ("bus", "fault.some", "a", 1), "key", 5),
    Subscription("fault/orders", lambda e: e.topic == "store" and e.type.startswith("order."), "key", 1000),
    Subscription("fault/hook", lambda e: (e.topic, e.type) == ("bus", "fault.other"), "key", 100),
    Subscription("fault/exec", lambda e: (e.topic, e.type) == ("bus", "fault.rare"), "key", 100),
    Subscription("fault/sql", lambda e: e.topic == "bus", "key", 100, has_effects=True, has_runs=False),
]
LIVE = {
    "bus": (lambda e: e.topic == "bus", "position"),
    "store": (lambda e: e.topic == "store", "position"),
    "type": (lambda e: (e.topic, e.type, e.tenant) == ("bus", "fault.some", "a"), "position"),
    "category": (lambda e: e.topic == "store" and e.stream.startswith("order-"), "position"),
    "stream": (lambda e: e.topic == "store" and e.stream == "order-1", "version"),
}


@dataclasses.dataclass
class Result:
    seed: int
    problems: list
    counts: dict
    seconds: float
    kept: str = ""

    def __str__(self):
        c = self.counts
        faults = ", ".join(f"{n} {k}" for k, n in sorted(c["faults"].items()))
        return (f"seed {self.seed}: {c['events']} events ({c['acknowledged']} acknowledged, {c['unknown']} not known,"
                f" {c['failed']} failed, {c['conflicts']} conflicts), {c['deliveries']} deliveries, {c['dead']} dead letters;"
                f" {faults}; {self.seconds:.0f} s: {'ok' if not self.problems else f'{len(self.problems)} PROBLEMS, kept in {self.kept}'}")


class Process:
    """One of ours, started again whenever it ends, until it is told to stop."""

    def __init__(self, episode, name, arguments, may_end=()):
        self.episode, self.name, self.arguments, self.may_end = episode, name, arguments, may_end
        self.log = f"{episode.work}/{name}.err"
        self.start()

    def start(self):
        with open(self.log, "a", encoding="utf-8") as log:
            self.popen = subprocess.Popen(self.arguments(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                          env=self.episode.environment(self.name), start_new_session=True)

    def signal(self, number):
        if self.popen.poll() is None:
            self.popen.send_signal(number)

    def kill(self):
        # a command of the daemon goes with it, as in a container
        self.signal(signal.SIGKILL)
        self.popen.wait(timeout=LIMIT_S)

    def stop(self):
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return "does not end"

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-1500:]


class Episode:
    def __init__(self, seed, seconds, names, build, source):
        self.seed, self.seconds, self.build, self.source = seed, seconds, build, source
        self.names, self.problems, self.writers, self.generation = names, [], 0, 0
        self.work = tempfile.mkdtemp(prefix="tl-fault-", dir="/tmp")
        os.chmod(self.work, 0o755)
        os.mkdir(f"{self.work}/live")
        self.journal = f"{self.work}/runs"
        subprocess.run(["install", "-m", "666", "/dev/null", self.journal], check=True)
        self.processes, self.proxies, self.hook_proxy, self.receiver, self.cluster = {}, [], None, None, None
        self.counts = collections.Counter()

    # ------------------------------------------------------------------------------------------- setting up

    def set_up(self):
        c = self.cluster = Cluster(self.work, self.source, self.build, "promote" in self.names, "clock" in self.names)
        ports = [5432] + ([5433] if c.standby else [])
        self.proxies = [Proxy(f"{c.primary}/.s.PGSQL.{port}") for port in ports]
        self.receiver = Receiver(self.seed, self.record)
        self.hook_proxy = Proxy(("127.0.0.1", self.receiver.port))
        self.db = (f"host={','.join(['127.0.0.1'] * len(ports))} port={','.join(str(p.port) for p in self.proxies)}"
                   " user=postgres dbname=postgres connect_timeout=5 target_session_attrs=read-write")
        subprocess.run([f"{self.build}/trunkline", "migrate", "--db", c.conninfo()], check=True, capture_output=True)
        if os.environ.get("FAULT_SQL"):  # breaks something on purpose, to see that it is noticed
            with open(os.environ["FAULT_SQL"], encoding="utf-8") as file:
                c.sql(file.read())
        say = f"echo $0 \"$TRUNKLINE_SUBSCRIPTION $TRUNKLINE_POSITION $TRUNKLINE_ATTEMPT\" $1 >> {self.journal}"
        run = f"sh -c ''{say}'' \"S 0\" -1; if [ $(($TRUNKLINE_POSITION % 7)) = $TRUNKLINE_ATTEMPT ]; then exit 75; fi; sh -c ''{say}'' \"E 0\" 0"
        c.sql("CREATE TABLE fault_effects (n bigint GENERATED ALWAYS AS IDENTITY, handler text, at bigint, key text);"
              " CREATE TABLE fault_projection (stream text PRIMARY KEY, version bigint, wrong integer);"
              " CREATE TABLE bystander (n integer);"
              " CREATE FUNCTION public.fault_sql(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
              "   INSERT INTO public.fault_effects (handler, at, key) VALUES ('fault/sql', (event ->> 'position')::bigint, event ->> 'key');"
              "   IF random() < 0.05 THEN RAISE 'not today'; END IF; END $$;"
              f" SELECT trunkline.subscribe('fault/hook', 'fault.other', target => 'http://127.0.0.1:{self.hook_proxy.port}/fault/hook',"
              "   start_at => 'beginning', max_attempts => 100, retry_delay => '20ms', retry_cap => '500ms', timeout => '3s',"
              "   target_options => '{\"breaker_pause\": \"1s\", \"breaker_cap\": \"2s\", \"events\": false}');"
              f" SELECT trunkline.subscribe('fault/exec', 'fault.rare', target => 'exec:{run}', start_at => 'beginning',"
              "   max_attempts => 100, retry_delay => '20ms', retry_cap => '500ms');"
              " SELECT trunkline.subscribe('fault/sql', '**', target => 'sql:public.fault_sql', start_at => 'beginning',"
              "   max_attempts => 100, retry_delay => '20ms', retry_cap => '500ms');"
              " SELECT trunkline.schedule('tick', 'every 1s', 'fault.tick', missed => 'all', max_missed => 1000)")
        dice = random.Random(self.seed)
        for i in range(3):
            self.add(f"writer{i}", self.writer)
        for i in range(2):
            self.add(f"worker{i}", lambda: [f"{self.build}/tests/fault/fault_consumer", "worker", str(dice.randrange(1 << 30)),
                                            self.journal], (DIED,))
        for i in range(2):
            self.add(f"daemon{i}", lambda: [f"{self.build}/trunkline", "serve", "--db", self.db, "--lease", "2s", "--allow-exec",
                                            "--allow-private", "--maintain-interval", "2s", "--stop-timeout", "100s"], (NO_CONNECTION,))
        self.add("live", lambda: [f"{self.build}/tests/fault/fault_consumer", "live", f"{self.work}/live"])

    def environment(self, name):
        # one of the writers does not wait long for locks
        options = " options='-c lock_timeout=300'" if name == "writer1" else ""
        return {**os.environ, "TRUNKLINE_DB": self.db + options}

    def record(self, text):
        fd = os.open(self.journal, os.O_WRONLY | os.O_APPEND)
        os.write(fd, text.encode())
        os.close(fd)

    def writer(self):
        """Each one that is started has a number of its own."""
        self.writers += 1
        return [f"{self.build}/tests/fault/fault_writer", str(self.writers), str(self.seed + self.writers),
                f"{self.work}/writer.{self.writers}"]

    def add(self, name, arguments, may_end=()):
        self.processes[name] = Process(self, name, arguments, may_end)

    def restart(self, process):
        process.kill()
        process.start()

    def tend(self):
        for process in self.processes.values():
            code = process.popen.poll()
            if code is not None:
                if code not in process.may_end:
                    self.problem("process", f"{process.name} ended by itself, code {code}: {process.said()}")
                self.counts["restarts"] += 1
                process.start()

    def problem(self, promise, text):
        self.problems.append((promise, text))

    # ----------------------------------------------------------------------------------------- the episode

    def run(self):
        self.set_up()
        plan = make_plan(self.seed, self.seconds, self.names)
        with open(f"{self.work}/plan", "w", encoding="utf-8") as file:
            file.writelines(f"{f}\n" for f in plan)
        hands = Hands(self)
        steps = sorted([(f.at, 0, i) for i, f in enumerate(plan)] + [(f.at + f.duration, 1, i) for i, f in enumerate(plan)])
        begin = time.monotonic()
        for at, is_end, i in steps:
            if time.monotonic() - begin > 2 * self.seconds + 10:
                break  # faults that waited for the server took all the time: enough has happened
            while (now := time.monotonic() - begin) < at:
                time.sleep(min(0.1, at - now))
                self.tend()
            (hands.end if is_end else hands.begin)(plan[i])
            self.counts["fault " + plan[i].name] += not is_end
        while time.monotonic() - begin < self.seconds:
            time.sleep(0.1)
            self.tend()
        hands.heal()
        self.calm_down()
        self.problems += checker.check(self.history)

    def wait(self, what, condition):
        """As long as anything moves; what has an end ends."""
        deadline, seen = time.monotonic() + LIMIT_S, None
        while not condition():
            if (now := self.status()) != seen:
                deadline, seen = time.monotonic() + LIMIT_S, now
            if time.monotonic() > deadline:
                self.problem("liveness", f"never: {what}: {seen}")
                return
            self.tend()
            time.sleep(0.1)

    def status(self):
        lines = [f"live {name}: {len(self.live(name))}" for name in LIVE]
        return lines + (self.cluster.try_sql(
            "SELECT name, active, cursor, behind, leased, retrying, dead, (SELECT sum(attempt) FROM trunkline.retries r"
            " WHERE r.subscription_id = s.subscription_id) FROM trunkline.subscription_status s UNION ALL SELECT"
            " 'scheduled ' || scheduled_id, NULL, NULL, NULL, NULL, attempts, NULL, NULL FROM trunkline.scheduled") or [])

    def calm_down(self):
        c = self.cluster
        c.sql("SELECT 1")
        self.receiver.is_calm = True
        for name in [n for n in self.processes if n.startswith("writer")]:
            process = self.processes.pop(name)
            code = process.stop()
            if code != 0:
                self.problem("process", f"{name} stopped with {code}: {process.said()}")
                process.kill()
        last = c.sql("SELECT coalesce(max(\"position\"), 0) FROM trunkline.events")[0]
        self.wait("the schedule fires again", lambda: c.sql(
            f"SELECT 1 FROM trunkline.topic_bus WHERE \"position\" > {last} AND type = 'fault.tick' LIMIT 1"))
        c.sql("SELECT trunkline.unschedule('tick')")

        def is_drained():
            # A webhook that timed out waits a minute, and its breaker may be open: nobody wants to wait for that here.
            c.try_sql("UPDATE trunkline.retries SET next_attempt_at = clock_timestamp() WHERE (subscription_id, \"position\") IN ("
                      " SELECT subscription_id, \"position\" FROM trunkline.retries JOIN trunkline.subscriptions USING (subscription_id)"
                      " WHERE name = 'fault/hook' AND next_attempt_at > clock_timestamp() + interval '2 s' FOR UPDATE OF retries SKIP LOCKED)")
            c.try_sql("SELECT trunkline.resume('fault/hook') FROM trunkline.endpoints LIMIT 1")
            return c.sql("SELECT 1 FROM trunkline.scheduled UNION ALL SELECT 1 FROM trunkline.subscription_status"
                         " WHERE behind + leased + retrying > 0 LIMIT 1") == []
        self.wait("everything is delivered", is_drained)
        self.history = self.read_history()
        self.wait("live subscribers have everything", lambda: all(
            self.live(name)[-1:] == [getattr(e, column) for e in self.history.log if wants(e)][-1:]
            for name, (wants, column) in LIVE.items()))
        for process in self.processes.values():
            code = process.stop()
            if code != 0 and code not in process.may_end:
                self.problem("process", f"{process.name} stopped with {code}: {process.said()}")
        self.history = self.read_history()

    def live(self, name):
        try:
            with open(f"{self.work}/live/{name}", encoding="utf-8") as lines:
                return [int(line) if line.strip().isdigit() else line.strip() for line in lines]
        except FileNotFoundError:
            return []

    # ------------------------------------------------------------------------------------------ the record

    def read_operations(self):
        for number in range(1, self.writers + 1):
            operations = {}
            if not os.path.exists(f"{self.work}/writer.{number}"):
                continue
            with open(f"{self.work}/writer.{number}", encoding="utf-8") as lines:
                for line in lines:
                    word, op, *rest = line.split()
                    if word == "B":
                        events = [Asked(key, int(n), int(due)) for key, n, due in (e.split(":") for e in rest[3].split(","))]
                        operations[op] = Operation(number, int(op), rest[0], events, stream=rest[1], expected=int(rest[2]))
                    else:
                        operations[op].outcome, operations[op].detail = word, " ".join(rest)
            yield from operations.values()

    def read_history(self):
        c = self.cluster

        def number(text):
            return int(text) if text else None

        def rows(query):
            return [row.split("|") for row in c.sql(query)]
        h = History(operations=list(self.read_operations()), subscriptions=SUBSCRIPTIONS, has_slots=True)
        for row in rows("SELECT t.name, e.\"position\", e.type, e.data ->> 'w', e.data ->> 'n', e.key, e.tenant_id, e.data ->> 'x',"
                        " e.stream, e.version, (extract(epoch FROM e.created_at) * 1000000)::bigint,"
                        " (extract(epoch FROM e.expires_at) * 1000000)::bigint,"
                        " extract(epoch FROM (e.metadata ->> 'slot')::timestamptz)::bigint"
                        " FROM trunkline.events e JOIN trunkline.topics t USING (topic_id) ORDER BY 1, 2"):
            topic, position, kind, w, n, key, tenant, x, stream, version, created, expires, slot = row
            h.log.append(Event(topic, int(position), kind, number(w), number(n), key or None, tenant or None, number(x),
                               stream or None, number(version), int(created), number(expires), number(slot)))
        with open(self.journal, encoding="utf-8") as lines:
            for line in lines:
                what, _, name, position, attempt, verdict = line.split()
                h.runs.append(Run(name, int(position), int(attempt), int(verdict) if what == "E" else None))
        for s in SUBSCRIPTIONS:
            if s.has_effects:
                h.effects[s.name] = [int(p) for p, in rows(f"SELECT at FROM fault_effects WHERE handler = '{s.name}' ORDER BY n")]
        h.projection = {s: (int(v), int(wrong)) for s, v, wrong in rows("SELECT * FROM fault_projection")}
        h.dead = [Dead(name, int(p), reason, int(attempts)) for name, p, reason, attempts in
                  rows("SELECT subscription, \"position\", reason, attempts FROM trunkline.dead_letters")]
        h.live = {name: (wants, column, self.live(name)) for name, (wants, column) in LIVE.items()}
        h.leftovers = c.sql("SELECT 'lease of ' || s.name FROM trunkline.leases l JOIN trunkline.subscriptions s USING (subscription_id) WHERE l.held"
                            " UNION ALL SELECT 'retry of ' || s.name || ' ' || \"position\" FROM trunkline.retries JOIN trunkline.subscriptions s USING (subscription_id)"
                            " UNION ALL SELECT 'scheduled ' || id FROM trunkline.scheduled"
                            " UNION ALL SELECT 'subscription not active: ' || name FROM trunkline.subscriptions WHERE NOT active"
                            " UNION ALL SELECT 'horizon of ' || t.name || ' is behind' FROM trunkline.topics t WHERE trunkline.horizon(t.name) <"
                            "   (SELECT max(e.\"position\") FROM trunkline.events e WHERE e.topic_id = t.topic_id)")
        outcomes = collections.Counter(op.outcome for op in h.operations)
        self.counts.update(events=len(h.log) - self.counts["events"], deliveries=len(h.runs) // 2 - self.counts["deliveries"],
                           dead=len(h.dead) - self.counts["dead"])
        self.outcomes = outcomes
        return h

    # ------------------------------------------------------------------------------------------------- end

    def tear_down(self):
        for process in self.processes.values():
            process.signal(signal.SIGCONT)
            process.kill()
        if self.receiver:
            self.receiver.stop()
        if self.cluster:
            self.cluster.stop()

    def keep(self):
        """What one needs to understand it, out of the file system that goes away with this process."""
        for path in self.cluster.logs() if self.cluster else []:
            shutil.copy(path, f"{self.work}/server{'.standby' if path.endswith('standby') else ''}.log")
        with open(f"{self.work}/problems", "w", encoding="utf-8") as file:
            file.writelines(f"{promise}: {text}\n" for promise, text in self.problems)


def run(seed, seconds, names, build, source, keep=False):
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of tear_down()
    e = Episode(seed, seconds, names, build, source)
    try:
        e.run()
    except Exception as error:  # of the driver itself: a failure too, with all that was recorded
        import traceback
        e.problem("driver", "".join(traceback.format_exception(error)))
    finally:
        e.tear_down()
    outcomes = getattr(e, "outcomes", {})
    counts = {**{k: e.counts[k] for k in ("events", "deliveries", "dead", "restarts")},
              "acknowledged": outcomes.get("A", 0), "unknown": outcomes.get("U", 0) + outcomes.get(None, 0),
              "failed": outcomes.get("F", 0), "conflicts": outcomes.get("C", 0),
              "faults": {k.split()[1]: n for k, n in e.counts.items() if k.startswith("fault ")}}
    result = Result(seed, e.problems, counts, time.monotonic() - begin)
    if e.problems or keep:
        e.keep()
        result.kept = e.work
    e.cluster and e.cluster.unmount()
    if not result.kept:
        shutil.rmtree(e.work, ignore_errors=True)
    return result
