#!/usr/bin/env perl
# trunkline serve with webhooks: what is sent, what counts as delivered, what is refused, how it stops
# (SUB-11, WRK-2, WRK-11).
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
sub subscribe { my ($name, $pattern, $target, @more) = @_; return tl_ok(['subscribe', $name, $pattern, '--target', $target, @more]) }
sub pending { return query($db, "SELECT behind + leased + retrying FROM trunkline.subscription_status WHERE name = '$_[0]'") }
sub last_error { return query($db, "SELECT error_message FROM trunkline.retries r JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = '$_[0]'") }
sub served { my ($serve, $name) = @_; return wait_for(sub { slurp($serve->{err}) =~ /event=served subscription=\Q$name\E / }) }

# What is sent.
subscribe('hooks/ok', 'shop.**', "$url/ok");
my $serve = start_serve($db, ['--webhook-allow', '10.0.0.0/8,127.0.0.1/32']);
my $published = decode(tl_ok(['publish', 'shop.order.created', qq({"text": "gr\xc3\xbc\xc3\x9fe", "n": 9007199254740993}), '--key', 'k', '--tenant', 't', '--json']));
ok wait_for(sub { requests('/ok') == 1 }), 'a webhook is delivered';
my ($request) = requests('/ok');
my $headers = $request->{headers};
my $body = decode(JSON::PP->new->utf8->encode([$request->{body}]))->[0];
utf8::encode($body);
is $headers->{'content-type'}, 'application/json', 'content type';
like $headers->{'user-agent'}, qr{^trunkline/\d+\.\d+\.\d+$}, 'user agent';
like $headers->{'webhook-id'}, qr/^\Q$published->{id}\E\.\d+$/, 'webhook-id is the delivery id';
cmp_ok abs($headers->{'webhook-timestamp'} - time), '<', 60, 'webhook-timestamp in seconds';
my $event = decode($body);
is_deeply [@$event{qw(position id type key tenant_id)}], [1, $published->{id}, 'shop.order.created', 'k', 't'], 'the body is the event';
like $body, qr/9007199254740993/, 'numbers exact';
is $event->{data}{text}, "gr\x{fc}\x{df}e", 'text exact';
ok wait_for(sub { pending('hooks/ok') eq '0' }), 'and it is settled';

# Only 2xx counts; the same id again; the error is kept.
subscribe('hooks/fail', 'flaky.*', "$url/fail/2", '--retry-delay', '1ms');
kill 'HUP', $serve->{pid};
ok served($serve, 'hooks/fail'), 'SIGHUP: a new subscription is served at once';
tl_ok(['publish', 'flaky.one', '1']);
ok wait_for(sub { pending('hooks/fail') eq '0' }), 'a 500 is tried again until it is delivered';
my @ids = map { $_->{headers}{'webhook-id'} } requests('/fail/2');
is scalar(@ids), 3, 'three attempts';
is scalar(grep { $_ eq $ids[0] } @ids), 3, 'with one webhook-id';
like slurp($serve->{err}), qr/level=warn event=delivery_failed subscription=hooks\/fail .*attempt=1 result=retry reason="HTTP 500"/, 'logged';
unlike slurp($serve->{err}), qr/out of order/, 'without what the receiver said';

# Redirects are not followed.
subscribe('hooks/redirect', 'moved.*', "$url/redirect", '--retry-delay', '1h');
tl_ok(['publish', 'moved.one', '1']);
ok wait_for(sub { last_error('hooks/redirect') ne '' }), 'a redirect is a failure';
is last_error('hooks/redirect'), 'HTTP 302', 'named';
is scalar(requests('/redirect')), 1, 'asked once';
is scalar(grep { $_->{path} =~ /target/ } requests()), 0, 'and not followed';

# A long answer is an answer.
subscribe('hooks/big', 'big.*', "$url/big");
tl_ok(['publish', 'big.one', '1']);
ok wait_for(sub { requests('/big') >= 1 && pending('hooks/big') eq '0' }), 'an answer of a megabyte';
is scalar(requests('/big')), 1, 'is not asked for again';

# Retry-After within the policy's bounds: base 100 s, twice that at most.
subscribe('hooks/later', 'later.*', "$url/retry-after/150", '--retry-delay', '100s');
tl_ok(['publish', 'later.one', '1']);
ok wait_for(sub { last_error('hooks/later') ne '' }), 'a 503 with Retry-After';
my $wait = query($db, q(SELECT extract(epoch FROM next_attempt_at - last_error_at)::int FROM trunkline.retries r
    JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = 'hooks/later'));
cmp_ok $wait, '>=', 149, 'is waited for';
cmp_ok $wait, '<=', 200, 'within bounds';

# One that never answers holds up only itself.
my $gate = workdir() . '/gate';
subscribe('hooks/slow', 'shop.**', "$url/hold$gate", '--ordering', 'none');
ok served($serve, 'hooks/slow'), 'a slow endpoint';
tl_ok(['publish', '--ndjson'], stdin => join '', map { qq({"type":"shop.x.y","data":$_}\n) } 1 .. 40);
ok wait_for(sub { pending('hooks/ok') eq '0' }), 'does not hold up the others';
is scalar(requests('/ok')), 41, 'they have everything';
ok wait_for(sub { requests("/hold$gate") >= 1 }), 'while it has some of its own';
cmp_ok scalar(requests("/hold$gate")), '<=', 8, 'and no more than its concurrency';
spew($gate, '');
ok wait_for(sub { pending('hooks/slow') eq '0' }), 'afterwards it catches up';
is scalar(requests("/hold$gate")), 40, 'with everything, once';

