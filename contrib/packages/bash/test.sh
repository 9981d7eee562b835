set -euo pipefail
read -r number
[ "$(seq 3 | awk '{ sum += $1 } END { print sum }')" = 6 ] && [ "$number" = 7 ]
echo OK
