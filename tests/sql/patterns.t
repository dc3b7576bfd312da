#!/usr/bin/perl
# PAT-1: what matches what, written down. That C and SQL agree on much more: tests/pg/pattern_equality.
use strict;
use warnings;
use utf8;
use lib 'tests/sql';
use Encode ();
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
    # characters that mean something to LIKE or to a regular expression
    ['a_b', 'axb', 'f'], ['a%', 'abc', 'f'], ['a_b', 'a_b', 't'], ['a%', 'a%', 't'], ['a\\.b', 'a\\.b', 't'], ['a.b', 'axb', 'f'],
    ['a+', 'aa', 'f'], ['(a|b)', 'a', 'f'], ['(a|b)', '(a|b)', 't'], ['[ab]', 'a', 'f'], ['^a$', 'a', 'f'], ['^a$', '^a$', 't'],
    ['a{2}', 'aa', 'f'], ['a?', '', 'f'], ['\\d', '1', 'f'], ['(?i)a', 'A', 'f'], ['-', '-', 't'], ['a-z', 'b', 'f'], ['$', '$', 't'],
    ["'", "'", 't'], ['"', '"', 't'], ['Order', 'order', 'f'], ['ünï.*', 'ünï.çode', 't'], ['*.b', "\x{1F600}.b", 't'],
    ["a\nb", "a\nb", 't'], ['a.*', "a.x\ny", 't'], ['a.**', "a.x\ny.z", 't'], ['a', "a\n", 'f'],
    # malformed
    ['***', 'a', 'f'], ['a*', 'ab', 'f'], ['**.a', 'b.a', 'f'], ['***:a', '***:a', 'f'],
    ['', 'a', 'f'], ['a..b', 'a..b', 'f'], ['.a', '.a', 'f'], ['a.', 'a.', 'f'], ['*', '', 'f'], ['**', 'a..b', 'f'], ['*', 'a*', 'f'],
    # 255 bytes
    ['a' x 255, 'a' x 255, 't'], ['a' x 256, 'a' x 256, 'f'], ['é' x 127, 'é' x 127, 't'], ['é' x 128, 'é' x 128, 'f'],
);

$s->do("CREATE TEMP TABLE q (n serial, pattern text, type text);\nCOPY q (pattern, type) FROM STDIN;\n"
    . join("\n", map { my $p = $_; join "\t", map { unpack 'H*', Encode::encode('UTF-8', $_) } @$p[0, 1] } @table) . "\n\\.\n"
    . "UPDATE q SET pattern = convert_from(decode(pattern, 'hex'), 'UTF8'), type = convert_from(decode(type, 'hex'), 'UTF8')");
my @answers = split /\n/, $s->do('SELECT trunkline.matches(type, pattern) FROM q ORDER BY n');
is($answers[$_], $table[$_][2], join ' ', map { s/\n/\\n/gr } map { substr Encode::encode('UTF-8', $_), 0, 20 } @{$table[$_]}) for 0 .. $#table;

# What claim() and read() use is the regular expression alone.
returns($s, "SELECT count(*) FROM q WHERE trunkline.pattern_problem(pattern) IS NULL AND trunkline.type_problem(type) IS NULL
    AND coalesce(type ~ trunkline.pattern_regex(pattern), true) <> trunkline.matches(type, pattern)", 0, 'pattern_regex() says the same');
# Three places say what a type is: the domain of the column, publish() in a hurry, type_problem().
$s->do(<<'SQL');
CREATE FUNCTION pg_temp.is_stored(t text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t::trunkline.event_type;
    RETURN true;
EXCEPTION WHEN check_violation THEN RETURN false;
END $$;
CREATE FUNCTION pg_temp.is_published(t text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM trunkline.publish(t, '1');
    RETURN true;
EXCEPTION WHEN SQLSTATE 'TL005' THEN RETURN false;
END $$;
INSERT INTO q (type) SELECT (SELECT string_agg(substr('aab..**%_ {,"' || E'\n' || 'é', 1 + floor(random() * 15)::integer, 1), '')
    FROM generate_series(1, 1 + (i + floor(random() * 6))::integer % 7)) FROM generate_series(1, 2000) i
SQL
returns($s, 'SELECT count(*) FROM q WHERE pg_temp.is_stored(type) <> (trunkline.type_problem(type) IS NULL)', 0, 'the domain agrees with type_problem()');
returns($s, 'SELECT count(*) FROM q WHERE pg_temp.is_published(type) <> (trunkline.type_problem(type) IS NULL)', 0, 'publish() too');
returns($s, 'SELECT count(*) FILTER (WHERE trunkline.type_problem(type) IS NULL) > 300 AND count(*) FILTER (WHERE trunkline.type_problem(type) IS NOT NULL) > 300 FROM q', 't', 'on many of either kind');
returns($s, "SELECT trunkline.matches(NULL, NULL), trunkline.matches('a', NULL), trunkline.matches(NULL, '*')", 'f|f|f', 'NULL matches nothing');

done_testing;
