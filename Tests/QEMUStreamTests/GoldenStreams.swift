import Base
import Foundation
import QEMUStream
import Testing

/// A captured stream of `Tests/Golden/stream`, unpacked with the `gzip` program.
struct GoldenStream: Sendable, CustomTestStringConvertible {
  let name: String
  let bytes: [UInt8]
  var testDescription: String { name }

  static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Golden/stream")

  static let all: [GoldenStream] = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.filter { $0.hasSuffix(".stream.gz") }.sorted().compactMap { file in
      guard let bytes = try? unpack(folder.appending(path: file)) else { return nil }
      return GoldenStream(name: String(file.dropLast(".stream.gz".count)), bytes: bytes)
    }
  }()

  static func named(_ name: String) throws -> GoldenStream {
    try #require(all.first { $0.name == name }, "no golden stream \(name)")
  }

  private static func unpack(_ file: URL) throws -> [UInt8] {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["gzip", "-dc", file.path]
    process.standardOutput = pipe
    try process.run()
    let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw CocoaError(.fileReadCorruptFile) }
    return [UInt8](data)
  }
}

/// Writes down what a reader says. Bytes that may be cut anywhere are joined.
struct EventLog: StreamVisitor {
  enum Event: Equatable {
    case verbatim([UInt8], VerbatimItem)
    case blocks([RAMBlock], UInt32)
    case partBegan, partEnded, endBegan, ramEnded
    case page(Int, UInt64, [UInt8])
    case zeroPage(Int, UInt64)
    case section(SectionKind, Range<UInt64>)
    case tail([UInt8])
    case ended(Int)
    case handedOver(HandoverReason, UInt64, Int?)
  }

  var events: [Event] = []
  /// Throws at this many events; nil never.
  var stopAt: Int?

  private mutating func add(_ event: Event) throws(VisitorStopped) {
    if events.count == stopAt { throw VisitorStopped() }
    events.append(event)
  }

  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) throws(VisitorStopped) {
    if case .verbatim(var old, item) = events.last, item == .packaged || item == .opaque {
      events.removeLast()
      old.append(contentsOf: bytes)
      events.append(.verbatim(old, item))
    } else {
      try add(.verbatim(copy(bytes), item))
    }
  }
  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) throws(VisitorStopped) {
    try add(.blocks(blocks, sectionID))
  }
  mutating func ramPartBegan() throws(VisitorStopped) { try add(.partBegan) }
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) throws(VisitorStopped) {
    try add(.page(block, offset, copy(bytes)))
  }
  mutating func zeroPage(block: Int, offset: UInt64) throws(VisitorStopped) {
    try add(.zeroPage(block, offset))
  }
  mutating func ramPartEnded() throws(VisitorStopped) { try add(.partEnded) }
  mutating func ramEndBegan() throws(VisitorStopped) { try add(.endBegan) }
  mutating func ramEnded() throws(VisitorStopped) { try add(.ramEnded) }
  mutating func ramSection(_ kind: SectionKind, range: Range<UInt64>) throws(VisitorStopped) {
    try add(.section(kind, range))
  }
  mutating func tail(_ bytes: RawSpan) throws(VisitorStopped) {
    if case .tail(var old) = events.last {
      events.removeLast()
      old.append(contentsOf: bytes)
      events.append(.tail(old))
    } else {
      try add(.tail(copy(bytes)))
    }
  }
  mutating func ended(descriptionLength: Int) throws(VisitorStopped) {
    try add(.ended(descriptionLength))
  }
  mutating func handedOver(
    _ reason: HandoverReason, at offset: UInt64, lastBlock: Int?
  ) throws(VisitorStopped) {
    try add(.handedOver(reason, offset, lastBlock))
  }

  private func copy(_ bytes: RawSpan) -> [UInt8] {
    var copied: [UInt8] = []
    copied.append(contentsOf: bytes)
    return copied
  }
}

/// Feeds `bytes` in the chunks that `next` says, as a caller with a carry buffer does.
func read<V: StreamVisitor>(
  _ bytes: [UInt8], into visitor: inout V, limits: StreamLimits = .standard,
  chunk next: () -> Int = { Int.max }
) throws(StreamError) -> StreamReader {
  var reader = StreamReader(limits: limits)
  var (from, to) = (0, 0)
  while to < bytes.count {
    to += min(max(next(), 1), bytes.count - to)
    from += try reader.consume(bytes.span.bytes.extracting(from..<to), &visitor)
    precondition(to - from <= StreamReader.carryMax)
  }
  guard from == to else {
    throw .malformed(DecodeError(.truncated, in: "carry", at: UInt64(from)))
  }
  try reader.finish(&visitor)
  return reader
}
