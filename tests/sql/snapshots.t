#!/usr/bin/perl
# SNP-1, SNP-3: snapshots: which one counts, and loads that honour it.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my $s = session();
my $long = 'x' x 256;
$s->do("SELECT trunkline.create_topic('own', streams => true); SELECT trunkline.create_topic('plain')");

sub save { my ($more, $topic) = @_; return $s->do("SELECT trunkline.snapshot_save('$_[0]', $_[1], '$_[2]'" . ($_[3] // '') . ')') }
# load_stream() in short: s7=STATE 8 9
sub loaded {
    my ($stream, $more) = @_;
    return $s->do("SELECT coalesce(string_agg(CASE WHEN r.\"position\" IS NULL THEN 's' || r.snapshot_version || '=' || r.state ELSE r.version::text END, ' ' ORDER BY r.ordinality), '')
        FROM trunkline.load_stream('$stream'" . ($more // '') . ") WITH ORDINALITY r");
}
sub events { my ($from, $to) = @_; return "(SELECT jsonb_agg(jsonb_build_object('type', 'e', 'data', v)) FROM generate_series($from, $to) v)" }

for my $topic (qw(store own)) {
    my $t = ", topic => '$topic'";
    subtest "topic $topic" => sub {
        $s->do("SELECT count(*) FROM trunkline.append('o-1', " . events(1, 10) . "$t)");
        is(loaded('o-1', $t), '1 2 3 4 5 6 7 8 9 10', 'without a snapshot: all');
        is(save('o-1', 4, '{"n": 4}', $t), 't', 'saved');
        is(loaded('o-1', $t), 's4={"n": 4} 5 6 7 8 9 10', 'snapshot and tail');
        is(save('o-1', 8, '{"n": 8}', $t), 't', 'a newer one');
        is(save('o-1', 6, '{"n": 6}', $t), 'f', 'an older one is refused');
        is(loaded('o-1', $t), 's8={"n": 8} 9 10', 'the newer one counts');
        is(save('o-1', 8, '{"n": 88}', $t), 't', 'the same version again');
        is($s->do("SELECT version, state FROM trunkline.snapshot_get('o-1'$t)"), '8|{"n": 88}', 'replaces it');
        is(loaded('o-1', "$t, max_events => 1"), 's8={"n": 88} 9', 'the limit counts events');
        is(save('o-1', 3, 'null', "$t, schema_version => 2"), 't', 'another schema version is another snapshot; null is a state');
        is(loaded('o-1', "$t, schema_version => 2"), 's3=null 4 5 6 7 8 9 10', 'for who asks');
        is(loaded('o-1', "$t, schema_version => 3"), '1 2 3 4 5 6 7 8 9 10', 'SNP-3 none of this schema version: replay');
        is(loaded('o-1', $t), 's8={"n": 88} 9 10', 'and not for others');
        is(save('o-1', 10, '"end"', "$t, schema_version => 4"), 't', 'at the end');
        is(loaded('o-1', "$t, schema_version => 4"), 's10="end"', 'no tail');

        refuses($s, "SELECT trunkline.snapshot_save('o-1', 11, '1'$t)", 'TL005', {field => 'version', stream => 'o-1', actual => 10}, 'SNP-1 ahead of the stream');
        refuses($s, "SELECT trunkline.snapshot_save('o-9', 1, '1'$t)", 'TL005', {field => 'version', stream => 'o-9', actual => 0}, 'of no stream');
        refuses($s, "SELECT trunkline.snapshot_save('o-1', $_, '1'$t)", 'TL005', {field => 'version', limit => 1}) for 0, -1, 'NULL';
        refuses($s, "SELECT trunkline.snapshot_save('o-1', 1, '1'$t, tenant_id => '')", '42501', {field => 'tenant_id'}, 'an empty name is no system');
        refuses($s, "SELECT trunkline.snapshot_save('o-1', 1, NULL$t)", 'TL005', {field => 'state'}, 'SNP-1 no state');
        refuses($s, "SELECT trunkline.snapshot_save('o-1', 1, '1', $_$t)", 'TL005', {field => 'schema_version', limit => 1}) for 0, 'NULL';
        refuses($s, "SELECT trunkline.snapshot_save('o-1', 1, to_jsonb(repeat('x', 16777216))$t)", 'TL007', {field => 'state', limit => 16777216}, 'too large');

        subtest 'a stream that was deleted begins anew' => sub {
            $s->do("SELECT count(*) FROM trunkline.append('gone-1', " . events(1, 5) . "$t); SELECT trunkline.snapshot_save('gone-1', 5, '\"old\"'$t)");
            $s->do("SELECT trunkline.delete_stream('gone-1'$t)");
            is(loaded('gone-1', $t), '', 'deleted: nothing, no snapshot either');
            is($s->do("SELECT count(*) FROM trunkline.snapshot_get('gone-1'$t)"), 0, 'snapshot_get()');
            is(save('gone-1', 5, '"late"', $t), 'f', 'one that comes late is refused');
            $s->do("SELECT count(*) FROM trunkline.append('gone-1', " . events(6, 7) . "$t)");
            is(loaded('gone-1', $t), '6 7', 'opened again: only what is new');
            is(save('gone-1', 4, '"late"', $t), 'f', 'one that comes later still too');
            is(save('gone-1', 6, '"new"', $t), 't', 'a new one');
            is(loaded('gone-1', $t), 's6="new" 7', 'counts');
        };

        subtest 'a snapshot outlives the events before it' => sub {
            $s->do("SELECT count(*) FROM trunkline.append('cut-1', " . events(1, 9) . "$t); SELECT trunkline.snapshot_save('cut-1', 7, '7'$t); SELECT trunkline.set_stream('cut-1', max_count => 4$t)");
            is(loaded('cut-1', $t), 's7=7 8 9', 'max_count trims events, not the snapshot');
            is(loaded('cut-1', "$t, schema_version => 2"), '6 7 8 9', 'without it the events there are');
        };

        subtest 'TEN-2 tenants' => sub {
            $s->do("SELECT count(*) FROM trunkline.append('t-1', " . events(1, 3) . "$t, tenant_id => 'A')");
            is(save('t-1', 2, '2', "$t, tenant_id => 'A'"), 't', 'its own');
            refuses($s, "SELECT trunkline.snapshot_save('t-1', 3, '3'$t, tenant_id => 'B')", '42501', {field => 'tenant_id', stream => 't-1'}, 'not that of another');
            refuses($s, "SELECT trunkline.snapshot_save('t-1', 99, '3'$t, tenant_id => 'B')", '42501', {field => 'tenant_id'}, 'nor learn its version');
            refuses($s, "SELECT trunkline.snapshot_save('o-1', 9, '3'$t, tenant_id => 'B')", '42501', {field => 'tenant_id'}, 'nor that of a system stream');
            is($s->do("SELECT count(*) FROM trunkline.snapshot_get('t-1'$t, tenant_id => '$_')"), $_ eq 'A' ? 1 : 0, "get as $_") for qw(A B);
            is(loaded('t-1', "$t, tenant_id => 'A'"), 's2=2 3', 'load as A');
            is(loaded('t-1', "$t, tenant_id => 'B'"), '', 'load as B');
            is($s->do("SELECT trunkline.snapshot_delete('t-1'$t, tenant_id => 'B')"), 0, 'B deletes nothing');
            is($s->do("SELECT trunkline.snapshot_delete('t-*'$t, tenant_id => 'A')"), 1, 'A does');
        };

        subtest 'SNP-3 delete' => sub {
            $s->do("SELECT count(*) FROM unnest('{d-1,d-2,dd-1,d}'::text[]) n, trunkline.append(n, " . events(1, 2) . "$t)");
            my $fill = sub { $s->do("SELECT trunkline.snapshot_save(n, 1, '1', v$t) FROM unnest('{d-1,d-2,dd-1,d}'::text[]) n, generate_series(1, 3) v") };
            my $left = sub { $s->do("SELECT string_agg(stream || '/' || schema_version, ' ' ORDER BY stream, schema_version) FROM trunkline.snapshots JOIN trunkline.topics USING (topic_id) WHERE name = '$topic' AND stream LIKE 'd%'") };
            $fill->();
            is($s->do("SELECT trunkline.snapshot_delete('d-1', 3$t)"), 2, 'below a schema version');
            is($left->(), 'd/1 d/2 d/3 d-1/3 d-2/1 d-2/2 d-2/3 dd-1/1 dd-1/2 dd-1/3', 'of a stream');
            is($s->do("SELECT trunkline.snapshot_delete('d-*', 2$t)"), 2, 'of a category');
            is($left->(), 'd/2 d/3 d-1/3 d-2/2 d-2/3 dd-1/1 dd-1/2 dd-1/3', 'below a schema version');
            is($s->do("SELECT trunkline.snapshot_delete('dd-1'$t)"), 3, 'all of a stream');
            is($s->do("SELECT trunkline.snapshot_delete('dd-1'$t)"), 0, 'again: none');
            is($s->do("SELECT trunkline.snapshot_delete('d'$t)"), 2, 'a stream without a dash is no category');
            refuses($s, "SELECT trunkline.snapshot_delete($_$t)", 'TL005', {field => 'stream'}) for 'NULL', "''";
        };
    };
}

subtest 'two save at once' => sub {
    $s->do("SELECT count(*) FROM trunkline.append('race-1', " . events(1, 9) . ')');
    my ($one, $two) = (session(), session());
    for my $versions ([3, 5, 'f'], [8, 7, 'f']) {
        my ($first, $second) = @$versions;
        $one->do("BEGIN; SELECT trunkline.snapshot_save('race-1', $first, '$first')");
        $two->start("SELECT trunkline.snapshot_save('race-1', $second, '$second')");
        $two->wait_blocked;
        $one->do('COMMIT');
        is($two->finish, $second > $first ? 't' : 'f', "$first, then $second");
        is($s->do("SELECT version FROM trunkline.snapshot_get('race-1')"), $second > $first ? $second : $first, 'the newer one is left');
    }
    $_->close for $one, $two;
};

refuses($s, "SELECT trunkline.snapshot_save('a', 1, '1', topic => 'nowhere')", 'TL002', {field => 'topic'}, 'no topic');
refuses($s, "SELECT trunkline.snapshot_save('a', 1, '1', topic => 'plain')", 'TL005', {field => 'version', actual => 0}, 'a topic without streams has none to save');
$s->do("SELECT trunkline.drop_topic('own')");
is($s->do("SELECT count(*) FROM trunkline.snapshots s WHERE NOT EXISTS (SELECT FROM trunkline.topics t WHERE t.topic_id = s.topic_id)"), 0, 'they go with their topic');
$s->close;
done_testing;
