# What the SQL tests share: a database of one's own and psql sessions that step in a fixed order.
#
# A session answers each statement before the next; start() and finish() let one wait in a lock
# meanwhile. Nothing here paces by sleeping: waits look for a state, with a deadline.
package SqlTest;
use strict;
use warnings;
use Exporter 'import';
use IPC::Open3 ();
use JSON::PP ();
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(database session wait_until refuses returns interleavings psql_file LIMIT_S);
our @EXPORT_OK = qw(more waiting expire); # a test may have its own of these names

use constant LIMIT_S => 120; # for what hangs

my $base = $ENV{TRUNKLINE_TEST_DB} // die "run by tools/run-tests\n";
my $bindir = $ENV{PGBINDIR} ? "$ENV{PGBINDIR}/" : '';
my (@databases, @sessions, $default_db, $own_session);

delete $ENV{PGOPTIONS};

sub pg_db {
    my $out = qx(tools/pg-db @_);
    BAIL_OUT("tools/pg-db @_ failed") if $?;
    chomp $out;
    return $out;
}

# A new database; the first one is where sessions go by default. empty => 1: not migrated.
sub database {
    my %with = @_;
    my $conninfo = pg_db('create', $with{empty} ? '--empty' : ());
    push @databases, $conninfo;
    $default_db //= $conninfo;
    return $conninfo;
}

# db => conninfo, role => login role.
sub session {
    my %with = @_;
    my $conninfo = $with{db} // $default_db // database();
    $conninfo .= " user=$with{role}" if $with{role};
    my $self = bless {count => 0}, __PACKAGE__;
    $self->{child} = IPC::Open3::open3($self->{in}, $self->{out}, undef, "${bindir}psql", '-XAtq', '-v', 'VERBOSITY=verbose',
        '-d', $conninfo);
    binmode $self->{$_}, ':encoding(UTF-8)' for qw(in out);
    push @sessions, $self;
    $self->{pid} = $self->do('SELECT pg_backend_pid()');
    return $self;
}

sub start {
    my ($self, $sql) = @_;
    my $marker = 'done-' . ++$self->{count};
    my $in = $self->{in};
    # Not after the data of a COPY: psql 15.19 and later take the next statement for one whose data
    # is to be skipped.
    my $end = $sql =~ /\\\.\z/ ? '' : ";\n";
    print $in "$sql\n$end\\echo $marker\n";
    $in->flush;
    return;
}

