/*
 * Maintenance by several leaders: rotation never takes the sequence back, jumps over no writer,
 * jumps once a period.
 *
 * A session lock elects who calls maintain(). A leader that lost its session may not know yet and
 * call it over another connection, and anybody may call it by hand: so the term that counts is the
 * transaction. maintain() takes a second lock for its transaction and reads everything it acts on
 * under it.
 *
 * Not here: why the horizon is right (reading it is one step) and the writer between its two first
 * steps (horizon.pml); retention.
 *
 * Bounds: LEADERS, LOSSES of a session, PUBLISHERS of TXNS transactions of one event (the first,
 * which may be slow, of one), PERIODS of the clock. A flag named TWIN_* breaks one rule.
 */
#ifndef LEADERS
#define LEADERS 2
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef PUBLISHERS
#define PUBLISHERS 2
#endif
#ifndef TXNS
#define TXNS 2
#endif
#ifndef PERIODS
#define PERIODS 2
#endif

#define LEAF 5             /* 2^30 in the product */
#define MARGIN 3 /* 2^20: more than publishers can draw between two statements of maintain() */
#define LEAVES 4
#define leaf_of(p) ((p) / LEAF)
#define FREE 255

byte last = 1;             /* one event of period 0 is there */
byte made = 1;             /* leaves 0 to made exist */
byte period;
byte opened[LEAVES] = 255; /* period of the first visible event of a leaf; 255: none */
bool in_flight[PUBLISHERS];
byte lock_k[PUBLISHERS];

byte elected = 0;          /* holder of the session lock */
bool believes[LEADERS];    /* thinks it is the leader */
bool maintain_lock;        /* transaction lock inside maintain() */
byte losses = LOSSES;
bool has_rotated;          /* in this period */

proctype publisher(byte me) {
    byte n, position, created;

    do
    :: n < (me -> TXNS : 1) ->
        d_step { in_flight[me] = true; lock_k[me] = last };
        d_step {
            last++; position = last; created = period; n++;
            assert(leaf_of(position) <= made)
        };
        if
        :: d_step {
               opened[leaf_of(position)] =
                   (created < opened[leaf_of(position)] -> created : opened[leaf_of(position)])
           }
        :: true
        fi;
        position = 0; created = 0;
        d_step { in_flight[me] = false; lock_k[me] = 0 }
    :: else -> break
    od
}

inline read_state() {
    d_step {
        h = last; i = 0;
        do
        :: i < PUBLISHERS -> h = (in_flight[i] && lock_k[i] < h -> lock_k[i] : h); i++
        :: else -> break
        od;
        i = 0
    };
    seen = last;
    age = opened[leaf_of(seen)]
}

proctype leader(byte me) {
    byte i, h, seen, age;

end:
    do
    /* election: try-lock */
    :: atomic { !believes[me] && elected == FREE -> elected = me; believes[me] = true }

    /* the session is gone, and its lock */
    :: atomic { losses > 0 && elected == me -> losses--; elected = FREE }

    /* it finds out, in the end */
    :: atomic { believes[me] && elected != me -> believes[me] = false }

    :: believes[me] -> /* SELECT maintain(), over whatever connection it has */
#ifdef TWIN_READS_BEFORE_LOCK
        read_state();
#endif
#ifdef TWIN_SESSION_LOCK_ONLY
        skip;
#else
        atomic {
            if
            :: !maintain_lock -> maintain_lock = true
            :: else -> h = FREE
            fi
        };
#endif
        if
        :: h == FREE -> h = 0; seen = 0; age = 0; goto next  /* another is at it */
        :: else
        fi;
#ifndef TWIN_READS_BEFORE_LOCK
        read_state();
#endif
        if
        :: (true
#ifndef TWIN_ROTATE_BLIND
           && leaf_of(h) == leaf_of(seen)
#endif
#ifndef TWIN_NO_MARGIN
           && seen % LEAF < LEAF - MARGIN
#endif
#ifndef TWIN_JUMP_WITHOUT_LEAF
           && leaf_of(seen) < made
#endif
#ifndef TWIN_PERIOD_NOT_READ
           && age < period
#endif
           ) ->
            d_step {
                /* never back: positions would be given twice */
                assert(last < (leaf_of(seen) + 1) * LEAF);
                assert(!has_rotated);
                /* setval: at once, whatever becomes of the transaction */
                last = (leaf_of(seen) + 1) * LEAF;
                has_rotated = true;
                assert(leaf_of(last) <= made);
                do /* nobody in flight is left more than a leaf behind */
                :: i < PUBLISHERS ->
                    assert(!in_flight[i] || leaf_of(lock_k[i]) + 1 >= leaf_of(last));
                    i++
                :: else -> break
                od;
                i = 0
            }
        :: else
        fi;
        if
        :: made < leaf_of(h) + 2 && made < LEAVES - 1 -> made++   /* CREATE TABLE, ATTACH */
        :: true                                             /* lock_timeout: left to the next run */
        fi;
        h = 0; seen = 0; age = 0;
#ifndef TWIN_SESSION_LOCK_ONLY
        maintain_lock = false;
#endif
next:   skip
    od
}

proctype clock() {
    do
    :: period < PERIODS -> d_step { period++; has_rotated = false }
    :: else -> break
    od
}

init {
    byte n;
    atomic {
        opened[0] = 0;
        believes[0] = true;
        do
        :: n < LEADERS -> run leader(n); n++
        :: else -> n = 0; break
        od;
        do
        :: n < PUBLISHERS -> run publisher(n); n++
        :: else -> n = 0; break
        od;
        run clock()
    }
}
