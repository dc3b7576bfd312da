#!/usr/bin/env perl
# trunkline append: one event, many, several streams; expected versions, repeats, bad input (EVS-1..5, EVS-16).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $uuid = '0190cafe-0000-7000-8000-000000000001';
my $other_uuid = '0190cafe-0000-7000-8000-000000000002';
my ($rc, $out, $err);
sub stored { return query($db, 'SELECT count(*) FROM trunkline.events') }
sub row { return query($db, "SELECT $_[0] FROM trunkline.topic_store WHERE stream = '$_[1]' AND version = $_[2]") }
sub lines { return map { decode($_) } split /\n/, $_[0] }

# One event.
like tl_ok(['append', 'order-1', 'order.created', '{"total": "9.90"}']), qr/^order-1 1 1 [0-9a-f-]{36}\n\z/,
    'EVS-1 prints stream, version, position and id';
my $receipt = decode(tl_ok(['append', 'order-1', 'order.paid', '12345678901234567890.123456789', '--json']));
is_deeply [@$receipt{qw(stream version position deduplicated)}], ['order-1', 2, 2, JSON::PP::false], 'as JSON';
is_deeply [sort keys %$receipt], [qw(deduplicated id position stream version)], 'its shape';
is row('data', 'order-1', 2), '12345678901234567890.123456789', 'big numbers stay exact';
tl_ok(['append', 'order-1', 'order.sent', '-', '--source', 'S', '--id', $uuid, '-m', 'user=7', '--meta', 'note=a=b "c"'],
    stdin => qq({"from": "stdin"}\n));
is row(q(concat_ws(' ', id, source, data, metadata)), 'order-1', 3),
    qq($uuid S {"from": "stdin"} {"note": "a=b \\"c\\"", "user": "7"}), 'id, source, --meta, data from stdin';
tl_ok(['append', 'order-1', 'order.seen', '--metadata', '{"n": 1}'], stdin => 'null');
is row(q(concat_ws(' ', data, metadata)), 'order-1', 4), 'null {"n": 1}', '--metadata; no DATA reads stdin';
tl_ok(['append', 'acme-1', 'x', '1', '--tenant', 'acme']);
is row('tenant_id', 'acme-1', 1), 'acme', '--tenant';
is +(tl(['append', 'acme-1', 'x', '1', '--tenant', 'other']))[0], 13, 'the stream of another tenant: denied';
is tl_ok(['topics', 'create', 'ledger', '--streams']), "created ledger\n", 'topics create --streams';
is query($db, q(SELECT streams, dedup_window FROM trunkline.topics WHERE name = 'ledger')), 't|', 'a topic with streams, ids for ever';
is query($db, q(SELECT streams FROM trunkline.topics WHERE name = 'bus')), 'f', 'others have none';
like tl_ok(['append', 'order-1', 'x', '1', '--topic', 'ledger']), qr/^order-1 1 1 /, '--topic: another stream of that name';
is +(tl(['append', 'order-1', 'x', '1', '-t', 'bus']))[0], 15, 'a topic without streams: 15';
is +(tl(['append', 'order-1', 'x', '1', '-t', 'nowhere']))[0], 5, 'unknown topic: 5';
is +(tl(['append', 'order-1', 'x', '1', '--db', 'host=/nowhere']))[0], 3, 'no database: 3';

