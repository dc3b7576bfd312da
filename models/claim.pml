/*
 * Claim, ack, extend, takeover: every event of a subscription is settled once, by whoever holds its
 * lease.
 *
 * Not here: which events are readable (horizon.pml; all EVENTS are, from the start), patterns,
 * back-off (a retry is due at any time). Every SQL function is one step, because it locks the
 * cursor or lease row first; an ack inside the caller's own transaction is two, with the row locked
 * in between.
 *
 * Bounds: EVENTS of one slot, POISON of them kills whoever handles it, WORKERS, leases of up to
 * BATCH events, TROUBLES crashes or pauses beyond the lease that nothing explains, FAILURES that
 * handlers report.
 *
 * ORDERED: ordering total (or one slot of key), else none. AHEAD: and a worker may claim a second lease
 * behind its first, and begins it when that has ended (in one key, as here, nothing may begin before).
 * A flag named TWIN_* breaks one rule.
 */
#ifndef EVENTS
#define EVENTS 3
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef BATCH
#define BATCH EVENTS
#endif
#ifndef MAX_ATTEMPTS
#define MAX_ATTEMPTS 3
#endif
#ifndef TROUBLES
#define TROUBLES 1
#endif
#ifndef FAILURES
#define FAILURES 0
#endif
#ifndef POISON
#define POISON 1           /* the second event */
#endif

#define bit_of(e) (1 << (e))
#define lowest(mask) ((mask) & -(mask))
#define is_single(mask) ((mask) == lowest(mask))
#define NOBODY 255

byte cursor;               /* events below were handed out */

/* Table leases. A token is never used twice, so "this token is still in the table" is "I am
 * still the owner". */
byte fresh[EVENTS]; /* set of events of the range (after, upto]; 0 and no retried: no such row */
byte retried[EVENTS];      /* set of rows of retries under its token */
byte attempt[EVENTS];
byte owner[EVENTS] = NOBODY; /* NOBODY: not held, for the next claim */
bool is_solo[EVENTS];      /* left by a crash: one event a lease from now on */
bool is_expired[EVENTS];
bool is_locked[EVENTS];    /* by a transaction that has acked and not ended */
#define is_row(l) ((fresh[l] | retried[l]) != 0)

/* Table retries. */
byte waiting;              /* set of events without a token */
byte solo;                 /* set of events to be tried alone */
byte tried[EVENTS];        /* attempts begun */

byte settled;              /* ghost: done or dead */
byte dead;
byte troubles = TROUBLES;
byte failures = FAILURES;
bool is_orphan[EVENTS];    /* its owner crashed: the lease will expire */

inline bury(mask) {
    assert((settled & (mask)) == 0);
    settled = settled | (mask); dead = dead | (mask)
}

inline delete_row(x) {
    fresh[x] = 0; retried[x] = 0; attempt[x] = 0; owner[x] = NOBODY;
    is_solo[x] = false; is_expired[x] = false; is_orphan[x] = false; is_locked[x] = false
}

/* Every event is in exactly one place: not claimed, under one lease, waiting for a retry,
 * settled. */
inline assert_partition() {
    e = 0;
    do
    :: e < EVENTS ->
        n = (e >= cursor) + ((waiting >> e) & 1) + ((settled >> e) & 1);
        i = 0;
        do
        :: i < EVENTS -> n = n + ((fresh[i] >> e) & 1) + ((retried[i] >> e) & 1); i++
        :: else -> break
        od;
        assert(n == 1);
        e++
    :: else -> break
    od;
    e = 0; n = 0; i = 0
}

/* Lease x goes to me with the fresh events of mask. Order: all earlier ones are settled,
 * failed, or in it too. */
inline hand_out(x, mask) {
#ifdef ORDERED
    assert(((lowest(mask) - 1)
            & ~(settled | waiting | mask | retried[0] | retried[1] | retried[EVENTS - 1])) == 0);
#endif
    skip
}

