#!/usr/bin/python3
"""What cron expressions mean, by two other implementations than ours, as COPY rows: cron, time zone,
after, expected. croniter (Debian: python3-croniter) away from changes of the clock; around those a
walk over all local minutes with the zone rules of Python.

    cron_oracle.py SEED COUNT
"""
import random
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from croniter import croniter

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
DAYS = "sun mon tue wed thu fri sat".split()
SPANS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


def item(rng, index):
    low, high = SPANS[index]
    kind = rng.random()
    a, b = sorted(rng.randint(low, high) for _ in range(2))
    if kind < 0.45:
        if index == 3 and rng.random() < 0.3:
            return rng.choice((MONTHS[a - 1], MONTHS[a - 1].upper()))
        if index == 4 and rng.random() < 0.5:
            return rng.choice((DAYS[a], "7" if a == 0 else DAYS[a].capitalize()))
        return str(a)
    if kind < 0.7:
        return f"{a}-{b}"
    if kind < 0.85 and a < b:
        return f"{a}-{b}/{rng.randint(1, b - a)}"
    # croniter holds */N of a day field for restricted, Vixie cron does not
    return f"*/{rng.randint(2, 20 if high > 12 else 6)}" if index not in (2, 4) else str(a)


def expression(rng, star=0.45):
    fields = []
    for index in range(5):
        if rng.random() < star:
            fields.append("*")
        else:
            fields.append(",".join(item(rng, index) for _ in range(rng.choice((1, 1, 1, 2, 3)))))
    return " ".join(fields)


def by_croniter(rng):
    while True:
        cron = expression(rng)
        minutes = rng.choice((0, 0, 60, -300, 345))
        zone = timezone(timedelta(minutes=minutes))
        after = datetime(2024, 1, 1, tzinfo=zone) + timedelta(seconds=rng.randint(0, 4 * 366 * 86400))
        # croniter holds a list of all days for unrestricted, Vixie cron goes by the '*'
        fields, sets_of = cron.split(), croniter(cron).expanded
        if any(sets_of[index] == ["*"] and fields[index] != "*" for index in (2, 4)):
            continue
        try:
            expected = croniter(cron, after).get_next(datetime)
        except (ValueError, KeyError):
            continue  # no such day
        # POSIX counts west of Greenwich
        sign = "-" if minutes >= 0 else "+"
        name = f"<local>{sign}{abs(minutes) // 60}:{abs(minutes) % 60:02d}"
        return cron, "UTC" if minutes == 0 else name, after, expected


def sets(cron):
    """croniter's own reading of the fields: which numbers each stands for."""
    chosen = []
    for index, values in enumerate(croniter(cron).expanded[:5]):
        low, high = SPANS[index]
        chosen.append(set(range(low, high + 1)) if values == ["*"] else set(values))
    return chosen


def by_walk(rng, zone_name, around):
    """A day before the clock changes to two days after, minute by minute."""
    zone = ZoneInfo(zone_name)
    cron = f"{item(rng, 0)} {rng.choice(('*', item(rng, 1), item(rng, 1), '1-3', '0', '23', '2'))} * * *"
    minutes, hours = sets(cron)[:2]
    after = around.astimezone(timezone.utc) + timedelta(seconds=rng.randint(-86400, 86400 // 2))
    if len(hours) == 24:  # real time
        moment = after.replace(second=0) + timedelta(minutes=1)
        while moment.astimezone(zone).minute not in minutes:
            moment += timedelta(minutes=1)
        return cron, zone_name, after, moment
    local = after.astimezone(zone).replace(tzinfo=None, second=0) - timedelta(hours=3)
    while True:
        if local.minute in minutes and local.hour in hours:
            moment = local.replace(tzinfo=zone, fold=0).astimezone(timezone.utc)
            if moment.astimezone(zone).replace(tzinfo=None) != local:
                # passed over: the first minute after it that there is
                later = local
                while True:
                    later += timedelta(minutes=1)
                    moment = later.replace(tzinfo=zone).astimezone(timezone.utc)
                    if moment.astimezone(zone).replace(tzinfo=None) == later:
                        break
            if moment > after:
                return cron, zone_name, after, moment
        local += timedelta(minutes=1)


CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=timezone.utc)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=timezone.utc)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=timezone.utc)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=timezone.utc)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=timezone.utc)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=timezone.utc)),
    ("America/Havana", datetime(2026, 3, 8, 5, tzinfo=timezone.utc)),
    ("America/Havana", datetime(2026, 11, 1, 5, tzinfo=timezone.utc)),
    ("America/Nuuk", datetime(2026, 3, 29, 1, tzinfo=timezone.utc)),
    ("America/Nuuk", datetime(2026, 10, 25, 1, tzinfo=timezone.utc)),
]


def main():
    rng = random.Random(int(sys.argv[1]))
    for number in range(int(sys.argv[2])):
        row = by_croniter(rng) if number % 4 else by_walk(rng, *rng.choice(CHANGES))
        print("\t".join(str(value) for value in row))


main()
