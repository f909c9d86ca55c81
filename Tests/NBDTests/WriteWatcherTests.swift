import Base
import NBD
import Testing

/// What is written to an export, seen by somebody who passes a client's bytes on.
@Suite struct WriteWatcherTests {
  /// What became of an export's bytes, piece by piece.
  enum Seen: Equatable {
    case export(String)
    case data(UInt64, [UInt8])
    case cleared(UInt64, UInt64)
  }

  /// - Parameter cuts: lengths of the pieces that come in; the last one is what is left.
  private func seen(_ bytes: [UInt8], _ cuts: [Int] = []) -> [Seen] {
    var watcher = WriteWatcher()
    var all: [Seen] = []
    var first = 0
    for length in cuts + [bytes.count] {
      let part = Array(bytes[first..<min(first + length, bytes.count)])
      first += part.count
      var start = 0
      while let event = watcher.next(in: part.span.bytes, from: &start) {
        switch event {
        case .export(let name): all.append(.export(name))
        case .cleared(let offset, let length): all.append(.cleared(offset, length))
        case .data(let offset, let place):
          if case .data(let begin, let before)? = all.last, begin + UInt64(before.count) == offset {
            all[all.count - 1] = .data(begin, before + part[place])
          } else {
            all.append(.data(offset, Array(part[place])))
          }
        }
      }
      #expect(start == part.count)
    }
    return all
  }

  private func write(
    _ offset: UInt64, _ data: [UInt8], _ mode: ReplyMode, into bytes: inout [UInt8]
  ) {
    NBDRequest(.write, offset: offset, length: UInt64(data.count)).encode(mode, into: &bytes)
    bytes += data
  }

  /// A client as QEMU is one: it asks for what there is, for an export, and then writes.
  private func client(_ mode: ReplyMode) -> (bytes: [UInt8], expected: [Seen]) {
    var raw = RawClient()
    raw.option(8)
    raw.option(10, RawClient.queries("disk-1", ["base:allocation"]))
    raw.option(7, RawClient.info("disk-1", [3]))
    var bytes = raw.bytes
    let data = (0..<9000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    NBDRequest(.blockStatus, offset: 0, length: 1 << 20).encode(mode, into: &bytes)
    write(65536, data, mode, into: &bytes)
    NBDRequest(.read, offset: 4096, length: 4096).encode(mode, into: &bytes)
    NBDRequest(.writeZeroes, flags: .noHole, offset: 8192, length: 12288).encode(mode, into: &bytes)
    NBDRequest(.flush).encode(mode, into: &bytes)
    write(1, [9], mode, into: &bytes)
    NBDRequest(.trim, offset: 1 << 40, length: 512).encode(mode, into: &bytes)
    NBDRequest(.disconnect).encode(mode, into: &bytes)
    return (
      bytes,
      [
        .export("disk-1"), .data(65536, data), .cleared(8192, 12288), .data(1, [9]),
        .cleared(1 << 40, 512),
      ]
    )
  }

  @Test(arguments: ReplyMode.allCases) func writesAreSeenHoweverTheBytesAreCut(mode: ReplyMode) {
    let (bytes, expected) = client(mode)
    #expect(seen(bytes) == expected)
    for cut in 0...200 { #expect(seen(bytes, [cut]) == expected, "cut at \(cut)") }
    #expect(seen(bytes, Array(repeating: 1, count: bytes.count)) == expected)
    for seed in 1...20 as ClosedRange<UInt64> {
      var random = SplitMix64(seed: seed)
      let cuts = (0..<40).map { _ in Int(random.next() % 500) }
      #expect(seen(bytes, cuts) == expected, "seed \(seed)")
    }
  }

  @Test func anExportMayBeRefusedAndAnotherOneAskedFor() {
    var client = RawClient()
    client.option(7, RawClient.info("first"))
    client.option(7, [0, 0, 0, 9, 1])  // a name that is not there
    client.option(1, Array("second".utf8))
    #expect(seen(client.bytes) == [.export("first"), .export("second")])
  }

  @Test func whatTheServerSkipsIsSkipped() {
    var client = RawClient()
    client.option(7, RawClient.info("d"))
    var bytes = client.bytes
    // An unknown command with a payload, data beyond all disks, and no data at all.
    NBDRequest(.cache, flags: .payloadLength, length: 100).encode(.extended, into: &bytes)
    bytes += [UInt8](repeating: 0x25, count: 100)
    write(.max - 3, [1, 2, 3, 4, 5], .simple, into: &bytes)
    write(8, [], .simple, into: &bytes)
    write(16, [6], .simple, into: &bytes)
    #expect(seen(bytes) == [.export("d"), .data(16, [6])])
  }

  /// Behind what nobody understands nothing is taken for data.
  @Test func itStopsWhereItIsLost() {
    var client = RawClient()
    client.option(7, RawClient.info("d"))
    for nonsense in [[0x16, 3, 1, 2], [0x49, 0x48, 0x41, 0x56, 0]] as [[UInt8]] {
      var bytes = client.bytes + nonsense + [UInt8](repeating: 0, count: 64)
      write(0, [1, 2, 3], .simple, into: &bytes)
      #expect(seen(bytes) == [.export("d")])
    }
    var bytes = client.bytes
    NBDRequest(.write, length: NBDLimits.skippedBytesMax + 1).encode(.extended, into: &bytes)
    write(0, [1, 2, 3], .simple, into: &bytes)
    #expect(seen(bytes) == [.export("d")])
  }
}
