#!/bin/sh
# Throughput of reading and writing the migration stream and of making pages small, then the instruction gate.
set -eu
cd "$(dirname "$0")/.."
swift build -c release --product StreamBench >&2
.build/release/StreamBench
swift build -c release --product PageBench >&2
.build/release/PageBench
Benchmarks/instructions.sh
