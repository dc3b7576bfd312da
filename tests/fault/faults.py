"""What goes wrong: a plan made from a seed, and the hands that do it.

A fault begins, lasts a while and ends; several may be there at once. The plan is a list of
(second, fault, how long, a number that chooses the victim), the same for the same seed.
"""
import dataclasses
import random
import signal
import subprocess

# How often one comes, compared with the others, and how long it lasts.
FAULTS = {
    "kill": (8, 0, 0),              # kill -9 of a publisher, worker, live subscriber or daemon
    "freeze": (5, 0.2, 4),          # SIGSTOP and SIGCONT of one: longer than a lease, now and then
    "terminate": (4, 0, 0),         # pg_terminate_backend of one connection, or of all
    "cut": (3, 0, 0),               # connections between clients and server are reset
    "swallow": (2, 0.5, 3),         # half-open: both sides are alive and hear nothing
    "slow": (2, 0.5, 2),            # a slow link
    "delay": (2, 0.5, 2),           # a long one
    "refuse": (1, 0.3, 1.5),        # nobody can connect
    "hook_cut": (2, 0, 0),          # the same between daemons and the receiver of webhooks
    "hook_swallow": (1, 0.5, 3),
    "hook_slow": (1, 0.5, 2),
    "hook_refuse": (2, 0.3, 1.5),
    "crash": (2, 0.1, 1.5),         # immediate stop of the server, down for a while
    "backend": (1, 0, 0),           # kill -9 of one backend: the server restarts itself
    "lock_table": (3, 0.1, 1.5),    # somebody holds ACCESS EXCLUSIVE on a table of ours
    "lock_rows": (2, 0.1, 1.5),     # ... or rows
    "long": (2, 0.5, 4),            # a long transaction that has written, idle
    "long_elsewhere": (1, 0.5, 4),  # ... in another database
    "parked": (3, 0.2, 2),          # a publisher that holds its transaction open
    "disk_full": (1, 0.2, 1.5),
    "clock": (1, 0, 0),             # the server's clock jumps, either way
    "promote": (0, 0, 0),           # the primary is lost, the standby takes over: once, where the plan says
}
TABLES = ["cursors", "leases", "retries", "dead_letters", "dedup", "streams", "subscriptions", "scheduled", "schedules",
          "listeners", "topic_bus", "topic_store"]
JUMPS = [-60, -5, -1, 1, 5, 60]


@dataclasses.dataclass
class Fault:
    at: float
    name: str
    duration: float
    number: int

    def __str__(self):
        return f"{self.at:6.2f} {self.name} {self.duration:.2f} {self.number}"


def make_plan(seed, seconds, names):
    dice, plan, at = random.Random(seed), [], 0.5
    pool = [n for n in FAULTS if n in names and FAULTS[n][0]]
    while pool:
        at += dice.uniform(0.1, 0.9)
        if at > seconds:
            break
        name = dice.choices(pool, [FAULTS[n][0] for n in pool])[0]
        plan.append(Fault(at, name, dice.uniform(*FAULTS[name][1:]), dice.randrange(1 << 16)))
    if "promote" in names:
        plan.append(Fault(dice.uniform(0.3, 0.7) * seconds, "promote", 0, 0))
        plan.sort(key=lambda f: f.at)
    return plan


class Hands:
    """begin() and end() of each fault, on an episode: its cluster, processes and proxies."""

    def __init__(self, episode):
        self.e = episode
        self.sessions = []

    def begin(self, f):
        kind, _, mode = f.name.rpartition("_") if f.name.startswith("hook_") else ("", "", f.name)
        proxies = [self.e.hook_proxy] if kind == "hook" else self.e.proxies
        if mode == "cut":
            for proxy in proxies:
                proxy.cut()
        elif mode in ("swallow", "slow", "delay", "refuse"):
            for proxy in proxies:
                proxy.set(mode)
        else:
            getattr(self, "begin_" + f.name)(f)

    def end(self, f):
        mode = f.name.removeprefix("hook_")
        if mode in ("swallow", "slow", "delay", "refuse"):
            for proxy in [self.e.hook_proxy] if f.name.startswith("hook_") else self.e.proxies:
                if proxy.mode == mode:
                    proxy.set("pass")
        elif f.name == "freeze":
            self.victim(f).signal(signal.SIGCONT)
        elif f.name == "crash":
            self.e.cluster.start()
        elif f.name == "disk_full":
            self.e.cluster.clear_disk()
            self.e.cluster.start()

    def heal(self):
        """Nothing is wrong any more, whatever the plan still says."""
        for proxy in [*self.e.proxies, self.e.hook_proxy]:
            proxy.set("pass")
        for process in self.e.processes.values():
            process.signal(signal.SIGCONT)
        self.e.cluster.clear_disk()
        self.e.cluster.start()
        for session in self.sessions:
            session.wait(timeout=120)

    def victim(self, f):
        return list(self.e.processes.values())[f.number % len(self.e.processes)]

    def in_background(self, query, db=None):
        self.sessions.append(subprocess.Popen(self.e.cluster.psql(query, db), stdin=subprocess.DEVNULL,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def begin_kill(self, f):
        self.e.restart(self.victim(f))

    def begin_freeze(self, f):
        self.victim(f).signal(signal.SIGSTOP)

    def begin_terminate(self, f):
        others = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid"
        limit = "" if f.number % 5 == 0 else f" LIMIT 1 OFFSET {f.number % 15}"
        self.e.cluster.try_sql(f"SELECT pg_terminate_backend(pid) FROM ({others}{limit}) x")

    def begin_crash(self, f):
        self.e.cluster.crash()

    def begin_backend(self, f):
        self.e.cluster.kill_backend(f.number)

    def begin_lock_table(self, f):
        self.in_background("BEGIN; SET LOCAL lock_timeout = '5s';"
                           f" LOCK TABLE trunkline.{TABLES[f.number % len(TABLES)]} IN ACCESS EXCLUSIVE MODE;"
                           f" SELECT pg_sleep({f.duration}); COMMIT")

    def begin_lock_rows(self, f):
        table = ["cursors", "streams", "subscriptions", "leases", "retries", "scheduled"][f.number % 6]
        self.in_background(f"BEGIN; SET LOCAL lock_timeout = '5s'; SELECT FROM trunkline.{table} FOR UPDATE;"
                           f" SELECT pg_sleep({f.duration}); COMMIT")

    def begin_long(self, f):
        self.in_background(f"BEGIN; INSERT INTO public.bystander VALUES (1); SELECT pg_sleep({f.duration}); ROLLBACK")

    def begin_long_elsewhere(self, f):
        self.in_background(f"BEGIN; CREATE TABLE bystander (n int); SELECT pg_sleep({f.duration}); ROLLBACK",
                           self.e.cluster.conninfo().replace("dbname=postgres", "dbname=template1"))

    def begin_parked(self, f):
        end = "COMMIT" if f.number % 2 else "ROLLBACK"
        call = ["publish('fault.parked', '0')", "append('parked-1', '{\"type\": \"order.parked\"}')"][f.number // 2 % 2]
        self.in_background(f"BEGIN; SELECT trunkline.{call}; SELECT pg_sleep({f.duration}); {end}")

    def begin_disk_full(self, f):
        self.e.cluster.fill_disk()

    def begin_clock(self, f):
        self.e.cluster.jump(JUMPS[f.number % len(JUMPS)])

    def begin_promote(self, f):
        self.e.cluster.clear_disk()
        self.e.cluster.start()
        self.e.cluster.promote()
        self.e.proxies[0].close()