inline find_free_row() {
    new = 0;
    do
    :: new < EVENTS && is_row(new) -> new++
    :: else -> break
    od;
    assert(new < EVENTS)
}

/* The left-over or expired lease with the least event that nobody has locked. */
inline find_old() {
    old = NOBODY; i = 0;
    do
    :: i < EVENTS ->
        if
        :: is_row(i) && (owner[i] == NOBODY || is_expired[i]) && !is_locked[i] ->
            if
            :: old == NOBODY || lowest(fresh[i]) - 1 < lowest(fresh[old]) - 1 -> old = i
            :: else
            fi
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* What a crash or a release left of retries is due again; dead if it was alone at its last
 * attempt. */
inline abandon_retries() {
    if
    :: owner[old] != NOBODY && fresh[old] == 0 && is_single(retried[old]) ->
        e = 0;
        do
        :: e < EVENTS && retried[old] != bit_of(e) -> e++
        :: else -> break
        od;
        if
        :: tried[e] >= MAX_ATTEMPTS ->
            bury(retried[old]);
            solo = solo & ~retried[old]; tried[e] = 0; retried[old] = 0
        :: else
        fi;
        e = 0
    :: else
    fi;
    waiting = waiting | retried[old];
    solo = solo | retried[old];
    retried[old] = 0
}

/* take_lease(): mine is the new lease, or NOBODY. */
inline claim() {
    d_step {
        mine = NOBODY; has_more = true;
#ifdef ORDERED
        do                                          /* one live lease a slot */
        :: i < EVENTS ->
            if
#ifdef TWIN_LEASES_NOT_COUNTED
            :: false
#else
            :: is_row(i) && owner[i] != NOBODY && !is_expired[i] -> has_more = false
#endif
#if !defined(TWIN_FALLS_THROUGH_LOCKED_LEASE) && !defined(TWIN_LEFT_OVER_BEHIND_LOCKED_LEASE)
            :: is_row(i) && is_locked[i] && is_expired[i] -> has_more = false
#endif
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0;
#endif
        do
        :: has_more && mine == NOBODY ->
            find_old();
            if
            :: old == NOBODY -> has_more = false
            :: else ->
                was_alone = (is_single(fresh[old]) && retried[old] == 0);
                if
                :: retried[old] -> abandon_retries()
                :: else
                fi;
                if
                :: fresh[old] == 0 -> delete_row(old)
#ifndef TWIN_NEVER_BURIED
#ifdef TWIN_BATCH_BURIED
                :: owner[old] != NOBODY && fresh[old] && attempt[old] >= MAX_ATTEMPTS ->
#else
                :: owner[old] != NOBODY && was_alone && attempt[old] >= MAX_ATTEMPTS ->
#endif
                    assert(fresh[old] == bit_of(POISON)); /* only a poison event condemns itself */
                    bury(fresh[old]);
                    delete_row(old)
#endif
                :: else ->
                    mine = old;
#ifdef TWIN_BATCH_BURIED
                    if
                    :: true -> skip
#else
                    if
                    :: owner[old] == NOBODY && !is_solo[old] -> skip
                    :: else -> /* the first alone; the rest is left for later claims */
                        e = fresh[old] & ~lowest(fresh[old]);
                        if
                        :: e ->
                            find_free_row();
                            fresh[new] = e; attempt[new] = attempt[old];
                            is_solo[new] = true;
                            fresh[old] = lowest(fresh[old])
                        :: else
                        fi;
                        e = 0; new = 0
#endif
                    fi;
#if defined(AHEAD) && !defined(TWIN_AHEAD_NOT_FENCED)
                    /* what its owner has behind it is fenced as well */
                    i = 0;
                    do
                    :: i < EVENTS ->
                        if
                        :: i != mine && owner[mine] != NOBODY && is_row(i) && owner[i] != NOBODY ->
                            owner[i] = NOBODY; is_solo[i] = true;
                            is_expired[i] = false; is_orphan[i] = false
                        :: else
                        fi;
                        i++
                    :: else -> break
                    od;
                    i = 0;
#endif
                    hand_out(mine, fresh[mine]);
                    owner[mine] = me;
                    is_solo[mine] = false; is_expired[mine] = false; is_orphan[mine] = false;
                    attempt[mine] =
                        (attempt[mine] > MAX_ATTEMPTS -> attempt[mine] : attempt[mine] + 1)
                fi
            fi
        :: else -> break
        od;
#ifdef TWIN_LEFT_OVER_BEHIND_LOCKED_LEASE
        /* only who finds nothing left over looks whether there is one that could not be locked */
        old = (is_locked[0] || is_locked[1] || is_locked[EVENTS - 1] -> 0 : old);
#endif
        if
        :: mine == NOBODY && old == NOBODY -> /* nothing left over: due retries, fresh events */
            e = (wants_retry -> waiting : 0);
            e = (e & solo -> lowest(e & solo) : lowest(e));
            i = (e & solo || cursor >= EVENTS -> 0 : size);
            i = (cursor + i > EVENTS -> EVENTS - cursor : i);
            if
            :: e || i ->
                find_free_row();
                mine = new; new = 0;
                owner[mine] = me; attempt[mine] = 1;
                retried[mine] = e; waiting = waiting & ~e;
                if
                :: e & bit_of(0) -> tried[0]++
                :: e & bit_of(1) -> tried[1]++
                :: e & bit_of(2) -> tried[2]++
                :: else
                fi;
                fresh[mine] = ((1 << i) - 1) << cursor;
                if
                :: fresh[mine] -> hand_out(mine, fresh[mine])
                :: else
                fi;
#ifndef TWIN_CURSOR_MOVES_AT_ACK
                cursor = cursor + i
#endif
            :: else
            fi;
            e = 0; i = 0
        :: else
        fi;
        old = 0; has_more = false; wants_retry = false; was_alone = false; size = 0;
        work = (mine == NOBODY -> 0 : fresh[mine] | retried[mine]);
        assert_partition()
    }
}

#ifdef TWIN_TAKEOVER_KEEPS_TOKEN
#define is_mine (is_row(mine) && owner[mine] != NOBODY)
#else
#define is_mine (is_row(mine) && owner[mine] == me)
#endif

#ifdef AHEAD
/* claim_ahead(): a second lease, of one event behind mine, the only one of the slot; nothing waits. */
#define is_one_row (is_row(0) + is_row(1) + is_row(EVENTS - 1) == 1)
#ifdef TWIN_AHEAD_WITHOUT_TOKEN
#define may_claim_ahead (is_one_row && waiting == 0 && cursor < EVENTS)
#else
#define may_claim_ahead (is_one_row && waiting == 0 && cursor < EVENTS \
                         && is_mine && !is_expired[mine] && !is_locked[mine] && retried[mine] == 0)
