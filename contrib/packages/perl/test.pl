use strict;
use warnings;
use List::Util qw(sum);
use POSIX qw(floor);
die unless sum(split ' ', '1 2 3') == 6 && floor(7.5) == <STDIN>;
print "OK\n";
