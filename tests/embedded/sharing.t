#!/usr/bin/env perl
# CFG-5: several processes share one private PostgreSQL: one starts it, the last one stops it, and a
# kill of any of them never takes the server from under another.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use EmbeddedTest;
use List::Util qw(uniq);
use Test::More;

my $seed = $ENV{TRUNKLINE_TEST_SEED} // 20240229;

sub together {
    my ($who, $id, $dir, $count, $what) = @_;
    my @holders = map { hold($id, $dir) } 1 .. $count;
    my $ready = grep { $_->ready || diag explain [@$_{qw(message detail)}] } @holders;
    is $ready, $count, "$who: $count at once: all are attached, $what";
    is scalar(grep { ($_->{how} // '') eq 'started' } @holders), 1, "$who: $count at once: one started it";
    is scalar(uniq map { $_->{server} // 0 } @holders), 1, "$who: $count at once: one server";
    return @holders;
}

sub leave_one_by_one {
    my ($who, @holders) = @_;
    my $server = $holders[0]{server};
    my $closed = 0;
    while (@holders > 1) {
        $closed += (shift @holders)->leave;
        $closed -= !$holders[-1]->works;
    }
    ok $closed > 0 && is_alive($server), "$who: it runs while one is attached";
    $holders[0]->leave;
    ok !is_alive($server), "$who: the last one stops it";
}

for my $id (identities()) {
    my $who = "CFG-5 $id->{name}";
    my $dir;
    for my $count (2, 8) {
        $dir = new_path($id);
        leave_one_by_one($who, together($who, $id, $dir, $count, 'first start'));
        leave_one_by_one($who, together($who, $id, $dir, $count, 'second start'));
    }

    # Killed while others are attached; and while others wait for the start it had begun.
    my @holders = together($who, $id, $dir, 3, 'for kills');
    my ($starter) = grep { $_->{how} eq 'started' } @holders;
    $starter->kill9;
    @holders = grep { $_ != $starter } @holders;
    my $late = hold($id, $dir);
    ok $late->ready && $late->{server} == $starter->{server}, "$who: attached after the starter was killed";
    ok $holders[0]->leave, "$who: one leaves";
    $late->kill9;
    ok $holders[1]->works, "$who: the server is there for the one that stays";

    my ($text, $code) = run_as($id, {TRUNKLINE_DATA_DIR => $dir}, "$ENV{TRUNKLINE_TEST_DIR}/embedded_hold", 'stop');
    like $text, qr/^failed @{[E_CONFLICT]}\nmessage: private PostgreSQL is in use/, "$who: stop refuses while it is in use";
    ok $holders[1]->works, "$who: and changes nothing";
    $holders[1]->kill9;
    ok is_alive($starter->{server}), "$who: all killed: the server runs on";
    ($text, $code) = run_as($id, {TRUNKLINE_DATA_DIR => $dir}, "$ENV{TRUNKLINE_TEST_DIR}/embedded_hold", 'stop');
    like $text, qr/^stopped$/m, "$who: stop ends a server without users";
    ok !is_alive($starter->{server}), "$who: it is gone";
    ($text, $code) = run_as($id, {TRUNKLINE_DATA_DIR => $dir}, "$ENV{TRUNKLINE_TEST_DIR}/embedded_hold", 'stop');
    is $text, "nothing\n", "$who: stop again finds nothing";

    my $fresh = new_path($id);
    my $first = hold($id, $fresh);
    ok wait_until(sub { -e "$fresh/data.tmp" || -e "$fresh/data" }), "$who: one initialises";
    my @waiting = map { hold($id, $fresh) } 1 .. 3;
    $first->kill9;
    is scalar(grep { $_->ready } @waiting), 3, "$who: it is killed, and those that waited carry on";
    is scalar(uniq map { $_->{server} } @waiting), 1, "$who: with one server";
    leave_one_by_one($who, @waiting);

    # At random, several at once: whoever is attached has a working server, whatever happens to the
    # others. The killed include those that are just starting it, stopping it or waiting.
    srand $seed;
    my (@attached, %done);
    my ($broken, $refused) = (0, 0);
    for my $step (1 .. 60) {
        my (@leaving, @new);
        for my $holder (splice @attached) {
            my $dice = int rand 10;
            if ($dice < 4) {
                push @leaving, $holder->say_word('close');
                $done{close}++;
            } elsif ($dice < 5) {
                $holder->kill9;
                $done{kill}++;
            } elsif ($dice < 6) {
                $holder->say_word('close')->kill9;
                $done{'kill in close'}++;
            } else {
                push @attached, $holder;
            }
        }
        push @new, hold($id, $dir) for 1 .. int rand 4;
        $done{open} += @new;
        if (@new > 1) { # at whatever point it is
            (pop @new)->kill9;
            $done{'kill in open'}++;
        }
        for my $holder (@new) {
            if ($holder->ready) {
                push @attached, $holder;
            } else {
                $refused++;
                diag explain [@$holder{qw(message detail)}];
            }
        }
        for my $holder (@leaving) {
            $refused += ($holder->line // 'end') ne 'closed';
            $holder->end;
        }
        $broken += grep { !$_->works } @attached;
        if ($broken || $refused) {
            diag "seed $seed, step $step";
            last;
        }
    }
    note join ', ', map { "$_: $done{$_}" } sort keys %done;
    is $broken, 0, "$who: 60 random steps: every attached process had a working server";
    is $refused, 0, "$who: and every start and close succeeded";
    $_->leave for @attached;
    my $last = hold($id, $dir);
    ok $last->ready && $last->leave && !is_alive($last->{server}), "$who: in the end the last one stops it";
}
done_testing;
