#!/usr/bin/perl
# EVS-2, EVS-3, EVS-5: appends that race. One transaction is open, another waits for it, the first ends either way.
# Who loses has spent no position.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($a, $b, $c, $watch) = map { session() } 1 .. 4;
my $last = sub { $watch->do("SELECT pg_sequence_last_value('trunkline.position_store')") };
my $n = 0;
my $id = sub { sprintf '00000000-0000-4000-8000-%012d', $_[0] };

# A call of append_event() that answers version and deduplicated.
sub event { my ($stream, $expected, @more) = @_; return "SELECT version, deduplicated FROM trunkline.append_event('$stream', 'a', '1', $expected" . join('', map { ", $_" } @more) . ')' }

sub answer {
    my ($session) = @_;
    my $out = $session->finish;
    my $e = $session->{error} or return $out;
    my $detail = JSON::PP::decode_json($e->{detail} // '{}');
    return join ' ', $e->{state}, map { "$_=$detail->{$_}" } grep { defined $detail->{$_} } qw(expected actual reason index);
}

# race(name, stream, versions it has before, first call, second call, {COMMIT => answer, ROLLBACK => answer}, {COMMIT => positions spent by the second, ...})
sub race {
    my ($name, $first, $second, $expected, $spends, %with) = @_;
    for my $end (qw(COMMIT ROLLBACK)) {
        $n++;
        my ($f, $s) = map { s/\bS\b/s$n-1/gr =~ s/\bT\b/t$n-1/gr =~ s/\bID(\d)/$id->("$n$1")/ger } $first, $second;
        $watch->do("SELECT trunkline.append_rows(x, '{a,a}', '{1,1}') FROM unnest('{s$n-1,t$n-1}'::text[]) x") if !$with{absent};
        $a->do("BEGIN; $f");
        my $before = $last->();
        $b->start($s);
        $with{free} ? 1 : $b->wait_blocked;
        $a->do($end) if !$with{free};
        is(answer($b), $expected->{$end}, "$name, $end");
        is($last->() - $before, $spends->{$end}, "$name, $end: positions spent");
        $a->do($end) if $with{free};
        is($watch->do("SELECT count(*) FROM trunkline.streams s WHERE s.stream LIKE '_$n-1' AND s.version IS DISTINCT FROM (SELECT coalesce(max(e.version), 0) FROM trunkline.topic_store e WHERE e.stream = s.stream)"),
            0, "$name, $end: the version is that of the last event");
        is($watch->do("SELECT count(*) FROM (SELECT stream, version, lag(version, 1, 0::bigint) OVER w AS before, lag(\"position\", 1, 0::bigint) OVER w AS before_position, \"position\" FROM trunkline.topic_store WHERE stream LIKE '_$n-1' WINDOW w AS (PARTITION BY stream ORDER BY version)) x
            WHERE version <> before + 1 OR \"position\" <= before_position"), 0, "$name, $end: versions dense, in the order of positions");
    }
    return;
}
my %one = (COMMIT => 1, ROLLBACK => 1);
my %loser = (COMMIT => 0, ROLLBACK => 1);
my @isolation = ('READ COMMITTED');

race('two expect the same version', event('S', 2), event('S', 2), {COMMIT => 'TL001 expected=2 actual=3 reason=version', ROLLBACK => '3|f'}, \%loser);
race('any, then exact', event('S', 'NULL'), event('S', 2), {COMMIT => 'TL001 expected=2 actual=3 reason=version', ROLLBACK => '3|f'}, \%loser);
race('exact, then any', event('S', 2), event('S', 'NULL'), {COMMIT => '4|f', ROLLBACK => '3|f'}, \%one);
race('any twice', event('S', 'NULL'), event('S', 'NULL'), {COMMIT => '4|f', ROLLBACK => '3|f'}, \%one);
# a version that is not there yet is not waited for
race('exact, then the one after', event('S', 2), event('S', 3), {map { $_ => 'TL001 expected=3 actual=2 reason=version' } qw(COMMIT ROLLBACK)}, {COMMIT => 0, ROLLBACK => 0}, free => 1);
race('exists, then several', event('S', -1), q(SELECT string_agg(version::text, ' ') FROM trunkline.append_rows('S', '{a,b}', '{1,2}', expected_version => 2)), {COMMIT => 'TL001 expected=2 actual=3 reason=version', ROLLBACK => '3 4'}, {COMMIT => 0, ROLLBACK => 2});

race('no stream twice', event('S', 0), event('S', 0), {COMMIT => 'TL001 expected=no_stream actual=1 reason=version', ROLLBACK => '1|f'}, \%loser, absent => 1);
race('a new stream, then any', event('S', 0), event('S', 'NULL'), {COMMIT => '2|f', ROLLBACK => '1|f'}, \%one, absent => 1);
race('a new stream with several, then one', q(SELECT trunkline.append('S', '[{"type": "a"}, {"type": "b"}]')), event('S', 0), {COMMIT => 'TL001 expected=no_stream actual=2 reason=version', ROLLBACK => '1|f'}, \%loser, absent => 1);
# who expects it to exist does not wait for who makes it
race('a new stream, then exists', event('S', 0), event('S', -1), {COMMIT => 'TL001 expected=exists actual=0 reason=version', ROLLBACK => 'TL001 expected=exists actual=0 reason=version'}, {COMMIT => 0, ROLLBACK => 0}, absent => 1, free => 1);
race('create_aggregate, then append', q(SELECT trunkline.create_aggregate('x', 'S')), event('x-S', 0), {COMMIT => '1|f', ROLLBACK => '1|f'}, \%one, absent => 1);
race('append, then create_aggregate', event('x-S', 0), q(SELECT trunkline.create_aggregate('x', 'S')), {COMMIT => 'f', ROLLBACK => 't'}, {COMMIT => 0, ROLLBACK => 0}, absent => 1);

for my $case (['exact', 2, 3], ['any', 'NULL', 3], ['exists', -1, 3]) {
    my ($name, $expected, $version) = @$case;
    race("the same append again, $name", event('S', $expected, "'ID1'"), event('S', $expected, "'ID1'"), {COMMIT => "$version|t", ROLLBACK => "$version|f"}, \%loser);
}
race('the same append again, no stream', event('S', 0, "'ID1'"), event('S', 0, "'ID1'"), {COMMIT => '1|t', ROLLBACK => '1|f'}, \%loser, absent => 1);
race('the same append again, any, absent', event('S', 'NULL', "'ID1'"), event('S', 'NULL', "'ID1'"), {COMMIT => '1|t', ROLLBACK => '1|f'}, \%loser, absent => 1);
my $several = sub { my ($stream, $ids, $expected) = @_; return "SELECT string_agg(concat_ws('|', version, deduplicated), ' ') FROM trunkline.append_rows('$stream', '{a,a}', '{1,1}', ids => '{$ids}', expected_version => $expected)" };
race('the same several again', $several->('S', 'ID1,ID2', 2), $several->('S', 'ID1,ID2', 2), {COMMIT => '3|t 4|t', ROLLBACK => '3|f 4|f'}, {COMMIT => 0, ROLLBACK => 2});
race('several, one of them again', $several->('S', 'ID1,ID2', 2), $several->('S', 'ID2,ID3', 'NULL'), {COMMIT => 'TL003 reason=partial index=1', ROLLBACK => '3|f 4|f'}, {COMMIT => 0, ROLLBACK => 2});
race('the same id with other content', event('S', 'NULL', "'ID1'"), event('S', 'NULL', "'ID1'", q('{"x": 1}')), {COMMIT => 'TL003 reason=content index=0', ROLLBACK => '3|f'}, \%loser);
race('the same id in another stream', event('S', 'NULL', "'ID1'"), event('T', 'NULL', "'ID1'"), {COMMIT => 'TL003 reason=stream index=0', ROLLBACK => '3|f'}, \%loser);
race('the same id in another stream, both new', event('S', 0, "'ID1'"), event('T', 0, "'ID1'"), {COMMIT => 'TL003 reason=stream index=0', ROLLBACK => '1|f'}, \%loser, absent => 1);
race('ids in another order in another stream', $several->('S', 'ID1,ID2', 'NULL'), $several->('T', 'ID2,ID1', 'NULL'), {COMMIT => 'TL003 reason=stream index=0', ROLLBACK => '3|f 4|f'}, {COMMIT => 0, ROLLBACK => 2});
race('published, then appended', q(SELECT trunkline.publish('a', '1', 'store', 'ID1')), event('S', 'NULL', "'ID1'"), {COMMIT => 'TL003 reason=stream index=0', ROLLBACK => '3|f'}, \%loser);

# [stream, expected version, whether it is written]; what to select of the answer
sub streams_as { my $what = shift; return "SELECT $what FROM trunkline.append_streams('[" . join(', ', map { my ($stream, $expected, $is_written) = @$_; qq({"stream": "$stream", "expected_version": $expected) . ($is_written ? ', "events": [{"type": "a"}]}' : '}') } @_) . "]')" }
my $streams = sub { streams_as(q{string_agg(concat_ws('|', stream, version), ' ')}, @_) };
my $versions = sub { streams_as(q{string_agg(version::text, ' ')}, @_) };
my $both = sub { my ($x, $y) = @_; return {COMMIT => $x, ROLLBACK => $y} };
for my $x (['S', 'T'], ['T', 'S']) {
    my ($first, $second) = @$x;
    race("several streams, $first first, then the other way", $streams->([$first, 2, 1], [$second, 2, 1]), $versions->([$second, '"any"', 1], [$first, '"exists"', 1]), $both->('4 4', '3 3'), {COMMIT => 2, ROLLBACK => 2});
    # S is locked first, whatever the order of the arguments
    race("both conflict, $first first", $streams->([$first, 2, 1], [$second, 2, 1]), $versions->([$second, 2, 1], [$first, 2, 1]), $both->('TL001 expected=2 actual=3 reason=version index=' . ($first eq 'S' ? 1 : 0), '3 3'), {COMMIT => 0, ROLLBACK => 2});
}
race('one stream only checked, its writer waits', $streams->(['S', 2, 1], ['T', 2]), event('T', 2), $both->('3|f', '3|f'), \%one);
race('its writer first, then checked', event('T', 2), $versions->(['S', 2, 1], ['T', 2]), $both->('TL001 expected=2 actual=3 reason=version index=1', '3'), \%loser);
race('each writes what the other checks', $streams->(['S', 2, 1], ['T', 2]), $versions->(['T', 2, 1], ['S', 2]), $both->('TL001 expected=2 actual=3 reason=version index=1', '3'), \%loser);
race('absence checked, then made', $streams->(['S', 0, 1], ['T', 0]), event('T', 0), $both->('1|f', '1|f'), \%one, absent => 1);
race('made, then absence checked', event('T', 0), $versions->(['S', 0, 1], ['T', '"no_stream"']), $both->('TL001 expected=no_stream actual=1 reason=version index=1', '1'), \%loser, absent => 1);
race('two check the absence of one', $streams->(['S', 0, 1], ['T', 0]), streams_as('count(*)', ['u', '"any"', 1], ['T', 0]), $both->(1, 1), \%one, absent => 1);
race('two check one, side by side', $streams->(['S', 2, 1], ['T', 2]), streams_as('count(*)', ['u', '"any"', 1], ['T', 2]), $both->(1, 1), \%one, free => 1);

race('delete, then exact', q(SELECT trunkline.delete_stream('S')), event('S', 2), $both->('3|f', '3|f'), \%one);
race('delete, then exists', q(SELECT trunkline.delete_stream('S')), event('S', -1), $both->('TL001 expected=exists actual=2 reason=deleted', '3|f'), \%loser);
race('delete, then no stream', q(SELECT trunkline.delete_stream('S')), event('S', 0), $both->('3|f', 'TL001 expected=no_stream actual=2 reason=version'), {COMMIT => 1, ROLLBACK => 0});
race('delete for ever, then any', q(SELECT trunkline.delete_stream('S', hard => true, reason => 'r')), event('S', 'NULL'), $both->('TL001 expected=any actual=2 reason=tombstone', '3|f'), \%loser);
race('append, then delete that version', event('S', 2), q(SELECT trunkline.delete_stream('S', 2)), $both->('TL001 expected=2 actual=3 reason=version', 't'), {COMMIT => 0, ROLLBACK => 0});
race('append, then delete for ever', event('S', 2), q(SELECT trunkline.delete_stream('S', hard => true, reason => 'r')), $both->('t', 't'), {COMMIT => 0, ROLLBACK => 0});
is($watch->do(q(SELECT count(*) FROM trunkline.topic_store e JOIN trunkline.streams s USING (stream) WHERE s.state = 'tombstone' AND e.data <> 'null')), 0, 'delete for ever: no payload came in behind');
race('settings, then append', q(SELECT trunkline.set_stream('S', 5)), event('S', 2), $both->('3|f', '3|f'), \%one);

subtest 'deadlock-free: a third holds what both want' => sub {
    $watch->do("SELECT trunkline.append_event(x, 'a', '1') FROM unnest('{dl-a,dl-b}'::text[]) x");
    my $before = $last->();
    $c->do("BEGIN; SELECT trunkline.append_event('dl-b', 'a', '1')");
    $b->start($streams->(['dl-b', '"any"', 1], ['dl-a', '"any"', 1]));
    $b->wait_blocked;
    $a->start($streams->(['dl-a', '"any"', 1], ['dl-b', '"any"', 1]));
    $a->wait_blocked;
    $c->do('COMMIT');
    is(answer($b), 'dl-b|3 dl-a|2', 'the one');
    is(answer($a), 'dl-a|3 dl-b|4', 'and the other');
    is($last->() - $before, 5, 'all of them');
};

subtest 'deadlock-free: ids are claimed in one order' => sub {
    my ($low, $high) = map { $id->($_) } '555001', '555002';
    my $d = session();
    $c->do('BEGIN; ' . event('cl-1', 0, "'$low'"));
    $a->start($several->('cl-2', "$high,$low", 0));
    $a->wait_blocked;
    is($d->do(event('cl-3', 0, "'$high'")), '1|f', 'who waits for the lower one has not taken the higher');
    $c->do('ROLLBACK');
    is(answer($a), 'TL003 reason=stream index=0', 'and finds it taken');
};

subtest 'savepoints' => sub {
    my $before = $last->();
    $a->do("BEGIN; SAVEPOINT x; SELECT trunkline.append_event('sp-1', 'a', '1', 0); ROLLBACK TO x");
    is($a->do(event('sp-1', 0)), '1|f', 'undone, and again');
    is($a->do(event('sp-1', 1)), '2|f', 'and on');
    my $position = $b->do("SELECT \"position\" FROM trunkline.append_event('sp-2', 'a', '1')");
    is($b->do("SELECT count(*) FROM trunkline.read('store', $before)"), 0, 'LOG-3: what comes behind waits for it');
    $a->do('COMMIT');
    is($b->do("SELECT string_agg(stream || '|' || version, ' ') FROM trunkline.read('store', $before)"), 'sp-1|1 sp-1|2 sp-2|1', 'all of it, in order');
    $a->do("BEGIN; SELECT trunkline.append_event('sp-1', 'a', '1', 2); SAVEPOINT x; SELECT trunkline.append_event('sp-1', 'a', '1', 3)");
    $b->start(event('sp-1', 'NULL'));
    $b->wait_blocked;
    $a->do('ROLLBACK TO x; COMMIT');
    is(answer($b), '4|f', 'half of it undone');
};

for my $level ('REPEATABLE READ', 'SERIALIZABLE') {
    subtest "EVS-2: $level" => sub {
        my $n = $level =~ /^R/ ? 'rr' : 'se';
        $watch->do("SELECT trunkline.append_event(x, 'a', '1', event_id => y::uuid) FROM unnest('{$n-1,$n-2}'::text[], '{" . $id->("7$n" =~ tr/rse/123/r) . ',' . $id->("8$n" =~ tr/rse/123/r) . "}'::text[]) u(x, y)");
        my $begin = "BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM trunkline.topics; ";
        my $fresh = $id->("9$n" =~ tr/rse/123/r);
        for my $case (
            ['exact', event("$n-1", 'V'), event("$n-1", 'V')], ['any', event("$n-1", 'NULL'), event("$n-1", 'NULL')], ['exists', event("$n-1", 'NULL'), event("$n-1", -1)],
            ['no stream', event("$n-3", 0), event("$n-3", 0)], ['any, absent', event("$n-4", 0), event("$n-4", 'NULL')], ['create_aggregate', event("$n-5", 0), "SELECT trunkline.create_aggregate('$n', '5')", 'fine'],
            ['the same id', event("$n-6", 0, "'$fresh'"), event("$n-6", 0, "'$fresh'")], ['the same id elsewhere', 'SELECT 1', event("$n-7", 0, "'$fresh'"), 'TL003'],
            ['several streams', event("$n-1", 'NULL'), $streams->(["$n-2", '"any"', 1], ["$n-1", '"any"', 1])], ['checked', event("$n-1", 'NULL'), $streams->(["$n-2", '"any"', 1], ["$n-1", '"exists"'])],
            ['delete', event("$n-1", 'NULL'), "SELECT trunkline.delete_stream('$n-1')"], ['settings', event("$n-1", 'NULL'), "SELECT trunkline.set_stream('$n-1')"],
        ) {
            my ($name, $other, $own, $state) = @$case;
            my $v = $watch->do("SELECT trunkline.stream_version('$n-1')");
            s/, V\)/, $v)/ for $other, $own;
            $a->do($begin);
            $b->do($other);
            my $before = $last->();
            my $error = $a->error($own);
            like($error->{state}, $state ? ($state eq 'fine' ? qr/^(none|40001)$/ : qr/^$state$/) : qr/^(TL001|40001)$/, "$name, after another has ended: $error->{state}");
            $a->do('ROLLBACK');
            is($last->(), $before, 'no position spent') if $state // '' ne 'fine';
            # while another is open
            s/, $v\)/, $v + 1)/ for $other, $own;
            $c->do('BEGIN');
            $c->error($other);
            $a->do($begin);
            $a->start($own);
            $a->wait_blocked if $other =~ /$n-1'/;
            $c->do('COMMIT');
            my $answer = answer($a);
            unlike($answer, qr/^23505|^XX/, "$name, while another is open: " . substr $answer, 0, 40);
            $a->do('ROLLBACK');
        }
        my $version = $watch->do("SELECT trunkline.stream_version('$n-1')");
        is($a->do("BEGIN ISOLATION LEVEL $level; " . event("$n-1", $version) . "; COMMIT"), ($version + 1) . '|f', 'repeated in a new transaction it works');
        is($a->do("BEGIN ISOLATION LEVEL $level; " . event("$n-9", 0) . '; ' . event("$n-9", 1) . '; COMMIT'), "1|f\n2|f", 'twice in one too');
        $a->do("BEGIN ISOLATION LEVEL $level; " . event("$n-10", 0));
        $b->do("BEGIN ISOLATION LEVEL $level; " . event("$n-11", 0) . '; COMMIT');
        # Locks of SERIALIZABLE are of pages, or of a table where the planner reads all of it: a conflict need not be one.
        like($a->error('COMMIT')->{state}, $level eq 'SERIALIZABLE' ? qr/^(none|40001)$/ : qr/^none$/, 'streams do not get in each other\'s way');
    };
}

