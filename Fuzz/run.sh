#!/bin/sh
# Fuzzes the parsers of hostile bytes with libFuzzer and AddressSanitizer.
# usage: Fuzz/run.sh [TARGET|all] [SECONDS]; targets are the files of Fuzz/Targets.
# New inputs go to Fuzz/work/corpus; `Fuzz/run.sh --merge TARGET` moves those that reach new code
# into Fuzz/corpus, which the tests replay. A crash leaves its input in Fuzz/work/crashes.
set -eu
cd "$(dirname "$0")"
merge=0
if [ "${1:-}" = --merge ]; then merge=1; shift; fi
target=${1:-all}
seconds=${2:-60}
build=work
mkdir -p "$build"
flags="-swift-version 6 -O -g -parse-as-library -sanitize=fuzzer,address -I $build -I ../Sources/CXXHash
  -I ../Sources/CZstd -I ../Sources/CLZ4
  -enable-upcoming-feature ExistentialAny -enable-upcoming-feature MemberImportVisibility
  -enable-upcoming-feature InternalImportsByDefault -enable-experimental-feature Lifetimes"

# Compiles one module of the product as a static library: module NAME, libraries to import.
library() {
  # shellcheck disable=SC2046,SC2086
  swiftc $flags -wmo -module-name "$1" -emit-module -emit-module-path "$build/$1.swiftmodule" \
    -emit-library -static -o "$build/lib$1.a" $(find "../Sources/$1" -name '*.swift')
}

library Base
library QEMUStream
library Wire
library NBD
library DiskStrategy
library Compaction
library QMP
library Strategy
library Simulator

fuzz() {
  # shellcheck disable=SC2086
  swiftc $flags -module-name Fuzzer -o "$build/$1" Harness/*.swift "Targets/$1.swift" \
    -L "$build" -lQEMUStream -lCompaction -lWire -lNBD -lDiskStrategy -lQMP -lSimulator -lStrategy -lBase -lxxhash -lzstd -llz4 \
    -lswiftSynchronization -lm
  mkdir -p "$build/corpus/$1" "$build/crashes" "corpus/$1"
  if [ "$merge" = 1 ]; then
    "$build/$1" -set_cover_merge=1 -max_len=6000 "corpus/$1" "$build/corpus/$1"
    return
  fi
  echo "fuzzing $1 for $seconds s"
  "$build/$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=6000 \
    -print_final_stats=1 -artifact_prefix="$build/crashes/$1-" "$build/corpus/$1" "corpus/$1"
}

if [ "$target" = all ]; then
  for file in Targets/*.swift; do fuzz "$(basename "$file" .swift)"; done
elif [ -f "Targets/$target.swift" ]; then
  fuzz "$target"
else
  echo "no such target: $target; there are: $(cd Targets && echo *.swift | sed 's/\.swift//g')" >&2
  exit 2
fi