# Expected versions (EVS-2).
my @expect = (
    ['none on a new stream', 0, 'e-1', 'none'], ['0 is none', 0, 'e-2', 0], ['exists on a new stream', 4, 'e-3', 'exists', '"exists"', 0],
    ['any on a new stream', 0, 'e-4', 'any'], ['a version on a new stream', 4, 'e-5', 3, 3, 0],
    ['none again', 4, 'e-1', 'none', '"none"', 1], ['exists', 0, 'e-1', 'exists'], ['any', 0, 'e-1', 'any'],
    ['the version', 0, 'e-1', 3], ['an older version', 4, 'e-1', 3, 3, 4], ['a newer version', 4, 'e-1', 5, 5, 4],
);
for my $case (@expect) {
    my ($what, $code, $stream, $expect, $expected, $actual) = @$case;
    my $before = stored();
    ($rc, $out, $err) = tl(['append', $stream, 'x', '1', '--expect', $expect, '--json']);
    is $rc, $code, "EVS-2 $what";
    if ($code) {
        is $out, qq({"conflict":{"stream":"$stream","expected":$expected,"actual":$actual}}\n), 'both versions as JSON';
        like $err, qr/^trunkline: error: stream "$stream" is at version $actual, expected /, 'and in the message';
        is stored(), $before, 'nothing is stored';
        ($rc, $out) = tl(['append', $stream, 'x', '1', '-e', $expect]);
        is "$rc $out", '4 ', 'without --json only on stderr';
    } else {
        is stored(), $before + 1, 'stored';
    }
}

# The same again.
my @again = ('append', 'order-1', 'order.sent', '{"from": "stdin"}', '--id', $uuid, '--source', 'S', '--metadata', '{"user":"7","note":"a=b \"c\""}');
like tl_ok([@again]), qr/^order-1 3 3 $uuid duplicate$/, 'same id and content: the first result';
is decode(tl_ok([@again, '--json']))->{deduplicated}, JSON::PP::true, 'said in JSON too';
($rc, $out, $err) = tl(['append', 'order-1', 'order.sent', '2', '--id', $uuid]);
is "$rc $out", '4 ', 'same id, other content: conflict';
($rc, $out, $err) = tl(['append', 'order-1', 'order.sent', '2', '--id', $uuid, '--json']);
is "$rc $out", '4 ', 'which is none of versions';

# --batch (EVS-5).
my $batch = join '', map { qq({"type":"t.$_","data":{"n": $_},"source":"S$_","metadata":{"m": $_}}\n\n) } 1 .. 3;
is join(' ', map { "$_->{stream}:$_->{version}" } lines(tl_ok(['append', 'batch-1', '--batch', '-e', 'none', '--json'], stdin => $batch))),
    'batch-1:1 batch-1:2 batch-1:3', 'EVS-5 --batch: a line each';
is row(q(concat_ws(' ', type, data, source, metadata)), 'batch-1', 2), 't.2 {"n": 2} S2 {"m": 2}', 'every member';
like tl_ok(['append', 'batch-1', '--batch', '--source', 'D', '--metadata', '{"d": 1}'], stdin => qq({"type":"t","data":1,"key":"K","id":"$other_uuid"}\n)),
    qr/^batch-1 4 \d+ $other_uuid$/, 'id of a line';
is row(q(concat_ws(' ', source, metadata, key)), 'batch-1', 4), 'D {"d": 1} K', 'options are the default of lines';
my $before = stored();
($rc, $out, $err) = tl(['append', 'batch-1', '--batch'], stdin => $batch . qq({"type":"a..b","data":1}\n));
is "$rc $out", '2 ', 'a bad line';
like $err, qr/^trunkline: error: line 7: type /, 'is named';
is stored(), $before, 'and nothing is stored';
($rc, $out, $err) = tl(['append', 'batch-1', '--batch', '-e', 7, '--json'], stdin => $batch);
is "$rc $out", qq(4 {"conflict":{"stream":"batch-1","expected":7,"actual":4}}\n), 'a conflict of the batch';
my $many = join '', map { qq({"type":"t","data":$_}\n) } 1 .. 10_000;
is scalar(() = tl_ok(['append', 'big-1', '--batch'], stdin => $many) =~ /^big-1 /mg), 10_000, '10000 events at once';
($rc, $out, $err) = tl(['append', 'big-2', '--batch'], stdin => $many . qq({"type":"t","data":0}\n));
is $rc, 6, 'one more is too many';
like $err, qr/line 10001: more than 10000 events/, 'said so';

