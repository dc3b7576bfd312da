#!/usr/bin/perl
# SUB-10: slots: shares of the keys that are claimed side by side, and how their number changes.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest qw(:DEFAULT expire);
use Test::More;

database();
my ($s, $other, $main) = map { session() } 1 .. 3;

sub feed {
    my ($name, $n, $options) = @_;
    $main->do("SELECT trunkline.create_topic('$name')");
    $main->do("SELECT trunkline.subscribe('$name', '**', '$name', retry_delay => '1 h', retry_cap => '1 h'" . ($options ? ", $options" : '') . ')');
    more($name, $n) if $n;
    return $name;
}

sub more { $main->do("INSERT INTO trunkline.topic_$_[0] (type, key, data) SELECT 't', CASE WHEN i % 7 > 0 THEN 'k' || i % 7 END, '1' FROM generate_series(1, $_[1]) i") }
sub id { return $main->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$_[0]'") }

# Token, slot and positions of a claim.
sub claim {
    my ($name, $slot, $max, $session) = @_;
    my @rows = map { [split /\|/] } split /\n/,
        ($session // $s)->do("SELECT token, \"position\" FROM trunkline.claim('$name', " . ($slot // 'NULL') . ", max_events => " . ($max // 100) . ')');
    return ('none', '') if !@rows;
    return ($rows[0][0], join(' ', map { $_->[1] } @rows), $main->do("SELECT slot FROM trunkline.leases WHERE token = '$rows[0][0]'"));
}
sub ack { return $s->do("SELECT trunkline.ack('$_[0]'" . ($_[1] ? ", $_[1]" : '') . ')') }
# Positions of a slot of so many, by the definition.
sub of_slot { return $main->do("SELECT coalesce(string_agg(\"position\"::text, ' ' ORDER BY \"position\"), '') FROM trunkline.topic_$_[0] WHERE trunkline.slot_of(key, \"position\", $_[2]) = $_[1]") }

subtest 'each slot has its keys, and one lease at a time' => sub {
    my $f = feed('four', 60, 'slots => 4');
    is($main->do("SELECT ('x' || left(md5('k1'), 7))::bit(28)::integer % 4 = trunkline.slot_of('k1', 1, 4), trunkline.slot_of(NULL, 7, 4)"), 't|3', 'by the MD5 of the key, without one by position');
    my %token;
    for my $slot (0 .. 3) {
        my ($token, $got) = claim($f, $slot);
        is($got, of_slot($f, $slot, 4), "slot $slot");
        $token{$slot} = $token;
    }
    is((claim($f, $_))[1], '', "slot $_ is taken") for 0 .. 3;
    is((claim($f))[1], '', 'so are all');
    is($s->do("SELECT sum(trunkline.ack(token)) FROM trunkline.leases"), 60, 'every event is in one of them');
    is($main->do("SELECT DISTINCT cursor FROM trunkline.cursors WHERE subscription_id = " . id($f)), 60, 'all at the end');
};

subtest 'the slot that waited longest comes first' => sub {
    my $f = feed('longest', 0, 'slots => 3');
    $main->do("INSERT INTO trunkline.topic_$f (type, key, data) SELECT 't', 'key ' || i, '1' FROM generate_series(1, 60) i");
    my @order;
    for (1 .. 3) {
        my ($token, $got, $slot) = claim($f, undef, 1);
        push @order, $slot;
        ack($token);
    }
    is("@order", '0 1 2', 'those that never had anything, by number');
    my ($token, undef, $slot) = claim($f, undef, 1);
    is($slot, 0, 'then the first again');
    my ($second, undef, $next) = claim($f, undef, 1);
    is($next, 1, 'beside it the next');
    my $id = id($f);
    $main->do("UPDATE trunkline.cursors SET cursor = 60 WHERE subscription_id = $id AND slot = 2");
    is((claim($f, undef, 1))[1], '', 'one that has nothing is passed over');
    ack($_) for $token, $second;
    my @slots = map { $s->do("SELECT DISTINCT members FROM trunkline.claim_many('{$id}', '{1}') WHERE subscription_id = $id") } 1 .. 3;
    is("@slots", '0 1 ', 'claim_many: one a call');
};

subtest 'a failing key holds back itself only, a crash its slot' => sub {
    my $f = feed('apart', 14, 'slots => 2');
    my ($t0, $e0) = claim($f, 0);
    my ($t1, $e1) = claim($f, 1);
    my ($bad) = split / /, $e0;
    $s->do("SELECT trunkline.ack('$t0', NULL, '[{\"position\": $bad}]')");
    more($f, 14);
    my $key = $main->do("SELECT key FROM trunkline.topic_$f WHERE \"position\" = $bad");
    ($t0, $e0) = claim($f, 0);
    is($main->do("SELECT count(*) FROM trunkline.topic_$f WHERE key = '$key' AND \"position\" IN (" . join(',', split / /, $e0) . ')'), 0, 'its key is left out');
    is($main->do("SELECT DISTINCT slot FROM trunkline.retries"), 0, 'what waits is of that slot');
    is((claim($f, 1))[1], '', 'the other slot is still out');
    expire($t1);
    my ($first) = split / /, $e1;
    is((claim($f, 1))[1], $first, 'taken over one by one');
    $main->do('DELETE FROM trunkline.retries; DELETE FROM trunkline.leases');
};

subtest 'a change of the number waits for what is in flight' => sub {
    my $f = feed('change', 60, 'slots => 2');
    my $id = id($f);
    my $state = sub { return $main->do("SELECT s.slots, s.resize_at, (SELECT count(*) FROM trunkline.cursors c WHERE c.subscription_id = s.subscription_id) FROM trunkline.subscriptions s WHERE subscription_id = $id") };
    my ($token, $got) = claim($f, 0, 10);
    my $slot;
    $got =~ /(\d+)$/;
    my $at = $1;
    is($s->do("SELECT trunkline.set_slots('$f', 3)"), 'f', 'later');
    is($state->(), "3|$at|2", 'at the position of the furthest slot');
    is((claim($f, 0))[1], '', 'the slot in flight is not claimed twice');
    (my $second, my $rest, $slot) = claim($f);
    is($slot, 1, 'the other one catches up');
    is($rest, join(' ', grep { $_ <= $at } split / /, of_slot($f, 1, 2)), 'so far and no further');
    ack($second);
    is((claim($f))[1], '', 'nothing behind it is handed out');
    is($main->do("SELECT count(*) FROM trunkline.claim_many('{$id}', '{10}') WHERE subscription_id = $id"), 0, 'nor to workers');
    is($main->do("SELECT pg_current_xact_id_if_assigned() FROM trunkline.claim_many('{$id}', '{10}')"), '', 'and the look writes nothing');
    is($state->(), "3|$at|2", 'while the first lease is out');
    cmp_ok($main->do("SELECT trunkline.next_due('{$id}')"), '>', 1_000_000, 'next_due: when it ends');
    expire($token);
    ($token, $got) = claim($f, 0, 10);
    is($got, (split / /, of_slot($f, 0, 2))[0], 'a takeover is of the old share');
    ack($token);
    while (1) {
        ($token, $got, $slot) = claim($f, 0, 10);
        last if $token eq 'none' || ($got =~ /^(\d+)/)[0] > $at;
        ack($token);
    }
    is($state->(), '3||3', 'then the claim finds three slots and goes on');
    my @share = grep { $_ > $at } split / /, of_slot($f, 0, 3);
    is($got, join(' ', @share > 10 ? @share[0 .. 9] : @share), 'with its new share');
    my %seen = map { $_ => 1 } split / /, $got;
    ack($token);
    while (1) {
        ($token, $got) = claim($f);
        last if $token eq 'none';
        $seen{$_}++ for split / /, $got;
        ack($token);
    }
    is(join(' ', sort { $a <=> $b } keys %seen), join(' ', $at + 1 .. 60), 'every event behind it');
    is((grep { $_ > 1 } values %seen) + 0, 0, 'once');
};

subtest 'what waits moves with its key' => sub {
    my $f = feed('moves', 28, "slots => 4");
    my $id = id($f);
    for my $slot (0 .. 3) {
        my ($token, $got) = claim($f, $slot);
        $s->do("SELECT trunkline.ack('$token', NULL, '[" . join(',', map { "{\"position\": $_}" } split / /, $got) . "]')") if $got;
    }
    is($s->do("SELECT trunkline.set_slots('$f', 3)"), 't', 'at once, since nothing is out');
    is($main->do("SELECT count(*) FROM trunkline.retries r JOIN trunkline.topic_$f e USING (\"position\") WHERE r.subscription_id = $id AND r.slot <> trunkline.slot_of(e.key, \"position\", 3)"), 0, 'all retries are where their key is');
    $main->do("UPDATE trunkline.retries SET next_attempt_at = now() WHERE subscription_id = $id");
    my @got;
    while (1) {
        my ($token, $got) = claim($f);
        last if $token eq 'none';
        push @got, split / /, $got;
        ack($token);
    }
    is(join(' ', sort { $a <=> $b } @got), join(' ', 1 .. 28), 'and handed out there');
};

subtest 'a claim that looked before a change, and locks after it' => sub {
    my $f = feed('stale', 30, 'slots => 2');
    my $id = id($f);
    # the claimer has read the subscription and waits for the topic, as long as we say
    $main->do(<<"SQL");
CREATE FUNCTION public.stale_claim() RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    s trunkline.subscriptions;
    l trunkline.leases;
BEGIN
    SELECT * INTO s FROM trunkline.subscriptions WHERE subscription_id = $id;
    PERFORM pg_advisory_lock(4711);
    l := trunkline.take_lease(s, '$f', 0, 100, interval '1 min', 30, 'stale');
    RETURN coalesce(l.token::text, 'none') || ' ' || coalesce(l.upto, -1);
END \$\$
SQL
    $other->do('SELECT pg_advisory_lock(4711)');
    $s->start('SELECT public.stale_claim()');
    $s->wait_blocked;
    is($other->do("SELECT trunkline.set_slots('$f', 4)"), 't', 'the number changes in between');
    $other->do('SELECT pg_advisory_unlock(4711)');
    is($s->finish, 'none -1', 'nothing: it would have handed out another share of the keys');
    $s->do('SELECT pg_advisory_unlock(4711)');

    my ($token) = claim($f, 0, 1);
    $other->do('SELECT pg_advisory_lock(4711)');
    $s->start("SELECT public.stale_claim()");
    $s->wait_blocked;
    is($other->do("SELECT trunkline.set_slots('$f', 2)"), 'f', 'a change begins in between');
    my $at = $other->do("SELECT resize_at FROM trunkline.subscriptions WHERE subscription_id = $id");
    $other->do("SELECT trunkline.ack('$token'); SELECT pg_advisory_unlock(4711)");
    is($s->finish, 'none -1', 'nothing behind the place of the change');
    is($other->do("SELECT cursor FROM trunkline.cursors WHERE subscription_id = $id AND slot = 0"), $at, 'the cursor is where it was');
    $s->do('SELECT pg_advisory_unlock(4711)');
};

subtest 'two claims end a change' => sub {
    my $f = feed('ends', 20, 'slots => 2');
    my ($token) = claim($f, 0);
    $s->do("SELECT trunkline.set_slots('$f', 1)");
    ack($token);
    claim($f, 1);
    $main->do("DELETE FROM trunkline.leases WHERE subscription_id = " . id($f));
    $other->do("BEGIN; SELECT FROM trunkline.subscriptions WHERE name = '$f' FOR NO KEY UPDATE");
    is((claim($f))[1], '', 'one that finds it locked leaves it to the other');
    $other->do('ROLLBACK');
    more($f, 7);
    is((claim($f))[1], '21 22 23 24 25 26 27', 'the next claim ends it');
    is($main->do("SELECT resizing, slots FROM trunkline.subscription_status WHERE name = '$f'"), 'f|1', 'one slot');
};

done_testing;
