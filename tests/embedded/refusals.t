#!/usr/bin/env perl
# CFG-5: what the private PostgreSQL refuses: foreign, newer, loose or odd directories, untouched;
# missing programs, by name; and everybody else who would connect.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use EmbeddedTest;
use Test::More;

my $program = "$ENV{TRUNKLINE_TEST_DIR}/embedded_hold";

sub refused {
    my ($name, $id, $dir, $status, $message, %env) = @_;
    my $before = -d $dir ? entries($dir) : '';
    my $holder = hold($id, $dir, %env);
    ok !$holder->ready, "$name is refused";
    is $holder->{status}, $status, "$name: status";
    like $holder->{message}, $message, "$name: message";
    isnt $holder->{hint}, '', "$name: with a hint";
    is -d $dir ? entries($dir) : '', $before, "$name: untouched";
    $holder->end;
    return $holder;
}

for my $id (identities()) {
    my $who = "CFG-5 $id->{name}";
    my $give = sub { chown $id->{server_uid}, -1, @_ if $> == 0 };

    # Default directory.
    my $home = new_path($id) . '/home';
    my ($default) = run_as($id, {HOME => $home}, $program, 'dir');
    like $default, $id->{uid} == 0 ? qr{^/var/lib/trunkline/pg\d+$} : qr{^\Q$home/.local/share/trunkline/pg\E\d+$},
        "$who: default directory";
    if ($id->{uid} != 0) {
        my $data = new_dir($id);
        ($default) = run_as($id, {XDG_DATA_HOME => $data}, $program, 'dir');
        like $default, qr{^\Q$data/trunkline/pg\E(\d+)$}, "$who: XDG_DATA_HOME";
        # Data of an older version goes before newer programs: it is not hidden by an upgrade.
        my $older = 14;
        system 'mkdir', '-p', "$data/trunkline/pg$older/data";
        spew("$data/trunkline/pg$older/data/PG_VERSION", "$older\n");
        if (-x "/usr/lib/postgresql/$older/bin/postgres") {
            ($default) = run_as($id, {XDG_DATA_HOME => $data}, $program, 'dir');
            is $default, "$data/trunkline/pg$older\n", "$who: older data, older programs";
        } else {
            my ($text, $code) = run_as($id, {XDG_DATA_HOME => $data}, $program, 'dir');
            like $text, qr/^failed @{[E_UNSUPPORTED]}\n.*PostgreSQL 14.*package postgresql-14/s,
                "$who: older data without its programs is named, not passed over";
        }
    }

    # Foreign directories.
    my $foreign = new_dir($id);
    spew("$foreign/thesis.txt", 'mine');
    refused("$who: a directory with other things", $id, $foreign, E_INVALID, qr/is not trunkline's$/);
    my $cluster = new_dir($id);
    spew("$cluster/PG_VERSION", "15\n");
    my $other = refused("$who: a cluster of somebody else", $id, $cluster, E_INVALID, qr/is not trunkline's$/);
    like $other->{detail}, qr/cluster that trunkline did not make/, "$who: and says so";
    my $file = new_path($id);
    spew($file, 'a file');
    my $holder = hold($id, $file);
    ok !$holder->ready && slurp($file) eq 'a file', "$who: a file is refused";
    $holder->end;

    # Our own, but wrong.
    my $dir = new_path($id);
    $holder = hold($id, $dir);
    ok $holder->ready && $holder->leave, "$who: a cluster" or diag explain [@$holder{qw(message detail)}];
    my $version = slurp("$dir/data/PG_VERSION");
    spew("$dir/data/PG_VERSION", "99\n");
    refused("$who: data of a newer version", $id, $dir, E_UNSUPPORTED, qr/made by PostgreSQL 99, the programs found are version \d+$/);
    spew("$dir/data/PG_VERSION", "13\n");
    refused("$who: data of an older version", $id, $dir, E_UNSUPPORTED, qr/made by PostgreSQL 13/);
    spew("$dir/data/PG_VERSION", "nonsense\n");
    refused("$who: data without a version", $id, $dir, E_INVALID, qr/is not a PostgreSQL cluster$/);
    spew("$dir/data/PG_VERSION", $version);
    chmod 0755, $dir;
    refused("$who: a directory open to others", $id, $dir, E_DENIED, qr/is open to other users$/);
    chmod 0700, $dir;
    symlink $dir, "$dir.link" or die;
    if ($id->{uid} == 0) {
        refused("$who: a symbolic link", $id, "$dir.link", E_DENIED, qr/is a symbolic link$/);
        refused("$who: a symbolic link with a slash", $id, "$dir.link/", E_DENIED, qr/is a symbolic link$/);
        my @daemon = getpwnam('daemon');
        chown $daemon[2], -1, $dir;
        refused("$who: a directory of another user", $id, $dir, E_DENIED, qr/belongs to another user$/);
        chown $id->{server_uid}, -1, $dir;
        my $empty = new_dir($id);
        chown $daemon[2], -1, $empty;
        refused("$who: an empty directory of another user", $id, $empty, E_DENIED, qr/belongs to another user$/);
        my $closed = new_dir($id);
        chmod 0700, $closed;
        my $unreachable = hold($id, "$closed/pg");
        ok !$unreachable->ready && $unreachable->{message} =~ /cannot reach directory/,
            "$who: a directory that the server's user cannot reach is named" or diag explain $unreachable->{message};
        $unreachable->end;
    } else {
        $holder = hold($id, "$dir.link");
        ok $holder->ready && $holder->leave, "$who: a user's own symbolic link is followed";
        if ($> == 0) {
            my $roots = new_dir($id);
            chown 0, 0, $roots;
            chmod 0755, $roots;
            refused("$who: an empty directory of root", $id, $roots, E_DENIED, qr/belongs to another user$/);
        }
    }
    $holder = hold($id, $dir);
    ok $holder->ready && $holder->leave, "$who: after all that it still starts";
    my $made = new_dir($id);
    chmod 0755, $made;
    $holder = hold($id, $made);
    ok $holder->ready && $holder->leave, "$who: an empty directory made beforehand is taken";
    is sprintf('%o %d', (stat $made)[2] & 07777, (stat _)[4]), "700 $id->{server_uid}", "$who: and closed to others";

    # A server that cannot start says why: with the end of its log.
    my $conf = slurp("$dir/data/postgresql.conf");
    spew("$dir/data/postgresql.conf", "$conf\nno_such_setting = 1\n");
    $holder = hold($id, $dir);
    ok !$holder->ready, "$who: a server that cannot start";
    is $holder->{status}, E_SERVER, "$who: status";
    like $holder->{detail}, qr/no_such_setting/, "$who: the reason from its log";
    $holder->end;
    spew("$dir/data/postgresql.conf", $conf);

    # Programs.
    my $empty = new_dir($id);
    my $missing = refused("$who: a directory without programs", $id, new_path($id), E_NOTFOUND,
        qr/^no PostgreSQL server programs in "\Q$empty\E"$/, TRUNKLINE_PG_BINDIR => $empty);
    like $missing->{hint}, qr/package postgresql-15/, "$who: names the package";
    my ($fake, $code) = (new_dir($id));
    for my $name (qw(initdb postgres)) {
        spew("$fake/$name", "#!/bin/sh\necho 'postgres (PostgreSQL) 13.9'\n");
        chmod 0755, "$fake/$name";
    }
    refused("$who: programs that are too old", $id, new_path($id), E_NOTFOUND, qr/^no PostgreSQL server programs in/,
        TRUNKLINE_PG_BINDIR => $fake);
  SKIP: {
        my ($text) = run_as({wrap => []}, {}, 'unshare', '-m', 'echo', 'permitted');
        skip 'mount namespaces are not permitted here', 1 if $text !~ /permitted/ || $> != 0;
        ($text) = run_as({wrap => []}, {}, 'unshare', '-m', 'sh', '-c',
            'mount -t tmpfs none /usr/lib/postgresql && exec "$@"', 'sh', @{$id->{wrap}},
            'env', "TRUNKLINE_DATA_DIR=" . new_path($id), 'PATH=/usr/bin:/bin', $program);
        like $text, qr/^failed @{[E_NOTFOUND]}\nmessage: no PostgreSQL server programs found\ndetail: .*pg_config.*\nhint: .*postgresql-15/m,
            "$who: a machine without server programs";
    }

    # Nobody else may connect: neither by the file system nor, were that open, by the server.
  SKIP: {
        skip 'only root can try as another user', 4 if $> != 0;
        my @daemon = getpwnam('daemon');
        my $stranger = {wrap => ['setpriv', "--reuid=$daemon[2]", "--regid=$daemon[3]", '--clear-groups', '--']};
        $holder = hold($id, $dir);
        ok $holder->ready, "$who: a server";
        like query($stranger, $holder->{conninfo}, 'SELECT 1'), qr/Permission denied/, "$who: another user does not reach the socket";
        chmod 0755, $dir, "$dir/run";
        chmod 0777, "$dir/run/.s.PGSQL.5432";
        for my $role (qw(trunkline postgres)) {
            (my $conninfo = $holder->{conninfo}) =~ s/user=\S+/user=$role/;
            like query($stranger, $conninfo, 'SELECT 1'), qr/Peer authentication failed/,
                "$who: nor is he let in as $role where he does";
        }
        chmod 0700, $dir, "$dir/run";
        $holder->leave;
    }
}
done_testing;
