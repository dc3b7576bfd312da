#!/usr/bin/env perl
# trunkline publish: one event and many, every field, every bad input (PUB-1, PUB-2, PUB-4..7).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $uuid = '0190cafe-0000-7000-8000-000000000001';
sub stored { return query($db, 'SELECT count(*) FROM trunkline.events') }
sub last_event { return decode((split /\n/, tl_ok(['read', '--json', '--limit', 100000]))[-1]) }

# One event.
my $out = tl_ok(['publish', 'shop.order.created', '{"order": 42}']);
like $out, qr/^1 [0-9a-f-]{36}\n\z/, 'PUB-1 prints position and id';
my $receipt = decode(tl_ok(['publish', 'shop.order.paid', '12345678901234567890.123456789', '--json']));
is_deeply [sort keys %$receipt], [qw(deduplicated id position)], 'the shape of --json';
is $receipt->{position}, 2, 'position';
is query($db, 'SELECT data::text FROM trunkline.events WHERE position = 2'),
    '12345678901234567890.123456789', 'PUB-7 big numbers stay exact';

tl_ok(['publish', 'a.b', '-', '-k', 'K', '--tenant', 'T', '--source', 'S', '--id', $uuid, '-m', 'user_id=7',
        '--meta', 'note=a=b "c"'], stdin => qq({"from": "stdin"}\n));
my $event = last_event();
is_deeply [@$event{qw(type key tenant_id source id)}], ['a.b', 'K', 'T', 'S', $uuid], 'PUB-2 every field';
is_deeply $event->{data}, {from => 'stdin'}, 'data from stdin';
is_deeply $event->{metadata}, {user_id => '7', note => 'a=b "c"'}, 'metadata from --meta';
tl_ok(['publish', 'a.c', '--metadata', '{"n": 1}'], stdin => 'null');
is_deeply last_event()->{metadata}, {n => 1}, 'metadata as JSON; no DATA reads stdin';

# The same id again (PUB-4).
my @again = ('publish', 'a.b', '{"from": "stdin"}', '--id', $uuid);
my ($rc, $stdout, $err) = tl([@again]);
is $rc, 4, 'same id, other content: conflict';
is $stdout, '', 'nothing on stdout';
like $err, qr/^trunkline: error: .+\n/, 'an error';
my @same = (@again, '-k', 'K', '--tenant', 'T', '--source', 'S', '--metadata', '{"user_id":"7","note":"a=b \"c\""}');
like tl_ok([@same]), qr/^3 $uuid duplicate$/, 'same id and content: the first position';
is decode(tl_ok([@same, '--json']))->{deduplicated}, JSON::PP::true, 'said in JSON too';

# Bad input: a clear error, its exit code, nothing stored.
my $before = stored();
my @bad = (
    ['invalid JSON', 2, qr/json/i, ['x', '{"a":']],
    ['U+0000', 2, qr/\\u0000|unsupported Unicode/i, ['x', '{"a":"\u0000"}']],
    ['invalid UTF-8', 2, qr/UTF-?8|encoding/i, ['x', "{\"a\":\"\xff\"}"]],
    ['empty type', 2, qr/no event type/, ['', '1']],
    ['empty segment', 2, qr/"a\.\.b" is no event type/, ['a..b', '1']],
    ['type with a star', 2, qr/no event type/, ['a.*', '1']],
    ['type of 256 bytes', 2, qr/no event type/, ['a' x 256, '1']],
    ['key of 256 bytes', 2, qr/key/, ['x', '1', '--key', 'k' x 256]],
    ['no uuid', 2, qr/uuid/, ['x', '1', '--id', '42']],
    ['metadata no object', 2, qr/metadata/, ['x', '1', '--metadata', '[1]']],
    ['--meta without =', 2, qr/KEY=VALUE/, ['x', '1', '--meta', 'k']],
    ['--meta and --metadata', 2, qr/exclude/, ['x', '1', '--meta', 'k=v', '--metadata', '{}']],
    ['empty data', 2, qr/data is empty/, ['x', '']],
    ['empty stdin', 2, qr/stdin is empty/, ['x']],
    ['no type', 2, qr/needs TYPE/, []],
    ['unknown topic', 5, qr/nowhere/, ['x', '1', '--topic', 'nowhere']],
    ['topic that is no name', 2, qr/topic/, ['x', '1', '--topic', 'a; drop table x']],
    ['no such file', 5, qr/cannot read/, ['--file', '/nowhere/x.ndjson']],
    ['--id with --ndjson', 2, qr/--id does not go/, ['x', '--ndjson', '--id', $uuid]],
);
for my $case (@bad) {
    my ($what, $code, $message, $arguments) = @$case;
    ($rc, $out, $err) = tl(['publish', @$arguments]);
    is "$rc $out", "$code ", "$what: exit code $code";
    like $err, qr/\Atrunkline: error: .*$message/s, "$what: says so";
}
($rc, $out, $err) = tl(['publish', 'x'], stdin => '"' . join('', map { chr(65 + rand 26) } 1 .. 3_000_000) . '"');
is $rc, 6, 'event above the limit: exit code 6';
like $err, qr/1048576|limit|max_event_bytes/, 'and names it';
unlike $err, qr/[A-Z]{40}/, 'never the payload';
is stored(), $before, 'nothing of it is stored';

