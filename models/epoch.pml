/*
 * The epoch of a cursor: what prepare_next() has asked once is true for its statement as long as the cursor has that epoch.
 *
 * EVENTS fresh events of one subscription without an order (the most that other claims may do), readable from the start
 * (horizon.pml). Workers claim by the statement or as claim_live() and take_lease() do: first the lock on the cursor, then
 * the look. FAILURES that handlers report, TROUBLES: leases that expire in or after the hands of their owner, RELEASES: leases
 * handed back, REDRIVES: dead letters, beside whose events nothing waits, CHANGES of the operator. A transaction locks in one step and
 * commits, or rolls back, in a later one.
 *
 * Left out: the position, which the statement compares as well. The epoch alone is enough.
 *
 * Checked: from its lock to its commit, nobody has a lease and there is no left-over of one, no retry (but those redriven),
 * no replay, and the subscription is active. TWIN_* breaks one rule.
 */
#ifndef EVENTS
#define EVENTS 2
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef FAILURES
#define FAILURES 1
#endif
#ifndef TROUBLES
#define TROUBLES 1
#endif
#ifndef RELEASES
#define RELEASES 1
#endif
#ifndef REDRIVES
#define REDRIVES 0
#endif
#ifndef CHANGES
#define CHANGES 1
#endif

#define NOBODY 255
#define UNKNOWN 0

/* the row of the cursor */
byte epoch = 1;
byte events = EVENTS;      /* above it */
byte locked = NOBODY;

/* the row of the subscription */
bool is_active = true;
byte version;              /* xmin */

/* leases: one of each worker at a time; a lease that is not there is NONE, and a token never comes again */
mtype = { NONE, RANGE, RETRY }
mtype lease[WORKERS] = NONE;
bool is_expired[WORKERS];
bool is_locked[WORKERS];   /* by an ack or a takeover that has not ended */
byte left;                 /* leases that nobody holds: released, or the rest of one that was lost */

byte retries;              /* rows without a token, but for those */
byte redriven;
bool is_replay;

byte failures = FAILURES;
byte troubles = TROUBLES;
byte releases = RELEASES;
byte redrives = REDRIVES;
byte changes = CHANGES;

#define has_leases (left > 0 || lease[0] != NONE || lease[1] != NONE || lease[WORKERS - 1] != NONE)
#define is_clear (is_active && !has_leases && retries == 0 && !is_replay)

#ifdef TWIN_LEASES_NOT_ASKED
#define prepares_beside_leases true
#else
#define prepares_beside_leases (!has_leases)
#endif
#ifdef TWIN_RETRIES_NOT_ASKED
#define prepares_beside_retries true
#else
#define prepares_beside_retries (retries + redriven == 0)
#endif
#ifdef TWIN_REPLAYS_NOT_ASKED
#define prepares_beside_replays true
#else
#define prepares_beside_replays (!is_replay)
#endif
#define is_preparable (is_active && prepares_beside_leases && prepares_beside_retries && prepares_beside_replays)

/* on_failure => 'stop', by an ack or a claim: without the lock on the cursor, or without an epoch. */
inline stop() {
    is_active = false; version++
}

inline delete_lease(x) {
    lease[x] = NONE; is_expired[x] = false; is_locked[x] = false
}

inline give_lease(kind) {
    lease[me] = kind;
    assert(epoch < NOBODY);                         /* it does not wrap */
#ifndef TWIN_LEASE_WITHOUT_EPOCH
    epoch++
#else
    epoch = epoch + is_next
#endif
}

inline hand_back(kind) {
    left = left + (kind == RANGE); retries = retries + (kind == RETRY)
}

#define may_take_over(y) (is_active && (lease[me] == NONE || (y) == me) && lease[y] != NONE && is_expired[y] && !is_locked[y])

