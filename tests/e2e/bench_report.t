#!/usr/bin/env perl
# trunkline-bench and bench/report: sections that fail do not end the run, and every result is in the report.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $trunkline_bench = "$ENV{TRUNKLINE_BUILD}/bench/trunkline-bench";
for ([[''], 'no such section: ""'], [['batch', 'bath'], 'no such section: "bath"'], [['--rounds', 'many'], '--rounds is not 1 to 50: "many"'],
    [['--rounds', 51], '--rounds is not 1 to 50: "51"'], [['--seconds', 0], '--seconds is not 0.01 to 3600: "0"'],
    [['--minutes', '1m'], '--minutes is not 0 to 10000: "1m"']) {
    my ($arguments, $why) = @$_;
    my $refused = start_program([$trunkline_bench, '--db', 'host=/nonexistent', @$arguments]);
    is wait_exit($refused), 2, "refused: @$arguments";
    like slurp($refused->{err}), qr/\Atrunkline-bench: \Q$why\E\nusage: /, 'it is named';
}

my $results = workdir() . '/results.ndjson';
my $folder = workdir() . '/report';
my $bench = start_program([$trunkline_bench, '--db', new_database('--empty'), '--program', '/nonexistent/trunkline',
    '--commit', 'abc123', '--disk', 'a disk', '--out', $results, '--quick', '--rounds', 2, '--seconds', 0.05, 'webhook', 'batch']);
is wait_exit($bench, 240), 1, 'a section failed' or diag slurp($bench->{err});
my $table = slurp($bench->{out});
like $table, qr/^section webhook: failed: exit code 1$/m, 'it is named';
like $table, qr/^  (?:PASS|MISS)  batches of 1000: tl_publish_batch .*at least 0\.75/m, 'the other one has its goals';
my @records = map { decode($_) } split /\n/, slurp($results);
my ($figure) = grep { $_->{kind} eq 'figure' && $_->{name} eq 'tl_publish_batch' } @records;
is scalar @{$figure->{rounds}}, 2, '--rounds';
cmp_ok $figure->{$_}, '>', 0, $_ for qw(median ratio p50_ms p99_ms p999_ms wal_bytes_per_event);
my ($goal) = grep { $_->{kind} eq 'bar' && $_->{set} eq 'speed' && $_->{name} eq $figure->{section} . 'es of 1000: tl_publish_batch' } @records;
is $goal->{at_least}, 0.9, 'a goal of another set';
is scalar @{$goal->{spread}}, 2, 'with the spread of its rounds';

# What the machine cannot be made to give: a missed goal, a peer.
open my $more, '>>', $results or die;
print {$more} qq({"kind":"bar","set":"core","name":"50 events/s: p50","got":3,"at_most":1.5,"spread":[2,4],"unit":"x <b>","verdict":"MISS"}\n),
    qq({"kind":"peer","peer":"some queue","version":"7.1","measure":"consume","variant":"best","phase":"held","unit":"events/s","value":1234,"rounds":[1200,1300],"p50_ms":5.5,"dead_tuples":17,"settings":{}}\n),
    qq({"kind":"figure","section":"peers-publish","name":"some queue","unit":"events/s","median":3,"rounds":[3]}\n),
    qq({"kind":"figure","section":"cut sh);
close $more;
my $report = start_program([source_dir() . '/bench/report', $results, $folder]);
is wait_exit($report), 0, 'bench/report' or diag slurp($report->{err});
my $text = slurp("$folder/README.md");
like $text, qr/^\| commit \| abc123 \|$/m, 'the commit';
like $text, qr/^\| disk \| a disk \|$/m, 'the disk';
like $text, qr/^\| fsync \| off \|$/m, 'the settings';
like $text, qr/^\| rounds \| 2 rounds of [\d.]+ s; peers 1 \|$/m, 'which sections had other rounds';
like $text, qr/^- webhook: failed: exit code 1$/m, 'what was not measured';
like $text, qr/^\| 50 events\/s: p50 \| at most 1\.5 x <b> \| 3 \| 2 \.\. 4 \| \*\*missed\*\* \| \w/m, 'a missed goal, with its reason';
like $text, qr/^\| some queue \| best \| held \| 1,234 events\/s \| 1,200 \.\. 1,300 \| 5\.5 \| 17 \|$/m, 'a peer';
like $text, qr/^\| tl_publish_batch \| [\d,]+ \| [\d,]+ \.\. [\d,]+ \| [\d.]+ \|/m, 'a figure';
for my $plot ($text =~ /\((plots\/[\w-]+\.svg)\)/g) {
    like slurp("$folder/$plot"), qr/\A<svg .*<\/svg>\n\z/s, $plot;
}
like slurp("$folder/plots/batch.svg"), qr/>tl_publish_batch<\/text>\n<rect [^>]*width="[1-9]/, 'a bar of some length';
is slurp("$folder/data/results.ndjson"), slurp($results), 'the raw data beside it';

done_testing;
