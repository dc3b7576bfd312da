#!/usr/bin/env perl
# trunkline read and tail of streams and categories; streams, redact, snapshots (EVS-4, EVS-6, EVS-8, EVS-9, EVS-12, SNP-3).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $bin = $ENV{TRUNKLINE_BIN};
my ($rc, $out, $err);
sub lines { return map { decode($_) } split /\n/, $_[0] }
sub places { return join ' ', map { "$_->{stream}\@$_->{version}" } lines(tl_ok(['read', '--json', @_])) }
sub names { return join ' ', map { $_->{stream} } lines(tl_ok(['streams', 'list', '--json', @_])) }

my @ids = map { sprintf '0190cafe-0000-7000-8000-0000000000%02d', $_ } 1 .. 9;
tl_ok(['append', '--streams'], stdin => join '', map { "$_\n" } (
    qq({"stream":"order-1","type":"order.created","data":{"n":1},"id":"$ids[1]","metadata":{"correlation_id":"c-1","user":"ann"}}),
    qq({"stream":"order-1","type":"order.paid","data":{"n":2},"metadata":{"correlation_id":"c-1"}}),
    qq({"stream":"order-1","type":"order.sent","data":{"n":3}}),
    qq({"stream":"order-2","type":"order.created","data":{"n":4},"metadata":{"correlation_id":"c-2"}}),
    qq({"stream":"orders-1","type":"orders.made","data":{"n":5}}),
    qq({"stream":"plain","type":"plain.made","data":{"n":6}})));
tl_ok(['append', 'order-9', 'order.created', '{"n":7}', '--tenant', 'acme']);
tl_ok(['append', 'order-1', 'order.created', '{"n":8}', '--topic', 'ledger']) if tl_ok(['topics', 'create', 'ledger', '--streams']);

# A stream.
is places('--stream', 'order-1'), 'order-1@1 order-1@2 order-1@3', 'EVS-6 a stream';
like tl_ok(['read', '-s', 'order-1']), qr/\A +1  \d{4}-\S+Z  order\.created  order-1\@1  \{"n": 1\}\n/, 'for people: stream and version';
is places('--stream', 'order-1', '--after', 1), 'order-1@2 order-1@3', '--after is exclusive';
is places('--stream', 'order-1', '--to', 2), 'order-1@1 order-1@2', '--to is inclusive';
is places('--stream', 'order-1', '--after', 1, '--to', 2), 'order-1@2', 'both';
is places('--stream', 'order-1', '--limit', 2), 'order-1@1 order-1@2', '--limit';
is places('--stream', 'order-1', '--backward'), 'order-1@3 order-1@2 order-1@1', '--backward';
is places('--stream', 'order-1', '--backward', '--after', 3, '-n', 1), 'order-1@2', '--backward below --after';
is places('--stream', 'order-404'), '', 'EVS-6 an absent stream has no events';
is places('--stream', 'order-1', '--topic', 'ledger'), 'order-1@1', '--topic';
is places('--stream', 'order-9', '--tenant', 'acme'), 'order-9@1', '--tenant';
is places('--stream', 'order-9', '--tenant', 'other'), '', "EVS-6 another tenant's stream is as absent";
is places('--stream', 'order-9'), 'order-9@1', 'the system sees all';

