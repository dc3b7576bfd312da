#!/usr/bin/perl
# PUB-1: publish() and publish_batch(): what comes back and what is stored.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $s = session();
my $stored = 'SELECT type, source, stream, version, key, tenant_id, data, metadata, expires_at, now() - created_at < \'1 min\' FROM trunkline.topic_bus ORDER BY "position" DESC LIMIT 1';

subtest 'one event' => sub {
    my ($id, $position, $again) = split /\|/, $s->do("SELECT * FROM trunkline.publish('a.b', '{\"x\": 1}')");
    is("$position $again", '1 f', 'position and no repeat');
    is($s->do($stored), 'a.b||||||{"x": 1}|||t', 'stored, the rest NULL');
    is($s->do("SELECT id FROM trunkline.topic_bus"), $id, 'under the id that came back');
    $s->do("SET TimeZone = 'UTC'; SELECT trunkline.publish(type => 't', data => '[1]', key => 'k', tenant_id => 'acme', source => 'src', metadata => '{\"user_id\": 7}', expires_at => '2030-01-02 03:04:05Z')");
    is($s->do($stored), 't|src|||k|acme|[1]|{"user_id": 7}|2030-01-02 03:04:05+00|t', 'every field');
    $s->do("SELECT trunkline.publish('t', $_)") for "'null'", 'NULL', "'\"text\"'", "'1.50'", "'true'", "'[]'";
    is($s->do("SELECT string_agg(data::text, ' ' ORDER BY \"position\") FROM trunkline.topic_bus WHERE type = 't' AND key IS NULL"), 'null null "text" 1.50 true []', 'any JSON value');
    is($s->do("SELECT count(*) FROM (SELECT (trunkline.publish('same', '1')).* FROM generate_series(1, 1)) q"), 1, 'result as columns');
};

subtest 'generated ids' => sub {
    $s->do("INSERT INTO trunkline.topic_store (type, data) SELECT 'id', '1' FROM generate_series(1, 1000)");
    is($s->do("SELECT count(DISTINCT id) FROM trunkline.topic_store"), 1000, 'unique');
    is($s->do("SELECT DISTINCT substr(id::text, 15, 1), substr(id::text, 16, 3), substr(id::text, 20, 1) IN ('8', '9', 'a', 'b') FROM trunkline.topic_store"), '7|002|t', 'version 7, the topic in rand_a');
    is($s->do("SELECT count(*) FROM trunkline.topic_store WHERE (('x' || substr(replace(id::text, '-', ''), 17))::bit(64)::bigint & ~(3::bigint << 62)) >> 14 <> \"position\""), 0, 'the position in rand_b');
    is($s->do("SELECT count(*) FROM trunkline.topic_store WHERE abs(('x0000' || substr(replace(id::text, '-', ''), 1, 12))::bit(64)::bigint - extract(epoch FROM created_at) * 1000) > 1000"), 0, 'the time in front');
    my $long = $s->do("SELECT trunkline.create_topic('far'); SELECT trunkline.add_leaf('far', (1::bigint << 17)); SELECT setval('trunkline.position_far', 1::bigint << 47); SELECT id FROM trunkline.publish('a', '1', 'far')");
    is($s->do("SELECT (('x' || substr(replace('" . (split /\n/, $long)[-1] . "', '-', ''), 17))::bit(64)::bigint & ~(3::bigint << 62)) >> 14 = (1::bigint << 47) + 1"), 't', 'far out too');
};

