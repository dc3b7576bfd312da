#!/usr/bin/env perl
# Where webhooks may go is decided on the address that a name resolves to, when the connection is made
# (SUB-11): names in a mount namespace of our own, a "public" address in a network namespace of our own.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my @unshare = ('unshare', '--mount', '--net');
plan skip_all => 'network namespaces are not permitted here'
    if wait_exit(start_program([@unshare, 'sh', '-c', 'ip link set lo up']));

my $db = new_database();
my $dir = workdir();
my $public = '93.184.215.14'; # ours in there, nobody else's is reachable
my $source = source_dir();
my $hosts = spew("$dir/hosts", <<"EOF_HOSTS");
127.0.0.1 inside.test
::1 inside6.test
$public outside.test
127.0.0.1 both.test
$public both.test
127.0.0.1 named.test
10.1.2.3 ten.test
169.254.169.254 metadata.test
EOF_HOSTS

# A name server that hears questions and answers none; a resolver waits for it for 150 s.
my $resolver = spew("$dir/resolv.conf", "nameserver 10.1.2.3\noptions timeout:30 attempts:5\n");
spew("$dir/deaf.py", <<"EOF_PY");
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.1.2.3", 53))
print("ready", flush=True)
while True:
    if b"deaf" in s.recv(512):
        print("asked", flush=True)
EOF_PY

# Everything in there is a child of one shell; it ends when its stdin does.
spew("$dir/inside", <<"EOF_SH");
set -e
ip link set lo up
ip address add $public/32 dev lo
ip address add 10.1.2.3/32 dev lo
ip address add 169.254.169.254/32 dev lo
mount --bind '$hosts' /etc/hosts
python3 '$dir/deaf.py' >'$dir/deaf.out' 2>&1 &
deaf=\$!
python3 '$source/tests/e2e/receiver.py' '' '' 0.0.0.0 >'$dir/canary.out' 2>&1 &
receiver=\$!
trap 'kill \$receiver \$deaf' EXIT
while ! grep -q '^ready' '$dir/deaf.out'; do sleep 0.02; done
while ! grep -q '^port' '$dir/canary.out'; do sleep 0.02; done # it asks for its own name
mount --bind '$resolver' /etc/resolv.conf
'$ENV{TRUNKLINE_BIN}' serve -v --db '$db' "\$@" &
serve=\$!
trap 'kill -TERM \$serve 2>/dev/null' TERM
wait \$serve || wait \$serve
EOF_SH
sub inside { my (@arguments) = @_; unlink "$dir/canary.out"; return start_program([@unshare, 'sh', "$dir/inside", @arguments]) }
sub port { my $port; wait_for(sub { slurp("$dir/canary.out") =~ /^port (\d+)/ && ($port = $1) }) or die 'no receiver'; return $port }
sub got { my ($path) = @_; return grep { $_->{path} eq $path } map { decode($_) } grep { /^\{/ } split /\n/, slurp("$dir/canary.out") }
sub hook { my ($name, $target, $pattern) = @_; return query($db, "SELECT trunkline.subscribe('$name', '@{[$pattern // 'a.*']}', target => '$target', backoff => 'fixed', retry_delay => '1 h')") }
sub error_of { my ($name) = @_; my $error; wait_for(sub { ($error = query($db, "SELECT error_message FROM trunkline.retries JOIN trunkline.subscriptions s USING (subscription_id) WHERE s.name = '$name'")) ne '' }); return $error }
sub served { my ($serve, $name) = @_; return wait_for(sub { slurp($serve->{err}) =~ /event=served subscription=\Q$name\E /}) }

my $serve = inside('--webhook-allow', '127.0.0.2,named.test');
my $port = port();
my %refused = (
    inside => "http://inside.test:$port", inside6 => "http://inside6.test:$port", ten => "http://ten.test:$port",
    metadata => "http://metadata.test:$port", literal => "http://127.0.0.1:$port", literal6 => "http://[::1]:$port",
    mapped => "http://[::ffff:127.0.0.1]:$port", octal => "http://0177.0.0.1:$port", short => "http://127.1:$port", zero => "http://0.0.0.0:$port",
    decimal => "http://2130706433:$port", hex => "http://0x7f000001:$port", user => "http://outside.test\@127.0.0.1:$port",
);
hook($_, "$refused{$_}/ok/canary") for keys %refused;
hook('outside', "http://outside.test:$port/ok/outside");
hook('both', "http://both.test:$port/ok/both");
hook('named', "http://named.test:$port/ok/named");
ok served($serve, $_), "$_ is served" for sort(keys %refused), qw(outside both named);
query($db, "SELECT FROM trunkline.publish('a.one', '1')");
like error_of($_), qr/address refused/, "SUB-11 $refused{$_} is refused" for sort keys %refused;
is scalar(got('/ok/canary')), 0, 'the canary is untouched';
ok wait_for(sub { got('/ok/outside') == 1 }), 'a name with a public address is reached';
ok wait_for(sub { got('/ok/named') == 1 }), 'a host that was allowed by its name too';
ok wait_for(sub { got('/ok/both') == 1 }), 'a name with a private and a public address: by the public one';

# Names that take long to resolve hold up nobody.
query($db, "SELECT trunkline.subscribe('deaf', 'deaf.*', target => 'http://deaf.test/', timeout => '300 ms')");
hook('after', "http://outside.test:$port/ok/after", 'after.*');
ok served($serve, $_), "$_ is served" for qw(deaf after);
query($db, "SELECT FROM trunkline.publish('deaf.one', '1')");
ok wait_for(sub { slurp("$dir/deaf.out") =~ /asked/ }), 'a name server that does not answer';
like error_of('deaf'), qr/timed out/i, 'SUB-11 the time limit ends that request';
query($db, "SELECT FROM trunkline.publish('after.one', '1')");
ok wait_for(sub { got('/ok/after') == 1 }), 'and others go on';

# Rebinding: the same name has another address the next time somebody asks.
spew($hosts, "127.0.0.1 outside.test both.test named.test\n");
is stop_program($serve), 0, 'stop';
$serve = inside('--webhook-allow', '127.0.0.2');
$port = port();
hook('outside', "http://outside.test:$port/ok/canary");
hook('both', "http://both.test:$port/ok/canary");
hook('named', "http://named.test:$port/ok/canary");
ok served($serve, $_), "$_ is served again" for qw(outside both named);
query($db, "SELECT FROM trunkline.publish('a.two', '1')");
like error_of($_), qr/address refused/, "SUB-11 $_: a name that was public before is refused once it points inside" for qw(outside both named);
is scalar(got('/ok/canary')), 0, 'the canary is untouched';
is stop_program($serve), 0, 'stop';
done_testing;
