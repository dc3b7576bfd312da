# What the tests of the embedded PostgreSQL share: identities, holders, queries, waits.
#
# Nothing here paces by sleeping: waits look for a state, with a deadline.
package EmbeddedTest;
use strict;
use warnings;
use Cwd ();
use Exporter 'import';
use File::Copy ();
use File::Path ();
use IPC::Open3 ();
use POSIX ();
use Symbol ();
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(identities new_dir new_path hold query run_as wait_until is_alive slurp spew entries
    server_pid LIMIT_S E_INVALID E_CONFLICT E_NOTFOUND E_SERVER E_DENIED E_UNSUPPORTED);

use constant {
    LIMIT_S       => 120,
    E_INVALID     => -1,
    E_CONFLICT    => -4,
    E_NOTFOUND    => -5,
    E_SERVER      => -9,
    E_DENIED      => -13,
    E_UNSUPPORTED => -15,
};

my $base = $ENV{TRUNKLINE_TEST_DIR} // die "run by tools/run-tests\n";
my $program = "$base/embedded_hold";
my (@holders, @dirs);
my $dir_count = 0;

# Set where another version is tested than the one that would be found.
my $server_programs = $ENV{TRUNKLINE_PG_BINDIR};
for my $name (keys %ENV) {
    delete $ENV{$name} if $name =~ /^(PG|XDG_|TRUNKLINE_(DB|DATA_DIR|PG_BINDIR)$|DATABASE_URL$)/;
}
# Where an ordinary user can execute it, whoever owns the build directory.
File::Copy::copy("$ENV{TRUNKLINE_BUILD}/tests/embedded/embedded_hold", $program)
    or BAIL_OUT("no embedded_hold: $!");
chmod 0755, $program, $base;

# Each: name, wrap (command prefix), uid (of the caller), server_uid, server_name.
sub identities {
    my ($server) = grep { defined } getpwnam('postgres'), getpwnam('nobody');
    if ($> != 0) {
        return {name => 'as user', wrap => [], uid => $>, server_uid => $>,
                server_name => scalar getpwuid($>)};
    }
    my @nobody = getpwnam('nobody');
    # A coverage build: its counters are root's, and gcc says so on standard error.
    my $gcov = "$base/gcov";
    mkdir $gcov;
    chown $nobody[2], -1, $gcov;
    my @server = getpwnam('postgres');
    @server = @nobody unless @server;
    return (
        {name => 'as root', wrap => [], uid => 0, server_uid => $server[2], server_name => $server[0]},
        {name => 'as user', uid => $nobody[2], server_uid => $nobody[2], server_name => 'nobody',
         wrap => ['setpriv', "--reuid=$nobody[2]", "--regid=$nobody[3]", '--clear-groups', '--',
                  'env', "GCOV_PREFIX=$gcov"]},
    );
}

# A name for a data directory below a directory that the identity may write; not made yet.
sub new_path {
    my ($id) = @_;
    my $parent = "$base/" . ++$dir_count;
    mkdir $parent or die "$parent: $!";
    chown $id->{uid}, -1, $parent if $> == 0;
    push @dirs, "$parent/pg";
    return "$parent/pg";
}

# The same, made: empty, as by mkdir.
sub new_dir {
    my ($id) = @_;
    my $dir = new_path($id);
    mkdir $dir or die "$dir: $!";
    chown $id->{uid}, -1, $dir if $> == 0;
    return $dir;
}

sub command_for {
    my ($id, $env, @command) = @_;
    # From /: the checkout may be where that identity must not look.
    return (@{$id->{wrap}}, 'env', '--chdir=/', (map { "$_=$env->{$_}" } sort keys %$env), @command);
}

# Run to the end: (output, exit code).
sub run_as {
    my ($id, $env, @command) = @_;
    my $pid = open(my $out, '-|') // die "fork: $!";
    if ($pid == 0) {
        open STDERR, '>&', \*STDOUT;
        exec command_for($id, $env, @command) or POSIX::_exit(127);
    }
    local $/;
    my $text = <$out> // '';
    close $out;
    return ($text, $? >> 8);
}

# One value, as that identity would get it with psql; '' and the error on failure.
sub query {
    my ($id, $conninfo, $sql) = @_;
    my ($text, $code) = run_as($id, {PGCONNECT_TIMEOUT => 20}, 'psql', '-XqAt', '-v',
                               'ON_ERROR_STOP=1', '-d', $conninfo, '-c', $sql);
    chomp $text;
    return $code == 0 ? $text : "error: $text";
}

sub wait_until {
    my ($condition, $limit_s) = @_;
    my $end = Time::HiRes::time() + ($limit_s // LIMIT_S);
    until ($condition->()) {
        return 0 if Time::HiRes::time() > $end;
        Time::HiRes::sleep(0.003);
    }
    return 1;
}

# A zombie is not alive.
sub is_alive {
    my ($pid) = @_;
    my $stat = slurp("/proc/$pid/stat") // return 0;
    return $stat =~ /\) ([A-Z])/ && $1 ne 'Z' && $1 ne 'X';
}

