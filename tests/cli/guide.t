#!/usr/bin/env perl
# docs/guide: every command and statement is run as printed, and gives what is printed (DOC-1).
#
# A block `console` has commands behind "$ " (their further lines behind "> ") and what they print; … stands for anything, and the widths of
# columns do not count. A block `sql` is run by psql. The blocks of a page share one shell and one database.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

# [[command, expected output], ...]; undef: not compared
sub steps {
    my ($page) = @_;
    my @steps;
    while ($page =~ /^```(console|sql)\n(.*?)^```$/msg) {
        my ($kind, $text) = ($1, $2);
        if ($kind eq 'sql') {
            push @steps, ["psql -X -q -v ON_ERROR_STOP=1 -d \"\$TRUNKLINE_DB\" <<'SQL'\n${text}SQL\n", undef];
            next;
        }
        for my $line (split /\n/, $text) {
            if ($line =~ /^\$ (.*)/)                              { push @steps, ["$1\n", ''] }
            elsif ($line =~ /^> (.*)/ && $steps[-1][1] eq '') { $steps[-1][0] .= "$1\n" }
            else                                              { $steps[-1][1] .= "$line\n" }
        }
    }
    return @steps;
}

sub pattern {
    my ($text) = @_;
    my @lines = map { $_ eq '…' ? '(?:.*\n)*?' : join('', map { $_ eq '…' ? '.*?' : /^ +$/ ? ' +' : quotemeta } split /(…| +)/) . " *\n" } split /\n/, $text;
    my $all = join '', @lines;
    return qr/\A$all\z/;
}

my @pages = glob source_dir() . '/docs/guide/*.md';
cmp_ok scalar @pages, '>', 0, 'there are pages';
for my $file (@pages) {
    my ($directory, $name) = $file =~ /(.*\/)(.*)/;
    my $page = slurp($file);
    my @steps = steps($page);
    subtest $name => sub {
        cmp_ok scalar @steps, '>', 0, 'it has commands';
        my $db = new_database();
        my $marker = 'end of step';
        my $script = join '', map { "$_->[0]status=\$?; echo; echo '$marker' \$status\n" } @steps;
        my $handle = start_program(['bash', '-c', "exec 2>&1\n$script"],
            env => {TRUNKLINE_DB => $db, PATH => ($ENV{TRUNKLINE_BIN} =~ s/\/[^\/]*$//r) . ":$ENV{PATH}"});
        is wait_exit($handle, 600), 0, 'the shell ends';
        my @parts = split /^$marker (\d+)\n/m, slurp($handle->{out});
        for my $step (@steps) {
            my ($out, $status) = splice @parts, 0, 2;
            $out =~ s/\n\z//; # that of the marker
            my $command = $step->[0] =~ s/\n.*//sr;
            if (defined $step->[1]) {
                my $matches = $out =~ pattern($step->[1]);
                ok $matches, $command or diag "prints:\n$out\ninstead of:\n$step->[1]";
            } else {
                is $status, 0, $step->[0] =~ s/\A.*\n(.*)\n(?s:.*)/$1/r or diag $out;
            }
        }
    };
    # links
    for my $link ($page =~ /\]\(([^)#]+)[^)]*\)/g) {
        next if $link =~ /^https?:/;
        ok -e "$directory$link", "$name: link $link";
    }
}

done_testing;