# Result of what start() sent: rows as text, fields divided by |; in error: SQLSTATE and so on.
sub finish {
    my ($self) = @_;
    my ($out, $marker, @lines) = ($self->{out}, "done-$self->{count}");
    local $SIG{ALRM} = sub { BAIL_OUT("no answer within " . LIMIT_S . " s; so far: @lines") };
    alarm LIMIT_S;
    while (1) {
        my $line = <$out>;
        BAIL_OUT("psql ended: @lines") if !defined $line;
        chomp $line;
        last if $line eq $marker;
        push @lines, $line;
    }
    alarm 0;
    my %error;
    for my $line (@lines) {
        @error{qw(state message)} = ($1, $2) if $line =~ /^(?:psql:\S+ )?(?:ERROR|FATAL):  (\w{5}): (.*)/;
        $error{lc $1} = $2 if %error && $line =~ /^(DETAIL|HINT|CONSTRAINT NAME):  (.*)/;
    }
    $self->{error} = %error ? \%error : undef;
    push @{$self->{notified}}, map { /^Asynchronous notification "(.*?)"(?: with payload "(.*)")? received/ ? $2 // '' : () } @lines;
    push @{$self->{heard}}, map { /^Asynchronous notification "(.*?)" with payload "(.*)" received/ ? [$1, $2] : () } @lines;
    return join "\n", grep { !/^(?:NOTICE|WARNING|LOCATION|DETAIL|CONTEXT):  |^Asynchronous notification/ } @lines;
}

# Run and return the rows; an error ends the program.
sub do {
    my ($self, $sql) = @_;
    $self->start($sql);
    my $out = $self->finish;
    if ($self->{error}) {
        diag("$sql\n$out");
        BAIL_OUT("unexpected error $self->{error}{state}");
    }
    return $out;
}

# Run and return the error, {} if there was none.
sub error {
    my ($self, $sql) = @_;
    $self->start($sql);
    my $out = $self->finish;
    return $self->{error} // {state => 'none', message => $out};
}

# Until the session waits for a lock.
sub wait_blocked {
    my ($self) = @_;
    my $watch = ($self->{watch} //= session());
    wait_until(sub {
        $watch->do("SELECT count(*) FROM pg_stat_activity WHERE pid = $self->{pid} AND wait_event_type = 'Lock'")
    });
    return;
}

# Payloads of the notifications that came since the last call.
sub notifications {
    my ($self) = @_;
    $self->do('SELECT 1');
    my $payloads = delete $self->{notified};
    return @$payloads;
}

# The same as [channel, payload], of those that have one.
sub raw_notifications {
    my ($self) = @_;
    $self->do('SELECT 1');
    return @{delete $self->{heard} // []};
}

sub close {
    my ($self) = @_;
    my $in = delete $self->{in} or return;
    print $in "\\q\n";
    CORE::close $in;
    waitpid $self->{child}, 0;
    return;
}

sub wait_until {
    my ($is_true) = @_;
    my $end = Time::HiRes::time() + LIMIT_S;
    until ($is_true->()) {
        BAIL_OUT('state not reached, ' . join ' ', caller) if Time::HiRes::time() > $end;
        Time::HiRes::sleep(0.01);
    }
    return;
}

# returns($session, $sql, $expected, $name)
sub returns {
    my ($session, $sql, $expected, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $session->start($sql);
    return is($session->finish, $expected, $name);
}

# refuses($session, $sql, $sqlstate, \%detail, $name): DETAIL is one JSON object with these members.
sub refuses {
    my ($session, $sql, $state, $detail, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = $session->error($sql);
    my $got = {state => $error->{state}};
    if ($detail && $error->{state} eq $state) {
        my $all = eval { JSON::PP::decode_json($error->{detail} // '') } || {};
        $got->{$_} = $all->{$_} for keys %$detail;
    }
    return is_deeply($got, {state => $state, %{$detail // {}}}, $name // $sql)
        || diag(join "\n", map { "$_: $error->{$_}" } sort keys %$error);
}

# All orders in which lists of steps can be merged: each an array of list numbers.
sub interleavings {
    my @left = @_;
    return [] if !grep { $_ } @left;
    my @all;
    for my $i (grep { $left[$_] } 0 .. $#left) {
        my @rest = @left;
        $rest[$i]--;
        push @all, map { [$i, @$_] } interleavings(@rest);
    }
    return @all;
}

# By which the functions below work, in the first database.
sub own_session { return $own_session //= session() }

# Publish to a topic events with these keys: 'a b -' are three, the last without a key.
sub more {
    my ($name, $keys, $expires) = @_;
    own_session()->do("SELECT trunkline.publish('t', '1', '$name', key => " . ($_ eq '-' ? 'NULL' : "'$_'") . ", expires_at => " . ($expires // 'NULL') . ')')
        for split / /, $keys;
    return;
}

# position:attempt:key of what waits in a subscription, with ! when it waits for another
sub waiting {
    return own_session()->do("SELECT coalesce(string_agg(format('%s:%s:%s%s', \"position\", attempt, coalesce(key, '-'), CASE WHEN next_attempt_at = 'infinity' THEN '!' END), ' ' ORDER BY \"position\"), '')
        FROM trunkline.retries JOIN trunkline.subscriptions USING (subscription_id) WHERE name = '$_[0]'");
}

# As if the lease had run out: its holder is lost.
sub expire {
    my ($token) = @_;
    own_session()->do("UPDATE trunkline.leases SET until = now() - interval '1 s' WHERE token = '$token'");
    return;
}

# A file of SQL or a pipe in an own psql; dies on errors.
sub psql_file {
    my ($conninfo, $file) = @_;
    system("${bindir}psql", '-XAtq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $conninfo, '-f', $file) == 0
        or BAIL_OUT("psql -f $file failed");
    return;
}

END {
    my $status = $?;
    $_->close for @sessions;
    pg_db('drop', "'$_'") for @databases;
    $? = $status;
}

1;
