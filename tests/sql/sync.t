#!/usr/bin/perl
# SUB-4, DBH-1, DBH-3: subscriptions whose SQL function runs in the publisher's transaction.
use strict;
use warnings;
use lib 'tests/sql';
use JSON::PP ();
use SqlTest;
use Test::More;

database();
my ($s, $other) = map { session() } 1 .. 2;
my $mark = $$;
my ($publisher, $consumer) = ("tl_sync_publisher_$mark", "tl_sync_consumer_$mark");
$s->do("CREATE ROLE $publisher LOGIN; CREATE ROLE $consumer LOGIN;
    SELECT trunkline.grant_publish('$publisher'); SELECT trunkline.grant_consume('$consumer')");
$s->do(q{CREATE TABLE public.seen (n bigint GENERATED ALWAYS AS IDENTITY, who text, event jsonb, role text DEFAULT current_user);
    CREATE FUNCTION public.see(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.seen (who, event) VALUES ('see', e) $$;
    CREATE FUNCTION public.look(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.seen (who, event) VALUES ('look', e) $$;
    CREATE FUNCTION public.refuse(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'no stock' USING ERRCODE = 'P0042', DETAIL = 'secret detail', HINT = 'Order some.'; END $$;
    CREATE SCHEMA "o'dd "" -- ";
    CREATE FUNCTION "o'dd "" -- "."f; drop table public.seen"(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.seen (who, event) VALUES ('odd', e) $$});

sub trigger { my ($topic) = @_; return $s->do("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'trunkline.topic_@{[$topic // 'bus']}'::regclass AND tgname = 'sync'") }
sub seen { my $rows = $s->do(q(SELECT string_agg(who || ':' || (event ->> 'type'), ' ' ORDER BY n) FROM public.seen)); $s->do('TRUNCATE public.seen'); return $rows }
sub subscribe { my ($name, $pattern, $function, $more) = @_; return $s->do("SELECT trunkline.subscribe('$name', '$pattern', target => 'sql:$function', mode => 'sync'" . ($more // '') . ')') }

is(trigger(), 0, 'SUB-4 a topic without such a subscription has no trigger');
$s->do("SELECT trunkline.subscribe('async', '*', target => 'sql:public.see'); SELECT trunkline.subscribe('web', '*', target => 'https://example.com/', mode => 'sync');
    SELECT trunkline.unsubscribe('async'); SELECT trunkline.unsubscribe('web')");
is(trigger(), 0, 'nor do async ones, or sync ones with other targets, make one');
subscribe('a/see', 'order.**', 'public.see');
is(trigger() . trigger('store'), '10', 'the topic has one now, others have none');

subtest 'every way to publish' => sub {
    $s->do("SELECT trunkline.publish('order.a', '1'); SELECT trunkline.publish('other.a', '1'); SELECT trunkline.publish('order.b', '1', event_id => gen_random_uuid())");
    is(seen(), 'see:order.a see:order.b', 'publish(), with an id too');
    $s->do(q(SELECT trunkline.publish_batch('[{"type": "order.c"}, {"type": "x"}, {"type": "order.d"}]')));
    is(seen(), 'see:order.c see:order.d', 'publish_batch(), in order');
    $s->do("INSERT INTO trunkline.topic_bus (type, data) SELECT 'order.' || i, '1' FROM generate_series(1, 3) i");
    is(seen(), 'see:order.1 see:order.2 see:order.3', 'INSERT');
    $s->do("COPY trunkline.topic_bus (type, data) FROM STDIN;\norder.x\t1\nno\t1\norder.y\t2\n\\.");
    is(seen(), 'see:order.x see:order.y', 'COPY');
    my $p = session(role => $publisher);
    $p->do("SELECT trunkline.publish('order.p', '{\"a\": 1}', key => 'k')");
    is($s->do('SELECT role FROM public.seen'), $s->do('SELECT current_user'), 'with the rights of the owner');
    my $event = JSON::PP::decode_json($s->do('SELECT event FROM public.seen'));
    is_deeply([sort keys %$event], [qw(created_at data expires_at id key metadata position source stream tenant_id type version)],
        'the function gets the event as web hooks get it');
    is_deeply([@$event{qw(type key data)}], ['order.p', 'k', {a => 1}], 'whole');
    seen();
    $s->do("BEGIN; SELECT trunkline.publish('order.a', '1'); ROLLBACK");
    is(seen(), '', 'what is rolled back is rolled back with it');
};

subtest 'which events, and in which order' => sub {
    subscribe('b/look', '**', 'public.look', ", priority => 9, tenant_id => 't'");
    subscribe('a/odd', '*', q("o''dd "" -- "."f; drop table public.seen"), q(, filter => '{"n": 1}', filter_path => '$.m > 2'));
    is(trigger(), 1, 'one trigger for all');
    $s->do("SELECT trunkline.publish('order.a', '1', tenant_id => 't'); SELECT trunkline.publish('z', '1', tenant_id => 'u')");
    is(seen(), 'look:order.a see:order.a', 'higher priority first; tenant');
    $s->do(q(SELECT trunkline.publish(t, d::jsonb) FROM (VALUES ('m', '{"n": 1, "m": 3}'), ('no1', '{"n": 2, "m": 3}'), ('no2', '{"n": 1, "m": 2}'), ('a.m', '{"n": 1, "m": 3}')) v(t, d)));
    is(seen(), 'odd:m odd:a.m', 'DBH-3 filters; a name is a name');
    subscribe('a/also', 'order.*', 'public.look');
    $s->do(q(SELECT trunkline.publish_batch('[{"type": "order.c"}, {"type": "order.d"}]')));
    is(seen(), 'look:order.c look:order.d see:order.c see:order.d', 'then by name; by position within one');
    $s->do("SELECT trunkline.unsubscribe('a/also'); SELECT trunkline.unsubscribe('b/look'); SELECT trunkline.unsubscribe('a/odd')");
    is(trigger(), 1, 'the trigger stays while one is left');
};

subtest 'a refusal' => sub {
    subscribe('shop/stock', 'order.refused', 'public.refuse');
    my $error = $s->error(q(SELECT trunkline.publish('order.refused', '{"payload": "hidden"}')));
    is($error->{state}, 'TL008', 'SUB-4 refuses the publish');
    is($error->{message}, 'subscription "shop/stock" refused an event of type order.refused: no stock', 'the message names the subscription');
    is_deeply(JSON::PP::decode_json($error->{detail}),
        {subscription => 'shop/stock', type => 'order.refused', sqlstate => 'P0042', message => 'no stock'}, 'the detail is for programs');
    unlike(join(' ', %$error), qr/hidden|secret/, 'nothing of the payload is in it');
    is($error->{hint}, 'Order some.', 'the hint of the function');
    is($s->do("SELECT count(*) FROM trunkline.topic_bus WHERE type = 'order.refused'"), 0, 'nothing is stored');
    is(seen(), '', 'and others have done nothing');
    is($s->error(q(SELECT trunkline.publish_batch('[{"type": "order.fine"}, {"type": "order.refused"}]')))->{state}, 'TL008', 'a batch is refused whole');
    is($s->error("COPY trunkline.topic_bus (type, data) FROM STDIN;\norder.refused\t1\n\\.")->{state}, 'TL008', 'COPY is refused');
    is($s->error("SELECT trunkline.publish('order.refused', '1', event_id => gen_random_uuid())")->{state}, 'TL008', 'with an id too');
    is(seen(), '', 'nothing of them is left');
    $s->do(q{CREATE OR REPLACE FUNCTION public.refuse(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE serialization_failure; END $$});
    my $again = $s->error("SELECT trunkline.publish('order.refused', '1')");
    is($again->{state}, '40001', 'a serialization failure stays one: who publishes begins again');
    like($again->{message}, qr/^subscription "shop\/stock"/, 'and names the subscription');
    $s->do('DROP FUNCTION public.refuse(jsonb)');
    my $missing = $s->error("SELECT trunkline.publish('order.refused', '1')");
    is($missing->{state}, 'TL008', 'a missing function refuses');
    like($missing->{message}, qr/there is no function public\.refuse\(jsonb\)/, 'and is named');
    $s->do("SELECT trunkline.unsubscribe('shop/stock')");
};

subtest 'delayed events' => sub {
    my $move = sub { $s->do("UPDATE trunkline.scheduled SET due_at = now(); SELECT trunkline.move_due()") };
    $s->do("SELECT trunkline.publish('order.delayed', '1', run_at => now() + interval '1 h')");
    is(seen(), '', 'PUB-4 not before they are due');
    is($move->(), 1, 'moved into the log');
    is(seen(), 'see:order.delayed', 'then the function is called');
    $s->do(q{CREATE OR REPLACE FUNCTION public.refuse(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no stock'; END $$});
    subscribe('shop/stock', 'order.refused', 'public.refuse');
    $s->do("SELECT trunkline.publish('order.refused', '1', run_at => now() + interval '1 h'); SELECT trunkline.publish('order.fine', '1', run_at => now() + interval '1 h')");
    is($move->(), 1, 'one is refused, which does not hold up others');
    is(seen(), 'see:order.fine', 'those are handled');
    like($s->do('SELECT error FROM trunkline.scheduled'), qr/^TL008: subscription "shop\/stock" refused an event of type order\.refused: no stock$/, 'the refusal is kept with the event');
    $s->do("SELECT trunkline.unsubscribe('shop/stock')");
    is($move->(), 1, 'and it is moved when nobody refuses it');
    seen();
};

subtest 'handlers that publish' => sub {
    $s->do(q{CREATE FUNCTION public.step(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        IF (e -> 'data')::int > 0 THEN PERFORM trunkline.publish('step', to_jsonb((e -> 'data')::int - 1)); END IF;
        INSERT INTO public.seen (who, event) VALUES ('step', e); END $$});
    subscribe('step', 'step', 'public.step');
    $s->do("SELECT trunkline.publish('step', '3')");
    is($s->do("SELECT string_agg(event ->> 'data', ' ' ORDER BY event ->> 'data') FROM public.seen"), '0 1 2 3', 'to their own topic');
    seen();
    $s->do("SELECT trunkline.publish('step', '15')");
    my $error = $s->error("SELECT trunkline.publish('step', '16')");
    is($error->{state}, 'TL008', 'not without end');
    like($error->{message}, qr/^subscription "step" refused an event of type step: handlers publish to their own topic, more than 16 deep$/, 'said once');
    is(JSON::PP::decode_json($error->{detail})->{sqlstate}, 'TL007', 'with the limit');
    $s->do("SELECT trunkline.unsubscribe('step'); TRUNCATE public.seen");
};

subtest 'pause, resume, change, unsubscribe' => sub {
    my $name = 'a/see';
    $s->do("UPDATE trunkline.subscriptions SET active = false WHERE name = '$name'");
    is(trigger(), 0, 'paused: no trigger');
    $s->do("SELECT trunkline.publish('order.paused', '1')");
    is(seen(), '', 'and no call');
    $s->do("UPDATE trunkline.subscriptions SET active = true WHERE name = '$name'");
    is(trigger(), 1, 'resumed');
    $s->do("SELECT trunkline.publish('order.resumed', '1')");
    is(seen(), 'see:order.resumed', 'and called, for what comes from now on');
    is($s->do("SELECT count(*) FROM trunkline.claim('$name')"), 0, 'claim() gives nothing of it') if 0;
    my $cursor = sub { $s->do("SELECT cursor FROM trunkline.cursors JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$name'") };
    $s->do("SELECT trunkline.subscribe('$name', 'order.**', target => 'sql:public.see')");
    is(trigger(), 0, 'mode async: no trigger');
    is($cursor->(), $s->do("SELECT trunkline.horizon()"), 'it goes on where the other mode ended');
    $s->do("SELECT trunkline.publish('order.async', '1')");
    is(seen(), '', 'and is claimed');
    my $change = "SELECT trunkline.subscribe('$name', 'order.**', target => 'sql:public.see', mode => 'sync')";
    refuses($s, $change, 'TL001', {field => 'mode'}, 'back to sync only when nothing is left to do');
    is(trigger(), 0, 'a refused change leaves no trigger');
    my $token = $s->do("SELECT token FROM trunkline.claim('$name')");
    refuses($s, $change, 'TL001', {field => 'mode'}, 'nor leased');
    $s->do("SELECT trunkline.ack('$token', NULL, (SELECT jsonb_build_array(jsonb_build_object('position', upto, 'error', 'e')) FROM trunkline.leases WHERE token = '$token'))");
    refuses($s, $change, 'TL001', {field => 'mode'}, 'nor waiting to be tried again');
    $s->do('DELETE FROM trunkline.retries');
    $s->do($change);
    is(trigger(), 1, 'then it changes');
    refuses($s, "SELECT trunkline.subscribe('late', '*', target => 'sql:public.see', mode => 'sync', start_at => 'beginning')", 'TL005', {field => 'start_at'},
        'start_at: only what is to come');
    $s->do("SELECT trunkline.subscribe('$name', 'order.**', target => 'sql:public.look', mode => 'sync'); SELECT trunkline.publish('order.l', '1')");
    is(seen(), 'look:order.l', 'another function');
    refuses($s, "SELECT * FROM trunkline.reset('$name', 'end')", 'TL005', {field => 'name'}, 'it has no place to be reset to');
    is($s->do("SELECT low IS NULL FROM trunkline.low_water(1)"), 't', 'it does not hold retention');
    $s->do("SELECT trunkline.unsubscribe('$name')");
    is(trigger(), 0, 'unsubscribed: no trigger');
};

subtest 'rights' => sub {
    my $c = session(role => $consumer);
    my $error = $c->error("SELECT trunkline.subscribe('mine', '*', target => 'sql:pg_catalog.jsonb_typeof', mode => 'sync')");
    is($error->{state}, '42501', 'SUB-4 only the owner of the schema registers a sync function');
    like($error->{message}, qr/owner of the schema/, 'and is told so');
    like($error->{hint}, qr/mode async/, 'with a way out');
    $c->do("SELECT trunkline.subscribe('mine', '*', target => 'sql:pg_catalog.jsonb_typeof')");
    is($c->error("UPDATE trunkline.subscriptions SET mode = 'sync' WHERE name = 'mine'")->{state}, '42501', 'nor by hand');
    is($s->do("SELECT registered_by FROM trunkline.subscriptions WHERE name = 'mine'"), $consumer, 'who registered it is noted');
    my $owner = $s->do('SELECT current_user');
    $c->do("UPDATE trunkline.subscriptions SET registered_by = '$owner' WHERE name = 'mine'");
    is($s->do("SELECT registered_by FROM trunkline.subscriptions WHERE name = 'mine'"), $consumer, 'and is not for the role to say');
    $s->do("SELECT trunkline.subscribe('owners', '*', target => 'sql:public.see')");
    $c->do("UPDATE trunkline.subscriptions SET target = 'sql:pg_catalog.jsonb_pretty' WHERE name = 'owners'");
    is($s->do("SELECT registered_by FROM trunkline.subscriptions WHERE name = 'owners'"), $consumer, 'also when it changes the subscription of another');
    $c->do("UPDATE trunkline.subscriptions SET priority = 6 WHERE name = 'mine'");
    $s->do("UPDATE trunkline.subscriptions SET active = false WHERE name = 'mine'");
    is($s->do("SELECT registered_by FROM trunkline.subscriptions WHERE name = 'mine'"), $consumer, 'pausing does not change it');
    subscribe('a/see', 'order.**', 'public.see');
    is($c->error($_)->{state}, '42501', "a consumer does not touch it: $_") for "SELECT trunkline.unsubscribe('a/see')",
        "UPDATE trunkline.subscriptions SET active = false WHERE name = 'a/see'", "UPDATE trunkline.subscriptions SET pattern = '*' WHERE name = 'a/see'",
        "DELETE FROM trunkline.subscriptions WHERE name = 'a/see'";
    refuses(session(), q(CREATE FUNCTION pg_temp.mine(e jsonb) RETURNS void LANGUAGE sql AS 'SELECT'; SELECT trunkline.subscribe('temp', '*', target => 'sql:pg_temp.mine', mode => 'sync')),
        'TL005', {field => 'target'}, 'no function of one session');
    my $p = session(role => $publisher);
    $p->do("CREATE FUNCTION pg_temp.jsonb_typeof(e jsonb) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'taken over by %', current_user; END \$\$;
        CREATE TABLE pg_temp.seen (who text, event jsonb); SET search_path = pg_temp, public");
    $p->do("SELECT trunkline.publish('order.path', '1')");
    is(seen(), 'see:order.path', 'the search path of a publisher changes nothing');
    is($p->error('SELECT trunkline.run_sync()')->{state}, '42501', 'a publisher cannot call it');
    $s->do("SELECT trunkline.unsubscribe('a/see')");
};

subtest 'a busy topic' => sub {
    $other->do("BEGIN; SELECT trunkline.publish('x', '1')");
    $s->start("SELECT trunkline.subscribe('busy', '*', target => 'sql:public.see', mode => 'sync')");
    # publishers go on meanwhile
    my $third = session();
    $third->do("SET lock_timeout = '20 s'; SELECT trunkline.publish('y', '1')") for 1 .. 5;
    pass('others publish while a subscription waits');
    $s->finish;
    is($s->{error}{state}, '55P03', 'SUB-4 it gives up when a publisher does not end');
    like($s->{error}{message}, qr/^topic "bus" is busy/, 'clearly');
    is(trigger(), 0, 'and nothing is half made');
    is($s->do("SELECT count(*) FROM trunkline.subscriptions WHERE name = 'busy'"), 0, 'no subscription');
    $s->start("SELECT trunkline.subscribe('busy', '*', target => 'sql:public.see', mode => 'sync')");
    $s->wait_blocked;
    $other->do('COMMIT');
    $s->finish;
    is($s->{error}, undef, 'it takes the moment when there is one') || diag($s->{error}{message});
    is(trigger(), 1, 'made');
    # dropping needs readers out as well: it is left to maintain()
    $other->do('BEGIN; SELECT count(*) FROM trunkline.topic_bus');
    $s->do("SELECT trunkline.unsubscribe('busy')");
    is(trigger(), 1, 'unsubscribe does not wait for a reader');
    $third->do("SELECT trunkline.publish('order.later', '1')");
    is($third->do('SELECT count(*) FROM public.seen'), 0, 'what is left of it calls nothing');
    $other->do('COMMIT');
    is($s->do("SELECT action || ' ' || object FROM trunkline.maintain() WHERE detail LIKE '%sync%'"), 'dropped bus', 'maintain() drops it');
    is(trigger(), 0, 'gone');
    $s->do('TRUNCATE public.seen');
};

subtest 'two at once' => sub {
    # the last one leaves while another comes: the trigger must not go with it
    subscribe('first', '*', 'public.see');
    $s->do("BEGIN; SELECT trunkline.unsubscribe('first')");
    $other->start("SELECT trunkline.subscribe('second', '*', target => 'sql:public.see', mode => 'sync')");
    $other->wait_blocked;
    $s->do('COMMIT');
    $other->finish;
    is($other->{error}, undef, 'both done') || diag($other->{error}{message});
    is(trigger(), 1, 'the trigger is there');
    $s->do("SELECT trunkline.publish('a', '1')");
    is(seen(), 'see:a', 'and calls');
    refuses($s, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT trunkline.unsubscribe('second')", 'TL005', {field => 'transaction_isolation'}, 'READ COMMITTED only');
    $s->do("ROLLBACK");
    $s->do("SELECT trunkline.create_topic('own'); SELECT trunkline.subscribe('third', '*', 'own', target => 'sql:public.see', mode => 'sync'); SELECT trunkline.publish('a', '1', 'own')");
    is(seen(), 'see:a', 'topics made by users');
    $s->do("SELECT trunkline.drop_topic('own', force => true)");
    is($s->do("SELECT count(*) FROM trunkline.subscriptions WHERE name = 'third'"), 0, 'dropping a topic takes it along');
};
done_testing;
