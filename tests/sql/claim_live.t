#!/usr/bin/perl
# LOG-3, WRK-3: claim_live() hands out what claim_many() would, whatever state a subscription is in, and passes no event that
# is in flight although it does not always read the register.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($w1, $w2, $s, $main) = map { session() } 1 .. 4;
$main->do(q{SELECT trunkline.create_topic('elsewhere')});
my %known; # "position" of the last header, by what was asked

sub feed {
    my ($name, $options) = @_;
    return $main->do("SELECT trunkline.subscribe('$name', " . ($options || "pattern => '**'") . ", retry_delay => '1 h', retry_cap => '1 h')");
}
sub insert { return $_[0]->do("INSERT INTO trunkline.topic_" . ($_[1] // 'bus') . " (type, tenant_id, key, data) VALUES ('a.b', 'x', 'k', '1') RETURNING \"position\"") }

# Rows of a look, the header first, as [subscription_id, token, attempt, position, type, id is NULL].
sub look {
    my ($ids, %with) = @_;
    my $known = $with{known} // $known{$ids} // 0;
    my $rooms = join ',', ($with{room} // 100) x (() = $ids =~ /\d+/g);
    my @rows = map { [split /\|/, $_, -1] } split /\n/, $s->do('SELECT subscription_id, token, attempt, "position", type, id IS NULL FROM trunkline.claim_live('
        . "'{$ids}', '{$rooms}', '1 h', 'me', " . ($with{ranges} // 256) . ", $known, " . ($with{keeps} // 'true') . ')');
    $known{$ids} = $rows[0][3];
    return @rows;
}
# Positions that it hands out; they are settled.
sub take {
    my (@rows) = look(@_);
    my %tokens = map { $_->[1] => 1 } grep { $_->[1] ne '' } @rows;
    $s->do("SELECT trunkline.ack('$_')") for keys %tokens;
    return join ' ', map { $_->[3] } grep { $_->[0] ne '0' && $_->[5] eq 'f' } @rows;
}
# How often the session has called a function in its transaction.
sub calls { return $s->do("SELECT coalesce(pg_stat_get_xact_function_calls(min(oid::oid)), 0) FROM pg_proc WHERE proname = '$_[0]' AND pronamespace = 'trunkline'::regnamespace") }
# What $do returns, and how often it called the function.
sub calling {
    my ($function, $do) = @_;
    $s->do("SET track_functions = 'all'; BEGIN");
    my $before = calls($function);
    my $got = $do->();
    my $n = calls($function) - $before;
    $s->do("COMMIT; SET track_functions = 'none'");
    return ($got, $n);
}

subtest 'the short way' => sub {
    my $id = feed('short');
    take($id); # whatever there is, and what the header says
    # other databases of the cluster may have transactions at the moment
    for my $n (1, 3, 9) {
        my ($got, $calls, $expected);
        wait_until(sub {
            $expected = join ' ', map { insert($w1) } 1 .. $n;
            ($got, $calls) = calling('register_horizons', sub { take($id) });
            $got eq $expected or BAIL_OUT("$got, not $expected");
            return $calls == 0;
        });
        is($got, $expected, "$n events, without a look at the register");
        is((calling('claim_many', sub { take($id) }))[1], 0, 'nothing there: nor claim_many()');
    }
    is($s->do('SELECT count(*) FROM pg_prepared_statements WHERE name LIKE \'trunkline%\''), 1, 'a statement is kept');
    my $other = session();
    insert($w1);
    is($other->do("SELECT count(*) FROM trunkline.claim_live('{$id}', '{9}', '1 h', 'me', 256, 0, false) WHERE id IS NOT NULL"), 1, 'keeps false: the event');
    is($other->do('SELECT count(*) FROM pg_prepared_statements WHERE name LIKE \'trunkline%\''), 0, 'and nothing left in the session');
    $main->do('DELETE FROM trunkline.leases');
    my $xid = $s->do("BEGIN; SELECT count(*) FROM trunkline.claim_live('{$id}', '{9}', '1 h', 'me', 256, $known{$id} + 1, true); SELECT pg_current_xact_id_if_assigned() IS NULL; COMMIT");
    is($xid, "1\nt", 'a look that finds nothing new has no transaction number');
    is(scalar(look($id, known => 'NULL')), 1, 'known NULL: a look like any other');
    $main->do("SELECT trunkline.unsubscribe('short', true)");
};

subtest 'in flight' => sub {
    my $id = feed('flight');
    take($id);
    my $two_phase = $main->do('SHOW max_prepared_transactions') > 0;
    for my $case (
        ['commit', 'COMMIT'], ['rollback', 'ROLLBACK'],
        ['a savepoint', 'SAVEPOINT s; COMMIT', 'SAVEPOINT s'],
        $two_phase ? ['prepared', "COMMIT PREPARED 'claim_live'", '', "PREPARE TRANSACTION 'claim_live'"] : (),
    ) {
        my ($name, $end, $begin, $middle) = @$case;
        for my $behind (0, 1) {
            $w1->do('BEGIN; SET LOCAL trunkline.ring = off' . ($begin ? "; $begin" : ''));
            my $p = insert($w1);
            $w1->do($middle) if $middle;
            # without one behind it nothing has ended since it began
            my $q = $behind ? insert($w2) : '';
            is(take($id), '', "$name: nothing is readable" . ($behind ? ', though another has committed behind it' : ''));
            is(take($id), '', "$name: nor at the second look");
            # a transaction that has a number already, older or younger than the publisher's
            is($s->do("BEGIN; SELECT pg_current_xact_id() IS NULL; SELECT count(*) FROM trunkline.claim_live('{$id}', '{9}', '1 h', 'me', 256, 0, true) WHERE id IS NOT NULL; ROLLBACK"), "f\n0", "$name: nor in a numbered transaction");
            $w1->do($end);
            is(take($id), join(' ', ($name eq 'rollback' ? () : $p), $q || ()), "$name: then all of it, in order");
        }
    }
    # the number of the reader is older than the writer's
    $s->do('BEGIN; SELECT pg_current_xact_id()');
    $w1->do('BEGIN');
    my $p = insert($w1);
    is($s->do("SELECT count(*) FROM trunkline.claim_live('{$id}', '{9}', '1 h', 'me', 256, 0, true) WHERE id IS NOT NULL; COMMIT"), 0, 'a reader with an older number');
    $w1->do('COMMIT');
    is(take($id), $p, 'passes nothing');
    # somebody else's transaction: the register tells that he does not publish
    $w1->do('BEGIN; SELECT pg_current_xact_id()');
    $p = insert($w2);
    is((calling('register_horizons', sub { is(take($id), $p, 'a transaction of others holds nothing back') }))[1], 1, 'since the register was looked at');
    $w1->do('COMMIT');
    is($s->error("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM trunkline.claim_live('{$id}', '{9}', '1 h', 'me', 256, 0, true)")->{state}, 'TL005', 'READ COMMITTED only');
    $s->do('ROLLBACK');
    $main->do("SELECT trunkline.unsubscribe('flight', true)");
};

# Every order of two publishers and three looks.
subtest 'all orders' => sub {
    my $id = feed('orders');
    take($id);
    for my $ends (['COMMIT', 'COMMIT'], ['ROLLBACK', 'COMMIT']) {
        my (@bad, $count);
        for my $order (interleavings(2, 2, 3)) {
            my (@wrote, @saw);
            my $read = sub { push @saw, split / /, take($id) };
            my @steps = (
                [sub { $w1->do('BEGIN'); my $p = insert($w1); push @wrote, $p if $ends->[0] eq 'COMMIT' }, sub { $w1->do($ends->[0]) }],
                [sub { $w2->do('BEGIN'); push @wrote, insert($w2) }, sub { $w2->do($ends->[1]) }],
                [($read) x 3],
            );
            my @done = (0, 0, 0);
            $steps[$_][$done[$_]++]->() for @$order;
            $read->();
            $count++;
            push @bad, "order @$order: wrote @wrote, saw @saw" if "@saw" ne join ' ', sort { $a <=> $b } @wrote;
        }
        is($count, 210, "@$ends: all orders");
        is(join("\n", @bad), '', 'every event once, in order');
    }
    $main->do("SELECT trunkline.unsubscribe('orders', true)");
};

# The same subscription twice: one is claimed by each way. What is compared: rows, leases, cursors.
subtest 'as claim_many' => sub {
    my $rows = '"position", attempt, type, key, tenant_id, data, metadata, expires_at, members, token IS NULL, version';
    my $state = sub { return $main->do("SELECT 'cursor', c.slot, c.cursor, c.epoch FROM trunkline.cursors c WHERE subscription_id = $_[0] UNION ALL
        SELECT 'lease', l.after, l.upto, coalesce(l.events, -1) * 10 + l.retries FROM trunkline.leases l WHERE l.subscription_id = $_[0] AND l.held AND l.owner = 'me' AND NOT l.solo AND l.attempt >= 1 ORDER BY 1, 2, 3") };
    my $insert = "INSERT INTO trunkline.topic_bus (type, tenant_id, key, data) SELECT 'a.b' || i % 3, 'x', 'k' || i % 2, '{\"n\": 1}' FROM generate_series(1, %d) i";
    my $now = "UPDATE trunkline.retries SET next_attempt_at = now() - interval '1 s' WHERE subscription_id IN (%s)";
    my $lost = "UPDATE trunkline.leases SET until = now() - interval '1 s' WHERE subscription_id IN (%s)";
    my $fail = sub { my ($id) = @_; my ($p, $t) = split /\|/, $s->do("SELECT min(\"position\"), max(token::text) FROM trunkline.claim('$_[1]')"); $s->do("SELECT trunkline.ack('$t', $p, '[{\"position\": $p}]')") };
    for my $case (
        ['one', '', 1], ['four', '', 4], ['five', '', 5], ['as many as there is room for', '', 100], ['more than there is room for', '', 130],
        ['ordering none', "ordering => 'none'", 3], ['ordering total', "ordering => 'total'", 3], ['a range', '', 300, room => 1000],
        ['no more than asked for', '', 9, room => 4], ['no room', '', 2, room => 0],
        ['a pattern', "pattern => 'a.b1'", 5], ['a tenant', "tenant_id => 'y'", 5], ['a filter', q(filter => '{"n": 2}'), 5], ['a path', q(filter_path => '$.n == 1'), 5],
        ['slots', 'slots => 2', 6], ['tracked', "track => 'all'", 2], ['a limit', 'max_in_flight => 2', 5], ['a rate', 'rate_limit => 1', 5],
        ['paused', '', 3, then => "SELECT trunkline.pause('%s')"], ['drained', '', 3, then => "SELECT trunkline.drain('%s')"],
        ['a change of slots', '', 3, then => "SELECT trunkline.set_slots('%s', 2)"],
        ['only a gap', '', 0, sql => "SELECT nextval('trunkline.position_bus')"], ['a gap before them', '', 2, sql => "SELECT nextval('trunkline.position_bus')"],
        ['expired', '', 1, sql => "INSERT INTO trunkline.topic_bus (type, data, expires_at) VALUES ('a', '1', now() - interval '1 s')"],
        ['failed, and waits', '', 3, first => 1, fail => 1], ['failed, and due', '', 3, first => 1, fail => 1, both => $now],
        ['failed, due, nothing new', '', 0, first => 1, fail => 1, both => $now],
        ['held', '', 2, first => 1, hold => 1], ['lost', '', 2, first => 1, hold => 1, both => $lost], ['lost, nothing new', '', 0, first => 2, hold => 1, both => $lost],
        ['held, ordering none', "ordering => 'none'", 2, first => 1, hold => 1],
        ['lost, ordering none', "ordering => 'none'", 2, first => 2, hold => 1, both => $lost],
    ) {
        my ($name, $options, $n, %with) = @$case;
        $options = "pattern => '**'" . ($options ? ", $options" : '') if $options !~ /pattern/;
        my @id = map { feed($_, $options) } qw(one other);
        $main->do(sprintf $insert, $with{first}) if $with{first};
        for my $i (0, 1) {
            $fail->($id[$i], qw(one other)[$i]) if $with{fail};
            $s->do("SELECT count(*) FROM trunkline.claim('" . qw(one other)[$i] . "')") if $with{hold};
        }
        $main->do(sprintf $with{both}, "$id[0],$id[1]") if $with{both};
        $main->do($with{sql}) if $with{sql};
        $main->do(sprintf $insert, $n) if $n;
        if ($with{then}) {
            $main->do(sprintf $with{then}, $_) for qw(one other);
        }
        my $room = $with{room} // 100;
        my @got = map { $s->do("SELECT $rows FROM trunkline.$_ WHERE subscription_id <> 0") } (
            "claim_many('{$id[0]}', '{$room}', '1 h', 'me', true, 256)", "claim_live('{$id[1]}', '{$room}', '1 h', 'me', 256, 0, true)");
        is($got[1], $got[0], "$name: the same rows");
        is($state->($id[1]), $state->($id[0]), "$name: the same cursor and lease");
        $main->do("SELECT trunkline.unsubscribe('$_', true)") for qw(one other);
    }
};

# Whoever takes no part of an order waits for the other claimer, who may leave something or roll back.
subtest 'beside another claimer' => sub {
    for my $case (['none', 'COMMIT', 1], ['none', 'ROLLBACK', 0]) {
        my ($ordering, $end, $left) = @$case;
        my $id = feed('beside', "pattern => '**', ordering => '$ordering'");
        my @wrote = map { insert($w1) } 1 .. 3;
        $w1->do("BEGIN; SELECT count(*) FROM trunkline.claim('beside', max_events => 1)");
        $s->start("SELECT \"position\" FROM trunkline.claim_live('{$id}', '{9}', '1 h', 'me', 256, 0, true) WHERE id IS NOT NULL");
        $s->wait_blocked;
        $w1->do($end);
        is($s->finish, join("\n", @wrote[$left .. 2]), "$ordering, $end: it waits and gets the rest");
        $main->do("SELECT trunkline.unsubscribe('beside', true)");
    }
    my $id = feed('beside');
    insert($w1);
    $w1->do("BEGIN; SELECT count(*) FROM trunkline.claim('beside')");
    is(take($id), '', 'key: it does not wait for a lease that it could not have');
    $w1->do('ROLLBACK');
    isnt(take($id), '', 'and has it when there is one');
    $main->do("SELECT trunkline.unsubscribe('beside', true)");
};

subtest 'replays' => sub {
    my $id = feed('replayed');
    take($id);
    $main->do("SELECT trunkline.replay('replayed', 'beginning')");
    insert($w1);
    # which of the two comes first is a matter of chance
    is((calling('claim_many', sub { take($id) }))[1], 1, 'beside a replay: claim_many()');
    $main->do("SELECT trunkline.unsubscribe('replayed', true)");
};

subtest 'something new for others' => sub {
    my $id = feed('left');
    take($id);
    my $p = insert($w1);
    my ($token) = map { $_->[1] } grep { $_->[0] eq $id } look($id);
    $s->do("SELECT trunkline.release('$token')");
    insert($w1, 'elsewhere');
    is(take($id), $p, 'what was handed back is found, although only another topic has moved');
    insert($w1, 'elsewhere');
    is((calling('claim_many', sub { take($id) }))[1], 0, 'nothing for this one: not claim_many()');
    $main->do("SELECT trunkline.unsubscribe('left', true)");
};

subtest 'a slot that is not the first' => sub {
    my $id = feed('slots', "pattern => '**', slots => 2");
    my @wrote = split /\n/, $main->do("INSERT INTO trunkline.topic_bus (type, key, data) SELECT 'a', 'key' || i, '1' FROM generate_series(1, 8) i RETURNING \"position\"");
    # the first look serves slot 0, so that only the other one has something left
    my @got = map { split / /, take($id) } 1 .. 2;
    is(join(' ', sort { $a <=> $b } @got), "@wrote", 'both slots');
    # slot 0 was served last, so who takes one begins with slot 1
    $s->do("UPDATE trunkline.cursors SET last_triggered_at = clock_timestamp() + slot * interval '-1 s' WHERE subscription_id = $id");
    $main->do("INSERT INTO trunkline.topic_bus (type, key, data) SELECT 'a', 'key' || i, '1' FROM generate_series(1, 8) i");
    my $slot = "SELECT DISTINCT members FROM trunkline.claim_live('{$id}', '{9}', '1 h', 'me', 256, 0, true) WHERE id IS NOT NULL";
    is($w1->do("BEGIN; $slot"), 1, 'who takes another slot');
    is($w2->do($slot), 0, 'leaves the first to others');
    $w1->do('COMMIT');
    $main->do("SELECT trunkline.unsubscribe('slots', true)");
};

subtest 'several subscriptions' => sub {
    $main->do("SELECT trunkline.create_topic('second')");
    my ($bus, $second, $again) = (feed('bus'), feed('second', "pattern => '**', topic => 'second'"), feed('again'));
    take("$bus,$second,$again");
    my $p = insert($w1, 'second');
    is(take("$bus,$second,$again"), $p, 'events for one of them');
    $p = insert($w1);
    my @rows = look("$bus,$second,$again");
    is(join(' ', map { "$_->[0]:$_->[3]" } grep { $_->[0] != 0 } @rows), join(' ', "-1:$p", map { "$_:$p" } $bus, $again), 'for two: read once for both');
    $main->do('DELETE FROM trunkline.leases');
    $p = insert($w1, 'second');
    my ($known) = map { $_->[3] } look('');
    insert($w1);
    isnt((look(''))[0][3], $known, 'nobody asks: the header says that there is something new');
    is((look(''))[0][3], (look(''))[0][3], 'and stays while there is not');
};

subtest 'held' => sub {
    my $id = feed('held');
    my %looks = (claim_live => "'1 h', 'me', 256, 0, true", claim_many => "'1 h', 'me', true");
    my $held = sub { join ' ', map { $s->do("SELECT members FROM trunkline.$_('{}', '{}', $looks{$_}) WHERE subscription_id = 0") } sort keys %looks };
    is($held->(), '0 0', 'all is readable');
    $w1->do('BEGIN');
    my $p = insert($w1);
    is($held->(), '1 1', 'something is in flight');
    insert($w2, 'second');
    is($held->(), '1 1', 'though another topic has as much to read as this one has not');
    $w1->do('COMMIT');
    is($held->(), '0 0', 'and all is readable again');
    is(take($id), $p, 'and read');
    my ($known) = map { $_->[3] } look('');
    is($s->do("SELECT members FROM trunkline.claim_live('{}', '{}', '1 h', 'me', 256, $known, true)"), 0, 'nor is anything held where nothing is new');
    $main->do("SELECT trunkline.unsubscribe('held', true)");
};

subtest 'listeners' => sub {
    my $other = session();
    my $join = 'LISTEN trunkline; SELECT trunkline.listener_join()';
    $s->do($join);
    is((look(''))[0][2], 0, 'nobody else listens');
    is((look('', known => 0))[0][2], 0, 'nor when something is new');
    $other->do($join);
    is((look(''))[0][2], 1, 'one other');
    is((look('', known => 0))[0][2], 1, 'the same when something is new');
    $other->do('SELECT trunkline.listener_leave()');
    is((look(''))[0][2], 0, 'and left again');
    is($main->do("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND pid = $s->{pid}"), 0, 'no lock is left over');
    is($main->do("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND pid = $s->{pid}"), 1, 'but its own share');
};

done_testing;
