import Base
import HostIO
import QEMUStream
import Strategy

/// What a QEMU that lost its stream in post-copy says on a new one. Blocking.
enum PausedQEMU {
  /// Asks for the pages it has, block for block, and lets it go on.
  ///
  /// - Returns: the pages that are missing, by number, and the reader of the return path, which may hold a part
  ///   of what QEMU says next.
  static func takeUp(
    _ qemu: StreamSocket, _ blocks: [RAMBlock], timeoutMs: UInt64
  ) throws -> (missing: PageBitmap, reader: ReturnPathReader) {
    qemu.setTimeout(ms: timeoutMs)
    defer { qemu.setTimeout(ms: 0) }
    let numbering = PageNumbering(blockPages: blocks.map(\.pageCount))
    var missing = PageBitmap(count: numbering.limit)
    var reader = ReturnPathReader()
    for (index, block) in blocks.enumerated() {
      try write(.receivedBitmap(block: block.name), to: qemu)
      guard case .receivedBitmap(block.name, let bits) = try next(&reader, qemu),
        bits.count >= (block.pageCount + 7) / 8
      else { throw RelayFailure.qemu("no bitmap of the pages of \(block.name)") }
      let base = numbering.bases[index]
      for page in 0..<block.pageCount where bits[page >> 3] >> UInt8(page & 7) & 1 == 0 {
        _ = missing.insert(base + page)
      }
    }
    try write(.postcopyResume, to: qemu)
    guard case .resumeAck = try next(&reader, qemu) else {
      throw RelayFailure.qemu("does not go on")
    }
    return (missing, reader)
  }

  private static func write(_ command: StreamCommand, to qemu: StreamSocket) throws {
    var bytes: [UInt8] = []
    command.encode(into: &bytes)
    try unsafe qemu.writeAll(bytes.span.bytes)
  }

  /// The answer to what was asked; QEMU may ask for pages before it.
  private static func next(
    _ reader: inout ReturnPathReader, _ qemu: StreamSocket
  ) throws -> ReturnPathMessage {
    let buffer = PageBuffer(byteCount: 16 << 10)
    while true {
      let count = try unsafe qemu.read(into: buffer.part(0, buffer.byteCount))
      guard count > 0 else { throw RelayFailure.qemu("closed its new stream") }
      for message in try reader.receive(buffer.span(count)) {
        switch message {
        case .receivedBitmap, .resumeAck: return message
        default: continue
        }
      }
    }
  }
}
