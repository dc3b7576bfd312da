/*
 * The in-flight register: readers never pass a position that may still commit.
 *
 * Not here: who wakes the reader (doorbell.pml), what it does with the range (claim.pml), who may
 * rotate (leader.pml). Each process step is one SQL-visible moment; models/README.md maps them to
 * statements.
 *
 * Bounds: WRITERS sessions of TXNS transactions of up to POS positions, JUMPS rotations, one reader
 * reading for ever. A flag named TWIN_* breaks one rule; the checker must then find an error.
 */
#ifndef WRITERS
#define WRITERS 3
#endif
#ifndef TXNS
#define TXNS 1
#endif
#ifndef POS
#define POS 2
#endif
#ifndef JUMPS
#define JUMPS 0
#endif
#define XACTS (WRITERS * TXNS)
#define ROWS (XACTS * POS)

/* Advisory keys hold k modulo MOD (2^32 in the product) and a leaf is a quarter of it (2^30).
 * Without rotation nobody can be more than ROWS behind, so ROWS + 1 is the smallest modulus
 * that is unambiguous. */
#ifndef MOD
#if JUMPS
#define MOD 32
#else
#define MOD (ROWS + 1)
#endif
#endif
#define LEAF (MOD / 4)
#ifndef START
#define START (MOD - 2)    /* last_value at the start: keys wrap soon */
#endif

/* Without these a marker is there only beside a lock, and says nothing that the lock does not. */
#if defined(SAVEPOINT) || defined(TWIN_MARKER_OUTLIVES_TRANSACTION)
#define MARKER
#endif

#define NONE 0    /* not drawn, rolled back, or delivered */
#define RUNNING 1 /* inserted by a transaction in progress */
#define VISIBLE 2 /* committed, not delivered */

byte last;                 /* the sequence: last_value, */
bool is_called = true;     /* and whether nextval returned it */
bool held[XACTS];          /* the register: one shared lock per transaction, */
byte lock_k[XACTS];        /* readers may look only at this modulo MOD */
byte position[ROWS];       /* the log */
byte state[ROWS];
bool is_prepared[4];   /* PREPARE TRANSACTION: waits for the other session, keeps its lock */
#if JUMPS
/* RowExclusiveLock on the topic's table: taken before a DEFAULT is evaluated */
bool is_inserting[XACTS];
#endif
#ifdef QUIET
bool is_running[XACTS];    /* has a transaction number and has not ended, in the eyes of new snapshots */
#ifdef TWIN_QUIET_BY_ENDED
byte numbers;              /* given */
byte number[XACTS];
byte ended;                /* the highest that has ended */
#endif
#endif
byte started; /* writers are alike, so only the order 0, 1, 2 of first steps is explored */
byte cursor;               /* everything up to here was delivered or is dead */
#if TXNS > 1
#define PREPARE 1
#endif

#ifdef QUIET
inline begin_numbered(x) {
    d_step {
#ifdef TWIN_QUIET_BY_ENDED
        if
        :: !is_running[x] -> numbers++; number[x] = numbers
        :: else
        fi;
#endif
        is_running[x] = true
    }
}

inline end_numbered(x) {
    is_running[x] = false;
#ifdef TWIN_QUIET_BY_ENDED
    ended = (number[x] > ended -> number[x] : ended)
#endif
}
#else
inline begin_numbered(x) { skip }
inline end_numbered(x) { skip }
#endif

inline nextval(p) {
    if
    :: is_called -> last++
    :: else -> is_called = true
    fi;
    p = last
}

/* A transaction's outcome becomes visible to new snapshots in one step. */
inline make_visible(x) {
    d_step {
        r = x * POS;
        do
        :: r < x * POS + POS ->
            if
            :: state[r] == RUNNING ->
                assert(position[r] > cursor);    /* else it was skipped: lost */
                state[r] = VISIBLE
            :: else
            fi;
            r++
        :: else -> break
        od;
        r = 0;
        end_numbered(x)
    }
}

/* Rows of a transaction from its nth: gone. No reader can tell when, so callers may join this
 * with what follows. */
inline forget(x, nth) {
    r = x * POS + nth;
    do
    :: r < x * POS + POS ->
        if
        :: state[r] == RUNNING -> state[r] = NONE; position[r] = 0
        :: else
        fi;
        r++
    :: else -> break
    od;
    r = 0
}

