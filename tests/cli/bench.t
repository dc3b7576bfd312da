#!/usr/bin/env perl
# trunkline bench: every option does something, and nothing but its own place is touched, whatever ends it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my ($rc, $out, $err);
my $ours = q(SELECT (SELECT count(*) FROM trunkline.topics WHERE name = 'trunkline_bench') || ' ' ||
    (SELECT count(*) FROM trunkline.subscriptions) || ' ' || (SELECT count(*) FROM pg_namespace WHERE nspname = 'trunkline_bench'));

# The three lines of the sides by name, and the two others by kind.
sub bench {
    my %line = map { my $o = decode($_); ($o->{name} // $o->{kind} => $o) } split /\n/, tl_ok(['bench', '--json', '-q', @_]);
    return \%line;
}

tl_ok(['publish', 'a.b', '{}']);
my $before = query($db, 'SELECT last_value FROM trunkline.position_bus');

# Open loop: what is due is counted, made or not.
my $r = bench('--rate', 50, '--seconds', '400ms', '--rounds', 2, '--warmup', 0, '-c', 2);
is_deeply [sort keys %$r], ['after', 'bare INSERT', 'bare INSERT + NOTIFY', 'settings', 'trunkline'], 'the lines of --json';
is_deeply [@{$r->{settings}}{qw(loop rate rounds connections batch consumer payload)}], ['open', 50, 2, 2, 1, JSON::PP::true, '300'], 'settings';
for my $side ('bare INSERT', 'bare INSERT + NOTIFY', 'trunkline') {
    my $s = $r->{$side};
    is $s->{events} + $s->{late}, 40, "--rate, --seconds, --rounds: $side";
    is scalar @{$s->{rounds}}, 2, 'a value for each round';
    cmp_ok $s->{publish}{p50_ms}, '>', 0, 'p50';
    ok $s->{publish}{p50_ms} <= $s->{publish}{p99_ms} && $s->{publish}{p99_ms} <= $s->{publish}{p999_ms}
        && $s->{publish}{p999_ms} <= $s->{publish}{max_ms}, 'p50 <= p99 <= p99.9 <= max' or diag explain $s;
    cmp_ok $s->{wal_bytes_per_event}, '>', 300, 'WAL of an event, at least its payload';
    cmp_ok $s->{$_}, '>', 0, $_ for qw(server_cpu_us client_cpu_us);
}
ok !$r->{'bare INSERT'}{handle}, 'nobody gets a bare INSERT';
ok $r->{$_}{handle}{p99_ms} > 0, "publish to handler: $_" for 'bare INSERT + NOTIFY', 'trunkline';
is $r->{after}{events}, $r->{trunkline}{events}, '--warmup 0: nothing but the turns was published';
is $r->{after}{dead_tuples_topic}, 0, 'no dead tuples in the log';
cmp_ok $r->{after}{resident_bytes}, '>', 1e6, 'memory';
is query($db, $ours), '0 0 0', 'all of it is gone';
is query($db, 'SELECT last_value FROM trunkline.position_bus'), $before, 'nothing went to the bus';

# Closed loop.
$r = bench('--seconds', '100ms', '--warmup', '100ms', '--rounds', 1, '--batch', 7, '--payload', '4kB', '--no-consumer');
is_deeply [@{$r->{settings}}{qw(loop consumer payload_bytes)}], ['closed', JSON::PP::false, 4000], 'closed loop without a consumer';
is $r->{trunkline}{events} % 7, 0, '--batch';
cmp_ok $r->{after}{events}, '>=', $r->{trunkline}{events} + 7, '--warmup';
ok !$r->{trunkline}{handle}, '--no-consumer';
cmp_ok $r->{trunkline}{wal_bytes_per_event}, '>', 2000, '--payload SIZE';
$r = bench('--seconds', '100ms', '--warmup', 0, '--rounds', 1, '--payload', 'github', '--batch', 20);
cmp_ok $r->{settings}{payload_bytes}, '>', 5000, '--payload github';
cmp_ok $r->{trunkline}{handle}{max_ms}, '>', 0, 'batches are handled';
$out = tl_ok(['bench', '--seconds', '50ms', '--warmup', 0, '--rounds', 1]);
like $out, qr/^$_ +\d+ +\d+ \.\. \d+ +\d+\.\d\d /m, "the table: $_" for 'bare INSERT', 'bare INSERT \+ NOTIFY', 'trunkline';
like $out, qr/^server_version .* fsync off, /, 'with the settings';

# One that goes on.
my @endless = ('--seconds', '1h', '--warmup', 0);
sub start {
    my $bench = start_program([$ENV{TRUNKLINE_BIN}, 'bench', @endless, @_]);
    ok wait_for(sub { query($db, $ours) =~ /1 \d 1/ && query($db, 'SELECT count(*) > 0 FROM trunkline_bench.bare') eq 't' }), 'it runs'
        or diag slurp($bench->{err});
    return $bench;
}
my $sessions = q(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trunkline bench');
my $bench = start('--no-consumer', '--connections', 5);
is query($db, $sessions), 6, '--connections';
for my $more ([], ['--clean']) {
    ($rc, $out, $err) = tl(['bench', @$more]);
    is "$rc $out", '4 ', "one at a time: @$more";
    like $err, qr/another bench is running/, 'says so';
}
is stop_program($bench, 'INT'), 8, 'ctrl-c';
like slurp($bench->{err}), qr/interrupted/, 'says so';
is query($db, $ours), '0 0 0', 'and all of it is gone';

# Killed: the next one or --clean drops what is left.
for my $next ('bench', 'clean') {
    stop_program(start(), 'KILL');
    ok wait_for(sub { query($db, $sessions) == 0 }), 'killed';
    is query($db, $ours), '1 1 1', 'this is left';
    ($rc, $out, $err) = tl(['bench', $next eq 'clean' ? '--clean' : ('--seconds', '50ms', '--warmup', 0, '--rounds', 1)]);
    is $rc, 0, "the next one: $next" or diag $err;
    like $next eq 'clean' ? $out : $err, $next eq 'clean' ? qr/^dropped topic trunkline_bench/ : qr/an earlier bench did not end/, 'says so';
    is query($db, $ours), '0 0 0', 'nothing is left';
}
is tl_ok(['bench', '--clean']), "nothing to drop\n", '--clean with nothing to do';

# What is not ours stays.
query($db, 'CREATE SCHEMA trunkline_bench CREATE TABLE t (n int)');
($rc, $out, $err) = tl(['bench']);
is "$rc $out", '4 ', 'a schema of that name';
like $err, qr/schema trunkline_bench that was not made by/, 'says so';
is((tl(['bench', '--clean']))[0], 4, 'nor does --clean touch it');
query($db, 'DROP TABLE trunkline_bench.t; DROP SCHEMA trunkline_bench');
query($db, q(SELECT trunkline.create_topic('trunkline_bench')));
($rc, $out, $err) = tl(['bench']);
is "$rc $out", '4 ', 'a topic of that name';
like $err, qr/topic trunkline_bench that was not made by/, 'says so';
is((tl(['bench', '--clean']))[0], 4, 'nor does --clean touch it');
is query($db, $ours), '1 0 0', 'it is there';
query($db, q(SELECT trunkline.drop_topic('trunkline_bench')));

# A role that may not.
my $role = 'bench_' . $$;
query($db, qq(CREATE ROLE $role LOGIN; SELECT trunkline.grant_consume('$role')));
($rc, $out, $err) = tl(['bench', '--db', "$db user=$role"]);
isnt $rc, 0, 'a role that may not create';
like $err, qr/this role may not make/, 'is told so';
is query($db, $ours), '0 0 0', 'and has made nothing';
query($db, qq(DROP OWNED BY $role; DROP ROLE $role));

for my $case (
    [['--payload', '63'], '--payload is github or a size from 64'], [['--payload', '1001kB'], '--payload is github or a size'],
    [['--payload', '9x'], '--payload is github or a size'], [['--payload', 'big'], '--payload is github or a size'],
    [['--connections', 0], '--connections is a number from 1 to 256'], [['--connections', 257], '--connections is'],
    [['--rounds', 51], '--rounds is a number from 1 to 50'], [['--batch', 10001], '--batch is a number from 1 to 10000'],
    [['--seconds', 0], '--seconds is at least 1ms'], [['--rate', 0], '--rate takes'],
) {
    ($rc, $out, $err) = tl(['bench', @{$case->[0]}]);
    is "$rc $out", '2 ', "@{$case->[0]}";
    like $err, qr/\Q$case->[1]\E/, 'is refused';
}

done_testing;
