#!/usr/bin/perl
# Event evolution: upcasters in SQL, by type and schema version, on every path that reads.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my $s = session();
$s->do(q{
    SELECT trunkline.create_topic('own', streams => true);
    CREATE SCHEMA app;
    CREATE FUNCTION app.v1(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data - 'name' || jsonb_build_object('first', split_part(data ->> 'name', ' ', 1)) $$;
    CREATE FUNCTION app.v2(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data || jsonb_build_object('seen', metadata ->> 'schema_version', 'by', metadata ->> 'by') $$;
    CREATE FUNCTION app.nothing(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
    CREATE FUNCTION app.broken(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(1 / 0)';
    CREATE FUNCTION app.one(data jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT data';
    CREATE FUNCTION app.text(data jsonb, metadata jsonb) RETURNS text LANGUAGE sql AS 'SELECT 1::text';
    CREATE FUNCTION app."Odd; name"(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"odd"'::jsonb $$});
my %first = (old => q({"type": "named", "data": {"name": "Ann Lee"}, "metadata": {"by": "me"}}), v2 => q({"type": "named", "data": {"first": "Bob"}, "metadata": {"schema_version": 2}}),
    v3 => q({"type": "named", "data": {"first": "Cy"}, "metadata": {"schema_version": 3}}), other => q({"type": "other", "data": {"name": "Di"}}), none => q({"type": "named", "data": {"name": "Ed"}}),
    text => q({"type": "named", "data": {"name": "Flo"}, "metadata": {"schema_version": "2.1"}}));
for my $topic (qw(store own)) {
    $s->do("SELECT version FROM trunkline.append('p-1', '[$first{old}, $first{v2}, $first{v3}, $first{other}, $first{none}, $first{text}]', topic => '$topic')");
}
my $id = $s->do("SELECT id FROM trunkline.read_stream('p-1', 0, 1)");
my @paths = (map { my $topic = $_; map { s/TOPIC/$topic/r } "read_stream('p-1', topic => 'TOPIC', upcast => UP) r", "read_category('p', topic => 'TOPIC', upcast => UP) r", "load_stream('p-1', topic => 'TOPIC', upcast => UP) r",
    "read('TOPIC', upcast => UP) r" } qw(store own));
sub data { my ($path, $up) = @_; return $s->do('SELECT r.data::text || coalesce(r.metadata ->> \'schema_version\', \'-\') FROM trunkline.' . ($path =~ s/UP/$up/r) . ' ORDER BY r.version') }

my %stored = map { $_ => data($_, 'false') } @paths;
is(data($_, 'true'), $stored{$_}, "no upcaster: $_") for @paths;
$s->do("SELECT trunkline.upcaster_add('named', 1, 'app.v1'), trunkline.upcaster_add('named', 2, 'app.v2')");
my $expected = join "\n", q({"by": "me", "seen": "2", "first": "Ann"}3), q({"by": null, "seen": "2", "first": "Bob"}3), q({"first": "Cy"}3), q({"name": "Di"}-), q({"by": null, "seen": "2", "first": "Ed"}3), q({"name": "Flo"}2.1);
for my $path (@paths) {
    is(data($path, 'true'), $expected, "one after the other, from where each event is: $path");
    is(data($path, 'false'), $stored{$path}, 'not unless asked for');
}
is($s->do("SELECT string_agg(version::text, ' ' ORDER BY ordinality) FROM trunkline.read_stream('p-1', direction => 'backward', upcast => true) WITH ORDINALITY"), '6 5 4 3 2 1', 'backward stays backward');
is($s->do("SELECT string_agg(version::text, ' ' ORDER BY ordinality) FROM trunkline.read('own', direction => 'backward', upcast => true) WITH ORDINALITY"), '6 5 4 3 2 1', 'so does a topic');
is($s->do("SELECT string_agg(version::text, ' ' ORDER BY ordinality) FROM trunkline.read_stream('p-1', 2, 5, 2, upcast => true) WITH ORDINALITY"), '3 4', 'with all its arguments');
is($s->do("SELECT string_agg(version::text, ' ') FROM trunkline.read('store', 2, 2, 'named', upcast => true)"), '3 5', 'those of a topic');
is($s->do("SELECT data FROM trunkline.find('$id', upcast => true)"), '{"by": "me", "seen": "2", "first": "Ann"}', 'find');
is($s->do("SELECT data FROM trunkline.find('$id')"), '{"name": "Ann Lee"}', 'find without');
is($s->do("SELECT count(*) FROM trunkline.topic_store WHERE data ? 'name'"), 4, 'the log is as it was');

subtest 'redacted events stay as they are' => sub {
    $s->do("SELECT trunkline.redact('$id', 'asked for')");
    like($s->do("SELECT data, metadata -> 'redacted' ->> 'reason' FROM trunkline.read_stream('p-1', 0, 1, upcast => true)"), qr/^null\|asked for$/, 'with their marker');
};

subtest 'changed and removed' => sub {
    $s->do("SELECT trunkline.upcaster_add('other', 1, 'app.\"Odd; name\"')");
    is($s->do("SELECT data FROM trunkline.read_stream('p-1', 3, 4, upcast => true)"), '"odd"', 'a name that needs quoting');
    is($s->do("SELECT trunkline.upcaster_remove('other', 1), trunkline.upcaster_remove('other', 1)"), 't|f', 'removed, once');
    is($s->do("SELECT data FROM trunkline.read_stream('p-1', 3, 4, upcast => true)"), '{"name": "Di"}', 'and it counts no more');
    $s->do("SELECT trunkline.upcaster_add('other', 1, 'app.v1'); SELECT trunkline.upcaster_add('other', 1, 'app.nothing')");
    refuses($s, "SELECT * FROM trunkline.read_stream('p-1', upcast => true)", 'TL008', {type => 'other', schema_version => 1, function => 'app.nothing'}, 'the new one counts; NULL is no event');
    $s->do("SELECT trunkline.upcaster_add('other', 1, 'app.broken')");
    is($s->error("SELECT * FROM trunkline.read_stream('p-1', upcast => true)")->{state}, '22012', 'what it raises is the answer');
    is($s->do("SELECT count(*) FROM trunkline.read_stream('p-1')"), 6, 'reading without goes on');
    $s->do('DROP FUNCTION app.broken');
    is($s->error("SELECT * FROM trunkline.read_stream('p-1', upcast => true)")->{state}, '42883', 'one that is gone is not passed over');
};

subtest 'bad arguments' => sub {
    refuses($s, "SELECT trunkline.upcaster_add('a', 1, $_)", 'TL005', {field => 'function'}, "function $_") for 'NULL', "''", "'app.none'", "'app.one'", "'app.text'", "'app.v1(jsonb,jsonb)'", "'app.v1; DROP SCHEMA app'", "'pg_temp.t'";
    refuses($s, "SELECT trunkline.upcaster_add('a', $_, 'app.v1')", 'TL005', {field => 'schema_version', limit => 999999999}, "schema_version $_") for 0, -1, 'NULL', 1000000000;
    refuses($s, "SELECT trunkline.upcaster_add($_, 1, 'app.v1')", 'TL005', {field => 'type'}, "type $_") for 'NULL', "''", "'a.*'", "'.a'";
};

$s->close;
done_testing;
