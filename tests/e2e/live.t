#!/usr/bin/env perl
# Live subscriptions outlive what happens to servers: a connection that is cut between two events (C2), a backend
# killed with the whole server behind it, an immediate stop, a bell that does not ring. Everybody gets every event,
# once, in order (SUB-6, WAK-3, WAK-4).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use File::Temp ();
use Test::More;
use TrunklineTest;

my ($source, $build) = @ENV{qw(TRUNKLINE_SOURCE TRUNKLINE_BUILD)};
my $dir = File::Temp::tempdir('/tmp/tl-live-XXXXXX', CLEANUP => 1) . '/pg';
chmod 0755, $dir =~ s{/pg$}{}r;
my $owner = $$;
my %cluster = map { /^export (\w+)='(.*)'$/ } qx("$source/tools/pg-temp" start "$dir");
END { system "$source/tools/pg-temp", 'stop', $dir if $owner == $$ && -d $dir }
my $db = $cluster{TRUNKLINE_TEST_DB} or BAIL_OUT('no cluster');
my $uid = (stat "$dir/data")[4];

sub pg_ctl {
    my @as = $> == 0 ? ('setpriv', "--reuid=$uid", '--clear-groups', '--') : ();
    return system(@as, "$cluster{PGBINDIR}/pg_ctl", '-D', "$dir/data", '-l', "$dir/log", '-w', '-s', @_) == 0;
}

tl_ok(['migrate', '--db', $db]);
my $stored = 0;

# Through a server that recovers.
sub surely {
    my ($sql) = @_;
    my $value;
    wait_for(sub { defined($value = eval { query($db, $sql) }) }) or BAIL_OUT("the server is not back: $@");
    return $value;
}

# With an id: whether it was stored before the server went away or not, it is stored once.
sub store {
    my ($stream, $before) = @_;
    my $id = sprintf '00000000-0000-4000-8000-%012d', ++$stored;
    surely(($before // '') . " SELECT FROM trunkline.append_event('$stream', 'x', '$stored', event_id => '$id')");
    return;
}

my $subscriber = start_program(["$build/tests/e2e/live_subscriber", $db, 'order-1', 'order']);
my %wanted = (stream => q(stream = 'order-1'), category => q(stream LIKE 'order-%'), all => 'true');

sub saw {
    my ($who) = @_;
    return join ' ', map { /^$who (\d+) \d+$/ ? $1 : () } split /\n/, slurp($subscriber->{out});
}

sub everybody_saw_all {
    my ($when) = @_;
    for my $who (sort keys %wanted) {
        my $log = surely(qq(SELECT string_agg("position"::text, ' ' ORDER BY "position") FROM trunkline.topic_store WHERE $wanted{$who}));
        wait_for(sub { length saw($who) >= length $log });
        is saw($who), $log, "$when: $who";
    }
    return;
}

my $live = q(application_name = 'live' AND query !~ 'live_start' AND pid <> pg_backend_pid());
sub live_pid { return surely("SELECT pid FROM pg_stat_activity WHERE $live LIMIT 1") }

store('order-1');
ok wait_for(sub { slurp($subscriber->{out}) =~ /^ready/m }), 'subscribed';
everybody_saw_all('caught up');
store($_) for qw(order-1 order-2 other);
everybody_saw_all('live');

my $pid = live_pid();
store('order-1');
query($db, "SELECT pg_terminate_backend($pid)");
store('order-1');
everybody_saw_all('cut between two events (C2)');
ok wait_for(sub { my $new = live_pid(); $new ne '' && $new ne $pid }), 'on another connection';

kill 'KILL', live_pid();
store($_) for qw(order-2 order-1 other-2);
everybody_saw_all('its backend was killed, the server recovered');

ok pg_ctl('-m', 'immediate', 'stop'), 'immediate stop';
ok pg_ctl('start'), 'started again';
store($_) for qw(order-1 order-3);
everybody_saw_all('the server was stopped hard');

store('order-1', 'SET trunkline.ring = off;');
everybody_saw_all('nobody rang: the fallback poll finds it');

for my $round (1 .. 3) {
    my $stop = start_program(['sh', '-c', "i=0; while [ \$i -lt 5 ]; do psql -XAtqd '$db' -c \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'live'\" >/dev/null; i=\$((i+1)); done"]);
    store($_) for qw(order-1 other order-2 order-1 order-4);
    wait_exit($stop);
}
everybody_saw_all('cut again and again');
is stop_program($subscriber), 0, 'it ends when it is told to' or diag slurp($subscriber->{err});
my $said = slurp($subscriber->{err});
unlike $said, qr/ended:/, 'no subscription ended by itself';
like $said, qr/TL_E_CANCELLED reconnects=([4-9]|\d\d)/, 'it did connect again';

# WAK-8: raw channels of mode async are the work of serve. psql says what came when it is given something to do.
query($db, q(SELECT trunkline.raw_channels('store')));
my $serve = start_serve($db);
my $listener = start_program(['sh', '-c', "(echo 'LISTEN \"stream_order-9\"; SELECT 1;'; for i in \$(seq 100); do sleep 0.1; echo 'SELECT 1;'; done) | psql -XAtqd '$db'"]);
ok wait_for(sub { slurp($listener->{out}) =~ /1/ }), 'LISTEN';
store('order-9');
ok wait_for(sub { slurp($listener->{out}) =~ /"stream_order-9" with payload "\{.*"version": 1/ }), 'serve notifies the channels of the stream'
    or diag slurp($serve->{err});
stop_program($serve);
stop_program($listener);
done_testing;
