#!/usr/bin/perl
# DOC-1, B1, B2: examples/runbook.sql prints what it says.
use strict;
use warnings;
use lib 'tests/sql';
use SqlTest;
use Test::More;

my $db = database();
my $bindir = $ENV{PGBINDIR} ? "$ENV{PGBINDIR}/" : '';
my $printed = qx("${bindir}psql" -Xq -d '$db' -f examples/runbook.sql 2>&1);
is($?, 0, 'runs');
is($printed, <<'END', 'and prints');
1. append an event
version 1
again: version 1, deduplicated true
2. read the events of the aggregate
1 UserCreated {"name": "John Doe", "email": "john@example.com"}
3. run a command
processed: true
processed, events: 1
4. keep a read model
stored: true
an older one is stored: false
version 1 {"name": "John Doe", "email": "john@example.com"}
5. put the event into a named stream
position 1
again: position 1
6. read the named stream
1 user-123 UserCreated
7. create, update and delete a user by commands
create_user: true
create_user: false
update_user: true
delete_user: true
rename_user: false
create_user: processed
create_user: rejected, user user-7 exists
update_user: processed
delete_user: processed
rename_user: rejected, no handler knows commands of type "rename_user"
1 UserCreated
2 UserUpdated
3 UserDeleted
handled: true
once, whoever asks again: true
welcomed user-7
user 123 is at version 2
user 7 is at version 3
END
my $s = session();
is($s->do("SELECT metadata ->> 'idempotency_key' FROM trunkline.read_stream('user-123', 0, 1)"), 'event-123', 'event-123 is kept with the event');
$s->close;
done_testing;
