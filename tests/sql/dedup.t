#!/usr/bin/perl
# PUB-3: an id of one's own makes publishing repeatable.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($a, $b) = map { session() } 1 .. 2;
my $count = 0;
sub uuid { return sprintf '00000000-0000-4000-8000-%012d', ++$count }
sub publish { my ($id, $data, $more) = @_; return "SELECT * FROM trunkline.publish('a', '$data', event_id => '$id'" . ($more ? ", $more" : '') . ')' }
sub stored { return $a->do("SELECT count(*) FROM trunkline.events WHERE id = '$_[0]'") }

subtest 'the same id' => sub {
    my $id = uuid();
    my $all = q(key => 'k', tenant_id => 't', source => 's', metadata => '{"m": 1}', expires_at => '2030-01-01');
    my $first = $a->do(publish($id, '{"x": 1}', $all));
    like($first, qr/^$id\|\d+\|f$/, 'first: stored');
    (my $again = $first) =~ s/f$/t/;
    is($b->do(publish($id, '{"x": 1}', $all)), $again, 'again: the first result, and that it is one');
    is(stored($id), 1, 'one event');
    my %other = (data => publish($id, '{"x": 2}', $all), key => publish($id, '{"x": 1}'),
        type => publish($id, '{"x": 1}', $all) =~ s/'a'/'b'/r);
    for (qw(k t s 2030)) {
        (my $changed = $all) =~ s/'$_/'9$_/;
        $other{"with 9$_"} = publish($id, '{"x": 1}', $changed);
    }
    refuses($b, $other{$_}, 'TL003', {field => 'id', id => $id}, "other content: $_") for sort keys %other;
    is(stored($id), 1, 'still one event');
    like($a->do("SELECT * FROM trunkline.publish('a', '{\"x\": 2}', 'store', event_id => '$id')"), qr/\|f$/, 'another topic is another matter');
    my ($null, $infinite) = (uuid(), uuid());
    $a->do("SELECT trunkline.publish('a', NULL, event_id => '$null')");
    like($a->do("SELECT * FROM trunkline.publish('a', 'null', event_id => '$null')"), qr/\|t$/, 'NULL and JSON null are the same');
    like($a->do(publish($infinite, 1, "expires_at => 'infinity'")), qr/\|f$/, 'a time without end');
};

subtest 'an id that an event got here' => sub {
    for my $topic ('bus', 'store') {
        my ($id, $position) = split /\|/, $a->do("SELECT id, \"position\" FROM trunkline.publish('a', '1', '$topic')");
        refuses($a, publish($id, 1, "topic => '$topic'"), 'TL003', {field => 'id', id => $id, reason => 'generated'}, "$topic: is not given to another");
        is(stored($id), 1, 'one event');
        is($a->do("SELECT \"position\" FROM trunkline.locate('$id')"), $position, 'it is found');
    }
    my ($other) = split /\|/, $a->do("SELECT id FROM trunkline.publish('a', '1', 'store')");
    like($a->do(publish($other, 1)), qr/\|f$/, 'another topic is another matter');
};

subtest 'within a transaction' => sub {
    my $id = uuid();
    $a->do('BEGIN');
    my $first = $a->do(publish($id, 1));
    is($a->do(publish($id, 1)), $first =~ s/f$/t/r, 'repeated');
    $a->do('ROLLBACK');
    like($a->do(publish($id, 2)), qr/\|f$/, 'rolled back, the id is free');
    is(stored($id), 1, 'one event');
};

