#!/usr/bin/env perl
# CloudEvents 1.0 as the form of webhooks: structured and binary, parsed by the package `cloudevents`
# (SUB-11).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../support";
use Test::More;
use TrunklineTest;

my $db = new_database();
$ENV{TRUNKLINE_DB} = $db;
my $receiver = receiver();
my $url = $receiver->{url};
sub requests { return $receiver->{requests}->(@_) }
chomp(my $modules = qx("@{[source_dir()]}/tools/node-modules"));
$ENV{NODE_MODULES_DIR} = $modules;

sub node {
    my ($kind, @requests) = @_;
    my $program = start_program(['node', source_dir() . '/tests/node/webhooks.js', @$kind],
        stdin => join '', map { JSON::PP->new->utf8->encode($_) . "\n" } @requests);
    is wait_exit($program), 0, 'node runs' or diag slurp($program->{err});
    return map { decode($_) } split /\n/, slurp($program->{out});
}
# The binding has attributes percent-encoded in headers, which the package leaves to its user.
sub percent { my ($text) = @_; return $text if !defined $text; utf8::encode($text); $text =~ s/%([0-9A-F]{2})/chr hex $1/ge; utf8::decode($text); return $text }

my %form = (structured => 'cloudevents', binary => 'cloudevents-binary', plain => 'plain');
my %secret;
for my $name (sort keys %form) {
    query($db, qq(SELECT trunkline.subscribe('ce/$name', 'shop.**', target => '$url/ok/$name', target_options => '{"format": "$form{$name}"}')));
    chomp($secret{$name} = tl_ok(['webhook', 'secret', 'create', "ce/$name"]));
}
my $serve = start_serve($db, ['--allow-private']);
ok wait_for(sub { (() = slurp($serve->{err}) =~ /event=served subscription=ce/g) == 3 }), 'served';
my $odd = qq(k\x{e9}y "100%" {a}\x{1f600});
my @events = (
    ['shop.order.created', '{"n": 9007199254740993, "t": "gr\u00fc\u00df"}', {key => $odd, tenant_id => 'acme', source => '/orders/eu', expires_at => '2099-01-02T03:04:05Z'}],
    ['shop.order.noted', 'null', {source => 'my app <1>%zz%41'}],
    ['shop.order.listed', '[1, "two"]', {}],
);
my @published;
for my $e (@events) {
    my ($type, $data, $more) = @$e;
    my $arguments = join '', map { my $v = $more->{$_}; $v =~ s/'/''/g; utf8::encode($v); ", $_ => '$v'" } sort keys %$more;
    push @published, query($db, "SELECT id, \"position\" FROM trunkline.publish('$type', '$data'$arguments)");
}
for my $name (sort keys %form) {
    ok wait_for(sub { requests("/ok/$name") == @events }), "$name: delivered";
}

for my $name (qw(structured binary)) {
    my %by_type = map { $_->{type} => $_ } node(['cloudevent'], requests("/ok/$name"));
    my $plain = $name eq 'structured' ? sub { $_[0] } : \&percent;
    my ($first, $second, $third) = @by_type{map { $_->[0] } @events};
    is_deeply [map { $_->{error} } $first, $second, $third], [undef, undef, undef], "$name: SUB-11 all three are valid CloudEvents" or diag explain \%by_type;
    my ($id, $position) = split /\|/, $published[0];
    is_deeply [@$first{qw(specversion id source datacontenttype tenantid position)}], ['1.0', $id, '/orders/eu', $name eq 'structured' ? 'application/json' : 'application/json', 'acme', $position], "$name: attributes";
    is $plain->($first->{$_}), $odd, "$name: $_ is the key" for qw(subject partitionkey);
    like $first->{expirytime}, qr/^2099-01-02T03:04:05/, "$name: expirytime";
    my $created = query($db, qq(SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS') FROM trunkline.topic_bus WHERE id = '$id'));
    is substr($first->{time}, 0, 23), $created, "$name: time";
    is $first->{data}{t}, "gr\x{fc}\x{df}", "$name: data";
    is $plain->($second->{source}), 'my%20app%20%3C1%3E%25zz%41', "$name: a source that is no URI reference becomes one";
    ok !exists $second->{subject} && !exists $second->{tenantid} && !exists $second->{expirytime}, "$name: what the event lacks is not there";
    is $third->{source}, '/trunkline', "$name: no source";
    is_deeply $third->{data}, [1, 'two'], "$name: an array as data";
    my %request = map { ($name eq 'binary' ? $_->{headers}{'ce-type'} : decode_body($_)->{type}) => $_ } requests("/ok/$name");
    my ($r1) = $request{'shop.order.created'};
    is $r1->{headers}{'webhook-id'}, "$id." . query($db, "SELECT subscription_id FROM trunkline.subscriptions WHERE name = 'ce/$name'"), "$name: webhook-id is the delivery id all the same";
    like $r1->{body}, qr/9007199254740993/, "$name: numbers exact";
    is scalar(grep { exists $_->{payload} } node(['v1', $secret{$name}], values %request)), 3, "$name: what was sent is signed";
    is $r1->{headers}{'content-type'}, $name eq 'structured' ? 'application/cloudevents+json; charset=utf-8' : 'application/json', "$name: content type";
    if ($name eq 'binary') {
        is $r1->{body}, '{"n": 9007199254740993, "t": "gr' . "\x{fc}\x{df}" . '"}', 'binary: the body is the data';
        is $request{'shop.order.noted'}{body}, 'null', 'binary: null as well';
        is $r1->{headers}{'ce-subject'}, 'k%C3%A9y%20%22100%25%22%20{a}%F0%9F%98%80', 'binary: headers are percent-encoded as the HTTP binding says';
    }
}
sub decode_body { my ($r) = @_; my $body = $r->{body}; utf8::encode($body); return decode($body) }
is scalar(grep { $_->{error} } node(['cloudevent'], requests('/ok/plain'))), 3, 'plain is no CloudEvent';

# A change of form is taken up.
query($db, qq(SELECT trunkline.subscribe('ce/plain', 'shop.**', target => '$url/ok/now', target_options => '{"format": "cloudevents"}')));
ok wait_for(sub { (() = slurp($serve->{err}) =~ /event=served subscription=ce\/plain/g) == 2 }), 'another form';
tl_ok(['publish', 'shop.x', '1']);
ok wait_for(sub { requests('/ok/now') == 1 }), 'delivered';
is +(node(['cloudevent'], requests('/ok/now')))[0]{data}, 1, 'in that form';

is stop_program($serve), 0, 'stop';
stop_program($receiver);
done_testing;
