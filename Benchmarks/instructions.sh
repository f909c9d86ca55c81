#!/bin/sh
# Counts instructions per page with callgrind and compares them with thresholds.txt: the gate that
# a noisy machine cannot fail by chance. usage: Benchmarks/instructions.sh
set -eu
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "valgrind is missing: apt install valgrind" >&2; exit 2; }
swift build -c release --product StreamBench >&2
swift build -c release --product PageBench >&2
pages=2048
# Without debug information: valgrind can't read that of every library.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for bench in StreamBench PageBench; do strip -o "$work/$bench" ".build/release/$bench"; done

# Instructions of a run: count BENCH OPERATION ROUNDS
count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$work/$1" "$2" "$pages" "$3" 2>&1 |
    sed -n 's/^==[0-9]*== Collected *: *//p'
}

status=0
while read -r bench operation limit; do
  case $bench in '' | '#'*) continue ;; esac
  few=$(count "$bench" "$operation" 1)
  many=$(count "$bench" "$operation" 11)
  each=$(((many - few) / (10 * pages)))
  verdict=ok
  [ "$each" -le "$limit" ] || { verdict=OVER; status=1; }
  echo "$operation: $each instructions a page (limit $limit) $verdict"
done <Benchmarks/thresholds.txt
exit $status
