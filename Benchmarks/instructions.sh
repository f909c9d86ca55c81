#!/bin/sh
# Counts instructions per page with callgrind and compares them with thresholds.txt: the gate that
# a noisy machine cannot fail by chance. usage: Benchmarks/instructions.sh
set -eu
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "valgrind is missing: apt install valgrind" >&2; exit 2; }
swift build -c release --product StreamBench >&2
bench=.build/release/StreamBench
pages=2000

# Instructions of a run with ROUNDS rounds of an operation.
count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" "$1" "$pages" "$2" 2>&1 |
    sed -n 's/^==[0-9]*== Collected *: *//p'
}

status=0
while read -r operation limit; do
  case $operation in '' | '#'*) continue ;; esac
  few=$(count "$operation" 1)
  many=$(count "$operation" 11)
  each=$(((many - few) / (10 * pages)))
  verdict=ok
  [ "$each" -le "$limit" ] || { verdict=OVER; status=1; }
  echo "$operation: $each instructions a page (limit $limit) $verdict"
done <Benchmarks/thresholds.txt
exit $status
