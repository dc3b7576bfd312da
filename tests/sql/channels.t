#!/usr/bin/perl
# WAK-8: raw channels for plain LISTEN clients: names, payloads, both modes; they veto nothing.
use strict;
use warnings;
use lib 'tests/sql';
use JSON::PP ();
use SqlTest;
use Test::More;

database();
my ($s, $listener) = map { session() } 1 .. 2;

# What came: channel => [payloads], of the channels listened to.
sub heard {
    my %by;
    for my $n ($listener->raw_notifications) {
        push @{$by{$n->[0]}}, JSON::PP::decode_json($n->[1]);
    }
    return \%by;
}
sub listen_to { $listener->do(qq(LISTEN "$_")) for @_; return }
sub append { my ($stream, $type) = @_; return $s->do("SELECT id FROM trunkline.append_event('$stream', '$type', '{\"secret\": 1}')") }

listen_to('events', 'events_global', 'events:order.made', 'events:order', 'stream_order-1', 'stream_order-2');
append('order-1', 'order.made');
is_deeply(heard(), {}, 'off by default');

subtest 'sync: with the commit' => sub {
    is($s->do("SELECT trunkline.raw_channels('store', mode => 'sync')"), 't', 'on');
    is($s->do("SELECT trunkline.raw_channels('store', mode => 'sync')"), 'f', 'twice is once');
    my $id = append('order-1', 'order.made');
    my $expected = {version => 2, aggregate_id => 'order-1', event_type => 'order.made', id => $id, position => 2};
    is_deeply(heard(), {map { $_ => [$expected] } ('events', 'events_global', 'events:order.made', 'events:order', 'stream_order-1')},
        'on its channels, without the payload');
    $s->do("BEGIN; SELECT trunkline.append_event('order-1', 'order.made', '1'); ROLLBACK");
    is_deeply(heard(), {}, 'not what is rolled back');
    $id = $s->do(q(SELECT trunkline.publish('order.plain', '1', topic => 'store')));
    my $plain = heard()->{events}[0];
    is_deeply([@$plain{qw(version aggregate_id event_type)}], [$plain->{position}, undef, 'order.plain'], 'an event without stream');
    append('order-2', 'x');
    append('order-1', 'x');
    is_deeply([map { $_->{aggregate_id} } @{heard()->{events_global}}], ['order-2', 'order-1'], 'in order');
};

subtest 'nothing is vetoed' => sub {
    my ($stream, $type) = ('s' x 255, join '.', ('"' x 63) x 4);
    my ($hashed_stream, $hashed_type) = map { $s->do("SELECT trunkline.raw_channel('$_')") } "stream_$stream", "events:$type";
    like($hashed_stream, qr/^stream_#[0-9a-f]{32}$/, 'the longest stream has a short channel');
    like($hashed_type, qr/^events:#[0-9a-f]{32}$/, 'and so has a type');
    is($s->do("SELECT trunkline.raw_channel('stream_order-1')"), 'stream_order-1', 'a short one is itself');
    is($s->do('SELECT octet_length(trunkline.raw_channel(repeat(\'x\', 63))), octet_length(trunkline.raw_channel(\'stream_\' || repeat(U&\'\00fc\', 28) || \'x\'))'),
        '63|40', 'bytes count');
    listen_to($hashed_stream, "$hashed_type");
    append($stream, $type);
    is_deeply([map { $_->{aggregate_id} } @{heard()->{$hashed_stream}}], [$stream], 'names of 255 bytes arrive');
    $s->do("BEGIN; SET LOCAL trunkline.ring = off; SELECT FROM trunkline.append_event('order-1', 'x', '1'); PREPARE TRANSACTION 'raw-$$'");
    $s->do("COMMIT PREPARED 'raw-$$'");
    is_deeply(heard(), {}, 'two-phase publishers turn it off with the bell');
    # as if the queue were half full
    my $source = $s->do(q(SELECT pg_get_functiondef('trunkline.emit_channels(jsonb)'::regprocedure)));
    $s->do($source =~ s/pg_notification_queue_usage\(\)/0.5/r);
    append('order-1', 'x');
    is_deeply(heard(), {}, 'nothing is sent into a queue that fills up');
    $s->do($source);
    is($s->do("SELECT trunkline.stream_version('order-1')"), $s->do(q(SELECT max(version) FROM trunkline.topic_store WHERE stream = 'order-1')), 'and the append is there');
};

subtest 'async: after the commit, by whoever calls SQL functions' => sub {
    is($s->do("SELECT trunkline.raw_channels('bus')"), 't', 'on for another topic');
    my $id = $s->do(q(SELECT id FROM trunkline.publish('order.made', '1')));
    is_deeply(heard(), {}, 'not in the transaction');
    is($s->do("SELECT trunkline.process_event('$id')"), 't', 'called');
    is_deeply([map { $_->{id} } @{heard()->{'events:order'}}], [$id], 'then');
    $s->do(q(SELECT FROM trunkline.publish('order.made', '2')));
    $s->do(q(SELECT trunkline.raw_channels('store', false)));
    is($s->do("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'trunkline.topic_store'::regclass AND tgname = 'sync'"), 0, 'off costs nothing');
    is($s->do("SELECT count(*) FROM trunkline.subscriptions WHERE name LIKE 'trunkline/raw_channels/%' AND mode = 'async' AND topic_id = 1"), 1, 'an ordinary subscription');
    is($s->do("SELECT trunkline.raw_channels('bus', mode => 'sync')"), 't', 'the mode can be changed, whatever waits');
    is($s->do("SELECT trunkline.raw_channels('bus', false)"), 't', 'off');
    is($s->do("SELECT trunkline.raw_channels('bus', false)"), 'f', 'twice is once');
    is($s->do('SELECT count(*) FROM trunkline.subscriptions'), 0, 'nothing is left');
};

refuses($s, "SELECT trunkline.raw_channels('nope')", 'TL002', {field => 'topic'});
refuses($s, "SELECT trunkline.raw_channels('bus', mode => 'later')", 'TL005', {field => 'mode'});
refuses($s, "SELECT trunkline.raw_channels('bus', NULL)", 'TL005', {field => 'enabled'});
done_testing;