#endif

inline claim_ahead() {
    /* all earlier ones are settled, failed, or with the same owner */
    assert(((bit_of(cursor) - 1) & ~(settled | waiting | (is_mine -> fresh[mine] : 0))) == 0);
    find_free_row();
    ahead = new; new = 0;
    owner[ahead] = me; attempt[ahead] = 1;
    fresh[ahead] = bit_of(cursor);
#ifndef TWIN_AHEAD_NOT_RECORDED
    cursor++;
#endif
    assert_partition()
}
#endif

/* ack(token, upto, failures): handled is done but for failed; the lease goes on with the rest. */
inline settle() {
    assert((settled & handled & ~failed) == 0);
#ifdef ORDERED
    /* earlier ones are settled or failed, or settled along with it */
    assert((handled & fresh[mine]) == 0
           || ((lowest(handled & fresh[mine]) - 1)
               & ~(settled | waiting | handled | retried[0] | retried[1] | retried[EVENTS - 1])) == 0);
#endif
    settled = settled | (handled & ~failed);
    solo = solo & ~(handled & ~failed);
    e = 0;
    do
    :: e < EVENTS ->
        if
        :: failed & bit_of(e) ->
            tried[e] = (retried[mine] & bit_of(e) -> tried[e] : attempt[mine]);
            solo = solo & ~bit_of(e);
            if
            :: tried[e] >= MAX_ATTEMPTS -> bury(bit_of(e)); tried[e] = 0
            :: else -> waiting = waiting | bit_of(e)
            fi
        :: else ->
            if
            :: handled & bit_of(e) -> tried[e] = 0
            :: else
            fi
        fi;
        e++
    :: else -> break
    od;
    e = 0;
#ifdef TWIN_CURSOR_MOVES_AT_ACK
    do
    :: cursor < EVENTS && (handled >> cursor) -> cursor++
    :: else -> break
    od;
#endif
#ifdef TWIN_ACK_ENDS_ALL
    fresh[mine] = 0; retried[mine] = 0;
#else
    fresh[mine] = fresh[mine] & ~handled; retried[mine] = retried[mine] & ~handled;
#endif
    is_locked[mine] = false;
    if
    :: !is_row(mine) -> delete_row(mine)
    :: else
    fi;
    handled = 0; failed = 0;
    assert_partition()
}