subtest 'two sessions at once' => sub {
    for my $case (['the same content', 1], ['other content', 2]) {
        my ($name, $data) = @$case;
        my $id = uuid();
        $a->do('BEGIN');
        my $first = $a->do(publish($id, 1));
        $b->start(publish($id, $data));
        $b->wait_blocked;
        $a->do('COMMIT');
        my $second = $b->finish;
        $data == 1 ? is($second, $first =~ s/f$/t/r, "$name: the second waits for the first and gets its result")
            : is($b->{error}{state}, 'TL003', "$name: the second waits and is refused");
        is(stored($id), 1, "$name: one event");

        $id = uuid();
        $a->do('BEGIN');
        $a->do(publish($id, 1));
        $b->start(publish($id, $data));
        $b->wait_blocked;
        $a->do('ROLLBACK');
        like($b->finish, qr/^$id\|\d+\|f$/, "$name: the first rolls back, the second is stored");
        is(stored($id), 1, "$name: one event");
    }
    my $id = uuid();
    $b->do('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM trunkline.topics');
    $a->do(publish($id, 1));
    is($b->error(publish($id, 1))->{state}, '40001', 'at REPEATABLE READ the first is not visible: to be repeated');
    $b->do('ROLLBACK');

    # a repeat that waits must not free the horizon too early, nor hold it afterwards
    $id = uuid();
    $a->do('BEGIN; ' . publish($id, 1));
    $b->start("BEGIN; SELECT trunkline.publish('before', '1'); " . publish($id, 1) . "; SELECT trunkline.publish('behind', '1'); COMMIT");
    $b->wait_blocked;
    $a->do('COMMIT');
    $b->finish;
    is($a->do("SELECT string_agg(type, ' ' ORDER BY \"position\") FROM (SELECT * FROM trunkline.read(max_events => 1000) ORDER BY \"position\" DESC LIMIT 3) q"), 'a before behind', 'all readable, in order');
};

subtest 'batches' => sub {
    my ($x, $y, $z) = map { uuid() } 1 .. 3;
    my $batch = sub { return "SELECT id, deduplicated FROM trunkline.publish_batch('[" . join(', ', map { "{\"type\": \"a\", \"id\": \"$_\", \"data\": 1}" } @_) . "]')" };
    is($a->do($batch->($x, $y)), "$x|f\n$y|f", 'new ones');
    is($a->do($batch->($z, $y, $x)), "$z|f\n$y|t\n$x|t", 'new and old, in the order given');
    is($a->do($batch->(uuid(), $x)), sprintf("00000000-0000-4000-8000-%012d|f\n$x|t", $count), 'one by one');
    my $w = uuid();
    is($a->do($batch->($w, $w)), "$w|f\n$w|t", 'twice in one batch');
    is($a->do("SELECT count(DISTINCT \"position\") FROM trunkline.publish_batch('[{\"type\": \"a\", \"id\": \"$w\", \"data\": 1}, {\"type\": \"b\"}, {\"type\": \"b\"}, {\"type\": \"b\"}]')"),
        4, 'equal events without an id are different events, beside one with');
    refuses($a, "SELECT trunkline.publish_batch('[{\"type\": \"new\"}, {\"type\": \"b\", \"id\": \"$x\"}]')", 'TL003', {id => $x}, 'one conflict');
    is($a->do("SELECT count(*) FROM trunkline.topic_bus WHERE type = 'new'"), 0, 'refuses all');
};

subtest 'the window' => sub {
    my $id = uuid();
    $a->do("SELECT trunkline.set_topic('bus', 'day', '7 days', 1048576, '1 hour')");
    $a->do(publish($id, 1));
    $a->do("UPDATE trunkline.dedup SET created_at = now() - interval '59 min'");
    $a->do('SELECT trunkline.maintain()');
    like($a->do(publish($id, 1)), qr/\|t$/, 'remembered within it');
    $a->do("UPDATE trunkline.dedup SET created_at = now() - interval '61 min' WHERE topic_id = 1");
    like($a->do("SELECT action, object, detail FROM trunkline.maintain()"), qr/^forgot\|bus\|\d+ ids older than 01:00:00$/m, 'forgotten behind it');
    like($a->do(publish($id, 1)), qr/\|f$/, 'a new event then');
    $a->do("SELECT trunkline.publish('a', '1', 'store', event_id => '$id')");
    $a->do("UPDATE trunkline.dedup SET created_at = '1999-01-01' WHERE topic_id = 2");
    $a->do('SELECT trunkline.maintain()');
    is($a->do("SELECT count(*) FROM trunkline.dedup WHERE topic_id = 2 AND id = '$id'"), 1, 'NULL: for ever');
};

done_testing;
