#!/usr/bin/env perl
# CFG-5: the private PostgreSQL is made, started, stopped, adopted and recovered, as root too.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use EmbeddedTest;
use Test::More;
use Time::HiRes qw(time);

for my $id (identities()) {
    my $who = "CFG-5 $id->{name}";
    my $dir = new_path($id);

    # First and second start.
    my $began = time;
    my $first = hold($id, $dir);
    ok $first->ready, "$who: first start" or diag explain [@$first{qw(message detail)}];
    note sprintf 'first start: %.2f s', time - $began;
    is $first->{how}, 'started', "$who: it was started";
    like $first->progress, qr/initialising/, "$who: it tells of the initialisation";
    is sprintf('%o %d', (stat $dir)[2] & 07777, (stat _)[4]), "700 $id->{server_uid}",
        "$who: the directory is the server user's alone";
    is((stat "/proc/$first->{server}")[4], $id->{server_uid}, "$who: the server runs as that user");
    is $first->psql('SELECT current_user, current_database()'), 'trunkline|trunkline',
        "$who: role and database";
    is $first->psql('SELECT rolsuper FROM pg_roles WHERE rolname = current_user'), 'f',
        "$who: the role is no superuser";
    my $settings = join ' ', map { "$_=" . $first->psql("SHOW $_") }
        qw(listen_addresses fsync synchronous_commit full_page_writes server_encoding);
    is $settings, 'listen_addresses= fsync=on synchronous_commit=on full_page_writes=on '
        . 'server_encoding=UTF8', "$who: no network, durable, UTF-8";
    is $first->psql('CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)'), '', "$who: a table";
    ok $first->leave, "$who: close";
    ok !is_alive($first->{server}), "$who: the last one to leave stops the server";
    is server_pid($dir), undef, "$who: it was stopped cleanly";

    $began = time;
    my $second = hold($id, $dir);
    ok $second->ready, "$who: second start";
    note sprintf 'second start: %.3f s', time - $began;
    unlike $second->progress, qr/initialising/, "$who: which initialises nothing";
    is $second->psql('SELECT n FROM kept'), '1', "$who: the data is there";

    # The owner is killed: the server runs on and is adopted.
    $second->kill9;
    ok is_alive($second->{server}), "$who: kill -9 of the owner leaves the server";
    is $second->line, undef, "$who: and the server keeps none of its owner's files open";
    my $third = hold($id, $dir);
    ok $third->ready, "$who: start after the owner was killed";
    is "$third->{how} $third->{server}", "adopted $second->{server}", "$who: adopts that server";
    ok $third->leave, "$who: close";
    ok !is_alive($third->{server}), "$who: the adopter stops it";

    # Ctrl-C at the owner's terminal.
    my $fourth = hold($id, $dir);
    ok $fourth->ready, "$who: start";
    kill INT => -$fourth->{pid};
    $fourth->end;
    ok is_alive($fourth->{server}), "$who: SIGINT to the owner's process group spares the server";

    # The server is killed. Its parent lives and has a zombie; the pid file is stale.
    my $parent = hold($id, $dir);
    ok $parent->ready, "$who: adopted";
    is $parent->{server}, $fourth->{server}, "$who: the same server";
    ok $parent->leave, "$who: close";
    $parent = hold($id, $dir);
    ok $parent->ready, "$who: started by a process that stays";
    is $parent->psql('INSERT INTO kept VALUES (2)'), '', "$who: a committed row";
    kill KILL => $parent->{server};
    ok wait_until(sub { !is_alive($parent->{server}) }), "$who: kill -9 of the server";
    my $other = hold($id, $dir);
    ok $other->ready, "$who: another process starts it anew" or diag explain [@$other{qw(message detail)}];
    isnt $other->{server}, $parent->{server}, "$who: a new server";
    is $other->psql('SELECT max(n) FROM kept'), '2', "$who: with the committed row";
    my $old = $parent->{server};
    $parent->say_word('ensure');
    ok $parent->ready, "$who: ensure";
    is $parent->{server}, $other->{server}, "$who: finds the new server";
    kill KILL => $other->{server};
    ok wait_until(sub { !is_alive($other->{server}) }), "$who: kill -9 of the new server";
    $parent->say_word('ensure');
    ok $parent->ready, "$who: ensure starts it again";
    is $parent->psql('SELECT max(n) FROM kept'), '2', "$who: with the committed row";

    # Both killed.
    $other->kill9;
    $parent->kill9;
    kill KILL => $parent->{server};
    ok wait_until(sub { !is_alive($parent->{server}) }), "$who: kill -9 of everything";
    my $after = hold($id, $dir);
    ok $after->ready, "$who: start after that";
    is $after->psql('SELECT count(*) FROM kept'), '2', "$who: all rows there";

    # A closer is killed half-way: the server is told to go, and the mark says so.
    $after->kill9;
    spew("$dir/stopping", '');
    my $next = hold($id, $dir);
    ok $next->ready, "$who: start with an unfinished stop";
    isnt $next->{server}, $after->{server}, "$who: does not attach to a server that is told to go";
    ok !-e "$dir/stopping", "$who: the mark is gone";
    ok $next->leave, "$who: close";

    # The pid in a left-over pid file now belongs to another process of the same user.
    my $reused = fork // die;
    if ($reused == 0) {
        $> == 0 and do { $( = $) = "$id->{server_uid} $id->{server_uid}"; $< = $> = $id->{server_uid} };
        exec 'tail', '-f', '/dev/null';
    }
    wait_until(sub { (slurp("/proc/$reused/comm") // '') eq "tail\n" });
    spew("$dir/data/postmaster.pid", "$reused\n$dir/data\n1\n5432\n$dir/run\n\n1 1\nready   \n");
    chown $id->{server_uid}, -1, "$dir/data/postmaster.pid" if $> == 0;
    my $unfooled = hold($id, $dir);
    ok $unfooled->ready, "$who: start with a reused pid in the pid file"
        or diag explain [@$unfooled{qw(message detail)}];
    ok is_alive($reused), "$who: that process is left alone";

    # A copy of a live directory carries its pid file; it is another cluster all the same.
    my $copy = new_path($id);
    $unfooled->psql('CHECKPOINT');
    system('cp', '-a', $dir, $copy) == 0 or die;
    my $copied = hold($id, $copy);
    ok $copied->ready, "$who: start of a copied directory" or diag explain [@$copied{qw(message detail)}];
    isnt $copied->{server}, $unfooled->{server}, "$who: is a server of its own";
    like $copied->{conninfo}, qr/\Q$copy/, "$who: with a socket of its own";
    ok $copied->leave, "$who: close the copy";
    ok $unfooled->works, "$who: the original runs on";
    ok $unfooled->leave, "$who: close";
    kill KILL => $reused;
    waitpid $reused, 0;

    # Killed within initdb: its owner alone, or with it.
    for my $victims ('the owner', 'the owner and initdb') {
        my $fresh = new_path($id);
        my $crashed = hold($id, $fresh);
        ok wait_until(sub { -e "$fresh/data.tmp/PG_VERSION" || -e "$fresh/data" }), "$who: initdb is at work";
        my @children = split ' ', slurp("/proc/$crashed->{pid}/task/$crashed->{pid}/children") // '';
        $crashed->kill9;
        if ($victims =~ /initdb/) {
            kill KILL => @children;
        }
        ok !-e "$fresh/data", "$who: kill -9 of $victims within initdb leaves no cluster";
        my $again = hold($id, $fresh);
        ok $again->ready, "$who: the next start makes it" or diag explain [@$again{qw(message detail)}];
        is $again->psql('SELECT 1'), '1', "$who: and it works";
        ok !-e "$fresh/data.tmp", "$who: nothing is left of the first";
        ok $again->leave, "$who: close";
    }

    # The log does not grow without limit.
    system('truncate', '-s', '9M', "$dir/server.log") == 0 or die;
    my $logged = hold($id, $dir);
    ok $logged->ready, "$who: start with a large log";
    ok -s "$dir/server.log.1" && -s "$dir/server.log" < 1e6, "$who: it is put aside";
    # Nor does it get what events hold.
    like $logged->psql("SELECT 'secret of a payload' / 1"), qr/secret of a payload/, "$who: a failing statement";
    unlike slurp("$dir/server.log"), qr/secret/, "$who: does not reach the log";
    ok $logged->leave, "$who: close";

    # A hostile environment.
    my $odd = new_path($id) . " o'd\\d";
    my $env = hold($id, $odd, PGHOSTADDR => '192.0.2.1', PGPORT => 1, PGUSER => 'x', PGDATA => '/nowhere',
        PGPASSWORD => 's3cret', LC_ALL => 'de_DE.UTF-8', TRUNKLINE_DB => 'password=s3cret');
    ok $env->ready, "$who: PG* variables and an odd path do not disturb" or diag explain [@$env{qw(message detail)}];
    ok $env->works, "$who: nor do they with the conninfo";
  SKIP: {
        my $environ = slurp("/proc/$env->{server}/environ") // skip 'may not read the environment of a process', 1;
        unlike $environ, qr/s3cret/, "$who: the server's environment has no secret";
    }
    ok $env->leave, "$who: close";

    # A socket path that is too long.
    my $runtime = new_dir($id);
    chmod 0700, $runtime;
    my $long = new_path($id) . '/' . join '/', ('d' x 60) x 2;
    my $far = hold($id, $long, XDG_RUNTIME_DIR => $runtime);
    ok $far->ready, "$who: start in a long path" or diag explain [@$far{qw(message detail)}];
    my ($socket) = $far->{conninfo} =~ /host='(.*?)'/;
    my $where = $id->{uid} == 0 ? qr{/(run|tmp)} : qr{\Q$runtime};
    like $socket, qr{^$where/trunkline-$id->{server_uid}/[0-9a-f]{16}$}, "$who: its socket is elsewhere";
    is sprintf('%o %d', (stat $socket)[2] & 07777, (stat _)[4]), "700 $id->{server_uid}",
        "$who: in a directory of the server user alone";
    is $far->psql('SELECT 1'), '1', "$who: and works";
    # Started without that variable, as by cron: the server says itself where its socket is.
    my $cron = hold($id, $long);
    ok $cron->ready, "$who: attached with another runtime directory";
    is $cron->{conninfo}, $far->{conninfo}, "$who: to the same socket";
    ok $cron->leave && $far->leave, "$who: close";
    rmdir $socket and rmdir $socket =~ s{/[^/]+$}{}r;
    if ($id->{uid} != 0) {
        # Somebody prepared the place.
        my $trap = new_dir($id);
        chmod 0700, $trap;
        symlink $runtime, "$trap/trunkline-$id->{server_uid}" or die;
        my $wary = hold($id, $long, XDG_RUNTIME_DIR => $trap);
        ok $wary->ready, "$who: start with a prepared runtime directory";
        ($socket) = $wary->{conninfo} =~ /host='(.*?)'/;
        like $socket, qr{^/tmp/trunkline-}, "$who: which is not followed";
        ok $wary->leave, "$who: close";
        rmdir $socket and rmdir $socket =~ s{/[^/]+$}{}r;
    }
}
done_testing;
