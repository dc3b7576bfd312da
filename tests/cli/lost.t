#!/usr/bin/env perl
# The connection dies while a command waits for the answer: 3, and that its outcome is unknown, never that it failed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my ($session, $sql) = psql_session($db);
# Where the rows go, so that they wait when they are executed, not when they are prepared.
print {$sql} q(BEGIN; DO $$ DECLARE leaf regclass; BEGIN FOR leaf IN SELECT relid FROM unnest('{trunkline.topic_bus,trunkline.topic_store}'::regclass[]) t,
    pg_partition_tree(t) WHERE isleaf LOOP EXECUTE 'LOCK TABLE ' || leaf || ' IN ACCESS EXCLUSIVE MODE'; END LOOP; END $$; SELECT 'locked';), "\n";
ok wait_for(sub { slurp($session->{out}) =~ /locked/ }), 'somebody holds the leaves of the topics';

for (['publish', 'a.b', '1'], ['publish', '--ndjson'], ['append', 's-1', 'A', '1'], ['append', 's-2', '--batch']) {
    my @arguments = @$_;
    my $waiting = start_program([$ENV{TRUNKLINE_BIN}, @arguments], stdin => qq({"type":"a.b","data":1}\n));
    my $pid = wait_for(sub { query($db, q(SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'trunkline%' AND wait_event_type = 'Lock')) });
    ok $pid, "@arguments waits";
    query($db, "SELECT pg_terminate_backend($pid)");
    is wait_exit($waiting), 3, 'its connection is lost: 3';
    is slurp($waiting->{out}), '', 'nothing is said to be stored';
    like slurp($waiting->{err}), qr/outcome .*is unknown/, 'the outcome is unknown';
}
close $sql;
wait_exit($session);
is query($db, 'SELECT (SELECT count(*) FROM trunkline.topic_bus) + (SELECT count(*) FROM trunkline.topic_store)'), 0, 'these were not stored';

done_testing;
