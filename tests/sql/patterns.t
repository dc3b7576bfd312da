#!/usr/bin/perl
# PAT-1: the matcher in SQL and the one in C give the same answers, and a claim gives the same events.
use strict;
use warnings;
use utf8;
use lib 'tests/sql';
use Encode ();
use IPC::Open2 ();
use SqlTest;
use Test::More;

my $s = session();

my @table = (
    # pattern, type, answer
    ['order.created', 'order.created', 't'], ['order.created', 'order.createdx', 'f'], ['order.created', 'xorder.created', 'f'],
    ['order.*', 'order.created', 't'], ['order.*', 'order', 'f'], ['order.*', 'order.line.added', 'f'],
    ['*.created', 'order.created', 't'], ['*.created', 'a.order.created', 'f'], ['a.*.c', 'a.b.c', 't'], ['a.*.c', 'a.b.b.c', 'f'],
    ['order.**', 'order.created', 't'], ['order.**', 'order.line.added', 't'], ['order.**', 'order', 'f'],
    ['*.**', 'a', 'f'], ['*.**', 'a.b.c', 't'], ['*.*', 'a.b', 't'], ['*', 'a.b.c', 't'], ['**', 'a.b.c', 't'], ['*', 'a', 't'],
    ['a_b', 'axb', 'f'], ['a%', 'abc', 'f'], ['a_b', 'a_b', 't'], ['a%', 'a%', 't'], ['a\\.b', 'a\\.b', 't'], ['a.b', 'axb', 'f'],
    ['a+', 'aa', 'f'], ['(a|b)', 'a', 'f'], ['(a|b)', '(a|b)', 't'], ['[ab]', 'a', 'f'], ['^a$', 'a', 'f'], ['^a$', '^a$', 't'],
    ['a{2}', 'aa', 'f'], ['a?', '', 'f'], ['\\d', '1', 'f'], ['Order', 'order', 'f'], ['ünï.*', 'ünï.çode', 't'], ['*.b', "\x{1F600}.b", 't'],
    ["a\nb", "a\nb", 't'], ['a.*', "a.x\ny", 't'], ['a.**', "a.x\ny.z", 't'], ["a", "a\n", 'f'], ['***', 'a', 'f'], ['a*', 'ab', 'f'], ['**.a', 'b.a', 'f'],
    ['', 'a', 'f'], ['a..b', 'a..b', 'f'], ['.a', '.a', 'f'], ['a.', 'a.', 'f'], ['*', '', 'f'], ['**', 'a..b', 'f'], ['*', 'a*', 'f'],
    ['a' x 255, 'a' x 255, 't'], ['a' x 256, 'a' x 256, 'f'], ['é' x 127, 'é' x 127, 't'], ['é' x 128, 'é' x 128, 'f'],
    ['***:a', '***:a', 'f'], ['(?i)a', 'A', 'f'], ['-', '-', 't'], ['a-z', 'b', 'f'], ['$', '$', 't'], ["'", "'", 't'], ['"', '"', 't'],
);

my $seed = $ENV{TRUNKLINE_SEED} // int rand 1_000_000;
diag("seed $seed");
srand $seed;
my @atoms = ('a', 'b', 'ab', '*', '**', '.', '.', '.', '%', '_', '\\', 'é', "\x{1F600}", '^', '$', '(', ')', '[', ']', '{1}', '+', '?', '|', ' ', 'A', "\t", "\n", '-', '0');
sub any { return $_[rand @_] }
sub text { return join '', map { any(@atoms) } 1 .. 1 + rand 8 }
sub segments { return join '.', map { any('a', 'b', 'é', '%', '_', 'a\\', 'x' x int 1 + rand 100) } 1 .. 1 + rand 5 }

# A type, and a pattern made from it by putting in stars: often a match, often a near miss.
sub related {
    my $type = segments();
    my @parts = split /\./, $type, -1;
    $parts[rand @parts] = any('*', '**', 'a', '*') for 1 .. rand 3;
    pop @parts if rand() < 0.2;
    push @parts, any('*', '**') if rand() < 0.3;
    return [join('.', @parts), $type];
}
my @pairs = (@table, map { rand() < 0.5 ? related() : [rand() < 0.5 ? text() : segments(), text()] } 1 .. 6000);

my @hex = map { my $p = $_; join "\t", map { unpack 'H*', Encode::encode('UTF-8', $_) } @$p[0, 1] } @pairs;
# the C program first to a file of answers, so that neither side waits for the other
my $questions = "$ENV{TRUNKLINE_TEST_DIR}/questions";
open my $file, '>', $questions or BAIL_OUT("$questions: $!");
print $file "$_\n" for @hex;
close $file;
my @by_c = split /\n/, qx("$ENV{TRUNKLINE_BUILD}/tests/sql/pattern_answers" <"$questions");
is(scalar @by_c, scalar @pairs, 'C answered all');

$s->do("CREATE TEMP TABLE q (n serial, pattern text, type text);\nCOPY q (pattern, type) FROM STDIN;\n" . join("\n", @hex) . "\n\\.\n"
    . "UPDATE q SET pattern = convert_from(decode(pattern, 'hex'), 'UTF8'), type = convert_from(decode(type, 'hex'), 'UTF8')");
my @by_sql = split /\n/, $s->do("SELECT trunkline.matches(type, pattern), trunkline.pattern_problem(pattern), trunkline.type_problem(type) FROM q ORDER BY n");
is(scalar @by_sql, scalar @pairs, 'SQL answered all');

my @wrong = grep { substr($by_sql[$_], 0, 1) ne $table[$_][2] } 0 .. $#table;
is(join("\n", map { "$table[$_][0] $table[$_][1]" } @wrong), '', 'the answers that were written down');
my @different = grep { $by_c[$_] ne $by_sql[$_] } 0 .. $#pairs;
is(join("\n", map { "$hex[$_]: C $by_c[$_], SQL $by_sql[$_]" } @different[0 .. ($#different < 4 ? $#different : 4)]), '',
    'C and SQL agree on ' . @pairs . ' pairs, problems included');
my $matching = grep { /^t/ } @by_sql;
cmp_ok($matching, '>', 500, "which is worth something: $matching match");

# What claim() and read() use is the regular expression alone.
returns($s, "SELECT count(*) FROM q WHERE trunkline.pattern_problem(pattern) IS NULL AND trunkline.type_problem(type) IS NULL
    AND coalesce(type ~ trunkline.pattern_regex(pattern), true) <> trunkline.matches(type, pattern)", 0, 'pattern_regex() says the same');
returns($s, 'SELECT trunkline.matches(NULL, NULL), trunkline.matches(\'a\', NULL), trunkline.matches(NULL, \'*\')', 'f|f|f', 'NULL matches nothing');

done_testing;
