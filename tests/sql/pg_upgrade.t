#!/usr/bin/perl
# MIG-3: pg_upgrade into a new cluster keeps order, visibility and versions, and everything goes on.
# From the installed version where a newer one is tested, else to the same one, which pg_upgrade does as any
# other: the schema by dump, the files as they are.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $bindir = $ENV{PGBINDIR} ? "$ENV{PGBINDIR}/" : '';
plan skip_all => "no pg_upgrade beside the server ($bindir)" if !-x "${bindir}pg_upgrade";
sub major { return qx("$_[0]postgres" -V) =~ /\) (\d+)/ ? $1 : 0 }
my $old_bindir = qx(pg_config --bindir) =~ s{\n}{/}r;
$old_bindir = $bindir if major($old_bindir) >= major($bindir);
diag 'from ' . major($old_bindir) . ' to ' . major($bindir);
my $dir = "/tmp/tlupgrade.$$";
my $out = qx(env -u PG_TEMP_DIR -u PG_TEMP_LOG PGBINDIR='$old_bindir' tools/pg-temp start $dir);
BAIL_OUT("no cluster: $out") if $?;
END { my $status = $?; system "tools/pg-temp stop $dir >/dev/null 2>&1" if $dir; $? = $status }
my @as_owner = $> == 0 ? ('setpriv', '--reuid=' . (stat "$dir/data")[4], '--regid=' . (stat "$dir/data")[5], '--clear-groups', '--') : ();
sub owner_runs {
    system(@as_owner, 'env', 'LC_ALL=C', 'sh', '-c', "cd $dir && exec \"\$@\" >>upgrade.log 2>&1", 'sh', @_) == 0
        or BAIL_OUT("$_[0] failed: " . qx(cd $dir; tail -n 20 upgrade.log \$(ls -t new/pg_upgrade_output.d/*/log/*.log 2>/dev/null | head -n 3)));
    return;
}
my $db = "host=$dir port=5432 user=postgres dbname=postgres";
my $migrated = qx("$ENV{TRUNKLINE_BIN}" migrate up --db "$db" 2>&1);
BAIL_OUT("migrate: $migrated") if $?;

my $s = session(db => $db);
$s->do(<<'SQL');
SELECT trunkline.create_topic('own', rotation => 'hour', streams => true);
SELECT count(*) FROM generate_series(1, 5) i, unnest('{store,own}'::text[]) t, trunkline.append('order-' || i, '[{"type": "a", "idempotency_key": "k"}, {"type": "b"}]', topic => t);
SELECT trunkline.subscribe('app/own', '**', 'own', start_at => 'beginning');
SELECT trunkline.publish('e', '1', event_id => '00000000-0000-4000-8000-000000000001');
SELECT setval('trunkline.position_own', 1::bigint << 30);
SELECT count(*) FROM trunkline.append('order-1', '{"type": "c"}', topic => 'own');
SELECT trunkline.snapshot_save('order-1', 2, '2'), trunkline.link('l', id) FROM trunkline.read_stream('order-1', 1);
CREATE FUNCTION public.up(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"new"'::jsonb $$;
CREATE FUNCTION public.decide(c jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"type": "done"}'::jsonb $$;
SELECT trunkline.upcaster_add('b', 1, 'public.up'), trunkline.command_handler('do', 'public.decide');
SELECT trunkline.command_create('order-1', 'do', id => '00000000-0000-4000-8000-0000000000c1')
SQL
$s->do("SELECT count(*) FROM trunkline.claim('app/own', max_events => 3)");
my $token = $s->do('SELECT token FROM trunkline.leases');
my @queries = map { "SELECT * FROM trunkline.$_" } "read('store')", "read('own', upcast => true)", "read_category('order', topic => 'own')", "read_stream('order-1', topic => 'own')", "load_stream('order-1')", "read_links('l')",
    'streams ORDER BY 1, 2', 'dedup ORDER BY 1, 2', 'leases', 'cursors', 'topics ORDER BY 1', 'identity';
my @before = map { $s->do($_) } @queries;
my $prepared = session(db => $db); # the old cluster's transaction in flight ends with it
$prepared->do("BEGIN; SELECT version FROM trunkline.append('order-9', '{\"type\": \"in flight\"}')");
$_->close for $prepared, $s;

owner_runs("${old_bindir}pg_ctl", 'stop', '-w', '-m', 'fast', '-D', 'data');
owner_runs("${bindir}initdb", '--pgdata=new', '--username=postgres', '--auth=trust', '--encoding=UTF8', '--locale=C.UTF-8', '--no-sync', '--no-instructions');
owner_runs("${bindir}pg_upgrade", '-b', $old_bindir, '-B', $bindir, '-d', "$dir/data", '-D', "$dir/new", '-U', 'postgres', '-s', $dir, '-p', 5432, '-P', 5433);
owner_runs("${bindir}pg_ctl", 'start', '-w', '-t', 240, '-D', 'new', '-o', "-p 5432 -k $dir -c listen_addresses=''");
END { owner_runs("${bindir}pg_ctl", 'stop', '-m', 'immediate', '-D', 'new') if $dir && -e "$dir/new/postmaster.pid" }

$s = session(db => $db);
is($s->do($queries[$_]), $before[$_], $queries[$_]) for 0 .. $#queries;
for my $topic (qw(store own)) {
    my $last = $s->do("SELECT max(\"position\") FROM trunkline.topic_$topic");
    is($s->do("SELECT version, \"position\" > $last FROM trunkline.append('order-2', '{\"type\": \"d\"}', 2, '$topic')"), '3|t', "$topic: the next version, behind all that was");
    is($s->do("SELECT type FROM trunkline.read_category('order', $last, topic => '$topic')"), 'd', "$topic: visible at once");
    is($s->do("SELECT version, deduplicated FROM trunkline.append('order-3', '{\"type\": \"a\", \"idempotency_key\": \"k\"}', topic => '$topic')"), '1|t', "$topic: repeats are known");
    refuses($s, "SELECT * FROM trunkline.append('order-2', '{\"type\": \"d\"}', 2, '$topic')", 'TL001', {expected => 2, actual => 3}, "$topic: a conflict is one");
    my $other = session(db => $db);
    $other->do("BEGIN; SELECT version FROM trunkline.append('order-4', '{\"type\": \"parked\"}', topic => '$topic')");
    $s->do("SELECT version FROM trunkline.append('order-5', '{\"type\": \"late\"}', topic => '$topic')");
    is($s->do("SELECT type FROM trunkline.read_category('order', $last, topic => '$topic')"), 'd', "$topic: the register is at work");
    $other->do('COMMIT');
    is($s->do("SELECT string_agg(type, ' ' ORDER BY \"position\") FROM trunkline.read_category('order', $last, topic => '$topic')"), 'd parked late', "$topic: in order");
    $other->close;
}
is($s->do("SELECT trunkline.ack('$token')"), 3, 'a lease is settled');
is($s->do("SELECT trunkline.command_process('00000000-0000-4000-8000-0000000000c1')"), 't', 'a command is processed');
is($s->do("SELECT count(*) FROM trunkline.maintain() WHERE action = 'failed'"), 0, 'maintain() is content');
qx("$ENV{TRUNKLINE_BIN}" migrate verify --db "$db" 2>&1);
is($?, 0, 'migrate verify is content');
$s->close;
done_testing;