proctype worker(byte me) {
    byte known = UNKNOWN;  /* epoch of the cursor when nothing else was there */
    byte asked;            /* version of the subscription then */
    byte x;
    bool is_next, is_failed;
    mtype taken;

idle:
    atomic {
        is_next = false; is_failed = false; x = 0; taken = NONE;
        asked = (known == UNKNOWN -> 0 : asked);
        if
        :: known == UNKNOWN -> goto prepare
        :: known != UNKNOWN -> goto next
        :: lease[me] == NONE || is_expired[me] -> goto claim
        fi
    };

prepare:                                            /* prepare_next(): one query */
#ifdef TWIN_EPOCH_READ_LATER
    atomic {
        if
        :: is_preparable -> asked = version
        :: else -> goto idle
        fi
    };
    known = epoch;
#else
    atomic {
        if
        :: is_preparable -> asked = version; known = epoch
        :: else
        fi
    };
#endif
    goto idle;

next:                                               /* the statement: its snapshot */
    atomic {
        if
        :: epoch == known && version == asked && events > 0
        :: else -> known = UNKNOWN; goto idle
        fi
    };
    atomic {                                        /* its lock, and the row once more; locked: passed over */
        if
#ifdef TWIN_EPOCH_OF_THE_SNAPSHOT
        :: locked == NOBODY && events > 0 ->
#else
        :: locked == NOBODY && epoch == known ->
#endif
            locked = me; assert(is_clear)
        :: else -> known = UNKNOWN; goto idle
        fi
    };
    atomic {
        locked = NOBODY;
        if
        :: true ->
            assert(is_clear);
            is_next = true;
            events--;
            give_lease(RANGE);
            goto busy
        :: known = UNKNOWN; goto idle               /* rolled back */
        fi
    };

claim:                                              /* as claim_live(), take_lease() do */
    atomic { locked == NOBODY -> locked = me; known = UNKNOWN };
    atomic {                                        /* the look, in a later snapshot */
        x = NOBODY;
        if
        :: may_take_over(0) -> x = 0
        :: may_take_over(1) -> x = 1
        :: may_take_over(WORKERS - 1) -> x = WORKERS - 1
        :: is_active && lease[me] == NONE -> taken = (left > 0 || is_replay || events > 0 -> RANGE : NONE)
        :: is_active && lease[me] == NONE && retries + redriven > 0 -> taken = RETRY
        :: taken = NONE
        fi;
        if
        :: x != NOBODY -> is_locked[x] = true
        :: else
        fi
    };
    atomic {
        locked = NOBODY;
        if
        :: x != NOBODY ->
            is_locked[x] = false;
            taken = lease[x];
            if
            :: delete_lease(x); give_lease(taken); goto busy
            :: delete_lease(x); hand_back(taken)    /* and nothing handed out */
            :: delete_lease(x)                      /* dead: its last attempt */
            :: delete_lease(x); retries++; stop()   /* and all wait for it */
            :: true                                 /* rolled back */
            fi
        :: x == NOBODY && taken == RETRY ->
            if
            :: retries > 0 -> retries--; give_lease(RETRY); goto busy
            :: redriven > 0 -> redriven--; give_lease(RETRY); goto busy
            :: true
            fi
        :: x == NOBODY && taken == RANGE ->
            if
            :: left > 0 -> left--; give_lease(RANGE); goto busy
            :: is_replay -> is_replay = false; give_lease(RANGE); goto busy
            :: events > 0 -> events--; give_lease(RANGE); goto busy
            :: true
            fi
        :: else
        fi
    };
    goto idle;

busy:
    if
    :: true                                         /* done */
    :: atomic { failures > 0 -> failures--; is_failed = true }
    :: atomic { releases > 0 -> releases-- }; goto release
    :: atomic { troubles > 0 -> troubles--; known = UNKNOWN; /* died */
                is_expired[me] = (lease[me] != NONE); goto idle }
    fi;
    atomic {                                        /* ack(): the row of the lease, by its token */
        if
        :: lease[me] != NONE && !is_locked[me] -> is_locked[me] = true
        :: lease[me] == NONE -> goto lost
        fi
    };
    atomic {
        if
        :: delete_lease(me);
           if
           :: is_failed -> retries++                /* comes again */
           :: is_failed -> retries++; stop()        /* and all wait for it */
           :: true                                  /* dead, or done */
           fi;
#ifdef TWIN_CHAINS_AFTER_FAILURE
           known = (is_next -> known + 1 : UNKNOWN)
#else
           known = (is_next && !is_failed -> known + 1 : UNKNOWN)
#endif
        :: troubles > 0 -> troubles--;              /* died and rolled back */
           is_locked[me] = false; is_expired[me] = true; known = UNKNOWN
        fi
    };
    goto idle;

release:
    atomic {
        if
        :: lease[me] != NONE && !is_locked[me] ->
            hand_back(lease[me]);
            delete_lease(me);
#ifdef TWIN_CHAINS_AFTER_RELEASE
            known = (is_next -> known + 1 : UNKNOWN)
#else
            known = UNKNOWN
#endif
        :: lease[me] == NONE -> goto lost
        fi
    };
    goto idle;

lost:                                               /* TL004 */
#ifdef TWIN_CHAINS_AFTER_LOSS
    known = (is_next -> known + 1 : UNKNOWN);
#else
    known = UNKNOWN;
#endif
    goto idle
}

/* pause(), resume(), replay(): lock_cursors(), then the change. */
proctype operator() {
end:
    do
    :: atomic { changes > 0 && locked == NOBODY -> changes--; locked = WORKERS };
       atomic {
           locked = NOBODY;
           if
           :: true ->
#ifndef TWIN_CHANGE_WITHOUT_EPOCH
               epoch++;
#endif
               if
               :: is_replay = true
               :: is_active -> is_active = false; version++
               :: !is_active -> is_active = true; version++
               fi
           :: true                                  /* rolled back */
           fi
       }
    od
}

/* redrive() locks no cursor; time passes. */
proctype others() {
end:
    do
    :: atomic { redrives > 0 -> redrives--; redriven++ }
    :: atomic { troubles > 0 && lease[0] != NONE && !is_expired[0] -> troubles--; is_expired[0] = true }
    :: atomic { troubles > 0 && lease[1] != NONE && !is_expired[1] -> troubles--; is_expired[1] = true }
    :: atomic { troubles > 0 && lease[WORKERS - 1] != NONE && !is_expired[WORKERS - 1] ->
                troubles--; is_expired[WORKERS - 1] = true }
    od
}

init {
    byte w;
    atomic {
        do
        :: w < WORKERS -> run worker(w); w++
        :: else -> w = 0; break
        od;
        run operator();
        run others()
    }
}
