#!/usr/bin/perl
# RET-6, RET-7, CLN-2, CLN-6: dead letters: found, redriven, discarded, resolved, forgotten; stop and skip.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($s, $a, $b) = map { session() } 1 .. 3;

# A topic of its own with n events that a subscription of the same name rejected.
sub dead {
    my ($name, $n, $options) = @_;
    $s->do("SELECT trunkline.create_topic('$name'); SELECT trunkline.subscribe('$name', '**', '$name'" . ($options ? ", $options" : '') . ')');
    $s->do("SELECT trunkline.publish('$name.' || i, to_jsonb(i), '$name', key => 'k' || i % 2, tenant_id => 'tenant' || i % 2) FROM generate_series(1, $n) i");
    my ($token) = split /\|/, $s->do("SELECT token, 1 FROM trunkline.claim('$name', max_events => 10000) LIMIT 1");
    $s->do("SELECT trunkline.ack('$token', NULL, (SELECT jsonb_agg(jsonb_build_object('position', i, 'verdict', 'fail', 'error', 'e' || i)) FROM generate_series(1, $n) i))");
    return $name;
}

sub ids { my ($name) = @_; return split /\n/, $s->do("SELECT dead_letter_id FROM trunkline.dead_letters WHERE subscription = '$name' ORDER BY 1") }
sub states { my ($name) = @_; return $s->do("SELECT string_agg(state, ' ' ORDER BY dead_letter_id) FROM trunkline.dead_letters WHERE subscription = '$name'") }
sub retries { my ($columns, $name) = @_; return $s->do("SELECT $columns FROM trunkline.retries JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$name' ORDER BY \"position\"") }

sub claim {
    my ($name) = @_;
    my @rows = map { [split /\|/] } split /\n/, $s->do("SELECT token, \"position\", attempt, data FROM trunkline.claim('$name')");
    return ($rows[0] ? $rows[0][0] : 'none', join ' ', map { "$_->[1]:$_->[2]:$_->[3]" } @rows);
}

