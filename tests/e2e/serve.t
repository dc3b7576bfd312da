#!/usr/bin/env perl
# trunkline serve itself: schema, leader, several daemons, loss of the database, memory (WRK-2, MIG-2,
# WAK-4, CFG-5).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use IO::Select;
use IO::Socket::UNIX;
use Test::More;
use TrunklineTest;

my $bin = $ENV{TRUNKLINE_BIN};

# A missing schema is an error unless told to migrate.
my $db = new_database('--empty');
my $serve = start_program([$bin, 'serve', '--db', $db]);
is wait_exit($serve), 10, 'no schema: 10';
like slurp($serve->{err}), qr/^hint: .*trunkline migrate/m, 'the hint names trunkline migrate';
$serve = start_serve($db, ['--migrate']);
pass '--migrate';
ok wait_for(sub { slurp($serve->{err}) =~ /event=leader/ }), 'it leads';

# systemd is told when it is ready, at a path or at a name.
for my $address (workdir() . '/notify', "\0trunkline-test-$$") {
    my $systemd = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $address) or die "notify: $!";
    (my $shown = $address) =~ s/^\0/@/;
    my $told = start_serve($db, [], env => {NOTIFY_SOCKET => $shown});
    ok +(IO::Select->new($systemd)->can_read(120))[0], 'sd_notify';
    $systemd->recv(my $state, 100);
    is $state, 'READY=1', 'it is ready';
    is stop_program($told), 0, 'and stops';
}

