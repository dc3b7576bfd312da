/*
 * The doorbell: nobody rings unless the sentinel sleeps, and still no wake-up is lost.
 *
 * Not here: the fallback poll of every waiter (it would hide a loss), publishers that switched the
 * bell off or met a full notify queue (they rely on that poll), and why the horizon is safe
 * (horizon.pml): reading it is one step here.
 *
 * Bounds: PUBLISHERS transactions of one event, SENTINELS sessions that may lead, DEATHS losses of
 * the leading session, LISTENERS other sleepers, whom the sentinel wakes, LOOKS of a sleeper without a ring. A flag named TWIN_*
 * breaks one rule.
 */
#ifndef PUBLISHERS
#define PUBLISHERS 3
#endif
#ifndef SENTINELS
#define SENTINELS 1
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef LISTENERS
#define LISTENERS 1
#endif

#ifndef LOOKS
#define LOOKS 0
#endif

#define FREE 255

byte last;                          /* the sequence */
bool in_flight[PUBLISHERS];         /* holds its register lock, */
byte lock_k[PUBLISHERS];            /* taken at this last_value */
byte position[PUBLISHERS];
bool is_visible[PUBLISHERS];        /* committed */
bool is_ringing[PUBLISHERS];        /* has a NOTIFY to deliver at commit */
bool has_bell[PUBLISHERS];          /* holds the bell lock, shared, until its transaction ends */
byte started; /* publishers are alike, so only the order 0, 1, 2 of first steps is explored */
byte telling;                       /* publishers between commit and the delivery of their NOTIFY */
byte publishing = PUBLISHERS;       /* publishers not done */

byte bell = FREE;                   /* sentinel that holds the bell lock exclusively: it is armed */
byte lead = FREE;                   /* sentinel that holds the leading session lock */
bool is_listening[SENTINELS];
bool is_rung[SENTINELS];            /* a notification waits on the connection */
bool is_asleep[SENTINELS];
byte known[SENTINELS];              /* horizon at its last poll: all up to here was handed out */
#ifdef NEXT
byte taken;                         /* cursor of what sentinels serve: beyond known for a moment */
#define KNOWN(s) (known[s] > taken -> known[s] : taken)
#else
#define KNOWN(s) known[s]
#endif
byte deaths;                        /* still to come */
byte looks = LOOKS;                 /* of a sleeper that nobody rang */

#if LISTENERS
bool is_registered[LISTENERS];      /* holds the listener lock and LISTENs */
bool is_called[LISTENERS];          /* a notification waits */
byte cursor[LISTENERS];
#endif

inline get_horizon(h) {
    h = last; i = 0;
    do
    :: i < PUBLISHERS -> h = (in_flight[i] && lock_k[i] < h -> lock_k[i] : h); i++
    :: else -> break
    od;
    i = 0
}

/* A committed, readable event that the sleeping sentinel does not know, and nothing on its way
 * to tell it. */
inline assert_not_lost() {
    get_horizon(h);
    if
    :: lead != FREE && telling == 0 && is_asleep[lead] && !is_rung[lead] ->
        do
        :: i < PUBLISHERS ->
            assert(!(is_visible[i] && position[i] > KNOWN(lead) && position[i] <= h));
            i++
        :: else -> break
        od;
        i = 0
    :: else
    fi;
    h = 0
}

inline try_bell() {
    if
    :: bell == FREE ->
#ifndef TWIN_BELL_NOT_HELD
        has_bell[me] = true
#endif
    :: else -> is_ringing[me] = true
    fi
}

inline ring_bell() {
    do
    :: i < SENTINELS -> is_rung[i] = is_rung[i] || is_listening[i]; i++
    :: else -> break
    od;
    i = 0
}

inline end_transaction() {
    in_flight[me] = false; lock_k[me] = 0;
    has_bell[me] = false;
    had_savepoint = false
}

proctype publisher(byte me) {
    byte i, h;
    bool had_savepoint;

    started == me;
publish:
    skip;
    d_step {
        started = (started > me -> started : me + 1);
        in_flight[me] = true; lock_k[me] = last
    };
#ifdef TWIN_RING_MARKER_OUTLIVES_SAVEPOINT
    d_step {
        if
        :: !had_savepoint -> try_bell()
        :: else
        fi
    };
#elif !defined(TWIN_BELL_AFTER_COMMIT)
    d_step { try_bell() };
#endif
    d_step { last++; position[me] = last };
    if
#ifdef SAVEPOINT
    /* ROLLBACK TO: locks, marker and NOTIFY of the savepoint go; publish again */
    :: !had_savepoint ->
        d_step {
            end_transaction(); is_ringing[me] = false; position[me] = 0;
            assert_not_lost();
            had_savepoint = true
        };
        goto publish
#endif
    :: true ->                      /* ROLLBACK: the NOTIFY dies with it */
        d_step {
            end_transaction(); is_ringing[me] = false; position[me] = 0;
            publishing--;
            assert_not_lost()
        }
    :: true -> /* COMMIT: visible, then locks released, then NOTIFY delivered */
        d_step { is_visible[me] = true; telling = telling + is_ringing[me] };
#ifdef TWIN_BELL_AFTER_COMMIT
        telling++;
        d_step { end_transaction() };
        if                          /* the program rings by itself, if it still lives by then */
        :: is_ringing[me] = (bell != FREE)
        :: skip
        fi;
        telling = telling + is_ringing[me] - 1;
#else
        d_step { end_transaction(); assert_not_lost() };
#endif
        d_step {
            if
            :: is_ringing[me] -> ring_bell(); telling--; is_ringing[me] = false
            :: else
            fi;
            publishing--;
            assert_not_lost()
        }
    fi
}

