#!/usr/bin/env perl
# What bounds a webhook: options of its subscription, time limits, what is kept of answers, TLS,
# and where requests may go, with real sockets (SUB-11, WRK-10).
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
my $dir = workdir();
sub requests { return $receiver->{requests}->(@_) }
sub served { my ($serve, $name) = @_; return wait_for(sub { slurp($serve->{err}) =~ /event=served subscription=\Q$name\E /}) }
sub hook {
    my ($name, $pattern, $target, $options, $more) = @_;
    return query($db, "SELECT trunkline.subscribe('$name', '$pattern', target => '$target', backoff => 'fixed', retry_delay => '10 ms', target_options => '" . ($options // '{}') . "'" . ($more // '') . ')');
}
sub attempt { my ($name, $what) = @_; return query($db, "SELECT $what FROM trunkline.webhook_attempts WHERE subscription = '$name' ORDER BY attempt_id LIMIT 1") }
sub logged { my ($name, $n) = @_; return wait_for(sub { query($db, "SELECT count(*) FROM trunkline.webhook_attempts WHERE subscription = '$name'") >= ($n // 1) }) }
sub pending { return query($db, "SELECT behind + leased + retrying FROM trunkline.subscription_status WHERE name = '$_[0]'") }
sub pause { return query($db, "SELECT extract(epoch FROM next_attempt_at - last_error_at) FROM trunkline.retries r JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = '$_[0]' AND r.token IS NULL") }

my $serve = start_serve($db, ['--webhook-allow', '127.0.0.1', '--concurrency', 5]);

# Headers, and what of the URL is a secret.
my $secret_url = "http://user:hush\@127.0.0.1:$receiver->{port}/ok/headers?token=hush#hush";
hook('h', 'h.*', $secret_url, '{"headers": {"X-Api-Key": "k 1", "Authorization-Extra": "gr\u00fc\u00df"}}');
tl_ok(['publish', 'h.one', '1']);
ok wait_for(sub { requests("/ok/headers?token=hush") == 1 }), 'delivered';
my ($request) = requests("/ok/headers?token=hush");
is $request->{headers}{'x-api-key'}, 'k 1', 'headers of the subscription are sent';
is $request->{headers}{authorization}, 'Basic dXNlcjpodXNo', 'user and password of the URL as well';
ok logged('h'), 'logged';
is attempt('h', 'url'), "http://127.0.0.1:$receiver->{port}/ok/headers", 'the log of attempts has the URL without its secrets';
unlike slurp($serve->{err}), qr/hush/, 'the log of the daemon has none';

# What is kept of an answer.
query($db, "SELECT trunkline.subscribe('raw', 'keep.*', target => '$url/raw/500', backoff => 'fixed', retry_delay => '1 h'), trunkline.subscribe('keep', 'keep.*', target => '$url/text/500/30000', backoff => 'fixed', retry_delay => '1 h'), trunkline.subscribe('fine', 'keep.*', target => '$url/text/201/7')");
ok served($serve, $_), "$_ is served" for qw(keep raw fine);
tl_ok(['publish', 'keep.one', '1']);
ok logged($_), "$_: logged" for qw(keep raw fine);
is attempt('keep', "outcome, http_status, length(response), trigger, attempt"), 'failed|500|20000|scheduled|1', '20000 bytes of an answer are kept';
is attempt('keep', 'length(error)'), length('HTTP 500: ') + 200, 'and a little of it in the error';
is attempt('raw', 'response'), qq(a?b?\x{c3}\x{a9}\n"c" \\ {,}), 'bytes that are no text are replaced, all others kept';
is attempt('fine', 'outcome, http_status, response, error'), 'delivered|201|yyyyyyy|', 'a success is logged with its answer';
like attempt('fine', "duration > '0 s' AND duration < '1 min', clock_timestamp() - started_at < '10 min'"), qr/^t\|t$/, 'and its times';
is attempt('keep', 'next_attempt_at IS NOT NULL'), 't', 'when it is tried next';

# What is logged.
hook('log/none', 'log.*', "$url/ok/log", '{"log": "none"}');
hook('log/failures', 'log.*', "$url/fail/1/log", '{"log": "failures"}');
ok served($serve, $_), "$_ is served" for qw(log/none log/failures);
tl_ok(['publish', 'log.one', '1']);
ok wait_for(sub { requests('/fail/1/log') == 2 && requests('/ok/log') == 1 && pending('log/failures') eq '0' && query($db, 'SELECT count(*) FROM trunkline.endpoints e JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = $$log/failures$$') eq '0' }), 'delivered at the second attempt, its failure forgotten';
is query($db, "SELECT string_agg(subscription || ' ' || outcome, ',') FROM trunkline.webhook_attempts WHERE subscription LIKE 'log/%'"), 'log/failures failed', 'log: none and failures';

# Time limits: of the subscription, with the least pause after one.
my $never = "$dir/never";
hook('slow', 'slow.*', "$url/hold$never/a", '{}', ", timeout => '300 ms'");
tl_ok(['publish', 'slow.one', '1']);
ok logged('slow'), 'SUB-11 the time limit of the subscription ends a request';
like attempt('slow', 'error, http_status'), qr/timed out.*\|$/i, 'named';
is attempt('slow', "duration BETWEEN '290 ms' AND '1 min'"), 't', 'after that time';
ok wait_for(sub { pause('slow') ne '' }), 'it is tried again';
cmp_ok pause('slow'), '>=', 59.9, 'a minute later, though the policy says 10 ms';
hook('much', 'much.*', "$url/status/429");
tl_ok(['publish', 'much.one', '1']);
ok wait_for(sub { pause('much') ne '' }), 'HTTP 429';
cmp_ok pause('much'), '>=', 59.9, 'a minute as well';
query($db, "SELECT trunkline.subscribe('wish', 'wish.*', target => '$url/retry-after/3', backoff => 'fixed', retry_delay => '2 s'), trunkline.subscribe('wish/more', 'wish.*', target => '$url/retry-after/1000', backoff => 'fixed', retry_delay => '2 s'), trunkline.subscribe('wish/less', 'wish.*', target => '$url/retry-after/1', backoff => 'fixed', retry_delay => '20 s')");
ok served($serve, $_), "$_ is served" for qw(wish wish/more wish/less);
tl_ok(['publish', 'wish.one', '1']);
for my $case (['wish', 3, 'Retry-After is heeded'], ['wish/more', 4, 'up to twice the pause of the policy'], ['wish/less', 20, 'and not below it']) {
    my ($name, $seconds, $what) = @$case;
    my $pause;
    ok wait_for(sub { ($pause = pause($name)) ne '' }), "$name: waits";
    cmp_ok abs($pause - $seconds), '<', 0.2, $what;
}
# ... of commands
query($db, "SELECT trunkline.subscribe('cmd', 'cmd.*', target => 'exec:sleep 100', timeout => '200 ms', retry_delay => '1 h')");
is stop_program($serve), 0, 'stop';
$serve = start_serve($db, ['--webhook-allow', '127.0.0.1', '--concurrency', 5, '--allow-exec']);
tl_ok(['publish', 'cmd.one', '1']);
ok wait_for(sub { query($db, "SELECT error_message FROM trunkline.retries JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = 'cmd'") =~ /^timed out/ }), 'WRK-10 the time limit of a subscription holds for commands too';

# Concurrency of one endpoint; others go on.
my $gate = "$dir/gate";
hook('two', 'many.*', "$url/hold$gate/two", '{"concurrency": 2}', ", ordering => 'none'");
hook('five', 'many.*', "$url/hold$gate/five", '{}', ", ordering => 'none'");
hook('six', 'many.*', "$url/hold$gate/six", '{"concurrency": 6}', ", ordering => 'none'");
hook('free', 'many.*', "$url/ok/free", '{}', ", ordering => 'none'");
ok served($serve, $_), "$_ is served" for qw(two five six free);
tl_ok(['publish', '--ndjson'], stdin => join '', map { qq({"type":"many.one","data":$_}\n) } 1 .. 12);
ok wait_for(sub { requests('/ok/free') == 12 && requests("/hold$gate/two") == 2 && requests("/hold$gate/five") == 5 && requests("/hold$gate/six") == 6 }), 'SUB-11 endpoints that hang hold up only themselves, each with its own concurrency';
mkdir $gate or die;
spew("$gate/$_", '') for qw(two five six);
ok wait_for(sub { !grep { pending($_) ne '0' } qw(two five six) }), 'then they catch up';
is scalar(requests("/hold$gate/two")), 12, 'with everything, once';

# Redirects go nowhere.
my $canary = receiver();
for my $status (301, 302, 303, 307, 308) {
    hook("redirect/$status", 'moved.*', "$url/redirect/$status/$canary->{port}", '{}', ", max_attempts => 1");
    ok served($serve, "redirect/$status"), "HTTP $status";
}
tl_ok(['publish', 'moved.one', '1']);
ok wait_for(sub { query($db, "SELECT count(*) FROM trunkline.dead_letters WHERE subscription LIKE 'redirect/%'") == 5 }), 'SUB-11 a redirect is a failure';
is scalar($canary->{requests}->()), 0, 'and the canary is untouched';
ok wait_for(sub { query($db, "SELECT string_agg(DISTINCT http_status::text, ',' ORDER BY http_status::text) FROM trunkline.webhook_attempts WHERE subscription LIKE 'redirect/%'") eq '301,302,303,307,308' }), 'logged';

# TLS.
sub openssl { my (@arguments) = @_; my $p = start_program(['openssl', @arguments]); die slurp($p->{err}) if wait_exit($p) }
openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', "$dir/ca.key", '-out', "$dir/ca.pem", '-subj', '/CN=Test CA', '-days', 2);
for my $case (['good', 'IP:127.0.0.1'], ['wrong', 'DNS:elsewhere.example']) {
    my ($name, $san) = @$case;
    openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr", '-subj', '/CN=127.0.0.1');
    spew("$dir/$name.ext", "subjectAltName=$san\n");
    openssl('x509', '-req', '-in', "$dir/$name.csr", '-CA', "$dir/ca.pem", '-CAkey', "$dir/ca.key", '-CAcreateserial', '-days', 2, '-extfile', "$dir/$name.ext", '-out', "$dir/$name.pem");
}
openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', "$dir/self.key", '-out', "$dir/self.pem", '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', 2);
my %tls = map { $_ => receiver("$dir/$_.pem", "$dir/$_.key") } qw(good wrong self);
query($db, "SELECT trunkline.subscribe('tls/$_', 'tls.*', target => 'https://127.0.0.1:$tls{$_}{port}/ok', backoff => 'fixed', retry_delay => '1 h')") for keys %tls;
sub tls_error { my ($name) = @_; wait_for(sub { query($db, "SELECT count(*) FROM trunkline.webhook_attempts WHERE subscription = 'tls/$name' AND error IS NOT NULL") > 0 }); return query($db, "SELECT error FROM trunkline.webhook_attempts WHERE subscription = 'tls/$name' ORDER BY attempt_id DESC LIMIT 1") }
ok served($serve, "tls/$_"), "tls/$_ is served" for keys %tls;
tl_ok(['publish', 'tls.one', '1']);
like tls_error($_), qr/certificate/i, "SUB-11 an authority that nobody trusts ($_): refused" for keys %tls;
is stop_program($serve), 0, 'stop';
$serve = start_serve($db, ['--webhook-allow', '127.0.0.1', '--webhook-ca', "$dir/ca.pem", '--https-only']);
query($db, "UPDATE trunkline.retries SET next_attempt_at = now() WHERE subscription_id IN (SELECT subscription_id FROM trunkline.subscriptions WHERE name LIKE 'tls/%')");
ok wait_for(sub { pending('tls/good') eq '0' }), '--webhook-ca: an authority of our own';
is scalar($tls{good}{requests}->('/ok')), 1, 'delivered by TLS';
ok wait_for(sub { query($db, "SELECT count(*) FROM trunkline.webhook_attempts WHERE subscription IN ('tls/wrong', 'tls/self')") == 4 }), 'the others were tried again';
like tls_error('wrong'), qr/subject|host/i, 'a certificate for another host: refused';
like tls_error('self'), qr/self.signed/i, 'one signed by itself: refused';
is scalar(map { $tls{$_}{requests}->() } qw(wrong self)), 0, 'nothing was sent';
ok wait_for(sub { slurp($serve->{err}) =~ /event=not_served subscription=free kind=webhook reason="only https is allowed here \(--https-only\)"/ }), '--https-only serves no http:';
is stop_program($serve), 0, 'stop';
my $bad = start_program([$ENV{TRUNKLINE_BIN}, 'serve', '--webhook-ca', "$dir/none.pem"]);
is wait_exit($bad), 2, '--webhook-ca: a file that is none: 2';
is stop_program($_), 143, 'receiver ends' for $canary, values %tls, $receiver;
done_testing;
