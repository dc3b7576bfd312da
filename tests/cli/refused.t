#!/usr/bin/env perl
# What no command can do is refused before anything happens, with the option named (2), as is what is not there (5).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;

my @refused = (
    [2, 'TYPE and --type exclude each other', 'publish', 'a.b', '1', '--type', 'a.c'],
    [2, 'more than 64 --types', 'read', '--types', join ',', ('a.b') x 65],
    [2, '--concurrency is a number from 1 to 1000', 'serve', '--concurrency', 0],
    [2, '--concurrency is a number from 1 to 1000', 'serve', '--concurrency', 1001],
    [2, 'unexpected argument "7"', 'replay', 'list', 7],
    [2, 'replay start needs SUBSCRIPTION', 'replay', 'start'],
    [2, 'replay cancel needs the number of a replay', 'replay', 'cancel'],
    [2, 'replay start needs --from', 'replay', 'start', 's'],
    [2, '--max-event-bytes is at most 2147483647', 'topics', 'create', 't', '--max-event-bytes', 2147483648],
    [2, 'unexpected argument "t"', 'topics', 'list', 't'],
    [2, 'topics show needs NAME', 'topics', 'show'],
    [2, '--streams goes with topics create', 'topics', 'list', '--streams'],
    [2, 'the number of a secret is a whole number, not "one"', 'webhook', 'secret', 'revoke', 's', 'one'],
    [5, 'there is no "nobody"', 'subscriptions', 'show', 'nobody'],
);
for (@refused) {
    my ($code, $why, @arguments) = @$_;
    my ($rc, $out, $err) = tl(\@arguments);
    my $shown = substr "@arguments", 0, 60;
    is "$rc $out", "$code ", "exit code of: $shown";
    like $err, qr/\Atrunkline: error: \Q$why\E/, 'says why';
}
is query($db, 'SELECT (SELECT count(*) FROM trunkline.events) + (SELECT count(*) FROM trunkline.subscriptions)'), 0, 'nothing has happened';

# Nothing to do is no error.
is tl_ok(['publish', '--ndjson'], stdin => ''), "published 0 events\n", 'an empty input publishes nothing';
tl_ok(['append', "s-$_", 'a.b', '1']) for 1 .. 3;
my ($rc, $out, $err) = tl(['streams', 'list', '--limit', 2]);
is $rc, 0, 'a part of a list';
like $err, qr/^trunkline: there may be more: --after 's-2'$/m, 'says how to go on';
($rc, $out, $err) = tl(['streams', 'list', '--limit', 4]);
is $err, '', 'the whole list has nothing to add';

done_testing;
