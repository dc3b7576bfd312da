/*
 * The scheduled move: each delayed event leaves `scheduled` exactly once, into the log or by cancel().
 *
 * A mover takes the try-lock of its transaction, reads which rows are due, locks each (skipping one
 * that another transaction has), inserts them into the log, deletes them, commits; it may die or roll
 * back anywhere before that. cancel() finds a row by its id, locks and deletes it, commits or rolls
 * back. Rows of open transactions are seen by others as they were before.
 *
 * Not here: why the log loses nothing (horizon.pml), ids (a unique key), retries of rows that the log
 * refuses (they stay, like those of a mover that rolled back).
 *
 * Bounds: EVENTS, due in the order of their numbers, MOVERS that move at most BATCH at a time, TROUBLES
 * (deaths and rollbacks). One canceller tries to cancel event 0. A flag named TWIN_* breaks one rule.
 */
#ifndef EVENTS
#define EVENTS 3
#endif
#ifndef MOVERS
#define MOVERS 2
#endif
#ifndef BATCH
#define BATCH 2
#endif
#ifndef TROUBLES
#define TROUBLES 2
#endif

#if EVENTS != 3
#error "is_something_due() counts to 3"
#endif
/* next_scheduled() */
#define is_something_due() ((due > 0 && is_there[0]) || (due > 1 && is_there[1]) || (due > 2 && is_there[2]))

#define NOBODY 255
#define CANCELLER MOVERS

byte lock_of[EVENTS] = NOBODY;   /* row lock: of whose transaction */
bool is_there[EVENTS] = true;    /* committed: the row is in scheduled */
byte in_log[EVENTS];             /* committed: how often it is in the log */
bool is_cancelled;               /* cancel() returned true and committed */
bool said_too_late;              /* cancel() said that delivery began */
byte move_lock = NOBODY;
byte last_in_log = NOBODY;       /* event that was put into the log last */
bool has_skipped;                /* a mover went past event 0, which was being cancelled: no order for it */
byte troubles = TROUBLES;
byte due;                        /* events 0 to due - 1 are due */

/* What a commit does is visible at once; locks go with it, and so they do with a rollback. */
inline release(me) {
    d_step {
        e = 0;
        do
        :: e < EVENTS -> lock_of[e] = (lock_of[e] == me -> NOBODY : lock_of[e]); e++
        :: else -> break
        od;
        e = 0;
        move_lock = (move_lock == me -> NOBODY : move_lock)
    }
}

proctype mover(byte me) {
    byte e, n, at;
    bool takes[EVENTS];

end:
    do
    :: is_something_due() ->
        /* pg_try_advisory_xact_lock */
#ifdef TWIN_NO_MOVE_LOCK
        skip;
#else
        atomic {
            if
            :: move_lock == NOBODY -> move_lock = me
            :: else -> goto next
            fi
        };
#endif
        /* SELECT ... FOR UPDATE SKIP LOCKED LIMIT: row by row, in the order of due times */
        at = 0; n = 0;
        do
        :: at < EVENTS && at < due && n < BATCH ->
            atomic {
#ifdef TWIN_NO_ROW_LOCK
                if
                :: is_there[at] -> takes[at] = true; n++
                :: else
                fi;
#else
                if
                /* a row that is gone by the time its lock is had is passed over */
                :: lock_of[at] == NOBODY && is_there[at] -> lock_of[at] = me; takes[at] = true; n++
                :: lock_of[at] != NOBODY && is_there[at] -> has_skipped = has_skipped || lock_of[at] == CANCELLER
                :: !is_there[at]
                fi;
#endif
                at++
            }
        :: else -> break
        od;
#ifdef TWIN_LOG_COMMITS_FIRST
        /* the log in one transaction, scheduled in the next */
        atomic {
            at = 0;
            do
            :: at < EVENTS -> in_log[at] = in_log[at] + takes[at]; at++
            :: else -> at = 0; break
            od
        };
#endif
        if
        :: atomic { troubles > 0 -> troubles-- }       /* dies, is killed, rolls back */
        :: d_step {                                    /* COMMIT: log and scheduled together */
            at = 0;
            do
            :: at < EVENTS ->
                if
                :: takes[at] ->
#ifndef TWIN_LOG_COMMITS_FIRST
                    in_log[at]++;
#endif
                    assert(last_in_log == NOBODY || last_in_log < at || (at == 0 && has_skipped));
                    last_in_log = at;
                    is_there[at] = false
                :: else
                fi;
                at++
            :: else -> at = 0; break
            od
           }
        fi;
        d_step {
            at = 0;
            do
            :: at < EVENTS -> takes[at] = false; at++
            :: else -> at = 0; break
            od
        };
        release(me);
        n = 0;
next:   skip
    od
}

proctype canceller() {
    byte e;
    bool has_found;

again:
    /* find_scheduled(): sees what is committed */
    atomic { has_found = is_there[0] };
    if
    :: !has_found -> said_too_late = (in_log[0] > 0); goto done
    :: else
    fi;
    /* DELETE waits for the row's lock, and takes the row only if it is still there */
#ifdef TWIN_CANCEL_DOES_NOT_WAIT
    is_there[0] = false; is_cancelled = true;
    goto done;
#else
    atomic { lock_of[0] == NOBODY -> lock_of[0] = CANCELLER };
    if
#ifdef TWIN_CANCEL_DOES_NOT_LOOK_AGAIN
    :: false -> skip
#else
    :: !is_there[0] -> release(CANCELLER); goto again
#endif
    :: else
    fi;
    if
    :: d_step { is_there[0] = false; is_cancelled = true }
    :: atomic { troubles > 0 -> troubles-- }
    fi;
    release(CANCELLER);
#endif
done:
    skip
}

proctype clock() {
    do
    :: due < EVENTS -> due++
    :: else -> break
    od
}

/* At every step: an event is in the log once at most, and never when cancel() said that it is not. */
active proctype watch() {
    byte e;

end:
    do
    :: d_step {
        in_log[0] > 1 || in_log[EVENTS - 1] > 1 || (is_cancelled && in_log[0] > 0) -> assert(false)
       }
    od
}

/* Nothing can move any more: nobody holds a lock, and what is due and not cancelled is in the log. */
active proctype outcome() {
    byte e;

    timeout;
    d_step {
        assert(!(said_too_late && is_cancelled));
        do
        :: e < EVENTS ->
            assert(lock_of[e] == NOBODY);
            assert(in_log[e] == 1 || (e == 0 && is_cancelled));
            assert(!is_there[e]);
            e++
        :: else -> break
        od
    }
}

init {
    byte n;
    atomic {
        do
        :: n < MOVERS -> run mover(n); n++
        :: else -> n = 0; break
        od;
        run canceller();
        run clock()
    }
}
