#!/usr/bin/perl
# EVS-10: named streams of links to events.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my $s = session();
$s->do("SELECT trunkline.create_topic('own'); SELECT trunkline.create_topic('brief')");
my @ids = map { $s->do("SELECT id FROM trunkline.append('order-$_', '{\"type\": \"e\", \"data\": $_}'" . ($_ == 3 ? ", tenant_id => 'A'" : '') . ')') } 1 .. 3;
push @ids, map { $s->do("SELECT id FROM trunkline.publish('p', '$_->[0]', '$_->[1]')") } [4, 'bus'], [5, 'own'];
sub linked { my ($args) = @_; return $s->do("SELECT coalesce(string_agg(link || '=' || coalesce(topic || '/' || data, '?'), ' ' ORDER BY ordinality), '') FROM trunkline.read_links('all'$args) WITH ORDINALITY") }

is(linked(''), '', 'no such stream: no row');
is($s->do("SELECT trunkline.link('all', '$ids[$_ - 1]')"), $_, "position $_") for 1 .. 5;
is(linked(''), '1=store/1 2=store/2 3=store/3 4=bus/4 5=own/5', 'events of all topics, in the order of linking');
is($s->do("SELECT trunkline.link('all', '$ids[1]')"), 2, 'EVS-10 the same event twice: the first position');
is($s->do("SELECT trunkline.link('other', '$ids[4]')"), 1, 'another stream counts for itself');
is(linked(', 2'), '3=store/3 4=bus/4 5=own/5', 'after is exclusive');
is(linked(', 1, 2'), '2=store/2 3=store/3', 'a limit');
is(linked(', 5'), '', 'at the end');
is(linked(", tenant => 'A'"), '3=store/3', 'TEN-2 of a tenant');
is(linked(", tenant => ''"), '', 'an empty name is no system');
is(linked(", 0, 1, tenant => 'A'"), '3=store/3', 'the limit counts what is its');
is($s->do("SELECT l.event_id = l.id AND l.\"position\" = e.\"position\" AND l.metadata IS NOT DISTINCT FROM e.metadata AND l.stream = e.stream AND l.version = 1 FROM trunkline.read_links('all') l JOIN trunkline.topic_store e USING (id) LIMIT 1"), 't', 'whole events');
is($s->do('SELECT count(*) FROM trunkline.topic_store'), 3, 'and no copies');
is($s->do("SELECT trunkline.link('mine', '$ids[2]', tenant => 'A')"), 1, 'a tenant links its own');
refuses($s, "SELECT trunkline.link('mine', '$ids[2]', tenant => 'B')", 'TL002', {field => 'event_id', value => $ids[2]}, 'not that of another');
refuses($s, "SELECT trunkline.link('all', '00000000-0000-4000-8000-000000000000')", 'TL002', {field => 'event_id'}, 'no such event');
refuses($s, "SELECT trunkline.link('all', NULL)", 'TL002', {field => 'event_id'});
refuses($s, "SELECT trunkline.link($_, '$ids[0]')", 'TL005', {field => 'name', limit => 255}) for 'NULL', "''", "repeat('x', 256)";
refuses($s, "SELECT * FROM trunkline.read_links('all', max_events => $_)", 'TL005', {field => 'max_events', limit => 10000}) for 0, 10001, 'NULL';
refuses($s, "SELECT * FROM trunkline.read_links('all', -1)", 'TL005', {field => 'after'});
is($s->do("SELECT count(*) FROM trunkline.read_links(NULL)"), 0, 'NULL is no stream');

subtest 'an event that is gone' => sub {
    my $gone = $s->do("SELECT id FROM trunkline.publish('p', '6', 'brief')");
    is($s->do("SELECT trunkline.link('all', '$gone')"), 6, 'linked');
    is($s->do("SELECT trunkline.link('all', '" . $s->do("SELECT id FROM trunkline.publish('p', '7', 'own')") . "')"), 7, 'and one behind it');
    $s->do("SELECT trunkline.drop_topic('brief'); SELECT trunkline.create_topic('brief'); SELECT id FROM trunkline.publish('p', '8', 'brief')");
    is(linked(', 5'), '6=? 7=own/7', 'its link stays, also when another topic has its number and position');
};

subtest 'two link at once' => sub {
    my ($one, $two) = (session(), session());
    for my $case (['another event', $ids[1], '1 2'], ['the same event', $ids[0], '1 1']) {
        my ($name, $second, $expected) = @$case;
        my $positions = '';
        $one->do('BEGIN');
        $positions = $one->do("SELECT trunkline.link('$name', '$ids[0]')");
        $two->start("SELECT trunkline.link('$name', '$second')");
        $two->wait_blocked;
        is($s->do("SELECT count(*) FROM trunkline.read_links('$name')"), 0, "$name: nobody sees the second before the first");
        $one->do('COMMIT');
        is("$positions " . $two->finish, $expected, $name);
    }
    $one->do("BEGIN; SELECT trunkline.link('undone', '$ids[0]')");
    $two->start("SELECT trunkline.link('undone', '$ids[1]')");
    $two->wait_blocked;
    $one->do('ROLLBACK');
    is($two->finish, 1, 'after a rollback: no gap');
    $one->do("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM trunkline.links");
    $s->do("SELECT trunkline.link('undone', '$ids[2]')");
    is($one->error("SELECT trunkline.link('undone', '$ids[2]')")->{state}, '40001', 'REPEATABLE READ: to be repeated, and nothing wrong');
    $one->do('ROLLBACK');
    $_->close for $one, $two;
};

$s->close;
done_testing;
