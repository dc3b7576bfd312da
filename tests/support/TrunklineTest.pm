# For script tests of the program: run it, keep it in the background, wait for states, look into its
# database. `use lib "$FindBin::Bin/../support"; use TrunklineTest;`
package TrunklineTest;
use strict;
use warnings;
use Carp qw(croak);
use Exporter qw(import);
use Fcntl qw(F_SETFD);
use JSON::PP ();
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

our @EXPORT = qw(tl tl_ok start_program stop_program wait_exit wait_for new_database drop_database
    query psql_session slurp spew decode workdir source_dir receiver start_serve taken_up);

my $bin = $ENV{TRUNKLINE_BIN} or die "run the test by tools/run-tests\n";
my $source = $ENV{TRUNKLINE_SOURCE} or die "run the test by tools/run-tests\n";
my $dir = $ENV{TRUNKLINE_TEST_DIR} // $ENV{TMPDIR} // '/tmp';
my $count = 0;
my %running;
my @databases;

# libpq's own settings would be a configured database: tests say which one they mean.
delete @ENV{qw(PGDATABASE PGSERVICE)};
my %pg = map { $_ => delete $ENV{$_} } qw(PGHOST PGPORT PGUSER);

sub workdir { return $dir }
sub source_dir { return $source }

sub slurp {
    my ($path) = @_;
    open my $file, '<:raw', $path or return '';
    local $/;
    return <$file> // '';
}

sub spew {
    my ($path, $text) = @_;
    open my $file, '>:raw', $path or croak "$path: $!";
    print {$file} $text;
    close $file or croak "$path: $!";
    return $path;
}

sub decode { return JSON::PP->new->utf8->decode($_[0]) }

# Fork and exec with stdin from a file, stdout and stderr to files. Returns a handle.
sub start_program {
    my ($command, %options) = @_;
    my $base = "$dir/program." . ++$count;
    my $in = defined $options{stdin} ? spew("$base.in", $options{stdin}) : '/dev/null';
    my $pid = fork // croak "fork: $!";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
        my %env = %{$options{env} // {}};
        defined $env{$_} ? $ENV{$_} = $env{$_} : delete $ENV{$_} for keys %env;
        open STDIN, '<', $in or POSIX::_exit(126);
        open STDOUT, '>', "$base.out" or POSIX::_exit(126);
        open STDERR, '>', "$base.err" or POSIX::_exit(126);
        exec {$command->[0]} @$command or POSIX::_exit(127);
    }
    my $handle = {pid => $pid, out => "$base.out", err => "$base.err", command => "@$command"};
    $running{$pid} = $handle;
    return $handle;
}

# Exit code of a program that ends by itself (128 + n after signal n); dies after the deadline.
sub wait_exit {
    my ($handle, $seconds) = @_;
    wait_for(sub { waitpid($handle->{pid}, WNOHANG) == $handle->{pid} }, $seconds)
        or croak "still running: $handle->{command}";
    delete $running{$handle->{pid}};
    return $handle->{rc} = $? & 127 ? 128 + ($? & 127) : $? >> 8;
}

sub stop_program {
    my ($handle, $signal, $seconds) = @_;
    kill $signal // 'TERM', $handle->{pid};
    return wait_exit($handle, $seconds);
}