sub slurp {
    open my $file, '<', $_[0] or return;
    local $/;
    return scalar <$file>;
}

sub spew {
    my ($path, $text) = @_;
    open my $file, '>', $path or die "$path: $!";
    print $file $text;
    close $file or die "$path: $!";
}

# Everything below a directory with size, mode, owner and time: to see that nothing was touched.
sub entries {
    my ($dir) = @_;
    return scalar qx(find '$dir' -printf '%P %s %m %U %T@\\n' | sort);
}

sub server_pid {
    my ($dir) = @_;
    my ($pid) = (slurp("$dir/data/postmaster.pid") // '') =~ /^(\d+)/;
    return $pid;
}

# ---------------------------------------------------------------------------------- a holder
# hold($id, $dir, %env): an attached process. Does not wait for it; see ready.
sub hold {
    my ($id, $dir, %env) = @_;
    my $self = bless {id => $id, dir => $dir, buffer => ''}, __PACKAGE__;
    $env{TRUNKLINE_DATA_DIR} = $dir if defined $dir;
    $env{TRUNKLINE_PG_BINDIR} //= $server_programs if defined $server_programs;
    my $log = "$base/holder." . scalar(@holders);
    $self->{log} = $log;
    pipe my $child_in, $self->{in} or die;
    pipe $self->{out}, my $child_out or die;
    $self->{pid} = fork // die "fork: $!";
    if ($self->{pid} == 0) {
        setpgrp;
        open STDIN, '<&', $child_in;
        open STDOUT, '>&', $child_out;
        open STDERR, '>', $log;
        exec command_for($id, \%env, $program) or POSIX::_exit(127);
    }
    close $child_in;
    close $child_out;
    $self->{in}->autoflush(1);
    push @holders, $self;
    return $self;
}

# A line from the holder; undef at the end of its output, "timeout" when nothing comes.
sub line {
    my ($self) = @_;
    my $end = Time::HiRes::time() + LIMIT_S;
    while (index($self->{buffer}, "\n") < 0) {
        my $left = $end - Time::HiRes::time();
        my $bits = '';
        vec($bits, fileno $self->{out}, 1) = 1;
        return 'timeout' if $left <= 0 || select($bits, undef, undef, $left) <= 0;
        return if !sysread $self->{out}, $self->{buffer}, 4096, length $self->{buffer};
    }
    (my $line, $self->{buffer}) = split /\n/, $self->{buffer}, 2;
    return $line;
}

# True when attached; sets server, how, conninfo; or status, message, detail, hint.
sub ready {
    my ($self) = @_;
    my $line = $self->line // 'end';
    if ($line =~ /^ready (\d+) (\w+) (.*)/) {
        @$self{qw(server how conninfo)} = ($1, $2, $3);
        return 1;
    }
    if ($line =~ /^failed (-?\d+)/) {
        $self->{status} = $1;
        my $text = '';
        while (defined(my $more = $self->line)) {
            last if $more eq '.' || $more eq 'timeout';
            $text .= "$more\n";
        }
        @$self{qw(message detail hint)} = $text =~ /^message: (.*?)\ndetail: (.*?)\nhint: (.*?)\n\z/s;
        return 0;
    }
    diag "holder said: $line";
    return 0;
}

sub say_word {
    my ($self, $word) = @_;
    local $SIG{PIPE} = 'IGNORE';
    print {$self->{in}} "$word\n";
    return $self;
}

sub works {
    my ($self) = @_;
    my $answer = $self->say_word('check')->line // 'end';
    diag "check: $answer" if $answer ne 'works';
    return $answer eq 'works';
}

sub end {
    my ($self) = @_;
    return if $self->{is_ended}++;
    waitpid $self->{pid}, 0;
    close $self->{in};
}

sub leave {
    my ($self) = @_;
    my $answer = $self->say_word('close')->line // 'end';
    $self->end;
    diag "close: $answer" if $answer ne 'closed';
    return $answer eq 'closed';
}

sub kill9 {
    my ($self) = @_;
    kill KILL => $self->{pid};
    $self->end;
    return 1;
}

sub progress {
    return slurp($_[0]{log}) // '';
}

sub psql {
    my ($self, $sql) = @_;
    return query($self->{id}, $self->{conninfo}, $sql);
}

# Whatever a failed test left behind: holders first, then servers without users.
END {
    my $code = $?;
    for my $holder (@holders) {
        next if $holder->{is_ended};
        kill KILL => $holder->{pid};
        waitpid $holder->{pid}, 0;
    }
    for my $dir (@dirs) {
        my $pid = server_pid($dir) // next;
        my $cwd = readlink("/proc/$pid/cwd") // next;
        kill QUIT => $pid if $cwd eq Cwd::realpath("$dir/data");
        wait_until(sub { !is_alive($pid) }, 10);
    }
    $? = $code;
}

1;
