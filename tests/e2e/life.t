#!/usr/bin/env perl
# Daemons side by side, coming, going, killed, and subscriptions that change under them (WRK-2, WRK-4, SUB-5).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $dir = workdir();
sub subscribe { my ($name, $pattern, $command, @more) = @_; return tl_ok(['subscribe', $name, $pattern, '--target', "exec:$command", @more]) }
sub publish { my ($type, $count) = @_; return decode(tl_ok(['publish', '--ndjson', '--json'], stdin => join '', map { qq({"type":"$type","data":$_}\n) } 1 .. $count)) }
# "pid of the daemon, position, ..." of each run
sub runs { my ($file) = @_; return map { [split / /] } split /\n/, slurp("$dir/$file") }
sub positions { return map { $_->[1] } runs(@_) }
sub served_by { my ($name, @daemons) = @_; return !grep { my $d = $_; !wait_for(sub { slurp($d->{err}) =~ /event=served subscription=\Q$name\E / }) } @daemons }
sub held { my ($name) = @_; return query($db, "SELECT count(*) FROM trunkline.leases l JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = '$name' AND l.held") }
my @common = ('--allow-exec', '--concurrency', 4);

subtest 'three share the work; one is killed' => sub {
    my @daemons = map { start_serve($db, [@common, '--lease', '1h']) } 1 .. 3;
    subscribe('share', 'share.*', "echo \$PPID \$TRUNKLINE_POSITION begun >> $dir/share; sleep 0.03; echo \$PPID \$TRUNKLINE_POSITION >> $dir/share.done", '--ordering', 'none');
    ok served_by('share', @daemons), 'all serve it';
    my $published = publish('share.a', 900);
    my %by;
    ok wait_for(sub { %by = (); $by{$_->[0]}++ for runs('share'); keys %by == 3 }), 'WRK-4 three daemons share the work';
    my $victim = $daemons[0];
    kill 'KILL', $victim->{pid};
    wait_exit($victim);
    # sooner than by itself, so that no lease of the others can run out, however slow the machine
    query($db, "UPDATE trunkline.leases SET until = clock_timestamp() WHERE owner LIKE '%:$victim->{pid}'");
    ok wait_for(sub { my %done = map { $_ => 1 } positions('share.done'); keys %done == 900 }), 'WRK-4 after kill -9 of one the others do all of it';
    my %count;
    $count{$_}++ for positions('share');
    # a shell that it started at its very end has another parent by then
    my %alive = map { $_->{pid} => 1 } @daemons[1 .. $#daemons];
    my %victims = map { $_->[1] => 1 } grep { !$alive{$_->[0]} } runs('share');
    is join(' ', grep { $count{$_} > 1 && !$victims{$_} } keys %count), '', 'nothing ran twice that the dead one had not begun';
    is scalar(grep { !$count{$_} } $published->{first_position} .. $published->{last_position}), 0, 'nothing is missing';
    ok wait_for(sub { held('share') eq '0' }), 'no lease is left';
    is stop_program($_), 0, 'stop' for @daemons[1, 2];
};

subtest 'take-over within the lease' => sub {
    my $first = start_serve($db, [@common, '--lease', '5s']);
    subscribe('ordered', 'ordered.*', "echo \$PPID \$TRUNKLINE_POSITION >> $dir/ordered; [ -e $dir/go ] || sleep 1000", '--ordering', 'total');
    ok served_by('ordered', $first), 'one daemon';
    my $second = start_serve($db, [@common, '--lease', '5s']);
    ok served_by('ordered', $second), 'and another';
    publish('ordered.a', 5);
    ok wait_for(sub { (runs('ordered'))[0] }), 'one begins';
    my ($owner) = map { $_->[0] } runs('ordered');
    my ($dead, $alive) = $owner == $first->{pid} ? ($first, $second) : ($second, $first);
    my $lease = sub { my ($what) = @_; return query($db, "SELECT $what FROM trunkline.leases JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = 'ordered'") };
    my $has_passed = sub { my ($time) = @_; return query($db, "SELECT clock_timestamp() >= '$time'") eq 't' };
    # longer than a lease: it is renewed while a command runs
    my $until = $lease->('until');
    ok wait_for(sub { $has_passed->($until) }), 'the time of the first lease passes';
    is scalar(runs('ordered')), 1, 'WRK-10 a lease is renewed as long as its owner lives';
    spew("$dir/go", '');
    kill 'KILL', $dead->{pid};
    wait_exit($dead);
    $until = $lease->('until');
    is query($db, "SELECT clock_timestamp() + interval '5 s' >= '$until'"), 't', 'killed: what it has left is a lease at most';
    ok wait_for(sub { scalar(runs('ordered')) >= 2 }), 'WRK-4 the other one takes over';
    ok $has_passed->($until), 'when the lease has run out';
    ok wait_for(sub { scalar(runs('ordered')) == 6 }), 'and does the rest';
    my @positions = positions('ordered');
    is "@positions", join(' ', @positions[0, 0], map { $positions[0] + $_ } 1 .. 4), 'in order, the interrupted one again';
    is stop_program($alive), 0, 'stop';
};

subtest 'a stop hands everything back' => sub {
    my $first = start_serve($db, [@common, '--lease', '1h']);
    subscribe('handed', 'handed.*', "echo \$PPID \$TRUNKLINE_POSITION >> $dir/handed; while [ \$(wc -l < $dir/handed) -eq 5 ] && ! [ -e $dir/handing ]; do sleep 0.05; done", '--ordering', 'total', '--timeout', '10min');
    ok served_by('handed', $first), 'one daemon, with leases of an hour';
    publish('handed.a', 60);
    ok wait_for(sub { scalar(runs('handed')) == 5 }), 'it is at work, and takes its time for the fifth';
    my $second = start_serve($db, [@common, '--lease', '1h']);
    ok served_by('handed', $second), 'another one waits';
    kill 'TERM', $first->{pid};
    ok wait_for(sub { slurp($first->{err}) =~ /event=stopping / }), 'the first one is told to stop';
    spew("$dir/handing", '');
    is wait_exit($first), 0, 'WRK-2 it ends what it has begun';
    is scalar(grep { $_->[0] == $first->{pid} } runs('handed')), 5, 'and leaves the rest';
    ok wait_for(sub { scalar(runs('handed')) > 5 }), 'WRK-2 the other goes on at once';
    ok wait_for(sub { scalar(runs('handed')) >= 60 && held('handed') eq '0' }), 'to the end';
    my @positions = positions('handed');
    is scalar(@positions), 60, 'each event ran once';
    is "@positions", join(' ', sort { $a <=> $b } @positions), 'in order';
    is stop_program($second), 0, 'stop';
};

for my $how (['at its deadline', ['--stop-timeout', '300ms'], 1, 7], ['at a second signal', [], 2, 8]) {
    my ($what, $options, $signals, $code) = @$how;
    my $file = "ended$code";
    subtest "a stop that ends $what hands back as well" => sub {
        my $first = start_serve($db, [@common, '--lease', '1h', @$options]);
        # event 3 hangs in the first daemon
        subscribe($file, "$file.*", "echo \$PPID \$TRUNKLINE_POSITION \$TRUNKLINE_ATTEMPT >> $dir/$file; grep -q '\"data\":3[,}]' && [ \$PPID = $first->{pid} ] && sleep 1000; exit 0", '--ordering', 'total');
        ok served_by($file, $first), 'one daemon, with leases of an hour';
        my $published = publish("$file.a", 20);
        ok wait_for(sub { scalar(runs($file)) == 3 }), 'it hangs in the third event';
        my $second = start_serve($db, [@common, '--lease', '1h']);
        ok served_by($file, $second), 'another one waits';
        kill 'TERM', $first->{pid};
        if ($signals == 2) {
            ok wait_for(sub { slurp($first->{err}) =~ /event=stopping / }), 'told to stop';
            kill 'TERM', $first->{pid};
        }
        is wait_exit($first), $code, "exit code $code";
        ok wait_for(sub { scalar(runs($file)) >= 21 }), 'WRK-2 the other goes on at once, not when the lease of an hour ends';
        ok wait_for(sub { held($file) eq '0' }), 'to the end';
        my @positions = positions($file);
        my $at = $published->{first_position};
        is "@positions", join(' ', $at .. $at + 2, $at + 2 .. $at + 19), 'in order, only the one that hung again';
        is join(' ', map { $_->[2] } runs($file)), join(' ', (1) x 21), 'which has cost no attempt';
        is stop_program($second), 0, 'stop';
    };
}

subtest 'subscriptions change while they are served' => sub {
    my $serve = start_serve($db, [@common]);
    subscribe('live', 'live.*', "echo one \$TRUNKLINE_POSITION >> $dir/live");
    ok served_by('live', $serve), 'served';
    my $count = sub { my ($word) = @_; return scalar grep { $_->[0] eq $word } runs('live') };
    publish('live.a', 2);
    ok wait_for(sub { $count->('one') == 2 }), 'delivered';
    subscribe('live', 'live.*', "echo two \$TRUNKLINE_POSITION >> $dir/live");
    ok wait_for(sub { (() = slurp($serve->{err}) =~ /event=served subscription=live /g) == 2 }), 'another target';
    publish('live.a', 2);
    ok wait_for(sub { $count->('two') == 2 }), 'WRK-2 the new target gets what comes';
    is $count->('one'), 2, 'the old one nothing more';
    # another pattern, filter and time limit
    subscribe('live', 'live.b', "sleep 0.1; echo three \$TRUNKLINE_POSITION >> $dir/live", '--filter', '{"x": 1}', '--timeout', '10s');
    ok wait_for(sub { (() = slurp($serve->{err}) =~ /event=served subscription=live /g) == 3 }), 'another pattern';
    tl_ok(['publish', @$_]) for ['live.a', '{"x": 1}'], ['live.b', '{"x": 2}'], ['live.b', '{"x": 1}'];
    ok wait_for(sub { $count->('three') == 1 }), 'what matches now is delivered';
    # paused: what is in flight ends, nothing else begins
    query($db, q(SELECT trunkline.pause('live')));
    ok wait_for(sub { slurp($serve->{err}) =~ /event=unserved subscription=live / }), 'paused: not served';
    tl_ok(['publish', 'live.b', '{"x": 1, "n": 2}']);
    is query($db, q(SELECT behind > 0 FROM trunkline.subscription_status WHERE name = 'live')), 't', 'it waits';
    query($db, q(SELECT trunkline.resume('live')));
    ok wait_for(sub { $count->('three') == 2 }), 'resumed: it is delivered';
    # deleted in the middle of a delivery, and made anew under the same name
    subscribe('live', 'live.*', "echo four \$TRUNKLINE_POSITION >> $dir/live; while ! [ -e $dir/finish ]; do sleep 0.02; done; echo ended \$TRUNKLINE_POSITION >> $dir/live");
    ok wait_for(sub { (() = slurp($serve->{err}) =~ /event=served subscription=live /g) == 5 }), 'one that takes its time';
    tl_ok(['publish', 'live.c', '1']);
    ok wait_for(sub { $count->('four') == 1 }), 'it runs';
    query($db, q(SELECT trunkline.unsubscribe('live', force => true)));
    ok wait_for(sub { (() = slurp($serve->{err}) =~ /event=unserved subscription=live /g) == 2 }), 'deleted';
    subscribe('live', 'live.*', "echo five \$TRUNKLINE_POSITION >> $dir/live");
    ok wait_for(sub { (() = slurp($serve->{err}) =~ /event=served subscription=live /g) == 6 }), 'and made anew';
    tl_ok(['publish', 'live.d', '1']);
    ok wait_for(sub { $count->('five') == 1 }), 'the new one is served, though a command of the old one still runs';
    spew("$dir/finish", '');
    ok wait_for(sub { $count->('ended') == 1 }), 'that one ends in peace';
    # priorities: with one place, the higher one goes first
    is stop_program($serve), 0, 'stop';
    unlike slurp($serve->{err}), qr/level=error/, 'no error in all of this';
};
done_testing;
