#!/usr/bin/perl
# Reads on a hot standby stop at the horizon that the primary published (DESIGN 3.1): a real one, streaming.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $dir = "/tmp/tlstandby.$$";
my $out = qx(env -u PG_TEMP_DIR -u PG_TEMP_LOG tools/pg-temp start $dir);
BAIL_OUT("no cluster: $out") if $?;
my $bindir = $ENV{PGBINDIR} ? "$ENV{PGBINDIR}/" : '';
my @as_owner = $> == 0 ? ('setpriv', '--reuid=' . (stat "$dir/data")[4], '--regid=' . (stat "$dir/data")[5], '--clear-groups', '--') : ();
sub owner_runs { return system(@as_owner, 'env', 'LC_ALL=C', 'sh', '-c', "cd $dir && exec \"\$@\" >>standby.log 2>&1", 'sh', @_) }
END {
    my $status = $?;
    owner_runs("${bindir}pg_ctl", 'stop', '-D', "$dir/standby", '-m', 'immediate') if -d "$dir/standby";
    system "tools/pg-temp stop $dir >/dev/null 2>&1";
    $? = $status;
}
my $db = "host=$dir port=5432 user=postgres dbname=postgres";
my $standby_db = "host=$dir port=5433 user=postgres dbname=postgres";
my $migrated = qx("$ENV{TRUNKLINE_BIN}" migrate up --db "$db" 2>&1);
BAIL_OUT("migrate: $migrated") if $?;

