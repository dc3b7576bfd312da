/*
 * Order of keys: slots, events that wait for one that failed, and a change of the number of slots.
 *
 * EVENTS 0 .. 3, keys alternate (ONE_KEY: all have the same). A claim locks the cursor of a slot and looks in several statements,
 * each of which sees what was committed before it; an ack locks its lease, then commits. One event a time
 * can be shown to fail (FAILURES), a consumer to die or to outlive its lease (TROUBLES). The number of
 * slots changes once from FROM to TO (CHANGES).
 *
 * Checked: an event of a key is settled when all earlier ones are; no two live leases have events of
 * one key; no event is in two places; in the end everything is settled. TWIN_* breaks one rule.
 */
#ifndef FAILURES
#define FAILURES 1
#endif
#ifndef TROUBLES
#define TROUBLES 1
#endif
#ifndef FROM
#define FROM 2
#endif
#ifndef TO
#define TO 1
#endif
#ifndef CHANGES
#define CHANGES 1
#endif
#ifndef WORKERS
#define WORKERS 2
#endif

#define EVENTS 4
#define ALL 15
#define NOBODY 255
#define bit_of(e) (1 << (e))
#ifdef ONE_KEY
#define key_of(e) ALL                            /* the events of its key */
#else
#define key_of(e) (((e) & 1) -> 10 : 5)
#endif
#define below(e) (bit_of(e) - 1)
#define share(s, n) ((n) == 1 -> ALL : ((s) == 1 -> 10 : 5))
#define lowest(mask) ((mask) & -(mask))

byte slots = FROM;        /* in force: rows of cursors */
bool is_resizing;
byte resize_at;
byte changes = CHANGES;
byte cursor[2];
byte locked[2] = NOBODY;  /* cursor rows: by whom */

/* the lease of a slot, and what crashes left of earlier ones */
byte fresh[2];            /* its events of the range */
byte retried[2];          /* its rows of retries */
byte owner[2] = NOBODY;
byte epoch[2];            /* the token: never the same again */
bool is_expired[2];
bool is_orphan[2];
bool is_acking[2];        /* row locked by an ack that has not committed */
byte left[2];             /* not held: for later claims, one by one */
#define is_lease(s) ((fresh[s] | retried[s]) != 0)
#define is_live(s) (is_lease(s) && !is_expired[s])

/* retries: rows, those of them that wait for an earlier one, those under a lease */
byte rows;
byte parked;
#define under_lease (retried[0] | retried[1])

byte settled;
byte failures = FAILURES;
byte troubles = TROUBLES;

/* Every event is in one place. */
inline assert_places() {
    i = 0;
    do
    :: i < EVENTS ->
        n = ((settled >> i) & 1) + ((rows >> i) & 1) + (((fresh[0] | left[0]) >> i) & 1) + (((fresh[1] | left[1]) >> i) & 1);
        n = n + (cursor[(slots == 2 && (10 & bit_of(i)) -> 1 : 0)] <= i);
        assert(n == 1);
        i++
    :: else -> break
    od;
    i = 0; n = 0
}

