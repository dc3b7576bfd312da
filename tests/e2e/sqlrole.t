#!/usr/bin/env perl
# trunkline serve calls SQL functions with the rights of the role that subscribed (DBH-1, WRK-7, WRK-9, WRK-10).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my ($low, $daemon) = ("tl_low_$$", "tl_daemon_$$"); # roles belong to the cluster
sub state_of { my ($name) = @_; return query($db, "SELECT o.state FROM trunkline.topic_bus e, trunkline.outcomes(at => e.position) o WHERE o.subscription = '$name' ORDER BY e.position DESC LIMIT 1") }
sub last_error { return query($db, "SELECT error_message FROM trunkline.retries r JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = '$_[0]'") }
sub try_again { query($db, 'UPDATE trunkline.retries SET next_attempt_at = now() WHERE token IS NULL') }

query($db, qq(CREATE ROLE $low LOGIN; SELECT trunkline.grant_consume('$low'); GRANT CREATE ON SCHEMA public TO $low;
    CREATE TABLE public.ledger (who text, event jsonb); CREATE TABLE public.theirs (who text, event jsonb); GRANT INSERT ON public.theirs TO $low));
query("$db user=$low", q(CREATE FUNCTION public.theirs(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.theirs VALUES (current_user, e) $$;
    CREATE FUNCTION public.steals(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ledger VALUES (current_user, e) $$;
    SELECT trunkline.subscribe('low/theirs', 'a.*', target => 'sql:public.theirs');
    SELECT trunkline.subscribe('low/steals', 'b.*', target => 'sql:public.steals', retry_delay => '1 h')));
query($db, q(CREATE FUNCTION public.owners(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ledger VALUES (current_user, e) $$;
    REVOKE EXECUTE ON FUNCTION public.owners(jsonb) FROM PUBLIC;
    SELECT trunkline.subscribe('owner/ledger', 'c.*', target => 'sql:public.owners')));
my $owner = query($db, 'SELECT current_user');

my $serve = start_serve($db, []);
tl_ok(['publish', "$_.1", '1']) for qw(a b c);
ok wait_for(sub { state_of('low/theirs') eq 'completed' }), 'DBH-1 a function of a low role';
is query($db, 'SELECT who FROM public.theirs'), $low, 'runs as that role';
ok wait_for(sub { last_error('low/steals') ne '' }), 'one that reaches for more';
is last_error('low/steals'), 'permission denied for table ledger (42501)', 'has no rights of the daemon or the owner';
ok wait_for(sub { state_of('owner/ledger') eq 'completed' }), 'a function of the owner';
is query($db, 'SELECT who FROM public.ledger'), $owner, 'runs as the owner, and nobody else has written there';

# A role registers the owner's function: it needs the right to call it.
query("$db user=$low", q(SELECT trunkline.subscribe('low/borrows', 'd.*', target => 'sql:public.owners', retry_delay => '1 h')));
tl_ok(['publish', 'd.1', '1']);
ok wait_for(sub { last_error('low/borrows') ne '' }), 'a function that the role may not call';
is last_error('low/borrows'), 'permission denied for function owners (42501)', 'is not called';
# and takes over the owner's subscription: it is the low role's then
query("$db user=$low", q(UPDATE trunkline.subscriptions SET target = 'sql:public.steals', retry_delay = '1 h' WHERE name = 'owner/ledger'));
ok wait_for(sub { (() = slurp($serve->{err}) =~ /event=served subscription=owner\/ledger/g) == 2 }), 'a target written by hand';
tl_ok(['publish', 'c.2', '1']);
ok wait_for(sub { last_error('owner/ledger') ne '' }), 'by a low role';
like last_error('owner/ledger'), qr/^permission denied for table ledger/, 'has the rights of that role';
is query($db, 'SELECT count(*) FROM public.ledger'), '1', 'nothing was written';

# WRK-7: exactly once, in one transaction with the ack, in this role too.
query($db, qq(GRANT INSERT ON public.ledger TO $low));
try_again();
ok wait_for(sub { state_of('low/steals') =~ /completed/ && query($db, "SELECT count(*) FROM public.ledger WHERE who = '$low'") eq '2' }), 'with the right it is done';
is query($db, 'SELECT count(*) FROM trunkline.retries r JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = $$low/steals$$'), '0', 'WRK-7 once, with the ack';

# WRK-10: the subscription's time limit; WRK-9: a slow or failing function neither stops nor repeats others.
query($db, q(CREATE TABLE public.calls (who text, event jsonb);
    CREATE FUNCTION public.slow(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.calls VALUES ('slow', e); SELECT pg_sleep(1000) $$;
    CREATE FUNCTION public.fails(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
    CREATE FUNCTION public.first(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.calls VALUES ('first', e) $$;
    CREATE FUNCTION public.second(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.calls VALUES ('second', e) $$));
tl_ok(['subscribe', "w/$_->[0]", 'w.*', '--target', "sql:public.$_->[0]", '--priority', $_->[1], '--retry-delay', '1h', @{$_->[2] // []}])
    for ['slow', 10, ['--timeout', '300ms']], ['first', 5], ['fails', 7], ['second', 1];
ok wait_for(sub { slurp($serve->{err}) =~ /event=served subscription=w\/second/ }), 'four subscriptions';
tl_ok(['publish', 'w.1', '1']);
ok wait_for(sub { state_of('w/second') eq 'completed' && state_of('w/first') eq 'completed' }), 'WRK-9 those that work are done';
ok wait_for(sub { last_error('w/slow') ne '' }), 'WRK-10 the slow one ends at its limit';
like last_error('w/slow'), qr/statement timeout \(57014\)$/, 'as what it is';
is last_error('w/fails'), 'no (P0001)', 'the failing one failed';
is query($db, q(SELECT string_agg(who, ' ' ORDER BY who) FROM public.calls)), 'first second', 'WRK-9 the others ran once each';
is stop_program($serve), 0, 'stop';

# A daemon with a role of its own.
query($db, qq(CREATE ROLE $daemon LOGIN; SELECT trunkline.grant_consume('$daemon')));
$serve = start_serve("$db user=$daemon", []);
ok wait_for(sub { slurp($serve->{err}) =~ /event=not_served subscription=low\/theirs kind=sqlfunction reason="the daemon's role is not a member of the role that subscribed"/ }),
    'a daemon that is no member does not serve, and says so' or diag slurp($serve->{err});
tl_ok(['publish', 'a.2', '1']);
is state_of('low/theirs'), 'pending', 'the event waits';
query($db, qq(GRANT $low TO $daemon));
ok wait_for(sub { state_of('low/theirs') eq 'completed' }), 'a member serves at once';
is query($db, 'SELECT count(*) FROM public.theirs WHERE who = $$' . $low . '$$'), '2', 'as the role that subscribed';
query($db, qq(REVOKE $low FROM $daemon));
tl_ok(['publish', 'a.3', '1']);
ok wait_for(sub { (() = slurp($serve->{err}) =~ /event=not_served subscription=low\/theirs/g) >= 2 }), 'membership ends: not served';
query($db, qq(GRANT $low TO $daemon));
try_again();
ok wait_for(sub { state_of('low/theirs') eq 'completed' }), 'nothing is lost';
is stop_program($serve), 0, 'stop';

# The role is gone altogether.
query($db, qq(UPDATE trunkline.subscriptions SET active = false WHERE name <> 'low/theirs'; DROP OWNED BY $low CASCADE; DROP OWNED BY $daemon; DROP ROLE $low; DROP ROLE $daemon;
    CREATE FUNCTION public.theirs(e jsonb) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO public.theirs VALUES (current_user, e) \$\$));
$serve = start_serve($db, []);
ok wait_for(sub { slurp($serve->{err}) =~ /event=not_served subscription=low\/theirs/ }), 'the role is gone: not served';
query($db, q(SELECT trunkline.subscribe('low/theirs', 'a.**', target => 'sql:public.theirs')));
tl_ok(['publish', 'a.4', '1']);
ok wait_for(sub { state_of('low/theirs') eq 'completed' }), 'somebody else subscribes it again';
is stop_program($serve), 0, 'stop';
done_testing;
