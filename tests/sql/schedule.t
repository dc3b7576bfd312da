#!/usr/bin/perl
# PUB-4, SCH-1, SCH-3, SCH-5, IDM-1, CLN-1: events that fall due later, moved into the log exactly once.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($a, $b, $c, $d) = map { session() } 1 .. 4;
my $count = 0;
sub uuid { return sprintf '00000000-0000-4000-8000-%012d', ++$count }
sub later { my ($type, $more) = @_; return $a->do("SELECT id FROM trunkline.publish('$type', '1', $more)") }
sub types { return $a->do("SELECT coalesce(string_agg(type, ' ' ORDER BY \"position\"), '') FROM trunkline.topic_bus WHERE type ~ '^$_[0]'") }
sub scheduled { return $a->do('SELECT count(*) FROM trunkline.scheduled') }
# not by the clock: what is scheduled for in an hour is due now
sub make_due { $a->do("UPDATE trunkline.scheduled SET run_at = run_at - interval '2 h', due_at = due_at - interval '2 h'"); return }
sub empty { $a->do('DELETE FROM trunkline.scheduled'); return }

subtest 'SCH-1: run_at and delay' => sub {
    like($a->do("SELECT * FROM trunkline.publish('s1.b', '{\"x\": 1}', delay => '1 h', key => 'k', tenant_id => 't', source => 's', metadata => '{\"m\": 1}', expires_at => '2090-01-01')"),
        qr/^[0-9a-f]{8}-[0-9a-f]{4}-7001-[89ab][0-9a-f]{3}-[0-9a-f]{12}\|\|f$/, 'delay: an id, no position');
    my $id = later('s1.a', "run_at => now() + interval '30 min'");
    is(types('s1'), '', 'not in the log');
    is($a->do("SELECT moved.n FROM trunkline.move_due() moved(n)"), 0, 'nor due');
    is($a->do("SELECT string_agg(type || ' ' || round(extract(epoch FROM run_at - created_at) / 60), ', ' ORDER BY run_at) FROM trunkline.scheduled_events"), 's1.a 30, s1.b 60', 'but scheduled');
    for ('next_scheduled() BETWEEN 1790000000 AND 1800000000', "(SELECT scheduled = 2 AND next_run_at > now() FROM trunkline.topic_status WHERE topic = 'bus')") {
        is($a->do("SELECT " . (/^next/ ? "trunkline.$_" : $_)), 't', substr $_, 0, 40);
    }
    make_due();
    is($a->do('SELECT trunkline.next_scheduled()'), 0, 'due');
    is($a->do('SELECT trunkline.move_due()'), 2, 'moved');
    is($a->do('SELECT trunkline.next_scheduled() IS NULL'), 't', 'nothing else is scheduled');
    is(types('s1'), 's1.a s1.b', 'in the order of due times');
    is($a->do("SELECT id FROM trunkline.topic_bus WHERE type = 's1.a'"), $id, 'with its id');
    is($a->do("SELECT data, key, tenant_id, source, metadata, expires_at AT TIME ZONE 'UTC' FROM trunkline.topic_bus WHERE type = 's1.b'"),
        '{"x": 1}|k|t|s|{"m": 1}|2090-01-01 00:00:00', 'and all that was said');
    is(scheduled(), 0, 'gone from scheduled');

    like($a->do("SELECT * FROM trunkline.publish('s1.c', '1', $_)"), qr/\|\d+\|f$/, "at once: $_")
        for "run_at => now() - interval '1 day'", "run_at => now()", "delay => '0'", "run_at => now() - interval '1 s', event_id => '" . uuid() . "'";
    is(scheduled(), 0, 'not by way of scheduled');
    refuses($a, "SELECT trunkline.publish('a', '1', $_->[1])", 'TL005', {field => $_->[0]}) for
        ['run_at', "run_at => 'infinity'"], ['run_at', "run_at => '-infinity'"], ['run_at', "run_at => now() + interval '10 years 1 day'"],
        ['delay', "delay => '-1 s'"], ['delay', "delay => '10 years 1 s'"], ['delay', "run_at => now(), delay => '1 s'"];
    refuses($a, "SELECT trunkline.publish($_->[2], delay => '1 h')", $_->[0], {field => $_->[1]}, "checked at once: $_->[1]") for
        ['TL005', 'type', "'a..b', '1'"], ['TL005', 'key', "'a', '1', key => ''"], ['TL005', 'metadata', "'a', '1', metadata => '[]'"],
        ['TL007', 'data', "'a', to_jsonb(repeat('x', 1048577))"], ['TL002', 'topic', "'a', '1', 'nowhere'"];
    is(scheduled(), 0, 'nothing was stored');
    $a->do("BEGIN; SELECT trunkline.publish('a', '1', delay => '1 h'); ROLLBACK");
    is(scheduled(), 0, 'rolled back with its transaction');
};

