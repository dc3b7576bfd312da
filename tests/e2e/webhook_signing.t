#!/usr/bin/env perl
# Signatures of webhooks: keys by the program, what arrives verified by the library of the Standard
# Webhooks specification and by the program itself; sign, verify, listen (SUB-11).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $receiver = receiver();
my $url = $receiver->{url};
sub requests { return $receiver->{requests}->(@_) }
my $served = sub { my ($serve, $name, $times) = @_; return wait_for(sub { (() = slurp($serve->{err}) =~ /event=served subscription=\Q$name\E /g) >= ($times // 1) }) };
chomp(my $modules = qx("@{[source_dir()]}/tools/node-modules"));
$ENV{NODE_MODULES_DIR} = $modules;

# Verify requests by another implementation.
sub node {
    my ($kind, $key, @requests) = @_;
    my $program = start_program(['node', source_dir() . '/tests/node/webhooks.js', $kind, $key // ()],
        stdin => join '', map { JSON::PP->new->utf8->encode($_) . "\n" } @requests);
    is wait_exit($program), 0, 'node runs' or diag slurp($program->{err});
    return map { decode($_) } split /\n/, slurp($program->{out});
}

# Keys.
tl_ok(['subscribe', 'hooks/a', 'shop.**', '--target', "$url/ok/a"]);
my ($rc, $out, $err) = tl(['subscribe', 'hooks/a', 'shop.**', '--target', "$url/ok/a"]);
like $err, qr/requests will not be signed: see trunkline webhook secret create hooks\/a/, 'subscribe says that there is no key';
like tl_ok(['doctor']), qr/^webhooks +note +hooks\/a: requests to it are not signed/m, 'and so does doctor';
($rc, $out, $err) = tl(['webhook', 'secret', 'create', 'hooks/a']);
is $rc, 0, 'secret create';
chomp(my $secret = $out);
like $secret, qr{^whsec_[A-Za-z0-9+/]{43}=$}, 'shows the key on stdout';
like $err, qr/only time/, 'and that it will not be shown again';
unlike +(tl(['subscribe', 'hooks/a', 'shop.**', '--target', "$url/ok/a"]))[2], qr/not be signed/, 'nothing to say any more';
like tl_ok(['doctor']), qr/^webhooks +ok +1$/m, 'doctor is content';
is +(tl(['webhook', 'secret', 'create', 'hooks/a']))[0], 4, 'create twice: conflict';
my $public = decode(tl_ok(['webhook', 'secret', 'create', 'hooks/a', '--scheme', 'v1a', '--json']));
is $public->{scheme}, 'v1a', 'an Ed25519 key';
like $public->{public_key}, qr{^whpk_[A-Za-z0-9+/]{43}=$}, 'shows its public key';
ok !exists $public->{secret}, 'and nothing else';
my $listed = tl_ok(['webhook', 'secret', 'list', 'hooks/a']) . tl_ok(['webhook', 'secret', 'list', 'hooks/a', '--json']) . tl_ok(['webhook', 'status', 'hooks/a', '--json']);
unlike $listed, qr/whsec_|whsk_/, 'secret list shows no key';
like $listed, qr/^1 +v1 +current .*\n2 +v1a +current .* whpk_/m, 'but that they are there';

# What arrives.
my $serve = start_serve($db, ['--allow-private']);
ok $served->($serve, 'hooks/a'), 'served';
my @bodies = ('{"total": 12.50, "n": 9007199254740993}', '"gr\u00fc\u00df \"e\""', 'null', '[]');
tl_ok(['publish', 'shop.order.created', $_]) for @bodies;
ok wait_for(sub { requests('/ok/a') == @bodies }), 'delivered';
my @got = requests('/ok/a');
is scalar(grep { $_->{headers}{'webhook-signature'} =~ m{^v1a,\S+ v1,\S+$} } @got), scalar @bodies, 'one signature of each key';
my @verified = node('v1', $secret, @got);
is_deeply [map { $_->{payload}{type} } @verified], [('shop.order.created') x @bodies], 'SUB-11 verified by the library standardwebhooks' or diag explain \@verified;
is_deeply [map { $_->{payload}{id} . '.1' } @verified], [map { $_->{headers}{'webhook-id'} } @got], 'the body is the event that the id names';
is_deeply [map { $_->{verified} } node('v1a', $public->{public_key}, @got)], [(JSON::PP::true) x @bodies], 'SUB-11 Ed25519 verified by Node.js';
my @tampered = map { {%$_, body => $_->{body} . ' '} } @got;
is scalar(grep { $_->{error} } node('v1', $secret, @tampered), node('v1a', $public->{public_key}, @tampered)), 2 * @bodies, 'and not when a byte is added';

# verify and sign by the program.
my ($one) = @got;
my @headers = map { ("--$_" => $one->{headers}{"webhook-$_"}) } qw(id timestamp signature);
is tl_ok(['webhook', 'verify', '--secret', $secret, @headers], stdin => $one->{body}), "verified\n", 'webhook verify';
is tl_ok(['webhook', 'verify', '--json', @headers], stdin => $one->{body}, env => {TRUNKLINE_WEBHOOK_SECRET => "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA $public->{public_key}"}), qq({"verified":true}\n), 'with keys from the environment';
($rc, $out, $err) = tl(['webhook', 'verify', '--secret', $secret, @headers], stdin => $one->{body} . "\n");
is "$rc|$out", '13|', 'another body: 13';
like $err, qr/not verified: no signature fits/, 'and why';
unlike $err, qr/whsec_/, 'without the key';
my $old = tl_ok(['webhook', 'sign', '--secret', $secret, '--id', 'msg_1', '--timestamp', '1614265330'], stdin => '{}');
my ($signature) = $old =~ /\Awebhook-id: msg_1\nwebhook-timestamp: 1614265330\nwebhook-signature: (v1,\S+)\n\z/;
ok $signature, 'webhook sign' or diag $old;
my @signed = ('--secret', $secret, '--id', 'msg_1', '--timestamp', '1614265330', '--signature', $signature);
like +(tl(['webhook', 'verify', @signed], stdin => '{}'))[2], qr/too old/, 'an old timestamp is refused';
is tl_ok(['webhook', 'verify', @signed, '--any-time'], stdin => '{}'), "verified\n", '--any-time';
is tl_ok(['webhook', 'verify', @signed, '--tolerance', '30000d'], stdin => '{}'), "verified\n", '--tolerance';
my $now = decode(tl_ok(['webhook', 'sign', '--secret', $secret, '--secret', 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', '--id', 'msg_2', '--json'], stdin => 'x'));
cmp_ok abs($now->{'webhook-timestamp'} - time), '<', 60, 'the timestamp is now';
like $now->{'webhook-signature'}, qr/^v1,\S+ v1,\S+$/, 'two keys, two signatures';
is +(tl($_->[0], stdin => ''))[0], 2, $_->[1] for
    [['webhook', 'sign', '--id', 'x'], 'sign without a key: 2'], [['webhook', 'sign', '--secret', $secret], 'without an id: 2'],
    [['webhook', 'sign', '--secret', 'whsec_x', '--id', 'x'], 'with half a key: 2'], [['webhook', 'verify', '--secret', 'x', @headers], 'verify with none: 2'],
    [['webhook', 'sign', '--limit', 3], 'an option of another action: 2'], [['webhook', 'status', '--failed'], 'again'],
    [['webhook', 'secret', 'make', 'hooks/a'], 'no such action: 2'], [['webhook', 'secret', 'create'], 'no name: 2'], [['webhook', 'secret', 'revoke', 'hooks/a'], 'no number: 2'],
    [['webhook', 'secret', 'create', 'hooks/a', '3'], 'a number too many: 2'], [['webhook', 'secret', 'create', 'hooks/a', '--grace', '1h'], 'grace goes with rotate: 2'],
    [['webhook', 'status', 'a', 'b'], 'too many arguments: 2'];
is +(tl(['webhook', 'secret', 'create', 'nobody']))[0], 5, 'no such subscription: 5';
is +(tl(['webhook', 'verify', '--secret', $secret, @headers[0 .. 3]], stdin => $one->{body}))[0], 13, 'no signature: 13';

# Rotation: both sign, then the new one alone.
chomp(my $second = tl_ok(['webhook', 'secret', 'rotate', 'hooks/a', '--grace', '1h']));
isnt $second, $secret, 'rotate: another key';
ok $served->($serve, 'hooks/a', 2), 'taken up without a restart';
tl_ok(['publish', 'shop.order.changed', '1']);
ok wait_for(sub { requests('/ok/a') == @bodies + 1 }), 'delivered';
my $last = (requests('/ok/a'))[-1];
is scalar(() = $last->{headers}{'webhook-signature'} =~ /v1,/g), 2, 'two keys sign in the grace';
is scalar(grep { $_->{payload} } node('v1', $_, $last)), 1, 'each verifies' for $secret, $second;
tl_ok(['webhook', 'secret', 'rotate', 'hooks/a', '--grace', '0']);
my ($current) = map { $_->{secret_id} } grep { $_->{state} eq 'current' && $_->{scheme} eq 'v1' } map { decode($_) } split /\n/, tl_ok(['webhook', 'secret', 'list', 'hooks/a', '--json']);
is tl_ok(['webhook', 'secret', 'revoke', 'hooks/a', 1]), "revoked 1, 2 left\n", 'revoke';
ok $served->($serve, 'hooks/a', 3), 'taken up';
ok wait_for(sub {
    my $n = requests('/ok/a');
    tl_ok(['publish', 'shop.order.changed', '1']);
    wait_for(sub { requests('/ok/a') > $n });
    $last = (requests('/ok/a'))[-1];
    return (() = $last->{headers}{'webhook-signature'} =~ /v1,/g) == 1;
}), 'one key signs';
is scalar(grep { $_->{error} } map { node('v1', $_, $last) } $secret, $second), 2, 'what was replaced and revoked does not';
tl_ok(['webhook', 'secret', 'revoke', 'hooks/a', $_]) for $current, 2;
ok wait_for(sub {
    my $n = requests('/ok/a');
    tl_ok(['publish', 'shop.order.changed', '1']);
    wait_for(sub { requests('/ok/a') > $n });
    return !exists((requests('/ok/a'))[-1]{headers}{'webhook-signature'});
}), 'without a key requests are not signed';
unlike slurp($serve->{err}), qr/whsec_|whsk_/, 'no key is logged';

# A daemon whose role may not read keys serves no webhooks.
my $role = "tl_e2e_hook_$$";
query($db, "CREATE ROLE $role LOGIN; SELECT trunkline.grant_consume('$role')");
my $poor = start_program([$ENV{TRUNKLINE_BIN}, 'serve', '--allow-private', '--db', "$db user=$role"]);
ok wait_for(sub { slurp($poor->{err}) =~ /event=not_served subscription=hooks\/a .*grant_serve/ }), 'a role that may not read keys serves none';
query($db, "SELECT trunkline.grant_serve('$role')");
ok $served->($poor, 'hooks/a'), 'grant_serve() lets it';
is stop_program($poor), 0, 'stop';
query($db, "DROP OWNED BY $role; DROP ROLE $role");

# The retry has the same id, a new timestamp and so another signature.
tl_ok(['subscribe', 'hooks/again', 'again.*', '--target', "$url/fail/1/again", '--backoff', 'fixed', '--retry-delay', '1100ms']);
chomp(my $again = tl_ok(['webhook', 'secret', 'create', 'hooks/again']));
ok taken_up($serve, $db), 'another one is served, with its key';
tl_ok(['publish', 'again.one', '1']);
ok wait_for(sub { requests('/fail/1/again') == 2 }), 'tried twice';
my @tries = requests('/fail/1/again');
is $tries[0]{headers}{'webhook-id'}, $tries[1]{headers}{'webhook-id'}, 'the same webhook-id';
cmp_ok $tries[1]{headers}{'webhook-timestamp'}, '>', $tries[0]{headers}{'webhook-timestamp'}, 'the time of the attempt';
is scalar(grep { $_->{payload} } node('v1', $again, @tries)), 2, 'both verify';

# listen.
my $listener = start_program([$ENV{TRUNKLINE_BIN}, 'webhook', 'listen', '--json', '--fail', 1, '--secret', $again]);
my $port;
ok wait_for(sub { slurp($listener->{err}) =~ m{listening on http://127\.0\.0\.1:(\d+)/\n} && ($port = $1) }), 'webhook listen';
tl_ok(['subscribe', 'hooks/again', 'again.*', '--target', "http://127.0.0.1:$port/hook", '--backoff', 'fixed', '--retry-delay', '10ms']);
ok taken_up($serve, $db), 'is a target';
tl_ok(['publish', 'again.two', '{"x": 1}']);
my @heard;
ok wait_for(sub { @heard = map { decode($_) } split /\n/, slurp($listener->{out}); @heard == 2 }), 'it prints what comes';
is_deeply [map { [@$_{qw(verdict status request path)}] } @heard], [['verified', 500, 1, '/hook'], ['verified', 204, 2, '/hook']], 'verified; --fail answers 500 first';
is decode($heard[1]{body})->{data}{x}, 1, 'with the body';
my $curl = sub { my (@more) = @_; my $p = start_program(['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', @more, "http://127.0.0.1:$port/"]); wait_exit($p); return slurp($p->{out}) };
is $curl->('-d', 'x'), '401', 'unsigned: 401';
is $curl->('-d', $heard[1]{body}, '-H', "webhook-id: $heard[1]{'webhook-id'}", '-H', "webhook-timestamp: $heard[1]{'webhook-timestamp'}", '-H', 'webhook-signature: v1,AAAA'), '401', 'badly signed: 401';
is $curl->(), '405', 'GET: 405';
like slurp($listener->{out}), qr/"verdict":"refused","why":"no signature fits"/, 'and why';
is stop_program($listener, 'INT'), 0, 'SIGINT ends it';
$listener = start_program([$ENV{TRUNKLINE_BIN}, 'webhook', 'listen', '--status', 503, '--count', 2, '--port', $port]);
ok wait_for(sub { slurp($listener->{err}) =~ m{:\Q$port\E/, without a key} }), '--port; without a key it says so';
is $curl->('-d', "\e[31mred"), '503', '--status';
is $curl->('-d', 'x', '-H', 'webhook-id: w1'), '503', 'not checked';
is wait_exit($listener), 0, '--count ends it';
like slurp($listener->{out}), qr/not checked  -  request 1  answered 503\n  [^\e]*\n.*not checked  w1  request 1  answered 503\n  x\n/, 'printed for people, control characters not';
is +(tl(['webhook', 'listen', '--secret', 'nonsense']))[0], 2, 'a malformed key: 2';
is +(tl(['webhook', 'listen', '--port', 70000]))[0], 2, 'a port that is none: 2';
is +(tl(['webhook', 'listen', '--status', 99]))[0], 2, 'a status that is none: 2';
is stop_program($serve), 0, 'stop';
stop_program($receiver);
done_testing;
