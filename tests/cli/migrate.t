#!/usr/bin/env perl
# trunkline migrate and doctor (MIG-1..3, CFG-5).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use List::Util 'sum';
use Test::More;
use TrunklineTest;

my $db = new_database('--empty');
$ENV{TRUNKLINE_DB} = $db;
my $bin = $ENV{TRUNKLINE_BIN};
my ($rc, $out, $err);

my $status = decode(tl_ok(['migrate', 'status', '--json']));
is_deeply [$status->{schema}, $status->{state}], ['trunkline', 'missing'], 'status of an empty database';
is_deeply [map { $_->{state} } @{$status->{migrations}}], [('pending') x @{$status->{migrations}}], 'all pending';
is +(tl(['migrate', 'verify']))[0], 10, 'verify: 10';
($rc, $out, $err) = tl(['doctor']);
is $rc, 10, 'doctor: 10';
like $out, qr/^schema +fail +there is no schema trunkline: run trunkline migrate$/m, 'and says what to do';

# Ten at once.
my @runs = map { start_program([$bin, 'migrate', '--json']) } 1 .. 10;
is scalar(grep { wait_exit($_) } @runs), 0, 'MIG-1 ten concurrent runs all succeed';
is sum(map { decode(slurp($_->{out}))->{applied} } @runs), scalar @{$status->{migrations}}, 'each migration is applied once';
is tl_ok(['migrate']), "schema trunkline is up to date\n", 'again: nothing to do';
like tl_ok(['migrate', 'status']), qr/\Anumber +migration +state\n0001 +\S+ +applied\n.*schema trunkline is current\n\z/s, 'status';
is tl_ok(['migrate', 'verify']), "schema trunkline is what this version installs\n", 'verify';

# The printed script makes the same schema.
my $by_hand = new_database('--empty');
my $script = spew(workdir() . '/install.sql', tl_ok(['migrate', 'sql'], env => {TRUNKLINE_DB => undef, TRUNKLINE_DATA_DIR => '/nowhere'}));
my $psql = $ENV{PGBINDIR} ? "$ENV{PGBINDIR}/psql" : 'psql';
my $run = start_program([$psql, '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $by_hand, '-f', $script]);
is wait_exit($run), 0, 'migrate sql runs in psql' or diag slurp($run->{err});
is tl_ok(['migrate', 'verify', '--db', $by_hand]), "schema trunkline is what this version installs\n", 'and gives the same';
like tl_ok(['migrate', 'sql', '--schema', 'elsewhere']), qr/"?elsewhere"?\.topics/, 'for another schema';

# Changed by hand.
query($by_hand, q(CREATE OR REPLACE FUNCTION trunkline.channel() RETURNS text LANGUAGE sql AS 'SELECT ''x''::text'));
($rc, $out, $err) = tl(['migrate', 'verify', '--db', $by_hand]);
is "$rc $out", '10 ', 'MIG-3 a changed function is noticed: 10';
like $err, qr/changed by hand\nhint: .*migrate/, 'and it says what to do';
($rc, $out, $err) = tl(['doctor', '--db', $by_hand]);
is $rc, 10, 'doctor: 10';
like $out, qr/^schema +ok +trunkline is current\nfunctions +fail +.*changed by hand/m, 'and says so';
query($by_hand, q(UPDATE trunkline.migrations SET checksum = repeat('0', 64) WHERE number = 1));
is decode(tl_ok(['migrate', 'status', '--json', '--db', $by_hand]))->{state}, 'tampered', 'another checksum: tampered';
is +(tl(['migrate', 'up', '--db', $by_hand]))[0], 10, 'up refuses';

# MIG-2 doctor tells the ways apart in which a schema and a program do not fit.
for (['UPDATE trunkline.migrations SET checksum = checksum', 'ok', 'trunkline is current'],
    [q(UPDATE trunkline.migrations SET checksum = repeat('0', 64) WHERE number = 1), 'fail', 'trunkline was changed by hand: see trunkline migrate verify'],
    ['DELETE FROM trunkline.migrations WHERE number = (SELECT max(number) FROM trunkline.migrations)', 'fail', 'trunkline is older than this program: run trunkline migrate'],
    [q(INSERT INTO trunkline.migrations (number, name, checksum) VALUES (9999, 'later', repeat('0', 64))), 'fail', 'trunkline is newer than this program: use a newer one']) {
    my ($change, $state, $said) = @$_;
    my $odd = new_database();
    query($odd, $change);
    ($rc, $out, $err) = tl(['doctor', '--db', $odd]);
    is $rc, $state eq 'ok' ? 0 : 10, "doctor: $said";
    like $out, qr/^schema +$state +\Q$said\E$/m, 'with the next step';
    drop_database($odd);
}

# Doctor.
$out = tl_ok(['doctor', '--json']);
my %checks = map { $_->{check} => $_ } map { decode($_) } split /\n/, $out;
is_deeply [sort keys %checks], [sort qw(database server schema functions listeners horizon subscriptions webhooks)], 'doctor looks at';
is_deeply [grep { $_->{state} ne 'ok' } values %checks], [], 'and all is well';
my ($session, $sql) = psql_session($db, PGAPPNAME => 'slow_app');
print {$sql} "BEGIN; SELECT position FROM trunkline.publish('a.b', '1');\n";
ok wait_for(sub { slurp($session->{out}) =~ /\d/ }), 'an open transaction has published';
like tl_ok(['doctor']), qr/^horizon +ok +topic bus waits for pid \d+ \(slow_app, idle in transaction, open for [\d:]+\)$/m,
    'doctor names who holds readers back';
close $sql;
wait_exit($session);
is +(tl(['doctor', '--db', 'host=/nowhere']))[0], 3, 'no connection: 3';

done_testing;