subtest 'CLN-1: ttl' => sub {
    $a->do("SET TimeZone = 'Pacific/Kiritimati'");
    is($a->do("SELECT round(extract(epoch FROM expires_at - created_at)) FROM trunkline.topic_bus WHERE id = '" . later('t1.now', "ttl => '90 s'") . "'"), 90, 'from now on');
    is($a->do("SELECT round(extract(epoch FROM expires_at - created_at)) FROM trunkline.topic_bus WHERE id = '" . later('t1.id', "ttl => '90 s', event_id => '" . uuid() . "'") . "'"), 90, 'with an id');
    $a->do('RESET TimeZone');
    my $id = later('t1.later', "ttl => '90 s', delay => '1 h'");
    my $life = sub { $a->do("SELECT round(extract(epoch FROM expires_at - run_at)) FROM trunkline.scheduled WHERE id = '$id'") };
    is($life->(), 90, 'from when it falls due');
    $a->do("SELECT trunkline.reschedule('$id', now() + interval '3 h')");
    is($life->(), 90, 'also when that changes');
    refuses($a, "SELECT trunkline.publish('a', '1', $_)", 'TL005', {field => 'ttl'}) for
        "ttl => '0'", "ttl => '-1 s'", "ttl => '1001 years'", "ttl => '1 s', expires_at => now()", "ttl => '-1 s', delay => '1 h'";
    my $fixed = later('t1.fixed', "expires_at => '2090-01-01', delay => '1 h'");
    $a->do("SELECT trunkline.reschedule('$fixed', now() + interval '3 h')");
    is($a->do("SELECT expires_at AT TIME ZONE 'UTC' FROM trunkline.scheduled WHERE id = '$fixed'"), '2090-01-01 00:00:00', 'a fixed time stays');
    empty();
};

subtest 'the order of due times, over batches and topics' => sub {
    $a->do("SELECT trunkline.create_topic('other')");
    $a->do("SELECT trunkline.publish('o1.' || lpad(((i * 37) % 100)::text, 2, '0'), '1', CASE WHEN i % 2 = 0 THEN 'bus' ELSE 'other' END, run_at => now() + ((i * 37) % 100 - 200) * interval '1 s' + interval '1 h') FROM generate_series(0, 99) i");
    # the same due time: the order of scheduling
    $a->do("SELECT trunkline.publish('o2.' || i, '1', run_at => '2035-01-01') FROM generate_series(1, 9) i; UPDATE trunkline.scheduled SET run_at = now() + interval '119 min', due_at = now() + interval '119 min' WHERE type LIKE 'o2%'");
    make_due();
    my @moved;
    push @moved, $a->do('SELECT trunkline.move_due(30)') until @moved && !$moved[-1];
    is("@moved", '30 30 30 19 0', 'in batches');
    for my $topic (qw(bus other)) {
        is($a->do("SELECT string_agg(type, ' ' ORDER BY \"position\") = string_agg(type, ' ' ORDER BY type) AND count(*) = 50 FROM trunkline.topic_$topic WHERE type LIKE 'o1%'"), 't', "$topic: in order");
    }
    is(types('o2'), join(' ', map { "o2.$_" } 1 .. 9), 'by time of scheduling');
    refuses($a, "SELECT trunkline.move_due($_)", 'TL005', {field => 'max_events', limit => 10000}) for 0, 10001, 'NULL';
};