# A category, the topic.
is places('--category', 'order'), 'order-1@1 order-1@2 order-1@3 order-2@1 order-9@1', 'EVS-9 a category';
is places('--category', 'order-*'), places('-c', 'order'), 'order-* is the same';
is places('--category', 'plain'), 'plain@1', 'a name without a dash is its own category';
is places('--category', 'order', '--after', 2, '--limit', 2), 'order-1@3 order-2@1', 'by position';
is places('--category', 'order', '--tenant', 'acme'), 'order-9@1', 'of a tenant';
is places('--all'), 'order-1@1 order-1@2 order-1@3 order-2@1 orders-1@1 plain@1 order-9@1', 'EVS-8 the whole topic';
is places('--topic', 'store'), places('--all'), '--all is topic store';
is places('--all', '--topic', 'ledger'), 'order-1@1', 'or another';
is places('--all', '--to', 2), 'order-1@1 order-1@2', '--to a position';
is places('--all', '--backward', '-n', 2), 'order-9@1 plain@1', '--backward';
is places('--all', '--types', 'order.paid,plain.made'), 'order-1@2 plain@1', '--types';
is places('--all', '--types', 'order.paid', '--pattern', 'plain.*'), '', 'and --pattern';
is places('--all', '--correlation', 'c-1'), 'order-1@1 order-1@2', '--correlation';
my $now = query($db, q(SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
tl_ok(['append', 'order-2', 'order.late', '{"n":9}']);
is places('--all', '--since', $now), 'order-2@2', '--since a time';
is places('--category', 'order', '--since', $now), 'order-2@2', 'in a category';
is places('--all', '--since', '1h', '-n', 1), 'order-1@1', '--since a duration ago';
is tl_ok(['read']), '', 'topic bus is what it reads without any of them';

# One event.
my $one = decode(tl_ok(['read', '--id', $ids[1], '--json']));
is_deeply [@$one{qw(id stream version)}, $one->{metadata}], [$ids[1], 'order-1', 1, {correlation_id => 'c-1', user => 'ann'}], 'EVS-12 --id';
is +(tl(['read', '--id', $ids[8]]))[0], 5, 'EVS-12 absent: 5';
is +(tl(['read', '--id', '42']))[0], 2, 'no uuid: 2';
for my $case (
    ['--stream and --category', '--stream', 'a', '--category', 'b'], ['--all and --stream', '--all', '--stream', 'a'],
    ['--types and --stream', '--stream', 'a', '--types', 'x'], ['--correlation and --category', '--category', 'a', '--correlation', 'x'],
    ['--since and --stream', '--stream', 'a', '--since', '1h'], ['--backward and --category', '--category', 'a', '--backward'],
    ['--id and --stream', '--id', $ids[1], '--stream', 'a'], ['--id and --limit', '--id', $ids[1], '--limit', 1],
    ['--id and --upcast', '--id', $ids[1], '--upcast'],
    ['a malformed type', '--all', '--types', 'a,b..c'], ['a malformed time', '--all', '--since', 'yesterday'])
{
    my ($what, @arguments) = @$case;
    ($rc, $out) = tl(['read', @arguments]);
    is "$rc $out", '2 ', "$what: 2";
}

# Upcast: schema version 1 into 2.
query($db, q(CREATE FUNCTION public.note_v2(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data || '{"v": 2}' $$;
    SELECT trunkline.upcaster_add('note.made', 1, 'public.note_v2')));
tl_ok(['append', 'note-1', 'note.made', '{"text": "x"}']);
is_deeply decode(tl_ok(['read', '--stream', 'note-1', '--json']))->{data}, {text => 'x'}, 'as it is stored';
is_deeply decode(tl_ok(['read', '--stream', 'note-1', '--json', '--upcast']))->{data}, {text => 'x', v => 2}, '--upcast';

# Tail.
is join(' ', map { $_->{version} } lines(tl_ok(['tail', '--stream', 'order-1', '--from', 1, '-n', 2, '--json', '-q']))), '2 3', 'tail of a stream from a version';
my @tails = map { start_program([$bin, 'tail', '--json', '-n', 3, @$_]) } ['--stream', 'live-1'], ['--category', 'live'];
ok wait_for(sub { slurp($_->{err}) =~ /waiting for events after (?:version 0|position \d\d?);/ }), 'tail waits at the end' or diag slurp($_->{err}) for @tails;
tl_ok(['append', $_, 'x', '1']) for qw(live-2 live-1 other-1 live-1 live-1);
is wait_exit($_), 0, 'it ends after three' for @tails;
is join(' ', map { "$_->{stream}\@$_->{version}" } lines(slurp($tails[0]{out}))), 'live-1@1 live-1@2 live-1@3', 'a stream, live';
is join(' ', map { "$_->{stream}\@$_->{version}" } lines(slurp($tails[1]{out}))), 'live-2@1 live-1@1 live-1@2', 'a category, live';

# Streams.
is names(), 'live-1 live-2 note-1 order-1 order-2 order-9 orders-1 other-1 plain', 'streams by name';
is names('order'), 'order-1 order-2 order-9', 'of a category';
is names('order-*', '--after', 'order-1', '--limit', 1), 'order-2', 'page by page';
is names('--tenant', 'acme'), 'order-9', 'of a tenant';
is names('--topic', 'ledger'), 'order-1', 'of a topic';
like tl_ok(['streams', 'list', 'order', '-q']), qr/\Astream +version +state +tenant +updated_at *\norder-1 +3 +open +- +\d{4}-\S+Z\norder-2 +2 .*\norder-9 +1 +open +acme /, 'for people';
my $shown = decode(tl_ok(['streams', 'show', 'order-1', '--json']));
is_deeply [@$shown{qw(stream version first_version state tenant_id max_count max_age_seconds metadata)}],
    ['order-1', 3, 1, 'open', undef, undef, undef, undef], 'streams show' or diag explain $shown;
like tl_ok(['streams', 'show', 'order-9']), qr/^stream +order-9\nversion +1\n.*\ntenant +acme\n/s, 'for people';
is +(tl(['streams', 'show', 'order-404']))[0], 5, 'absent: 5';
is +(tl(['streams', 'show', 'order-9', '--tenant', 'other']))[0], 5, "another tenant's: 5";

# Settings.
is tl_ok(['streams', 'set', 'order-1', '--max-count', 2, '--max-age', '1h', '--metadata', '{"owner": "ann"}', '--expect', 3]), "set order-1\n", 'streams set';
$shown = decode(tl_ok(['streams', 'show', 'order-1', '--json']));
is_deeply [@$shown{qw(version max_count max_age_seconds metadata)}], [3, 2, 3600, {owner => 'ann'}], 'all of it';
like tl_ok(['streams', 'show', 'order-1']), qr/^max_count +2\nmax_age +3600s\nmetadata +\{"owner": "ann"\}$/m, 'for people';
is places('--stream', 'order-1'), 'order-1@2 order-1@3', 'max_count trims what is read';
is decode(tl_ok(['streams', 'set', 'order-1', '--json']))->{max_count}, undef, 'what is not named is cleared';
is places('--stream', 'order-1'), 'order-1@1 order-1@2 order-1@3', 'and all is there again';
is +(tl(['streams', 'set', 'order-1', '--max-count', 2, '--expect', 7]))[0], 4, 'another version: conflict';
is +(tl(['streams', 'set', 'order-1', '--metadata', '[1]']))[0], 2, 'metadata is an object';

# Redaction.
my @redact = ('redact', $ids[1], '--reason', 'request 17');
is +(tl(['redact', $ids[1], '--yes']))[0], 2, 'redact needs a reason';
is +(tl([@redact]))[0], 2, 'and --yes';
is_deeply decode(tl_ok(['read', '--id', $ids[1], '--json']))->{data}, {n => 1}, 'nothing happened';
is +(tl([@redact, '--yes', '--topic', 'ledger']))[0], 5, 'it is not in that topic';
is tl_ok([@redact, '--yes']), "redacted\n", 'redact';
is tl_ok([@redact, '--yes', '--json']), qq({"redacted":false}\n), 'a second time: nothing to do';
$one = decode(tl_ok(['read', '--stream', 'order-1', '--limit', 1, '--json']));
is $one->{data}, undef, 'the payload is gone';
is_deeply [$one->{version}, $one->{metadata}{correlation_id}, $one->{metadata}{user}, $one->{metadata}{redacted}{reason}],
    [1, 'c-1', undef, 'request 17'], 'version and correlation stay, the marker says why';
like tl_ok(['read', '--id', $ids[1]]), qr/order-1\@1  \(redacted\)  null$/, 'for people';
tl_ok(['append', 'keep-1', 'x', '1', '--id', $ids[2], '-m', 'user=ann']);
tl_ok(['redact', $ids[2], '--reason', 'x', '--yes', '--keep-metadata']);
is decode(tl_ok(['read', '--id', $ids[2], '--json']))->{metadata}{user}, 'ann', '--keep-metadata';
is +(tl(['redact', $ids[8], '--reason', 'x', '--yes']))[0], 5, 'absent: 5';

# Deletion.
is +(tl(['streams', 'delete', 'order-2', '--expect', 1]))[0], 4, 'delete: another version: conflict';
is tl_ok(['streams', 'delete', 'order-2', '--expect', 2, '--reason', 'test']), "deleted order-2\n", 'streams delete';
is tl_ok(['streams', 'delete', 'order-2', '--json']), qq({"deleted":false,"hard":false}\n), 'again: nothing to do';
is query($db, q(SELECT reason FROM trunkline.audit WHERE action = 'delete_stream')), 'test', 'the reason is kept';
is places('--stream', 'order-2'), '', 'reads give nothing';
is names('order'), 'order-1 order-9', 'it is not listed';
is names('order', '--deleted'), 'order-1 order-2 order-9', 'but with --deleted';
like tl_ok(['append', 'order-2', 'order.again', '1', '--expect', 'none']), qr/^order-2 3 /, 'the next append opens it again';
is places('--stream', 'order-2'), 'order-2@3', 'with the next version';
is +(tl(['streams', 'delete', 'order-2', '--hard', '--yes']))[0], 2, '--hard needs a reason';
is +(tl(['streams', 'delete', 'order-2', '--hard', '--reason', 'x']))[0], 2, 'and --yes';
is tl_ok(['streams', 'delete', 'order-2', '--hard', '--reason', 'x', '--yes', '--json']), qq({"deleted":true,"hard":true}\n), '--hard';
is +(tl(['append', 'order-2', 'x', '1']))[0], 4, 'nothing can be appended any more';
is join(' ', map { $_->{data} // 'null' } grep { ($_->{stream} // '') eq 'order-2' } lines(tl_ok(['read', '--all', '--json']))), 'null null null', 'and its payloads are gone';
is decode(tl_ok(['streams', 'show', 'order-2', '--json']))->{state}, 'tombstone', 'it is a tombstone';
for my $case (['set', 'hard'], ['list', 'yes'], ['delete', 'max-count', 1], ['show', 'after', 'x'], ['list', 'metadata', '{}'], ['show', 'reason', 'x']) {
    my ($action, $option, @value) = @$case;
    ($rc, $out, $err) = tl(['streams', $action, 'order-1', "--$option", @value]);
    is "$rc $out", '2 ', "--$option does not go with $action";
    like $err, qr/--$option goes with /, 'said so';
}
is +(tl(['streams', 'show']))[0], 2, 'show needs STREAM';
is +(tl(['streams', 'list', '--limit', 0]))[0], 2, 'limit 0: 2';

# Snapshots (SNP-3).
query($db, qq(SELECT trunkline.snapshot_save('$_->[0]', 1, '{"n": 1}', $_->[1]))) for ['live-1', 1], ['live-1', 2], ['live-2', 1], ['order-1', 1];
is join(' ', map { "$_->{stream}/$_->{schema_version}\@$_->{version}" } lines(tl_ok(['snapshots', '--json']))),
    'live-1/1@1 live-1/2@1 live-2/1@1 order-1/1@1', 'snapshots list';
is scalar(lines(tl_ok(['snapshots', 'list', 'live-1', '--json']))), 2, 'of a stream';
is scalar(lines(tl_ok(['snapshots', 'list', 'live-*', '--json']))), 3, 'of a category';
is scalar(lines(tl_ok(['snapshots', 'list', '--limit', 1, '--json']))), 1, '--limit';
is tl_ok(['snapshots', 'list', '--topic', 'ledger', '--json']), '', '--topic';
is +(tl(['snapshots', 'list', '--topic', 'nope']))[0], 5, 'of a topic that is not there: 5';
is decode(tl_ok(['snapshots', 'delete', 'live-*', '--below-schema', 2, '--json']))->{deleted}, 2, 'delete those of an old schema';
is join(' ', map { "$_->{stream}/$_->{schema_version}" } lines(tl_ok(['snapshots', '--json']))), 'live-1/2 order-1/1', 'the others stay';
is decode(tl_ok(['snapshots', 'delete', 'order-1', '--topic', 'ledger', '--json']))->{deleted}, 0, 'none in another topic';
is decode(tl_ok(['snapshots', 'delete', 'order-1', '--json']))->{deleted}, 1, 'of a stream';
is +(tl(['snapshots', 'delete']))[0], 2, 'delete needs STREAM';

done_testing;