subtest 'redaction and readers' => sub {
    my $position = $watch->do(q(SELECT "position" FROM trunkline.append_event('rd-1', 'secret', '"x"')));
    $watch->do("SELECT trunkline.subscribe('app/rd', 'secret', filter => NULL, topic => 'store', start_at => 'beginning')");
    $a->do("BEGIN; SELECT trunkline.redact_at('store', $position, 'r')");
    is($b->do("SELECT data FROM trunkline.topic_store WHERE stream = 'rd-1'"), '"x"', 'an uncommitted one is not seen');
    is($b->do("SELECT data FROM trunkline.claim('app/rd')"), '"x"', 'and stops no claim');
    is($b->do(event('rd-1', 1)), '2|f', 'and no append');
    $c->start("SELECT trunkline.redact_at('store', $position, 'r')");
    $c->wait_blocked;
    $a->do('COMMIT');
    is(answer($c), 'f', 'a second one waits for the first');
    is($b->do("SELECT data FROM trunkline.topic_store WHERE stream = 'rd-1' ORDER BY version LIMIT 1"), 'null', 'gone');
    $b->do("SELECT trunkline.redact_at('store', $position, 'r')");
    # redacted while leased, by a subscription whose filter it does not match any more
    $watch->do("SELECT trunkline.subscribe('app/rf', 'f', filter => '{\"k\": 1}', topic => 'store', start_at => 'end')");
    $watch->do("SELECT trunkline.append_rows('rd-2', '{f,f,f}', '{\"{\\\"k\\\": 1}\",\"{\\\"k\\\": 1}\",\"{\\\"k\\\": 1}\"}')");
    my ($token, $second) = split /\|/, $b->do("SELECT token, min(\"position\") + 1 FROM trunkline.claim('app/rf') GROUP BY 1");
    $watch->do("SELECT trunkline.redact_at('store', $second, 'r')");
    cmp_ok($b->do("SELECT trunkline.ack('$token')"), '>=', 2, 'the lease is settled');
    is($b->do("SELECT count(*) FROM trunkline.claim('app/rf')"), 0, 'all of it');
    $watch->do("SELECT trunkline.append_rows('rd-3', '{f,f,f}', '{\"{\\\"k\\\": 1}\",\"{\\\"k\\\": 1}\",\"{\\\"k\\\": 1}\"}')");
    ($token, $second) = split /\|/, $b->do("SELECT token, min(\"position\") + 1 FROM trunkline.claim('app/rf') GROUP BY 1");
    $watch->do("SELECT trunkline.redact_at('store', $second, 'r')");
    $b->do("SELECT trunkline.release('$token')");
    my $seen = '';
    for (1 .. 6) {
        my $rows = $b->do("SELECT token, \"position\" - $second FROM trunkline.claim('app/rf') ORDER BY 2");
        last if $rows eq '';
        $seen .= join '', map { (split /\|/)[1] . ' ' } split /\n/, $rows;
        $b->do("SELECT trunkline.ack('" . (split /\|/, $rows)[0] . "')");
    }
    is($seen, '-1 1 ', 'handed out again without it, and settled');
};

