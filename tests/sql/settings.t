#!/usr/bin/perl
# SEC-3: what a session sets for itself changes nothing that the schema does for it.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $plain = session();

sub odd {
    my $s = session();
    $s->do("SET $_") for @_;
    return $s;
}

subtest 'standard_conforming_strings' => sub {
    my $s = odd('standard_conforming_strings = off', 'escape_string_warning = off');
    for my $call (
        "SELECT string_agg(trunkline.matches(t, p)::text, ' ' ORDER BY t, p)
           FROM unnest('{a.b,axb,a+.c.b,aa.c.b,a.b.c}'::text[]) t, unnest('{a.*,a.b,a+.*.b,a.**,**}'::text[]) p",
        "SELECT string_agg(coalesce(trunkline.pattern_problem(p), '-'), ' ' ORDER BY p) FROM unnest('{a.*,a*,**.a,a.**,*}'::text[]) p",
        "SELECT string_agg(trunkline.type_condition(p, 'x') || trunkline.type_operand(p), ',' ORDER BY p) FROM unnest('{a.*,a.b,a.**}'::text[]) p",
        "SELECT trunkline.next_fire('every 10s', 'UTC', '2026-01-01 00:00:05+00') = '2026-01-01 00:00:10+00',
                trunkline.next_fire('*/5 1-2,7 * * mon', 'UTC', '2026-01-01 00:00+00') = '2026-01-05 01:00+00'",
        "SELECT trunkline.is_predicate('\$.a == \"x\"'), trunkline.is_predicate('\$.a == \$b'), trunkline.is_predicate('\$.a')",
        "SELECT trunkline.headers_problem(jsonb_build_object('A', chr(10) || 'b')), trunkline.headers_problem('{\"A\": \"b c\"}')",
        )
    {
        is($s->do($call), $plain->do($call), $call);
    }
    $plain->do("SELECT trunkline.subscribe('strings', 'a.*')");
    $s->do("SELECT trunkline.publish(t, '1') FROM unnest('{a.b,axb,a.c}'::text[]) t");
    is($s->do("SELECT string_agg(type, ' ' ORDER BY \"position\") FROM trunkline.claim('strings')"), 'a.b a.c', 'a claim');
    is($plain->do(q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'trunkline'::regnamespace
        AND (regexp_replace(prosrc, '(\mE''(''''|[^''])*'')|(--[^\n]*)', '', 'g')) ~ '\\\\'}), 0, 'no backslash but in E strings');
    my $empty = database(empty => 1);
    system("PGOPTIONS='-c standard_conforming_strings=off' $ENV{TRUNKLINE_BIN} migrate --quiet --db '$empty'") == 0 or diag('migrate failed');
    is(session(db => $empty)->do("SELECT trunkline.matches('axb', 'a.*'), trunkline.matches('a.b', 'a.*')"), 'f|t', 'migrate');
};

subtest 'TimeZone, DateStyle, IntervalStyle' => sub {
    my $s = odd("TimeZone = 'Pacific/Chatham'", "DateStyle = 'SQL, DMY'", 'IntervalStyle = sql_standard');
    for my $call ("trunkline.next_fire('* * * * *', 'UTC', '2026-01-01 00:00:15+00')", "trunkline.next_fire('30 2 * * *', 'Asia/Kolkata', '2026-01-01 00:00:15+00')",
        "trunkline.next_fire('every 1 day 2 hours', 'UTC', '2026-01-01 00:00:15+00')",
        "trunkline.event_digest('t', '1', NULL, NULL, NULL, NULL, '2026-01-01 00:00:15+00', '1 mon 1 day 1 hour')::text")
    {
        my $query = $call =~ /next_fire/ ? "SELECT extract(epoch FROM $call)" : "SELECT $call";
        is($s->do($query), $plain->do($query), $call);
    }
};

subtest 'a filter that compares times' => sub {
    my ($utc, $tokyo) = map { odd("TimeZone = '$_'") } 'UTC', 'Asia/Tokyo';
    $plain->do(q{SELECT trunkline.create_topic('times');
        SELECT trunkline.subscribe('times', '**', 'times', filter_path => '$.at.datetime() > "2026-01-01T00:00:00+00".datetime()');
        SELECT trunkline.publish('t', '{"at": "2026-01-01T03:00:00"}', 'times')});
    is($utc->do("SELECT count(*) FROM trunkline.claim('times')"), 1, 'claimed');
    $plain->do("UPDATE trunkline.leases SET until = now() - interval '1 s'");
    my ($token) = $tokyo->do("SELECT token FROM trunkline.claim('times')");
    isnt($token, '', 'taken over in another time zone');
    is($tokyo->do("SELECT trunkline.ack('$token', NULL, '[{\"position\": 1}]')"), 1, 'and failed there');
    is($plain->do('SELECT count(*) FROM trunkline.retries'), 1, 'not lost');
    is($tokyo->do('SHOW TimeZone'), 'Asia/Tokyo', 'the session keeps its own');
};

done_testing();