#define drop_all work = 0; handled = 0; failed = 0
#ifdef AHEAD
/* nobody works on it */
#define drop_ahead \
    if \
    :: ahead != NOBODY && is_row(ahead) && owner[ahead] == me -> is_orphan[ahead] = true \
    :: else \
    fi; \
    ahead = NOBODY
#else
#define drop_ahead skip
#endif

proctype worker(byte me) {
    byte e, i, n, old, new, size;
    byte mine = NOBODY;    /* its lease: the token */
#ifdef AHEAD
    byte ahead = NOBODY;   /* the one behind it */
#endif
    byte work;             /* events not begun */
    byte handled, failed;  /* events to ack, those of them that failed */
    bool has_more, wants_retry, was_alone;

idle:
    mine = NOBODY;
end:
    /* there may be something: a wake-up, a poll */
    cursor < EVENTS || waiting || is_row(0) || is_row(1) || is_row(EVENTS - 1);
    if
    :: wants_retry = true
    :: waiting == 0 || cursor < EVENTS -> wants_retry = false
    fi;
    if
    :: size = 1
    :: BATCH >= 2 -> size = 2
    :: BATCH >= 3 -> size = 3
    fi;
    claim();
    if
    :: mine == NOBODY -> goto idle
    :: else
    fi;

busy:
    do
    :: work ->                                      /* the next event */
        if
        :: lowest(work) == bit_of(POISON) -> goto crash
        :: lowest(work) != bit_of(POISON) -> skip
        :: atomic { troubles > 0 -> troubles-- }; goto crash
        :: atomic { failures > 0 && lowest(work) != bit_of(POISON) -> failures-- };
           failed = failed | lowest(work)
        fi;
        d_step { handled = handled | lowest(work); work = work & ~lowest(work) }

    :: handled ->                                   /* ack, of all or of a part */
        if
        :: true ->                                  /* as a statement of its own */
#ifdef TWIN_ACK_CHECKS_UNLOCKED
            if
            :: is_mine -> skip
            :: else -> goto fenced
            fi;
            d_step { settle() }
#elif defined(TWIN_ACK_WITHOUT_TOKEN)
            if
            :: d_step { is_row(mine) -> settle() }
            :: else -> goto fenced
            fi
#else
            if
            :: d_step { is_mine -> settle() }
            :: else -> goto fenced
            fi
#endif
        :: true ->                                  /* inside the handler's transaction */
            if
            :: d_step { is_mine -> is_locked[mine] = true }
            :: else -> goto fenced
            fi;
            if
            :: d_step { settle() }
            :: atomic { troubles > 0 -> troubles--; is_locked[mine] = false }; goto crash
            fi
        fi

#ifdef AHEAD
    :: d_step { ahead == NOBODY && work && may_claim_ahead -> claim_ahead() }

    :: work == 0 && handled == 0 && ahead != NOBODY -> /* the first has ended */
        d_step {
            mine = ahead; ahead = NOBODY;
            work = (is_mine -> fresh[mine] : 0)
        }

    :: work == 0 && handled == 0 && ahead == NOBODY -> goto idle
#else
    :: work == 0 && handled == 0 -> goto idle
#endif

#ifdef RELEASE
    :: handled == 0 && work -> /* release(token): hand the rest back, no attempt counted */
        if
        :: d_step { is_mine ->
               waiting = waiting | retried[mine];
               e = 0;
               do
               :: e < EVENTS -> tried[e] = tried[e] - ((retried[mine] >> e) & 1); e++
               :: else -> break
               od;
               e = 0;
               retried[mine] = 0;
               if
               :: fresh[mine] ->
                   owner[mine] = NOBODY; attempt[mine]--;
                   is_expired[mine] = false; is_orphan[mine] = false
               :: else -> delete_row(mine)
               fi;
               drop_all;
#ifdef AHEAD
               if
               :: ahead != NOBODY && is_row(ahead) && owner[ahead] == me ->
                   owner[ahead] = NOBODY; attempt[ahead]--;
                   is_expired[ahead] = false; is_orphan[ahead] = false
               :: else
               fi;
               ahead = NOBODY;
#endif
               assert_partition()
           }
           goto idle
        :: else -> goto fenced
        fi
#endif
#ifdef EXTEND
    :: is_row(mine) && is_expired[mine] ->          /* heartbeat, in time or too late */
        if
#ifdef TWIN_EXTEND_TAKES_BACK
        :: d_step { owner[mine] = me; is_expired[mine] = false }
#else
        :: d_step { is_mine -> is_expired[mine] = false }
        :: !is_mine -> goto fenced
#endif
        fi
#endif
    od;

crash:                                              /* the process is gone, its lease stays */
    skip;
    d_step {
        drop_all;
        if
        :: is_mine -> is_orphan[mine] = true
        :: else
        fi;
        drop_ahead
    };
    goto idle;

fenced:                                             /* TL004: nothing was changed; drop the batch */
    skip;
    d_step { drop_all };
#ifdef AHEAD
    if                                              /* even one that does not drop the second */
    :: d_step { ahead != NOBODY ->
           mine = ahead; ahead = NOBODY;
           work = (is_mine -> fresh[mine] : 0)
       }
       goto busy
    :: else
    fi;
#endif
    goto idle
}

