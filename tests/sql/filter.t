#!/usr/bin/perl
# SUB-2, PAT-1: which events a subscription gets.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $s = session();

# The types that a claim gives; settled at once.
sub take {
    my ($name, $options) = @_;
    return $s->do("WITH c AS (SELECT token, type, \"position\" FROM trunkline.claim('$name'" . ($options ? ", $options" : '') . "))
        SELECT coalesce(string_agg(type, ' ' ORDER BY \"position\"), '') FROM c,
            (SELECT trunkline.ack(token) FROM (SELECT DISTINCT token FROM c) t) a");
}

sub subscribe { $s->do("SELECT trunkline.subscribe('$_[0]', $_[1])") }
sub publish { $s->do("SELECT trunkline.publish($_)") for @_ }
sub cursor { return $s->do("SELECT cursor FROM trunkline.subscription_status WHERE name = '$_[0]'") }

subtest 'pattern' => sub {
    subscribe('exact', "'a.b'");
    subscribe('segment', "'a.*'");
    subscribe('rest', "'a.**'");
    subscribe('all', "'*'");
    subscribe('literal', "'a_%'");
    publish("'a.b', '1'", "'a.b.c', '1'", "'a_%', '1'", "'axy', '1'", "'b', '1'");
    is(take('exact'), 'a.b', 'exact');
    is(take('segment'), 'a.b', '*');
    is(take('rest'), 'a.b a.b.c', '**');
    is(take('all'), 'a.b a.b.c a_% axy b', 'everything');
    is(take('literal'), 'a_%', 'LIKE\'s characters are ordinary');
};

subtest 'tenant' => sub {
    subscribe('mine', "'t.*', tenant_id => 'acme'");
    subscribe('anyone', "'t.*'");
    publish("'t.acme', '1', tenant_id => 'acme'", "'t.other', '1', tenant_id => 'Acme'", "'t.none', '1'", "'t.acme2', '1', tenant_id => 'acme'");
    is(take('mine'), 't.acme t.acme2', 'only that tenant: no other, not the system\'s');
    is(take('anyone'), 't.acme t.other t.none t.acme2', 'NULL: all');
    is($s->do("SELECT string_agg(type, ' ') FROM trunkline.read(pattern => 't.*', tenant => 'acme')"), 't.acme t.acme2', 'read() too');
    # a failure must not smuggle in another tenant's event
    publish("'t.a', '1', tenant_id => 'acme'", "'t.x', '1', tenant_id => 'evil'", "'t.b', '1', tenant_id => 'acme'");
    my ($token, $p) = split /\|/, $s->do("SELECT token, min(\"position\") + 1 FROM trunkline.claim('mine') GROUP BY 1");
    $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": $p, \"retry_after_us\": 0}]')");
    is($s->do("SELECT count(*) FROM trunkline.retries"), 0, 'naming a foreign event as failed does nothing');
    is(take('mine'), '', 'and it is not delivered');
};

subtest 'filter' => sub {
    subscribe('paid', q('f.*', filter => '{"state": "paid", "tags": ["x"]}'));
    publish(q('f.1', '{"state": "paid", "tags": ["y", "x"], "n": 1}'), q('f.2', '{"state": "paid"}'), q('f.3', '{"state": "open", "tags": ["x"]}'),
        q('f.4', '1'), q('f.5', 'null'), q('f.6', '[{"state": "paid", "tags": ["x"]}]'));
    is(take('paid'), 'f.1', 'jsonb containment');
    subscribe('empty', q('f.*', filter => '{}', start_at => 'beginning'));
    is(take('empty'), 'f.1 f.2 f.3', 'an empty object: any object');
};

subtest 'filter_path' => sub {
    subscribe('big', q('p.*', filter_path => '$.total > 100 && $.currency == "EUR"'));
    publish(q('p.1', '{"total": 101, "currency": "EUR"}'), q('p.2', '{"total": 100, "currency": "EUR"}'), q('p.3', '{"total": "many", "currency": "EUR"}'),
        q('p.4', '{}'), q('p.5', 'null'), q('p.6', '{"total": [1, 500], "currency": "EUR"}'));
    is(take('big'), 'p.1 p.6', 'jsonpath predicate');
    subscribe('exists', q('p.*', filter_path => 'exists($.total[*] ? (@ == 500))', start_at => 'beginning'));
    is(take('exists'), 'p.6', 'exists()');
    # data that one did not expect must not stop the subscription
    subscribe('dated', q('d.*', filter_path => '$.at.datetime() < "2026-01-01T00:00:00+00".datetime()'));
    publish(q('d.1', '{"at": "2025-01-01"}'), q('d.2', '{"at": "2025-01-01T00:00:00+02"}'), q('d.3', '{"at": "yesterday"}'), q('d.4', '{"at": 7}'), q('d.5', '{"at": "2027-01-01"}'));
    is(take('dated'), 'd.1 d.2', 'dates with and without time zone, and none at all');
    subscribe('calc', q('c.*', filter_path => '1 / $.n > 0'));
    publish(q('c.1', '{"n": 0}'), q('c.2', '{"n": 2}'), q('c.3', '{"n": "x"}'));
    is(take('calc'), 'c.2', 'a division by zero is no match');
    subscribe('regex', q('c.*', filter_path => '$.s like_regex "^a$" flag "i"'));
    publish(q('c.4', '{"s": "A"}'), q('c.5', '{"s": "b"}'));
    is(take('regex'), 'c.4', 'like_regex');
    subscribe('both', q('b.*', tenant_id => 't', filter => '{"a": 1}', filter_path => '$.b == 2'));
    publish(q('b.1', '{"a": 1, "b": 2}', tenant_id => 't'), q('b.2', '{"a": 1, "b": 2}'), q('b.3', '{"a": 1}', tenant_id => 't'), q('b.4', '{"b": 2}', tenant_id => 't'));
    is(take('both'), 'b.1', 'every condition must hold');
};

subtest 'a rare pattern' => sub {
    $s->do("SELECT trunkline.create_topic('long')");
    subscribe('rare', "'rare', 'long'");
    $s->do("INSERT INTO trunkline.topic_long (type, data) SELECT CASE WHEN i IN (5, 25000) THEN 'rare' ELSE 'often' END, '1' FROM generate_series(1, 25001) i");
    is(take('rare'), 'rare', 'the first');
    is(cursor('rare'), 10000, 'ten thousand rows were looked at, no more');
    is(take('rare'), '', 'nothing in the next ten thousand');
    is(cursor('rare'), 20000, 'but the cursor goes on');
    is(take('rare'), 'rare', 'the last');
    is(cursor('rare'), 25001, 'at the end');
    # positions jump, rows count
    $s->do("SELECT setval('trunkline.position_long', 1 << 30)");
    $s->do("INSERT INTO trunkline.topic_long (type, data) VALUES ('rare', '1')");
    is(take('rare'), 'rare', 'a jump over a billion positions costs nothing');

    subscribe('often', "'often', 'long', start_at => 'beginning', ordering => 'none'");
    is($s->do("SELECT count(*), min(\"position\"), max(\"position\") FROM trunkline.claim('often', max_events => 10000)"), '9999|1|10000', 'a full claim ends with what was looked at');
    is($s->do("SELECT count(*), min(\"position\"), max(\"position\") FROM trunkline.claim('often', max_events => 10000)"), '10000|10001|20000', 'no event is left between two');
};

subtest 'changing a subscription while a lease is out' => sub {
    subscribe('change', "'x.*'");
    publish(map { "'x.$_', '1'" } qw(a b c d));
    my ($token, $p) = split /\|/, $s->do("SELECT token, min(\"position\") FROM trunkline.claim('change') GROUP BY 1");
    subscribe('change', "'x.c'");
    is($s->do("SELECT trunkline.ack('$token', $p + 1)"), 3, 'narrower: what it does not want any more counts as settled with a part');
    $s->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": " . ($p + 3) . "}]')");
    is($s->do("SELECT count(*) FROM trunkline.retries"), 0, 'a failure of such an event is of no concern');
    publish("'x.a', '1'", "'x.c', '1'");
    is(take('change'), 'x.c', 'the new pattern holds for what follows');

    ($token, $p) = split /\|/, do {
        publish("'x.c', '1'", "'x.d', '1'");
        $s->do("SELECT token, min(\"position\") FROM trunkline.claim('change') GROUP BY 1");
    };
    subscribe('change', "'x.*'");
    is($s->do("SELECT trunkline.ack('$token')"), 1, 'wider: the lease is settled as it was given');
    is(take('change'), '', 'events that were passed over before stay so');

    publish("'x.a', '1'", "'x.b', '1'");
    ($token) = split /\|/, $s->do("SELECT DISTINCT token FROM trunkline.claim('change')");
    subscribe('change', "'y.*'");
    $s->do("UPDATE trunkline.leases SET until = now() WHERE token = '$token'");
    publish("'y.a', '1'");
    is(take('change'), 'y.a', 'an expired lease of events that nobody wants is dropped');
    is($s->do("SELECT count(*) FROM trunkline.leases JOIN trunkline.subscriptions USING (subscription_id) WHERE name = 'change'"), 0, 'without a trace');
};

# Wider than the lease was counted for, when it is lost: what it was given for is not passed over.
subtest 'SUB-2 wider while a lease is lost' => sub {
    my $lose = sub { $s->do('UPDATE trunkline.leases SET until = now()') };
    my $drink = sub { my @got; while ((my $types = take($_[0])) ne '') { push @got, $types } return "@got" };
    for my $ordering ('key', 'none') {
        my $f = "wide_$ordering";
        subscribe($f, "'w.c', ordering => '$ordering'");
        publish(map { "'w.$_', '1'" } qw(a b c d));
        is($s->do("SELECT type FROM trunkline.claim('$f')"), 'w.c', "$ordering: one of four");
        subscribe($f, "'w.*', ordering => '$ordering'");
        $lose->();
        like($drink->($f), qr/w\.c/, 'comes again');
        # at its last attempt: another, that nobody was given, is not to blame
        subscribe($f, "'w.c', ordering => '$ordering', max_attempts => 1");
        publish(map { "'w.$_', '1'" } qw(a b c d));
        is($s->do("SELECT type FROM trunkline.claim('$f')"), 'w.c', 'one of four again');
        subscribe($f, "'w.*', ordering => '$ordering', max_attempts => 1");
        $lose->();
        my $got = $drink->($f);
        my $dead = $s->do("SELECT coalesce(string_agg(event ->> 'type', ' '), '') FROM trunkline.dead_letters WHERE subscription = '$f'");
        like("$got $dead", qr/w\.c/, 'tried again or dead');
        is($dead =~ /w\.[abd]/ ? $dead : '', '', 'and no other is dead');
    }
};

done_testing;
