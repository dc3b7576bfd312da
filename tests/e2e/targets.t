#!/usr/bin/env perl
# trunkline serve with commands and SQL functions as targets (WRK-6, WRK-7, DBH-1, DBH-3, RET-3).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $dir = workdir();
my $out;
# What is not to time out has ten minutes.
sub subscribe { my ($name, $pattern, $target, @more) = @_; return tl_ok(['subscribe', $name, $pattern, '--target', $target, '--timeout', '10min', @more]) }
sub pending { return query($db, "SELECT behind + leased + retrying FROM trunkline.subscription_status WHERE name = '$_[0]'") }
sub settled { my ($name) = @_; return wait_for(sub { pending($name) eq '0' }) }
sub last_error { return query($db, "SELECT error_message FROM trunkline.retries r JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = '$_[0]'") }
# Sessions of this database that wait for an advisory lock; the cluster has others.
sub blocked { return query($db, q(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))) }
sub dead { return query($db, "SELECT dead FROM trunkline.subscription_status WHERE name = '$_[0]'") }

# Commands run only where that was allowed.
subscribe('run/all', 'job.*', "exec:cat >> $dir/events; echo >> $dir/events; env | grep ^TRUNKLINE_ >> $dir/env");
my $serve = start_serve($db, []);
ok wait_for(sub { slurp($serve->{err}) =~ /event=not_served subscription=run\/all kind=exec reason=".*--allow-exec/ }),
    'on a configured database commands need --allow-exec';
tl_ok(['publish', 'job.one', qq({"a": "it's; \$(touch $dir/injected) \\"quoted\\""}), '--key', 'k']);
is pending('run/all'), '1', 'the event waits';
is stop_program($serve), 0, 'stop';
$serve = start_serve($db, ['--allow-exec', '--exec-timeout', '5s']);
ok settled('run/all'), 'WRK-6 a command is run';
my $event = decode(slurp("$dir/events"));
is $event->{type}, 'job.one', 'with the event on stdin';
is $event->{data}{a}, qq(it's; \$(touch $dir/injected) "quoted"), 'as it is';
ok !-e "$dir/injected", 'data is never part of the command';
my %env = slurp("$dir/env") =~ /^TRUNKLINE_(EVENT_ID|EVENT_TYPE|SUBSCRIPTION|ATTEMPT|DELIVERY_ID)=(.*)$/mg;
like $env{DELIVERY_ID}, qr/^\Q$event->{id}\E\.\d+$/, 'TRUNKLINE_DELIVERY_ID';
is_deeply [@env{qw(EVENT_ID EVENT_TYPE SUBSCRIPTION ATTEMPT)}], [$event->{id}, 'job.one', 'run/all', 1], 'and the others';

# Failures: exit status, stderr, signals, attempts.
subscribe('run/fail', 'fail.*', "exec:echo \"attempt \$TRUNKLINE_ATTEMPT\" >&2; [ \$TRUNKLINE_ATTEMPT -ge 3 ]", '--retry-delay', '1ms');
tl_ok(['publish', 'fail.one', '1']);
ok settled('run/fail'), 'a failure is tried again';
is scalar(() = slurp($serve->{err}) =~ /event=delivery_failed subscription=run\/fail .*result=retry reason="exit status 1"/g), 2, 'logged by its exit status';
unlike slurp($serve->{err}), qr/attempt 1/, 'without what it said';
subscribe('run/never', 'never.*', "exec:head -c 100000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 75", '--retry-delay', '1h');
tl_ok(['publish', 'never.one', '1']);
ok wait_for(sub { last_error('run/never') ne '' }), 'exit 75';
like last_error('run/never'), qr/^exit status 75: x+the end$/, 'the end of stderr is kept';
cmp_ok length(last_error('run/never')), '<=', 2000, 'no more than that';
subscribe('run/killed', 'killed.*', 'exec:kill -9 $$', '--max-attempts', 2, '--retry-delay', '1ms');
tl_ok(['publish', 'killed.one', '1']);
ok wait_for(sub { dead('run/killed') eq '1' }), 'after max_attempts it is a dead letter';
is query($db, q(SELECT attempts, error_message FROM trunkline.dead_letters)), '2|ended by signal 9', 'with its last error';

# A command that hangs: its whole group ends.
tl_ok(['subscribe', 'run/hang', 'hang.*', '--target', "exec:sleep 1000 & echo \$! > $dir/grandchild; wait", '--retry-delay', '1h']);
tl_ok(['publish', 'hang.one', '1']);
ok wait_for(sub { last_error('run/hang') ne '' }), 'a time-out';
is last_error('run/hang'), 'timed out after 5000 ms', 'named';
my ($grandchild) = slurp("$dir/grandchild") =~ /(\d+)/;
ok wait_for(sub { !kill 0, $grandchild }), 'with the children of the command';

# A command that does not read a large event is none the worse.
subscribe('run/deaf', 'deaf.*', 'exec:true');
tl_ok(['publish', 'deaf.one'], stdin => '"' . 'x' x 500_000 . '"');
ok settled('run/deaf'), 'a command need not read its input';

# SQL functions.
query($db, q(CREATE TABLE public.seen (n bigint GENERATED ALWAYS AS IDENTITY, event jsonb, txid bigint DEFAULT txid_current());
    CREATE FUNCTION public.on_event(event jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO public.seen (event) VALUES (event)';
    CREATE SCHEMA "My ""odd"" schema";
    CREATE FUNCTION "My ""odd"" schema"."select; drop table public.seen"(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.seen (event) VALUES (jsonb_build_object('odd', event)); RETURN event; END $$));
subscribe('sql/all', 'db.**', 'sql:public.on_event');
tl_ok(['publish', 'db.row.added', q<{"name": "x'); DROP TABLE public.seen; --"}>, '--metadata', '{"m": 1}']);
ok settled('sql/all'), 'DBH-1 a SQL function is called';
$event = decode(query($db, 'SELECT event FROM public.seen'));
my $injection = q<x'); DROP TABLE public.seen; -->;
is_deeply [$event->{type}, $event->{data}{name}, $event->{metadata}], ['db.row.added', $injection, {m => 1}],
    'DBH-3 with the event as a bound value';
subscribe('sql/odd', 'odd.*', 'sql:"My ""odd"" schema"."select; drop table public.seen"');
tl_ok(['publish', 'odd.one', '1']);
ok settled('sql/odd'), 'DBH-3 names are names';
is query($db, q(SELECT count(*) FROM public.seen WHERE event ? 'odd')), '1', 'called once';

# WRK-7: effect and acknowledgement are one transaction; a failure leaves nothing.
query($db, q(CREATE FUNCTION public.fragile(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.seen (event) VALUES ('"half"');
    IF (SELECT count(*) FROM public.broken) > 0 THEN RAISE EXCEPTION 'broken: %', event ->> 'type' USING ERRCODE = '22012'; END IF;
    END $$; CREATE TABLE public.broken (x int); INSERT INTO public.broken VALUES (1)));
subscribe('sql/fragile', 'fragile.*', 'sql:public.fragile', '--retry-delay', '20ms', '--retry-cap', '200ms', '--max-attempts', 1000);
tl_ok(['publish', 'fragile.one', '1']);
ok wait_for(sub { last_error('sql/fragile') ne '' }), 'a function that raises';
is last_error('sql/fragile'), 'broken: fragile.one (22012)', 'its error is kept';
is query($db, q(SELECT count(*) FROM public.seen WHERE event = '"half"')), '0', 'WRK-7 its effects are not';
like slurp($serve->{err}), qr/subscription=sql\/fragile .*reason="sqlstate 22012"/, 'the log has the code only';
query($db, 'DELETE FROM public.broken');
ok settled('sql/fragile'), 'repaired: it is done';
is query($db, q(SELECT count(*) FROM public.seen WHERE event = '"half"')), '1', 'once';

# A function that tries to end the transaction.
query($db, q(CREATE PROCEDURE public.p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
    CREATE FUNCTION public.ender(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.seen (event) VALUES ('"ended"'); CALL public.p(); END $$));
subscribe('sql/ender', 'ender.*', 'sql:public.ender', '--retry-delay', '1h');
tl_ok(['publish', 'ender.one', '1']);
ok wait_for(sub { last_error('sql/ender') ne '' }), 'a function cannot commit';
is query($db, q(SELECT count(*) FROM public.seen WHERE event = '"ended"')), '0', 'and leaves nothing';

# The domain's refusal is final.
query($db, q(CREATE FUNCTION public.refuses(event jsonb) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'already shipped' USING ERRCODE = 'TL008'; END $$));
subscribe('sql/refuses', 'refuse.*', 'sql:public.refuses');
tl_ok(['publish', 'refuse.one', '1']);
ok wait_for(sub { dead('sql/refuses') eq '1' }), 'TL008: a dead letter at once';
is query($db, q(SELECT attempts, reason FROM trunkline.dead_letters WHERE subscription = 'sql/refuses')), '1|rejected', 'rejected';

# A slow function does not hold up webhooks or commands.
query($db, q(CREATE FUNCTION public.waits(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(4711)'));
my ($session, $sql) = psql_session($db);
print {$sql} "SELECT pg_advisory_lock(4711); SELECT 'locked';\n";
ok wait_for(sub { slurp($session->{out}) =~ /locked/ }), 'a lock is held';
subscribe('sql/waits', 'wait.*', 'sql:public.waits');
tl_ok(['publish', 'wait.one', '1']);
ok wait_for(sub { blocked() eq '1' }), 'a function waits for it';
tl_ok(['publish', 'job.two', '2']);
ok settled('run/all'), 'commands go on meanwhile';
close $sql;
wait_exit($session);
ok settled('sql/waits'), 'then it is done';

# The function goes and comes back.
query($db, 'DROP FUNCTION public.on_event(jsonb)');
ok wait_for(sub { slurp($serve->{err}) =~ /event=not_served subscription=sql\/all / }), 'no function: not served';
tl_ok(['publish', 'db.row.changed', '2']);
query($db, q(CREATE FUNCTION public.on_event(event jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO public.seen (event) VALUES (event)'));
ok settled('sql/all'), 'when it is there again it gets what waited';

is stop_program($serve), 0, 'stop';
is query($db, 'SELECT count(*) FROM trunkline.leases WHERE held'), '0', 'nothing is held';

# A function that does not end cannot keep the daemon from ending.
($session, $sql) = psql_session($db);
print {$sql} "SELECT pg_advisory_lock(4711); SELECT 'locked';\n";
ok wait_for(sub { slurp($session->{out}) =~ /locked/ }), 'a lock is held again';
$serve = start_serve($db, ['--stop-timeout', '200ms']);
tl_ok(['publish', 'wait.two', '1']);
ok wait_for(sub { blocked() eq '1' }), 'a function waits for it';
is stop_program($serve), 7, 'stop timeout: 7';
close $sql;
wait_exit($session);
ok wait_for(sub { query($db, q(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trunkline serve')) eq '0' }), 'its connection ends';
done_testing;