/* Time passes: a lease expires when its owner is dead, or slower than its lease. */
proctype clock() {
    byte l;
end:
    do
    :: atomic { is_orphan[0] && !is_expired[0] -> is_expired[0] = true }
    :: atomic { is_orphan[1] && !is_expired[1] -> is_expired[1] = true }
    :: atomic { is_orphan[EVENTS - 1] && !is_expired[EVENTS - 1] -> is_expired[EVENTS - 1] = true }
    :: atomic { troubles > 0 && owner[0] != NOBODY && !is_expired[0] ->
                troubles--; is_expired[0] = true }
    :: atomic { troubles > 0 && owner[1] != NOBODY && !is_expired[1] ->
                troubles--; is_expired[1] = true }
    :: atomic { troubles > 0 && owner[EVENTS - 1] != NOBODY && !is_expired[EVENTS - 1] ->
                troubles--; is_expired[EVENTS - 1] = true }
    od
}

/* When nothing can move any more, every event is settled. */
proctype quiet() {
end:
    do
    :: timeout -> assert(settled == bit_of(EVENTS) - 1)
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
        run quiet()
    }
}

#ifdef LIVENESS
/* Under weak fairness: every event is settled, and stays so. */
ltl all_settled { <> [] (settled == bit_of(EVENTS) - 1) }
#endif