# A change of target and a removal.
subscribe('hooks/ok', 'shop.**', "$url/ok2");
ok wait_for(sub { (() = slurp($serve->{err}) =~ /event=served subscription=hooks\/ok /g) == 2 }), 'a change is taken up';
tl_ok(['publish', 'shop.x.y', '1']);
ok wait_for(sub { requests('/ok2') == 1 }), 'the new target gets it';
tl_ok(['unsubscribe', 'hooks/ok']);
ok wait_for(sub { slurp($serve->{err}) =~ /event=unserved subscription=hooks\/ok reason=removed/ }), 'a removal as well';
tl_ok(['publish', 'shop.x.y', '1']);

# Graceful stop: what is in flight is finished and settled.
my $gate2 = workdir() . '/gate2';
subscribe('hooks/stop', 'stop.*', "$url/hold$gate2");
tl_ok(['publish', 'stop.one', '1']);
ok wait_for(sub { requests("/hold$gate2") == 1 }), 'a request is in flight';
kill 'TERM', $serve->{pid};
ok wait_for(sub { slurp($serve->{err}) =~ /event=stopping reason=SIGTERM/ }), 'SIGTERM';
tl_ok(['publish', 'stop.two', '2']);
spew($gate2, '');
is wait_exit($serve), 0, 'serve ends with 0 once it is answered';
like slurp($serve->{err}), qr/event=stopped status=TL_OK\n\z/, 'and says so';
is query($db, q(SELECT count(*) FROM trunkline.leases l JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = 'hooks/stop')), '0', 'nothing is held';
is scalar(requests("/hold$gate2")), 1, 'nothing new was taken';

# Private and loopback addresses are refused unless allowed.
my $before = scalar(requests());
$serve = start_serve($db, []);
subscribe('hooks/private', 'private.*', "$url/ok/private", '--retry-delay', '1h');
subscribe('hooks/name', 'private.*', "http://localhost:$receiver->{port}/ok/private", '--retry-delay', '1h');
subscribe('hooks/mapped', 'private.*', "http://[::ffff:127.0.0.1]:$receiver->{port}/ok/private", '--retry-delay', '1h');
subscribe('hooks/number', 'private.*', "http://2130706433:$receiver->{port}/ok/private", '--retry-delay', '1h');
ok served($serve, "hooks/$_"), "$_ is served" for qw(private name mapped number);
tl_ok(['publish', 'private.one', '1']);
for my $name (qw(private name mapped number)) {
    ok wait_for(sub { last_error("hooks/$name") ne '' }), "$name: refused";
    like last_error("hooks/$name"), qr/address refused/, 'because of its address';
}
is scalar(grep { $_->{path} =~ /private/ } requests()), 0, 'nothing arrived';
is stop_program($serve), 0, 'stop';
$serve = start_serve($db, [], env => {TRUNKLINE_WEBHOOK_ALLOW => '127.0.0.0/8'});
subscribe('hooks/allowed', 'allowed.*', "$url/ok/allowed");
tl_ok(['publish', 'allowed.one', '1']);
ok wait_for(sub { requests('/ok/allowed') == 1 }), 'TRUNKLINE_WEBHOOK_ALLOW allows';
is stop_program($serve), 0, 'stop';
my $bad = start_program([$ENV{TRUNKLINE_BIN}, 'serve', '--webhook-allow', '10.0.0.0/33']);
is wait_exit($bad), 2, 'a malformed list: 2';
like slurp($bad->{err}), qr{malformed" list=10\.0\.0\.0/33}, 'which is shown';

# A stop that takes too long, and a second signal.
my $never = workdir() . '/never';
subscribe('hooks/never', 'never.*', "$url/hold$never");
$serve = start_serve($db, ['--allow-private', '--stop-timeout', '300ms']);
tl_ok(['publish', 'never.one', '1']);
ok wait_for(sub { requests("/hold$never") == 1 }), 'a request that is never answered';
is stop_program($serve), 7, 'stop timeout: exit code 7';
like slurp($serve->{err}), qr/event=stop_timeout/, 'and it says so';
query($db, 'UPDATE trunkline.leases SET until = now()');
$serve = start_serve($db, ['--allow-private']);
ok wait_for(sub { requests("/hold$never") == 2 }), 'taken over by the next one';
kill 'TERM', $serve->{pid};
ok wait_for(sub { slurp($serve->{err}) =~ /event=stopping/ }), 'SIGTERM';
is stop_program($serve, 'INT'), 8, 'a second signal ends it at once: 8';
unlike slurp($serve->{err}), qr/ERROR: AddressSanitizer|runtime error/, 'cleanly';

# Logs as JSON; a line stays one line.
my $json = start_program([$ENV{TRUNKLINE_BIN}, 'serve', '--log-format', 'json']);
ok wait_for(sub { slurp($json->{err}) =~ /"event":"ready"/ }), 'logs as JSON';
is stop_program($json), 0, 'stop';
my @lines = grep { length } split /\n/, slurp($json->{err});
is scalar(grep { ref decode($_) eq 'HASH' && decode($_)->{time} && decode($_)->{level} } @lines), scalar @lines, 'each line is an object';
stop_program($receiver);

done_testing;
