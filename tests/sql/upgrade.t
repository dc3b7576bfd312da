#!/usr/bin/perl
# MIG-2: a schema of migration 1 with topics, events and grants in it is brought up to date: the tables are
# not rewritten, and what they check and fill in is what a fresh schema has.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $old_db = database(empty => 1);
my $dir = $ENV{TRUNKLINE_TEST_DIR};
my ($role, $consumer_role) = ("tl_publisher_$$", "tl_consumer_$$");

sub slurp { open my $in, '<', $_[0] or die "$_[0]: $!"; local $/; return scalar <$in> }

# What the library of migration 1 left behind: the script up to the record of that migration, then its
# topics. The four functions that the tables need have not changed in what they are for.
my $script = qx("$ENV{TRUNKLINE_BIN}" migrate sql);
$script =~ s/(INSERT INTO "trunkline"\.migrations [^;]*;).*/$1/s or die 'no record of a migration';
my $functions = join '', map { slurp("sql/functions/$_.sql") =~ s/\@extschema\@/"trunkline"/gr } qw(guard bell_ring next_position next_id);
my %limit = (bus => 1048576, store => 1048576, small => 2048, big => 4194304);
my @names = qw(bus store small big);
my $topics = '';
for my $i (1 .. @names) {
    my $name = $names[$i - 1];
    my $sequence = "'trunkline.position_$name'::regclass";
    $topics .= <<"SQL";
INSERT INTO trunkline.topics VALUES ($i, '$name', 'logged', 'none', NULL, $limit{$name}, '1 day');
CREATE TABLE trunkline.topic_$name (LIKE trunkline.events INCLUDING CONSTRAINTS,
    CONSTRAINT event_size CHECK (pg_column_size(data) <= $limit{$name})) PARTITION BY RANGE ("position");
COMMENT ON TABLE trunkline.topic_$name IS 'A topic';
CREATE SEQUENCE trunkline.position_$name AS bigint MINVALUE 0 START 0 CACHE 1 OWNED BY trunkline.topic_$name."position";
SELECT nextval($sequence);
ALTER TABLE trunkline.topic_$name
    ALTER topic_id SET DEFAULT $i, ALTER "position" SET DEFAULT trunkline.next_position($sequence),
    ALTER id SET DEFAULT trunkline.next_id($i, $sequence), ALTER created_at SET DEFAULT clock_timestamp();
CREATE TRIGGER guard BEFORE UPDATE OR DELETE OR TRUNCATE ON trunkline.topic_$name FOR EACH STATEMENT EXECUTE FUNCTION trunkline.guard();
ALTER TABLE trunkline.events ATTACH PARTITION trunkline.topic_$name FOR VALUES IN ($i);
CREATE TABLE trunkline.leaf_${name}_0 (LIKE trunkline.topic_$name INCLUDING CONSTRAINTS,
    CONSTRAINT leaf_${name}_0_pkey PRIMARY KEY ("position", topic_id));
CREATE TRIGGER guard BEFORE UPDATE OR DELETE OR TRUNCATE ON trunkline.leaf_${name}_0 FOR EACH STATEMENT EXECUTE FUNCTION trunkline.guard();
ALTER TABLE trunkline.topic_$name ATTACH PARTITION trunkline.leaf_${name}_0 FOR VALUES FROM (0) TO (1073741824);
INSERT INTO trunkline.leaves VALUES ($i, 0);
INSERT INTO trunkline.topic_$name (type, data, key) SELECT 'old', to_jsonb(repeat('x', n)), nullif(n, 1)::text FROM generate_series(1, 2000, 500) n;
SQL
}
open my $out, '>', "$dir/old.sql" or die;
print $out "$script\nCOMMIT;\n$functions\n$topics\n", <<"SQL";
INSERT INTO trunkline.topic_big (type, data) VALUES ('big', to_jsonb(repeat('x', 2000000)));
CREATE TRIGGER guard BEFORE UPDATE OR DELETE OR TRUNCATE ON trunkline.events FOR EACH STATEMENT EXECUTE FUNCTION trunkline.guard();
CREATE ROLE $role LOGIN;
CREATE ROLE $consumer_role LOGIN;
GRANT USAGE ON SCHEMA trunkline TO $consumer_role;
GRANT SELECT ON trunkline.topic_bus TO $consumer_role;
GRANT SELECT, UPDATE ON trunkline.cursors TO $consumer_role;
GRANT USAGE ON SCHEMA trunkline TO $role;
GRANT INSERT (id, type, source, key, tenant_id, data, metadata, expires_at), SELECT (id, "position") ON trunkline.topic_bus TO $role;
GRANT USAGE ON SEQUENCE trunkline.position_bus TO $role;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA trunkline FROM PUBLIC;
GRANT EXECUTE ON FUNCTION trunkline.next_position, trunkline.next_id TO $role;
SQL
close $out;
psql_file($old_db, "$dir/old.sql");

