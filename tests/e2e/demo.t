#!/usr/bin/env perl
# trunkline demo: from nothing, on a configured database, again, and with a port in use.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use IO::Socket::INET;
use Test::More;
use TrunklineTest;

my %env = (TRUNKLINE_DATA_DIR => workdir() . '/pg');
my ($rc, $out, $err) = tl(['demo', '--for', '2s'], env => \%env);
is $rc, 0, 'from nothing: exit code 0' or diag $err;
like $out, qr/^published \d+ events: 335 at once, \d+ at [\d.]+\/s$/m, 'the table';
my %row = $out =~ /^(demo\/\w+) +.*? {2}(github\S+ +\d+ +\d+) +[\d.]+ +[\d.]+$/mg;
is scalar(keys %row), 3, 'three subscriptions';
for my $name (sort keys %row) {
    my (undef, $selected, $delivered) = split / +/, $row{$name};
    is $delivered, $selected, "$name: everything";
}
like $out, qr/^all right: /m, 'checked';
like tl_ok(['read', '--topic', 'demo', '-n', 1], env => \%env), qr/github\./, 'the events stay for a look';
is tl_ok(['subscriptions', '--json'], env => \%env), '', 'the subscriptions do not';

# On a configured database, twice.
my $db = new_database('--empty');
for my $time (1, 2) {
    my $result = decode(tl_ok(['demo', '--for', '1s', '--rate', 100, '--json', '--db', $db]));
    cmp_ok $result->{published}, '>', 335, "configured database, time $time";
    is_deeply [map { $_->{name} } @{$result->{subscriptions}}], [qw(demo/webhook demo/open_issues demo/count)], 'its shape';
    is scalar(grep { $_->{selected} != $_->{delivered} || $_->{p50_us} < 0 } @{$result->{subscriptions}}), 0, 'all delivered, all measured';
    is $result->{repositories}, 2, 'open issues of two repositories';
}
is query($db, q(SELECT repository, events > 30 FROM trunkline_demo.demo_open_issues ORDER BY 1)),
    "Codertocat/Hello-World|t\nocto-org/octo-repo|f", 'the table of open issues';

# Port in use; a schema that is not the demo's.
my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1, Proto => 'tcp') or die;
my $port = $socket->sockport;
($rc, $out, $err) = tl(['demo', '--port', $port, '--db', $db]);
is "$rc $out", '4 ', 'port in use: 4';
is $err, "trunkline: error: port $port is in use\nhint: leave --port out to take any free one\n", 'says so';
query($db, q(DROP SCHEMA trunkline_demo CASCADE; CREATE SCHEMA trunkline_demo));
($rc, $out, $err) = tl(['demo', '--db', $db]);
isnt $rc, 0, 'a schema of that name that is not ours';
like $err, qr/was not made by the demo/, 'is not touched';
query($db, 'DROP SCHEMA trunkline_demo');

# --stay, until it is told to go.
my $stay = start_program([$ENV{TRUNKLINE_BIN}, 'demo', '--stay', '--for', '1s', '--db', $db]);
ok wait_for(sub { slurp($stay->{out}) =~ /the daemon stays up/ }), '--stay' or diag slurp($stay->{err});
tl_ok(['publish', '--topic', 'demo', 'github.issues.opened', '{"action":"opened","repository":{"full_name":"me/mine"},"issue":{"number":1}}', '--db', $db]);
ok wait_for(sub { query($db, q(SELECT open FROM trunkline_demo.demo_open_issues WHERE repository = 'me/mine')) eq '1' }), 'events go on flowing';
is stop_program($stay, 'INT'), 0, 'ctrl-c: exit code 0';

done_testing;