subtest 'a batch' => sub {
    is($s->do(q(SELECT count(*) FROM trunkline.publish_batch('[{"type": "one"}]'))), 1, 'of one');
    my $rows = $s->do(q(SELECT "position" - min("position") OVER (), deduplicated FROM trunkline.publish_batch('[{"type": "x"}, {"type": "x"}, {"type": "x"}]')));
    is($rows, "0|f\n1|f\n2|f", 'of three equal ones: three events');
    # looked up in a later statement: the first one does not see what it calls forth
    $s->do(q(CREATE TEMP TABLE r AS SELECT row_number() OVER () AS n, "position" FROM trunkline.publish_batch(
        (SELECT jsonb_agg(jsonb_build_object('type', 'many', 'data', i) ORDER BY i) FROM generate_series(1, 5000) i))));
    is($s->do('SELECT count(*), bool_and(e.data = to_jsonb(r.n)) FROM r JOIN trunkline.topic_bus e USING ("position")'), '5000|t', 'of 5000: rows in the order of the array');
    $s->do(q(SELECT trunkline.publish_batch('[{"type": "t", "data": [1], "key": "k", "tenant_id": "acme", "source": "src", "metadata": {"user_id": 7}, "expires_at": "2030-01-02T03:04:05Z", "id": null}]')));
    is($s->do($stored), 't|src|||k|acme|[1]|{"user_id": 7}|2030-01-02 03:04:05+00|t', 'every field');
    $s->do(q(SELECT trunkline.publish_batch('[{"type": "n", "data": null, "key": null, "tenant_id": null, "source": null, "metadata": null, "expires_at": null}]')));
    is($s->do($stored), 'n||||||null|||t', 'null is as good as missing');
    is($s->do("SELECT id FROM trunkline.publish_batch('[{\"type\": \"u\", \"id\": \"0190163D-8694-739B-AEA5-966C26F8AD91\"}]', 'store')"), '0190163d-8694-739b-aea5-966c26f8ad91', 'an id, a topic');
};

subtest 'for each row of a query' => sub {
    $s->do('CREATE TABLE rows AS SELECT 1 AS n FROM generate_series(1, 5000); ANALYZE rows');
    is($s->do("SELECT count(DISTINCT p.\"position\") FROM rows, LATERAL trunkline.publish('equal', to_jsonb(n)) p"), 5000, 'a lateral join publishes equal rows each');
    is($s->do("SELECT count(DISTINCT p.\"position\") FROM rows, LATERAL trunkline.publish_batch(jsonb_build_array(jsonb_build_object('type', 'equal', 'data', n))) p"), 5000, 'as a batch too');
    is($s->do("SELECT count(DISTINCT (p).\"position\") FROM (SELECT trunkline.publish('equal', to_jsonb(n)) AS p FROM rows) q"), 5000, 'the select list does');
};

subtest 'all or nothing' => sub {
    my $before = $s->do('SELECT count(*) FROM trunkline.topic_bus');
    my $error = $s->error("BEGIN; SELECT trunkline.publish('before', '1'); SELECT trunkline.publish('', '1')");
    is($error->{state}, 'TL005', 'an error aborts the caller\'s transaction');
    $s->do('ROLLBACK');
    $s->error(q(SELECT trunkline.publish_batch('[{"type": "good"}, {"type": "bad..type"}]')));
    is($s->do('SELECT count(*) FROM trunkline.topic_bus'), $before, 'nothing is half-written');
};

subtest 'read' => sub {
    $s->do("SELECT trunkline.create_topic('pages'); SELECT trunkline.publish('e', to_jsonb(i), 'pages') FROM generate_series(1, 250) i");
    is($s->do("SELECT count(*), min(\"position\"), max(\"position\") FROM trunkline.read('pages')"), '100|1|100', 'a hundred by default');
    is($s->do("SELECT count(*), min(\"position\"), max(\"position\") FROM trunkline.read('pages', 200, 10000)"), '50|201|250', 'after a position');
    is($s->do("SELECT count(*) FROM trunkline.read('pages', 250)"), 0, 'nothing behind the last');
    is($s->do("SELECT count(*) FROM trunkline.read('pages', NULL, 1)"), 1, 'after NULL: from the beginning');
    is($s->do("SELECT array_to_string(array_agg(\"position\"), ' ') FROM trunkline.read('pages', 3, 4)"), '4 5 6 7', 'in order');
};

done_testing;
