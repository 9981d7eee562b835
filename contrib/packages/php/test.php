<?php
$sum = array_sum(json_decode("[1, 2, 3]"));
if ($sum !== 6 || (int) fgets(STDIN) !== 7 || !ctype_digit("7") || strlen(hash("sha256", "x")) !== 64) exit(1);
echo "OK\n";