#define may_die if :: deaths > 0 -> goto die :: true fi; skip

/* One look at the horizon. is_held: a transaction that published holds it back. */
inline poll() {
    d_step {
        get_horizon(h);
        is_new = is_new || (h > known[me]);
        is_held = (h < last);
        known[me] = h; h = 0
    }
}

#ifdef NEXT
/*
 * Rung while armed: first the one event behind the last, if it is visible. That is no look: nothing is learnt of the horizon,
 * nobody is told. The look comes behind it, and answers what rang until it began.
 */
inline take_next() {
    d_step {
        h = KNOWN(me);
        do
        :: i < PUBLISHERS ->
            is_taken = is_taken || (is_visible[i] && position[i] == h + 1);
            i++
        :: else -> break
        od;
        if
        :: is_taken ->
            taken = h + 1;
#ifdef TWIN_NEXT_COUNTS_AS_SEEN
            known[me] = taken
#endif
        :: else
        fi;
        i = 0; h = 0
    };
    if
    :: is_rung[me] -> is_rung[me] = false
    :: true
    fi
}
#endif

#if LISTENERS
/* In the same call as the poll but after it: is anybody to be told? */
inline count_listeners() {
    d_step {
        do
        :: i < LISTENERS -> is_wanted = is_wanted || is_registered[i]; i++
        :: else -> break
        od;
        i = 0
    }
}

inline tell_listeners() {
    d_step {
        do
        :: i < LISTENERS -> is_called[i] = is_called[i] || (is_registered[i] && is_wanted); i++
        :: else -> break
        od;
        i = 0; is_wanted = false; is_new = false
    }
}
#else
inline count_listeners() { skip }
inline tell_listeners() { is_new = false }
#endif

