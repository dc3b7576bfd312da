#!/usr/bin/env perl
# trunkline read and tail: order, patterns, tenants, live without a gap (PAT-1..3, PAT-7, EVS-8, WAK-1).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $bin = $ENV{TRUNKLINE_BIN};
sub positions { return join ',', map { decode($_)->{position} } split /\n/, $_[0] }
sub types { return join ',', map { decode($_)->{type} } split /\n/, $_[0] }

is tl_ok(['read']), '', 'an empty log';
my @input = (
    ['shop.order.created', 'acme'], ['shop.order.paid', 'acme'], ['shop.order', undef],
    ['shop.item.created', 'other'], ['bank.order.created', 'acme'], ['shop', undef],
);
tl_ok(['publish', '--ndjson'], stdin => join '', map {
    my $tenant = $_->[1] ? qq("$_->[1]") : 'null';
    qq({"type":"$_->[0]","data":{"text":"line\\nbreak \\u001b[31m"},"key":"k","tenant_id":$tenant}\n)
} @input);

my $out = tl_ok(['read', '--json']);
is positions($out), '1,2,3,4,5,6', 'all, in order';
is_deeply [sort keys %{decode((split /\n/, $out)[0])}],
    [qw(created_at data expires_at id key metadata position source stream tenant_id type version)], 'shape of an event';
$out = tl_ok(['read']);
is scalar(() = $out =~ /\n/g), 6, 'for people: a line each';
unlike $out, qr/\x1b/, 'and no control characters of a payload';
like $out, qr/^ +1  \d{4}-\d\d-\d\dT[\d:.]+Z  shop\.order\.created  key=k  \{"text": "line\\nbreak/, 'position, time, type, key, data';
is types(tl_ok(['read', '--json', '-p', 'shop.order.*'])), 'shop.order.created,shop.order.paid', 'PAT-2';
is types(tl_ok(['read', '--json', '--pattern', '*.*.created'])),
    'shop.order.created,shop.item.created,bank.order.created', 'PAT-2 anywhere';
is positions(tl_ok(['read', '--json', '--pattern', 'shop.**'])), '1,2,3,4', 'PAT-3';
is positions(tl_ok(['read', '--json', '--pattern', '**'])), '1,2,3,4,5,6', 'everything';
is positions(tl_ok(['read', '--json', '--pattern', 'shop'])), '6', 'PAT-1';
is positions(tl_ok(['read', '--json', '--tenant', 'acme'])), '1,2,5', 'PAT-7 tenant';
is positions(tl_ok(['read', '--json', '--after', 2, '-n', 2])), '3,4', 'after and limit';
is tl_ok(['read', '--after', 999]), '', 'after the end';
is tl_ok(['read', '--limit', 0]), '', 'limit 0';
is tl_ok(['read', '--topic', 'store']), '', 'another topic';
is +(tl(['read', '--topic', 'nowhere']))[0], 5, 'unknown topic: 5';
is +(tl(['read', '--pattern', 'a..b']))[0], 2, 'malformed pattern: 2';
is +(tl(['read', '--pattern', '**.a']))[0], 2, 'malformed pattern: 2';

# More than one page, and a rare pattern.
tl_ok(['publish', '--ndjson', '--topic', 'store'], stdin => join '', map {
    sprintf qq({"type":"%s","data":%d}\n), $_ == 11_500 ? 'rare.one' : 'common', $_
} 1 .. 12_000);
is positions(tl_ok(['read', '--topic', 'store', '--json', '--pattern', 'rare.*'])), '11500', 'a rare type far away';
my @all = split /\n/, tl_ok(['read', '--topic', 'store', '--json', '-n', 20000]);
is scalar @all, 12000, 'pages';
is decode($all[-1])->{position}, 12000, 'to the end';

# Tail.
is positions(tl_ok(['tail', '--from', 'beginning', '-n', 4, '--json'])), '1,2,3,4', 'tail from the beginning';
is positions(tl_ok(['tail', '--from', 4, '-n', 2, '--json', '-q'])), '5,6', 'tail from a position';
is +(tl(['tail', '--from', 'yesterday']))[0], 2, 'from nowhere: 2';

# Live: from the end, while several publishers are at it. Nothing lost, nothing twice, in order.
my $tail = start_program([$bin, 'tail', '--json', '--pattern', 'live.**', '-n', 400]);
ok wait_for(sub { slurp($tail->{err}) =~ /waiting for events after position 6;/ }), 'tail waits at the end';
my @publishers = map {
    my $n = $_;
    start_program([$bin, 'publish', '--ndjson'], stdin => join '', map { qq({"type":"live.p$n","data":$_}\n) } 1 .. 50);
} 1 .. 4;
tl_ok(['publish', 'live.single', $_]) for 1 .. 10;
push @publishers, map {
    my $n = $_;
    start_program([$bin, 'publish', '--ndjson'], stdin => join '', map { qq({"type":"live.q$n","data":$_}\n) } 1 .. 50);
} 1 .. 4;
wait_exit($_) for @publishers;
is scalar(grep { $_->{rc} } @publishers), 0, 'the publishers are done';
ok wait_for(sub { (() = slurp($tail->{out}) =~ /\n/g) >= 400 }), 'tail has 400 events' or diag slurp($tail->{err});
is wait_exit($tail), 0, 'and stops';
my @live = map { decode($_)->{position} } split /\n/, slurp($tail->{out});
is_deeply \@live, [(sort { $a <=> $b } @live)], 'in order';
is join(',', @live), query($db, q(SELECT string_agg(position::text, ',' ORDER BY position) FROM
    (SELECT position FROM trunkline.topic_bus WHERE type LIKE 'live.%' ORDER BY position LIMIT 400) s)),
    'exactly the first 400';

# A transaction that commits late is waited for, not skipped.
my $late = start_program([$bin, 'tail', '--json', '--pattern', 'late.*', '-n', 2]);
ok wait_for(sub { slurp($late->{err}) =~ /waiting/ }), 'tail waits';
my ($session, $sql) = psql_session($db);
print {$sql} "BEGIN; SELECT position FROM trunkline.publish('late.first', '1');\n";
ok wait_for(sub { slurp($session->{out}) =~ /\d/ }), 'an open transaction has published';
tl_ok(['publish', 'late.second', '2']);
is tl_ok(['read', '--json', '--pattern', 'late.*']), '', 'nothing can be read past it';
print {$sql} "COMMIT;\n";
close $sql;
wait_exit($session);
is wait_exit($late), 0, 'after the commit';
is types(slurp($late->{out})), 'late.first,late.second', 'both come, in order';

# Signals end it in the ordinary way.
$tail = start_program([$bin, 'tail']);
ok wait_for(sub { slurp($tail->{err}) =~ /waiting/ }), 'tail waits';
is stop_program($tail, 'INT'), 0, 'ctrl-c: exit code 0';

# A connection that is cut is made again, and nothing is missed.
$tail = start_program([$bin, 'tail', '--json', '-n', 2, '--pattern', 'cut.*']);
ok wait_for(sub { slurp($tail->{err}) =~ /waiting/ }), 'tail waits';
tl_ok(['publish', 'cut.before', '1']);
ok wait_for(sub { slurp($tail->{out}) =~ /cut\.before/ }), 'it gets an event';
query($db, q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trunkline tail'));
tl_ok(['publish', 'cut.after', '2']);
is wait_exit($tail), 0, 'after its connection was cut';
is types(slurp($tail->{out})), 'cut.before,cut.after', 'WAK-4 it goes on where it was';

done_testing;
