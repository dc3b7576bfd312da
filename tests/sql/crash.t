#!/usr/bin/perl
# TOP-4: a crash of the server: logged topics keep everything, unlogged ones begin afresh and say so.
# A private cluster, whose server is brought down by killing one of its backends.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;
use Time::HiRes ();

my $dir = "/tmp/tlcrash.$$";
my $out = qx(env -u PG_TEMP_DIR -u PG_TEMP_LOG tools/pg-temp start $dir);
BAIL_OUT("no cluster: $out") if $?;
END { my $status = $?; system "tools/pg-temp stop $dir >/dev/null 2>&1" if $dir; $? = $status }
my $db = "host=$dir port=5432 user=postgres dbname=postgres";
my $migrated = qx("$ENV{TRUNKLINE_BIN}" migrate up --db "$db" 2>&1);
BAIL_OUT("migrate: $migrated") if $?;

my $s = session(db => $db);
$s->do(<<'SQL');
SELECT trunkline.create_topic('kept');
SELECT trunkline.create_topic('fast', 'unlogged');
SELECT trunkline.subscribe('on/' || t, '**', t) FROM unnest('{kept,fast}'::text[]) t;
SELECT trunkline.publish('e' || i, '1', t) FROM generate_series(1, 5) i, unnest('{kept,fast}'::text[]) t
SQL
is($s->do("SELECT count(*) FROM trunkline.events"), 10, 'before the crash');
my %token;
for my $t (qw(kept fast)) {
    $token{$t} = $s->do("SELECT DISTINCT token FROM trunkline.claim('on/$t', max_events => 3)");
    $s->do("SELECT trunkline.ack('$token{$t}', 1, '[{\"position\": 1, \"error\": \"e\", \"retry_after_us\": 0}]')");
}
is($s->do('SELECT action, object FROM trunkline.maintain()'), '', 'nothing to say');
$s->do("BEGIN; SELECT trunkline.publish('in flight', '1', 'kept')");

my $victim = session(db => $db);
kill 'KILL', $victim->{pid} or BAIL_OUT("kill: $!");
# the other backend is ended by the server; then a new one is let in
wait_until(sub { $_->{is_gone} ||= !kill(0, $_->{pid}) for $s, $victim; $s->{is_gone} && $victim->{is_gone} });
wait_until(sub { system("psql -XAtq -d '$db' -c 'SELECT 1' >/dev/null 2>&1") == 0 });

$s = session(db => $db);
is($s->do("SELECT string_agg(type, ' ' ORDER BY \"position\") FROM trunkline.topic_kept"), 'e1 e2 e3 e4 e5', 'a logged topic is whole');
is($s->do('SELECT count(*) FROM trunkline.topic_fast'), 0, 'an unlogged one is empty');
is($s->do("SELECT trunkline.horizon('kept') >= 5"), 't', 'the register is empty: nothing is in flight');
is($s->do("SELECT trunkline.ack('$token{kept}', 2)"), 1, 'a lease outlives the crash');

# before anybody noticed
is($s->do("SELECT \"position\" > 5 FROM trunkline.publish('new', '1', 'fast')"), 't', 'publishing goes on behind the old positions');
like($s->do('SELECT action, object, detail FROM trunkline.maintain()'), qr/^reset\|fast\|a crash of the server emptied this unlogged topic$/m, 'maintain() notices');
is($s->do("SELECT topic FROM trunkline.topic_status WHERE reset_at > now() - interval '1 min'"), 'fast', 'and it is shown');
is($s->do('SELECT action FROM trunkline.maintain()'), '', 'once');
refuses($s, "SELECT trunkline.ack('$token{fast}')", 'TL004', {token => $token{fast}}, 'a lease of events that are gone is gone');
is($s->do("SELECT leased, retrying, dead FROM trunkline.subscription_status WHERE name = 'on/fast'"), '0|0|0', 'no retry either, nor a dead letter');
is($s->do("SELECT type, attempt FROM trunkline.claim('on/fast')"), 'new|1', 'what came since is delivered');
$s->do("UPDATE trunkline.leases SET until = now()");
is($s->do("SELECT type, attempt FROM trunkline.claim('on/kept')"), 'e3|2', 'taken over when it expires');

$s->close;
done_testing;