subtest 'drop_topic' => sub {
    my $own = sub { event($_[0], 'NULL', "topic => 'own'") };
    $watch->do("SELECT trunkline.create_topic('own', streams => true)");
    $a->do('BEGIN; ' . $own->('o-1'));
    $b->start("SELECT trunkline.drop_topic('own', true)");
    $b->wait_blocked;
    $a->do($own->('o-2') . '; COMMIT');
    is(answer($b), '', 'waits for who appends');
    is($watch->do(q(SELECT count(*) FROM trunkline.streams WHERE stream IN ('o-1', 'o-2'))), 0, 'its streams go with it');
    for my $call ($own->('o-3'), "SELECT trunkline.set_stream('o-3', topic => 'own')", "SELECT trunkline.create_aggregate('o', '3', 'own')", "SELECT trunkline.delete_stream('o-3', topic => 'own')",
        q(SELECT * FROM trunkline.append_streams('[{"stream": "o-3", "events": {"type": "a"}}]', 'own'))) {
        $watch->do("SELECT trunkline.create_topic('own', streams => true)");
        $a->do("BEGIN; SELECT trunkline.drop_topic('own')");
        $b->start($call);
        $b->wait_blocked;
        $a->do('COMMIT');
        is(answer($b), 'TL002', "waits for the drop: $call");
        is($watch->do(q(SELECT count(*) FROM trunkline.streams s WHERE NOT EXISTS (SELECT FROM trunkline.topics t WHERE t.topic_id = s.topic_id))), 0, 'no stream without a topic');
    }
    $watch->do("SELECT trunkline.create_topic('own', streams => true)");
    $a->do("BEGIN; SELECT trunkline.drop_topic('own'); SELECT trunkline.create_topic('other'); SELECT trunkline.create_topic('own', streams => true)");
    $b->start($own->('o-4'));
    $b->wait_blocked;
    $a->do('COMMIT');
    is(answer($b), '1|f', 'dropped and made again under another number');
    is($watch->do(q(SELECT count(*) FROM trunkline.topic_own e JOIN trunkline.streams s USING (topic_id, stream, version))), 1, 'the stream is of that one');
};