inline release(x) {
#if JUMPS
    is_inserting[x] = false;
#endif
    held[x] = false; lock_k[x] = 0
}

inline commit(x) {
#ifdef TWIN_RELEASE_FIRST
    d_step { release(x) };
    make_visible(x)
#else
    make_visible(x);
    d_step { release(x) }
#endif
}

inline abort(x) {
    d_step { forget(x, 0); end_numbered(x); release(x) }
}

inline draw() {
    d_step {
#ifdef TWIN_CACHE
        if /* CACHE 2: the session keeps a drawn number for later */
        :: cached -> position[x * POS + n] = cached; cached = 0
        :: else -> nextval(position[x * POS + n]); last++; cached = last
        fi;
#else
        nextval(position[x * POS + n]);
#endif
        state[x * POS + n] = RUNNING;
        n++
    }
}

proctype writer(byte w) {
    byte t, n, r, k;
    byte x;                    /* the transaction */
    bool has_lock;             /* held[x] */
    bool has_marker;           /* transaction-local: a lock is held */
    bool has_number;           /* of the transaction: has written, here or elsewhere */
    bool in_savepoint, savepoint_had_lock, savepoint_had_marker, savepoint_used;
    byte savepoint_n;
#ifdef TWIN_CACHE
    byte cached;
#endif

    do
    :: t < TXNS ->
        d_step {
            x = w * TXNS + t;
            n = 0;
#ifndef TWIN_MARKER_OUTLIVES_TRANSACTION
            has_marker = false;
#endif
            has_lock = false; has_number = false; in_savepoint = false; savepoint_used = false
        };
        do
#ifdef SAVEPOINT
        :: n < POS && !savepoint_used ->
            d_step {
                savepoint_used = true; in_savepoint = true;
                savepoint_n = n; savepoint_had_lock = has_lock; savepoint_had_marker = has_marker
            }
#endif
        /* publish: register, then nextval, then the row. Who has a lock and no marker takes a second lock and sets
         * the marker, which changes nothing for others: readers look at the lowest lock, and that is the first. */
        :: n < POS && (has_marker || has_lock) ->
#ifdef MARKER
            has_marker = true;
#endif
            draw()
        :: n < POS && !has_marker && !has_lock ->
#if JUMPS
            is_inserting[x] = true;
#endif
            d_step { started >= w -> k = last; started = (started > w -> started : w + 1) };
#ifdef TWIN_NEXTVAL_FIRST
            draw();
#endif
            d_step { held[x] = true; lock_k[x] = k; k = 0; has_lock = true };
#ifdef MARKER
            if /* the first event of who has written nothing else goes without */
            :: !has_number -> has_number = true
            :: d_step { has_marker = true; has_number = true }
            fi;
#endif
#if defined(QUIET) && !defined(TWIN_QUIET_NUMBER_AFTER_DRAW)
            begin_numbered(x);
#endif
#ifdef TWIN_QUIET_NUMBER_AFTER_DRAW
            draw();
            begin_numbered(x)
#elif !defined(TWIN_NEXTVAL_FIRST)
            draw()
#endif
        /* ROLLBACK TO: rows die, lock and marker go together */
        :: in_savepoint && n > savepoint_n ->
            d_step {
                forget(x, savepoint_n);
                in_savepoint = false;
                if
                :: !savepoint_had_lock -> release(x); has_lock = false
                :: else
                fi;
#ifndef TWIN_MARKER_OUTLIVES_SAVEPOINT
                has_marker = savepoint_had_marker
#endif
            }

        :: n -> commit(x); break
        :: n -> abort(x); break
#ifdef PREPARE
        :: n -> /* the session goes on, the transaction stays in flight */
            d_step {
                is_prepared[x] = true;
#ifdef TWIN_PREPARE_DROPS_LOCK
                held[x] = false; lock_k[x] = 0;
#endif
            };
            break
#endif
        od;
        t++
    :: else ->
        d_step { x = 0; n = 0; savepoint_n = 0; savepoint_had_lock = false; savepoint_had_marker = false;
                 has_lock = false; has_number = false; has_marker = false; in_savepoint = false; savepoint_used = false };
        break
    od
}