proctype sentinel(byte me) {
    byte i, h, at_last;
    bool is_new, is_held, is_wanted;
#ifdef NEXT
    bool is_taken;
#endif

elect:
end:
    atomic { lead == FREE -> lead = me };
#ifndef TWIN_LISTEN_LATE
    d_step { is_listening[me] = true; is_rung[me] = false };
#endif
#ifdef TWIN_ELECTED_SILENT
    poll();
    is_new = false;
#else
    is_new = true;                  /* its predecessor may have died before it told the others */
#endif
awake:
    may_die;
#ifdef TWIN_COUNT_LISTENERS_FIRST
    count_listeners();
    poll();
#else
    poll();
    count_listeners();
#endif
    may_die;
    if
    :: is_new -> tell_listeners(); goto awake
    :: else -> is_wanted = false
    fi;
    skip;                           /* (a d_step cannot follow a choice) */
#ifndef TWIN_SLEEP_UNARMED
    d_step {                        /* arm: try-lock, exclusive */
        do
        :: i < PUBLISHERS && !has_bell[i] -> i++
        :: else -> break
        od;
        is_held = (i < PUBLISHERS); i = 0;
        bell = (is_held -> FREE : me)
    };
    if
    :: is_held -> is_held = false; goto awake
    :: else
    fi;
    skip;
#endif
#ifdef HELD_AT_ARM
    d_step { /* the other way to see a held horizon: no register lock at all */
        do
        :: i < PUBLISHERS && !in_flight[i] -> i++
        :: else -> break
        od;
        is_held = (i < PUBLISHERS); i = 0;
        bell = (is_held -> FREE : me)
    };
    if
    :: is_held -> is_held = false; goto awake
    :: else
    fi;
    skip;
#endif
#ifndef TWIN_NO_POLL_AFTER_ARMING
    poll();
#if defined(TWIN_SLEEP_OVER_HELD_HORIZON) || defined(HELD_AT_ARM)
    is_held = false;
#endif
    if
    :: is_new || is_held -> d_step { is_held = false; bell = FREE }; goto awake
    :: is_new && !is_held -> count_listeners(); tell_listeners() /* little: it was seen, so sleep all the same */
    :: else
    fi;
#endif
    skip;
#ifdef TWIN_DISCARD_BEFORE_SLEEP
    is_rung[me] = false;
#endif
#ifdef TWIN_LISTEN_LATE
    is_listening[me] = true;
#endif
    d_step { is_asleep[me] = true; assert_not_lost() };
endasleep:
    if
#if LOOKS
    :: d_step { looks > 0 -> looks--; is_asleep[me] = false };
       poll();                      /* though nothing rang: who holds it back found the bell armed */
       is_held = false;
       count_listeners();
       if
       :: is_new -> tell_listeners()
       :: else -> is_wanted = false
       fi;
       d_step { is_asleep[me] = true; assert_not_lost() };
       goto endasleep
#endif
    :: d_step { is_rung[me] -> is_rung[me] = false; is_asleep[me] = false };
#ifdef NEXT
       if
       :: take_next();
#ifdef TWIN_NO_LOOK_AFTER_NEXT
          if
          :: is_taken ->
              is_taken = false;
              d_step { is_asleep[me] = true; assert_not_lost() };
              goto endasleep
          :: else
          fi;
#endif
          is_taken = false
       :: true                      /* it is not expected, or has work in hand */
       fi;
#endif
       /* first what rang; last value and register are two steps here, since it may sleep on them */
       at_last = last;
       d_step {
           get_horizon(h);
           h = (h < at_last -> h : at_last);
           is_new = (h > known[me]); is_held = (h < at_last);
           known[me] = h; h = 0; at_last = 0
       };
       count_listeners();
       if
#ifdef TWIN_SLEEP_ON_OVER_HELD_HORIZON
       :: true ->
#else
       :: !is_held ->               /* few ring: the bell stays armed, and whatever rang meanwhile wakes */
#endif
           is_held = false;
           if
           :: is_new -> tell_listeners()
           :: else -> is_wanted = false
           fi;
#ifdef TWIN_RING_IN_LOOK_DROPPED
           is_rung[me] = false;
#endif
           d_step { is_asleep[me] = true; assert_not_lost() };
           goto endasleep
       :: true ->                   /* many ring, or it is held: awake */
           is_held = false;
           bell = FREE;
#ifdef TWIN_NO_LOOK_AFTER_DISARMING
           d_step { is_asleep[me] = true; assert_not_lost() };
           goto endasleep
#else
           goto awake               /* is seen there, or rings */
#endif
       fi
    :: deaths > 0
    fi;

die:
    skip; /* the session's locks, LISTEN and notifications vanish with it */
    d_step {
        deaths--;
        lead = FREE;
        bell = (bell == me -> FREE : bell);
        is_listening[me] = false; is_rung[me] = false; is_asleep[me] = false;
        known[me] = 0; is_new = false; is_held = false; is_wanted = false
    };
    goto elect
}

#if LISTENERS
proctype listener(byte me) {
    byte i, h;
#ifdef TWIN_LISTENER_POLLS_FIRST
    d_step { get_horizon(h); cursor[me] = h; h = 0 };
    is_registered[me] = true;
#else
    is_registered[me] = true;
    d_step { get_horizon(h); cursor[me] = h; h = 0 };
#endif
end:
    do
    :: is_called[me] ->
        is_called[me] = false;
        d_step { get_horizon(h); cursor[me] = h; h = 0 }
    od
}
#endif

/* When nothing can move any more, everybody has read everything. */
proctype quiet() {
    byte i;
end:
    do
    :: timeout ->
        d_step {
            do
            :: i < PUBLISHERS ->
                assert(publishing == 0);
                assert(!is_visible[i] || (lead != FREE && known[lead] >= position[i]));
#if LISTENERS
                assert(!is_visible[i] || cursor[0] >= position[i]);
                assert(!is_visible[i] || cursor[LISTENERS - 1] >= position[i]);
#endif
                i++
            :: else -> break
            od;
            i = 0
        }
    od
}

init {
    byte n;
    atomic {
        if
        :: deaths = DEATHS
#if DEATHS
        :: deaths = 0
#endif
        fi;
        do
        :: n < SENTINELS -> run sentinel(n); n++
        :: else -> n = 0; break
        od;
        do
        :: n < PUBLISHERS -> run publisher(n); n++
        :: else -> n = 0; break
        od;
#if LISTENERS
        do
        :: n < LISTENERS -> run listener(n); n++
        :: else -> n = 0; break
        od;
#endif
        run quiet()
    }
}

#ifdef LIVENESS
/* Under weak fairness: what is committed is read by everybody, sooner or later and for good. */
#define read_by_sentinel(p) (!is_visible[p] || (lead != FREE && known[lead] >= position[p]))
#define read_by_listener(p) (!is_visible[p] || cursor[0] >= position[p])
ltl consumed { <> [] (publishing == 0 && read_by_sentinel(0) && read_by_sentinel(PUBLISHERS - 1)
                      && read_by_listener(0) && read_by_listener(PUBLISHERS - 1)) }
#endif
