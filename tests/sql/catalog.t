#!/usr/bin/perl
# MIG-1: everything in the schema says what it is, and functions resolve names in pg_catalog only.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $s = session();
my $schema = "n.nspname = 'trunkline'";

# What the client library itself keeps has its comments from there.
my $class = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND $schema";
returns($s, "SELECT c.relname FROM $class WHERE c.relkind IN ('r', 'p', 'v') AND obj_description(c.oid, 'pg_class') IS NULL ORDER BY 1",
    '', 'every table and view has a comment');
returns($s, "SELECT c.relname || '.' || a.attname FROM $class JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped AND NOT c.relispartition
      AND col_description(c.oid, a.attnum) IS NULL ORDER BY 1", '', 'every column of a table or view has a comment');
returns($s, "SELECT c.relname FROM $class JOIN pg_index i ON i.indexrelid = c.oid
    WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid)
      AND obj_description(c.oid, 'pg_class') IS NULL ORDER BY 1", '', 'every index that is no constraint has a comment');
returns($s, "SELECT c.relname FROM $class WHERE c.relkind = 'S' AND c.relname LIKE 'position%'
      AND obj_description(c.oid, 'pg_class') IS NULL ORDER BY 1", '', 'every position sequence has a comment');
returns($s, "SELECT t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace AND $schema
    WHERE t.typtype IN ('d', 'e') AND obj_description(t.oid, 'pg_type') IS NULL ORDER BY 1", '', 'every domain has a comment');

my $proc = "pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND $schema";
returns($s, "SELECT p.oid::regprocedure FROM $proc WHERE obj_description(p.oid, 'pg_proc') IS NULL ORDER BY 1",
    '', 'every function has a comment');
# Inlined into their callers, and parsed when they were made.
my @inlined = qw(category channel lock_class next_id next_position);
# Names the schema of each thing it uses instead: hostile_path.t.
my @qualified = qw(append_event bell_disarm bell_ring publish publish_and_wait);
# Called for each claim, by functions that pin it: to set and reset it takes longer than most of what they do.
my @pinned_above = qw(handout_query park range_query register_horizons take_lease type_condition type_operand write_lease);
returns($s, "SELECT p.proname FROM $proc
    WHERE NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c = 'search_path=pg_catalog, pg_temp') ORDER BY 1",
    join("\n", sort @inlined, @qualified, @pinned_above), 'every function pins search_path, but for those that have no need');
returns($s, "SELECT p.proname FROM $proc WHERE p.proconfig IS NULL AND p.prosrc ~ '[.](" . join('|', @pinned_above) . ")[(]'
      AND p.proname <> ALL ('{" . join(',', @pinned_above) . "}') ORDER BY 1", '', 'or for those whose callers pin it');
returns($s, "SELECT p.proname FROM $proc WHERE p.prosqlbody IS NULL AND p.proname = ANY ('{" . join(',', @inlined) . "}') ORDER BY 1",
    '', 'the inlined ones are parsed when made');
# Each has a note in docs/decisions and a test of what a low role can do with it.
returns($s, "SELECT p.proname FROM $proc WHERE p.prosecdef ORDER BY 1", join("\n", qw(append append_event append_rows append_streams create_aggregate delete_stream locate redact redact_at run_sync set_stream)), 'only these functions run with the rights of their owner');

returns($s, "SELECT p.proname FROM $proc, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0",
    '', 'PUBLIC may call nothing');
returns($s, "SELECT c.relname FROM $class, aclexplode(c.relacl) a WHERE a.grantee = 0", '', 'PUBLIC may read nothing');
returns($s, "SELECT extname FROM pg_extension", 'plpgsql', 'no extension is needed');

returns($s, "SELECT c.relname FROM $class JOIN pg_index i ON i.indexrelid = c.oid
    JOIN pg_index j ON j.indrelid = i.indrelid AND j.indexrelid <> i.indexrelid
     AND (j.indkey::text || ' ') LIKE (i.indkey::text || ' %') AND i.indpred IS NULL AND NOT i.indisunique",
    '', 'no index repeats the beginning of another');
returns($s, "SELECT c.conrelid::regclass || '.' || a.attname FROM pg_constraint c
    JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace AND $schema
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    WHERE c.contype = 'f' AND c.confrelid = 'trunkline.subscriptions'::regclass
      AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1]) ORDER BY 1",
    '', 'what goes with a subscription is found by index');

done_testing;