/* Of mask, what has to wait for an earlier event of its key goes to retries. */
inline park(mask) {
    i = 0;
    do
    :: i < EVENTS ->
        if
        :: (mask & bit_of(i)) && (rows & key_of(i) & below(i)) ->
            rows = rows | bit_of(i); parked = parked | bit_of(i);
#ifndef TWIN_PARKED_NOT_EXCLUDED
            mask = mask & ~bit_of(i)
#endif
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* A due row that is the first of its key, or right behind those taken. */
#ifdef TWIN_ANY_OF_A_KEY
#define may_take(e) (rows & ~parked & ~under_lease & share(me_slot, seen_slots) & bit_of(e)) && !(rows & ~parked & ~under_lease & key_of(e) & ~below(e) & ~bit_of(e))
#else
#define may_take(e) (rows & ~parked & ~under_lease & share(me_slot, seen_slots) & bit_of(e)) && !(rows & ~retried[me_slot] & key_of(e) & below(e))
#endif

inline hand_out() {
    /* one key is in one hand */
    i = 1 - me_slot;
    assert(!(is_live(i) && ((fresh[i] | retried[i]) & 5) && ((fresh[me_slot] | retried[me_slot]) & 5)));
    assert(!(is_live(i) && ((fresh[i] | retried[i]) & 10) && ((fresh[me_slot] | retried[me_slot]) & 10)));
    i = 0;
    owner[me_slot] = me; epoch[me_slot]++; mine = epoch[me_slot];
    is_expired[me_slot] = false; is_orphan[me_slot] = false;
    work = fresh[me_slot] | retried[me_slot]
}

/* take_lease(), its later statements, under the lock on the cursor. */
inline take() {
    d_step {
        work = 0;
        if
#ifdef TWIN_SLOTS_NOT_COMPARED
        :: false
#else
        :: seen_slots != slots                      /* another share of the keys by now */
#endif
        :: else ->
            if
            :: is_live(me_slot) || is_acking[me_slot]
            :: else ->
                if
                :: is_lease(me_slot) ->             /* lost: fence its owner */
                    left[me_slot] = left[me_slot] | fresh[me_slot];
                    fresh[me_slot] = 0; retried[me_slot] = 0; owner[me_slot] = NOBODY;
                    is_expired[me_slot] = false; is_orphan[me_slot] = false
                :: else
                fi;
#ifndef TWIN_STALE_LOOK
                saw_rows = (rows != 0);
#endif
                if
                :: left[me_slot] && saw_rows -> park(left[me_slot])
                :: else
                fi;
                if
                :: left[me_slot] ->
                    fresh[me_slot] = lowest(left[me_slot]);
                    left[me_slot] = left[me_slot] & ~fresh[me_slot];
                    hand_out()
                :: else ->
                    i = 0;
                    do
                    :: i < EVENTS && saw_rows ->
                        if
                        :: (may_take(i)) -> retried[me_slot] = retried[me_slot] | bit_of(i)
                        :: else
                        fi;
                        i++
                    :: else -> break
                    od;
                    i = (is_resizing -> resize_at : EVENTS);
                    if
                    :: cursor[me_slot] < i ->
                        /* all up to there, or one position */
                        i = (takes_one -> cursor[me_slot] + 1 : i);
                        fresh[me_slot] = (bit_of(i) - 1) & ~(bit_of(cursor[me_slot]) - 1) & share(me_slot, seen_slots);
                        cursor[me_slot] = i;
                        if
                        :: saw_rows -> park(fresh[me_slot])
                        :: else
                        fi
                    :: else
                    fi;
                    i = 0;
                    if
                    :: is_lease(me_slot) -> hand_out()
                    :: else
                    fi
                fi
            fi
        fi;
        locked[me_slot] = NOBODY; saw_rows = false; seen_slots = 0; takes_one = false;
        assert_places()
    }
}

/* The commit of an ack: done, failed (due again), deferred (behind it). */
inline settle() {
    i = 0;
    do
    :: i < EVENTS ->
        if
        :: done & bit_of(i) ->
            assert(!(key_of(i) & below(i) & ~(settled | done)));
            assert(!(settled & bit_of(i)));
            rows = rows & ~bit_of(i)
        :: (failed | deferred) & bit_of(i) ->
            rows = rows | bit_of(i);
            parked = (deferred & bit_of(i) -> parked | bit_of(i) : parked & ~bit_of(i));
            if
            :: failed & bit_of(i) ->                /* those whose turn it was wait again */
                parked = parked | (rows & key_of(i) & ~below(i) & ~bit_of(i) & ~under_lease)
            :: else
            fi
        :: else
        fi;
        i++
    :: else -> break
    od;
    settled = settled | done;
    i = 0;
#ifndef TWIN_NOT_PROMOTED
    /* who is first of a key now is due, and with it those behind */
    do
    :: i < EVENTS ->
        if
        :: (rows & parked & bit_of(i)) && !(rows & key_of(i) & below(i)) -> parked = parked & ~(key_of(i))
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0;
#endif
    fresh[me_slot] = 0; retried[me_slot] = 0; owner[me_slot] = NOBODY;
    is_expired[me_slot] = false; is_orphan[me_slot] = false; is_acking[me_slot] = false;
    done = 0; failed = 0; deferred = 0; mine = 0;
    assert_places()
}

#define is_mine (is_lease(me_slot) && owner[me_slot] == me && epoch[me_slot] == mine)
#define drop_all work = 0; done = 0; failed = 0; deferred = 0; mine = 0

proctype worker(byte me) {
    byte i, n;
    byte me_slot;
    byte mine;              /* its token */
    byte seen_slots;
    bool saw_rows, takes_one;
    byte work, done, failed, deferred;

idle:
end:
    if
    :: atomic { cursor[0] < EVENTS || left[0] || (rows & ~parked) || is_lease(0) -> me_slot = 0 }
    :: atomic { slots == 2 && (cursor[1] < EVENTS || left[1] || (rows & ~parked) || is_lease(1)) -> me_slot = 1 }
    fi;
    seen_slots = slots;                             /* reads the subscription */
    atomic {
        if
        :: me_slot < slots && locked[me_slot] == NOBODY -> locked[me_slot] = me
        :: else -> seen_slots = 0; me_slot = 0; goto idle /* SKIP LOCKED */
        fi;
        saw_rows = (rows != 0)                      /* the first look */
    };
    if
    :: takes_one = true
    :: takes_one = false
    fi;
    take();
    if
    :: work == 0 -> goto idle
    :: else
    fi;

    do
    :: work ->
        d_step {
            i = 0;
            do
            :: !(work & bit_of(i)) -> i++
            :: else -> break
            od;
            n = 0
        };
        if
        :: d_step { !(failed & key_of(i)) && !(deferred & key_of(i)) -> done = done | bit_of(i) }
        :: d_step { (failed & key_of(i)) || (deferred & key_of(i)) -> deferred = deferred | bit_of(i) }
        :: d_step { failures > 0 && !(failed & key_of(i)) && !(deferred & key_of(i)) -> failures--; failed = failed | bit_of(i) }
        :: atomic { troubles > 0 -> troubles--; i = 0; goto crash }
        fi;
        d_step { work = work & ~bit_of(i); i = 0 }
    :: else -> break
    od;
    if
    :: d_step { is_mine -> is_acking[me_slot] = true }
    :: d_step { !is_mine -> drop_all }; goto idle   /* TL004 */
    fi;
    d_step { settle() };
    goto idle;

crash:
    skip;
    d_step {
        if
        :: is_mine -> is_orphan[me_slot] = true
        :: else -> skip
        fi;
        drop_all
    };
    goto idle
}

/* Time passes. */
proctype clock() {
end:
    do
    :: atomic { is_orphan[0] && !is_expired[0] -> is_expired[0] = true }
    :: atomic { is_orphan[1] && !is_expired[1] -> is_expired[1] = true }
    :: atomic { troubles > 0 && is_live(0) -> troubles--; is_expired[0] = true }
    :: atomic { troubles > 0 && is_live(1) -> troubles--; is_expired[1] = true }
    od
}

#ifdef TWIN_RESIZE_AT_ONCE
#define may_end true
#else
#define may_end (!is_lease(0) && !is_lease(1) && !left[0] && !left[1])
#endif

/* set_slots(), and whoever ends it: both lock every cursor. */
proctype operator() {
    byte i, n;
end:
    do
    :: atomic { changes > 0 && !is_resizing && locked[0] == NOBODY && locked[1] == NOBODY ->
           changes--; is_resizing = true;
           resize_at = (slots == 2 && cursor[1] > cursor[0] -> cursor[1] : cursor[0]) }
    :: d_step { is_resizing && may_end && locked[0] == NOBODY && locked[1] == NOBODY && cursor[0] == resize_at && (slots == 1 || cursor[1] == resize_at) ->
           slots = (slots == FROM -> TO : FROM);
           cursor[0] = resize_at; cursor[1] = (slots == 2 -> resize_at : 0);
#ifdef TWIN_RESIZE_AT_ONCE
           left[0] = (slots == 1 -> left[0] | left[1] : left[0]); left[1] = (slots == 1 -> 0 : left[1]);
#endif
           is_resizing = false; resize_at = 0 }
    od
}

/* When nothing can move any more, every event is settled. */
proctype quiet() {
end:
    do
    :: timeout -> assert(settled == ALL)
    od
}

init {
    byte w;
    atomic {
        do
        :: w < WORKERS -> run worker(w); w++
        :: else -> w = 0; break
        od;
        run clock();
        run operator();
        run quiet()
    }
}