subtest 'RET-7: list, show, stats' => sub {
    dead('listed', 6);
    dead('other', 1);
    my @id = ids('listed');
    my $list = sub { return join ' ', split /\n/, $s->do("SELECT \"position\" FROM trunkline.dead_list($_[0])") };
    is($list->("'listed'"), '1 2 3 4 5 6', 'of a subscription, oldest first');
    is($list->(''), '1 2 3 4 5 6 1', 'of all');
    is($list->("pattern => 'listed.3'"), 3, 'by type');
    is($list->("pattern => 'other.*'"), 1, 'by pattern');
    is($list->("reason => 'crashed'"), '', 'by reason');
    is($list->("'listed', reason => 'rejected', tenant_id => 'tenant1'"), '1 3 5', 'by reason and tenant');
    is($list->("'listed', max_events => 2"), '1 2', 'so many');
    is($list->("'listed', after => $id[3]"), '5 6', 'after a number');
    my ($third, $fifth) = @{[split /\n/, $s->do("SELECT dead_at FROM trunkline.dead_letters WHERE dead_letter_id IN ($id[2], $id[4]) ORDER BY dead_letter_id")]};
    is($list->("'listed', since => '$third', until => '$fifth'"), '3 4', 'by time: from, and before');
    is($list->("'listed', state => 'resolved'"), '', 'by state');
    is($list->("'listed', state => NULL"), '1 2 3 4 5 6', 'in any state');
    is($s->do("SELECT dead_letter_id, subscription, topic, \"position\", id = (SELECT id FROM trunkline.topic_listed WHERE \"position\" = 2), type, key, tenant_id, reason, attempts, error_message, dead_at IS NOT NULL, state, settled_at, settled_by, note
        FROM trunkline.dead_list('listed', pattern => 'listed.2')"),
        "$id[1]|listed|listed|2|t|listed.2|k0|tenant0|rejected|1|e2|t|dead|||", 'what it says');
    is($s->do("SELECT subscription, event -> 'data', errors -> 0 ->> 'error' FROM trunkline.dead_show($id[1])"), 'listed|2|e2', 'show: with the payload');
    is($s->do("SELECT subscription, reason, dead, redriven, discarded, resolved, oldest < newest FROM trunkline.dead_stats() WHERE subscription = 'listed'"),
        'listed|rejected|6|0|0|0|t', 'stats');
    refuses($s, 'SELECT trunkline.dead_show(0)', 'TL002', {field => 'dead_letter_id'});
    refuses($s, "SELECT * FROM trunkline.dead_list('nobody')", 'TL002', {field => 'subscription'});
    refuses($s, "SELECT * FROM trunkline.dead_list($_->[1])", 'TL005', {field => $_->[0]}) for
        [pattern => "pattern => 'a..b'"], [reason => "reason => 'bad luck'"], [state => "state => 'alive'"],
        [until => "since => '2026-01-02', until => '2026-01-02'"], [max_events => 'max_events => 0'], [max_events => 'max_events => 100001'], [max_events => 'max_events => NULL'];
};

subtest 'RET-7: redrive' => sub {
    my $f = dead('driven', 5);
    my @id = ids($f);
    refuses($s, 'SELECT trunkline.redrive()', 'TL005', {field => 'ids'}, 'without any condition: asks which');
    is($s->do("SELECT trunkline.redrive(subscription => '$f', dry_run => true)"), 5, 'dry run: a number');
    is(states($f), 'dead dead dead dead dead', 'and nothing else');
    is($s->do("SELECT trunkline.redrive('{$id[1]}')"), 1, 'one');
    is($s->do("SELECT trunkline.redrive('{$id[1]}')"), 0, 'again: it is on its way');
    is(states($f), 'dead redriven dead dead dead', 'its state');
    is($s->do("SELECT settled_at IS NOT NULL, settled_by = current_user FROM trunkline.dead_letters WHERE dead_letter_id = $id[1]"), 't|t', 'when and by whom');
    is(retries('"position", attempt, key IS NULL, event ->> \'type\', next_attempt_at <= clock_timestamp(), error_message', $f), "2|0|t|$f.2|t|e2", 'it waits with a copy, blocks nothing, is due');
    my ($token, $got) = claim($f);
    is($got, '2:1:2', 'it is handed out as a first attempt');
    $s->do("SELECT trunkline.ack('$token')");
    is(retries('1', $f), '', 'done');
    is($s->do("SELECT trunkline.redrive(subscription => '$f', max_events => 2)"), 2, 'so many, oldest first');
    is(states($f), 'redriven redriven redriven dead dead', 'the oldest');
    is($s->do("SELECT trunkline.redrive(pattern => '$f.5', tenant_id => 'tenant1', reason => 'rejected', since => '2026-01-01')"), 1, 'by conditions');
    is($s->do("SELECT trunkline.redrive(pattern => '$f.4', tenant_id => 'tenant1')"), 0, 'all of which count');
    refuses($s, "SELECT trunkline.redrive('{$id[0], 0}')", 'TL002', {field => 'ids', value => 0}, 'an unknown number');
    is(states($f), 'redriven redriven redriven dead redriven', 'changes nothing');
    refuses($s, "SELECT trunkline.redrive('{$id[3]}', rate => $_)", 'TL005', {field => 'rate', limit => 1000000}) for qw(0 -1 'NaN');
    $s->do("SELECT trunkline.unsubscribe('$f', true)");
    refuses($s, "SELECT trunkline.redrive('{$id[3]}')", 'TL001', {field => 'ids', value => $id[3] + 0}, 'its subscription is gone');
    is($s->do("SELECT trunkline.redrive(pattern => '$f.*')"), 0, 'by a condition: passed over');
};

subtest 'RET-7: redrive at a rate' => sub {
    my $f = dead('slow', 4);
    is($s->do("SELECT trunkline.redrive(subscription => '$f', rate => 0.5)"), 4, 'one in two seconds');
    my @due = split /\n/, retries('round(extract(epoch FROM next_attempt_at - min(next_attempt_at) OVER ()), 1)', $f);
    is("@due", '0.0 2.0 4.0 6.0', 'their due times are spread') or diag "@due";
    is((claim($f))[1], '1:1:1', 'the first is handed out now');
};

subtest 'RET-7: it dies again' => sub {
    my $f = dead('undead', 1);
    my ($id) = ids($f);
    for my $round (1, 2) {
        $s->do("SELECT trunkline.redrive('{$id}')");
        my ($token) = claim($f);
        $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 1, \"verdict\": \"fail\", \"error\": \"again $round\"}]')");
        is($s->do("SELECT dead_letter_id, state, settled_at, error_message FROM trunkline.dead_letters WHERE subscription = '$f'"), "$id|dead||again $round", 'the same letter is dead again');
        is(retries('1', $f), '', 'and waits no more');
    }
};