#ifdef PREPARE
proctype second_phase() {
    byte x, r;
end:
    do
    :: atomic { is_prepared[0] -> is_prepared[0] = false; x = 0 }; goto decide
    :: atomic { is_prepared[1] -> is_prepared[1] = false; x = 1 }; goto decide
    :: atomic { is_prepared[2] -> is_prepared[2] = false; x = 2 }; goto decide
    :: atomic { is_prepared[XACTS - 1] -> is_prepared[XACTS - 1] = false; x = XACTS - 1 };
decide:
        if
        :: commit(x)
        :: abort(x)
        fi;
        x = 0
    od
}
#endif

/* Steps 1 to 3. pg_locks is one moment (it holds every partition of the lock table); with
 * ENTRYWISE the proof does not even need that. */
byte seen_k[2 * XACTS];
bool seen[2 * XACTS];

inline read_register(me) {
#ifdef ENTRYWISE
    do
    :: i < XACTS ->
        d_step { seen[me * XACTS + i] = held[i]; seen_k[me * XACTS + i] = lock_k[i]; i++ }
    :: else -> break
    od
#else
    d_step {
        do
        :: i < XACTS -> seen[me * XACTS + i] = held[i]; seen_k[me * XACTS + i] = lock_k[i]; i++
        :: else -> break
        od;
        i = 0
    }
#endif
}

inline decode(me) {
    d_step {
        horizon = L; exact = L;
        i = 0;
        do
        :: i < XACTS ->
            if
            :: seen[me * XACTS + i] ->
                k = seen_k[me * XACTS + i];
                exact = (k < exact -> k : exact);
                /* all that pg_locks shows of k is k % MOD */
#ifdef TWIN_DECODE_L
                k = L - ((L + MOD - (k % MOD)) % MOD);
#else
                k = L2 - ((L2 + MOD - (k % MOD)) % MOD);
#endif
                horizon = (k < horizon -> k : horizon)
            :: else
            fi;
            seen[me * XACTS + i] = false; seen_k[me * XACTS + i] = 0;
            i++
        :: else -> break
        od;
        horizon = (horizon < cursor -> cursor : horizon);
        exact = (exact < cursor -> cursor : exact);
#ifndef SAFETY_ONLY
        assert(horizon >= exact); /* no stall; a horizon too high shows as a loss */
#endif
        L = 0; L2 = 0; k = 0; exact = 0; i = 0
    }
}

inline compute_horizon(me) {
#ifdef TWIN_LOCKS_FIRST
    read_register(me);
    L = last; L2 = L;
#else
    L = last;                                       /* (1) */
    read_register(me);                              /* (2) */
    L2 = last;                                      /* (2b) */
#endif
    decode(me)                                      /* (3) */
}

#ifdef QUIET
/*
 * The short way of claim_live(): when nobody at all is in flight, the last value is the horizon. The reader takes a
 * number of its own behind (1); in a later snapshot nobody with a lower one runs. Else the register.
 */
inline remember_older() {
    d_step {
        do
        :: i < XACTS -> older[i] = is_running[i]; i++
        :: else -> break
        od;
        i = 0
    }
}

inline look_if_quiet() {
    d_step {
        is_quiet = true;
        do
        :: i < XACTS ->
#ifdef TWIN_QUIET_BY_ENDED
            /* a snapshot knows of those that run only up to the last that has ended */
            is_quiet = is_quiet && !(is_running[i] && number[i] < ended);
#else
            is_quiet = is_quiet && !(is_running[i] && older[i]);
#endif
            older[i] = false;
            i++
        :: else -> break
        od;
        i = 0
    }
}

inline compute_horizon_quietly() {
#ifdef TWIN_QUIET_NUMBER_FIRST
    remember_older();
    Q = last;
#else
    Q = last;                                       /* (1) */
    remember_older();
#endif
    look_if_quiet();
    if
    :: is_quiet -> d_step { horizon = (Q < cursor -> cursor : Q); Q = 0; is_quiet = false }
    :: else -> Q = 0; compute_horizon(0)
    fi
}
#endif

