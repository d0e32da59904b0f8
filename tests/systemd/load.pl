# Clients that connect again and again, for tests/systemd/run: plain requests, handshakes with PeerJS and requests to its
# API. Each must have its whole answer. Ends when the file that is the first argument is gone, prints how many there were,
# how long the slowest took, and each that failed; the exit status is 0 if none did.
use strict;
use warnings;
use IO::Socket::INET;
use POSIX ();

my ($running, $port, $workers) = @ARGV;
my $upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

# Seconds since some moment; Time::HiRes is not in each Debian.
sub now { return (POSIX::times())[0] / POSIX::sysconf(POSIX::_SC_CLK_TCK()) }

# Returns what is wrong with the answer to a request, or nothing. `until` is what the answer ends with.
sub ask {
    my ($request, $status, $until) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 30) or return "connect: $@";
    $socket->autoflush(1);
    local $SIG{PIPE} = 'IGNORE';
    local $SIG{ALRM} = sub { die "no answer\n" };
    alarm 30;
    my $answer = '';
    my $problem = eval {
        print $socket $request or return "write: $!";
        while ($answer !~ $until) {
            my $count = sysread($socket, $answer, 4096, length $answer);
            defined $count or return "read: $!";
            $count or return "cut: $answer";
        }
        return $answer =~ $status ? undef : "answer: $answer";
    };
    alarm 0;
    return $problem // ($@ || undef);
}

sub work {
    my ($worker) = @_;
    my ($count, $slowest) = (0, 0);
    while (-e $running) {
        my $id = "load-$worker-$count";
        my @requests = (
            ["GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", qr/^HTTP\/1.1 200 /, qr/\r\n\r\n./s],
            ["GET /peerjs/id HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", qr/^HTTP\/1.1 200 /, qr/\r\n\r\n.{36}/s],
            ["GET /peerjs?key=peerjs&id=$id&token=t HTTP/1.1\r\nHost: h\r\n$upgrade", qr/^HTTP\/1.1 101 /, qr/"OPEN"/],
        );
        my $start = now();
        my $problem = ask(@{$requests[$count % 3]});
        my $took = now() - $start;
        $slowest = $took if $took > $slowest;
        print "failed $problem\n" if defined $problem;
        $count++;
    }
    printf "%d %.2f\n", $count, $slowest;
}

my @pipes;
for my $worker (1 .. $workers) {
    my $pid = open(my $pipe, '-|') // die "fork: $!";
    if (!$pid) {
        work($worker);
        exit 0;
    }
    push @pipes, $pipe;
}
my ($count, $slowest, $failed) = (0, 0, 0);
for my $pipe (@pipes) {
    while (my $line = <$pipe>) {
        if ($line =~ /^failed/) {
            print $line;
            $failed++;
        } elsif ($line =~ /^(\d+) ([\d.]+)$/) {
            $count += $1;
            $slowest = $2 if $2 > $slowest;
        }
    }
}
print "$count clients, $failed failed, the slowest took $slowest s\n";
exit($failed || !$count ? 1 : 0);