# --streams.
my $transfer = <<'END';
{"stream":"account-1","expect":"none","type":"account.opened","data":{"n": 1}}
{"stream":"account-2","expect":0,"type":"account.opened","data":{"n": 2}}
{"stream":"order-1","expect":4}
{"stream":"account-1","type":"account.debited","data":{"amount": "5"}}
{"stream":"account-3","expect":"any","type":"account.opened","data":null}
{"stream":"account-4","expect":null,"type":"account.opened","data":1}
END
is join(' ', map { "$_->{stream}:$_->{version}" } lines(tl_ok(['append', '--streams', '--json'], stdin => $transfer))),
    'account-1:1 account-1:2 account-2:1 account-3:1 account-4:1', 'several streams, one only checked';
is row('data', 'account-1', 2), '{"amount": "5"}', 'events of a stream stay together, in order';
$before = stored();
($rc, $out, $err) = tl(['append', '--streams', '--json'],
    stdin => qq({"stream":"account-2","type":"x","data":1}\n{"stream":"account-1","expect":1,"type":"x","data":1}\n));
is "$rc $out", qq(4 {"conflict":{"stream":"account-1","expected":1,"actual":2}}\n), 'a conflict of one of them';
like $err, qr/error: line 2: stream "account-1" is at version 2/, 'named by its line';
($rc, $out, $err) = tl(['append', '--streams'],
    stdin => qq({"stream":"order-1","expect":9}\n{"stream":"account-1","type":"x","data":1}\n));
is $rc, 4, 'one that is only checked';
is stored(), $before, 'nothing is stored of either';
my @ids = map { sprintf '0190cafe-0000-7000-8000-0000000001%02d', $_ } 1 .. 2;
my $with_ids = join '', map { qq({"stream":"retry-$_","expect":"none","type":"x","data":1,"id":"$ids[$_ - 1]"}\n) } 1 .. 2;
tl_ok(['append', '--streams'], stdin => $with_ids);
is scalar(() = tl_ok(['append', '--streams'], stdin => $with_ids) =~ / duplicate$/mg), 2, 'with ids the same input stores nothing new';

