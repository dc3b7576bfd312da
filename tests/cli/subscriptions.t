#!/usr/bin/env perl
# subscribe, unsubscribe, subscriptions, topics, claim, ack (SUB-1, SUB-5, SUB-7, SUB-9, TOP-1, WRK-6).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my ($rc, $out, $err);

# Topics.
like tl_ok(['topics']), qr/^topic_id +topic .*\n1 +bus +logged +day .*\n2 +store +logged +none /, 'two from the start';
is tl_ok(['topics', 'create', 'audit', '--rotation', 'month', '--retention', '365d', '--max-event-bytes', 2048]),
    "created audit\n", 'TOP-1 create';
my $topic = decode(tl_ok(['topics', 'show', 'audit', '--json']));
is_deeply [@$topic{qw(topic durability rotation retention max_event_bytes)}],
    ['audit', 'logged', 'month', '8760:00:00', 2048], 'with its options' or diag explain $topic;
like tl_ok(['topics', 'show', 'audit']), qr/^max_event_bytes +2048$/m, 'show for people';
is_deeply [map { decode($_)->{topic} } split /\n/, tl_ok(['topics', 'list', '--json'])], [qw(audit bus store)], 'list as JSON lines';
($rc, $out, $err) = tl(['publish', 'a', '"' . join('', map { chr(33 + rand 94) =~ s/["\\]/x/r } 1 .. 9000) . '"', '--topic', 'audit']);
is $rc, 6, 'above the limit of the topic: 6';
($rc, $out, $err) = tl(['topics', 'create', 'audit']);
is "$rc $out", '4 ', 'twice: conflict';
is +(tl(['topics', 'show', 'nowhere']))[0], 5, 'unknown: 5';
is +(tl(['topics', 'create', 'Not A Name']))[0], 2, 'no name: 2';
is +(tl(['topics', 'create']))[0], 2, 'create needs a name';
is +(tl(['topics', 'create', 'x', '--rotation', 'week']))[0], 2, 'no rotation: 2';
is +(tl(['topics', 'list', '--rotation', 'day']))[0], 2, 'options of create go with create';

# Subscriptions.
tl_ok(['publish', 'shop.order.created', qq({"n": $_, "total": @{[$_ * 10]}}), '--key', $_ % 2]) for 1 .. 4;
is tl_ok(['subscribe', 'billing/all', 'shop.**', '--start', 'beginning']), "subscribed billing/all to shop.**\n", 'SUB-1 subscribe';
my $first = decode(tl_ok(['subscriptions', 'show', 'billing/all', '--json']));
tl_ok(['subscribe', 'billing/all', 'shop.**', '--start', 'beginning']);
is_deeply decode(tl_ok(['subscriptions', 'show', 'billing/all', '--json'])), $first, 'the same again changes nothing';
my $shown = decode(tl_ok(['subscribe', 'billing/big', 'shop.order.*', '--start', 2, '--json', '--filter', '{"n": 4}',
            '--filter-path', '$.total > 20', '--tenant', 'acme', '--priority', 9, '--ordering', 'none',
            '--max-attempts', 3, '--retry-delay', '250ms', '--target', 'https://example.com/x']));
is_deeply [@$shown{qw(name pattern tenant_id priority ordering max_attempts target behind)}, $shown->{filter}],
    ['billing/big', 'shop.order.*', 'acme', 9, 'none', 3, 'https://example.com/x', 2, {n => 4}], 'every option' or diag explain $shown;
is query($db, q(SELECT retry_delay FROM trunkline.subscriptions WHERE name = 'billing/big')), '00:00:00.25', 'retry delay';
for my $case (
    [backoff => 'exponential'], [backoff => 'fixed', '--backoff', 'fixed'], [backoff => 'schedule', '--retry-schedule', '5s'],
    [backoff => 'exponential', '--backoff', 'exponential', '--target', 'https://example.com/'],
    [retry_schedule => '{00:00:05,00:05:00,00:01:30,02:00:00.25}', '--retry-schedule', '5s,5min,1m30s,2h250ms'],
    ["retry_delay < '1 ms'" => 't', '--retry-delay', '0s'], [max_attempts => 3, '--retry-schedule', '5s,9'], [retry_cap => '00:10:00', '--retry-cap', '10m'],
    [on_failure => 'block_key'], [on_failure => 'retry', '--on-failure', 'retry'], [on_failure => 'stop', '--on-failure', 'stop'],
    [slots => 16, '--slots', 16], [mode => 'sync', '--mode', 'sync'], [mode => 'async', '--mode', 'async'],
    [max_in_flight => 50, '--max-in-flight', 50], [rate_limit => '0.25', '--rate-limit', '0.25'], [timeout => '00:00:02', '--timeout', '2s'],
    [track => 'none'], [track => 'all', '--track', 'all'],
    [target_options => '{"log": "all", "concurrency": 7}', '--target', 'https://example.com/', '--target-option', 'concurrency=7', '--target-option', 'log="all"'])
{
    my ($column, $value, @options) = @$case;
    tl_ok(['subscribe', 'o', 'a', @options]);
    is query($db, "SELECT $column FROM trunkline.subscriptions WHERE name = 'o'"), $value, "SUB-1 subscribe @options";
    tl_ok(['unsubscribe', 'o']);
}
tl_ok(['subscribe', 'o', 'a', '--slots', 2]);
($rc, $out, $err) = tl(['subscribe', 'o', 'a', '--slots', 2]);
is "$rc $err", '0 ', 'the same slots again';
($rc, $out, $err) = tl(['subscribe', 'o', 'a', '--slots', 3]);
like $err, qr/keeps its 2 slots.*set-slots/, 'other slots: it says that they stay';
is query($db, q(SELECT slots FROM trunkline.subscriptions WHERE name = 'o')), 2, 'they do';
tl_ok(['unsubscribe', 'o']);
like tl_ok(['subscriptions']), qr/^name +topic .*\nbilling\/all +bus +shop\.\*\* +- +active +4 +0 +0 +0\nbilling\/big +bus/, 'SUB-9 list';
like tl_ok(['subscriptions', 'show', 'billing/all']), qr/^last_triggered_at +-$/m, 'show';
for my $start (['end', 4], ['beginning', 0], [3, 3], ['2000-01-01', 0], ['2000-01-01T00:00:00.5Z', 0], ['2100-01-01T10:00:00', 4]) {
    my $name = "start/$start->[0]";
    is decode(tl_ok(['subscribe', $name, 'x', '--start', $start->[0], '--json']))->{cursor}, $start->[1], "SUB-5 start $start->[0]";
    is tl_ok(['unsubscribe', $name]), "unsubscribed $name\n", 'SUB-7 unsubscribe';
}
my @bad = (
    [5, qr/nowhere/, ['unsubscribe', 'nowhere']],
    [5, qr/nowhere/, ['subscriptions', 'show', 'nowhere']],
    [5, qr/nowhere/, ['subscribe', 'x', 'a', '--topic', 'nowhere']],
    [2, qr/show needs NAME/, ['subscriptions', 'show']],
    [2, qr/"a\.\." is no pattern/, ['subscribe', 'x', 'a..']],
    [2, qr/no pattern/, ['subscribe', 'x', 'a.**.b']],
    [2, qr/name/, ['subscribe', '', 'a']],
    [2, qr/name/, ['subscribe', 'n' x 256, 'a']],
    [2, qr/1 to 10/, ['subscribe', 'x', 'a', '--priority', 11]],
    [2, qr/1 to 10/, ['subscribe', 'x', 'a', '--priority', 0]],
    [2, qr/max-attempts/, ['subscribe', 'x', 'a', '--max-attempts', 0]],
    [2, qr/--start is/, ['subscribe', 'x', 'a', '--start', 'soon']],
    [2, qr/filter|json/i, ['subscribe', 'x', 'a', '--filter', '{']],
    [2, qr/filter/, ['subscribe', 'x', 'a', '--filter', '[1]']],
    [2, qr/path/i, ['subscribe', 'x', 'a', '--filter-path', '$$$']],
    [2, qr/target/, ['subscribe', 'x', 'a', '--target', 'ftp://x']],
    [2, qr/function/, ['subscribe', 'x', 'a', '--target', 'sql:public.nothing_here']],
    [2, qr/topic/, ['subscribe', 'billing/all', 'shop.**', '--topic', 'audit']],
    [2, qr/1 to 256/, ['subscribe', 'x', 'a', '--slots', 257]],
    [2, qr/slots above 1 needs ordering key/, ['subscribe', 'x', 'a', '--slots', 2, '--ordering', 'none']],
    [2, qr/1 to 1000000/, ['subscribe', 'x', 'a', '--max-in-flight', 0]],
    [2, qr/"0"/, ['subscribe', 'x', 'a', '--rate-limit', 0]],
    [2, qr/"1e3"/, ['subscribe', 'x', 'a', '--rate-limit', '1e3']],
    [2, qr/"\.5\.5"/, ['subscribe', 'x', 'a', '--rate-limit', '.5.5']],
    [2, qr/1 to 100 durations/, ['subscribe', 'x', 'a', '--retry-schedule', '5s,,6s']],
    [2, qr/1 to 100 durations/, ['subscribe', 'x', 'a', '--retry-schedule', '5s,']],
    [2, qr/1 to 100 durations/, ['subscribe', 'x', 'a', '--retry-schedule', join ',', (1) x 101]],
    [2, qr/retry_schedule goes with/, ['subscribe', 'x', 'a', '--retry-schedule', '5s', '--backoff', 'fixed']],
    [2, qr/duration/, ['subscribe', 'x', 'a', '--retry-delay', '1m30']],
    [2, qr/KEY=JSON/, ['subscribe', 'x', 'a', '--target-option', 'method=PUT']],
    [2, qr/KEY=JSON/, ['subscribe', 'x', 'a', '--target-option', 'a=1,"b":2']],
    [2, qr/KEY=JSON/, ['subscribe', 'x', 'a', '--target-option', '=1']],
);
for my $case (@bad) {
    my ($code, $message, $arguments) = @$case;
    ($rc, $out, $err) = tl($arguments);
    is "$rc $out", "$code ", "exit code of: @$arguments" =~ s/n{20,}/n…/r;
    like $err, qr/\Atrunkline: error: .*$message/s, 'says so';
}

# Pull (WRK-6): claim, settle in part, fail, hand back.
my $claim = decode(tl_ok(['claim', 'billing/all', '--json', '-n', 3, '--lease', '1m']));
is_deeply [map { [$_->{attempt}, $_->{event}{position}, $_->{event}{data}{n}] } @{$claim->{events}}],
    [[1, 1, 1], [1, 2, 2], [1, 3, 3]], 'claim';
is tl_ok(['ack', $claim->{token}, '--extend', '2m']), "extended\n", 'extend';
is tl_ok(['ack', $claim->{token}, '--upto', 1]), "settled 1\n", 'ack in part';
is tl_ok(['ack', $claim->{token}, '--fail', 2, '--error', 'no stock', '--json']), qq({"settled":1}\n), 'fail one';
is query($db, 'SELECT error_message FROM trunkline.retries'), 'no stock', 'its error is kept';
is tl_ok(['ack', $claim->{token}, '--release']), "released\n", 'hand back the rest';
($rc, $out, $err) = tl(['ack', $claim->{token}]);
is "$rc $out", '11 ', 'a stale token is fenced: 11';
is +(tl(['ack', 'no-token']))[0], 2, 'no token: 2';
is +(tl(['ack', $claim->{token}, '--release', '--upto', 1]))[0], 2, 'one thing at a time';
$out = tl_ok(['claim', 'billing/all']);
like $out, qr/\Atoken [0-9a-f-]{36}\n +3  .*\n/, 'claim for people';
is tl_ok(['ack', $out =~ /token (\S+)/]), "settled @{[scalar(() = $out =~ /\n/g) - 1]}\n", 'ack all';
is tl_ok(['claim', 'billing/big', '--json']), qq({"token":null,"events":[]}\n), 'nothing to claim';
is +(tl(['claim', 'nowhere']))[0], 5, 'unknown subscription: 5';
is +(tl(['claim', 'billing/all', '-n', 10001]))[0], 2, 'too many at once: 2';

done_testing;
