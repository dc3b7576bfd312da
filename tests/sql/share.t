#!/usr/bin/perl
# WRK-3: subscriptions of one topic at one place are claimed by one read of the log.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($s, $other, $main) = map { session() } 1 .. 3;

sub topic { $main->do("SELECT trunkline.create_topic('$_[0]')"); return $_[0] }
sub subscribed { my ($name, $topic, $options) = @_; return $main->do("SELECT trunkline.subscribe('$name', " . ($options =~ /^'/ ? $options : "'**'" . ($options && ", $options")) . ", topic => '$topic')") }
sub more { $main->do("INSERT INTO trunkline.topic_$_[0] (type, tenant_id, key, data) SELECT (ARRAY['a.b', 'a.b.c', 'a', 'b.c', 'b.c.d'])[1 + i % 5], CASE i % 3 WHEN 0 THEN 'x' WHEN 1 THEN 'y' END, 'k' || i % 4, jsonb_build_object('n', i) FROM generate_series(1, $_[1]) i") }

# One claim for all: {subscription => positions}, the tokens, and how often the log was read.
sub claim {
    my ($ids, $room, $session) = @_;
    my @rows = map { [split /\|/] } split /\n/, ($session // $s)->do("SELECT subscription_id, token, attempt, \"position\", id IS NOT NULL, members
        FROM trunkline.claim_many('{" . join(',', @$ids) . "}', array_fill(" . ($room // 100) . ", ARRAY[" . @$ids . "]), shared => true) WHERE subscription_id <> 0");
    my (%got, %token, %seen, @events, @problems);
    for (@rows) {
        my ($id, $token, $attempt, $position, $is_event, $members) = @$_;
        if ($id == -1) {
            @events = () if $seen{is_in_members};
            $seen{is_in_members} = 0;
            push @problems, "a token for event $position" if $token ne '';
            push @events, [$position, $members, $attempt];
        } elsif ($token eq '') {
            $seen{look_on}{$id} = $position;
        } elsif ($is_event eq 'f') {
            $seen{is_in_members} = 1;
            $seen{shared}++;
            push @problems, "two rows for $id" if $token{$id};
            $token{$id} = $token;
            $got{$id} = join ' ', map { $_->[2] ? $_->[0] : "$_->[0]!" } grep { (0 + $_->[1]) & (0 + $members) } @events;
            $seen{upto}{$id} = $position;
        } else {
            $token{$id} = $token;
            $got{$id} = join ' ', grep { length } $got{$id} // '', $attempt ? $position : "$position!";
        }
    }
    is("@problems", '', 'rows are well formed') if @problems;
    return (\%got, \%token, \%seen);
}

sub ack { return $s->do("SELECT trunkline.ack('$_[0]')") }

my @kinds = ('', "'a.b'", "'a.**'", "'*.c'", "'**', tenant_id => 'x'", "'**', filter => '{\"n\": 7}'", "'b.**', filter_path => '\$.n > 10'",
    "'a.b', tenant_id => 'y'", "'nothing.at.all'", "'a.b'", "'**', ordering => 'none'", "'**', ordering => 'total'", "'a', tenant_id => 'x', filter => '{\"n\": 27}'");

subtest 'each gets what it would have got alone' => sub {
    my $t = topic('kinds');
    my @ids = map { subscribed("kinds$_", $t, $kinds[$_]) } 0 .. $#kinds;
    more($t, 100);
    my ($got, $token, $seen) = claim(\@ids, 30);
    is($seen->{shared}, 12, 'all at once, but for those that want nothing of it');
    for my $i (0 .. $#kinds) {
        my ($pattern, $tenant, $filter, $path) = split /\|/, $main->do("SELECT pattern, coalesce(tenant_id, ''), coalesce(filter, '{}'), coalesce(filter_path::text, '1 == 1') FROM trunkline.subscriptions WHERE subscription_id = $ids[$i]");
        my $expected = $main->do("SELECT coalesce(string_agg(\"position\"::text, ' ' ORDER BY \"position\"), '') FROM trunkline.topic_$t WHERE \"position\" <= 30
            AND trunkline.matches(type, '$pattern') AND ('$tenant' = '' OR tenant_id = '$tenant') AND data @> '$filter' AND data @@ '$path'");
        is($got->{$ids[$i]} // '', $expected, "$i: $pattern $tenant $filter $path");
        is($main->do("SELECT coalesce(max(events), 0) FROM trunkline.leases WHERE subscription_id = $ids[$i]"), scalar(my @n = split / /, $expected), 'and its lease says how many');
    }
    is($main->do("SELECT DISTINCT cursor FROM trunkline.cursors WHERE subscription_id IN (" . join(',', @ids) . ')'), 30, 'every cursor is behind the thirty rows');
    is(join(' ', map { $main->do("SELECT epoch FROM trunkline.cursors WHERE subscription_id = $ids[$_]") } 0, 8), '1 0', 'those that got something count a lease');
    is(join(' ', sort keys %{$seen->{look_on} // {}}), '', 'who has rows beside it knows that there is more');
    ack($_) for values %$token;
};

subtest 'one read of the log for all' => sub {
    my $t = topic('reads');
    my @ids = map { subscribed("reads$_", $t, $kinds[$_ % 8]) } 1 .. 20;
    more($t, 1000);
    my $read = "SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0) FROM pg_stat_user_tables WHERE relname LIKE 'leaf_reads%'";
    my $reader = session();
    my ($got) = claim(\@ids, 1000, $reader);
    is(scalar(keys %$got), 20, 'all have something');
    $reader->close;
    wait_until(sub { $main->do($read) >= 1000 });
    cmp_ok($main->do($read), '<', 1100, 'a thousand rows were read');
};

subtest 'who has more to it than a range is claimed alone' => sub {
    my $t = topic('alone');
    my %id = map { $_ => subscribed("alone_$_", $t, '') } qw(a b lease lost retry due key replay elsewhere paused);
    $id{$_->[0]} = subscribed("alone_$_->[0]", $t, $_->[1]) for ['slots', "'**', slots => 2"], ['flight', "'**', max_in_flight => 3"], ['rate', "'**', rate_limit => 2"], ['track', "'**', track => 'all'"], ['sql', "'**', mode => 'async'"];
    more($t, 4);
    my $l = sub { return "INSERT INTO trunkline.leases (token, subscription_id, slot, after, upto, events, retries, attempt, epoch, owner, held, solo, until) VALUES (gen_random_uuid(), $_[0], 0, 0, 0, 1, 0, 1, 1, 'x', $_[1], false, now() + interval '1 h')" };
    $main->do($l->($id{lease}, 'true'));
    $main->do($l->($id{lost}, 'false'));
    my $r = sub { return "INSERT INTO trunkline.retries (subscription_id, \"position\", slot, attempt, next_attempt_at, error_message, errors, key) VALUES ($_[0], $_[1], 0, 1, $_[2], '', '[]', $_[3])" };
    $main->do($r->($id{retry}, 2, "'infinity'", 'NULL'));
    $main->do($r->($id{due}, 0, 'now()', 'NULL'));
    $main->do($r->($id{key}, 0, "'infinity'", "'k1'"));
    $main->do("INSERT INTO trunkline.replays (replay_id, subscription_id, slot, cursor, upto) VALUES (1, $id{replay}, 0, 0, 1)");
    $main->do("UPDATE trunkline.cursors SET cursor = 1 WHERE subscription_id = $id{elsewhere}; SELECT trunkline.pause('alone_paused')");
    my ($got, $token, $seen) = claim([sort { $a <=> $b } values %id], 10);
    is($seen->{shared}, 3, 'three go together');
    is($got->{$id{$_}}, '1 2 3 4', "$_ has all") for qw(a b sql);
    is($got->{$id{lease}}, undef, 'a lease is out: nothing');
    is($got->{$id{retry}}, '1 3 4', 'one waits for another attempt: it is left out');
    is($got->{$id{key}}, '2 3 4', 'a key is blocked');
    is($got->{$id{elsewhere}}, '2 3 4', 'at another place');
    is($got->{$id{paused}}, undef, 'paused');
    is($got->{$id{flight}}, '1 2 3', 'no more than may be in flight');
    is($got->{$id{rate}}, '1 2', 'no more than its rate');
    is($main->do("SELECT count(*) FROM trunkline.deliveries WHERE subscription_id = $id{track}"), 4, 'tracked');
    is($main->do("SELECT count(*) FROM trunkline.leases WHERE subscription_id = $id{replay}"), 1, 'a replay has its turn');
};

subtest 'a claim that looks, and locks after others' => sub {
    my $t = topic('races');
    my @ids = map { subscribed("races$_", $t, '') } 1 .. 4;
    more($t, 5);
    $other->do("BEGIN; SELECT * FROM trunkline.claim('races1')");
    my ($got, $token, $seen) = claim(\@ids, 10);
    is($seen->{shared}, 3, 'one that is being claimed is left out, and nobody waits');
    is($got->{$ids[0]}, undef, 'it has nothing here');
    $other->do('ROLLBACK');
    ack($_) for values %$token;
    $main->do("UPDATE trunkline.cursors SET cursor = 0 WHERE subscription_id IN (" . join(',', @ids) . ')');
    # cursors that moved between the look and the lock
    my $q = $main->do("SELECT (trunkline.shared_claim('$t', '{" . join(',', @ids) . "}', 1)).ids IS NULL");
    is($q, 't', 'none of them is at the place: none is claimed');
    $main->do("UPDATE trunkline.cursors SET cursor = 1 WHERE subscription_id = $ids[2]");
    is($main->do("SELECT (trunkline.shared_claim('$t', '{" . join(',', @ids) . "}', 0)).ids"), "{$ids[0],$ids[1],$ids[3]}", 'one that has moved meanwhile is left out');
};

subtest 'what has expired, and what nobody wants' => sub {
    my $t = topic('edge');
    my @ids = (subscribed('edge1', $t, "'a'"), subscribed('edge2', $t, "'a'"));
    $main->do("SELECT trunkline.publish('other', '1', '$t') FROM generate_series(1, 25)");
    my ($got, $token, $seen) = claim(\@ids, 10);
    is_deeply($seen->{look_on}, {map { $_ => 10 } @ids}, 'nothing in the first ten rows: look on');
    is($main->do("SELECT count(*) FROM trunkline.leases WHERE subscription_id IN ($ids[0], $ids[1])"), 0, 'no lease');
    claim(\@ids, 10);
    (undef, undef, $seen) = claim(\@ids, 10);
    is_deeply($seen->{look_on}, undef, 'at the end: no more to look at');
    is($main->do("SELECT DISTINCT cursor FROM trunkline.cursors WHERE subscription_id IN ($ids[0], $ids[1])"), 25, 'passed over');
    $main->do("SELECT trunkline.publish('a', '1', '$t'), trunkline.publish('a', '1', '$t', expires_at => clock_timestamp() - interval '1 s')");
    ($got, $token) = claim(\@ids, 10);
    is($got->{$_}, '26 27!', 'attempt 0 says expired') for @ids;
    is(ack($token->{$ids[0]}), 2, 'settled as any other lease');
    $main->do("UPDATE trunkline.leases SET until = now() WHERE token = '$token->{$ids[1]}'");
    ($got) = claim(\@ids, 10);
    is($got->{$ids[1]}, '26', 'taken over as any other');
};

subtest 'more than a mask has bits' => sub {
    my $t = topic('many');
    my @ids = map { subscribed("many$_", $t, $_ % 2 ? "'a.b'" : '') } 1 .. 70;
    more($t, 10);
    my ($got, $token, $seen) = claim(\@ids, 10);
    is($seen->{shared}, 70, 'all of them');
    is((grep { $got->{$ids[$_]} ne ($_ % 2 ? '1 2 3 4 5 6 7 8 9 10' : '5 10') } 0 .. 69) + 0, 0, 'each what it wants');
};

subtest 'without asking nothing is shared' => sub {
    my $t = topic('plain');
    my @ids = map { subscribed("plain$_", $t, '') } 1 .. 2;
    more($t, 3);
    is($s->do("SELECT count(*) FROM trunkline.claim_many('{$ids[0],$ids[1]}', '{5,5}') WHERE subscription_id = -1"), 0, 'no shared rows');
};

subtest 'workers with different sets do not wait for each other in a circle' => sub {
    topic('circle_1');
    topic('circle_2');
    my ($first, $last) = map { subscribed("circle_$_", 'circle_1', "ordering => 'none'") } 'a', 'c';
    my $between = subscribed('circle_b', 'circle_2', "ordering => 'none'");
    more($_, 3) for 'circle_1', 'circle_2';
    my $third = session();
    $main->do("BEGIN; SELECT FROM trunkline.cursors WHERE subscription_id = $between FOR UPDATE");
    my $rows = 'SELECT subscription_id, count(id), bool_or(token IS NOT NULL) FROM trunkline.claim_many';
    $other->start("$rows('{$between,$last}', '{9,9}') GROUP BY 1 ORDER BY 1");
    $other->wait_blocked;
    # has the cursors of its group, which the other wants next, and does not wait for the one in between
    is($third->do("$rows('{$first,$between,$last}', '{9,9,9}', shared => true) GROUP BY 1 ORDER BY 1"),
        "-1|3|f\n0|0|f\n$first|0|t\n$last|0|t\n$between|0|f", 'one that would have to wait: claim again');
    $main->do('COMMIT');
    is($other->finish, "0|0|f\n$between|3|t", 'the one that waited');
};

done_testing;