# Poll a condition until it is true or the deadline has passed; returns its value. The deadline is for
# what hangs: a busy machine may take many times as long as a quiet one for what works.
sub wait_for {
    my ($condition, $seconds) = @_;
    my $deadline = time + ($seconds // 120);
    while (1) {
        my $value = $condition->();
        return $value if $value;
        return if time > $deadline;
        sleep 0.01;
    }
}

# Run trunkline to its end: (exit code, stdout, stderr).
sub tl {
    my ($arguments, %options) = @_;
    my $handle = start_program([$bin, @$arguments], %options);
    my $rc = wait_exit($handle, $options{timeout});
    return ($rc, slurp($handle->{out}), slurp($handle->{err}));
}

# The same where success is expected: stdout.
sub tl_ok {
    my ($arguments, %options) = @_;
    my ($rc, $out, $err) = tl($arguments, %options);
    croak "trunkline @$arguments: exit code $rc\n$err" if $rc;
    return $out;
}

sub psql_environment { return map { defined $pg{$_} ? ($_ => $pg{$_}) : () } keys %pg }

sub new_database {
    my ($kind) = @_;
    local %ENV = (%ENV, psql_environment());
    chomp(my $db = qx("$source/tools/pg-db" create @{[$kind // '']}));
    croak 'no database' if !$db;
    push @databases, $db;
    return $db;
}

sub drop_database {
    my ($db) = @_;
    local %ENV = (%ENV, psql_environment());
    system "$source/tools/pg-db", 'drop', $db;
    @databases = grep { $_ ne $db } @databases;
    return;
}

# One value, or rows joined by newlines and columns by '|'.
sub query {
    my ($db, $sql) = @_;
    my $psql = $ENV{PGBINDIR} ? "$ENV{PGBINDIR}/psql" : 'psql';
    my $handle = start_program([$psql, '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-c', $sql]);
    croak "$sql\n" . slurp($handle->{err}) if wait_exit($handle) != 0;
    chomp(my $out = slurp($handle->{out}));
    return $out;
}

# A psql that stays: (handle, file to print SQL to). Close the file to end it. %environment: of its own.
sub psql_session {
    my ($db, %environment) = @_;
    my $psql = $ENV{PGBINDIR} ? "$ENV{PGBINDIR}/psql" : 'psql';
    my $fifo = sprintf '%s/sql.%d', $dir, ++$count;
    system('mkfifo', $fifo) == 0 or croak 'mkfifo';
    local %ENV = (%ENV, %environment);
    my $handle = start_program(['sh', '-c', "exec '$psql' -XqAt -d '$db' < '$fifo'"]);
    open my $sql, '>', $fifo or croak $fifo;
    $sql->autoflush(1);
    return ($handle, $sql);
}

# tests/e2e/receiver.py on a free port: {port, log => sub: its requests}.
sub receiver {
    my (@arguments) = @_;
    my $handle = start_program(['python3', "$source/tests/e2e/receiver.py", @arguments]);
    wait_for(sub { slurp($handle->{out}) =~ /^port (\d+)/ && ($handle->{port} = $1) })
        or croak 'the receiver does not start: ' . slurp($handle->{err});
    $handle->{url} = "http://127.0.0.1:$handle->{port}";
    $handle->{requests} = sub {
        my ($path) = @_;
        my @all = map { decode($_) } grep { /^\{.*\}$/ } split /\n/, slurp($handle->{out});
        return grep { !$path || $_->{path} eq $path } @all;
    };
    return $handle;
}

# trunkline serve, ready.
sub start_serve {
    my ($db, $arguments, %options) = @_;
    my $handle = start_program([$bin, 'serve', '-v', '--db', $db, @{$arguments // []}], %options);
    wait_for(sub { slurp($handle->{err}) =~ /event=ready/ || waitpid($handle->{pid}, WNOHANG) })
        or croak 'serve does not start';
    croak 'serve does not start: ' . slurp($handle->{err}) if slurp($handle->{err}) !~ /event=ready/;
    return $handle;
}

# Whatever was changed in the database before, serve's webhooks and commands go by it now: one that was
# subscribed later is served, and it is the last in the order in which serve takes them up.
sub taken_up {
    my ($serve, $db) = @_;
    my $name = 'zz/mark' . ++$count;
    query($db, "SELECT trunkline.subscribe('$name', 'zz.never', target => 'http://127.0.0.1:9/', priority => 1)");
    my $is_served = wait_for(sub { slurp($serve->{err}) =~ /event=served subscription=\Q$name\E / });
    query($db, "SELECT trunkline.unsubscribe('$name')");
    return $is_served;
}

END {
    my $status = $?;
    for my $pid (keys %running) {
        kill 'KILL', $pid;
        waitpid $pid, 0;
    }
    drop_database($_) for @databases;
    $? = $status;
}

1;
