#!/usr/bin/env perl
# trunkline publish --wait: what the subscriptions of mode sync did (PUB-9, SUB-4).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $bin = $ENV{TRUNKLINE_BIN};

my ($rc, $out, $err) = tl(['publish', 'a', '1', '--wait', '20s']);
is "$rc $err", '0 ', 'nobody to wait for';
like $out, qr/^1 [0-9a-f-]{36}\n\z/, 'the receipt alone';
is_deeply decode(tl_ok(['publish', 'a', '1', '--wait', '20s', '--json']))->{outcomes}, [], 'none as JSON';

tl_ok(['subscribe', 'pull/one', 'a', '--mode', 'sync', '--max-attempts', 1]);
tl_ok(['subscribe', 'async', '**']);
($rc, $out, $err) = tl(['publish', 'a', '1', '--wait', '1s']);
is $rc, 7, 'PUB-9 time is up: 7';
like $out, qr/^\d+ [0-9a-f-]{36}\nSUBSCRIPTION +STATE +ATTEMPTS +ERROR\npull\/one +pending +- +-\n\z/, 'what is known is printed';
like $err, qr/^trunkline: error: event is stored, but not handled within 1000 ms by "pull\/one"\n/, 'and who has not handled it';
like $err, qr/^hint: .*do not publish it again/m, 'with what to do';
is query($db, 'SELECT count(*) FROM trunkline.topic_bus'), 3, 'it is stored';
my $claimed = decode(tl_ok(['claim', 'pull/one', '--json']));
tl_ok(['ack', $claimed->{token}]);

# Handled while it waits.
my $waiting = start_program([$bin, 'publish', 'a', '2', '--wait', '30s', '--json']);
my $token;
ok wait_for(sub { my (undef, $json) = tl(['claim', 'pull/one', '--json']); $token = $json =~ /"token":\s*"([^"]+)"/ ? $1 : undef }), 'claimed';
tl_ok(['ack', $token]);
is wait_exit($waiting), 0, 'PUB-9 handled: 0';
is_deeply decode(slurp($waiting->{out}))->{outcomes}, [{subscription => 'pull/one', state => 'completed', active => JSON::PP::true, attempts => 0, error => undef}], 'the shape of --json';

# Given up.
$waiting = start_program([$bin, 'publish', 'a', '3', '--wait', '30s']);
my $json;
ok wait_for(sub { (undef, $json) = tl(["claim", "pull/one", "--json"]); $json =~ /"token":\s*"/ }), 'claimed';
$claimed = decode((split /\n/, $json)[0]);
my $position = query($db, 'SELECT max(position) FROM trunkline.topic_bus');
tl_ok(['ack', $claimed->{token}, '--fail', $position, '--error', 'no such order']);
is wait_exit($waiting), 14, 'PUB-9 given up: 14';
like slurp($waiting->{out}), qr/^pull\/one +failed +1 +no such order$/m, 'with the error';
like slurp($waiting->{err}), qr/given up by "pull\/one"/, 'and who did';

# Refused by a function.
query($db, q(CREATE FUNCTION public.f(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no stock'; END $$));
tl_ok(['subscribe', 'shop/stock', 'order', '--mode', 'sync', '--target', 'sql:public.f']);
($rc, $out, $err) = tl(['publish', 'order', '{"secret": 1}', '--wait', '30s']);
is "$rc $out", '14 ', 'SUB-4 refused: 14, nothing printed';
like $err, qr/^trunkline: error: subscription "shop\/stock" refused an event of type order: no stock$/m, 'by name';
unlike $err, qr/secret/, 'never the payload';
($rc, $out, $err) = tl(['publish', 'order', '1']);
is $rc, 14, 'without --wait too';

# Paused ones are shown and not waited for.
query($db, q(UPDATE trunkline.subscriptions SET active = false WHERE name = 'pull/one'));
like tl_ok(['publish', 'a', '4', '--wait', '30s']), qr/^pull\/one +paused/m, 'a paused one';

for my $case (['--wait with --ndjson', qr/--wait does not go/, ['a', '--ndjson', '--wait', '1s']], ['no time', qr/--wait/, ['a', '1', '--wait', '0s']],
    ['no duration', qr/wait/, ['a', '1', '--wait', 'soon']]) {
    ($rc, $out, $err) = tl(['publish', @{$case->[2]}]);
    is "$rc $out", '2 ', "$case->[0]: 2";
    like $err, $case->[1], "$case->[0]: says so";
}
done_testing;