subtest 'WAK-1, SUB-4: an append is a publish to all others' => sub {
    $a->do('LISTEN trunkline');
    is($a->do('SELECT trunkline.bell_arm()'), 't', 'armed');
    $b->do(event('bell-1', 0));
    is(scalar(my @rung = $a->notifications), 1, 'the bell rings');
    $a->do('SELECT trunkline.bell_disarm(); UNLISTEN *');
    $watch->do(q(CREATE TABLE seen (stream text, version bigint); CREATE FUNCTION see(e jsonb) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN IF e ->> 'type' = 'bad' THEN RAISE 'refused'; END IF; INSERT INTO public.seen VALUES (e ->> 'stream', (e ->> 'version')::bigint); END $$));
    $watch->do(q(SELECT trunkline.subscribe('app/see', '**', 'store', target => 'sql:public.see', mode => 'sync')));
    my $before = $last->();
    $b->do(event('sync-1', 0));
    $b->do(q(SELECT trunkline.append('sync-1', '[{"type": "a"}, {"type": "b"}]', 1)));
    is($watch->do(q(SELECT string_agg(stream || '|' || version, ' ') FROM seen)), 'sync-1|1 sync-1|2 sync-1|3', 'sync handlers see it');
    is($b->error(event('sync-1', 3) =~ s/'a'/'bad'/r)->{state}, 'TL008', 'and may refuse it');
    is($watch->do("SELECT trunkline.stream_version('sync-1')"), 3, 'then the stream has not moved');
    $watch->do(q(SELECT trunkline.unsubscribe('app/see')));
};

done_testing;