my $s = session(db => $db);
$s->do("SELECT trunkline.create_topic('own', streams => true); SELECT trunkline.create_topic('fast', 'unlogged');
    SELECT a.version FROM unnest('{store,own}'::text[]) t, trunkline.append('order-1', '[{\"type\": \"a\"}, {\"type\": \"b\"}]', topic => t) a;
    SELECT id FROM trunkline.publish('p1', '1')");
$s->close;
# A copy of the cluster at rest. pg_basebackup is not there for each server that is tested.
owner_runs('sh', '-c', "'${bindir}pg_ctl' stop -w -m fast -D data && cp -a data standby && touch standby/standby.signal && echo \"primary_conninfo = 'host=$dir port=5432 user=postgres'\" >>standby/postgresql.auto.conf && '${bindir}pg_ctl' start -w -t 240 -l log -D data") == 0
    or BAIL_OUT('no copy: ' . qx(tail -n 3 $dir/standby.log));
owner_runs("${bindir}pg_ctl", 'start', '-w', '-t', 240, '-D', "$dir/standby", '-o', '-p 5433') == 0 or BAIL_OUT('standby does not start');
$s = session(db => $db);
my $replica = session(db => $standby_db);
is($replica->do('SELECT pg_is_in_recovery()'), 't', 'a standby');

# until all that is committed on the primary is visible there
sub arrive { my $lsn = $s->do('SELECT pg_current_wal_lsn()'); wait_until(sub { $replica->do("SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' }); return }
# what each read gives, as versions or types
my %reads = (
    stream => "SELECT string_agg(type, ' ' ORDER BY version) FROM trunkline.read_stream('order-1', topic => 'TOPIC')",
    backward => "SELECT string_agg(type, ' ' ORDER BY version) FROM trunkline.read_stream('order-1', topic => 'TOPIC', direction => 'backward')",
    load => "SELECT string_agg(type, ' ' ORDER BY version) FROM trunkline.load_stream('order-1', topic => 'TOPIC')",
    category => "SELECT string_agg(type, ' ' ORDER BY \"position\") FROM trunkline.read_category('order', topic => 'TOPIC')",
    topic => "SELECT string_agg(type, ' ' ORDER BY \"position\") FROM trunkline.read('TOPIC')",
    down => "SELECT string_agg(type, ' ' ORDER BY \"position\") FROM trunkline.read('TOPIC', direction => 'backward')",
);
sub all_give {
    my ($expected, $name) = @_;
    for my $topic (qw(store own)) {
        is($replica->do($reads{$_} =~ s/TOPIC/$topic/r), $expected, "$name: $_ of $topic") for sort keys %reads;
    }
    return;
}

arrive();
is($replica->do('SELECT count(*) FROM trunkline.topic_store'), 2, 'the events are there');
is($replica->do('SELECT trunkline.horizon()'), 0, 'no horizon was published yet');
all_give('', 'nothing is shown before');
is($s->do('SELECT trunkline.publish_horizons()'), 3, 'published for the logged topics');
arrive();
all_give('a b', 'published');
is($replica->do("SELECT trunkline.head('store')"), 2, 'the head');
is($replica->do("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM trunkline.read('store'); COMMIT"), 2, 'at any isolation level, since both are in one snapshot');
is($s->do('SELECT trunkline.publish_horizons()'), 0, 'no row is written when nothing moved');

# a writer in flight, and a committed one behind it
my $parked = session(db => $db);
$parked->do("BEGIN; SELECT a.version FROM unnest('{store,own}'::text[]) t, trunkline.append('order-0', '{\"type\": \"parked\"}', topic => t) a");
$s->do("SELECT a.version FROM unnest('{store,own}'::text[]) t, trunkline.append('order-1', '{\"type\": \"c\"}', topic => t) a");
my $id = $s->do("SELECT id FROM trunkline.read_stream('order-1', 2)");
$s->do("SELECT trunkline.link('l', '$id')");
is($s->do('SELECT count(*) FROM trunkline.maintain()'), 0, 'maintain() publishes, and that is no news');
arrive();
is($replica->do("SELECT count(*) FROM trunkline.topic_store WHERE stream = 'order-1'"), 3, 'the committed event is there');
all_give('a b', 'behind the parked one nothing is shown');
is($replica->do("SELECT count(*) FROM trunkline.find('$id')"), 0, 'nor found');
is($replica->do("SELECT link, type FROM trunkline.read_links('l')"), '1|', 'nor behind a link');
is($replica->do("SELECT trunkline.stream_version('order-1')"), 3, 'though its stream has moved');
$parked->do('COMMIT');
arrive();
all_give('a b', 'and not before the primary says so');
is($s->do('SELECT count(*) FROM trunkline.maintain()'), 0, 'maintain() does, too');
arrive();
is($replica->do($reads{category} =~ s/TOPIC/$_/r), 'a b parked c', "in order: $_") for qw(store own);
is($replica->do($reads{stream} =~ s/TOPIC/$_/r), 'a b c', "the stream of $_") for qw(store own);
is($replica->do("SELECT type FROM trunkline.find('$id')"), 'c', 'found');
is($replica->do("SELECT link, type FROM trunkline.read_links('l')"), '1|c', 'linked');

# what needs the register or writes is refused
refuses($replica, "SELECT trunkline.register_horizons('{trunkline.position_bus}')", '25006', {field => 'server'}, 'the register itself is not there');
is($replica->error("SELECT trunkline.append('order-1', '{\"type\": \"x\"}')")->{state}, '25006', 'no appending');
my $cli = qx("$ENV{TRUNKLINE_BIN}" read --db "$standby_db" --topic store --json 2>&1);
is(scalar(() = $cli =~ /"type"/g), 4, 'trunkline read works there') or diag($cli);

# the primary is gone: the standby becomes it, and its own register counts
$_->close for $parked, $s;
owner_runs("${bindir}pg_ctl", 'promote', '-w', '-D', "$dir/standby") == 0 or BAIL_OUT('not promoted');
$replica->do("SELECT version FROM trunkline.append('order-1', '{\"type\": \"d\"}')");
is($replica->do($reads{category} =~ s/TOPIC/store/r), 'a b parked c d', 'promoted: it goes on, behind all there was');
$replica->close;
done_testing;
