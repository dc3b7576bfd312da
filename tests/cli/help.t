#!/usr/bin/env perl
# The command table as people meet it: help, completion, wrong arguments.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my @commands = qw(demo serve publish append read tail streams redact snapshots subscribe unsubscribe subscriptions dead replay webhook
    schedule scheduled topics claim ack migrate doctor bench db completion version);

my ($rc, $out, $err) = tl([]);
is $rc, 0, 'no argument: help';
is $err, '', 'on stdout';
is_deeply [$out =~ /^  (\w+) {2,}\w/mg], \@commands, 'it lists the commands';
is((tl(['--help']))[1], $out, '--help is the same');
is((tl(['help']))[1], $out, 'help is the same');

for my $command (@commands) {
    ($rc, $out, $err) = tl([$command, '--help']);
    is "$rc $err", '0 ', "$command --help";
    like $out, qr/\Atrunkline $command: [a-z].*[^.]\n\nusage: trunkline $command\b/, 'has summary and usage';
    like $out, qr/^ +--db CONNINFO/m, 'and the global options';
    unlike $out, qr/[ \t]$/m, 'no space ends a line';
    is((tl(['help', $command]))[1], $out, "help $command is the same");
    my @wide = grep { length > 100 } split /\n/, $out;
    is_deeply \@wide, [], 'fits into 100 columns';
}
($rc, $out) = tl(['read', '-h', '--db', 'host=/nowhere']);
is $rc, 0, 'help needs no database';

# Wrong arguments: exit code 2, nothing on stdout, the form of errors on stderr.
my @wrong = (
    [['nonsense'], 'no such command: nonsense', ''],
    [['help', 'nonsense'], 'no such command: nonsense', ''],
    [['read', '--colour'], 'unknown option --colour', 'read '],
    [['read', '-z'], 'unknown option -z', 'read '],
    [['read', '--limit'], '--limit needs a value: N', 'read '],
    [['read', '--limit', 'ten'], '--limit takes a whole number, not "ten"', 'read '],
    [['read', '--limit=-1'], '--limit takes a whole number, not "-1"', 'read '],
    [['read', '--json=yes'], '--json takes no value', 'read '],
    [['read', 'x'], 'unexpected argument "x"', 'read '],
    [['claim', 'x', '--lease', 'soon'],
        '--lease takes a duration such as 250ms, 30s, 5m, 2h or 7d, not "soon"', 'claim '],
    [['subscribe', 'a'], 'subscribe needs PATTERN', 'subscribe '],
    [['subscribe', 'a', 'b', '--ordering', 'strict'], '--ordering is one of key|none|total', 'subscribe '],
    [['migrate', 'down'], '"down" is not one of up|status|sql|verify', 'migrate '],
    [['completion'], 'completion needs bash|zsh', 'completion '],
    [['read', ('--pattern', 'a') x 70], 'too many options at --pattern', 'read '],
);
for my $case (@wrong) {
    my ($arguments, $message, $command) = @$case;
    ($rc, $out, $err) = tl($arguments);
    is "$rc $out", '2 ', "exit code of: @$arguments[0 .. ($#$arguments > 3 ? 3 : $#$arguments)]";
    is $err, "trunkline: error: $message\nhint: see trunkline $command--help\n", 'message and hint';
}

# Version.
chomp(my $version = tl_ok(['version']));
like $version, qr/^trunkline \d+\.\d+\.\d+ \(libpq /, 'version';
is "trunkline " . decode(tl_ok(['version', '--json']))->{version}, $version =~ s/ \(.*//r, 'as JSON';
is tl_ok(['--version']), "$version\n", '--version';

# Completion: bash loads the script and completes from the table.
my $script = spew(workdir() . '/completion.bash', tl_ok(['completion', 'bash']));
sub completes {
    my ($words, $expected, $what) = @_;
    my @quoted = map { s/'/'\\''/gr } @$words;
    my $program = join ' ', ". $script; COMP_WORDS=(", (map { "'$_'" } @quoted), ");",
        "COMP_CWORD=$#$words; _trunkline; echo \"\${COMPREPLY[@]}\"";
    my $handle = start_program(['bash', '--norc', '-euc', $program]);
    is wait_exit($handle), 0, "bash: $what" or diag slurp($handle->{err});
    is_deeply [split ' ', slurp($handle->{out})], $expected, $what;
    return;
}
completes(['trunkline', 'sub'], [qw(subscribe subscriptions)], 'commands');
completes(['trunkline', ''], ['help', @commands], 'all commands');
completes(['trunkline', 'topics', ''], [qw(list show create)], 'actions');
completes(['trunkline', 'subscribe', 'a', 'b', '--ord'], ['--ordering'], 'options');
completes(['trunkline', 'subscribe', '--ordering', ''], [qw(key none total)], 'choices');
completes(['trunkline', '--db', 'x', 'mig'], ['migrate'], 'after a global option');
completes(['trunkline', 'tail', '--from', ''], [qw(beginning end)], 'choices with other values');
spew(workdir() . '/events.ndjson', '');
completes(['trunkline', 'publish', '--file', workdir() . '/events'], [workdir() . '/events.ndjson'], 'files');

my $zsh = tl_ok(['completion', 'zsh']);
like $zsh, qr/\A#compdef trunkline\n/, 'zsh script';
like $zsh, qr/'\*--ordering=\[[^\]]*\]:ordering:\(key none total\)'/, 'with choices';
is +(tl(['completion', 'fish']))[0], 2, 'no other shell';

# A full disk under stdout is an error; a reader that goes away is none.
SKIP: {
    skip 'no /dev/full here', 1 if !-w '/dev/full';
    my $rc_full = system("'$ENV{TRUNKLINE_BIN}' --help >/dev/full 2>/dev/null") >> 8;
    is $rc_full, 6, 'a full disk is an error';
}
my $piped = start_program(['bash', '-c', '"$0" completion zsh | true; exit ${PIPESTATUS[0]}', $ENV{TRUNKLINE_BIN}]);
is wait_exit($piped), 0, 'a reader that goes away is none';

done_testing;