subtest 'RET-7: two redrives at once run it once' => sub {
    my $f = dead('race', 6);
    my @id = ids($f);
    my $list = join ',', @id[0 .. 3];
    my $all = "SELECT trunkline.redrive(subscription => '$f')";
    # the first has its rows locked and has not committed
    is($a->do("BEGIN; SELECT trunkline.redrive('{$list}')"), 4, 'one takes four');
    is($b->do($all), 2, 'the other does not wait for those and takes the rest');
    $a->do('COMMIT');
    is($s->do($all), 0, 'nothing is left');
    is($s->do("SELECT count(*) FROM trunkline.retries JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$f'"), 6, 'each waits once');
    is(states($f), join(' ', ('redriven') x 6), 'all are on their way');
    # it looked before the other committed and locks after
    $f = dead('race_two', 2);
    @id = ids($f);
    my $gate = 'LOCK TABLE trunkline.subscriptions IN ACCESS EXCLUSIVE MODE';
    $s->do("BEGIN; $gate");
    $a->start("SELECT trunkline.redrive('{$id[0]}')");
    $a->wait_blocked;
    $s->do("UPDATE trunkline.dead_letters SET state = 'discarded', settled_at = now() WHERE dead_letter_id = $id[0]; COMMIT");
    is($a->finish, 0, 'one that was settled between the look and the lock is left alone');
    is(retries('1', $f), '', 'nothing waits');
    # one that a person discards while it is redriven
    $a->do("BEGIN; SELECT trunkline.redrive('{$id[1]}')");
    is($b->do("SELECT trunkline.discard('{$id[1]}')"), 0, 'discard passes over what is being redriven');
    $a->do('ROLLBACK');
    is($b->do("SELECT trunkline.discard('{$id[1]}')"), 1, 'rolled back: it is there again');
};

subtest 'RET-7: redrive of an event that is being tried' => sub {
    my $f = dead('busy', 1, "max_attempts => 2, retry_delay => '0 s'");
    my ($id) = ids($f);
    $s->do("SELECT trunkline.reset('$f', 'beginning')");
    my ($token) = claim($f);
    $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 1, \"error\": \"first\"}]')");
    is($s->do("SELECT trunkline.redrive('{$id}')"), 1, 'it waits for an attempt already');
    is(retries('attempt, event IS NULL', $f), '1|t', 'and goes on with that');
    # dead again while its letter is redriven: the ack waits for the redrive and has the last word
    $s->do("UPDATE trunkline.dead_letters SET state = 'dead', settled_at = NULL WHERE dead_letter_id = $id");
    ($token) = claim($f);
    $a->do("BEGIN; SELECT trunkline.redrive('{$id}')");
    $b->start("SELECT trunkline.ack('$token', NULL, '[{\"position\": 1, \"error\": \"second\"}]')");
    $b->wait_blocked;
    $a->do('COMMIT');
    is($b->finish, 1, 'no deadlock');
    is($s->do("SELECT state, error_message FROM trunkline.dead_letters WHERE dead_letter_id = $id"), 'dead|second', 'dead, with the last error');
    is(retries('1', $f), '', 'and it waits no more');
};

subtest 'RET-7: discard and resolve' => sub {
    my $f = dead('settled', 5);
    my @id = ids($f);
    for my $verb (['discard', 'discarded'], ['resolve', 'resolved']) {
        my ($call, $state) = @$verb;
        my $first = $call eq 'discard' ? 0 : 2;
        refuses($s, "SELECT trunkline.$call()", 'TL005', {field => 'ids'}, "$call without any condition");
        refuses($s, "SELECT trunkline.$call('{0}')", 'TL002', {field => 'ids', value => 0});
        refuses($s, "SELECT trunkline.$call('{$id[0]}', note => repeat('x', 2001))", 'TL005', {field => 'note', limit => 2000});
        is($s->do("SELECT trunkline.$call('{$id[$first]}', dry_run => true)"), 1, 'dry run');
        is($s->do("SELECT trunkline.$call('{$id[$first]}', note => 'by hand')"), 1, $call);
        is($s->do("SELECT trunkline.$call('{$id[$first]}')"), 0, 'again: nothing');
        is($s->do("SELECT state, settled_at IS NOT NULL, settled_by = current_user, note FROM trunkline.dead_letters WHERE dead_letter_id = $id[$first]"), "$state|t|t|by hand", 'what it leaves');
        is($s->do("SELECT trunkline.$call(subscription => '$f', max_events => 1)"), 1, 'by a condition, so many');
    }
    is(states($f), 'discarded discarded resolved resolved dead', 'five letters');
    is($s->do("SELECT trunkline.redrive(pattern => '**', subscription => '$f')"), 1, 'only the dead one can be redriven');
    is($s->do("SELECT redriven, discarded, resolved, dead FROM trunkline.dead_stats() WHERE subscription = '$f'"), '1|2|2|0', 'stats');
};

