#!/usr/bin/perl
# WRK-3: a claim for workers gives a lease of a range, to be read by a query of their own, where nothing but positions
# says which events are in it.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($s, $main) = map { session() } 1 .. 2;

sub more { $main->do("INSERT INTO trunkline.topic_$_[0] (type, tenant_id, key, data) SELECT 't', CASE i % 2 WHEN 0 THEN 'x' END, 'k' || i % 5, '{\"n\": 1}' FROM generate_series(1, $_[1]) i") }

# A topic with a subscription and n events. Returns the id.
sub feed {
    my ($name, $n, $options) = @_;
    $main->do("SELECT trunkline.create_topic('$name')");
    my $id = $main->do("SELECT trunkline.subscribe('$name', topic => '$name', retry_delay => '1 h', retry_cap => '1 h', " . ($options || "pattern => '**'") . ')');
    more($name, $n) if $n;
    return $id;
}

# ("range AFTER UPTO HORIZON" or "POSITION POSITION ...", token)
sub claim {
    my ($id, $room, $ranges) = @_;
    my @rows = map { [split /\|/, $_, -1] } split /\n/, $s->do("SELECT token, id IS NULL, \"position\", version, members, attempt
        FROM trunkline.claim_many('{$id}', '{$room}', ranges => " . ($ranges // 10) . ") WHERE subscription_id <> 0");
    return ('', '') if !@rows;
    return ("range $rows[0][2] $rows[0][3] $rows[0][4]" . ($rows[0][5] eq '1' && @rows == 1 ? '' : ' and more'), $rows[0][0]) if $rows[0][1] eq 't' && $rows[0][0] ne '';
    return (join(' ', map { $_->[2] } @rows), $rows[0][0]);
}
sub ack { return $s->do("SELECT trunkline.ack('$_[0]'" . (@_ > 1 ? ", $_[1]" : '') . ')') }
sub lease { return $main->do("SELECT after, upto, events IS NULL, held FROM trunkline.leases WHERE token = '$_[0]'") }

subtest 'a range instead of its events' => sub {
    my $id = feed('plain', 100);
    my ($got, $token) = claim($id, 30);
    is($got, 'range 0 30 100', 'as many positions as asked for, and how far the log reaches');
    is(lease($token), '0|30|t|t', 'the lease is of the range');
    is($main->do("SELECT cursor FROM trunkline.cursors WHERE subscription_id = $id"), 30, 'the cursor is behind it');
    is((claim($id, 30))[0], '', 'order: one lease at a time');
    ack($token);
    is((claim($id, 30, 'NULL'))[0], join(' ', 31 .. 60), 'events for those who do not ask for ranges');
    $main->do("UPDATE trunkline.leases SET until = now() - interval '1 s'");
    is((claim($id, 30))[0], '31', 'what was lost comes with its event');
};

subtest 'the end of the log' => sub {
    my $id = feed('ending', 35);
    my ($got, $token) = claim($id, 30);
    is($got, 'range 0 30 35', 'a full one');
    ack($token);
    is((claim($id, 30, 6))[0], '31 32 33 34 35', 'fewer than it is worth: events');
};

subtest 'a lost range is redelivered, a part of it can be settled' => sub {
    my $id = feed('lost', 40);
    my ($got, $token) = claim($id, 20);
    is($got, 'range 0 20 40', 'claimed');
    ack($token, 5);
    is(lease($token), '5|20|f|t', 'settled up to 5');
    $main->do("UPDATE trunkline.leases SET until = now() - interval '1 s' WHERE token = '$token'");
    my ($next, $second) = claim($id, 20);
    is($next, '6', 'taken over: one at a time');
    refuses($s, "SELECT trunkline.ack('$token')", 'TL004', undef, 'and the loser is fenced');
    ack($second);
    my ($rest) = claim($id, 20);
    is($rest, '7', 'the next of it');
};

subtest 'failures in a range' => sub {
    my $id = feed('failing', 40, "pattern => '**', ordering => 'none'");
    my (undef, $token) = claim($id, 20);
    $s->do("SELECT trunkline.ack('$token', failures => '[{\"position\": 7, \"error\": \"e\"}]')");
    is($main->do("SELECT string_agg(\"position\"::text, ' ') FROM trunkline.retries WHERE subscription_id = $id"), 7, 'recorded');
    $main->do("UPDATE trunkline.retries SET next_attempt_at = now() WHERE subscription_id = $id");
    unlike((claim($id, 20))[0], qr/range/, 'beside retries: events');
};

subtest 'release' => sub {
    my $id = feed('released', 40);
    my (undef, $token) = claim($id, 20);
    is($s->do("SELECT trunkline.release('$token')"), 20, 'all of it is handed back');
    is((claim($id, 20))[0], join(' ', 1 .. 20), 'and comes again');
};

# What says more than positions do is read by the claim.
my %events = (
    'a pattern' => "pattern => 't'",
    'a tenant' => "pattern => '**', tenant_id => 'x'",
    'a filter' => "pattern => '**', filter => '{\"n\": 1}'",
    'a path' => "pattern => '**', filter_path => '\$.n == 1'",
    'slots' => "pattern => '**', slots => 2",
    'max_in_flight' => "pattern => '**', max_in_flight => 50",
    'a rate' => "pattern => '**', rate_limit => 1000",
    'tracking' => "pattern => '**', track => 'all'",
);
subtest 'events where more than positions counts' => sub {
    my $n = 0;
    for my $what (sort keys %events) {
        my $id = feed('more' . $n++, 100, $events{$what});
        my ($got) = claim($id, 40);
        like($got, qr/^\d+ \d+/, $what);
    }
    for my $options ("pattern => '*'", "pattern => '**', ordering => 'none'", "pattern => '**', ordering => 'total'") {
        my ($got) = claim(feed('more' . $n++, 100, $options), 40);
        is($got, 'range 0 40 100', "a range: $options");
    }
};

subtest 'gaps' => sub {
    my $id = feed('gaps', 20);
    $main->do("BEGIN");
    more('gaps', 300);
    $main->do('ROLLBACK');
    more('gaps', 20);
    my ($got, $token) = claim($id, 40);
    is($got, 'range 0 40 340', 'half of it is enough');
    ack($token);
    is((claim($id, 40))[0], join(' ', 321 .. 340), 'not worth a range: the claim passes over it');
};

subtest 'ordering none: side by side' => sub {
    my $id = feed('none', 100, "pattern => '**', ordering => 'none'");
    is((claim($id, 30))[0], 'range 0 30 100', 'one');
    is((claim($id, 30))[0], 'range 30 60 100', 'two');
    is($main->do("SELECT leased FROM trunkline.subscription_status WHERE name = 'none'"), 0, 'not counted');
};

done_testing();
