#!/usr/bin/env perl
# publish --at, --in, --ttl; trunkline schedule and scheduled (PUB-4, SCH-1, SCH-3, SCH-4, CLN-1).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $uuid = '0190cafe-0000-7000-8000-000000000001';
sub minutes { return query($db, "SELECT string_agg(round(extract(epoch FROM $_[0] - created_at) / 60)::text, ' ' ORDER BY run_at) FROM trunkline.scheduled") }

# Publish.
my $out = tl_ok(['publish', 'a.later', '1', '--in', '2h', '--ttl', '30m']);
my ($id) = $out =~ /^scheduled ([0-9a-f-]{36})\n\z/;
ok $id, 'SCH-1 --in: no position yet' or diag $out;
is minutes('run_at') . ' ' . minutes('expires_at'), '120 150', '--in and --ttl';
my $receipt = decode(tl_ok(['publish', 'a.at', '1', '--at', '2035-01-01T12:00:00Z', '--id', $uuid, '--json']));
is_deeply $receipt, {position => undef, id => $uuid, deduplicated => JSON::PP::false}, '--at as JSON';
is query($db, q(SELECT run_at AT TIME ZONE 'UTC' FROM trunkline.scheduled WHERE type = 'a.at')), '2035-01-01 12:00:00', 'in UTC';
is tl_ok(['publish', 'a.at', '1', '--in', '5m', '--id', $uuid]), "scheduled $uuid duplicate\n", 'the same id again';
like tl_ok(['publish', 'a.past', '1', '--at', '2020-01-01']), qr/^1 /, 'a time that has passed: at once';
tl_ok(['publish', 'a.ttl', '1', '--ttl', '90s']);
is query($db, q(SELECT round(extract(epoch FROM expires_at - created_at)) FROM trunkline.topic_bus WHERE type = 'a.ttl')), '90', 'CLN-1 --ttl alone';
my $lines = qq({"type":"b.1","data":1}\n{"type":"b.2","data":2}\n);
is tl_ok(['publish', '--ndjson', '--in', '1h'], stdin => $lines), "scheduled 2 events\n", 'lines with --in';
is_deeply decode(tl_ok(['publish', '--ndjson', '--in', '1h', '--ttl', '1h', '--json'], stdin => $lines)),
    {published => 0, scheduled => 2, deduplicated => 0, first_position => 0, last_position => 0}, 'as JSON';
is query($db, q(SELECT count(*) FROM trunkline.scheduled WHERE type ~ '^b' AND expires_at = run_at + interval '1 h')), '2', 'and --ttl';
for my $case (
    [['--at', 'soon'], qr/--at is a time, not "soon"/], [['--at', '2035-01-01', '--in', '1h'], qr/exclude/], [['--ttl', '0'], qr/--ttl is longer than nothing/],
    [['--in', '1h', '--wait', '1s'], qr/--wait does not go/], [['--in', '4000d'], qr/delay is not 0 to 10 years/], [['--at', '2099-01-01'], qr/run_at is not a time within 10 years/],
) {
    my ($rc, $stdout, $err) = tl(['publish', 'a', '1', @{$case->[0]}]);
    is "$rc $stdout", '2 ', "refused: @{$case->[0]}";
    like $err, $case->[1], 'and why';
}

# Delayed events.
like tl_ok(['scheduled']), qr/\Aid +topic +type +key +run_at +error *\n(?:.*\n)*$id +bus +a\.later /, 'list';
is_deeply [map { decode($_)->{type} } split /\n/, tl_ok(['scheduled', 'list', '--json', '--limit', 3])], [qw(b.1 b.2 b.1)], 'as JSON, the next due first';
is tl_ok(['scheduled', '--topic', 'store', '--json']), '', 'of another topic: none';
my $shown = decode(tl_ok(['scheduled', 'show', $id, '--json']));
is_deeply [@$shown{qw(id type topic data)}], [$id, 'a.later', 'bus', 1], 'show';
is tl_ok(['scheduled', 'reschedule', $id, '--in', '3h']), "rescheduled $id\n", 'SCH-3 reschedule --in';
is query($db, "SELECT round(extract(epoch FROM run_at - now()) / 60) FROM trunkline.scheduled WHERE id = '$id'"), '180', 'done';
tl_ok(['scheduled', 'reschedule', $id, '--at', '2034-01-01']);
is query($db, "SELECT run_at AT TIME ZONE 'UTC' FROM trunkline.scheduled WHERE id = '$id'"), '2034-01-01 00:00:00', 'reschedule --at';
is tl_ok(['scheduled', 'cancel', $id]), "cancelled $id\n", 'SCH-3 cancel';
is((tl(['scheduled', $_, $id, $_ eq 'reschedule' ? ('--in', '1h') : ()]))[0], 5, "then unknown: $_") for qw(show cancel reschedule);
tl_ok(['scheduled', 'reschedule', $uuid, '--in', '0s']);
query($db, 'SELECT trunkline.move_due()');
my ($rc, $stdout, $err) = tl(['scheduled', 'cancel', $uuid]);
is "$rc $stdout", '2 ', 'moved: too late';
like $err, qr/its delivery began/, 'and says so';
for my $case ([['cancel'], qr/needs ID/], [['list', 'x'], qr/unexpected/], [['reschedule', $id], qr/either --at or --in/], [['cancel', $id, '--in', '1h'], qr/--in/],
    [['reschedule', $id, '--in', '1h', '--at', '2034-01-01'], qr/either/], [['cancel', 'x'], qr/uuid/], [['list', '--limit', '0'], qr/--limit/]) {
    ($rc, $stdout, $err) = tl(['scheduled', @{$case->[0]}]);
    is "$rc $stdout", '2 ', "refused: @{$case->[0]}";
    like $err, $case->[1], 'and why';
}

