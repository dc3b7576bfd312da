#!/usr/bin/perl
# EVS-2, EVS-3, EVS-5, EVS-8, IDM-1: a random history of the event store. Writers append to few streams with expectations
# that hold or not, with ids and without, to one stream and to several, at every isolation level; they repeat what
# they or others did, undo, delete; backends are killed and the server crashes under them. Then the log is
# replayed by a model, which checks every answer that anybody got. The seed is printed; TRUNKLINE_SEED repeats it.
use strict;
use warnings;
use lib 'tests/sql';
use IO::Select ();
use IPC::Open3 ();
use JSON::PP ();
use SqlTest;
use Test::More;
use Time::HiRes qw(time);

use constant {SECONDS => 12, WRITERS => 8, STREAMS => 5, CRASHES => 2};

my $seed = $ENV{TRUNKLINE_SEED} // int rand 1_000_000;
diag("seed $seed");
srand $seed;

my $dir = "/tmp/tlhist.$$";
my $out = qx(env -u PG_TEMP_DIR -u PG_TEMP_LOG tools/pg-temp start $dir);
BAIL_OUT("no cluster: $out") if $?;
END { my $status = $?; system "tools/pg-temp stop $dir >/dev/null 2>&1" if $dir; $? = $status }
my $db = "host=$dir port=5432 user=postgres dbname=postgres";
my $psql = ($ENV{PGBINDIR} ? "$ENV{PGBINDIR}/" : '') . 'psql';
my $migrated = qx("$ENV{TRUNKLINE_BIN}" migrate up --db "$db" 2>&1);
BAIL_OUT("migrate: $migrated") if $?;
system($psql, '-XAtqc', 'ALTER SYSTEM SET synchronous_commit = on', '-c', 'SELECT pg_reload_conf()', '-o', '/dev/null', '-d', $db) == 0 or BAIL_OUT('settings');
my $json = JSON::PP->new->canonical;

