#!/usr/bin/perl
# Any text to the parsers that are written in SQL: a result or a typed error that says something, never an
# error that nobody wrote (a failed cast, a bad regular expression, an array out of bounds, XX000). The
# same seed each time, so that a change is to blame; make fuzz-sql takes a new one and is longer.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $seed = $ENV{TRUNKLINE_FUZZ_SEED} // 1;
my $rounds = $ENV{TRUNKLINE_FUZZ_ROUNDS} // 200;
srand $seed;
note("TRUNKLINE_FUZZ_SEED=$seed");

my $s = session();

# What each is built from; pieces are glued, doubled, cut and spoilt.
my %pieces = (
    cron => [split(/ /, '* */5 0 59 1-5 1,2,3 L LW 15W MON-FRI jan 5#3 ? */0 60 -1 @daily @yearly @hourly @every 2/3 7 0-59/15'),
        ' ', '  ', "\t", '9999999999', '1-', ',', '/', '#'],
    token => ['tl1', '.', '.', '.', 'tl1.bus.', 'tl2', 'bus', 'none', '0', '-1', '9223372036854775807', '9223372036854775808', '1e3', 'x', ' ', "\n",
        'ab12', '18446744073709551616'],
    name => [split(/ /, 'a order created * ** . . . .. orders_2026 A - _ % \\ ( ) [ ] + ? | ^ $'), "\x{fc}", ' ', "\x{1F600}", 'a' x 130, '"', "'", "\n"],
    json => ['{', '}', '[', ']', ',', ':', '"type"', '"a.b"', '"data"', '"id"', '"key"', '"0192f7a0-1234-7abc-8def-0123456789ab"',
        'null', 'true', '1', '1e400', '-0', '"\u0000"', '"\ud83d"', '{"type":"a","data":1}', '{"type":1}', '"metadata"', '{}', '[]', '""', ' '],
    header => ['X-A: b', 'x', ':', ' ', "\n", "\r", 'Host: y', 'content-type: z', 'webhook-id: 1', "\t", "\x{e9}", '(', '"'],
);

sub text {
    my ($kind) = @_;
    my @from = @{$pieces{$kind}};
    my $text = join '', map { $from[rand @from] } 1 .. 1 + rand 8;
    my $how = rand;
    if ($how < 0.1) { substr $text, rand(length($text) + 1), 0, chr(1 + rand 0x2000) }
    elsif ($how < 0.2) { $text = substr $text, 0, rand(length($text) + 1) }
    elsif ($how < 0.25) { $text .= $text }
    return $text;
}

# Five fields and their like, so that more than the first check is reached.
sub cron { return rand() < 0.3 ? text('cron') : join ' ', map { my @p = @{$pieces{cron}}; $p[rand 21] } 1 .. 4 + rand 3 }

# A whole array of events, of members that are mostly known.
sub events {
    my @members = map {
        my @names = ('"type"', '"type"', '"data"', '"id"', '"key"', '"metadata"', '"run_at"', '"source"', '"tenant_id"', '"expires_at"', '"x"');
        my @values = ('"a.b"', '1', 'null', '{}', '"0192f7a0-1234-7abc-8def-0123456789ab"', '"2026-01-01"', '[1]', 'true', '"infinity"', '1e999', '"' . ('k' x (rand 300)) . '"');
        $names[rand @names] . ':' . $values[rand @values];
    } 0 .. rand 5;
    my $event = '{' . join(',', @members) . '}';
    return rand() < 0.2 ? text('json') : rand() < 0.2 ? $event : "[$event" . (rand() < 0.5 ? ",$event]" : ']');
}

