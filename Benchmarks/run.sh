#!/bin/sh
# Throughput of reading and writing the migration stream, then the instruction gate.
set -eu
cd "$(dirname "$0")/.."
swift build -c release --product StreamBench >&2
.build/release/StreamBench
Benchmarks/instructions.sh
