#!/usr/bin/env bash
# Builds every recipe here (or those that are named) through a daemon of its own, runs the test
# programs in them, and writes the table of results to contrib/docs/PACKAGES.md.
#
# Needs apt's lists and their servers; `piston` and `pistond` from BIN (default: target/release).
# With --check nothing is written: it ends with 1 when a program does not print OK.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${BIN:-target/release}
table=contrib/docs/PACKAGES.md
[ "${1:-}" != --check ] || { table=; shift; }
[ $# -gt 0 ] || set -- $(cd contrib/packages && printf '%s\n' */ | tr -d /)

work=$(mktemp -d)
# Its own mount as well: another daemon may be running.
printf '[filesystem]\nmount = "%s"\n' "$work/fs" >"$work/piston.toml"
"$bin/pistond" serve --config "$work/piston.toml" --data "$work/data" --socket "$work/s" >"$work/log" 2>&1 &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null || true; rm -rf "$work"' EXIT
export PISTON_HOST=unix://$work/s
for _ in $(seq 100); do "$bin/piston" status >/dev/null 2>&1 && break; sleep 0.1; done
"$bin/piston" status >/dev/null || { cat "$work/log" >&2; exit 1; }

now() { date +%s%N; }
milliseconds() { echo $((($2 - $1) / 1000000)); }

# Runs a program; prints how long it took, or says what it printed instead of OK.
try() {
    local begin said
    begin=$(now)
    said=$(echo 7 | "$bin/piston" run "$1" "$2" 2>&1) || true
    [ "$said" = OK ] || { echo "$1 prints: $said" >&2; return 1; }
    milliseconds "$begin" "$(now)"
}

failed=0
rows=
"$bin/piston" package from-debian base >/dev/null
for recipe; do
    folder=contrib/packages/$recipe
    begin=$(now)
    made=$("$bin/piston" package build "$folder") || { failed=1; continue; }
    took=$(milliseconds "$begin" "$(now)")
    info=$("$bin/piston" package list | awk -v name="$recipe" '$1 == name')
    version=$(awk '{ print $2 }' <<<"$info")
    size=$(sed -n 's/.*  \([0-9.]* [KMG]*i*B\)  .*/\1/p' <<<"$info")
    while read -r language program; do
        if first=$(try "$language" "$folder/$program") && warm=$(try "$language" "$folder/$program"); then
            rows+="| $language | $recipe $version | $size | $((took / 1000)).$((took % 1000 / 100)) s | $first ms | $warm ms |"$'\n'
            echo "$language: OK ($first ms, $warm ms)"
        else
            failed=1
        fi
    done < <(sed -n '/^\[test\]/,/^$/s/^"\{0,1\}\([^" =]*\)"\{0,1\} = "\(.*\)"$/\1 \2/p' "$folder/recipe.toml")
done

if [ -n "$table" ] && [ "$failed" = 0 ]; then
    {
        echo "# Packages"
        echo
        echo "What \`contrib/packages/build-all.sh\` measured with $(. /etc/os-release && echo "$PRETTY_NAME") on"
        echo "$(nproc) processors: the image's size without \`debian-base\`, the time to download and build it,"
        echo "the first run of the test program (compiling included) and the second, both with the start of"
        echo "the command line client."
        # Debug builds unpack and serve several times as slowly.
        [ "${bin##*/}" != debug ] || echo "Measured with a debug build on a busy machine: upper bounds."
        echo
        echo "| language | package | size | build | first run | warm run |"
        echo "|---|---|---|---|---|---|"
        printf %s "$rows"
    } >"$table"
fi
exit $failed
