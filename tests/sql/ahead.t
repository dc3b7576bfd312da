#!/usr/bin/perl
# SUB-10, WRK-3: a second lease behind the first of an ordered slot, for the owner of that: when it is given, and that
# the two are lost, fenced and redelivered in order.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest qw(:DEFAULT expire more waiting);
use Test::More;

database();
my ($s, $b, $main) = map { session() } 1 .. 3;
my $count = 0;

# Topic and subscription of one name; events by their keys: 'a b -' are three, the last without a key.
sub feed {
    my ($keys, $options) = @_;
    my $name = 'f' . ++$count;
    $main->do("SELECT trunkline.create_topic('$name')");
    $main->do("SELECT trunkline.subscribe('$name', '**', '$name', retry_delay => '1 h', retry_cap => '1 h', " . ($options // "ordering => 'key'") . ')');
    more($name, $keys);
    return $name;
}

# The token, and "position:attempt" of each event.
sub rows {
    my @rows = map { [split /\|/] } split /\n/, $_[0];
    return ($rows[0] ? $rows[0][0] : 'none', join ' ', map { "$_->[1]:$_->[2]" } @rows);
}
sub claim {
    my ($name, $max) = @_;
    return rows($s->do("SELECT token, \"position\", attempt FROM trunkline.claim('$name', max_events => $max)"));
}
sub ahead {
    my ($token, $max, $session) = @_;
    return rows(($session // $s)->do("SELECT next_token, \"position\", attempt FROM trunkline.claim_ahead('$token', $max)"));
}

sub ack {
    my ($token, $failures) = @_;
    return $s->do("SELECT trunkline.ack('$token', NULL, " . ($failures ? "'[$failures]'" : 'NULL') . ')');
}
sub fenced { refuses($s, "SELECT trunkline.ack('$_[0]')", 'TL004', {}, $_[1]) }

subtest 'the second lease goes on where the first ends' => sub {
    my $f = feed('a b a - c d');
    my ($first, $got) = claim($f, 2);
    is($got, '1:1 2:1', 'the first');
    (my $second, $got) = ahead($first, 3);
    is($got, '3:1 4:1 5:1', 'the second');
    is($main->do("SELECT l.after, l.upto, l.events, l.retries, l.attempt, l.epoch, l.held FROM trunkline.leases l JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f' ORDER BY after"),
        "0|2|2|0|1|1|t\n2|5|3|0|1|2|t", 'both are written down');
    is($main->do("SELECT cursor, epoch FROM trunkline.cursors JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'"), '5|2', 'so is where the slot is');
    is((ahead($first, 3))[1], '', 'no third behind the first');
    is((ahead($second, 3))[1], '', 'nor behind the second');
    is((claim($f, 9))[1], '', 'nor for others');
    is(ack($first), 2, 'the first is settled');
    (my $third, $got) = ahead($second, 3);
    is($got, '6:1', 'then there may be one behind the second');
    is(ack($second) + ack($third), 4, 'all is settled');
    is((ahead($third, 3))[1], '', 'a token that has ended gets nothing');
};

subtest 'when it is not given' => sub {
    for my $case (
        ['ordering none', "ordering => 'none'"],
        ['ordering total', "ordering => 'total'"],
        ['stop', "ordering => 'key', on_failure => 'stop'"],
        ['two slots', "ordering => 'key', slots => 2"],
        ['a limit of events in flight', "ordering => 'key', max_in_flight => 100"],
        ['a limit of the rate', "ordering => 'key', rate_limit => 1000"],
    ) {
        my ($name, $options) = @$case;
        my $f = feed('a a a a', $options);
        my ($first) = claim($f, 1);
        is((ahead($first, 1))[1], '', $name);
    }
    for my $case (
        ['paused', "SELECT trunkline.pause('%s')"],
        ['drained', "SELECT trunkline.drain('%s')"],
        ['slots change', "SELECT trunkline.set_slots('%s', 2)"],
        ['replayed', "SELECT trunkline.replay('%s', 'beginning', '1')"],
        ['the first has expired', "UPDATE trunkline.leases SET until = now() - interval '1 s'"],
        ['the first was handed back', "SELECT trunkline.release(token) FROM trunkline.leases l JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '%s'"],
        ['the first was taken away', "SELECT trunkline.reset('%s', '0')"],
    ) {
        my ($name, $sql) = @$case;
        my $f = feed('a a a a');
        my ($first) = claim($f, 1);
        $main->do(sprintf $sql, $f);
        is((ahead($first, 1))[1], '', $name);
    }
    my $f = feed('a b c');
    my ($first) = claim($f, 1);
    ack($first, '{"position": 1, "retry_after_us": 0}');
    ($first) = rows($s->do("SELECT token, \"position\", attempt FROM trunkline.claim('$f', max_events => 1)"));
    is((ahead($first, 1))[1], '', 'a retry is due, or in the first');
    refuses($s, "SELECT trunkline.claim_ahead('$first', 0)", 'TL005', {field => 'max_events', limit => 10000});
    refuses($s, "SELECT trunkline.claim_ahead('$first', 10001)", 'TL005', {field => 'max_events', limit => 10000});
    refuses($s, "SELECT trunkline.claim_ahead('$first', 1, '2 days')", 'TL005', {field => 'lease'});
};

subtest 'somebody else is at it' => sub {
    my $f = feed('a a a');
    my ($first) = claim($f, 1);
    for my $sql ("SELECT FROM trunkline.cursors JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f' FOR UPDATE OF cursors", "SELECT trunkline.ack('$first')") {
        $b->do('BEGIN');
        $b->do($sql);
        is((ahead($first, 1))[1], '', 'nothing meanwhile, and no wait');
        $b->do('ROLLBACK');
    }
    is((ahead($first, 1))[1], '2:1', 'then it is given');
};

subtest 'keys that wait, what is tracked, what has expired' => sub {
    my $f = feed('a b', "ordering => 'key', track => 'all'");
    my ($first) = claim($f, 1);
    ack($first, '{"position": 1}');
    more($f, 'c a a');
    more($f, 'd', "now() + interval '1 h'");
    ($first) = claim($f, 1);
    $main->do("SET session_replication_role = replica; UPDATE trunkline.topic_$f SET expires_at = now() - interval '1 s' WHERE \"position\" = 6; RESET session_replication_role");
    my ($second, $got) = ahead($first, 9);
    is($got, '3:1 6:0', 'not those behind one that failed; 0 says expired');
    is(waiting($f), '1:1:a 4:0:a! 5:0:a!', 'they wait behind it');
    is($main->do("SELECT string_agg(\"position\" || ':' || state, ' ' ORDER BY \"position\") FROM trunkline.deliveries d JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'"),
        '1:retrying 2:processing 3:processing 6:processing', 'tracked');
    ack($first);
    is(ack($second, '{"position": 6, "verdict": "expired"}'), 2, 'settled');
    is($main->do("SELECT \"position\", reason FROM trunkline.dead_letters WHERE subscription = '$f'"), '6|expired', 'as ever');
};

subtest 'what fails in the first defers its key in the second' => sub {
    my $f = feed('a b a b a');
    my ($first) = claim($f, 2);
    my ($second) = ahead($first, 9);
    ack($first, '{"position": 1}');
    ack($second, '{"position": 3, "verdict": "defer"}, {"position": 5, "verdict": "defer"}');
    is(waiting($f), '1:1:a 3:0:a! 5:0:a!', 'in the order of the key');
};

subtest 'both are lost together, and fenced together' => sub {
    my $f = feed('a a a a a a');
    my ($first) = claim($f, 2);
    my ($second) = ahead($first, 2);
    expire($first);
    is((claim($f, 9))[1], '', 'not while the second is live');
    $s->do("SELECT trunkline.extend('$first')");
    expire($second);
    is((claim($f, 9))[1], '', 'nor while the first is');
    is($main->do("SELECT trunkline.next_due(ARRAY(SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$f')) > 1000000"), 't', 'the slot is due when both have expired');
    expire($first);
    my @seen;
    my ($token, $got) = claim($f, 9);
    is($got, '1:2', 'then the first event of the first, alone');
    fenced($first, 'the first is fenced');
    fenced($second, 'the second too, though nobody has taken it yet');
    refuses($s, "SELECT trunkline.extend('$second')", 'TL004', {}, 'nor does it come back');
    ack($token);
    while ((($token, $got) = claim($f, 9))[1] ne '') {
        push @seen, $got;
        ack($token);
    }
    is("@seen", '2:2 3:2 4:2 5:1 6:1', 'the rest in order, one a lease as after any crash');

    $f = feed('a a a');
    ($first) = claim($f, 1);
    ($second) = ahead($first, 1);
    expire($_) for $first, $second;
    $b->do('BEGIN');
    $b->do("SELECT trunkline.ack('$second')");
    is((claim($f, 9))[1], '', 'the second is being settled: nothing, or it might overtake the first');
    $b->do('ROLLBACK');
    ($token, $got) = claim($f, 9);
    is($got, '1:2', 'then the first');
    fenced($second, 'and the second is fenced');
};

subtest 'handed back, both come again in order, and no attempt is counted' => sub {
    my $f = feed('a a a a a');
    my ($first) = claim($f, 2);
    my ($second) = ahead($first, 2);
    $s->do("SELECT trunkline.release('$_')") for $first, $second;
    my @seen;
    while (((my ($token, $got) = claim($f, 9)))[1] ne '') {
        push @seen, $got;
        ack($token);
    }
    is("@seen", '1:1 2:1 3:1 4:1 5:1', 'in order');
};

# The owner asks, settles the first, then the second; all that is out expires at some point and a thief claims and
# settles. Whatever the order of these steps: each event is settled once, and in order.
my ($orders, @bad) = (0);
for my $order (interleavings(3, 4)) {
    my $f = feed('k k k');
    my ($first) = claim($f, 1);
    my ($second, $stolen, $got, @settled);
    my $settle = sub {
        my ($token, $position) = @_;
        return if !$token || $token eq 'none';
        push @settled, $position if ($s->error("SELECT trunkline.ack('$token')")->{state}) eq 'none';
    };
    my @steps = (
        [
            sub { ($second, $got) = ahead($first, 1) },
            sub { $settle->($first, 1) },
            sub { $settle->($second, 2) },
        ],
        [
            sub { $main->do("UPDATE trunkline.leases SET until = now() - interval '1 s' WHERE held") },
            (sub { ($stolen, $got) = claim($f, 1); $got =~ s/:.*//; $settle->($stolen, $got) }) x 3,
        ],
    );
    my @at = (0, 0);
    $steps[$_][$at[$_]++]->() for @$order;
    $main->do("UPDATE trunkline.leases SET until = now() - interval '1 s' WHERE held");
    while (((my ($token, $position) = claim($f, 1)))[1] ne '') {
        $position =~ s/:.*//;
        $settle->($token, $position);
    }
    $orders++;
    push @bad, "order @$order: settled @settled" if "@settled" ne '1 2 3';
}
is($orders, 35, 'owner and thief: all orders');
is(join("\n", @bad), '', 'each settled once, in order');

done_testing;