my $old = session(db => $old_db);
my $files = "SELECT string_agg(oid || ':' || pg_relation_filenode(oid), ' ' ORDER BY oid) FROM pg_class WHERE relname LIKE 'leaf%' AND relnamespace = 'trunkline'::regnamespace AND relkind = 'r'";
my $content = 'SELECT count(*), md5(string_agg(e::text, \'\' ORDER BY topic_id, "position")) FROM trunkline.events e';
my ($files_before, $content_before) = map { $old->do($_) } $files, $content;
like($content_before, qr/^17\|/, 'events of before');
my $log = qx("$ENV{TRUNKLINE_BIN}" migrate up --db "$old_db" 2>&1);
is($?, 0, 'migrate up') or diag($log);
is($old->do($files), $files_before, 'no leaf was rewritten');
is($old->do($content), $content_before, 'the events are what they were');

my $new = session(db => database());
$new->do("SELECT trunkline.create_topic('small', max_event_bytes => 2048); SELECT trunkline.create_topic('big', max_event_bytes => 4194304)");
for my $query (
    q(SELECT a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attnotnull, pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid::regclass::text ~ '^trunkline.(events|topic_[a-z]+|leaf_[a-z]+_0)$' AND a.attnum > 0 ORDER BY a.attrelid::regclass::text, a.attnum),
    q(SELECT conrelid::regclass, contypid::regtype, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'trunkline'::regnamespace AND contype = 'c'
        AND conrelid::regclass::text !~ '_[12]$' ORDER BY conrelid::regclass::text, contypid::regtype::text, conname),
) {
    # a CHECK from before holds for all rows, one that came after them says NOT VALID
    my ($upgraded, $fresh) = map { $_->do($query) =~ s/ NOT VALID//gr } $old, $new;
    is($upgraded, $fresh, 'as in a fresh schema: ' . substr $query, 0, 60);
}
is($old->do("SELECT trunkline.limit_data(); SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid = 'trunkline.event_data'::regtype"),
    "\nCHECK ((pg_column_size(VALUE) <= 4194304)) NOT VALID", 'the domain has the largest limit');

for my $name (@names) {
    my $insert = "INSERT INTO trunkline.topic_$name (type, data) VALUES ('size', convert_from(convert_to('\"' || repeat('x', %d) || '\"', 'UTF8'), 'UTF8')::jsonb)";
    is($old->error(sprintf $insert, $limit{$name} + 1)->{'constraint name'}, 'event_size', "$name: its limit holds");
    is($old->error(sprintf $insert, $limit{$name} - 100)->{state}, 'none', "$name: and no other");
}
is($old->do(q(SELECT string_agg("position"::text, ' ') FROM trunkline.publish('new', '1'))), 7, 'positions go on');
my $publisher = session(db => $old_db, role => $role);
is($publisher->do(q(SELECT "position" FROM trunkline.publish('new', '1', source => 's'))), 8, 'a role that could publish still can');
is($publisher->error(q(INSERT INTO trunkline.topic_bus (type, data) VALUES ('new', '1')))->{state}, 'none', 'by INSERT too');
is($publisher->error(q(SELECT trunkline.publish('new', '1', 'store')))->{state}, '42501', 'and no more than that');

is($old->do(q(SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid IN ('trunkline.leaf_store_0'::regclass, 'trunkline.leaf_bus_0'::regclass) AND NOT indisprimary)),
    'trunkline.leaf_store_0_category trunkline.leaf_store_0_correlation trunkline.leaf_store_0_stream', 'leaves of store have the indexes of streams, others do not');
is($old->do(q(SELECT version, "position" FROM trunkline.append('order-1', '[{"type": "a"}, {"type": "b"}]', 0))), "1|7\n2|8", 'append() works, behind the events of before');
is($old->error('DELETE FROM trunkline.audit')->{state}, '42501', 'audit is guarded');

my $consumer = session(db => $old_db, role => $consumer_role);
is($consumer->do(q(SELECT trunkline.subscribe('app', '**', start_at => 'beginning') > 0; SELECT count(*) FROM trunkline.claim('app', max_events => 5))), "t\n5", 'a role that could consume has what that takes now');
is($consumer->error(q(SELECT * FROM trunkline.topic_store))->{state}, '42501', 'and no more than that');

$_->close for $publisher, $consumer, $old, $new;
session(db => $old_db)->do("DROP OWNED BY $role, $consumer_role; DROP ROLE $role, $consumer_role");
done_testing;
