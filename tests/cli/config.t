#!/usr/bin/env perl
# Which database, in what order, and what is never printed (CFG-1, CFG-2, CFG-5, MIG-2).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
my ($host) = $db =~ /host=(\S+)/;
my ($name) = $db =~ /dbname=(\S+)/;
my ($port) = $db =~ /port=(\S+)/;
my ($user) = $db =~ /user=(\S+)/;
sub shown { my %env = @_; return tl_ok(['db', '-q'], env => \%env) }
sub source { my %env = @_; return decode(tl_ok(['db', '--json'], env => \%env))->{source} }

# Order: --db, TRUNKLINE_DB, DATABASE_URL, libpq's own, embedded.
my %all = (TRUNKLINE_DB => "$db application_name=first", DATABASE_URL => "$db application_name=second",
    PGHOST => $host, PGPORT => $port, PGUSER => $user, PGDATABASE => $name);
is decode(tl_ok(['db', '--json', '--db', $db], env => \%all))->{source}, '--db', 'CFG-1 --db goes first';
is source(%all), 'TRUNKLINE_DB', 'then TRUNKLINE_DB';
is source(%all, TRUNKLINE_DB => undef), 'DATABASE_URL', 'then DATABASE_URL';
is source(%all, TRUNKLINE_DB => '', DATABASE_URL => ''), 'PGHOST', 'then libpq; empty is not set';
like shown(%all, TRUNKLINE_DB => undef, DATABASE_URL => undef), qr/host=\Q$host\E/, 'as libpq sees it';
is tl_ok(['read'], env => {%all, TRUNKLINE_DB => undef, DATABASE_URL => undef}), '', 'and it works';
is tl_ok(['read'], env => {DATABASE_URL => "postgresql://$user\@/$name?host=$host&port=$port"}), '', 'CFG-2 a URL works';
tl_ok(['publish', 'a', '1', '--db', "$db application_name=mine"]);
my $data = workdir() . '/private';
my $source = decode(tl_ok(['db', '--json', '-q'], env => {TRUNKLINE_DATA_DIR => $data}));
is_deeply [@$source{qw(source directory)}], ['embedded', $data], 'CFG-5 else the embedded database';
is tl_ok(['publish', 'a.b', '1', '-q'], env => {TRUNKLINE_DATA_DIR => $data}) =~ s/ .*//sr, '1', 'migrated without being asked';
my ($rc, $out, $err) = tl(['read'], env => {TRUNKLINE_DATA_DIR => $data});
$err =~ s/^trunkline: private PostgreSQL is still starting.*\n//m; # what it says of a slow one, on a busy machine
is $err, '', 'a warm start says nothing';
like $out, qr/^ +1 .*a\.b/, 'and the event is still there';
($rc, $out, $err) = tl(['read'], env => {TRUNKLINE_DATA_DIR => $data, TRUNKLINE_PG_BINDIR => '/nowhere'});
is $rc, 5, 'no server programs: 5';
like $err, qr/hint: .*install|hint: .*TRUNKLINE_PG_BINDIR/i, 'with a hint';

# Secrets.
my $secret = q(s3c'ret\\);
my $url = "postgresql://$user:s3c%27ret%5C\@/$name?host=$host&port=$port";
my $words = "host=$host port=$port user=$user dbname=$name password='s3c\\'ret\\\\'";
for my $conninfo ($url, $words, "$url&sslpassword=s3c%27ret%5C") {
    my @shown = (tl(['db', '--db', $conninfo]), tl(['db', '--json', '--db', $conninfo]), tl(['doctor', '--db', $conninfo]));
    unlike "@shown", qr/s3c/, 'a password is not printed';
    like $shown[1], qr/password=\*\*\*\*/, 'but that there is one';
    is $shown[0], 0, 'and it is used: special characters work';
}
($rc, $out, $err) = tl(['read', '--db', "$words s3cret2"]);
is "$rc $out", '2 ', 'malformed: 2';
is $err, qq(trunkline: error: malformed connection string in --db\n) .
    qq(hint: write postgresql://USER\@HOST:PORT/DATABASE or "host=\x{e2}\x{80}\x{a6} dbname=\x{e2}\x{80}\x{a6}"\n), 'nothing of it is repeated';
($rc, $out, $err) = tl(['read', '--db', 'postgresql://me:hunter22@127.0.0.1:1/x']);
is "$rc $out", '3 ', 'no connection: 3';
unlike $err, qr/hunter22/, 'without the password';
($rc, $out, $err) = tl(['read', '--db', "host=$host port=$port user=nobody_here dbname=$name", '--schema', 'x'], env => {PGPASSWORD => 'nobody_here'});
unlike $err, qr/nobody_here/, 'nor PGPASSWORD, wherever it stands';
my $target = 'https://user:hunter22@example.com/hook?x=1';
tl_ok(['subscribe', 's', 'a.*', '--db', $db, '--target', $target]);
for my $arguments (['subscriptions'], ['subscriptions', '--json'], ['subscriptions', 'show', 's']) {
    $out = tl_ok([@$arguments, '--db', $db]);
    unlike $out, qr/hunter22/, "@$arguments: no password of a target";
    like $out, qr{https://\*\*\*\*\@example\.com/hook\?x=1}, 'the rest of it';
}

# Schema.
my $empty = new_database('--empty');
($rc, $out, $err) = tl(['read', '--db', $empty]);
is "$rc $out", '10 ', 'MIG-2 no schema: 10';
like $err, qr/^hint: .*trunkline migrate/m, 'the hint names trunkline migrate';
is query($empty, q(SELECT count(*) FROM pg_namespace WHERE nspname = 'trunkline')), '0', 'and nothing was changed';
($rc, $out, $err) = tl(['publish', 'a', '1', '--db', $empty]);
is $rc, 10, 'publish as well';
tl_ok(['migrate', '--db', $empty, '--schema', 'other_place']);
tl_ok(['publish', 'in.other', '1', '--db', $empty, '--schema', 'other_place']);
like tl_ok(['read', '--db', $empty], env => {TRUNKLINE_SCHEMA => 'other_place'}), qr/in\.other/, 'TRUNKLINE_SCHEMA';
is +(tl(['read', '--db', $empty]))[0], 10, 'two schemas do not see each other';
($rc, $out, $err) = tl(['read', '--db', $empty, '--schema', 'x"; drop table y']);
is "$rc $out", '2 ', 'no name for a schema: 2';

# Rights (TL_E_DENIED).
query($db, q(CREATE ROLE tl_poor LOGIN; GRANT USAGE ON SCHEMA trunkline TO tl_poor;
    GRANT SELECT ON trunkline.migrations, trunkline.installed TO tl_poor));
my $poor = $db =~ s/user=\S+/user=tl_poor/r;
($rc, $out, $err) = tl(['publish', 'a', '1', '--db', $poor]);
is "$rc $out", '13 ', 'missing privileges: 13';
like $err, qr/permission denied/, 'said by the server';
query($db, 'DROP OWNED BY tl_poor; DROP ROLE tl_poor');

# Isolation.
($rc, $out, $err) = tl(['claim', 's', '--db', "$db options='-c default_transaction_isolation=serializable'"]);
is "$rc $out", '2 ', 'wrong isolation level: 2' or diag $err;

# Quiet and verbose, and results only on stdout.
($rc, $out, $err) = tl(['claim', 's', '--db', $db]);
is "$out$err", "trunkline: nothing to claim\n", 'notes go to stderr';
is((tl(['claim', 's', '--db', $db, '-q']))[2], '', '-q leaves them out');

done_testing;
