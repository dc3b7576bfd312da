#!/usr/bin/perl
# SUB-3, SUB-4: random claims, acks in parts, failures, releases, crashes and late owners against a model:
# every event is handed out, in order, never twice at once, and ends exactly once, as done or as dead.
# The seed is printed; TRUNKLINE_SEED repeats the run.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

use constant {STEPS => 700, MAX_ATTEMPTS => 4};

my $seed = $ENV{TRUNKLINE_SEED} // int rand 1_000_000;
diag("seed $seed");
srand $seed;
my $s = session();

sub any { return $_[rand @_] }

sub run {
    my ($ordering) = @_;
    my $t = "deliver_$ordering";
    $s->do("SELECT trunkline.create_topic('$t'); SELECT trunkline.subscribe('$t', 'wanted.*', '$t', ordering => '$ordering', max_attempts => " . MAX_ATTEMPTS . ", retry_delay => '1 h', retry_cap => '1 h')");
    my (%event, %lease, @stale, @problems);
    my ($last_first, $steps) = (0, 0);

    # event: 'new', token of the lease that holds it, 'loose' (in a lost or released lease), 'waiting', 'done', 'dead'
    my $complain = sub { push @problems, "step $steps: @_" };
    my $publish = sub {
        my $n = 1 + int rand 8;
        for my $row (split /\n/, $s->do("INSERT INTO trunkline.topic_$t (type, data) SELECT CASE WHEN random() < 0.7 THEN 'wanted.' ELSE 'other.' END || i, '1' FROM generate_series(1, $n) i RETURNING \"position\", type")) {
            my ($position, $type) = split /\|/, $row;
            $event{$position} = 'new' if $type =~ /^wanted/;
        }
    };
    my $claim = sub {
        my @rows = map { [split /\|/] } split /\n/, $s->do("SELECT token, \"position\", attempt FROM trunkline.claim('$t', max_events => " . any(1, 2, 3, 5, 20) . ')');
        return if !@rows;
        my $token = $rows[0][0];
        my $before = 0;
        $complain->('two leases in flight') if $ordering ne 'none' && grep { !$_->{is_expired} } values %lease;
        for my $row (@rows) {
            my ($of, $position, $attempt) = @$row;
            my $state = $event{$position} // 'unwanted';
            $complain->("two tokens in one claim") if $of ne $token;
            $complain->("not ascending: $position after $before") if $position <= $before;
            $before = $position;
            my $holder = $lease{$state};
            $complain->("$position is $state") if !($state =~ /^(new|loose|waiting)$/ || $holder && $holder->{is_expired});
            if ($state eq 'new') {
                $complain->("fresh $position after $last_first") if $position < $last_first;
                $complain->("fresh $position has attempt $attempt") if $attempt != 1;
                $last_first = $position;
            }
            # the rest of a lease that was lost is loose from now on
            if ($holder) {
                $event{$_} = 'loose' for grep { ($event{$_} // '') eq $state } keys %event;
                push @stale, $state;
                delete $lease{$state};
            }
            $event{$position} = $token;
        }
        $lease{$token} = {attempt => {map { $_->[1] => $_->[2] } @rows}};
    };
    my $ack = sub {
        my ($token) = @_;
        my @held = sort { $a <=> $b } grep { $event{$_} eq $token } keys %event;
        my $upto = rand() < 0.6 ? undef : any(@held, $held[0] - 1, $held[-1] + 1);
        my @settled = grep { !defined $upto || $_ <= $upto } @held;
        my (@failures, %fate);
        for my $position (@settled) {
            $fate{$position} = 'done';
            next if rand() < 0.7;
            my $verdict = any('retry', 'retry', 'fail', 'skip');
            push @failures, "{\"position\": $position, \"error\": \"e\", \"verdict\": \"$verdict\"}";
            $fate{$position} = 'dead' if $verdict eq 'fail' || $verdict eq 'retry' && $lease{$token}{attempt}{$position} >= MAX_ATTEMPTS;
            $fate{$position} = 'waiting' if $verdict eq 'retry' && $fate{$position} eq 'done';
        }
        my $is_undone = rand() < 0.1;
        my $count = $s->do(($is_undone ? 'BEGIN; ' : '') . "SELECT trunkline.ack('$token', " . ($upto // 'NULL') . (@failures ? ", '[" . join(',', @failures) . "]'" : '') . ')' . ($is_undone ? '; ROLLBACK' : ''));
        $complain->("settled $count, not " . @settled) if $count != @settled;
        return if $is_undone;
        @event{keys %fate} = values %fate;
        return if @settled < @held;
        delete $lease{$token};
        push @stale, $token;
    };
    my $release = sub {
        my ($token) = @_;
        my @held = grep { $event{$_} eq $token } keys %event;
        my $count = $s->do("SELECT trunkline.release('$token')");
        $complain->("released $count, not " . @held) if $count != @held;
        $event{$_} = 'loose' for @held;
        delete $lease{$token};
        push @stale, $token;
    };
    my $expire = sub {
        my ($token) = @_;
        $s->do("UPDATE trunkline.leases SET until = now() - interval '1 s' WHERE token = '$token'");
        $lease{$token}{is_expired} = 1;
    };
    my $late = sub {
        my ($token) = @_;
        my $state = $s->error("SELECT trunkline." . any("ack('$token')", "release('$token')", "extend('$token')"))->{state};
        $complain->("a stale token gave $state") if $state ne 'TL004';
    };
    # what crashed alone at its last attempt is dead
    my $look_at_dead = sub {
        for my $position (split /\n/, $s->do("SELECT \"position\" FROM trunkline.dead_letters WHERE subscription = '$t'")) {
            next if $event{$position} eq 'dead';
            my $holder = $lease{$event{$position}};
            $complain->("$position died as $event{$position}") if !$holder || !$holder->{is_expired} || keys %{$holder->{attempt}} != 1 || $holder->{attempt}{$position} < MAX_ATTEMPTS;
            delete $lease{$event{$position}};
            $event{$position} = 'dead';
        }
    };
    # a claim clears away every lease that was lost, though it hands out the events of one only
    my $look_at_lost = sub {
        for my $token (grep { $lease{$_}{is_expired} } keys %lease) {
            next if $s->do("SELECT count(*) FROM trunkline.leases WHERE token = '$token' AND held");
            $event{$_} = 'loose' for grep { $event{$_} eq $token } keys %event;
            push @stale, $token;
            delete $lease{$token};
        }
    };
    my $step = sub {
        my ($is_wild) = @_;
        my @tokens = sort keys %lease;
        my $what = $is_wild ? rand() : 1;
        if ($what < 0.12) { $publish->() }
        elsif ($what < 0.2) { $s->do('UPDATE trunkline.retries SET next_attempt_at = now() WHERE token IS NULL') }
        elsif ($what < 0.25 && @stale) { $late->(any(@stale)) }
        elsif ($what < 0.35 && @tokens) { $expire->(any(@tokens)) }
        elsif ($what < 0.42 && @tokens) { $release->(any(@tokens)) }
        elsif (@tokens && (!$is_wild || rand() < 0.5)) { $ack->($tokens[0]) }
        else { $claim->(); $look_at_dead->(); $look_at_lost->() }
        $steps++;
    };
    $step->(1) for 1 .. STEPS;
    # to the end: settle what is out, claim until nothing comes
    for my $round (1 .. 2000) {
        $ack->($_) for sort keys %lease;
        $s->do('UPDATE trunkline.retries SET next_attempt_at = now() WHERE token IS NULL');
        $claim->();
        $look_at_dead->();
        $look_at_lost->();
        last if !%lease && !grep { !/^(done|dead)$/ } values %event;
    }
    is(join("\n", @problems[0 .. ($#problems < 5 ? $#problems : 5)]), '', "$ordering: all as the model says");
    my @open = grep { $event{$_} !~ /^(done|dead)$/ } sort keys %event;
    is("@open", '', "$ordering: every event ended");
    is($s->do("SELECT coalesce(string_agg(\"position\"::text, ' ' ORDER BY \"position\"), '') FROM trunkline.dead_letters WHERE subscription = '$t'"),
        join(' ', sort { $a <=> $b } grep { $event{$_} eq 'dead' } keys %event), "$ordering: the dead are those that failed or crashed too often");
    is($s->do("SELECT leased, retrying, behind FROM trunkline.subscription_status WHERE name = '$t'"), '0|0|0', "$ordering: nothing is left over");
    my %count;
    $count{$_}++ for values %event;
    diag("$ordering: " . join ', ', map { "$count{$_} $_" } sort keys %count);
    return;
}

run($_) for qw(key none total);
done_testing;