# Many.
my $lines = join '', map { sprintf qq({"type":"bulk.%d","data":{"n":%d},"key":"k%d"}\n), $_ % 3, $_, $_ % 7 } 1 .. 2500;
my $summary = decode(tl_ok(['publish', '--ndjson', '--json', '--topic', 'store'], stdin => "\n$lines\n"));
is_deeply $summary, {published => 2500, scheduled => 0, deduplicated => 0, first_position => 1, last_position => 2500},
    'PUB-5 NDJSON from stdin, empty lines are none';
is query($db, q(SELECT string_agg(data->>'n', ',' ORDER BY position) FROM trunkline.topic_store)),
    join(',', 1 .. 2500), 'PUB-6 in input order';
my $file = spew(workdir() . '/data.ndjson', join '', map { qq({"line":$_}\n) } 1 .. 3);
like tl_ok(['publish', 'line.read', '--file', $file, '--source', 'file']), qr/^published 3 events, positions \d+ to \d+$/,
    'a fixed type: each line is data';
is_deeply [@{last_event()}{qw(type source)}], ['line.read', 'file'], 'with the options of all';
tl_ok(['publish', '--file', '-', '--type', 'line.again', '--key', 'K'], stdin => "1\n2\n");
is last_event()->{type}, 'line.again', '--type does the same';
tl_ok(['publish', '--ndjson', '--key', 'default', '--metadata', '{"a":1}'],
    stdin => qq({"type":"m.x","data":"\\u00e9\\ud83d\\ude00","tenant_id":"\\u00fc","metadata":{"b":2},"key":null,"source":"s"}\n));
$event = last_event();
is_deeply [@$event{qw(key tenant_id source)}, $event->{metadata}], ['default', "\xfc", 's', {b => 2}],
    'members win over options';
is $event->{data}, "\x{e9}\x{1f600}", 'escapes';

# A bad line: named, its batch is not stored, and what is stored is said.
sub bad_line {
    my ($what, $line, $message, $n) = @_;
    $n //= 1500;
    my $count = stored();
    my $input = join('', map { qq({"type":"t","data":$_}\n) } 1 .. $n - 1) . "$line\n" . qq({"type":"t","data":0}\n);
    ($rc, $out, $err) = tl(['publish', '--ndjson'], stdin => $input);
    my $kept = int(($n - 1) / 1000) * 1000;
    is "$rc $out", '2 ', "$what: exit code 2";
    unlike $err, qr/of the batch:/, "$what: not its number in the batch";
    like $err, qr/^trunkline: error: line $n: .*$message/s, "$what: names line $n";
    my $stored = $kept ? "nothing of its batch is stored; stored before it: $kept events (lines 1 to $kept)" : 'nothing is stored';
    like $err, qr/^hint: \Q$stored\E$/m, "$what: and what is stored";
    is stored() - $count, $kept, "$what: that much";
    return;
}
bad_line('not JSON', '{"type":"t","data":{"a":}}', '(?i)json');
bad_line('no object', '[1]', 'not a JSON object', 3);
bad_line('cut off', '{"type":"t","data":{"a":1}', "'}' expected|without an end", 1001);
bad_line('no type', '{"data":1}', 'no type', 1);
bad_line('no data', '{"type":"t"}', 'no data', 2);
bad_line('unknown member', '{"type":"t","data":1,"stream":"s"}', 'unknown member "stream"', 2);
bad_line('twice', '{"type":"t","type":"u","data":1}', 'twice', 2);
bad_line('type is no string', '{"type":1,"data":1}', 'are strings', 2);
bad_line('malformed type', '{"type":"a..b","data":1}', '', 1200);
bad_line('U+0000', '{"type":"t","data":"\u0000"}', '', 1700);
bad_line('U+0000 in the key', '{"type":"t","data":1,"key":"\u0000"}', 'are strings', 2);
bad_line('text behind', '{"type":"t","data":1} x', 'text after', 2);

# The server goes away between two calls; the next command says so.
($rc, $out, $err) = tl(['publish', 'x', '1', '--db', 'host=/nowhere user=u dbname=d']);
is "$rc $out", '3 ', 'no connection: exit code 3';
like $err, qr/\Atrunkline: error: .+/, 'and an error';

done_testing;