subtest 'RET-3, RET-6: maintain() forgets what was settled long ago' => sub {
    my $f = dead('old', 4);
    my @id = ids($f);
    $s->do("SELECT trunkline.discard('{$id[0], $id[1]}'); SELECT trunkline.resolve('{$id[2]}')");
    $s->do("UPDATE trunkline.dead_letters SET settled_at = now() - interval '30 days 1 min' WHERE dead_letter_id IN ($id[0], $id[2])");
    $s->do("UPDATE trunkline.dead_letters SET settled_at = now() - interval '29 days' WHERE dead_letter_id = $id[1]");
    $s->do("UPDATE trunkline.dead_letters SET dead_at = now() - interval '10 years' WHERE dead_letter_id = $id[3]");
    like($s->do('SELECT trunkline.maintain()'), qr/^\(forgot,dead_letters,"2 settled more than 30 days ago"\)$/m, 'two, and it says so');
    is(join(' ', ids($f)), "$id[1] $id[3]", 'not the younger one, never one that is dead');
    my $subscription = $s->do("SELECT subscription_id FROM trunkline.subscriptions WHERE name = '$f'");
    $s->do("INSERT INTO trunkline.deliveries (subscription_id, \"position\", event_id, state, attempts, started_at, completed_at)
        SELECT $subscription, i, gen_random_uuid(), CASE WHEN i % 2 = 0 THEN 'completed' ELSE 'processing' END, 1, now() - interval '99 days', CASE WHEN i % 2 = 0 THEN now() - interval '31 days' END FROM generate_series(1, 20003) i");
    is(join(' ', map { $s->do('SELECT trunkline.maintain()') =~ /^\(forgot,deliveries,"(\d+) ended/m ? $1 : 0 } 1 .. 3), '10000 1 0', 'deliveries that ended: at most 10000 at a time');
    is($s->do('SELECT count(*), count(completed_at) FROM trunkline.deliveries'), '10002|0', 'not those that have not ended');
    # a letter that somebody works on is left to the next run
    $s->do("UPDATE trunkline.dead_letters SET settled_at = now() - interval '31 days' WHERE dead_letter_id = $id[1]");
    $a->do("BEGIN; SELECT FROM trunkline.dead_letters WHERE dead_letter_id = $id[1] FOR UPDATE");
    unlike($s->do('SELECT trunkline.maintain()'), qr/dead_letters|skipped|failed/, 'it waits for nobody');
    $a->do('ROLLBACK');
};

subtest 'CLN-6, RET-6: dead letters do not hold retention' => sub {
    my $f = dead('gone', 3);
    my @id = ids($f);
    my $topic = $s->do("SELECT topic_id FROM trunkline.topics WHERE name = '$f'");
    is($s->do("SELECT low, held_by FROM trunkline.low_water($topic)"), "3|$f", 'three dead letters: everything may go');
    # the leaf goes
    $s->do("SELECT trunkline.set_topic('$f', 'hour', '1 h', 1048576, NULL)");
    $s->do("SELECT trunkline.add_leaf('$f', 1), setval('trunkline.position_$f', 1::bigint << 30)");
    $s->do("SELECT trunkline.publish('$f.new', '1', '$f')");
    my ($token) = claim($f);
    $s->do("SELECT trunkline.ack('$token')");
    $s->do("SET session_replication_role = replica; UPDATE trunkline.topic_$f SET created_at = created_at - interval '1 day'; SET session_replication_role = origin");
    wait_until(sub { $s->do('SELECT trunkline.maintain()') =~ /^\(dropped,$f,"leaf 0/m });
    is($s->do("SELECT count(*) FROM trunkline.topic_$f WHERE \"position\" < 10"), 0, 'the leaf is dropped');
    is($s->do("SELECT event -> 'data' FROM trunkline.dead_show($id[1])"), 2, 'the letters have their events');
    is($s->do("SELECT trunkline.redrive('{$id[1]}')"), 1, 'and can be redriven');
    cmp_ok($s->do("SELECT low FROM trunkline.low_water($topic)"), '>', 10, 'which holds nothing either');
    ($token, my $got) = claim($f);
    is($got, '2:1:2', 'it is handed out from the copy');
    is($s->do("SELECT trunkline.ack('$token')"), 1, 'and settled');
};

subtest 'SUB-10: stop, resume, skip' => sub {
    my $f = 'stopped';
    $s->do("SELECT trunkline.create_topic('$f'); SELECT trunkline.subscribe('$f', '**', '$f', on_failure => 'stop', max_attempts => 2, retry_delay => '0 s', track => 'all')");
    $s->do("SELECT trunkline.publish('$f.' || i, to_jsonb(i), '$f', key => 'k' || i % 2) FROM generate_series(1, 6) i");
    my $fail = sub {
        my ($token, $got) = claim($f);
        $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 1, \"error\": \"no\"}" . ($_[0] // '') . "]')");
        return $got;
    };
    is($fail->(', {"position": 3, "verdict": "defer"}, {"position": 5, "verdict": "defer"}'), '1:1:1 2:1:2 3:1:3 4:1:4 5:1:5 6:1:6', 'the first fails, those behind it of its key wait');
    is($fail->(), '1:2:1', 'its second attempt');
    like($s->do("SELECT active, pause_reason FROM trunkline.subscriptions WHERE name = '$f'"), qr/^f\|event at position 1 failed 2 times: no$/, 'the subscription stops and says where');
    is($s->do("SELECT count(*) FROM trunkline.dead_letters WHERE subscription = '$f'"), 0, 'nothing is given up');
    is($s->do("SELECT trunkline.resume('$f')"), 't', 'resume');
    is($fail->(), '1:1:1', 'tries that event again, with all its attempts');
    is($fail->(), '1:2:1', 'all of them');
    is($s->do("SELECT trunkline.resume('$f', skip => true)"), 't', 'it stopped again: resume with skip');
    is($s->do("SELECT \"position\", reason, error_message, attempts FROM trunkline.dead_list('$f')"), '1|skipped|no|2', 'the event is a dead letter');
    is($s->do('SELECT "position", state FROM trunkline.deliveries WHERE state NOT IN ($$completed$$, $$retrying$$) AND subscription_id = (SELECT subscription_id FROM trunkline.subscriptions WHERE name = $$stopped$$)'), '1|failed', 'and its delivery has failed');
    my ($token, $got) = claim($f);
    is($got, '3:1:3 5:1:5', 'and those that waited come, in order');
    $s->do("SELECT trunkline.ack('$token')");
    is($s->do("SELECT active, pause_reason FROM trunkline.subscriptions WHERE name = '$f'"), 't|', 'it is active');
};

subtest 'redrive to who gets no events any more' => sub {
    $s->do("CREATE FUNCTION public.inline(jsonb) RETURNS void LANGUAGE sql AS ''");
    dead('inline', 2);
    $s->do("SELECT trunkline.subscribe('inline', '**', 'inline', mode => 'sync', target => 'sql:public.inline')");
    my ($id) = ids('inline');
    refuses($s, "SELECT trunkline.redrive(ids => ARRAY[$id])", 'TL001', {field => 'ids', value => $id}, 'by id');
    is($s->do("SELECT trunkline.redrive(subscription => 'inline', dry_run => true), trunkline.redrive(subscription => 'inline')"), '0|0', 'by a condition');
    is(states('inline'), 'dead dead', 'they stay dead');
};

subtest 'no answer is not a yes' => sub {
    dead('null', 2);
    is($s->do("SELECT trunkline.redrive(subscription => 'null', dry_run => NULL), trunkline.discard(subscription => 'null', dry_run => NULL)"), '2|2', 'counted');
    is(states('null'), 'dead dead', 'and no more');
    is($s->do("SELECT replay_id IS NULL, events FROM trunkline.replay('null', 'beginning', dry_run => NULL)"), 't|2', 'replay');
    $s->do("SELECT trunkline.publish('t', '1', 'null')");
    refuses($s, "SELECT trunkline.unsubscribe('null', NULL)", 'TL001', undef, 'unsubscribe');
    refuses($s, "SELECT trunkline.drop_topic('null', NULL)", 'TL001', undef, 'drop_topic');
};

done_testing;
