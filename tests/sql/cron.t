#!/usr/bin/perl
# SCH-4: cron expressions, checked against other implementations, and schedules that fire each slot once.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $db = database();
my ($a, $b, $c) = map { session() } 1 .. 3;
sub next_fire { my ($cron, $after, $zone) = @_; $zone //= 'UTC'; return $a->do("SELECT to_char(trunkline.next_fire('$cron', '$zone', '$after') AT TIME ZONE '$zone', 'YYYY-MM-DD HH24:MI:SS')") }
# all firings of a span, as UTC
sub fires {
    my ($cron, $zone, $from, $upto) = @_;
    return $a->do("WITH RECURSIVE f (at) AS (SELECT trunkline.next_fire('$cron', '$zone', '$from') UNION ALL SELECT trunkline.next_fire('$cron', '$zone', f.at) FROM f WHERE f.at < '$upto')
        SELECT string_agg(to_char(at AT TIME ZONE 'UTC', 'HH24:MI'), ' ' ORDER BY at) FROM f WHERE at < '$upto'");
}

subtest 'next_fire' => sub {
    is(next_fire($_->[0], $_->[1] // '2026-01-31 10:20:30Z'), $_->[2], "$_->[0]" . ($_->[1] ? " after $_->[1]" : '')) for
        ['* * * * *', undef, '2026-01-31 10:21:00'], ['* * * * *', '2026-01-31 10:20:00Z', '2026-01-31 10:21:00'],
        ['5 * * * *', undef, '2026-01-31 11:05:00'], ['0 0 * * *', undef, '2026-02-01 00:00:00'], ['*/20 9-17/4 * * *', undef, '2026-01-31 13:00:00'],
        ['10/25 * * * *', undef, '2026-01-31 10:35:00'], ['0 0 31 * *', '2026-01-31 00:00:00Z', '2026-03-31 00:00:00'],
        ['0 0 29 2 *', undef, '2028-02-29 00:00:00'], ['0 0 29 feb *', '2096-03-01Z', '2104-02-29 00:00:00'],
        ['0 0 * * sun', undef, '2026-02-01 00:00:00'], ['0 0 * * 7', undef, '2026-02-01 00:00:00'], ['0 0 * * 0', undef, '2026-02-01 00:00:00'],
        ['0 0 * * Fri-SUN', '2026-02-02Z', '2026-02-06 00:00:00'], ['0 0 * JAN,dec *', '2026-02-02Z', '2026-12-01 00:00:00'],
        # two restricted day fields: either; one that begins with * is none
        ['0 0 13 * fri', '2026-02-14Z', '2026-02-20 00:00:00'], ['0 0 */2 * fri', '2026-02-14Z', '2026-02-27 00:00:00'],
        ['0 0 13 * */2', '2026-02-14Z', '2026-06-13 00:00:00'], ['0 0 29 2 */6', '2026-02-14Z', '2032-02-29 00:00:00'],
        ['@hourly', undef, '2026-01-31 11:00:00'], ['@Daily', undef, '2026-02-01 00:00:00'], ['@midnight', undef, '2026-02-01 00:00:00'],
        ['@weekly', undef, '2026-02-01 00:00:00'], ['@monthly', undef, '2026-02-01 00:00:00'], ['@yearly', undef, '2027-01-01 00:00:00'], ['@annually', undef, '2027-01-01 00:00:00'],
        ['every 10s', undef, '2026-01-31 10:20:40'], ['every 10s', '2026-01-31 10:20:40Z', '2026-01-31 10:20:50'], ['Every 15 minutes', undef, '2026-01-31 10:30:00'],
        ['every 1 hour 30 min', undef, '2026-01-31 10:30:00'], ['every 7 s', '1970-01-01Z', '1970-01-01 00:00:07'], ['every 7 s', '1969-12-31 23:59:59Z', '1970-01-01 00:00:00'], ['every 1 day', undef, '2026-02-01 00:00:00'];
    is($a->do("SET TimeZone = 'Asia/Kathmandu'; SELECT trunkline.next_fire('30 4 * * *', 'Europe/Berlin', '2026-02-01 12:00Z') = '2026-02-02 03:30Z'; RESET TimeZone"), 't', 'whatever the zone of the session');
};

subtest 'changes of the clock' => sub {
    # 2026-03-29 02:00 becomes 03:00 = 01:00 UTC; 2026-10-25 03:00 becomes 02:00 = 01:00 UTC
    my @spring = ('Europe/Berlin', '2026-03-28 23:00Z', '2026-03-29 04:00Z');
    my @autumn = ('Europe/Berlin', '2026-10-24 22:00Z', '2026-10-25 04:00Z');
    is(fires('30 2 * * *', @spring), '01:00', 'a time that does not exist: when the clock is put forward');
    is(fires('*/20 2 * * *', @spring), '01:00', 'several of them: once');
    is(fires('0 2,3 * * *', @spring), '01:00', 'and one that exists at that moment: once');
    is(fires('30 1-4 * * *', @spring), '00:30 01:00 01:30 02:30', 'in a row');
    is(fires('30 * * * *', @spring), '23:30 00:30 01:30 02:30 03:30', 'every hour: real hours');
    is(fires('30 2 * * *', @autumn), '00:30', 'a time that occurs twice: the first');
    is(fires('*/20 2 * * *', @autumn), '00:00 00:20 00:40', 'several');
    is(fires('30 1-4 * * *', @autumn), '23:30 00:30 02:30 03:30', 'in a row');
    is(fires('30 * * * *', @autumn), '22:30 23:30 00:30 01:30 02:30 03:30', 'every hour: real hours');
    is(fires('* * * * *', 'Europe/Berlin', '2026-01-01 22:57Z', '2026-01-01 23:02Z'), '22:58 22:59 23:00 23:01', 'every minute: midnight too');
    is(fires('* * * * *', 'UTC', '2026-02-28 23:58Z', '2026-03-01 00:01Z'), '23:59 00:00', 'nor is the end of a month passed over');
    is(fires('0 0 * * *', 'America/Havana', '2026-03-07 06:00Z', '2026-03-09 00:00Z'), '05:00', 'midnight that does not exist');
    is(fires('0 0 * * *', 'America/Havana', '2026-10-31 05:00Z', '2026-11-02 00:00Z'), '04:00', 'midnight that occurs twice');
};

subtest 'other implementations' => sub {
    my ($seed, $rows) = ($ENV{TRUNKLINE_TEST_SEED} // time, 4000);
    my $file = "$ENV{TRUNKLINE_TEST_DIR}/cron.tsv";
    is(system("tests/sql/cron_oracle.py $seed $rows >$file"), 0, "$rows expressions, seed $seed") or return;
    $a->do('CREATE TABLE public.cron (cron text, zone text, after timestamptz, expected timestamptz)');
    psql_file($db, do { open my $f, '>', "$file.sql" or die $!; print $f "\\copy public.cron from '$file'\n"; close $f; "$file.sql" });
    is($a->do('SELECT count(*) FROM public.cron WHERE expected IS NOT NULL'), $rows, 'read');
    is($a->do("SELECT concat_ws(' | ', cron, zone, after, expected, trunkline.next_fire(cron, zone, after)) FROM public.cron WHERE expected IS DISTINCT FROM trunkline.next_fire(cron, zone, after) LIMIT 5"),
        '', 'agree');
};

subtest 'bad expressions' => sub {
    for my $case (
        ['60 * * * *', 'minute', 1], ['* 24 * * *', 'hour', 3], ['* * 0 * *', 'day of month', 5], ['* * 32 * *', 'day of month', 5], ['* * * 13 *', 'month', 7],
        ['* * * 0 *', 'month', 7], ['* * * * 8', 'day of week', 9], ['*  1,2,x * * *', 'hour', 8], ['1,2,99 * * * *', 'minute', 5], ['* * * foo *', 'month', 7],
        ['* * * mon *', 'month', 7], ['5-1 * * * *', 'minute', 1], ['*/0 * * * *', 'minute', 1], ['*/61 * * * *', 'minute', 1], ['1, * * * *', 'minute', 3], ['*-5 * * * *', 'minute', 1],
        ['1-2-3 * * * *', 'minute', 1], ['- * * * *', 'minute', 1], ['99999 * * * *', 'minute', 1], ['0 0 30 2 *', 'day of month', 5], ['0 0 31 4,6,9,11 *', 'day of month', 5],
        ['every 0s', 'interval', 7], ['every x', 'interval', 7], ['every 500 ms', 'interval', 7], ['every 1 month', 'interval', 7], ['every 2 years', 'interval', 7], ['every -5s', 'interval', 7], ['every 400 days', 'interval', 7],
        ['* * * *', undef, 8], ['* * * * * *', undef, 11], ['', undef, 1], ['@reboot', undef, 8],
    ) {
        refuses($a, "SELECT trunkline.next_fire('$case->[0]')", 'TL005', {field => 'cron', part => $case->[1], column => $case->[2]}, "\"$case->[0]\"");
    }
    like($a->error("SELECT trunkline.next_fire('0 25 * * *')")->{message}, qr/^cron: hour "25" in column 3 is not within 0 to 23$/, 'in words');
    refuses($a, "SELECT trunkline.next_fire($_->[1])", 'TL005', {field => $_->[0]}) for ['cron', 'NULL'], ['cron', "repeat('*', 1001)"],
        ['timezone', "'* * * * *', 'Mars/Olympus'"], ['timezone', "'* * * * *', NULL"], ['after', "'* * * * *', 'UTC', 'infinity'"], ['after', "'* * * * *', 'UTC', NULL"];
};

subtest 'schedules' => sub {
    is($a->do(q{SELECT trunkline.schedule('night', '0 2 * * *', 'job.night', '{"a": 1}', timezone => 'Europe/Berlin', key => 'k', tenant_id => 't', source => 's', metadata => '{"m": 1}') = trunkline.next_fire('0 2 * * *', 'Europe/Berlin')}), 't', 'made');
    is($a->do('SELECT trunkline.fire_schedules()'), 0, 'not due');
    is($a->do("SELECT trunkline.next_scheduled() BETWEEN 1 AND 86400000000"), 't', 'next_scheduled() knows');
    $a->do(q{UPDATE trunkline.schedules SET next_at = '2026-01-05 01:00Z', due_at = '2026-01-05 01:00Z'});
    $a->do("UPDATE trunkline.schedules SET missed = 'all', max_missed = 1");
    is($a->do('SELECT trunkline.fire_schedules()'), 1, 'fires');
    is($a->do(q{SELECT type, data, key, tenant_id, source, metadata - 'slot', metadata ->> 'slot' = to_char((trunkline.next_fire('0 2 * * *', 'Europe/Berlin') - interval '1 day') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') FROM trunkline.topic_bus WHERE type = 'job.night'}),
        'job.night|{"a": 1}|k|t|s|{"m": 1, "schedule": "night"}|t', 'the event as it was described, with its slot');
    is($a->do(q{SELECT next_at = trunkline.next_fire('0 2 * * *', 'Europe/Berlin') AND fired = 1 AND last_at < now() FROM trunkline.schedule_status}), 't', 'the next slot');
    is($a->do('SELECT trunkline.fire_schedules()'), 0, 'once');

    # the same call is the same schedule; a change of times is a change of the next slot
    $a->do(q{UPDATE trunkline.schedules SET next_at = next_at - interval '1 day'; SELECT trunkline.schedule('night', '0 2 * * *', 'job.other', timezone => 'Europe/Berlin')});
    is($a->do(q{SELECT count(*), bool_and(next_at < now() AND due_at = next_at AND type = 'job.other' AND key IS NULL AND missed = 'once') FROM trunkline.schedules}), '1|t', 'changed; what is due stays due');
    $a->do(q{SELECT trunkline.schedule('night', '0 3 * * *', 'job.other', timezone => 'Europe/Berlin')});
    is($a->do(q{SELECT next_at = trunkline.next_fire('0 3 * * *', 'Europe/Berlin') FROM trunkline.schedules}), 't', 'other times: from now on');

    is($a->do(q{SELECT trunkline.pause_schedule('night'); UPDATE trunkline.schedules SET next_at = '2026-01-05 01:00Z', due_at = '2026-01-05 01:00Z'; SELECT trunkline.fire_schedules(), trunkline.next_scheduled()}) =~ s/\s//gr, '0|', 'paused');
    is($a->do(q{SELECT trunkline.resume_schedule('night') = trunkline.next_fire('0 3 * * *', 'Europe/Berlin')}), 't', 'resumed: from now on, nothing missed');
    is($a->do(q{SELECT trunkline.resume_schedule('night') > now() AND active FROM trunkline.schedule_status}), 't', 'again changes nothing');
    $a->do(q{SELECT trunkline.unschedule('night')});
    is($a->do('SELECT count(*) FROM trunkline.schedules'), 0, 'removed');
    refuses($a, "SELECT trunkline.$_('night')", 'TL002', {field => 'name', value => 'night'}) for qw(unschedule pause_schedule resume_schedule);
    refuses($a, "SELECT trunkline.schedule($_->[2])", $_->[0], {field => $_->[1]}) for
        ['TL005', 'name', "'', '* * * * *', 'a'"], ['TL005', 'name', "NULL, '* * * * *', 'a'"], ['TL005', 'name', "repeat('x', 256), '* * * * *', 'a'"], ['TL005', 'cron', "'x', '* *', 'a'"],
        ['TL005', 'timezone', "'x', '* * * * *', 'a', timezone => 'XYZ3'"], ['TL005', 'missed', "'x', '* * * * *', 'a', missed => 'never'"],
        ['TL005', 'max_missed', "'x', '* * * * *', 'a', max_missed => 0"], ['TL005', 'max_missed', "'x', '* * * * *', 'a', max_missed => 1001"],
        ['TL005', 'type', "'x', '* * * * *', 'a..b'"], ['TL005', 'key', "'x', '* * * * *', 'a', key => ''"], ['TL002', 'topic', "'x', '* * * * *', 'a', topic => 'nowhere'"],
        ['TL007', 'data', "'x', '* * * * *', 'a', to_jsonb(repeat('x', 1048577))"], ['TL007', 'metadata', "'x', '* * * * *', 'a', metadata => jsonb_build_object('m', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2047) i))"];
    is($a->do('SELECT count(*) FROM trunkline.schedules'), 0, 'nothing was stored');
};

subtest 'missed slots' => sub {
    my $run = sub {
        my ($cron, $since, $more) = @_;
        $a->do("SELECT trunkline.schedule('m', '$cron', 'm', $more); UPDATE trunkline.schedules SET next_at = x, due_at = x FROM (SELECT $since AS x) q");
        my $before = $a->do("SELECT coalesce(max(\"position\"), 0) FROM trunkline.topic_bus WHERE type = 'm'");
        my $fired = $a->do('SELECT trunkline.fire_schedules()');
        my $slots = $a->do("SELECT string_agg((extract(epoch FROM date_trunc('hour', now()) - (metadata ->> 'slot')::timestamptz) / 3600)::integer::text, ' ' ORDER BY \"position\") FROM trunkline.topic_bus WHERE type = 'm' AND \"position\" > $before");
        my $is_ahead = $a->do('SELECT next_at > now() AND due_at = next_at AND error IS NULL FROM trunkline.schedules');
        $a->do("SELECT trunkline.unschedule('m')");
        return "$fired: $slots $is_ahead";
    };
    my $hours = "date_trunc('hour', now()) - interval '5 h'";
    is($run->('@hourly', $hours, "missed => 'once'"), '1: 0 t', 'once: the last of them');
    is($run->('@hourly', $hours, "missed => 'all'"), '6: 5 4 3 2 1 0 t', 'all, oldest first');
    is($run->('@hourly', $hours, "missed => 'all', max_missed => 3"), '3: 2 1 0 t', 'the last max_missed of them');
    is($run->('@hourly', "date_trunc('hour', now()) - interval '20000 h'", "missed => 'all', max_missed => 4"), '4: 3 2 1 0 t', 'of very many');
    is($run->('every 10s', "date_trunc('hour', now()) - interval '90000 h'", "missed => 'once'") =~ s/: \S+//r, '1 t', 'once of millions');
    $a->do("SELECT trunkline.schedule('m', 'every 1 day', 'm', missed => 'skip'); UPDATE trunkline.schedules SET next_at = next_at - interval '3 days', due_at = next_at - interval '3 days'");
    is($a->do("SELECT trunkline.fire_schedules() || ' ' || (SELECT fired FROM trunkline.schedules)"), $a->do("SELECT CASE WHEN now() - date_trunc('day', now(), 'UTC') < interval '1 min' THEN '1 1' ELSE '0 0' END"), 'skip: none');
    is($a->do('SELECT next_at > now() AND last_at IS NULL FROM trunkline.schedules'), 't', 'skip: on to the next');
    $a->do("SELECT trunkline.unschedule('m'); SELECT trunkline.schedule('m', 'every 1s', 'm', missed => 'skip'); UPDATE trunkline.schedules SET next_at = next_at - interval '20 s', due_at = next_at - interval '20 s'");
    is($a->do('SELECT trunkline.fire_schedules()'), 1, 'skip: one that is less than a minute late fires');
    $a->do("SELECT trunkline.unschedule('m')");
};

subtest 'several daemons' => sub {
    $a->do("SELECT trunkline.schedule('d$_', '\@hourly', 'd$_') FROM generate_series(1, 1)") for 1 .. 3;
    $a->do("UPDATE trunkline.schedules SET next_at = date_trunc('hour', now()), due_at = date_trunc('hour', now())");
    $a->do("BEGIN; SELECT FROM trunkline.schedules WHERE name = 'd2' FOR UPDATE");
    $b->do('BEGIN');
    is($b->do('SELECT trunkline.fire_schedules()'), 2, 'one that another holds is left to it');
    is($c->do('SELECT trunkline.fire_schedules()'), 0, 'what is being fired fires once');
    $b->do('ROLLBACK');
    is($c->do('SELECT trunkline.fire_schedules()'), 2, 'undone: fired by the next');
    $a->do('ROLLBACK');
    is($b->do("SELECT action || ' ' || detail FROM trunkline.maintain() WHERE action = 'fired'"), 'fired 1 slots', 'maintain() fires too');
    is($a->do("SELECT string_agg(type || ' ' || n, ', ' ORDER BY type) FROM (SELECT type, count(*) AS n FROM trunkline.topic_bus WHERE type ~ '^d' GROUP BY 1) q"), 'd1 1, d2 1, d3 1', 'each slot once');
    # a database that was set back
    $a->do("UPDATE trunkline.schedules SET next_at = date_trunc('hour', now()), due_at = date_trunc('hour', now())");
    $a->do("UPDATE trunkline.schedules SET data = '2' WHERE name = 'd3'");
    $a->do('SELECT trunkline.fire_schedules()');
    is($a->do("SELECT count(*) FROM trunkline.topic_bus WHERE type ~ '^d'"), 3, 'a slot that fired does not fire again within the dedup window');
    is($a->do('SELECT count(*) FROM trunkline.schedules WHERE error IS NULL AND next_at > now()'), 3, 'whatever it says now');
};

subtest 'one that fails' => sub {
    $a->do("SELECT trunkline.create_topic('small'); SELECT trunkline.schedule('bad', '\@hourly', 'bad', (SELECT to_jsonb(string_agg(md5(i::text), '')) FROM generate_series(1, 100) i), 'small'); SELECT trunkline.set_topic('small', 'none', NULL, 1024, '1 day')");
    $a->do("UPDATE trunkline.schedules SET next_at = date_trunc('hour', now()) - interval '1 h', due_at = date_trunc('hour', now()) - interval '1 h'");
    is($a->do('SELECT trunkline.fire_schedules()'), 3, 'does not hold up the others');
    is($a->do("SELECT left(error, 6), next_at < now(), due_at > now() + interval '50 s', fired FROM trunkline.schedules WHERE name = 'bad'"), 'TL007:|t|t|0', 'keeps its slot and its error for another try');
    $a->do("SELECT trunkline.set_topic('small', 'none', NULL, 1048576, '1 day'); UPDATE trunkline.schedules SET due_at = now() WHERE name = 'bad'");
    is($a->do('SELECT trunkline.fire_schedules()'), 1, 'and fires it then');
    is($a->do("SELECT error IS NULL AND next_at > now() FROM trunkline.schedules WHERE name = 'bad'"), 't', 'content');
    refuses($a, "SELECT trunkline.drop_topic('small')", 'TL001', {schedule => 'bad'}, 'drop_topic() is refused while there are schedules');
    $a->do("SELECT trunkline.drop_topic('small', force => true)");
    is($a->do("SELECT count(*) FROM trunkline.schedules WHERE name = 'bad'"), 0, 'unless forced');
};

done_testing;
