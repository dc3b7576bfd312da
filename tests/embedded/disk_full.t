#!/usr/bin/env perl
# CFG-5: the disk of the private PostgreSQL is full: a clear error, nothing committed is lost, and it
# works again when there is space. On a small tmpfs in a mount namespace of its own.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Test::More;

if (!$ENV{TRUNKLINE_TEST_IN_NAMESPACE}) {
    my $permitted = $> == 0 ? qx(unshare -m sh -c 'mount -t tmpfs none /mnt && echo yes' 2>/dev/null) : '';
    if ($permitted !~ /yes/) {
        plan skip_all => 'mount namespaces are not permitted here';
    }
    $ENV{TRUNKLINE_TEST_IN_NAMESPACE} = 1;
    exec 'unshare', '-m', $^X, $0 or die "unshare: $!";
}
require EmbeddedTest;
EmbeddedTest->import;

# Rows are inserted one transaction each until one fails; returns how many were confirmed, and the error.
sub fill {
    my ($holder) = @_;
    my $sql = q(INSERT INTO kept SELECT n, repeat(md5(n::text), 3000) FROM (SELECT count(*) n FROM kept) c;);
    my $confirmed = 0;
    for (1 .. 2000) {
        my $got = $holder->psql("ALTER TABLE kept ALTER payload SET STORAGE EXTERNAL; $sql");
        return ($confirmed, $got) if $got ne '';
        $confirmed++;
    }
    return ($confirmed, 'never full');
}

for my $id (EmbeddedTest::identities()) {
    my $who = "CFG-5 $id->{name}";

    # Too small for the cluster itself.
    my $tiny = EmbeddedTest::new_dir($id);
    system("mount -t tmpfs -o size=20m,mode=0700,uid=$id->{uid} none $tiny") == 0 or die;
    my $holder = EmbeddedTest::hold($id, $tiny);
    ok !$holder->ready, "$who: no space for the cluster";
    is $holder->{status}, EmbeddedTest::E_SERVER(), "$who: status";
    like "$holder->{message} $holder->{detail}", qr/initdb.*No space left on device/s, "$who: says so";
    ok !-e "$tiny/data" && !-e "$tiny/data.tmp", "$who: and leaves no half cluster";
    $holder->end;
    system("mount -o remount,size=200m $tiny") == 0 or die;
    $holder = EmbeddedTest::hold($id, $tiny);
    ok $holder->ready, "$who: with space it is made";
    ok $holder->leave, "$who: close";
    system "umount $tiny";

    # Full while running, by its own data, in heap or in the log.
    my $dir = EmbeddedTest::new_dir($id);
    system("mount -t tmpfs -o size=110m,mode=0700,uid=$id->{uid} none $dir") == 0 or die;
    $holder = EmbeddedTest::hold($id, $dir);
    ok $holder->ready, "$who: a small disk" or diag explain [@$holder{qw(message detail)}];
    is $holder->psql('CREATE TABLE kept (n bigint, payload text)'), '', "$who: a table";
    my ($confirmed, $error) = fill($holder);
    note "$confirmed rows, then: $error";
    cmp_ok $confirmed, '>', 0, "$who: rows were committed";
    like $error, qr/No space left on device|Check free disk space|closed the connection/,
        "$who: then the disk is full, and the client is told";

    # A new attempt while it is still full must end, well or with an error, not hang.
    $holder->say_word('ensure');
    my $is_up = $holder->ready;
    note $is_up ? 'the server stayed up' : "ensure: $holder->{message}\n$holder->{detail}";
    ok $is_up || "$holder->{message} $holder->{detail}" =~ /No space left on device/, "$who: ensure says what is wrong, or nothing is";

    system("mount -o remount,size=300m $dir") == 0 or die;
    $holder->say_word('ensure');
    ok $holder->ready, "$who: with space the server works" or diag explain [@$holder{qw(message detail)}];
    my ($rows, $whole) = split /\|/, $holder->psql('SELECT count(*), count(*) FILTER (WHERE payload = repeat(md5(n::text), 3000)) FROM kept');
    # The one that failed may have been committed without its client being told.
    ok $rows == $confirmed || $rows == $confirmed + 1, "$who: every confirmed row is there" or diag "$rows of $confirmed";
    is $whole, $rows, "$who: and whole";
    is $holder->psql(q(INSERT INTO kept VALUES (-1, 'x'))), '', "$who: it takes new rows";
    ok $holder->leave, "$who: close";

    # No byte left, neither for tables nor for the write-ahead log, without which the server panics.
    $holder = EmbeddedTest::hold($id, $dir);
    ok $holder->ready, "$who: start";
    system "dd if=/dev/zero of=$dir/ballast bs=64k >/dev/null 2>&1; true";
    like $holder->psql('CREATE TABLE more AS SELECT * FROM kept'),
        qr/No space left on device|Check free disk space|closed the connection/, "$who: no byte left: a clear error";
    my $log = $holder->psql(q(SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000)) FROM generate_series(1, 400)));
    like $log, qr/closed the connection|No space left/, "$who: no byte left for the write-ahead log: the client is told";
    note $log;
    $holder->say_word('ensure');
    my $is_ready = $holder->ready;
    note $is_ready ? 'ensure: attached' : "ensure: $holder->{message}: $holder->{detail} ($holder->{hint})";
    ok $is_ready || "$holder->{detail} $holder->{hint}" =~ /no space left on/i, "$who: ensure says what is wrong, or nothing is";
    $holder->kill9;
    my $next = EmbeddedTest::hold($id, $dir);
    $is_ready = $next->ready;
    note $is_ready ? 'open: attached' : "open: $next->{message}: $next->{detail} ($next->{hint})";
    ok $is_ready || "$next->{detail} $next->{hint}" =~ /no space left on/i, "$who: so does open";
    $next->leave if $is_ready;
    $next->end;
    unlink "$dir/ballast" or die;
    $holder = EmbeddedTest::hold($id, $dir);
    ok $holder->ready, "$who: starts when there is space" or diag explain [@$holder{qw(message detail)}];
    is $holder->psql('SELECT count(*) FROM kept'), $rows + 1, "$who: nothing is lost";
    ok $holder->leave, "$who: close";
    system "umount $dir";
}
done_testing();
