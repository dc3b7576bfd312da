#!/usr/bin/perl
# IDM-3: once(): exactly one of several callers is told to go on, and that commits with its effect.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($a, $b, $watch) = map { session() } 1 .. 3;
my $count = 0;
sub event { return sprintf '00000000-0000-4000-8000-%012d', ++$count }

my $id = event();
returns($a, "SELECT trunkline.once('s', '$id')", 't', 'IDM-3 the first call is true');
returns($a, "SELECT trunkline.once('s', '$id')", 'f', 'the second false');
returns($b, "SELECT trunkline.once('other', '$id')", 't', 'of another subscription true');
returns($b, "SELECT trunkline.once('s', '" . event() . "')", 't', 'of another event true');

for my $end (['COMMIT', 'f', 'committed: the one who waited gets false'], ['ROLLBACK', 't', 'rolled back: the one who waited gets true']) {
    my $event = event();
    $a->do('BEGIN');
    is($a->do("SELECT trunkline.once('s', '$event')"), 't', 'in a transaction');
    $b->start("SELECT trunkline.once('s', '$event')");
    $b->wait_blocked;
    $a->do($end->[0]);
    is($b->finish, $end->[1], "IDM-3 $end->[2]");
    is($watch->do("SELECT count(*) FROM trunkline.inbox WHERE event_id = '$event'"), 1, 'remembered once');
}

# Every order of two transactions of three steps each: exactly one does the work, whatever happens.
$watch->do('CREATE TABLE public.effects (event uuid, who text)');
my ($orders, @bad);
for my $first_ends (qw(COMMIT ROLLBACK)) {
    for my $order (interleavings(3, 3)) {
        $orders++;
        my $event = event();
        my (%said, %waits, %left);
        my %end = ($a => $first_ends, $b => 'COMMIT');
        my $effect = sub { my ($who) = @_; $who->do("INSERT INTO public.effects VALUES ('$event', '$who->{pid}')") if ($said{$who} // '') eq 't' };
        my $collect = sub { # the one that waited may go on
            for my $who (grep { delete $waits{$_} } $a, $b) {
                $said{$who} = $who->finish;
                $effect->($who);
            }
        };
        for my $i (@$order) {
            my $who = ($a, $b)[$i];
            my $step = $left{$who}++ // 0;
            if ($step == 0) { $who->do('BEGIN') }
            elsif ($step == 1) {
                $who->start("SELECT trunkline.once('s', '$event')");
                my $other = $who == $a ? $b : $a;
                if (($said{$other} // '') eq 't' && ($left{$other} // 0) == 2) { $who->wait_blocked; $waits{$who} = 1 }
                else { $said{$who} = $who->finish; $effect->($who) }
            }
            else {
                if ($waits{$who}) { # cannot end before the other does
                    my $other = $who == $a ? $b : $a;
                    $other->do($end{$other});
                    $left{$other} = 9;
                    $collect->();
                }
                $who->do($end{$who}) if $left{$who} < 9;
                $collect->();
            }
        }
        my $done = $watch->do("SELECT count(*) FROM public.effects WHERE event = '$event'");
        my $told = $watch->do("SELECT count(*) FROM trunkline.inbox WHERE event_id = '$event'");
        # if the first rolled back last, nobody is left to do it: then it is free again
        my $expected = $said{$b} eq 't' || $first_ends eq 'COMMIT' && $said{$a} eq 't' ? 1 : 0;
        push @bad, "$first_ends, order @$order: said $said{$a} $said{$b}, $done effects, $told remembered" if $done != $expected || $told != $done;
    }
}
is($orders, 40, 'all orders of two transactions');
is(join("\n", @bad), '', 'IDM-3 in each the effect is there exactly as often as it was remembered, at most once');

subtest 'bad arguments, rights' => sub {
    refuses($a, "SELECT trunkline.once('', gen_random_uuid())", 'TL005', {field => 'subscription', limit => 255});
    refuses($a, "SELECT trunkline.once(repeat('x', 256), gen_random_uuid())", 'TL005', {field => 'subscription'});
    refuses($a, 'SELECT trunkline.once(NULL, gen_random_uuid())', 'TL005', {field => 'subscription'});
    refuses($a, "SELECT trunkline.once('s', NULL)", 'TL005', {field => 'event_id'});
    my $role = "tl_once_$$";
    $watch->do("CREATE ROLE $role LOGIN");
    my $low = session(role => $role);
    is($low->error("SELECT trunkline.once('s', gen_random_uuid())")->{state}, '42501', 'not for everybody');
    $watch->do("SELECT trunkline.grant_consume('$role')");
    is($low->do("SELECT trunkline.once('s', gen_random_uuid())"), 't', 'for consumers');
    is($low->error('DELETE FROM trunkline.inbox')->{state}, '42501', 'who cannot forget');
};

subtest 'forgetting' => sub {
    $watch->do("TRUNCATE trunkline.inbox; INSERT INTO trunkline.inbox SELECT 'old', gen_random_uuid(), now() - interval '31 days' FROM generate_series(1, 10005);
        INSERT INTO trunkline.inbox SELECT 'young', gen_random_uuid(), now() - interval '29 days'");
    is($watch->do("SELECT action FROM trunkline.maintain() WHERE object = 'inbox'"), 'forgot', 'maintain() forgets after 30 days');
    is($watch->do('SELECT count(*) FROM trunkline.inbox'), 6, '10000 at a time');
    $watch->do('SELECT count(*) FROM trunkline.maintain()');
    is($watch->do('SELECT string_agg(subscription, $$ $$) FROM trunkline.inbox'), 'young', 'the rest at the next run');
    $watch->do("SET trunkline.inbox_window = '28 days'; SELECT count(*) FROM trunkline.maintain()");
    is($watch->do('SELECT count(*) FROM trunkline.inbox'), 0, 'trunkline.inbox_window says after how long');
    $watch->do("SET trunkline.inbox_window = 'soon'");
    like($watch->do("SELECT action || ' ' || detail FROM trunkline.maintain() WHERE object = 'inbox'"), qr/^failed 22007/, 'a bad value is reported');
    $watch->do("SET trunkline.inbox_window = '-1 day'");
    like($watch->do("SELECT action || ' ' || detail FROM trunkline.maintain() WHERE object = 'inbox'"), qr/^failed TL005: trunkline.inbox_window/, 'a negative one too');
};
done_testing;
