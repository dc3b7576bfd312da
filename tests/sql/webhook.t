#!/usr/bin/perl
# SUB-11: what the database keeps of webhooks: options, keys, endpoints with breaker and end, the log of
# attempts, resend and recover; and who may see what.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;
use Time::HiRes;

my $s = session();
my $url = 'https://hooks.example/x';
my %id;

sub hook {
    my ($name, $options, $more) = @_;
    $options //= '{}';
    $id{$name} = $s->do("SELECT trunkline.subscribe('$name', 'a.*', target => '$url', target_options => '$options'" . ($more // '') . ')');
    return $id{$name};
}

subtest 'SUB-11 options of a webhook' => sub {
    hook('o', '{"headers": {"Authorization": "Bearer x", "X-A": "b"}, "format": "cloudevents-binary", "concurrency": 3, "log": "failures", "events": false, "breaker_failures": 0, "breaker_pause": "5ms", "breaker_cap": "7 days", "disable_after": "never"}');
    pass('all of them');
    for my $c (
        ['{"headers": []}', 'headers', 'is not an object of names and texts'],
        ['{"headers": {"a b": "c"}}', 'headers', 'has a name that is no token of at most 128 characters'],
        ['{"headers": {"": "c"}}', 'headers', 'has a name that is no token of at most 128 characters'],
        ['{"headers": {"a:": "c"}}', 'headers', 'has a name that is no token of at most 128 characters'],
        [q({"headers": {"x\nwebhook-id": "c"}}), 'headers', 'has a name that is no token of at most 128 characters'],
        [q({"headers": {"x": "a\r\nwebhook-id: 1"}}), 'headers', 'has x with a control character'],
        [q({"headers": {"x": "a\nb"}}), 'headers', 'has x with a control character'],
        ['{"headers": {"x": 1}}', 'headers', 'has x, which is no text'],
        ['{"headers": {"x": ""}}', 'headers', 'has x of not 1 to 4096 bytes'],
        [q({"headers": {"x": " \t"}}), 'headers', 'has x of not 1 to 4096 bytes'],
        ['{"headers": {"x": "' . 'y' x 4097 . '"}}', 'headers', 'has x of not 1 to 4096 bytes'],
        ['{"headers": {' . join(',', map { qq("h$_": "v") } 1 .. 51) . '}}', 'headers', 'has more than 50 headers'],
        (map { [qq({"headers": {"$_": "v"}}), 'headers', 'has ' . lower($_) . ', which is reserved'] }
            qw(Webhook-Id webhook-signature Host Content-Type content-length Transfer-Encoding connection Expect User-Agent ce-id Proxy-Authorization)),
        ['{"format": "xml"}', 'format', 'is not plain, cloudevents or cloudevents-binary'],
        ['{"log": true}', 'log', 'is not all, failures or none'],
        ['{"events": "no"}', 'events', 'is not true or false'],
        (map { [qq({"concurrency": $_}), 'concurrency', 'is not 1 to 1000'] } 0, 1001, 1.5, -1, '"4"', 'null'),
        (map { [qq({"breaker_failures": $_}), 'breaker_failures', 'is not 0 to 999999'] } -1, '1000000', '"3"'),
        (map { [qq({"breaker_pause": $_}), 'breaker_pause', 'is not a time of 1 ms to 7 days'] } 5, '"soon"', '"0 s"', '"8 days"'),
        ['{"breaker_cap": "8 days"}', 'breaker_cap', 'is not a time of 1 ms to 7 days'],
        (map { [qq({"disable_after": $_}), 'disable_after', 'is not never or a time of 0 to 1 year'] } 0, '"-1 s"', '"2 years"'),
        ['{"colour": "red"}', 'colour', 'is no option of this target'],
    ) {
        my ($options, $option, $problem) = @$c;
        my $e = $s->error("SELECT trunkline.subscribe('bad', '*', target => '$url', target_options => '$options')");
        is("$e->{state} $e->{message}", "TL005 target_options.$option $problem", substr($options, 0, 60));
    }
    refuses($s, qq(SELECT trunkline.subscribe('bad', '*', target => 'exec:true', target_options => '{"format": "plain"}')), 'TL005', {field => 'target_options', option => 'format'}, 'exec: has others');
    $s->do(qq(SELECT trunkline.subscribe('exec', 'x.*', target => 'exec:true', target_options => '{"concurrency": 2}')));
    refuses($s, qq(SELECT trunkline.subscribe('bad', '*', target_options => '{"concurrency": 2}')), 'TL005', {option => 'concurrency'}, 'and no target none');
    is($s->do("SELECT to_jsonb(l) - 'subscription_id' FROM trunkline.webhook_list('d') l WHERE subscription_id = $id{o}"),
        '{"log": "failures", "format": "cloudevents-binary", "headers": "Authorization: Bearer x\nX-A: b", "open_us": null, "secrets": null, "failures": 0, "is_probe": false, "concurrency": 3, "breaker_failures": 0, "breaker_pause_us": 5000}',
        'as a daemon gets them');
};
sub lower { return lc $_[0] }

subtest 'SUB-11 keys' => sub {
    hook('k');
    my $first = $s->do("SELECT trunkline.webhook_secret_add('k')");
    like($first, qr{^whsec_[A-Za-z0-9+/]{43}=$}, 'made by the server: 32 bytes');
    refuses($s, "SELECT trunkline.webhook_secret_add('k')", 'TL001', {field => 'name'}, 'a second one only as a replacement');
    my $second = $s->do("SELECT trunkline.webhook_secret_add('k', grace => '1 h')");
    isnt($second, $first, 'another one');
    is($s->do("SELECT secrets FROM trunkline.webhook_list('d') WHERE subscription_id = $id{k}"), "$second $first", 'both sign, the new one first');
    is($s->do("SELECT string_agg(state, ',' ORDER BY secret_id) FROM trunkline.webhook_secret_status WHERE subscription = 'k'"), 'replaced,current', 'state of each');
    is($s->do("SELECT expires_at - clock_timestamp() BETWEEN '59 min' AND '1 h' FROM trunkline.webhook_secret_status WHERE state = 'replaced'"), 't', 'the grace asked for');
    $s->do("UPDATE trunkline.webhook_secrets SET expires_at = clock_timestamp() - interval '1 s' WHERE secret = '$first'");
    is($s->do("SELECT secrets FROM trunkline.webhook_list('d') WHERE subscription_id = $id{k}"), $second, 'after its grace the old one does not');
    like($s->do('SELECT action, detail FROM trunkline.maintain_webhooks()'), qr/^forgot\|1 secrets/, 'and is forgotten');
    my $private = 'whsk_' . 'A' x 86 . '==';
    my $public = 'whpk_' . 'B' x 43 . '=';
    refuses($s, "SELECT trunkline.webhook_secret_add('k', 'v1a')", 'TL005', {field => 'secret'}, 'an Ed25519 key is not made here');
    is($s->do("SELECT trunkline.webhook_secret_add('k', 'v1a', '$private', '$public')"), $private, 'but kept here');
    is($s->do("SELECT public_key FROM trunkline.webhook_secret_status WHERE scheme = 'v1a'"), $public, 'its public key is shown');
    is($s->do("SELECT secrets FROM trunkline.webhook_list('d') WHERE subscription_id = $id{k}"), "$private $second", 'beside the other scheme');
    refuses($s, "SELECT trunkline.webhook_secret_add('k', secret => '$_', grace => '0')", 'TL005', {field => 'secret'}, "not $_")
        for 'whsec_short', 'hush' . 'A' x 40, $private, 'whsec_' . 'A' x 40 . "\n";
    refuses($s, "SELECT trunkline.webhook_secret_add('k', '$_')", 'TL005', {field => 'scheme'}, "scheme $_") for 'v2', '';
    refuses($s, "SELECT trunkline.webhook_secret_add('k', grace => '$_')", 'TL005', {field => 'grace'}, "grace $_") for '-1 s', '31 days';
    refuses($s, "SELECT trunkline.webhook_secret_add('none')", 'TL002', {field => 'name'}, 'no such subscription');
    refuses($s, "SELECT trunkline.webhook_secret_add('exec')", 'TL005', {field => 'name'}, 'no webhook');
    $s->do("SELECT trunkline.webhook_secret_add('k', grace => '1 h')") for 1 .. 8;
    refuses($s, "SELECT trunkline.webhook_secret_add('k', grace => '1 h')", 'TL007', {limit => 10}, 'at most 10');
    my $current = $s->do("SELECT secret_id FROM trunkline.webhook_secret_status WHERE state = 'current' AND scheme = 'v1'");
    is($s->do("SELECT trunkline.webhook_secret_revoke('k', $current)"), 9, 'revoke: so many are left');
    refuses($s, "SELECT trunkline.webhook_secret_revoke('k', $current)", 'TL002', {field => 'secret_id'}, 'not twice');
    is($s->do("SELECT count(*) FROM trunkline.webhook_list('d') WHERE subscription_id = $id{k} AND secrets LIKE '%whsec_%'"), 1, 'it is gone at once');
    is($s->do("SELECT secrets FROM trunkline.webhook_status WHERE name = 'k'"), 9, 'their number is shown');
};

# Attempts as JSON objects, for a call of record_attempts().
sub recording {
    my $list = join ', ', @_;
    return "SELECT trunkline.record_attempts(array_agg(subscription_id ORDER BY n), array_agg(event_id ORDER BY n), array_agg(event_type ORDER BY n),
        array_agg(position ORDER BY n), array_agg(attempt ORDER BY n), array_agg(resend_id ORDER BY n), array_agg(url ORDER BY n),
        array_agg(is_delivered ORDER BY n), array_agg(is_rejected ORDER BY n), array_agg(http_status ORDER BY n), array_agg(response ORDER BY n),
        array_agg(error ORDER BY n), array_agg(duration_us ORDER BY n), array_agg(started_us ORDER BY n))
        FROM ROWS FROM (jsonb_to_recordset('[$list]') AS (subscription_id bigint, event_id uuid, event_type text, position bigint, attempt integer,
            resend_id bigint, url text, is_delivered boolean, is_rejected boolean, http_status integer, response text, error text, duration_us bigint,
            started_us bigint)) WITH ORDINALITY x(subscription_id, event_id, event_type, position, attempt, resend_id, url, is_delivered, is_rejected,
            http_status, response, error, duration_us, started_us, n)";
}
sub attempt {
    my ($name, %with) = @_;
    my $event = $with{event} // '00000000-0000-4000-8000-00000000000' . ($with{n} // 1);
    my $json = JSON::PP->new->encode({
        subscription_id => $id{$name} + 0, event_id => $event, event_type => $with{type} // 'a.b', position => $with{n} // 1, attempt => $with{attempt} // 1,
        url => $url, is_delivered => $with{ok} ? JSON::PP::true : JSON::PP::false, http_status => $with{status} // 500, error => 'HTTP 500',
        response => 'no', duration_us => 1500, started_us => $with{started} // int(Time::HiRes::time() * 1_000_000), $with{resend} ? (resend_id => $with{resend} + 0) : (),
        $with{rejected} ? (is_rejected => JSON::PP::true) : ()});
    return $with{later} ? $json : $s->do(recording($json));
}
sub endpoint { my ($name, $what) = @_; return $s->do("SELECT $what FROM trunkline.endpoints WHERE subscription_id = $id{$name}") }
sub listed { my ($name, $what, $who) = @_; return $s->do("SELECT $what FROM trunkline.webhook_list('" . ($who // 'd') . "') WHERE subscription_id = $id{$name}") }

subtest 'SUB-11 what was on its way when the target changed says nothing of the new one' => sub {
    hook('t', '{"breaker_failures": 1}');
    my $before = int(Time::HiRes::time() * 1_000_000);
    $s->do("SELECT trunkline.subscribe('t', 't.*', target => '$url/new', target_options => '{\"breaker_failures\": 1}')");
    is(attempt('t', started => $before), 1, 'it is logged');
    is(endpoint('t', 'count(*)'), 0, 'and not counted');
    attempt('t');
    is(endpoint('t', 'open_until > now()'), 't', 'what comes after is');
};

subtest 'SUB-11 the log of attempts' => sub {
    hook('l');
    is(attempt('l', started => 1_700_000_000_000_000), 1, 'one logged');
    is($s->do("SELECT subscription, event_type, attempt, trigger, url, outcome, http_status, response, error, duration, started_at = to_timestamp(1700000000) FROM trunkline.webhook_attempts WHERE subscription = 'l'"),
        "l|a.b|1|scheduled|$url|failed|500|no|HTTP 500|00:00:00.0015|t", 'with all there is to know');
    hook('l', '{"log": "failures"}');
    is(attempt('l', ok => 1), 0, 'log failures: no success');
    is(attempt('l'), 1, 'but failures');
    hook('l', '{"log": "none"}');
    is(attempt('l'), 0, 'log none: nothing');
    is(endpoint('l', 'failures'), 2, 'which does not stop the count of failures since the last success');
    $id{gone} = 999999;
    is(attempt('gone'), 0, 'a subscription that is gone is left out');
    $s->do("INSERT INTO trunkline.delivery_attempts (subscription_id, subscription, event_id, event_type, \"position\", attempt, trigger, url, outcome, duration, started_at)
        SELECT 1, 'old', gen_random_uuid(), 'x', 1, 1, 'scheduled', 'u', 'failed', '1 s', now() - d * interval '1 day' FROM unnest('{29, 31}'::int[]) d");
    $s->do("DELETE FROM trunkline.delivery_attempts WHERE subscription = 'l'");
    is($s->do("SELECT object, action, detail FROM trunkline.maintain() WHERE object = 'webhooks'"), 'webhooks|forgot|1 delivery attempts', 'maintain() forgets after 30 days');
};

# Successes of some webhooks in one call, as SQL: an expression over n for each field.
sub successes {
    my ($n, %with) = @_;
    my $field = sub { my ($name, $type, $default) = @_; return 'array_agg((' . ($with{$name} // $default) . ")::$type ORDER BY n)" };
    return 'SELECT trunkline.record_attempts(' . join(', ', $field->(subscription_id => 'bigint', $id{run}), $field->(event_id => 'uuid', q(lpad(to_hex(1700000000000 + n), 12, '0') || '7001' || '8000' || lpad(to_hex(n), 12, '0'))),
        $field->(event_type => 'text', q('a.' || n)), $field->(position => 'bigint', 'n'), $field->(attempt => 'integer', '1'), $field->(resend_id => 'bigint', 'NULL'), $field->(url => 'text', "'$url'"), $field->(is_delivered => 'boolean', 'true'),
        $field->(is_rejected => 'boolean', 'false'), $field->(http_status => 'integer', '204'), $field->(response => 'text', q('')), $field->(error => 'text', 'NULL'), $field->(duration_us => 'bigint', '1500 + n'),
        $field->(started_us => 'bigint', '(extract(epoch FROM now()) * 1000000)::bigint + n')) . ") FROM generate_series(1, $n) n";
}

subtest 'SUB-11 successes are logged many to a row, and read one by one' => sub {
    hook($_) for qw(run other);
    my $counts = q(SELECT (SELECT count(*) FROM trunkline.delivery_attempts WHERE subscription IN ('run', 'other')), (SELECT count(*) FROM trunkline.delivery_runs WHERE subscription IN ('run', 'other')), (SELECT count(*) FROM trunkline.webhook_attempts WHERE subscription IN ('run', 'other')));
    my $forget = q(DELETE FROM trunkline.delivery_attempts WHERE subscription IN ('run', 'other'); DELETE FROM trunkline.delivery_runs);
    is($s->do(successes(100)), 100, 'all are counted');
    is($s->do($counts), '0|1|100', 'one row');
    is($s->do(q(SELECT subscription, event_id, event_type, "position", attempt, trigger, url, outcome, http_status, response, error IS NULL, duration, started_at BETWEEN now() - interval '1 minute' AND now(), next_attempt_at IS NULL
        FROM trunkline.webhook_attempts WHERE "position" = 7)), "run|018bcfe5-6807-7001-8000-000000000007|a.7|7|1|scheduled|$url|delivered|204||t|00:00:00.001507|t|t", 'with all there is to know');
    is($s->do(q(SELECT count(DISTINCT attempt_id), count(DISTINCT started_at), bool_and(attempt_id - "position" = (SELECT min(attempt_id) - 1 FROM trunkline.webhook_attempts WHERE subscription = 'run')) FROM trunkline.webhook_attempts WHERE subscription = 'run')), '100|100|t', 'numbers in the order of their ends');
    $s->do($forget);
    for my $c ([is_delivered => 'n <> 3', 'a failure'], [attempt => 'CASE WHEN n = 3 THEN 2 ELSE 1 END', 'a second attempt'], [resend_id => 'CASE WHEN n = 3 THEN 999999::bigint END', 'a resend'],
        [http_status => 'CASE WHEN n <> 3 THEN 204 END', 'no status'], [response => q(CASE WHEN n = 3 THEN 'yes' ELSE '' END), 'a body'], [response => q(CASE WHEN n <> 3 THEN '' END), 'no body at all'],
        [error => q(CASE WHEN n = 3 THEN 'odd' END), 'an error'], [event_id => q(CASE WHEN n = 3 THEN '018bcfe5-6807-4001-8000-000000000007' ELSE '018bcfe5-6807-7001-8000-000000000007' END::uuid), 'an id that does not tell the time'],
        [started_us => '(extract(epoch FROM now()) * 1000000)::bigint - CASE WHEN n = 3 THEN 1801000000 ELSE 0 END', 'one of some time ago'], [started_us => '(extract(epoch FROM now()) * 1000000)::bigint + CASE WHEN n = 3 THEN 3600000000 ELSE 0 END', 'a clock that is ahead']) {
        is($s->do(successes(20, $c->[0], $c->[1])), 20, "$c->[2] of twenty");
        is($s->do($counts), '1|1|20', 'has a row of its own');
        is($s->do(q(SELECT string_agg(attempt_id::text, ' ' ORDER BY attempt_id) = string_agg(attempt_id::text, ' ' ORDER BY "position") FROM trunkline.webhook_attempts WHERE subscription = 'run')), 't', 'its number is between theirs');
        $s->do("$forget; DELETE FROM trunkline.endpoints");
    }
    $s->do(successes(30, subscription_id => "CASE WHEN n % 3 = 0 THEN $id{other} ELSE $id{run} END::bigint", http_status => 'CASE WHEN n % 2 = 0 THEN 200 ELSE 204 END', url => q('u' || n % 2)));
    is($s->do($counts), '0|4|30', 'one row for each webhook, URL and status');
    is($s->do(q(SELECT count(*), count(DISTINCT attempt_id), bool_and(subscription = CASE WHEN "position" % 3 = 0 THEN 'other' ELSE 'run' END AND http_status = CASE WHEN "position" % 2 = 0 THEN 200 ELSE 204 END AND url = 'u' || "position" % 2)
        FROM trunkline.webhook_attempts WHERE subscription IN ('run', 'other'))), '30|30|t', 'of which each says its own');
    is($s->do(q(SELECT string_agg("position"::text, ' ') FROM trunkline.webhook_log('run', most => 4))), '29 28 26 25', 'webhook_log(): the latest first, over rows that overlap');
    $s->do($forget);
    $s->do(successes(30, http_status => 'CASE WHEN n IN (2, 3) THEN 200 ELSE 204 END'));
    is($s->do(qq(SELECT string_agg("position"::text, ' ') FROM trunkline.webhook_log('run', most => $_->[0]))), $_->[1], "the latest $_->[0] are not in the row that begins last") for [1, '30'], [3, '30 29 28'];
    $s->do($forget);
    for my $case ([log => 'none', 0], [log => 'failures', 0], [log => 'all', 20]) {
        hook('run', qq({"$case->[0]": "$case->[1]"}));
        is($s->do(successes(20)), $case->[2], "log $case->[1]: $case->[2] of twenty");
        is($s->do(successes(20, http_status => '200 + n % 2')), $case->[2], 'of two kinds as well');
    }
    is($s->do($counts), '0|3|40', 'rows of the last alone');
    is($s->do(successes(20, subscription_id => '999999')), 0, 'a webhook that is gone is left out');
    is($s->do(successes(20, event_id => q((CASE WHEN n % 2 = 0 THEN '018bcfe5-6807-4001-8000-000000000007' ELSE '018bcfe5-6807-7001-8000-000000000007' END))) . '; ' . $forget), 20, 'ids of two kinds');
    is($s->do(successes(7)), 7, 'few');
    is($s->do($counts), '7|0|7', 'have rows of their own');
    $s->do($forget);
    refuses($s, successes(10000), 'TL005', {field => 'event_ids', limit => 9999}, 'more than a call may have');
    is($s->do(successes(9999)), 9999, 'so many it may');
    is($s->do($counts), '0|1|9999', 'in one row');
    is($s->do(q(SELECT count(*), min("position") FROM trunkline.webhook_log('run', most => 20))), '20|9980', 'from its end');
    $s->do($forget);
};

subtest 'SUB-11 webhook_log()' => sub {
    $s->do(successes(20, is_delivered => 'n % 5 <> 0')) for 1, 2;
    $s->do('DELETE FROM trunkline.endpoints');
    $s->do(successes(20, subscription_id => $id{other} . '::bigint', is_delivered => 'n > 9', error => q(CASE WHEN n < 10 THEN 'x' END)));
    $s->do('DELETE FROM trunkline.endpoints');
    my $event = '018bcfe5-6807-7001-8000-000000000007';
    for my $c (['', 'true', 100], [", '$event'", "event_id = '$event'", 100], [q(, '018bcfe5-680a-7001-8000-00000000000a'), q(event_id = '018bcfe5-680a-7001-8000-00000000000a'), 100],
        [', failed => true', q(outcome = 'failed'), 100], [', most => 13', 'true', 13], [', NULL, NULL, 0', 'true', 0], [", '$event', true", q(event_id = ') . $event . q(' AND outcome = 'failed'), 100]) {
        my ($arguments, $condition, $most) = @$c;
        for my $name (qw(run other nobody)) {
            is($s->do("SELECT l FROM trunkline.webhook_log('$name'$arguments) l"), $s->do("SELECT v FROM trunkline.webhook_attempts v WHERE subscription = '$name' AND $condition ORDER BY attempt_id DESC LIMIT $most"), "$name$arguments: what the view shows");
        }
    }
    isnt($s->do("SELECT count(*) FROM trunkline.webhook_log('run', '$event')"), 0, 'which is something');
    refuses($s, "SELECT trunkline.webhook_log('run', most => $_)", 'TL005', {field => 'most'}, "most $_") for -1, 'NULL';
};

subtest 'SUB-11 rows of many are forgotten after 30 days' => sub {
    $s->do('DELETE FROM trunkline.delivery_runs');
    $s->do(successes(40)) for 1 .. 2;
    $s->do('SELECT trunkline.maintain()');
    $s->do("UPDATE trunkline.delivery_runs SET started_at = now() - interval '30 days 1 minute' WHERE call_id = (SELECT min(call_id) FROM trunkline.delivery_runs)");
    $s->do("UPDATE trunkline.delivery_runs SET started_at = now() - interval '29 days 23 hours' WHERE call_id = (SELECT max(call_id) FROM trunkline.delivery_runs)");
    is($s->do("SELECT object, action, detail FROM trunkline.maintain() WHERE object = 'webhooks'"), 'webhooks|forgot|40 delivery attempts', 'the number is that of attempts');
    is($s->do('SELECT count(*) FROM trunkline.delivery_runs'), 1, 'the younger row is left');
    $s->do('DELETE FROM trunkline.delivery_runs');
    # as many rows as one of 20 calls a second, each for some webhooks, may leave until maintain() comes again
    my $old = sub { my ($rows, $entries) = @_; $s->do("INSERT INTO trunkline.delivery_runs SELECT n, 1, 1, 'run', 'u', 204, now() - interval '31 days', gen_random_uuid(), gen_random_uuid(), ARRAY(SELECT generate_series(1, $entries)), '{}', '{}', '{}', '{}', '{}' FROM generate_series(1, $rows) n") };
    $old->(5000, 1);
    is($s->do("SELECT detail FROM trunkline.maintain() WHERE object = 'webhooks'"), '5000 delivery attempts', 'many rows of one at once');
    $old->(150, 9999);
    $s->do('SELECT trunkline.maintain()');
    is($s->do('SELECT count(*) BETWEEN 1 AND 149 FROM trunkline.delivery_runs'), 't', 'of rows of very many a part');
    $s->do('SELECT trunkline.maintain()');
    is($s->do('SELECT count(*) FROM trunkline.delivery_runs'), 0, 'then the rest');
    $s->do(q(DELETE FROM trunkline.delivery_runs; DELETE FROM trunkline.delivery_attempts WHERE subscription IN ('run', 'other')));
};

subtest 'SUB-11 an event whose id came from the publisher is found again in what was tried' => sub {
    my ($made, $own, $other) = ('018bcfe5-0001-7001-8000-000000000001', '018bcfe5-0002-7001-8000-000000000002', '018bcfe5-0003-4001-8000-000000000003');
    my %at = map { $_ => $s->do("INSERT INTO trunkline.topic_bus (id, type, data) VALUES ('$_', 'a.own', '1') RETURNING \"position\"") } $made, $own, $other;
    refuses($s, "SELECT trunkline.webhook_resend('run', '$_')", 'TL002', {field => 'event_id'}, 'nothing tried it') for keys %at;
    $s->do(successes(20, event_id => "CASE n WHEN 4 THEN '$made' WHEN 9 THEN '$own' WHEN 12 THEN '$other' ELSE (lpad(to_hex(1700000000000 + n), 12, '0') || '700180000000000000ff')::uuid END::uuid", position => "CASE n WHEN 4 THEN $at{$made} WHEN 9 THEN $at{$own} WHEN 12 THEN $at{$other} ELSE n END::bigint"));
    $s->do("SELECT trunkline.webhook_resend('run', '$_')") for keys %at;
    is($s->do("SELECT string_agg(event ->> 'position', ' ' ORDER BY event ->> 'id') FROM trunkline.resends WHERE subscription_id = $id{run}"), join(' ', map { $at{$_} } sort keys %at), 'each with its place');
    $s->do(q(DELETE FROM trunkline.resends; DELETE FROM trunkline.delivery_runs; DELETE FROM trunkline.delivery_attempts WHERE subscription = 'run'));
};

subtest 'SUB-11 the breaker' => sub {
    hook('b', '{"breaker_failures": 3, "breaker_pause": "10 s", "breaker_cap": "25 s"}');
    attempt('b') for 1 .. 2;
    is(listed('b', 'failures, open_us'), '2|', 'two of three failures: closed');
    attempt('b', ok => 1);
    is(endpoint('b', 'count(*)'), 0, 'a success forgets them');
    $s->do(recording(attempt('b', later => 1), attempt('b', ok => 1, later => 1)));
    is(endpoint('b', 'count(*)'), 0, 'also when it comes together with them');
    attempt('b') for 1 .. 3;
    like(listed('b', 'open_us'), qr/^(9|10)\d{6}$/, 'three in a row: open for the pause');
    my $until = endpoint('b', 'open_until');
    attempt('b') for 1 .. 4;
    is(endpoint('b', 'open_until, opened'), "$until|1", 'what was in flight makes it no longer');
    is(listed('b', 'is_probe'), 'f', 'nobody may try');
    my $pass = sub { $s->do("UPDATE trunkline.endpoints SET open_until = clock_timestamp() WHERE subscription_id = $id{b}") };
    $pass->();
    is(listed('b', 'open_us, is_probe', 'd1'), '0|t', 'after the pause one daemon tries');
    is(listed('b', 'open_us, is_probe', 'd2'), '0|f', 'and no other');
    is(listed('b', 'is_probe', 'd1'), 't', 'as long as it asks');
    $s->do("UPDATE trunkline.endpoints SET probe_until = clock_timestamp()");
    is(listed('b', 'is_probe', 'd2'), 't', 'when it stopped asking another one');
    is(listed('b', 'is_probe', 'd1'), 'f', 'instead');
    attempt('b');
    like(listed('b', 'open_us'), qr/^(1[89]|2[012])\d{6}$/, 'a failure then: the pause doubles');
    $pass->();
    attempt('b');
    like(listed('b', 'open_us'), qr/^(2[234567])\d{6}$/, 'up to the cap');
    $pass->();
    listed('b', '1', 'd1');
    attempt('b', ok => 1);
    is(listed('b', 'failures, open_us, is_probe'), '0||f', 'a success closes');
    hook('b', '{"breaker_failures": 0}');
    attempt('b') for 1 .. 20;
    is(listed('b', 'failures, open_us'), '20|', 'breaker_failures 0: never opens');
    hook('d');
    attempt('d') for 1 .. 10;
    like(listed('d', 'open_us'), qr/^(2[789]|3[0123])\d{6}$/, 'by default 10 failures and 30 s');
    is($s->do("SELECT breaker, failures, last_error FROM trunkline.webhook_status WHERE name = 'd'"), 'open|10|HTTP 500', 'shown');
    hook('d', '{"log": "none"}');
    is(endpoint('d', 'failures'), 10, 'other options change nothing about it');
    $s->do("SELECT trunkline.subscribe('d', 'a.b', target => '${url}2', target_options => '{\"log\": \"none\"}')");
    is(listed('d', 'failures, open_us'), '0|', 'another target starts anew');
    attempt('d') for 1 .. 10;
    like(listed('d', 'open_us'), qr/^\d+$/, 'open again');
    $s->do("SELECT trunkline.resume('d')");
    is(listed('d', 'failures, open_us'), '0|', 'resume() closes it: somebody has repaired the endpoint');
};

my $events = sub { my ($type) = @_; return $s->do("SELECT count(*) FROM trunkline.topic_bus WHERE type = 'trunkline.$type'" . ($_[1] ? " AND key = '$_[1]'" : '')) };

subtest 'SUB-11 the end of an endpoint' => sub {
    hook('e', '{"disable_after": "1 h"}');
    attempt('e');
    is($s->do("SELECT active FROM trunkline.subscriptions WHERE name = 'e'"), 't', 'one failure is none');
    $s->do("UPDATE trunkline.endpoints SET failing_since = failing_since - interval '59 min' WHERE subscription_id = $id{e}");
    attempt('e');
    is($s->do("SELECT active FROM trunkline.subscriptions WHERE name = 'e'"), 't', 'nor 59 minutes of them');
    $s->do("UPDATE trunkline.endpoints SET failing_since = failing_since - interval '1 min' WHERE subscription_id = $id{e}");
    attempt('e');
    like($s->do("SELECT active, paused_at IS NOT NULL, pause_reason FROM trunkline.subscriptions WHERE name = 'e'"), qr/^f\|t\|the endpoint has failed since 20/, 'an hour without a success: paused');
    is($s->do("SELECT disabled_at IS NOT NULL, failures, breaker FROM trunkline.webhook_status WHERE name = 'e'"), 't|0|closed', 'and noted');
    is($s->do("SELECT data ->> 'subscription', data ->> 'target', data ->> 'failures', data ->> 'reason' ~ '^the endpoint has failed', source, key FROM trunkline.topic_bus WHERE type = 'trunkline.endpoint.disabled'"),
        "e|$url|3|t|trunkline|e", 'announced');
    $s->do("UPDATE trunkline.subscriptions SET active = true, paused_at = NULL, pause_reason = NULL WHERE name = 'e'");
    attempt('e');
    is($s->do("SELECT s.active, e.disabled_at FROM trunkline.subscriptions s JOIN trunkline.endpoints e USING (subscription_id) WHERE name = 'e'"), 't|', 'resumed it starts anew');
    attempt('e', status => 410);
    is($s->do("SELECT active, pause_reason FROM trunkline.subscriptions WHERE name = 'e'"), 'f|the endpoint answered 410 Gone', '410 pauses at once');
    attempt('e', status => 410);
    is($events->('endpoint.disabled'), 2, 'what was in flight then pauses it no second time');
    hook('n', '{"disable_after": "never"}');
    attempt('n');
    $s->do("UPDATE trunkline.endpoints SET failing_since = failing_since - interval '1 year' WHERE subscription_id = $id{n}");
    attempt('n');
    is($s->do("SELECT active FROM trunkline.subscriptions WHERE name = 'n'"), 't', 'never means never');
    hook('m');
    attempt('m');
    $s->do("UPDATE trunkline.endpoints SET failing_since = clock_timestamp() - interval '300 h', last_failure_at = clock_timestamp() - interval '241 h' WHERE subscription_id = $id{m}");
    attempt('m');
    is($s->do("SELECT s.active, e.failures FROM trunkline.subscriptions s JOIN trunkline.endpoints e USING (subscription_id) WHERE name = 'm'"), 't|1', 'failures of more than twice that ago are forgotten');
    $s->do("UPDATE trunkline.endpoints SET failing_since = clock_timestamp() - interval '121 h' WHERE subscription_id = $id{m}");
    attempt('m');
    is($s->do("SELECT active FROM trunkline.subscriptions WHERE name = 'm'"), 'f', 'by default 120 hours');
};

subtest 'SUB-11 what operators hear' => sub {
    hook('p', '{}', ', max_attempts => 6');
    attempt('p', attempt => $_) for 1 .. 3;
    is($events->('endpoint.failing', 'p'), 0, 'three attempts of an event: nothing');
    attempt('p', attempt => 4);
    is($events->('endpoint.failing', 'p'), 1, 'the fourth');
    attempt('p', attempt => 5);
    attempt('p', attempt => 4, n => 2);
    is($events->('endpoint.failing', 'p'), 1, 'once until it has worked');
    is($events->('delivery.exhausted', 'p'), 0, 'not given up yet');
    attempt('p', attempt => 6);
    is($s->do("SELECT data ->> 'position', data ->> 'attempt' FROM trunkline.topic_bus WHERE type = 'trunkline.delivery.exhausted' AND key = 'p'"), '1|6', 'given up');
    attempt('p', attempt => 1, rejected => 1);
    is($events->('delivery.exhausted', 'p'), 2, 'rejected as well');
    attempt('p', ok => 1);
    attempt('p', attempt => 4);
    is($events->('endpoint.failing', 'p'), 2, 'after a success again');
    attempt('p', ok => 1);
    attempt('p', attempt => 4, type => 'trunkline.endpoint.failing');
    attempt('p', attempt => 6, type => 'trunkline.endpoint.failing');
    is($events->('endpoint.failing', 'p') + $events->('delivery.exhausted', 'p'), 4, 'nothing about such events themselves');
    hook('q', '{"events": false}', ', max_attempts => 6');
    attempt('q', attempt => $_) for 4, 6;
    attempt('q', status => 410);
    is($s->do("SELECT count(*) FROM trunkline.topic_bus WHERE type LIKE 'trunkline.%' AND key = 'q'"), 0, 'events false: silence');
    is($s->do("SELECT active FROM trunkline.subscriptions WHERE name = 'q'"), 'f', 'it is paused all the same');
    hook('t', '{}', q(, tenant_id => 'acme'));
    attempt('t', status => 410);
    is($s->do("SELECT tenant_id FROM trunkline.topic_bus WHERE type = 'trunkline.endpoint.disabled' AND key = 't'"), 'acme', 'a tenant hears of its own');
};

subtest 'SUB-11 resend' => sub {
    hook('r', '{}', q(, tenant_id => 't', filter => '{"x": 1}'));
    my $publish = sub { return $s->do("SELECT id FROM trunkline.publish($_[0])") };
    my $event = $publish->(q('a.b', '{"x": 1, "t": "\"\u00e9"}', tenant_id => 't', key => 'k', metadata => '{"m": 1}'));
    my $resend = $s->do("SELECT trunkline.webhook_resend('r', '$event')");
    my $at = $s->do("SELECT \"position\" FROM trunkline.topic_bus WHERE id = '$event'");
    refuses($s, "SELECT trunkline.webhook_resend('r', '" . $publish->($_->[0]) . "')", 'TL005', {field => 'event_id'}, $_->[1])
        for [q('a.b', '{"x": 1}'), 'of another tenant'], [q('b', '{"x": 1}', tenant_id => 't'), 'of another type'], [q('a.b', '{"x": 2}', tenant_id => 't'), 'outside the filter'];
    refuses($s, "SELECT trunkline.webhook_resend('r', gen_random_uuid())", 'TL002', {field => 'event_id'}, 'no such event');
    my $took = $s->do("SELECT resend_id, subscription_id, id, type, key, tenant_id, \"position\" FROM trunkline.take_resends('d1')");
    is($took, "$resend|$id{r}|$event|a.b|k|t|$at", 'a daemon takes it');
    is($s->do("SELECT count(*) FROM trunkline.take_resends('d2')"), 0, 'one daemon');
    $s->do("UPDATE trunkline.resends SET until = clock_timestamp()");
    my $body = $s->do("SELECT body FROM trunkline.take_resends('d2')");
    my $e = JSON::PP->new->decode($body);
    is_deeply([@$e{qw(id type source stream version key tenant_id metadata expires_at)}, $e->{data}{t}], [$event, 'a.b', undef, undef, undef, 'k', 't', {m => 1}, undef, "\"\x{e9}"], 'or another after a while; the body is the event');
    $s->do(qq(INSERT INTO trunkline.dead_letters (subscription, subscription_id, topic, "position", event, reason, attempts, error_message, errors)
        SELECT 'r', $id{r}, 'bus', "position", to_jsonb(e), 'max_attempts', 1, 'e', '[]' FROM trunkline.topic_bus e WHERE id = '$event'));
    attempt('r', event => $event, n => $at, resend => $resend, attempt => 0);
    is($s->do("SELECT count(*) FROM trunkline.resends"), 0, 'failed: it is over, nobody repeats it');
    is(endpoint('r', 'count(*)'), 0, 'and says nothing of the endpoint');
    is($s->do("SELECT state FROM trunkline.dead_letters WHERE subscription = 'r'"), 'dead', 'nor of the dead letter');
    attempt('r', event => $event, n => $at, resend => $s->do("SELECT trunkline.webhook_resend('r', '$event')"), attempt => 0, ok => 1);
    is($s->do("SELECT state, note FROM trunkline.dead_letters WHERE subscription = 'r'"), 'resolved|delivered by resend', 'delivered: its dead letter is resolved');
    is($s->do("SELECT string_agg(trigger || ' ' || outcome, ',' ORDER BY attempt_id) FROM trunkline.webhook_attempts WHERE subscription = 'r'"), 'manual failed,manual delivered', 'logged as manual');
    my $mine = '11111111-1111-4111-8111-111111111111';
    $publish->(qq('a.b', '{"x": 1}', tenant_id => 't', event_id => '$mine'));
    my $theirs = '22222222-2222-4222-8222-222222222222';
    $s->do(qq(INSERT INTO trunkline.topic_bus (id, type, data, tenant_id) VALUES ('$theirs', 'a.b', '{"x": 1}', 't')));
    my $mine_at = $s->do("SELECT \"position\" FROM trunkline.topic_bus WHERE id = '$theirs'");
    refuses($s, "SELECT trunkline.webhook_resend('r', '$theirs')", 'TL002', {field => 'event_id'}, 'an event with an id of its publisher that nothing tried');
    attempt('r', event => $theirs, n => $mine_at);
    cmp_ok($s->do("SELECT trunkline.webhook_resend('r', '$theirs')"), '>', 0, 'once it was tried');
    cmp_ok($s->do("SELECT trunkline.webhook_resend('r', '$mine')"), '>', 0, 'or published by publish() within the dedup window');
    $s->do("SELECT trunkline.webhook_resend('r', '" . $publish->(qq('a.b', '{"x": 1}', tenant_id => 't', key => 'e$_', expires_at => '$_')) . "')") for 'infinity', '294276-12-31', '-infinity', '2100-01-01 00:00:00Z';
    is($s->do("SELECT string_agg(key || ' ' || coalesce(expires_us::text, ''), ',' ORDER BY resend_id) FROM trunkline.take_resends('d3') WHERE key LIKE 'e%'"),
        'einfinity ,e294276-12-31 9223371244800000000,e-infinity ,e2100-01-01 00:00:00Z 4102444800000000', 'an end of life that no number of microseconds can say holds up nobody');
    $s->do("UPDATE trunkline.subscriptions SET active = false, paused_at = now() WHERE name = 'r'");
    refuses($s, "SELECT trunkline.webhook_resend('r', '$event')", 'TL005', {field => 'name'}, 'not while it is paused');
    is($s->do("SELECT count(*) FROM trunkline.take_resends('d2')"), 0, 'nor is what was asked for before');
};

subtest 'SUB-11 recover' => sub {
    hook('v');
    my @events = map { $s->do("SELECT id FROM trunkline.publish('a.b', '$_')") } 1 .. 4;
    my $bury = sub {
        my ($event, $age) = @_;
        $s->do(qq(INSERT INTO trunkline.dead_letters (subscription, subscription_id, topic, "position", event, reason, attempts, error_message, errors, dead_at)
            SELECT 'v', $id{v}, 'bus', "position", to_jsonb(e), 'max_attempts', 3, 'e', '[{"attempt": 3}]', clock_timestamp() - interval '$age' FROM trunkline.topic_bus e WHERE id = '$event'));
    };
    $bury->($events[0], '5 days');
    $bury->($events[1], '3 days');
    $bury->($events[2], '1 day');
    $s->do(qq(INSERT INTO trunkline.retries (subscription_id, "position", slot, attempt, next_attempt_at, error_message, last_error_at, errors)
        SELECT $id{v}, "position", 0, 2, clock_timestamp() + interval '5 h', 'e', clock_timestamp() - interval '1 h', '[]' FROM trunkline.topic_bus e WHERE id = '$events[3]'));
    my $from = "clock_timestamp() - interval '4 days'";
    is($s->do("SELECT trunkline.webhook_recover('v', $from, dry_run => true)"), 3, 'dry_run counts');
    is($s->do("SELECT count(*) FROM trunkline.dead_letters WHERE subscription = 'v' AND state = 'dead'"), 3, 'and does nothing');
    is($s->do("SELECT next_attempt_at > clock_timestamp() FROM trunkline.retries WHERE subscription_id = $id{v}"), 't', 'nothing at all');
    is($s->do("SELECT trunkline.webhook_recover('v', $from, clock_timestamp() - interval '2 days')"), 1, 'a range');
    is($s->do("SELECT string_agg(state, ',' ORDER BY dead_letter_id) FROM trunkline.dead_letters WHERE subscription = 'v'"), 'dead,redriven,dead', 'has what was given up in it');
    is($s->do("SELECT attempt, event ->> 'id', key IS NULL, next_attempt_at <= clock_timestamp() FROM trunkline.retries WHERE subscription_id = $id{v} AND event IS NOT NULL"), "0|$events[1]|t|t", 'handed out anew, with a copy');
    is($s->do("SELECT trunkline.webhook_recover('v', $from, most => 1)"), 1, 'no more than asked for');
    is($s->do("SELECT trunkline.webhook_recover('v', $from)"), 1, 'what waits for another attempt is left');
    is($s->do("SELECT count(*) FROM trunkline.retries WHERE subscription_id = $id{v} AND next_attempt_at <= clock_timestamp()"), 3, 'it is due now');
    is($s->do("SELECT trunkline.webhook_recover('v', $from)"), 0, 'twice is once');
    refuses($s, "SELECT trunkline.webhook_recover('v', $_->[0])", 'TL005', {field => $_->[1]}, $_->[0])
        for ["clock_timestamp() - interval '15 days'", 'since'], ['NULL', 'since'], ["clock_timestamp() + interval '1 h'", 'since'], ["$from, most => 0", 'most'], ["$from, most => 10001", 'most'];
};

subtest 'SUB-11 who may see keys' => sub {
    my %role = map { $_ => "tl_webhook_${_}_$$" } qw(consumer publisher operator server);
    $s->do("CREATE ROLE $_ LOGIN") for values %role;
    $s->do("SELECT trunkline.grant_consume('$role{consumer}'), trunkline.grant_publish('$role{publisher}'), trunkline.grant_operate('$role{operator}'), trunkline.grant_serve('$role{server}')");
    my %as = map { $_ => session(role => $role{$_}) } keys %role;
    my $c = $as{consumer};
    $c->do("SELECT trunkline.subscribe('w', 'a.*', target => '$url', start_at => 'beginning')");
    like($c->do("SELECT trunkline.webhook_secret_add('w')"), qr/^whsec_/, 'a consumer gives its webhook a key');
    $c->do("SELECT trunkline.webhook_secret_add('w', grace => '1 h')");
    is($c->do("SELECT count(*) FROM trunkline.webhook_secret_status WHERE subscription = 'w'"), 2, 'rotates and lists');
    $c->do("SELECT trunkline.webhook_secret_revoke('w', min(secret_id)) FROM trunkline.webhook_secret_status WHERE subscription = 'w'");
    is($c->error($_)->{state}, '42501', "a consumer may not: $_") for
        'SELECT secret FROM trunkline.webhook_secrets', 'SELECT * FROM trunkline.webhook_secrets', "SELECT * FROM trunkline.webhook_list('me')", "UPDATE trunkline.webhook_secrets SET secret = 'x'",
        'DELETE FROM trunkline.webhook_secrets RETURNING secret', 'COPY trunkline.webhook_secrets TO STDOUT', "SELECT trunkline.record_attempts('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')", 'DELETE FROM trunkline.delivery_attempts', "SELECT 1 FROM trunkline.webhook_secrets WHERE secret LIKE 'whsec_A%'";
    is($c->error(qq(UPDATE trunkline.subscriptions SET target_options = '$_' WHERE name = 'w'))->{state}, 'TL005', "nor write by hand what subscribe() refuses: $_")
        for q({"headers": {"x": "a\nwebhook-signature: v1,x"}}), '{"concurrency": "many"}', '{"breaker_pause": "soon"}';
    is($as{publisher}->error($_)->{state}, '42501', "a publisher may not: $_") for 'SELECT secret_id FROM trunkline.webhook_secrets', "SELECT trunkline.webhook_secret_add('w')", 'SELECT * FROM trunkline.webhook_attempts';
    my ($event) = $c->do("SELECT min(id::text) FROM trunkline.topic_bus WHERE type = 'a.b'");
    my $o = $as{operator};
    for my $sql ("SELECT trunkline.webhook_resend('w', '$event')", "SELECT trunkline.webhook_recover('w', now() - interval '1 h')") {
        is($c->error($sql)->{state}, '42501', "a consumer may not: $sql");
        is($o->error($sql)->{state}, 'none', 'an operator may');
    }
    is($o->error('SELECT secret FROM trunkline.webhook_secrets')->{state}, '42501', 'but not read keys');
    my $d = $as{server};
    like($d->do("SELECT secrets FROM trunkline.webhook_list('d') JOIN trunkline.subscriptions USING (subscription_id) WHERE name = 'w'"), qr/^whsec_/, 'grant_serve(): the daemon reads keys');
    is($d->do("SELECT count(*) FROM trunkline.take_resends('d')"), 1, 'takes resends');
    my $id = $s->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = 'w'");
    is($d->error(recording(qq({"subscription_id": $id, "event_id": "$event", "event_type": "a.b", "position": 1, "attempt": 4, "url": "u", "is_delivered": false, "http_status": 410, "duration_us": 1, "started_us": 4000000000000000})))->{state}, 'none', 'records');
    is($events->('endpoint.disabled', 'w'), 1, 'and publishes what operators hear');
    is($d->error(recording(qq({"subscription_id": $id, "event_id": "$event", "event_type": "a.b", "position": 1, "attempt": 0, "resend_id": 1, "url": "u", "is_delivered": true, "duration_us": 1, "started_us": 1})))->{state}, 'none', 'resends as well');
    $_->close for values %as;
    $s->do("DROP OWNED BY $_; DROP ROLE $_") for values %role;
};

subtest 'an unsubscribed webhook leaves nothing but its log' => sub {
    $s->do("SELECT trunkline.unsubscribe(name, true) FROM trunkline.subscriptions");
    is($s->do('SELECT (SELECT count(*) FROM trunkline.webhook_secrets), (SELECT count(*) FROM trunkline.endpoints), (SELECT count(*) FROM trunkline.resends)'), '0|0|0', 'keys, endpoints, resends');
    isnt($s->do('SELECT count(*) FROM trunkline.delivery_attempts'), 0, 'the log stays');
};

done_testing;
