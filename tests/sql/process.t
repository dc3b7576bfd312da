#!/usr/bin/perl
# DBH-2: process_event(): the SQL functions of one event, now. PUB-9: publish_and_wait() in SQL.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

database();
my ($s, $other) = map { session() } 1 .. 2;
my $mark = $$;
$s->do(q{CREATE TABLE public.seen (n bigint GENERATED ALWAYS AS IDENTITY, who text, event jsonb, role text DEFAULT current_user);
    CREATE FUNCTION public.see(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.seen (who, event) VALUES ('see', e) $$;
    CREATE FUNCTION public.fails(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.seen (who, event) VALUES ('half', e); RAISE EXCEPTION 'broken'; END $$;
    CREATE FUNCTION public.rejects(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never' USING ERRCODE = 'TL008'; END $$});
sub publish { my ($type, $more) = @_; return $s->do("SELECT id FROM trunkline.publish('$type', '{}'" . ($more // '') . ')') }
sub seen { my $rows = $s->do(q(SELECT string_agg(who || ':' || (event ->> 'type'), ' ' ORDER BY n) FROM public.seen)); $s->do('TRUNCATE public.seen'); return $rows }
sub process { my ($id) = @_; return $s->do("SELECT trunkline.process_event('$id')") }
sub subscribe { my ($name, $pattern, $function, $more) = @_; return $s->do("SELECT trunkline.subscribe('$name', '$pattern', target => 'sql:$function'" . ($more // '') . ')') }

is(process('00000000-0000-4000-8000-000000000001'), 'f', 'an unknown event: false');
subscribe('one', 'a.*', 'public.see');
my @ids = map { publish("a.$_") } 1 .. 3;
is(process($ids[1]), 't', 'DBH-2 done: true');
is(seen(), 'see:a.1 see:a.2', 'what waits before it first, in order, nothing after it is lost');
is(process($ids[1]), 't', 'again: true');
is(seen(), '', 'DBH-2 the second run does nothing');
is(process($ids[2]), 't', 'the next');
is(seen(), 'see:a.3', 'goes on there');
is($s->do('SELECT count(*) FROM trunkline.leases'), 0, 'no lease is left');
is($s->do("SELECT count(*) FROM trunkline.claim('one')"), 0, 'and nothing to claim');

subtest 'one that fails' => sub {
    subscribe('bad', 'b.*', 'public.fails', q(, priority => 9, retry_delay => '1 h', retry_cap => '1 h'));
    subscribe('good', 'b.*', 'public.see');
    subscribe('never', 'b.*', 'public.rejects');
    subscribe('gone', 'b.*', 'public.see');
    $s->do("UPDATE trunkline.subscriptions SET active = false WHERE name = 'gone'");
    my $id = publish('b.1');
    is(process($id), 'f', 'DBH-2 false');
    is(seen(), 'see:b.1', 'the others run, its own effects are undone');
    is($s->do("SELECT string_agg(subscription || ':' || state || ':' || coalesce(error, ''), ' ' ORDER BY subscription) FROM trunkline.outcomes('$id')"),
        'bad:retrying:broken (P0001) gone:pending: good:completed: never:failed:never (TL008)', 'the failure is recorded, a refusal is a dead letter, a paused one waits');
    is(process($id), 'f', 'false until it is done');
    is(seen(), '', 'not tried before its time');
    $s->do('CREATE OR REPLACE FUNCTION public.fails(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.seen (who, event) VALUES (\'mended\', e) $$; UPDATE trunkline.retries SET next_attempt_at = now()');
    process($id);
    is(seen(), 'mended:b.1', 'then it is');
    $s->do("SELECT trunkline.unsubscribe(name, force => true) FROM trunkline.subscriptions WHERE name IN ('bad', 'never', 'gone')");
    is(process($id), 't', 'all that is left have done it');
};

subtest 'not yet, not here' => sub {
    $s->do('BEGIN');
    my $id = publish('a.9');
    is(process($id), 'f', 'not committed: false');
    $s->do('COMMIT');
    $other->do("SELECT * FROM trunkline.claim('one')");
    is(process($id), 'f', 'another process has it: false');
    is(seen(), '', 'and not called twice');
    $s->do("UPDATE trunkline.leases SET held = false");
    $s->do('DROP FUNCTION public.see(jsonb)');
    is(process($id), 'f', 'the function is missing: false');
    $s->do(q{CREATE FUNCTION public.see(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.seen (who, event) VALUES ('see', e) $$});
    is($s->do("BEGIN; SELECT trunkline.process_event('$id'); ROLLBACK"), 't', 'in a transaction');
    is(seen(), '', 'it rolls back with it');
    is(process($id), 't', 'and can be done again');
    is(seen(), 'see:a.9', 'once');
};

subtest 'rights' => sub {
    my $role = "tl_process_$mark";
    $s->do("CREATE ROLE $role LOGIN; SELECT trunkline.grant_consume('$role'); GRANT CREATE ON SCHEMA public TO $role; CREATE TABLE public.mine (x text)");
    my $low = session(role => $role);
    $low->do("CREATE FUNCTION public.sly(e jsonb) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO public.mine VALUES (current_user) \$\$;
        SELECT trunkline.subscribe('sly', 'c.*', target => 'sql:public.sly')");
    my $id = publish('c.1');
    is(process($id), 'f', 'a function of a low role');
    is($s->do("SELECT error FROM trunkline.outcomes('$id')"), 'permission denied for table mine (42501)', 'has the rights of that role, whoever calls');
    is($s->do('SELECT count(*) FROM public.mine'), 0, 'and does nothing it may not');
    is($s->do('SELECT current_user'), $s->do('SELECT session_user'), 'the caller is who it was');
    $s->do("GRANT INSERT ON public.mine TO $role; UPDATE trunkline.retries SET next_attempt_at = now()");
    is(process($id), 't', 'what it may it does');
    is($s->do('SELECT x FROM public.mine'), $role, 'as itself');
    subscribe('owners', 'd.*', 'public.see');
    $id = publish('d.1');
    is($low->do("SELECT trunkline.process_event('$id')"), 'f', 'a low role does not call for the owner');
    like($s->do("SELECT error FROM trunkline.outcomes('$id')"), qr/permission denied to set role/, 'and the attempt is recorded');
    $s->do("DROP OWNED BY $role; DROP ROLE $role; SELECT trunkline.unsubscribe('owners', force => true), trunkline.unsubscribe('sly', force => true)");
};

subtest 'publish_and_wait()' => sub {
    is($s->do("CALL trunkline.publish_and_wait('x', '1')") =~ s/^\d+//r, '|t|[]', 'nobody to wait for');
    $s->do("SELECT trunkline.subscribe('sync', 'w.*', mode => 'sync', max_attempts => 1)");
    like($s->do("CALL trunkline.publish_and_wait('w.a', '1', wait => '50 ms')"), qr/^\d+\|f\|.*"state": "pending"/, 'PUB-9 not handled in time');
    my $token = $s->do("SELECT token FROM trunkline.claim('sync')");
    $s->do("SELECT trunkline.ack('$token')");
    for my $case (['', qr/^\d+\|t\|.*"state": "completed"/, 'handled'],
        [q(, NULL, jsonb_build_array(jsonb_build_object('position', max("position"), 'error', 'no', 'verdict', 'fail'))), qr/^\d+\|f\|.*"error": "no".*"state": "failed"/, 'given up']) {
        $s->start("CALL trunkline.publish_and_wait('w.b', '1', key => 'k', wait => '25 s')");
        my $ack;
        wait_until(sub { $ack = $other->do("WITH c AS MATERIALIZED (SELECT * FROM trunkline.claim('sync')) SELECT count(*) || '|' || max(token::text) || '|' || max(\"position\") FROM c") });
        my (undef, $t, $p) = split /\|/, $ack;
        $other->do("SELECT trunkline.ack('$t'" . ($case->[0] =~ s/max\("position"\)/$p/r) . ')');
        like($s->finish, $case->[1], "PUB-9 $case->[2] while it waits");
    }
    my $count = $s->do('SELECT count(*) FROM trunkline.topic_bus');
    is($s->error("BEGIN; CALL trunkline.publish_and_wait('w.c', '1')")->{state}, '2D000', 'not in a transaction');
    $s->do('ROLLBACK');
    is($s->do('SELECT count(*) FROM trunkline.topic_bus'), $count, 'nothing is stored');
    my $role = "tl_wait_$mark";
    $s->do("CREATE ROLE $role LOGIN; SELECT trunkline.grant_publish('$role')");
    my $low = session(role => $role);
    is($low->error("CALL trunkline.publish_and_wait('w.c', '1')")->{state}, '42501', 'not for publishers alone');
    $s->do("SELECT trunkline.grant_consume('$role')");
    like($low->do("CALL trunkline.publish_and_wait('v', '1')"), qr/^\d+\|t/, 'for who may do both');
    is($s->do('SELECT count(*) FROM trunkline.topic_bus'), $count + 1, 'and nothing else is stored');
    $s->do("DROP OWNED BY $role; DROP ROLE $role");
};
done_testing;
