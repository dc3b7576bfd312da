#!/usr/bin/env python3
"""Episodes of faults until the time is over, one line each. tests/fault/README.md has more.

Each episode has its own seed, counted up from --seed (default: random); --seed N --episodes 1 replays one.
"""
import argparse
import os
import random
import sys
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("TRUNKLINE_BUILD") or f"{SOURCE}/build")


def enter_namespace():
    """A mount namespace of our own, for disks of limited size, where that is permitted."""
    if os.environ.get("FAULT_NAMESPACE") or os.getuid() != 0:
        return
    permitted = os.system("unshare -m sh -c 'mount -t tmpfs none /mnt' 2>/dev/null") == 0
    os.environ["FAULT_NAMESPACE"] = "1" if permitted else "0"
    if permitted:
        os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])


def choose(names, seed):
    """Of these faults those of the episode with that seed. A standby costs time, so one episode in three has one; not with
    a clock that jumps, since a standby that lost its primary then waits as long as the clock was set back."""
    has_standby = "promote" in names and (seed % 3 == 0 or "clock" not in names)
    left_out = {"clock" if has_standby else "promote"}
    if os.environ.get("FAULT_NAMESPACE") != "1":
        left_out.add("disk_full")
    return [n for n in names if n not in left_out]


def main():
    from episode import ALL_FAULTS, run
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", metavar="H", type=float, help="begin no episode after so long (default: after the first)")
    parser.add_argument("--episodes", metavar="N", type=int, help="how many, whatever the time")
    parser.add_argument("--seconds", metavar="S", type=float, default=20, help="of each episode (default 20)")
    parser.add_argument("--seed", metavar="N", type=int, default=random.SystemRandom().randrange(1 << 30),
                        help="of the first episode (default: random)")
    parser.add_argument("--faults", metavar="NAME,...", default=",".join(ALL_FAULTS),
                        help=f"default: all, {', '.join(ALL_FAULTS)}; of these those that the seed picks")
    parser.add_argument("--keep", action="store_true", help="keep the folder of an episode")
    o = parser.parse_args()
    if (o.hours or 0) < 0 or (o.episodes is not None and o.episodes < 1) or not o.seconds > 0:
        parser.error("--hours, --episodes and --seconds are greater than 0")
    names = o.faults.split(",")
    if unknown := set(names) - set(ALL_FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(ALL_FAULTS)}")
    until = time.monotonic() + (o.hours or 0) * 3600
    failed = done = 0
    while done < o.episodes if o.episodes else time.monotonic() < until or not done:
        result = run(o.seed + done, o.seconds, choose(names, o.seed + done), BUILD, SOURCE, o.keep)
        print(f"{time.strftime('%H:%M:%S')} {result}", flush=True)
        for promise, text in result.problems[:10]:
            print(f"  {promise}: {text}", flush=True)
        failed += bool(result.problems)
        done += 1
    print(f"{done} episodes, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    enter_namespace()
    sys.exit(main())
