#!/usr/bin/perl
# Redaction and audit (EVS-14, SEC-4): the payload and all its copies go, the event stays in its place.
use strict;
use warnings;
use feature 'state';
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $s = session();
my $secret = 'Erika Mustermann';
my $event = sub { my ($position, $topic) = @_; $topic //= 'store'; return $s->do("SELECT data, metadata - 'redacted' FROM trunkline.topic_$topic WHERE \"position\" = $position") };

subtest 'an event' => sub {
    my ($id, $position) = split /\|/, $s->do("SELECT id, \"position\" FROM trunkline.append_event('p-1', 'person.named', '{\"name\": \"$secret\"}', metadata => '{\"correlation_id\": \"c\", \"causation_id\": 7, \"user\": \"$secret\"}', source => 's')");
    my $before = $s->do("SELECT id, type, source, stream, version, key, tenant_id, created_at FROM trunkline.topic_store WHERE \"position\" = $position");
    returns($s, "SELECT trunkline.redact('$id', 'article 17'), trunkline.redact('$id', 'again')", 't|f', 'once');
    is($event->($position), 'null|{"causation_id": 7, "correlation_id": "c"}', 'no payload');
    is($s->do("SELECT id, type, source, stream, version, key, tenant_id, created_at FROM trunkline.topic_store WHERE \"position\" = $position"), $before, 'everything else is as it was');
    returns($s, "SELECT metadata #>> '{redacted,reason}', metadata #>> '{redacted,by}' = session_user, (metadata #>> '{redacted,at}')::timestamptz <= now(), (metadata #>> '{redacted,audit_id}')::bigint = audit_id, actor = session_user, action, reason, object, detail ->> 'id' = '$id'
        FROM trunkline.topic_store, trunkline.audit WHERE \"position\" = $position", "article 17|t|t|t|t|redact|article 17|store/$position|t", 'the marker, and one entry of audit');
    returns($s, "SELECT trunkline.stream_version('p-1'), \"position\" FROM trunkline.locate('$id')", "1|$position", 'its place is kept');
    returns($s, "SELECT data, metadata ? 'redacted' FROM trunkline.read('store', $position - 1)", 'null|t', 'reads show the marker');
    is($s->do("BEGIN; SELECT trunkline.redact(x.id, 'r') FROM trunkline.append_event('p-2', 'a', '\"x\"') x; ROLLBACK; SELECT count(*) FROM trunkline.audit") =~ s/.*\n//sr, 1, 'undone with its transaction, as the entry is');
};

subtest 'metadata => false, and by position' => sub {
    my ($id, $position) = split /\|/, $s->do("SELECT id, \"position\" FROM trunkline.append_event('p-1', 'a', '\"$secret\"', metadata => '{\"user\": \"u\"}')");
    returns($s, "SELECT trunkline.redact_at('store', $position, 'r', metadata => false)", 't', 'redacted');
    is($event->($position), 'null|{"user": "u"}', 'metadata is kept');
    returns($s, "SELECT trunkline.redact_at('store', $position, 'r', metadata => false), trunkline.redact('$id', 'r', 'store', false)", 'f|f', 'once');
    returns($s, "SELECT trunkline.redact('$id', 'r')", 't', 'metadata after all');
    is($event->($position), 'null|{}', 'gone');
    # an id that only the log knows
    $s->do("INSERT INTO trunkline.topic_bus (id, type, data) VALUES ('00000000-0000-4000-8000-000000000001', 'a', '\"$secret\"')");
    refuses($s, "SELECT trunkline.redact('00000000-0000-4000-8000-000000000001', 'r')", 'TL002', {field => 'event_id'}, 'an id given to INSERT is not found');
    returns($s, "SELECT trunkline.redact_at('bus', 1, 'r')", 't', 'its position is');
    is($event->(1, 'bus'), 'null|{}', 'gone');
};

subtest 'an event that says it was redacted' => sub {
    for my $metadata ('{"redacted": {"reason": "x", "audit_id": 1}}', '{"redacted": {"audit_id": "99999999999999999999"}}', '{"redacted": {"audit_id": {}}}', '{"redacted": 1}') {
        my ($id, $position) = split /\|/, $s->do("SELECT id, \"position\" FROM trunkline.append_event('p-3', 'a', 'null', metadata => '$metadata')");
        returns($s, "SELECT trunkline.redact('$id', 'really'), metadata #>> '{redacted,reason}' FROM trunkline.topic_store WHERE \"position\" = $position", 't|' . ($metadata =~ /"x"/ ? 'x' : ''), "$metadata is not believed");
        returns($s, "SELECT metadata #>> '{redacted,reason}' FROM trunkline.topic_store WHERE \"position\" = $position", 'really', 'it was');
    }
};

subtest 'bad arguments' => sub {
    refuses($s, "SELECT trunkline.redact($_->[0])", $_->[1], {field => $_->[2]}, $_->[0])
        for [q(gen_random_uuid(), 'r'), 'TL002', 'event_id'], [q(NULL, 'r'), 'TL002', 'event_id'], [q(gen_random_uuid(), ''), 'TL005', 'reason'], [q(gen_random_uuid(), NULL), 'TL005', 'reason'], [q(gen_random_uuid(), repeat('x', 1001)), 'TL005', 'reason'],
            [q(gen_random_uuid(), 'r', 'nowhere'), 'TL002', 'topic'], [q(gen_random_uuid(), 'r', metadata => NULL), 'TL005', 'metadata'];
    refuses($s, "SELECT trunkline.redact_at($_->[0])", $_->[1], {field => $_->[2]}, $_->[0])
        for [q('nowhere', 1, 'r'), 'TL002', 'topic'], [q('store', 999999, 'r'), 'TL002', 'position'], [q('store', 999999999999, 'r'), 'TL002', 'position'], [q('store', NULL, 'r'), 'TL002', 'position'], [q('store', 1, ''), 'TL005', 'reason'], [q('store', 1, 'r', NULL), 'TL005', 'metadata'];
    my $id = $s->do(q(SELECT id FROM trunkline.append_event('p-4', 'a', '1')));
    refuses($s, "SELECT trunkline.redact('$id', 'r', 'bus')", 'TL002', {field => 'event_id'}, 'not in that topic');
};

subtest 'copies' => sub {
    $s->do(q(SELECT trunkline.subscribe('app/a', '**', start_at => 'end'), trunkline.subscribe('app/hook', '**', start_at => 'end', target => 'http://127.0.0.1:1/', track => 'all')));
    my $id = '00000000-0000-4000-8000-000000000002';
    my $position = $s->do("SELECT \"position\" FROM trunkline.publish('named', '{\"name\": \"$secret\"}', event_id => '$id', metadata => '{\"user\": \"$secret\"}')");
    for my $name ('app/a', 'app/hook') {
        my $token = $s->do("SELECT DISTINCT token FROM trunkline.claim('$name')");
        $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": $position, \"error\": \"no such name: $secret\", \"retry_after_us\": 0}]')");
        $token = $s->do("SELECT DISTINCT token FROM trunkline.claim('$name')");
        $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": $position, \"verdict\": \"fail\", \"error\": \"no such name: $secret\"}]')") if $name eq 'app/a';
    }
    $s->do("SELECT trunkline.redrive((SELECT array_agg(dead_letter_id) FROM trunkline.dead_letters))");
    $s->do("SELECT trunkline.webhook_resend('app/hook', '$id')");
    $s->do("INSERT INTO trunkline.delivery_attempts (subscription_id, subscription, event_id, event_type, \"position\", attempt, trigger, url, outcome, response, error, duration, started_at)
        SELECT subscription_id, name, '$id', 'named', $position, 1, 'scheduled', 'u', 'failed', 'hello $secret', 'no $secret', '1 s', now() FROM trunkline.subscriptions WHERE name = 'app/hook'");
    my $later = $s->do("SELECT id FROM trunkline.publish('later', '{\"name\": \"$secret\"}', delay => '1 hour', metadata => '{\"correlation_id\": \"c\", \"user\": \"$secret\"}')");
    my @tables = split /\n/, $s->do("SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'trunkline'::regnamespace AND relkind = 'r' AND relpersistence = 'p' ORDER BY 1");
    my $where = sub { join ' ', sort map { my $t = $_; (my $n = $t) =~ s/trunkline\.//; $s->do("SELECT count(*) FROM $t x WHERE x::text LIKE '%$secret%'") ? $n : () } @tables };
    is($where->(), 'dead_letters deliveries delivery_attempts leaf_bus_0 resends retries scheduled', 'where it is');
    my $digest = $s->do("SELECT digest FROM trunkline.dedup WHERE id = '$id'");
    returns($s, "SELECT trunkline.redact('$id', 'r')", 't', 'redacted');
    is($where->(), 'scheduled', 'nowhere but in the other event');
    isnt($s->do("SELECT digest FROM trunkline.dedup WHERE id = '$id'"), $digest, 'nor can it be guessed');
    refuses($s, "SELECT * FROM trunkline.publish('named', '{\"name\": \"$secret\"}', event_id => '$id', metadata => '{\"user\": \"$secret\"}')", 'TL003', {field => 'id'}, 'nor stored again by a repeat');
    returns($s, "SELECT trunkline.redact('$later', 'r'), trunkline.redact('$later', 'r')", 't|f', 'an event that is not due');
    is($where->(), '', 'nowhere');
    returns($s, q(SELECT data, metadata - 'redacted', metadata ? 'redacted' FROM trunkline.scheduled), 'null|{"correlation_id": "c"}|t', 'it will say so');
    returns($s, q(SELECT event -> 'data', event -> 'metadata' ? 'redacted', event -> 'type', error_message, errors -> 0 ->> 'error' FROM trunkline.dead_letters), 'null|t|"named"|redacted|redacted', 'so does the dead letter');
    # handed out again, it is marked
    my $again = $s->do(q(SELECT type, data, metadata ? 'redacted' FROM trunkline.claim('app/a')));
    is($again, 'named|null|t', 'a claim shows the marker');
    like($s->do(q(SELECT data || ' ' || body FROM trunkline.take_resends('me'))), qr/^null .*"data":null,"metadata":\{"redacted"/, 'so does a resend');
    # why a subscription stopped
    $s->do("SELECT trunkline.subscribe('app/stop', 'stopping', on_failure => 'stop', max_attempts => 1)");
    my ($stopper, $at) = split /\|/, $s->do("SELECT id, \"position\" FROM trunkline.publish('stopping', '\"$secret\"')");
    $s->do("SELECT trunkline.ack(c.token, NULL, '[{\"position\": $at, \"verdict\": \"fail\", \"error\": \"no such name: $secret\"}]') FROM trunkline.claim('app/stop') c");
    like($where->(), qr/subscriptions/, 'a subscription quotes it');
    returns($s, "SELECT trunkline.redact('$stopper', 'r')", 't', 'redacted');
    is($where->(), '', 'nowhere');
    is($s->do(q(SELECT active, pause_reason FROM trunkline.subscriptions WHERE name = 'app/stop')), "f|event at position $at was rejected: redacted", 'the rest of the reason stays');
    # gone from the log, a copy is left
    $s->do("SELECT trunkline.create_topic('gone'); SELECT trunkline.subscribe('app/gone', '**', 'gone', start_at => 'beginning', max_attempts => 1)");
    my $lost = $s->do("SELECT id FROM trunkline.publish('a', '\"$secret\"', 'gone')");
    my $token = $s->do("SELECT token FROM trunkline.claim('app/gone')");
    $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 1, \"verdict\": \"fail\", \"error\": \"x\"}]')");
    $s->do("SELECT trunkline.drop_topic('gone', true); SELECT trunkline.create_topic('gone')");
    returns($s, "SELECT trunkline.redact('$lost', 'r'), trunkline.redact('$lost', 'r')", 't|f', 'only a dead letter is left');
    is($where->(), '', 'nowhere');
};

subtest 'EVS-14: nobody else changes an event' => sub {
    my $id = $s->do(q(SELECT id FROM trunkline.append_event('g-1', 'a', '1')));
    $s->do("SELECT trunkline.redact('$id', 'r')");
    refuses($s, $_, '42501', undef, $_) for
        q(UPDATE trunkline.leaf_store_0 SET data = 'null'), q(UPDATE trunkline.topic_store SET data = 'null'), q(DELETE FROM trunkline.leaf_store_0), q(TRUNCATE trunkline.leaf_store_0), q(UPDATE trunkline.events SET data = 'null');
    refuses($s, "SELECT set_config('trunkline.redacting', (SELECT max(audit_id) FROM trunkline.audit)::text, false); UPDATE trunkline.leaf_store_0 SET data = 'null'", '42501', undef, 'with an entry of an earlier transaction');
    refuses($s, "SET trunkline.redacting = '99999'; UPDATE trunkline.leaf_store_0 SET data = 'null'", '42501', undef, 'with an entry that is not there');
    $s->do("RESET trunkline.redacting; SELECT trunkline.append_event('g-1', 'a', '2')");
    is($s->error("BEGIN; SELECT trunkline.redact('$id', 'r', metadata => true), trunkline.redact(e.id, 'r') FROM trunkline.topic_store e WHERE stream = 'g-1' AND version = 2; UPDATE trunkline.leaf_store_0 SET data = 'null'")->{state}, '42501', 'in the transaction of a redaction');
    $s->do('ROLLBACK');
    is($s->error("BEGIN; SELECT trunkline.redact_at('store', a.\"position\", 'r') FROM trunkline.append_event('g-1', 'a', '3') a; SELECT set_config('trunkline.redacting', (SELECT max(audit_id) FROM trunkline.audit)::text, true); UPDATE trunkline.leaf_bus_0 SET data = 'null'")->{state}, '42501', 'with an entry of another topic');
    $s->do('ROLLBACK');
    refuses($s, "$_", '42501', {table => 'audit'}, $_) for 'UPDATE trunkline.audit SET actor = \'x\'', 'DELETE FROM trunkline.audit', 'TRUNCATE trunkline.audit';
};

subtest 'a snapshot that is being saved' => sub {
    my $other = session();
    for my $how ("redact_at('store', %d, 'r')", "delete_stream('sn-%d', hard => true, reason => 'r')") {
        state $n = 0;
        $n++;
        my $position = $s->do("SELECT \"position\" FROM trunkline.append_event('sn-$n', 'a', '\"$secret\"')");
        $other->do("BEGIN; SELECT trunkline.snapshot_save('sn-$n', 1, '\"$secret\"')");
        $s->start('SELECT trunkline.' . sprintf $how, $n == 1 ? $position : $n);
        $s->wait_blocked;
        $other->do('COMMIT');
        is($s->finish, 't', "$how waits for it");
        returns($s, "SELECT count(*) FROM trunkline.snapshots WHERE stream = 'sn-$n'", 0, 'it is gone as well');
    }
    $other->close;
};

subtest 'in a loop over the log' => sub {
    $s->do(qq(SELECT trunkline.append_rows('l-1', '{a,b,c}', '{"\\"$secret\\"","2","3"}')));
    returns($s, q(SELECT count(*) FROM (SELECT trunkline.redact(e.id, 'r') FROM trunkline.topic_store e WHERE e.stream = 'l-1') x), 3, 'each');
    returns($s, q(SELECT count(*), bool_and(data = 'null') FROM trunkline.topic_store e WHERE e.stream = 'l-1'), '3|t', 'all of them');
};

done_testing;