proctype reader() {
    byte i, L, L2;
    short horizon, exact, k;
#ifdef QUIET
    byte Q;
    bool older[XACTS], is_quiet;
#endif
#ifdef TWIN_OLD_SNAPSHOT
    bool in_snapshot[ROWS];
#define SNAPSHOT_HAS(r) in_snapshot[r]
#else
#define SNAPSHOT_HAS(r) true
#endif
end:
    do
    :: last > cursor ->                             /* else there is nothing to read */
#ifdef TWIN_OLD_SNAPSHOT
        /* (2) and (4) in one statement: its snapshot is older than its look at the lock table */
        L = last;
        d_step {
            i = 0;
            do
            :: i < ROWS -> in_snapshot[i] = (state[i] == VISIBLE); i++
            :: else -> break
            od;
            i = 0
        };
        read_register(0);
        L2 = last;
        decode(0);
#elif defined(QUIET)
        compute_horizon_quietly();
#else
        compute_horizon(0);
#endif
        d_step {                                    /* (4): a new snapshot */
#if defined(NEXT) && !defined(TWIN_NEXT_CURSOR_NOT_COMPARED)
            horizon = (horizon < cursor -> cursor : horizon); /* it went on since (3) */
#endif
            assert(horizon >= cursor);
            i = 0;
            do
            :: i < ROWS ->
                if
                :: (state[i] == VISIBLE && SNAPSHOT_HAS(i)
                    && position[i] > cursor && position[i] <= horizon) ->
                    state[i] = NONE; position[i] = 0
                :: else
                fi;
                i++
            :: else -> break
            od;
            cursor = horizon;
            i = 0;
            do
            :: i < ROWS -> assert(!(state[i] == VISIBLE && position[i] <= cursor)); i++
            :: else -> break
            od;
            i = 0; horizon = 0
        }
    od
}

#ifdef NEXT
/*
 * The other way to read, by whoever, whenever, between any two steps of the reader: the row right behind the cursor, if
 * it is visible. No horizon: everything below it was decided when the cursor came there. The cursor may then be above all
 * that the register gives away, since a commit is visible before its lock is released.
 */
proctype next() {
    byte i, chosen = ROWS;
end:
    do
    :: d_step {
           last > cursor ->
           do
           :: i < ROWS ->
               if
#ifdef TWIN_NEXT_SKIPS_GAP
               :: (state[i] == VISIBLE && position[i] > cursor) ->
                   chosen = ((chosen == ROWS || position[i] < position[chosen % ROWS]) -> i : chosen)
#else
               :: (state[i] == VISIBLE && position[i] == cursor + 1) -> chosen = i
#endif
               :: else
               fi;
               i++
           :: else -> break
           od;
           if
           :: chosen < ROWS ->
               cursor = position[chosen];
               state[chosen] = NONE; position[chosen] = 0
           :: else
           fi;
           i = 0; chosen = ROWS
       }
    od
}
#endif

#if JUMPS
/*
 * Rotation: jump to the start of the next leaf; the number there is burnt, like 0 at the creation
 * of a topic. Only when the horizon is in the current leaf, and only while no publisher is between
 * reading last_value and its register lock: such a one has no entry yet, but its INSERT already
 * locks the table, which pg_locks shows too. Look for it first.
 */
proctype leader() {
    byte i, L, L2, jumps;
    short horizon, exact, k;
    byte current;
    bool is_blind;

    do
    :: jumps < JUMPS ->
        d_step {
            do
            :: i < XACTS ->
#ifndef TWIN_ROTATE_OVER_UNREGISTERED
                is_blind = is_blind || (is_inserting[i] && !held[i]);
#endif
                i++
            :: else -> break
            od;
            i = 0
        };
        d_step { L = last; current = last / LEAF };
        read_register(1);
        L2 = last;
        decode(1);
        if
#ifdef TWIN_ROTATE_BLIND
        :: true ->
#else
        :: horizon >= current * LEAF && !is_blind ->
#endif
            d_step {
                /* what is left of a leaf outlasts these few statements */
                assert(last / LEAF == current);
                last = (current + 1) * LEAF;
#ifdef TWIN_JUMP_NOT_BURNT
                is_called = false;
#endif
                jumps++
            }
        :: else
        fi;
        d_step { horizon = 0; is_blind = false; current = 0 }
    :: else -> break
    od
}
#endif

init {
    byte w;
    atomic {
#ifdef TWIN_FIRST_NOT_BURNT
        last = 1; is_called = false;
#else
        last = START;
#endif
        cursor = (is_called -> last : 0);
        run reader();
#ifdef NEXT
        run next();
#endif
#if JUMPS
        run leader();
#endif
        do
        :: w < WRITERS -> run writer(w); w++
        :: else -> break
        od;
#ifdef PREPARE
        run second_phase()
#endif
    }
}