sub quote {
    my ($text) = @_;
    return 'NULL' if !defined $text;
    $text =~ s/\0//g;
    $text =~ s/([\\'])/$1$1/g;
    $text =~ s/\n/\\n/g;
    $text =~ s/\r/\\r/g;
    return "E'$text'";
}

# One block a batch of calls, so that a round is not a round trip: it gives the calls that failed in
# a way that nobody wrote.
sub unexpected {
    my ($allowed, @calls) = @_;
    my $list = join ",\n", map { quote($_) } @calls;
    $s->do('DELETE FROM fuzz_failure');
    $s->do(<<"SQL");
DO \$do\$
DECLARE
  v_call text;
  v_message text;
BEGIN
  FOREACH v_call IN ARRAY ARRAY[$list]::text[] LOOP
    BEGIN
      EXECUTE v_call;
    EXCEPTION WHEN OTHERS THEN
      GET STACKED DIAGNOSTICS v_message = MESSAGE_TEXT;
      IF SQLSTATE NOT LIKE 'TL%' AND SQLSTATE <> ALL ('{$allowed}'::text[]) OR v_message = '' THEN
        INSERT INTO fuzz_failure VALUES (SQLSTATE, v_message, v_call);
      END IF;
    END;
  END LOOP;
END \$do\$
SQL
    return $s->do("SELECT state || ' ' || message || ' in ' || left(call, 300) FROM fuzz_failure ORDER BY 1 LIMIT 5");
}

sub is_robust {
    my ($name, $allowed, $make) = @_;
    my $bad = '';
    for (my $done = 0; $done < $rounds && $bad eq ''; $done += 100) {
        $bad = unexpected($allowed, map { $make->() } 1 .. 100);
    }
    is($bad, '', "$name: a result or a typed error (seed $seed)");
    return;
}

# JSON of a text, {} when it is none: that a caller's cast fails is the caller's.
$s->do(<<'SQL');
CREATE FUNCTION pg_temp.json_of(t text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN t::jsonb; EXCEPTION WHEN OTHERS THEN RETURN '{}'; END $$
SQL
$s->do('CREATE TEMP TABLE fuzz_failure (state text, message text, call text)');
is(unexpected('', q{SELECT 1/0}), "22012 division by zero in SELECT 1/0", 'an error that nobody wrote is seen');
is(unexpected('', q{SELECT trunkline.publish('x..y', '{}')}), '', 'a typed one is fine');

is_robust('CRON-1 cron_parse', '', sub { "SELECT trunkline.cron_parse(" . quote(cron()) . ")" });
is_robust('position token', '', sub { "SELECT trunkline.parse_position_token(" . quote(text('token')) . ")" });
is_robust('PAT-1 pattern_problem, type_problem', '',
    sub { "SELECT trunkline.pattern_problem(" . quote(text('name')) . "), trunkline.type_problem(" . quote(text('name')) . ")" });
is_robust('PAT-1 matches', '', sub { "SELECT trunkline.matches(" . quote(text('name')) . ", " . quote(text('name')) . ")" });
is_robust('PUB-3 publish_batch', '', sub { "SELECT trunkline.publish_batch(pg_temp.json_of(" . quote(events()) . "))" });
is_robust('APP-1 append', '', sub { "SELECT trunkline.append('s-1', pg_temp.json_of(" . quote(events()) . "))" });
is_robust('HOOK headers_problem', '', sub {
    return 'SELECT trunkline.headers_problem(' . (rand() < 0.3 ? 'pg_temp.json_of(' . quote(text('json')) . ')'
        : 'jsonb_build_object(' . join(', ', map { quote(text('header')) . '::text' } 1 .. 2 * (1 + int rand 3)) . ')') . ')';
});
is_robust('SUB-9 subscribe', '', sub {
    my @options = map { (qw(retries timeout concurrency headers format exec_timeout x max_kept)[rand 8],
        ('1', '"5s"', '"infinity"', '-1', '1e300', 'null', '{"a":"b"}', '"cloudevents"', '[]', '""')[rand 10]) } 0 .. rand 2;
    my $json = '{' . join(',', map { qq("$options[2 * $_]":$options[2 * $_ + 1]) } 0 .. $#options / 2) . '}';
    my $target = ('https://h.example/x', 'exec:/bin/true', 'sql:public.f', 'ftp://x', text('name'))[rand 5];
    my $start = ('end', 'beginning', '7', '-7', '2026-01-01', '2026-13-01', 'infinity', text('token'), text('name'))[rand 9];
    return sprintf 'SELECT trunkline.subscribe(%s, %s, target => %s, target_options => pg_temp.json_of(%s), start_at => %s)',
        quote(rand() < 0.7 ? 'f' . int rand 1e6 : text('name')), quote(rand() < 0.7 ? 'a.*' : text('name')), quote($target), quote($json), quote($start);
});
done_testing();