# Two daemons: one leader, each event once; the other takes over.
query($db, q(CREATE TABLE public.seen (position bigint);
    CREATE FUNCTION public.see(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ((e ->> 'position')::bigint) $$));
tl_ok(['subscribe', 's', '**', '--target', 'sql:public.see', '--db', $db]);
my $second = start_serve($db, ['--maintain-interval', '1h']);
ok wait_for(sub { slurp($_->{err}) =~ /event=served subscription=s / }), 'both serve' for $serve, $second;
unlike slurp($second->{err}), qr/event=leader/, 'one leads';
tl_ok(['publish', '--ndjson', '--db', $db], stdin => join '', map { qq({"type":"a.b","data":$_}\n) } 1 .. 300);
ok wait_for(sub { query($db, 'SELECT count(*) FROM public.seen') eq '300' }), 'all delivered';
is query($db, 'SELECT count(DISTINCT position) FROM public.seen'), '300', 'each once';
is stop_program($serve), 0, 'the leader stops';
ok wait_for(sub { slurp($second->{err}) =~ /event=leader/ }), 'the other one leads';

# All connections are cut: it comes back by itself.
query($db, q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trunkline serve'));
tl_ok(['publish', 'a.c', '1', '--db', $db]);
ok wait_for(sub { query($db, 'SELECT count(*) FROM public.seen') eq '301' }), 'WAK-4 delivers after its connections were cut';
ok wait_for(sub { (() = slurp($second->{err}) =~ /event=leader/g) == 2 }), 'and leads again';

# For standbys, within a second or so, after a reconnect too: the first time it may be maintain() that does it, which comes again in an hour.
for my $time (1 .. 2) {
    my $new = query($db, q(SELECT "position" FROM trunkline.publish('a.d', '1')));
    ok wait_for(sub { query($db, q(SELECT "position" FROM trunkline.horizons WHERE topic_id = 1)) >= $new }), "RPL-1 the horizon is published, $time";
}

# At rest: 20 MB, and hardly any work.
my ($rss) = slurp("/proc/$second->{pid}/status") =~ /^VmRSS:\s+(\d+) kB/m;
SKIP: {
    skip 'memory is another thing under a sanitizer', 1 if slurp("/proc/$second->{pid}/maps") =~ /libasan|libtsan/;
    cmp_ok $rss, '<=', 20 * 1024, "resident memory: $rss kB";
}
is stop_program($second), 0, 'stop';

# WRK-2: a database that hangs does not hold the daemon when it is told to stop.
my $third = start_serve($db, ['--stop-timeout', '1s']);
ok wait_for(sub { slurp($third->{err}) =~ /event=leader/ }), 'a third daemon';
my @backends = split /\n/, query($db, q(SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trunkline serve'));
kill 'STOP', @backends;
ok wait_for(sub { slurp("/proc/$_/status") =~ /^State:\s+T/m }), 'its backends hang' for @backends;
kill 'HUP', $third->{pid}; # look at once
ok wait_for(sub { slurp($third->{err}) =~ /event=reload/ }), 'and it asks them something';
kill 'TERM', $third->{pid};
my $code = wait_exit($third);
kill 'CONT', @backends;
is $code, 7, 'it ends all the same: 7' or diag slurp($third->{err});

# The embedded database: serve owns it, others attach, a restart of the server is survived.
my $data = workdir() . '/pg';
my %env = (TRUNKLINE_DATA_DIR => $data);
delete @ENV{qw(TRUNKLINE_DB DATABASE_URL)};
my $own = start_program([$bin, 'serve'], env => \%env);
ok wait_for(sub { slurp($own->{err}) =~ /event=ready/ }), 'serve on the embedded database' or diag slurp($own->{err});
my $pid = decode(tl_ok(['db', '--json'], env => \%env))->{pid};
tl_ok(['subscribe', 'run', '**', '--target', "exec:cat >> $data.events"], env => \%env);
tl_ok(['publish', 'a.b', '1'], env => \%env);
ok wait_for(sub { slurp("$data.events") =~ /"type":"a\.b"/ }), 'commands run there without a flag';
kill 'KILL', $pid;
ok wait_for(sub { !kill 0, $pid }), 'kill -9 of the server';
tl_ok(['publish', 'a.c', '2'], env => \%env);
ok wait_for(sub { slurp("$data.events") =~ /"type":"a\.c"/ }), 'is recovered from' or diag slurp($own->{err});
is stop_program($own), 0, 'stop';
ok wait_for(sub { !-e "$data/data/postmaster.pid" }), 'and the server with it';

# Without the standard files: their numbers do not go to sockets, which would get the logs.
my $fourth = start_program(['sh', '-c', 'exec "$0" serve --db "$1" <&- >&- 2>&-', $bin, $db]);
tl_ok(['publish', 'a.e', '1', '--db', $db]);
ok wait_for(sub { query($db, q(SELECT count(*) FROM public.seen s JOIN trunkline.topic_bus t ON t.position = s.position WHERE t.type = 'a.e')) eq '1' }), 'WRK-2 started without stdin, stdout and stderr it delivers';
is stop_program($fourth), 0, 'and stops in order';
tl_ok(['publish', '--ndjson', '--db', $db], stdin => join '', map { '{"type":"a.f","data":"' . 'x' x 1000 . qq("}\n) } 1 .. 30);
my $mute = start_program(['sh', '-c', 'exec "$0" read --db "$1" <&- >&-', $bin, $db]);
is wait_exit($mute), 6, 'results that nobody can get are an error';
like slurp($mute->{err}), qr/cannot write results/, 'named' or diag slurp($mute->{err});

# Too few file descriptors, wherever it is that they run out: an error or a daemon that stops in order.
for my $first (0 .. 3) {
    my @few = map { start_program(['sh', '-c', 'ulimit -n "$0" && exec "$1" serve -v --db "$2"', $_, $bin, $db],
        env => {ASAN_OPTIONS => join ':', $ENV{ASAN_OPTIONS} // (), 'detect_leaks=0'}) } map { 12 + $first + 4 * $_ } 0 .. 5;
    for my $few (@few) {
        my ($limit) = $few->{command} =~ /"\$2" (\d+)/;
        my $has_ended = sub { slurp("/proc/$few->{pid}/stat") =~ /\) Z/ };
        wait_for(sub {
            my $log = slurp($few->{err});
            return $log =~ /event=database_lost/ || ($log =~ /event=ready/ && $log =~ /event=start_failed|event=served subscription=s /) || $has_ended->();
        });
        if ($has_ended->()) {
            my $rc = wait_exit($few);
            ok $rc > 0 && $rc < 128 && slurp($few->{err}) =~ /start_failed|trunkline: error/, "$limit files: an error" or diag "$rc: " . slurp($few->{err});
        } else {
            is stop_program($few), 0, "$limit files: it stops" or diag slurp($few->{err});
        }
    }
}
done_testing;
