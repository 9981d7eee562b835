BEGIN { count = split("1 2 4", numbers); for (i = 1; i <= count; i++) sum += numbers[i] }
$1 == sum { print "OK" }