# Bad input: a clear error, its exit code, nothing stored.
$before = stored();
my @bad = (
    ['no STREAM', qr/append needs STREAM/, []], ['no TYPE', qr/append needs TYPE/, ['s-1']],
    ['empty stream', qr/stream/, ['', 'x', '1']], ['stream of 256 bytes', qr/stream/, ['s' x 256, 'x', '1']],
    ['control character', qr/stream/, ["a\tb", 'x', '1']],
    ['malformed type', qr/"a\.\.b" is no event type/, ['s-1', 'a..b', '1']], ['invalid JSON', qr/json/i, ['s-1', 'x', '{"a":']],
    ['empty data', qr/data is empty/, ['s-1', 'x', '']], ['empty stdin', qr/stdin is empty/, ['s-1', 'x']],
    ['no version', qr/--expect is any, exists, none or a version, not "-1"/, ['s-1', 'x', '1', '--expect', '-1']],
    ['no version', qr/not "some"/, ['s-1', 'x', '1', '--expect', 'some']], ['no uuid', qr/uuid/, ['s-1', 'x', '1', '--id', '42']],
    ['metadata no object', qr/metadata/, ['s-1', 'x', '1', '--metadata', '[1]']],
    ['--meta and --metadata', qr/exclude/, ['s-1', 'x', '1', '--meta', 'k=v', '--metadata', '{}']],
    ['too many operands', qr/unexpected argument "2"/, ['s-1', 'x', '1', '2']],
    ['--batch and --streams', qr/exclude/, ['s-1', '--batch', '--streams']], ['--batch with TYPE', qr/TYPE does not go/, ['s-1', 'x', '--batch']],
    ['--batch with --id', qr/--id does not go/, ['s-1', '--batch', '--id', $uuid]], ['--streams with STREAM', qr/STREAM does not go/, ['s-1', '--streams']],
    ['--streams with --expect', qr/--expect does not go/, ['--streams', '--expect', 'any']],
    ['no events', qr/no events/, ['s-1', '--batch'], "\n"], ['only checks', qr/no events/, ['--streams'], qq({"stream":"s-1"}\n)],
    ['no object', qr/line 1: /, ['s-1', '--batch'], "1\n"], ['unknown member', qr/line 1: unknown member "stream"/, ['s-1', '--batch'], qq({"stream":"s-1","type":"x","data":1}\n)],
    ['unknown member', qr/line 2: unknown member "versoin"/, ['--streams'], qq({"stream":"s-1","type":"x","data":1}\n{"stream":"s-1","versoin":1}\n)],
    ['twice', qr/line 1: a member stands there twice/, ['s-1', '--batch'], qq({"type":"x","type":"x","data":1}\n)],
    ['no stream', qr/line 1: no stream/, ['--streams'], qq({"type":"x","data":1}\n)], ['no type', qr/line 1: no type/, ['--streams'], qq({"stream":"s-1","data":1}\n)],
    ['no data', qr/line 1: no data/, ['s-1', '--batch'], qq({"type":"x"}\n)], ['no string', qr/line 1: .* are strings/, ['s-1', '--batch'], qq({"type":1,"data":1}\n)],
    ['bad expect', qr/line 1: expect is any, exists, none or a version/, ['--streams'], qq({"stream":"s-1","expect":"maybe","type":"x","data":1}\n)],
    ['negative expect', qr/line 1: expect is any/, ['--streams'], qq({"stream":"s-1","expect":-1,"type":"x","data":1}\n)],
    ['two expectations', qr/line 2: another line expects something else/, ['--streams'], qq({"stream":"s-1","expect":0,"type":"x","data":1}\n{"stream":"s-1","expect":1,"type":"x","data":1}\n)],
    ['zero byte', qr/line 1: zero byte/, ['s-1', '--batch'], qq({"type":"x","data":"\0"}\n)],
);
for my $case (@bad) {
    my ($what, $message, $arguments, $stdin) = @$case;
    ($rc, $out, $err) = tl(['append', @$arguments], stdin => $stdin // '');
    is "$rc $out", '2 ', "$what: 2";
    like $err, qr/\Atrunkline: error: .*$message/, 'says what';
}
is stored(), $before, 'and nothing is stored';

# A reader that went away is no failure of the append, however large the rest of the output.
is system('bash', '-c', 'yes \'{"type":"x","data":1}\' | head -n 9000 | { "$0" append pipe-1 --batch --json 2>"$1"; echo $? >>"$1"; } | head -n 1 >/dev/null',
    $ENV{TRUNKLINE_BIN}, workdir() . '/pipe.err'), 0, 'a short pipe';
is slurp(workdir() . '/pipe.err'), "0\n", 'is quiet';

# EVS-3: many writers of one stream, each with the version it saw: one wins each version.
my @writers = map { start_program(['sh', '-c', 'for n in 1 2 3 4 5; do v=0; while :; do '
        . '"$0" append race-1 x "$v" --expect "$v" --json >"$1.out" 2>/dev/null && break; '
        . 'v=$(sed -n "s/.*\"actual\":\([0-9]*\).*/\1/p" "$1.out"); done; done', $ENV{TRUNKLINE_BIN}, workdir() . "/writer$_"]) } 1 .. 4;
is wait_exit($_, 60), 0, 'EVS-3 a writer is done' for @writers;
is query($db, q(SELECT count(*), min(version), max(version), bool_and(data::text::bigint = version - 1) FROM trunkline.topic_store WHERE stream = 'race-1')),
    '20|1|20|t', 'versions are dense and every winner had seen the one before';

done_testing;