# Schedules.
like tl_ok(['schedule', 'add', 'night', '0 2 * * *', 'job.night', '{"a": 1}', '-z', 'Europe/Berlin', '-k', 'K', '--tenant', 'T', '--source', 'S', '--metadata', '{"m": 1}', '--missed', 'all', '--max-missed', 7, '--topic', 'store']),
    qr/^scheduled night, next at \d{4}-\d\d-\d\dT0[01]:00:00Z\n\z/, 'SCH-4 add';
is query($db, q(SELECT cron, timezone, topic, type, data, key, tenant_id, source, metadata, missed, max_missed, active FROM trunkline.schedule_status)),
    '0 2 * * *|Europe/Berlin|store|job.night|{"a": 1}|K|T|S|{"m": 1}|all|7|t', 'as it was said';
is decode(tl_ok(['schedule', 'add', 'poll', 'every 10s', 'feed.poll', '--json']))->{missed}, 'once', 'with defaults';
like tl_ok(['schedule']), qr/^name +cron .*\nnight +0 2 \* \* \* .*\npoll +every 10s /, 'list';
is_deeply [map { decode($_)->{name} } split /\n/, tl_ok(['schedule', 'list', '--json'])], [qw(night poll)], 'as JSON';
like tl_ok(['schedule', 'show', 'night']), qr/^missed +all$/m, 'show';
like tl_ok(['schedule', 'next', 'night', '-n', 3]), qr/\Aat +local_time +timezone *\n(?:\S+Z +\w+ \S+ 02:00:00 +Europe\/Berlin *\n){3}\z/, 'next of a schedule, in its zone';
is scalar(() = tl_ok(['schedule', 'next', '30 9 * * mon-fri', '-z', 'America/New_York']) =~ / 09:30:00 +America/g), 5, 'next of an expression';
is tl_ok(['schedule', 'pause', 'poll']), "paused poll\n", 'pause';
is decode(tl_ok(['schedule', 'show', 'poll', '--json']))->{active}, JSON::PP::false, 'paused';
like tl_ok(['schedule', 'resume', 'poll']), qr/^resumed poll, next at \d/, 'resume';
is tl_ok(['schedule', 'remove', 'poll']), "removed poll\n", 'remove';
is((tl(['schedule', $_, 'poll']))[0], 5, "then unknown: $_") for qw(show pause resume remove);
for my $case ([['add', 'x'], qr/needs NAME, CRON and TYPE/], [['add', 'x', '0 25 * * *', 'a'], qr/hour "25" in column 3/], [['add', 'x', '* * * * *', 'a', '{'], qr/json/i],
    [['add', 'x', '* * * * *', 'a', '-z', 'Mars'], qr/time zone "Mars" is unknown/], [['pause'], qr/needs NAME/], [['list', 'x'], qr/unexpected/], [['pause', 'a', 'b'], qr/unexpected/],
    [['pause', 'a', '--key', 'k'], qr/--key/], [['next', '* * * * *', '-n', 0], qr/--count/], [['next', '* *'], qr/2 fields instead of 5/], [['add', 'x', '* * * * *', 'a', '--max-missed', 0], qr/max_missed/]) {
    ($rc, $stdout, $err) = tl(['schedule', @{$case->[0]}]);
    is "$rc $stdout", '2 ', "refused: @{$case->[0]}";
    like $err, $case->[1], 'and why';
}

done_testing;