# --- sessions that all wait at once; an end of the connection is an answer too
sub connect_session {
    my ($s) = @_;
    for (1 .. 600) {
        $s->{child} = IPC::Open3::open3($s->{in}, $s->{out}, undef, $psql, '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $db);
        $s->{buffer} = '';
        local $SIG{PIPE} = 'IGNORE';
        my $in = $s->{in};
        print $in "SELECT 'pid', pg_backend_pid();\n\\echo ready\n";
        $in->flush;
        while (sysread $s->{out}, my $chunk, 65536) {
            $s->{buffer} .= $chunk;
            last if $s->{buffer} =~ /^ready$/m;
        }
        if ($s->{buffer} =~ /^pid\|(\d+)$/m) { $s->{pid} = $1; $s->{buffer} = ''; return $s }
        close $s->{in};
        waitpid $s->{child}, 0;
        Time::HiRes::sleep(0.05);
    }
    BAIL_OUT('the server does not come back');
}

sub send_sql {
    my ($s, $sql) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $in = $s->{in};
    print $in "$sql;\n\\echo end-of-answer\n";
    $in->flush;
    return;
}

# --- what writers do
my @writers = map { connect_session({number => $_, belief => {}, count => 0}) } 1 .. WRITERS;
my (@operations, %by_id);
my $next_id = 0;
sub pick { return $_[rand @_] }

sub new_operation {
    my ($w) = @_;
    my $op = {writer => $w->{number}, number => ++$w->{count}};
    my @streams = map { "s-$_" } 0 .. STREAMS - 1;
    my $writes = rand() < 0.25 ? 2 + int rand 2 : 1;
    my $with_ids = rand() < 0.5;
    my $i = 0;
    for (1 .. $writes) {
        my $stream = splice @streams, rand @streams, 1;
        my $belief = $w->{belief}{$stream} // 0;
        my $expected = pick(undef, undef, 0, -1, $belief, $belief, $belief, $belief + pick(-1, 1));
        $expected = undef if defined $expected && $expected < -1;
        my $events = $writes > 1 && rand() < 0.3 ? 0 : pick(1, 1, 1, 2, 3);
        push @{$op->{writes}}, {stream => $stream, expected => $expected, events => [map { +{type => "e$w->{number}.$op->{number}", data => {w => $w->{number}, n => $op->{number}, i => $i++},
            $with_ids ? (id => sprintf '00000000-0000-4000-8000-%012d', ++$next_id) : ()} } 1 .. $events]};
    }
    $op->{writes}[0]{events} = [{type => "e$w->{number}.$op->{number}", data => {w => $w->{number}, n => $op->{number}, i => $i}, $with_ids ? (id => sprintf '00000000-0000-4000-8000-%012d', ++$next_id) : ()}]
        if !grep { @{$_->{events}} } @{$op->{writes}};
    return $op;
}

# The same again, or nearly so.
sub repeated_operation {
    my ($w, $old, $exactly) = @_;
    my $op = $json->decode($json->encode({writes => $old->{writes}}));
    @$op{qw(writer number repeats)} = ($w->{number}, ++$w->{count}, $old);
    return $op if $exactly || rand() < 0.6;
    $op->{is_altered} = 1;
    my $write = pick(@{$op->{writes}});
    my $how = int rand 4;
    if ($how == 0) { push @{$write->{events}}, {type => 'more', data => {w => $w->{number}, n => $op->{number}, i => 0}, id => sprintf '00000000-0000-4000-8000-%012d', ++$next_id} }
    elsif ($how == 1 && @{$write->{events}}) { $write->{events}[0]{type} = 'other' }
    elsif ($how == 2 && !grep { $_->{stream} eq 's-9' } @{$op->{writes}}) { $write->{stream} = 's-9' }
    else { $write->{expected} = ($write->{expected} // 0) + 1 }
    return $op;
}

sub call_of {
    my ($op, @more) = @_;
    my @writes = @{$op->{writes}};
    my $expected = $writes[0]{expected} // 'NULL';
    my @events = @{$writes[0]{events}};
    if (@writes == 1 && @events == 1 && rand() < 0.7) {
        my ($e) = @events;
        return "SELECT json_agg(json_build_object('s', '$writes[0]{stream}', 'v', version, 'p', \"position\", 'i', id, 'd', deduplicated)) FROM trunkline.append_event('$writes[0]{stream}', '$e->{type}', '"
            . $json->encode($e->{data}) . "', $expected" . ($e->{id} ? ", '$e->{id}'" : '') . ')';
    }
    if (@writes == 1 && rand() < 0.7) {
        my $list = $json->encode(\@events);
        return "SELECT json_agg(json_build_object('s', '$writes[0]{stream}', 'v', version, 'p', \"position\", 'i', id, 'd', deduplicated)) FROM trunkline.append('$writes[0]{stream}', '$list', $expected)" if rand() < 0.5;
        return "SELECT json_agg(json_build_object('s', '$writes[0]{stream}', 'v', version, 'p', \"position\", 'i', id, 'd', deduplicated)) FROM trunkline.append_rows('$writes[0]{stream}', '{" . join(',', map { $_->{type} } @events) . "}', ARRAY["
            . join(',', map { "'" . $json->encode($_->{data}) . "'" } @events) . ']::jsonb[], ids => ' . ($events[0]{id} ? "'{" . join(',', map { $_->{id} // 'NULL' } @events) . "}'" : 'NULL') . ", expected_version => $expected)";
    }
    my $list = $json->encode([map { +{stream => $_->{stream}, expected_version => $_->{expected}, events => $_->{events}} } @writes]);
    return "SELECT json_agg(json_build_object('s', stream, 'v', version, 'p', \"position\", 'i', id, 'd', deduplicated)) FROM trunkline.append_streams('$list')";
}

sub statement_of {
    my ($op) = @_;
    my $call = call_of($op);
    my $nap = 'SELECT NULL FROM pg_sleep(' . rand(0.004) . ')';
    my $level = pick('', '', ' ISOLATION LEVEL REPEATABLE READ', ' ISOLATION LEVEL SERIALIZABLE');
    my $how = int rand 10;
    return $call if $how < 5;
    return "BEGIN$level; $call; $nap; COMMIT" if $how < 7;
    if ($how == 7) { $op->{is_undone} = 1; return "BEGIN$level; $call; $nap; ROLLBACK" }
    my $undone = "SELECT NULL FROM trunkline.append_event('$op->{writes}[0]{stream}', 'undone', '1')";
    return "BEGIN$level; SAVEPOINT x; $undone; ROLLBACK TO x; $call; $nap; COMMIT" if $how == 8;
    return "BEGIN$level; SAVEPOINT x; $call; RELEASE x; $nap; COMMIT";
}

sub answered {
    my ($w, $text, $is_lost) = @_;
    my $op = $w->{operation};
    delete $w->{operation};
    $op->{end} = time;
    if ($text =~ /^(?:psql:\S+ )?(?:ERROR|FATAL):  (\w{5}): (.*)/m) {
        $op->{error} = $1;
        $op->{message} = $2;
        $op->{detail} = $1 && $text =~ /^DETAIL:  (\{.*)/m ? $json->decode($1) : {};
        # a statement that failed because its session was ended says nothing of what came before
        $op->{is_lost} = 1 if $op->{error} =~ /^57P0|^08/;
        $w->{belief}{$op->{detail}{stream}} = $op->{detail}{actual} if $op->{error} eq 'TL001' && $op->{detail}{stream};
    } elsif ($is_lost) {
        $op->{is_lost} = 1;
    } elsif ($op->{is_delete}) {
        $op->{rows} = [];
    } elsif ($text =~ /^(\[.*\])/m) {
        $op->{rows} = $json->decode($1);
        for my $row ($op->{is_undone} ? () : @{$op->{rows}}) { $w->{belief}{$row->{s}} = $row->{v} if ($w->{belief}{$row->{s}} // 0) < $row->{v} }
    } else {
        BAIL_OUT("no answer to $op->{sql}: $text");
    }
    $w->{unsure} = $op if $op->{is_lost} && !$op->{is_delete};
    return;
}

sub begin_operation {
    my ($w) = @_;
    my $op;
    if (my $unsure = delete $w->{unsure}) {
        $op = repeated_operation($w, $unsure, 1) if !grep { !$_->{id} } map { @{$_->{events}} } @{$unsure->{writes}};
    } elsif (rand() < 0.2) {
        my @with_ids = grep { !$_->{is_delete} && !grep { !$_->{id} } map { @{$_->{events}} } @{$_->{writes}} } @operations[(@operations > 60 ? @operations - 60 : 0) .. $#operations];
        $op = repeated_operation($w, pick(@with_ids), 0) if @with_ids;
    } elsif (rand() < 0.02) {
        $op = {is_delete => 1, writer => $w->{number}, number => ++$w->{count}, writes => [], sql => "SELECT trunkline.delete_stream('s-" . int(rand STREAMS) . "', reason => 'random')"};
    }
    $op //= new_operation($w);
    $op->{sql} //= statement_of($op);
    $op->{start} = time;
    push @operations, $op;
    $w->{operation} = $op;
    send_sql($w, $op->{sql});
    return;
}

# A reader that follows the log.
my $reader = connect_session({});
my @read;
sub begin_read { send_sql($reader, 'SELECT string_agg("position"::text, \' \' ORDER BY "position") FROM trunkline.read(\'store\', ' . ($read[-1] // 0) . ', 1000)'); return }

my $finish = time + SECONDS;
my @crashes = map { $finish - SECONDS * $_ / (CRASHES + 1) } 1 .. CRASHES;
my $next_kill = time + 0.5;
my ($kills, $crashed) = (0, 0);
begin_operation($_) for @writers;
begin_read();
while (1) {
    my @busy = (grep({ $_->{operation} } @writers), $reader);
    last if @busy == 1 && time > $finish;
    my $select = IO::Select->new(map { $_->{out} } @busy);
    my @ready = $select->can_read(LIMIT_S) or BAIL_OUT('nobody gets an answer: ' . join '; ', map { $_->{operation} ? $_->{operation}{sql} : () } @writers);
    for my $s (@busy) {
        next if !grep { $_ == $s->{out} } @ready;
        my $is_lost = !sysread $s->{out}, my $chunk, 65536;
        $s->{buffer} .= $chunk if !$is_lost;
        next if !$is_lost && $s->{buffer} !~ /^end-of-answer$/m;
        $is_lost ||= $s->{buffer} =~ /^(?:server closed the connection|connection to server was lost)/m;
        my $text = $s->{buffer};
        $s->{buffer} = '';
        if ($s == $reader) { push @read, split / /, $1 if $text =~ /^([\d ]+)$/m }
        else { answered($s, $text, $is_lost) }
        if ($is_lost) { close $s->{in}; waitpid $s->{child}, 0; connect_session($s) }
        if ($s == $reader) { begin_read() } elsif (time < $finish) { begin_operation($s) }
    }
    if (time > $next_kill && time < $finish) {
        $next_kill = time + 0.1 + rand 0.4;
        my $victim = pick(@writers);
        # as pg_terminate_backend() does it
        $kills++ if $victim->{operation} && kill 'TERM', $victim->{pid};
    }
    if (@crashes && time > $crashes[-1]) {
        pop @crashes;
        $crashed++ if kill 'KILL', pick(@writers)->{pid};
    }
}
# whoever is unsure asks once more
for my $w (@writers) {
    while ($w->{unsure}) {
        begin_operation($w);
        my $text = '';
        while (sysread $w->{out}, my $chunk, 65536) { $text .= $chunk; last if $text =~ /^end-of-answer$/m }
        answered($w, $text, 0);
        last if !$w->{operation} && !$w->{unsure};
    }
}

# --- the log
my $s = session(db => $db);
my @log = map { $json->decode($_) } split /\n/, $s->do(q(SELECT json_build_object('p', "position", 's', stream, 'v', version, 'i', id, 't', type, 'd', data, 'x', source) FROM trunkline.topic_store ORDER BY "position"));
my (%stream, %event, %at, @wrong);
sub wrong { my ($op, $what) = @_; push @wrong, "$what: $op->{sql} -> " . $json->encode({map { $_ => $op->{$_} } grep { defined $op->{$_} } qw(rows error message detail is_lost)}) if @wrong < 20; return }
my $disorder = 0;
for my $e (@log) {
    my $versions = $stream{$e->{s}} //= [];
    $disorder++ if $e->{v} != @$versions + 1;
    push @$versions, $e;
    $event{$e->{i}} = $e;
    $at{join '.', @{$e->{d}}{qw(w n i)}} = $e if ref $e->{d};
}
cmp_ok(scalar(@log), '>', 100, 'events: ' . @log . ', of ' . @operations . " operations; $kills sessions ended, $crashed crashes");
is($disorder, 0, 'EVS-3, EVS-8: versions are dense, in the order of positions');
is(scalar(grep { $_->{t} eq 'undone' } @log), 0, 'what was undone is not there');
is($s->do("SELECT count(*) FROM trunkline.streams s FULL JOIN (SELECT stream, max(version) AS version FROM trunkline.topic_store GROUP BY 1) e USING (stream) WHERE s.version IS DISTINCT FROM e.version"), 0, 'streams know their versions');
is($s->do("SELECT count(*) FROM trunkline.topic_store e FULL JOIN trunkline.dedup d USING (id) WHERE (d.stream, d.version) IS DISTINCT FROM (e.stream, e.version) AND (e.id IS NULL OR e.id::text LIKE '00000000-%')"), 0, 'ids given are known, and no others');
# the reader, to the end
push @read, split /\n/, $s->do("SELECT \"position\" FROM trunkline.read('store', " . ($read[-1] // 0) . ', 10000)');
is("@read", join(' ', map { $_->{p} } @log), 'EVS-8: a reader that followed missed nothing, in order');

# --- every answer
my %deleted;
for (split / /, $s->do(q(SELECT coalesce(string_agg((detail ->> 'stream') || '@' || (detail ->> 'version'), ' '), '') FROM trunkline.audit WHERE action = 'delete_stream'))) { $deleted{$1}{$2} = 1 if /(\S+)@(\d+)/ }

# What was acknowledged, by the time of the answer: versions that a later operation cannot have missed.
my @acks = sort { $a->{end} <=> $b->{end} } grep { $_->{rows} && !$_->{is_undone} } @operations;
sub at_least { my ($stream, $time) = @_; my $v = 0; for my $op (@acks) { last if $op->{end} > $time; for (@{$op->{rows}}) { $v = $_->{v} if $_->{s} eq $stream && $_->{v} > $v } } return $v }
# What had begun by then: versions that it may have seen.
my %begun = map { ("$_->{writer}.$_->{number}" => $_->{start}) } @operations;
sub at_most { my ($stream, $time) = @_; my $v = 0; for my $e (@{$stream{$stream} // []}) { my $start = ref $e->{d} ? $begun{"$e->{d}{w}.$e->{d}{n}"} : undef; last if defined $start && $start > $time; $v = $e->{v} } return $v }

my (%count, %maybe, %stored);
my %is_repeated = map { $_->{repeats} ? ("$_->{repeats}{writer}.$_->{repeats}{number}" => 1) : () } @operations;
for my $op (grep { !$_->{is_delete} } @operations) {
    my @events = map { my $write = $_; map { +{%$_, stream => $write->{stream}} } @{$write->{events}} } @{$op->{writes}};
    my $outcome = $op->{is_lost} ? 'lost' : $op->{error} ? $op->{error} : $op->{is_undone} ? 'undone' : $op->{rows}[0]{d} ? 'repeated' : 'stored';
    $count{$outcome}++;
    if ($op->{is_lost}) {
        # all of it or nothing: what has no id of the caller's cannot have come from elsewhere
        my @there = grep { $at{join '.', @{$_->{data}}{qw(w n i)}} } @events;
        wrong($op, 'a part of it is there') if @there && @there != @events && !$op->{is_altered} && !$op->{repeats} && !$is_repeated{"$op->{writer}.$op->{number}"};
        push @{$maybe{join '.', @{$_->{data}}{qw(w n i)}}}, $op for @events;
    } elsif ($op->{error}) {
        my $d = $op->{detail};
        if ($op->{error} eq 'TL001') {
            my ($write) = grep { $_->{stream} eq ($d->{stream} // '') } @{$op->{writes}};
            my $told = $write && $write->{expected} // 'any';
            $told = {0 => 'no_stream', -1 => 'exists'}->{$told} // $told;
            wrong($op, 'expected is not what was asked') if !$write || "$d->{expected}" ne "$told";
            my ($least, $most) = (at_least($d->{stream}, $op->{start}), at_most($d->{stream}, $op->{end}));
            wrong($op, "actual is none of $least .. $most") if $d->{actual} < $least || $d->{actual} > $most;
            wrong($op, 'no conflict') if $d->{reason} eq 'version' && ($told eq 'any' || "$d->{actual}" eq "$told" || $told eq 'no_stream' && $d->{actual} == 0 || $told eq 'exists' && $d->{actual} > 0);
            wrong($op, 'not deleted then') if $d->{reason} eq 'deleted' && !$deleted{$d->{stream}}{$d->{actual}};
            wrong($op, 'no such reason') if $d->{reason} !~ /^(version|deleted)$/;
        } elsif ($op->{error} eq 'TL003') {
            wrong($op, 'none of its ids is known') if !grep { $_->{id} && $event{$_->{id}} } @events;
            my ($asked) = grep { ($_->{id} // '') eq ($d->{id} // '-') } @events;
            my $known = $event{$d->{id} // ''};
            wrong($op, 'the content is the same') if $d->{reason} eq 'content' && (!$known || $known->{t} eq $asked->{type} && $json->encode($known->{d}) eq $json->encode($asked->{data}));
            wrong($op, 'the stream is the same') if $d->{reason} eq 'stream' && (!$known || $known->{s} eq $asked->{stream});
            wrong($op, 'no such reason') if $d->{reason} !~ /^(content|stream|partial|order|expectation)$/;
        } elsif ($op->{error} ne '40001') {
            wrong($op, 'an error that is none of ours');
        }
    } elsif (!$op->{is_undone}) {
        my @rows = @{$op->{rows}};
        wrong($op, 'not a row an event') if @rows != @events;
        for my $i (0 .. $#rows) {
            my ($row, $e, $asked) = ($rows[$i], $event{$rows[$i]{i}}, $events[$i]);
            wrong($op, "row $i is not what is in the log") if !$e || $e->{p} != $row->{p} || $e->{v} != $row->{v} || $e->{s} ne $row->{s} || $e->{t} ne $asked->{type} || $json->encode($e->{d}) ne $json->encode($asked->{data})
                || $asked->{id} && $asked->{id} ne $row->{i};
            push @{$stored{$row->{i}}}, $op if !$row->{d};
            wrong($op, 'repeated and stored at once') if !!$row->{d} != !!$rows[0]{d};
        }
        my ($first, $last) = ($rows[0]{p}, $rows[-1]{p});
        wrong($op, 'positions out of order') if grep { $rows[$_]{p} <= $rows[$_ - 1]{p} } 1 .. $#rows;
        for my $write (@{$op->{writes}}) {
            my @own = grep { $_->{s} eq $write->{stream} } @rows;
            my $expected = $write->{expected};
            wrong($op, 'versions are not one after the other') if grep { $own[$_]{v} != $own[0]{v} + $_ } 0 .. $#own;
            # the version it had: of its own events, or, only checked, of those before in the log; a repeat checks nothing again
            my $had;
            if (@own) {
                $had = $own[0]{v} - 1;
            } elsif (!$rows[0]{d}) {
                $had = scalar grep { $_->{p} < $first } @{$stream{$write->{stream}} // []};
                wrong($op, "stream $write->{stream} moved while it was checked") if defined $expected && grep { $_->{p} > $first && $_->{p} < $last } @{$stream{$write->{stream}} // []};
            }
            next if !defined $expected || !defined $had;
            wrong($op, "stream $write->{stream} was at $had") if $expected > 0 && $had != $expected || $expected == -1 && ($had == 0 || $deleted{$write->{stream}}{$had} && @own && !$rows[0]{d})
                || $expected == 0 && $had != 0 && !$deleted{$write->{stream}}{$had} && !($rows[0]{d} && $deleted{$write->{stream}});
        }
    }
}
# every event was stored by one operation that was told so, or by one that never heard
for my $e (@log) {
    my @by = @{$stored{$e->{i}} // []};
    my $lost = ref $e->{d} ? $maybe{join '.', @{$e->{d}}{qw(w n i)}} : undef;
    push @wrong, "an event that nobody stored, or several: " . join ' ', $json->encode($e), map { $_->{sql} } @by if @by > 1 || !@by && !$lost;
}
is(join("\n", @wrong[0 .. ($#wrong < 19 ? $#wrong : 19)]), '', 'every answer was true');
diag(join ', ', map { "$_ $count{$_}" } sort keys %count);
for my $what (qw(stored repeated TL001 TL003 lost undone)) { ok($count{$what}, "the history has some: $what") }
is($count{'40P01'} // 0, 0, 'no deadlock');
$s->close;
done_testing;
