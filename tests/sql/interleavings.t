#!/usr/bin/perl
# LOG-3, WAK-1: every order of the steps of two publishers and a reader, not only those one thinks of.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($w1, $w2, $reader) = map { session() } 1 .. 3;
my $publish = "SELECT \"position\" FROM trunkline.publish('a', '1')";

sub run {
    my ($name, $expected, $once) = @_;
    my ($count, @bad);
    for my $order (interleavings(3, 3, 2)) {
        $count++;
        my $problem = $once->(@$order);
        push @bad, "order @$order: $problem" if $problem;
    }
    is($count, $expected, "$name: all orders");
    is(join("\n", @bad[0 .. ($#bad < 4 ? $#bad : 4)]), '', "$name: " . @bad . ' of them wrong');
    return;
}

# Writers that commit, roll back, undo a part; the reader goes on from where it is.
my $last = 0;
for my $case (
    ['both commit', 'COMMIT', 'COMMIT'],
    ['the first rolls back', 'ROLLBACK', 'COMMIT'],
) {
    my ($name, @ends) = @$case;
    run("horizon, $name", 560, sub {
        my (%wrote, @saw);
        my $read = sub { push @saw, split /\n/, $reader->do("SELECT \"position\" FROM trunkline.read('bus', " . ($saw[-1] // $last) . ')') };
        my @steps = (
            [sub { $w1->do('BEGIN'); $wrote{$w1->do($publish)} = $ends[0] }, sub { $wrote{$w1->do($publish)} = $ends[0] },
                sub { $w1->do($ends[0]) }],
            [sub { $w2->do('BEGIN; SAVEPOINT s'); $w2->do($publish) },
                sub { $w2->do('ROLLBACK TO s'); $wrote{$w2->do($publish)} = $ends[1] }, sub { $w2->do($ends[1]) }],
            [($read) x 2],
        );
        my @done = (0, 0, 0);
        $steps[$_][$done[$_]++]->() for @_;
        $read->();
        $last = $saw[-1];
        my $expected = join ' ', sort { $a <=> $b } grep { $wrote{$_} eq 'COMMIT' } keys %wrote;
        return "@saw" eq $expected ? '' : "committed $expected, saw @saw";
    });
}

# A sentinel that falls asleep meanwhile. Asleep, it reads only when it is notified.
$reader->do('LISTEN trunkline');
for my $case (
    ['both commit', 'COMMIT', 'COMMIT'],
    ['the first rolls back', 'ROLLBACK', 'COMMIT'],
) {
    my ($name, @ends) = @$case;
    run("doorbell, $name", 560, sub {
        my (%wrote, @saw, $is_armed, $is_asleep);
        my $read = sub { push @saw, split /\n/, $reader->do("SELECT \"position\" FROM trunkline.read('bus', " . ($saw[-1] // $last) . ')') };
        my @steps = (
            [sub { $w1->do('BEGIN'); $wrote{$w1->do($publish)} = $ends[0] }, sub { $wrote{$w1->do($publish)} = $ends[0] },
                sub { $w1->do($ends[0]) }],
            [sub { $w2->do('BEGIN; SAVEPOINT s'); $w2->do($publish) },
                sub { $w2->do('ROLLBACK TO s'); $wrote{$w2->do($publish)} = $ends[1] }, sub { $w2->do($ends[1]) }],
            [sub { $is_armed = $reader->do('SELECT trunkline.bell_arm()') eq 't' },
                sub { my $before = @saw; $read->(); $is_asleep = $is_armed && @saw == $before }],
        );
        my @done = (0, 0, 0);
        $steps[$_][$done[$_]++]->() for @_;
        my $is_rung = $reader->notifications;
        # what it would do: awake it reads anyway
        $read->() if !$is_asleep || $is_rung;
        my $seen_by_itself = "@saw";
        $reader->do('SELECT trunkline.bell_disarm()') if $is_armed;
        $read->();
        $last = $saw[-1];
        my $expected = join ' ', sort { $a <=> $b } grep { $wrote{$_} eq 'COMMIT' } keys %wrote;
        return "committed $expected, saw @saw" if "@saw" ne $expected;
        return $seen_by_itself eq $expected ? '' : "asleep, not woken: committed $expected, saw $seen_by_itself";
    });
}

done_testing;
