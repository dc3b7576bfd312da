"""PostgreSQL of one episode: a cluster of tools/pg-temp, a streaming standby when asked for, on a disk of limited size
and with a clock that can jump where that is possible."""
import os
import re
import signal
import struct
import subprocess
import time

LIMIT_S = 120  # for what hangs


class Cluster:
    def __init__(self, work, source, build, with_standby, with_clock):
        self.work, self.source, self.build = work, source, build
        self.disk = f"{work}/disk"
        os.mkdir(self.disk, 0o755)
        self.has_disk = os.environ.get("FAULT_NAMESPACE") == "1"
        if self.has_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0755", "none", self.disk], check=True)
        self.clock_file = f"{work}/clock"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "TRUNKLINE_"))}
        if os.environ.get("PGBINDIR"):
            self.environment["PGBINDIR"] = os.environ["PGBINDIR"]
        self.has_clock = with_clock
        if with_clock:
            self.jump(0)
            self.environment.update(LD_PRELOAD=f"{build}/tests/fault/libfault_clock.so", FAULT_CLOCK=self.clock_file)
        self.primary, self.standby = f"{self.disk}/pg", None
        out = subprocess.run([f"{source}/tools/pg-temp", "start", self.primary], check=True, capture_output=True, text=True,
                             env=self.environment).stdout
        self.bindir = re.search(r"PGBINDIR='?([^'\n]+)", out)[1]
        owner = os.stat(f"{self.primary}/data")
        self.as_owner = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups", "--"] if os.getuid() == 0 else []
        self.data, self.port = f"{self.primary}/data", 5432
        for setting in ("max_wal_size = '96MB'", "min_wal_size = '32MB'", "wal_keep_size = '64MB'", "wal_retrieve_retry_interval = '200ms'",
                        "synchronous_commit = 'remote_apply'", "restart_after_crash = on"):
            self.sql(f"ALTER SYSTEM SET {setting}")
        self.sql("SELECT pg_reload_conf()")
        if with_standby:
            self._make_standby()

    # ------------------------------------------------------------------------------------- talking to it

    def conninfo(self):
        return f"host={self.primary} port={self.port} user=postgres dbname=postgres"

    def psql(self, query, db=None):
        return [f"{self.bindir}/psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", (db or self.conninfo()), "-c", query]

    def try_sql(self, query):
        """Rows as text; None when the server is not there, or refuses."""
        done = subprocess.run(self.psql(query), capture_output=True, text=True, timeout=LIMIT_S, check=False)
        self.error = done.stderr
        return done.stdout.splitlines() if done.returncode == 0 else None

    def sql(self, query):
        """Through a server that is just recovering; an error of the statement itself comes again."""
        deadline = time.monotonic() + LIMIT_S
        while (rows := self.try_sql(query)) is None:
            if time.monotonic() > deadline or "ERROR:" in self.error and "No space" not in self.error:
                raise RuntimeError(f"{query}: {self.error}")
            time.sleep(0.05)
        return rows

    def _owner_runs(self, *command, check=False):
        return subprocess.run([*self.as_owner, "env", "LC_ALL=C", *command], cwd=self.disk, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, env=self.environment, check=check).returncode

    # --------------------------------------------------------------------------------- what befalls it

    def crash(self):
        self._owner_runs(f"{self.bindir}/pg_ctl", "stop", "-D", self.data, "-m", "immediate", "-t", "60")

    def start(self):
        """Those that do not run; not while the disk is full."""
        if os.path.exists(f"{self.disk}/ballast"):
            return
        for data, port in {(self.data, self.port), (self.standby or self.data, 5433 if self.standby else self.port)}:
            if self._owner_runs(f"{self.bindir}/pg_ctl", "status", "-D", data) != 0:
                self._owner_runs(f"{self.bindir}/pg_ctl", "start", "-D", data, "-w", "-t", str(LIMIT_S), "-l",
                                 f"{self.primary}/log{'.standby' if data == self.standby else ''}", "-o", f"-p {port}")

    def kill_backend(self, number):
        """One backend dies by itself: the server restarts all of them."""
        pids = self.try_sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
        if pids:
            try:
                os.kill(int(pids[number % len(pids)]), signal.SIGKILL)
            except ProcessLookupError:
                pass

    def fill_disk(self):
        try:
            with open(f"{self.disk}/ballast", "ab", buffering=0) as file:
                while file.write(b"\0" * 65536) == 65536:
                    pass
        except OSError:
            pass

    def clear_disk(self):
        if os.path.exists(f"{self.disk}/ballast"):
            os.unlink(f"{self.disk}/ballast")

    def jump(self, seconds):
        """The server's clock is that much ahead of ours from now on. (Whole in one write: who reads it, reads it all.)"""
        fd = os.open(self.clock_file, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(fd, struct.pack("=q", seconds * 1_000_000_000), 0)
        os.close(fd)

    # ------------------------------------------------------------------------------------- the standby

    def _make_standby(self):
        self.standby = f"{self.primary}/standby"
        self._owner_runs(f"{self.bindir}/pg_basebackup", "-D", self.standby, "-R", "-X", "stream", "--checkpoint=fast", "-d",
                         f"host={self.primary} port={self.port} user=postgres", check=True)
        self.start()
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.sql("SELECT pg_reload_conf()")

    def promote(self):
        """The primary is lost, the standby takes over: all that anybody was told, or could see, is there."""
        lsn = self.sql("SELECT pg_current_wal_flush_lsn()")[0]
        deadline = time.monotonic() + LIMIT_S
        while self.sql(f"SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn >= '{lsn}'") != ["1"]:
            if time.monotonic() > deadline:
                raise RuntimeError("the standby does not follow")
            time.sleep(0.05)
        self.crash()
        self.data, self.port = self.standby, 5433
        self._owner_runs(f"{self.bindir}/pg_ctl", "promote", "-w", "-t", str(LIMIT_S), "-D", self.standby, check=True)

    # -------------------------------------------------------------------------------------------- end

    def stop(self):
        self.clear_disk()
        for data in {self.data, f"{self.primary}/data", self.standby or self.data}:
            self._owner_runs(f"{self.bindir}/pg_ctl", "stop", "-D", data, "-m", "immediate", "-t", "60")

    def logs(self):
        return [path for path in (f"{self.primary}/log", f"{self.primary}/log.standby") if os.path.exists(path)]

    def unmount(self):
        if self.has_disk:
            subprocess.run(["umount", "--lazy", self.disk], check=False)
