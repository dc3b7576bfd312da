#!/usr/bin/perl
# LOG-3, WRK-3, RET-8: the statement of prepare_next() claims the event behind the cursor as claim_many() would, passes nothing that is
# in flight, and takes nothing where anything else is to be considered.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($w1, $w2, $s, $main) = map { session() } 1 .. 4;
my $tables = q(enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET jit = off); # as a worker's session
$_->do("SET $tables") for $s, $w1;

sub feed {
    my ($name, $options) = @_;
    my $id = $main->do("SELECT trunkline.subscribe('$name', " . ($options || "pattern => '**'") . ", retry_delay => '1 h', retry_cap => '1 h')");
    return $id;
}
sub insert { return $_[0]->do("INSERT INTO trunkline.topic_" . ($_[1] // 'bus') . " (type, tenant_id, key, data) VALUES ('a.b', 'x', 'k', '1') RETURNING \"position\"") }
sub cursor { return $main->do("SELECT cursor FROM trunkline.cursors WHERE subscription_id = $_[0] AND slot = 0") }
sub leave { $main->do("SELECT trunkline.unsubscribe('$_[0]', true)"); return }
my %epoch; # as a worker knows it: from prepare_next(), and one more with each event that was claimed and settled
# The range that the statement is for; '' for none.
sub prepare {
    my ($id, $session) = @_;
    my ($after, $upto, $epoch) = split /\|/, $session->do("SELECT * FROM trunkline.prepare_next($id, " . (cursor($id) + 1) . ')');
    return '' if $epoch eq '';
    $epoch{$id} = $epoch;
    return "$after $upto";
}
my $token = '11111111-2222-4333-8444-555555555555';
sub text { my ($id, $p) = @_; return "EXECUTE trunkline_next_$id($p, $epoch{$id}, '$token', '1 h', 'me')" }
# What the statement claims at a position, the next one if none is given: [position, ...] or nothing.
sub next_at { my ($id, $p) = @_; return split /\|/, $s->do(text($id, $p // cursor($id) + 1)), -1 }
# Its position, settled; '' for none.
sub take {
    my ($id) = @_;
    my @row = next_at(@_) or return '';
    $epoch{$id}++ if $s->do("SELECT trunkline.ack('$token')") == 1;
    return $row[0];
}

subtest 'the same as claim_many()' => sub {
    my @id = map { feed($_) } qw(one other);
    my $state = sub { return $main->do("SELECT c.cursor, c.epoch, c.last_triggered_at IS NOT NULL, l.slot, l.after, l.upto, l.events, l.retries, l.attempt, l.epoch, l.owner, l.held, l.solo, l.has_holes, l.is_tracked, l.replay_id,
        l.until BETWEEN now() + interval '59 min' AND now() + interval '1 h' FROM trunkline.cursors c LEFT JOIN trunkline.leases l USING (subscription_id) WHERE c.subscription_id = $_[0]") };
    is(prepare($id[1], $s), '-1 1073741823', 'of the leaf');
    for my $sql (
        q(INSERT INTO trunkline.topic_bus (type, data) VALUES ('a', '1')),
        q(INSERT INTO trunkline.topic_bus (type, source, key, tenant_id, data, metadata, expires_at) VALUES ('b.c', 'src', 'k', 't', '{"a": [1, "x"]}', '{"m": 1}', now() + interval '1 day')),
        q(INSERT INTO trunkline.topic_bus (type, data, expires_at) VALUES ('late', '1', now() - interval '1 s')),
    ) {
        $main->do($sql);
        my @row = split /\|/, $w1->do("SELECT \"position\", id, type, source, stream, version, key, tenant_id, data, metadata, expires_at, created_at
            FROM trunkline.claim_many('{$id[0]}', '{100}', '1 h', 'me', true, 256) WHERE subscription_id <> 0"), -1;
        my @next = next_at($id[1]);
        if ($sql =~ /late/) {
            is("@next", '', 'one that has expired is left to a claim');
            last;
        }
        is("@next", "@row", "$row[0]: the same row");
        is($state->($id[1]), $state->($id[0]), 'the same cursor and lease');
        is($s->do("SELECT trunkline.extend('$token', '1 h') IS NOT NULL, trunkline.ack('$token')"), 't|1', 'which goes on and ends like any other');
        $epoch{$id[1]}++;
        $main->do("DELETE FROM trunkline.leases WHERE subscription_id = $id[0]");
    }
    leave($_) for qw(one other);
};

subtest 'not prepared' => sub {
    $main->do(q{CREATE FUNCTION handle(jsonb) RETURNS void LANGUAGE sql RETURN NULL::void});
    for my $case (
        ['a pattern', "pattern => 'a.*'"], ['a tenant', "tenant_id => 'x'"], ['a filter', q(filter => '{"n": 1}')], ['a path', q(filter_path => '$.n == 1')],
        ['slots', 'slots => 2'], ['tracked', "track => 'all'"], ['a limit', 'max_in_flight => 2'], ['a rate', 'rate_limit => 1'],
        ["in the publisher's transaction", "mode => 'sync', target => 'sql:public.handle'"],
        ['paused', '', "SELECT trunkline.pause('s')"], ['drained', '', "SELECT trunkline.drain('s')", 1], ['a change of slots', '', "SELECT trunkline.set_slots('s', 2)", 1],
    ) {
        my ($name, $options, $then, $new) = @$case;
        my $id = feed('s', join ', ', ($options =~ /pattern/ ? () : "pattern => '**'"), $options || ());
        isnt(prepare($id, $s), '', "$name: prepared before") if $then;
        insert($main) if $new;
        $main->do($then) if $then;
        insert($main);
        is(take($id), '', "$name: not taken") if $then;
        is(prepare($id, $s), '', "$name: not prepared");
        is($s->do("SELECT count(*) FROM pg_prepared_statements WHERE name = 'trunkline_next_$id'"), 0, 'nor kept from before');
        leave('s');
    }
    is($s->do('SELECT after FROM trunkline.prepare_next(0, 1)'), '', 'a subscription that is not there');
};

subtest 'anything else to be considered' => sub {
    my $claim = sub { return $main->do("SELECT token FROM trunkline.claim('s', max_events => $_[0]) LIMIT 1") };
    for my $case (
        ['another position', sub { cursor($_[0]) + 2 }],
        ['the one before', sub { cursor($_[0]) }],
        ['a lease', sub { insert($main); insert($main); $claim->(1); return }],
        ['a lease, ordering none', sub { insert($main); insert($main); $claim->(1); return }, "ordering => 'none'"],
        ['a lease that was lost', sub { insert($main); $claim->(1); $main->do("UPDATE trunkline.leases SET until = now() - interval '1 s'"); insert($main); return }],
        ['a lease handed back', sub { insert($main); my $t = $claim->(1); $main->do("SELECT trunkline.release('$t')"); insert($main); return }],
        ['a retry', sub { my $p = insert($main); my $t = $claim->(1); $main->do("SELECT trunkline.ack('$t', NULL, '[{\"position\": $p}]')"); insert($main); return }],
        ['a replay', sub { $main->do("SELECT trunkline.replay('s', 'beginning')"); insert($main); return }],
        ['a gap', sub { $main->do("SELECT nextval('trunkline.position_bus')"); insert($main); return }],
        ['another pattern', sub { $main->do("UPDATE trunkline.subscriptions SET pattern = 'c' WHERE subscription_id = $_[0]"); insert($main); return }],
        ['no change at all', sub { $main->do("UPDATE trunkline.subscriptions SET pattern = pattern WHERE subscription_id = $_[0]"); insert($main); return }],
    ) {
        my ($name, $do, $options) = @$case;
        my $id = feed('s', join ', ', "pattern => '**'", $options // ());
        prepare($id, $s);
        my $p = insert($main);
        is(take($id), $p, "$name: before");
        insert($main), $p = insert($main) if $name =~ /position|before/;
        my $at = $do->($id);
        my $state = "SELECT cursor, epoch FROM trunkline.cursors WHERE subscription_id = $id";
        my $before = $main->do($state);
        is(take($id, $at), '', "$name: nothing");
        is($main->do($state), $before, 'and nothing is changed');
        is(prepare($id, $s), '', "$name: nor is it prepared again") if $name =~ /lease|retry|replay/;
        leave('s');
    }
    my $id = feed('s');
    prepare($id, $s);
    my $p = insert($main);
    leave('s');
    is($s->do(text($id, $p)), '', 'a subscription that was removed: nothing');
};

subtest 'in flight' => sub {
    my $two_phase = $main->do('SHOW max_prepared_transactions') > 0;
    my $id = feed('flight');
    prepare($id, $s);
    for my $case (
        ['commit', 'COMMIT'], ['rollback', 'ROLLBACK'],
        ['a savepoint', 'SAVEPOINT s; COMMIT', 'SAVEPOINT s'], ['a savepoint undone', 'ROLLBACK TO s; COMMIT', 'SAVEPOINT s'],
        $two_phase ? ['prepared', "COMMIT PREPARED 'next'", '', "PREPARE TRANSACTION 'next'"] : (),
    ) {
        my ($name, $end, $begin, $middle) = @$case;
        $w1->do('BEGIN; SET LOCAL trunkline.ring = off' . ($begin ? "; $begin" : ''));
        my $p = insert($w1);
        $w1->do($middle) if $middle;
        is(take($id), '', "$name: it is not there yet");
        my $q = insert($w2);
        is(take($id), '', "$name: nor is the one behind it");
        is(take($id, $q), '', "$name: whichever is asked for");
        $w1->do($end);
        my $is_there = $end =~ /COMMIT/ && $end !~ /TO s/;
        is(take($id), $is_there ? $p : '', "$name: then it is, or never");
        is(take($id), $is_there ? $q : '', "$name: and the other behind it, but not behind a gap");
        $s->do("SELECT count(trunkline.ack(t)) FROM (SELECT DISTINCT token AS t FROM trunkline.claim('flight')) q");
        is(cursor($id), $q, "$name: a claim passes the gap");
        prepare($id, $s);
    }
    # one that is in flight above holds nothing back
    my $p = insert($w2);
    $w1->do('BEGIN');
    my $q = insert($w1);
    is(take($id), $p, 'an event below one in flight');
    insert($w1);
    is(take($id), '', 'not that one');
    $w1->do('COMMIT');
    is(join(' ', take($id), take($id)), "$q " . ($q + 1), 'two of one transaction');
    leave('flight');
};

# Every order of two publishers and three looks, where a look is the statement, then a claim if that has nothing.
subtest 'all orders' => sub {
    my $id = feed('orders');
    prepare($id, $s);
    for my $ends (['COMMIT', 'COMMIT'], ['ROLLBACK', 'COMMIT']) {
        my (@bad, $count, $taken);
        for my $order (interleavings(2, 2, 3)) {
            my (@wrote, @saw);
            my $read = sub {
                my $p = take($id);
                $taken += $p ne '';
                if ($p ne '') { push @saw, $p; return }
                push @saw, split /\n/, $s->do("WITH c AS (SELECT * FROM trunkline.claim('orders')), a AS (SELECT trunkline.ack(t) FROM (SELECT DISTINCT token AS t FROM c) q) SELECT \"position\" FROM c WHERE (SELECT count(*) FROM a) >= 0 ORDER BY 1");
                prepare($id, $s);
            };
            my @steps = (
                [sub { $w1->do('BEGIN'); my $p = insert($w1); push @wrote, $p if $ends->[0] eq 'COMMIT' }, sub { $w1->do($ends->[0]) }],
                [sub { $w2->do('BEGIN'); push @wrote, insert($w2) }, sub { $w2->do($ends->[1]) }],
                [($read) x 3],
            );
            my @done = (0, 0, 0);
            $steps[$_][$done[$_]++]->() for @$order;
            $read->() for 1 .. 2;
            $count++;
            push @bad, "order @$order: wrote @wrote, saw @saw" if "@saw" ne join ' ', sort { $a <=> $b } @wrote;
        }
        is($count, 210, "@$ends: all orders");
        ok($taken > 100, 'by the statement, mostly');
        is(join("\n", @bad), '', 'every event once, in order');
    }
    leave('orders');
};

subtest 'beside others' => sub {
    my $id = feed('beside');
    prepare($id, $_) for $s, $w1;
    for my $end (qw(COMMIT ROLLBACK)) {
        for my $first ('the statement', 'a claim') {
            my $p = insert($main);
            $w1->do('BEGIN; ' . ($first eq 'a claim' ? "SELECT count(*) FROM trunkline.claim('beside')" : text($id, $p)));
            is($s->do(text($id, $p)), '', "$first, $end: who comes meanwhile does not wait");
            $w1->do($end);
            is(scalar(split /\|/, $s->do(text($id, $p)), -1), $end eq 'COMMIT' ? 0 : 12, "$first, $end: and has what is left");
            is($main->do("SELECT count(*) FROM trunkline.leases WHERE subscription_id = $id"), 1, 'one lease');
            $main->do('DELETE FROM trunkline.leases');
            $epoch{$id}++;
        }
    }
    my $p = insert($main);
    $w1->do("BEGIN; SELECT trunkline.reset('beside', 'beginning')");
    is(take($id), '', 'a reset under way: nothing');
    $w1->do('COMMIT');
    is(take($id, $p), '', 'and behind it');
    $main->do("SELECT trunkline.reset('beside', 'end')");
    prepare($id, $s);

    for my $change ("SELECT trunkline.set_slots('beside', 2)", "SELECT trunkline.pause('beside')") {
        $p = insert($main);
        $w1->do("BEGIN; $change");
        is(take($id), '', "$change: nothing is handed out beside it");
        $w1->do('COMMIT');
        is(take($id), '', 'nor later');
        $main->do($_) for "SELECT trunkline.resume('beside')", "SELECT trunkline.set_slots('beside', 1)";
        $main->do("SELECT count(trunkline.ack(t)) FROM (SELECT DISTINCT token AS t FROM trunkline.claim('beside')) q") for 1 .. 3;
        is(cursor($id), $p, 'as it was');
        prepare($id, $_) for $s, $w1;
    }
    $main->do("SELECT trunkline.pause('beside')");
    $p = insert($main);
    is(take($id), '', 'paused: nothing');
    $main->do("SELECT trunkline.resume('beside')");
    is(take($id), '', 'resumed, and not prepared for that');
    prepare($id, $s);
    is(take($id), $p, 'and prepared');

    $p = insert($main);
    $w1->do("BEGIN; SELECT trunkline.unsubscribe('beside', true)");
    is(take($id), '', 'beside its removal: nothing');
    $w1->do('COMMIT');
    is($s->do(text($id, $p)), '', 'nor behind it');
    is($main->do("SELECT count(*) FROM trunkline.leases WHERE subscription_id = $id"), 0, 'and no lease of nobody');

    # the lease has no foreign key, and goes with its cursor all the same
    for my $how ("SELECT trunkline.unsubscribe('gone', true)", "DELETE FROM trunkline.subscriptions WHERE name = 'gone'") {
        $id = feed('gone');
        prepare($id, $s);
        $p = insert($main);
        $s->do('BEGIN; ' . text($id, $p));
        $w1->start($how);
        $w1->wait_blocked;
        $s->do('COMMIT');
        $w1->finish;
        is($main->do("SELECT count(*) FROM trunkline.leases WHERE subscription_id = $id"), 0, "$how waits for a claim, and takes its lease away");
    }
};

# In place of the foreign key that a lease had.
subtest 'a lease goes with its cursor' => sub {
    my $claim = sub {
        my $id = feed('gone');
        insert($main);
        return $id, $main->do("SELECT token FROM trunkline.claim('gone')");
    };
    my ($id, $t) = $claim->();
    my $p = cursor($id);
    $main->do("SELECT trunkline.ack('$t', NULL, '[{\"position\": $p, \"retry_after_us\": 0}]')");
    $t = $main->do("SELECT token FROM trunkline.claim('gone')");
    $w1->do("BEGIN; SELECT FROM trunkline.leases WHERE token = '$t' FOR UPDATE"); # as an ack begins
    $w2->start("DELETE FROM trunkline.subscriptions WHERE subscription_id = $id");
    $w2->wait_blocked;
    is($w1->do("SELECT trunkline.ack('$t'); COMMIT"), 1, 'an ack of what is tried again, beside who deletes its subscription by hand');
    $w2->finish;
    is($w2->{error}, undef, 'who waits for the lease before the retry');

    $main->do("CREATE ROLE next_remover; GRANT USAGE ON SCHEMA trunkline TO next_remover; GRANT SELECT, DELETE ON trunkline.subscriptions TO next_remover");
    ($id) = $claim->();
    $w1->do("SET ROLE next_remover; DELETE FROM trunkline.subscriptions WHERE subscription_id = $id; RESET ROLE");
    is($main->do("SELECT count(*) FROM trunkline.leases WHERE subscription_id = $id"), 0, 'as with a foreign key, who may delete a subscription needs no right to leases');
    $main->do('DROP OWNED BY next_remover; DROP ROLE next_remover');

    for my $tables ('trunkline.subscriptions', 'trunkline.leases, trunkline.cursors') {
        $claim->();
        $main->do("TRUNCATE $tables CASCADE");
        is($main->do('SELECT count(*) FROM trunkline.leases'), 0, "TRUNCATE $tables");
        $main->do('DELETE FROM trunkline.subscriptions');
    }
};

# The statement has one snapshot, from before it locks the cursor. What was changed in between, under that lock, makes it find nothing. A
# policy on a table that it asks before holds it up between its snapshot and the lock.
subtest 'changed behind its snapshot' => sub {
    $main->do(q{CREATE FUNCTION hold() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN
        PERFORM pg_advisory_lock_shared(7, 7), pg_advisory_unlock_shared(7, 7);
        RETURN true;
    END $$;
    CREATE ROLE next_held;
    SELECT trunkline.grant_consume('next_held');
    ALTER TABLE trunkline.subscriptions ENABLE ROW LEVEL SECURITY;
    CREATE POLICY hold ON trunkline.subscriptions USING (hold())});
    $s->do('SET ROLE next_held');
    # until it is another event than the fresh one: whose turn it is is drawn
    my $claim_other = sub {
        for (1 .. 1000) {
            $w1->do('SAVEPOINT turn');
            my $got = $w1->do("SELECT \"position\" FROM trunkline.claim('held', max_events => 1)");
            return $got if $got ne '' && $got !~ /^$_[0]$/m;
            $w1->do('ROLLBACK TO turn');
        }
        return '';
    };
    for my $case (
        ['nothing at all', '', 1],
        ['pause()', "SELECT trunkline.pause('held')"],
        ['drain()', "SELECT trunkline.drain('held')"],
        ['set_slots()', "SELECT trunkline.set_slots('held', 2)"],
        ['replay()', "SELECT trunkline.replay('held', 'beginning', dry_run => false)"],
        ['redrive() and a claim of that', "SELECT trunkline.redrive(pattern => '**', dry_run => false)", 0, 1],
        ['replay() and a claim of that', "SELECT trunkline.replay('held', 'beginning', dry_run => false)", 0, 1],
    ) {
        my ($name, $change, $is_taken, $claims) = @$case;
        my $id = feed('held', "pattern => '**', max_attempts => 1");
        my $settle = "SELECT count(trunkline.ack(t)) FROM (SELECT DISTINCT token AS t FROM trunkline.claim('held')) q";
        insert($main), $main->do($settle) for 1 .. 3;
        if ($name =~ /redrive/) {
            my $p = insert($main);
            my $t = $main->do("SELECT token FROM trunkline.claim('held') LIMIT 1");
            $main->do("SELECT trunkline.ack('$t', NULL, '[{\"position\": $p}]')");
        }
        prepare($id, $s);
        my $p = insert($main);
        $w1->do('SELECT pg_advisory_lock(7, 7)');
        $s->start(text($id, $p));
        $s->wait_blocked;
        $w1->do("BEGIN; $change");
        isnt($claim_other->($p), '', "$name: it is claimed") if $claims;
        $w1->do('COMMIT; SELECT pg_advisory_unlock(7, 7)');
        is((split /\|/, $s->finish)[0] // '', $is_taken ? $p : '', $name);
        is($main->do("SELECT count(*) FROM trunkline.leases WHERE subscription_id = $id"), $is_taken || $claims ? 1 : 0, "$name: leases");
        leave('held');
    }
    $s->do('RESET ROLE');
    $main->do('DROP POLICY hold ON trunkline.subscriptions; ALTER TABLE trunkline.subscriptions DISABLE ROW LEVEL SECURITY; DROP OWNED BY next_held; DROP ROLE next_held');
};

subtest 'plan and leaves' => sub {
    $main->do("SELECT trunkline.create_topic('leaves')");
    my $id = feed('leaves', "pattern => '**', topic => 'leaves'");
    prepare($id, $s);
    for (1 .. 6) { insert($main, 'leaves'); take($id) }
    my $plan = $s->do('EXPLAIN (COSTS off) ' . text($id, 1));
    like($plan, qr/"?position"? = \$1/, 'one plan for all positions');
    unlike($plan, qr/Seq Scan|leaf_leaves_1/, 'which looks at one leaf, by its index');
    my $first = 1 << 30;
    $main->do("SELECT setval('trunkline.position_leaves', $first)");
    my $p = insert($main, 'leaves');
    is(take($id, $p), '', 'behind a rotation: nothing');
    $s->do("SELECT count(trunkline.ack(t)) FROM (SELECT DISTINCT token AS t FROM trunkline.claim('leaves')) q");
    is(cursor($id), $p, 'a claim goes there');
    $p = insert($main, 'leaves');
    is(take($id), '', 'the statement is for another leaf');
    is(prepare($id, $s), ($first - 1) . ' ' . (2 * $first - 1), 'prepared again');
    is(take($id), $p, 'and there');
    leave('leaves');
};

subtest 'rights' => sub {
    $main->do("CREATE ROLE next_reader; SELECT trunkline.grant_consume('next_reader')");
    my $id = feed('rights');
    $s->do('SET ROLE next_reader');
    isnt(prepare($id, $s), '', 'a consumer may prepare it');
    my $p = insert($main);
    is(take($id), $p, 'and claim');
    $s->do('RESET ROLE');
    leave('rights');
    $main->do('DROP OWNED BY next_reader; DROP ROLE next_reader');
};

done_testing();