# They fall due one by one, quicker than they are looked at, while the mover looks again and again.
subtest 'SCH-1: what falls due while the mover looks does not come first' => sub {
    $a->do("SELECT trunkline.publish('w1.x', to_jsonb(i), delay => '1 h') FROM generate_series(1, 3000) i");
    $a->do("WITH at AS MATERIALIZED (SELECT clock_timestamp() + interval '1 s' AS at)
            UPDATE trunkline.scheduled s SET run_at = w.at, due_at = w.at
              FROM (SELECT scheduled_id, at + row_number() OVER (ORDER BY scheduled_id) / 20 * interval '1 us' AS at FROM trunkline.scheduled, at) w
             WHERE w.scheduled_id = s.scheduled_id");
    $a->do("DO 'BEGIN
                PERFORM pg_sleep_until((SELECT min(due_at) FROM trunkline.scheduled) - interval ''50 ms'');
                WHILE EXISTS (SELECT FROM trunkline.scheduled) LOOP PERFORM trunkline.move_due(); END LOOP;
            END'");
    is($a->do("SELECT count(*), count(*) FILTER (WHERE i < before) FROM (SELECT data::integer AS i, lag(data::integer) OVER (ORDER BY \"position\") AS before FROM trunkline.topic_bus WHERE type = 'w1.x') e"),
        '3000|0', 'all in the order of due times');
};

subtest 'IDM-1: ids while scheduled' => sub {
    my $id = uuid();
    my $publish = sub { my ($data, $more) = @_; return "SELECT * FROM trunkline.publish('i1', '$data', event_id => '$id'" . ($more ? ", $more" : '') . ')' };
    is($a->do($publish->(1, "delay => '1 h', ttl => '1 day'")), "$id||f", 'scheduled');
    is($b->do($publish->(1, $_)), "$id||t", "again: $_") for "delay => '1 h', ttl => '1 day'", "run_at => '2035-01-01', ttl => '1 day'", "ttl => '1 day'";
    refuses($b, $_, 'TL003', {field => 'id', id => $id}) for $publish->(2, "delay => '1 h', ttl => '1 day'"), $publish->(1, "delay => '1 h'"), $publish->(2);
    is(scheduled(), 1, 'one event');
    $a->do("UPDATE trunkline.dedup SET created_at = '1999-01-01'; SELECT trunkline.maintain()");
    is($b->do($publish->(1, "delay => '1 h', ttl => '1 day'")), "$id||t", 'the dedup window does not end before it is due');
    make_due();
    $a->do('SELECT trunkline.move_due()');
    like($b->do($publish->(1, "delay => '1 h', ttl => '1 day'")), qr/^$id\|\d+\|t$/, 'moved: the same, with its position');
    is($a->do('SELECT count(*) FROM trunkline.maintain() WHERE action = \'forgot\''), 0, 'the window begins when it is moved');
    is(types('i1'), 'i1', 'one event');

    for my $case (['the same content', 1], ['other content', 2]) {
        my ($name, $data) = @$case;
        for my $end (qw(COMMIT ROLLBACK)) {
            for my $when ("delay => '1 h'", '') {
                $id = uuid();
                $a->do('BEGIN; ' . $publish->(1, "delay => '1 h'"));
                $b->start($publish->($data, $when));
                $b->wait_blocked;
                $a->do($end);
                my $got = $b->finish;
                my $title = "$name, $end, " . ($when || 'at once');
                if ($end eq 'ROLLBACK') { like($got, $when ? qr/^$id\|\|f$/ : qr/^$id\|\d+\|f$/, "$title: stored") }
                elsif ($data == 1) { is($got, "$id||t", "$title: the first's") }
                else { is($b->{error}{state}, 'TL003', "$title: refused") }
            }
        }
    }
    empty();
};

subtest 'batches' => sub {
    my $id = uuid();
    my $batch = qq([{"type": "b1.now"}, {"type": "b1.later", "delay": "1 h"}, {"type": "b1.at", "run_at": "2035-01-01", "ttl": "1 h"}, {"type": "b1.ttl", "ttl": "1 h"}, {"type": "b1.id", "id": "$id", "delay": "2 h", "key": "k"}]);
    is($a->do("SELECT string_agg(CASE WHEN \"position\" IS NULL THEN 'later' ELSE 'now' END, ' ') FROM trunkline.publish_batch('$batch')"), 'now later later now later', 'each as it says');
    is($a->do("SELECT string_agg(type || coalesce(' ' || (expires_at - run_at), ''), ', ' ORDER BY run_at) FROM trunkline.scheduled"), 'b1.later, b1.id, b1.at 01:00:00', 'scheduled');
    is($a->do("SELECT string_agg(type, ' ' ORDER BY \"position\") FROM trunkline.topic_bus WHERE type LIKE 'b1%' AND (expires_at > created_at + interval '59 min' OR type = 'b1.now')"), 'b1.now b1.ttl', 'published');
    refuses($a, "SELECT trunkline.publish_batch('[{\"type\": \"ok\"}, {\"type\": \"a\", $_->[0]}]')", 'TL005', {field => $_->[1], index => 1}) for
        ['"delay": "x"', 'delay'], ['"ttl": "x"', 'ttl'], ['"run_at": "x"', 'run_at'], ['"run_at": 5', 'run_at'], ['"delay": "-1 s"', 'delay'],
        ['"run_at": "infinity"', 'run_at'], ['"ttl": "0"', 'ttl'], ['"ttl": "1 s", "expires_at": "2035-01-01"', 'ttl'];
    empty();
};

subtest 'SCH-3: cancel and reschedule' => sub {
    my $id = uuid();
    later('c1.a', "event_id => '$id', delay => '1 h'");
    is($a->do("SELECT trunkline.cancel('$id')"), 't', 'cancelled');
    is(scheduled() . $a->do("SELECT count(*) FROM trunkline.dedup WHERE id = '$id'"), '00', 'nothing is left');
    refuses($a, "SELECT trunkline.cancel('$id')", 'TL002', {id => $id}, 'a second time: unknown');
    like($a->do("SELECT * FROM trunkline.publish('c1.b', '2', event_id => '$id')"), qr/\|f$/, 'the id is free');

    my $moved = later('c1.c', "delay => '1 h'");
    make_due();
    $a->do('SELECT trunkline.move_due()');
    my $position = $a->do("SELECT \"position\" FROM trunkline.topic_bus WHERE id = '$moved'");
    my $plain = later('c1.d', 'key => NULL');
    refuses($a, "SELECT trunkline.$_", 'TL005', {field => 'id', position => $position}, "begun: $_") for "cancel('$moved')", "reschedule('$moved', now() + interval '1 h')", "cancel('$moved', 'bus')";
    refuses($a, "SELECT trunkline.cancel('$_')", 'TL005', {field => 'id', id => $_}, 'never delayed') for $plain, $id;
    refuses($a, "SELECT trunkline.$_", 'TL002', {field => 'id'}) for "cancel(gen_random_uuid())", "reschedule(gen_random_uuid(), now())", "cancel('$plain', 'store')", "cancel('ffffffff-ffff-7fff-bfff-ffffffffffff')", "cancel('00000000-0000-7000-8000-000000000000')";

    $id = later('c1.e', "delay => '1 h'");
    my $other = later('c1.f', "delay => '2 h'");
    is($a->do("SELECT trunkline.reschedule('$id', now() + interval '3 h')"), 't', 'later');
    $a->do("SELECT trunkline.reschedule('$other', now())");
    is($a->do('SELECT trunkline.move_due()'), 1, 'earlier: due');
    is(types('c1.[ef]'), 'c1.f', 'that one');
    refuses($a, "SELECT trunkline.reschedule('$id', $_)", 'TL005', {field => 'run_at'}) for 'NULL', "'infinity'", "now() + interval '11 years'";
    $a->do("SELECT trunkline.cancel('$id')");

    $id = uuid();
    later('c1.g', "event_id => '$id', delay => '1 h'");
    later('c1.g', "event_id => '$id', delay => '1 h', topic => 'store'");
    refuses($a, "SELECT trunkline.cancel('$id')", 'TL005', {field => 'topic'}, 'one id on two topics');
    is($a->do("SELECT trunkline.cancel('$id', 'store')"), 't', 'with the topic');
    is($a->do("SELECT trunkline.cancel('$id')"), 't', 'and the other');
};

subtest 'cancel against the move' => sub {
    my $id = later('m1.a', "delay => '1 h'");
    make_due();
    $b->do('BEGIN; SELECT trunkline.move_due()');
    $a->start("SELECT trunkline.cancel('$id')");
    $a->wait_blocked;
    $b->do('COMMIT');
    $a->finish;
    is($a->{error}{state}, 'TL005', 'it waits for the mover and is too late');

    $id = later('m1.b', "delay => '1 h'");
    make_due();
    $b->do('BEGIN; SELECT trunkline.move_due()');
    $a->start("SELECT trunkline.cancel('$id')");
    $a->wait_blocked;
    $b->do('ROLLBACK');
    is($a->finish, 't', 'the move is undone: in time');
    is(types('m1.b') . scheduled(), '0', 'and nothing is left');

    $id = later('m1.c', "delay => '1 h'");
    my $next = later('m1.d', "delay => '1 h'");
    make_due();
    $a->do("BEGIN; SELECT trunkline.cancel('$id')");
    is($b->do('SELECT trunkline.move_due()'), 1, 'the mover goes past one that is being cancelled');
    $a->do('ROLLBACK');
    is($b->do('SELECT trunkline.move_due()'), 1, 'and takes it when it was not');
    is(types('m1.[cd]'), 'm1.d m1.c', 'both once');

    $id = later('m1.e', "delay => '1 h'");
    make_due();
    $b->do('BEGIN; SELECT trunkline.move_due()');
    $a->start("SELECT trunkline.reschedule('$id', now() + interval '1 h')");
    $a->wait_blocked;
    $b->do('COMMIT');
    $a->finish;
    is($a->{error}{state}, 'TL005', 'reschedule is too late likewise');
};

subtest 'two movers, and one that is killed' => sub {
    later("m2.$_", "delay => '1 h'") for 1 .. 3;
    make_due();
    $b->do('BEGIN');
    is($b->do('SELECT trunkline.move_due(1)'), 1, 'one moves');
    is($c->do('SELECT trunkline.move_due()'), 0, 'another gets nothing at once');
    is($c->do("SELECT count(*) FROM trunkline.maintain() WHERE action = 'moved'"), 0, 'nor does maintain()');
    $b->do('COMMIT');
    is($c->do('SELECT trunkline.move_due()'), 2, 'then the rest');
    is(types('m2'), 'm2.1 m2.2 m2.3', 'each once, in order');

    later("m3.$_", "delay => '1 h'") for 1 .. 3;
    make_due();
    $d->do('BEGIN; SELECT trunkline.move_due()');
    $a->do("SELECT pg_terminate_backend($d->{pid})");
    wait_until(sub { $a->do("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $d->{pid}") eq 't' });
    is(types('m3') . scheduled(), '3', 'killed before its commit: nothing moved, nothing lost');
    is($a->do("SELECT action || ' ' || detail FROM trunkline.maintain() WHERE action = 'moved'"), 'moved 3 events that were due', 'maintain() moves without a daemon');
    is(types('m3'), 'm3.1 m3.2 m3.3', 'each once');
};

subtest 'an event that the log refuses' => sub {
    $a->do("SELECT trunkline.create_topic('small')");
    my $big = $a->do("SELECT id FROM trunkline.publish('p1.big', (SELECT to_jsonb(string_agg(md5(i::text), '')) FROM generate_series(1, 100) i), 'small', delay => '1 h')");
    later("p1.$_", "delay => '1 h', topic => 'small'") for 1 .. 2;
    later('p1.bus', "delay => '1 h'");
    $a->do("SELECT trunkline.set_topic('small', 'none', NULL, 1024, '1 day')");
    make_due();
    is($a->do('SELECT trunkline.move_due()'), 3, 'does not hold up the others');
    is($a->do("SELECT string_agg(type, ' ' ORDER BY \"position\") FROM trunkline.topic_small"), 'p1.1 p1.2', 'nor their order');
    is($a->do("SELECT attempts || ' ' || left(error, 6) FROM trunkline.scheduled_events WHERE id = '$big'"), '1 23514:', 'is kept with its error');
    is($a->do("SELECT trunkline.next_scheduled() BETWEEN 50000000 AND 60000000"), 't', 'and tried again in a minute');
    $a->do("SELECT trunkline.set_topic('small', 'none', NULL, 1048576, '1 day'), trunkline.reschedule('$big', now())");
    is($a->do('SELECT trunkline.move_due()'), 1, 'or when a person says so');
    refuses($a, "SELECT trunkline.cancel('$big')", 'TL005', {field => 'id'}, 'moved now');
};

subtest 'drop_topic' => sub {
    my $id = later('d1', "delay => '1 h', topic => 'small'");
    refuses($a, "SELECT trunkline.drop_topic('small')", 'TL001', {scheduled => 1}, 'refused while events are scheduled');
    is(scheduled(), 1, 'and they stay');
    # a publisher that has not committed is waited for
    $b->do("BEGIN; SELECT trunkline.publish('d2', '1', 'small', delay => '1 h')");
    $a->start("SELECT trunkline.drop_topic('small', force => true)");
    $a->wait_blocked;
    $b->do('COMMIT');
    $a->finish;
    is(scheduled(), 0, 'by force: with the topic');
    refuses($a, "SELECT trunkline.cancel('$id')", 'TL002', {id => $id}, 'unknown then');
};

subtest 'the notification' => sub {
    $b->do('LISTEN "trunkline.due"');
    later('n1.a', "delay => '10 s'");
    is(scalar(my @near = $b->notifications), 1, 'for what is due soon');
    later('n1.b', "delay => '1 h'");
    is(scalar(my @far = $b->notifications), 0, 'none for what is not: the mover looks by itself');
    $a->do("SELECT trunkline.publish('n1.c', '1')");
    is(scalar(my @plain = $b->notifications), 0, 'none for what is not delayed');
    my $id = later('n1.d', "delay => '1 h'");
    $a->do("SELECT trunkline.reschedule('$id', now() + interval '10 s')");
    is(scalar(my @moved = $b->notifications), 1, 'for one that is moved there');
    $a->do("BEGIN; SET LOCAL trunkline.ring = off; SELECT trunkline.publish('n1.e', '1', delay => '10 s'); COMMIT");
    is(scalar(my @off = $b->notifications), 0, 'not with trunkline.ring = off');
    empty();
};

done_testing;
