import Base
import HostIO
import QEMUStream
import Strategy

/// What a QEMU that lost its stream in post-copy says on a new one. Blocking.
enum PausedQEMU {
  /// Asks for the pages it has, block for block, and lets it go on.
  ///
  /// - Returns: the pages that are missing, by number, and how far the return path was read.
  static func takeUp(
    _ qemu: StreamSocket, _ blocks: [RAMBlock], timeoutMs: UInt64
  ) throws -> (missing: PageBitmap, path: ReturnPathSoFar) {
    qemu.setTimeout(ms: timeoutMs)
    defer { qemu.setTimeout(ms: 0) }
    let numbering = PageNumbering(blockPages: blocks.map(\.pageCount))
    var missing = PageBitmap(count: numbering.limit)
    var path = ReturnPathSoFar()
    for (index, block) in blocks.enumerated() {
      try write(.receivedBitmap(block: block.name), to: qemu)
      guard case .receivedBitmap(block.name, let bits) = try next(&path, qemu),
        bits.count >= (block.pageCount + 7) / 8
      else { throw RelayFailure.qemu("no bitmap of the pages of \(block.name)") }
      let base = numbering.bases[index]
      for page in 0..<block.pageCount where bits[page >> 3] >> UInt8(page & 7) & 1 == 0 {
        _ = missing.insert(base + page)
      }
    }
    try write(.postcopyResume, to: qemu)
    guard case .resumeAck = try next(&path, qemu) else {
      throw RelayFailure.qemu("does not go on")
    }
    return (missing, path)
  }

  private static func write(_ command: StreamCommand, to qemu: StreamSocket) throws {
    var bytes: [UInt8] = []
    command.encode(into: &bytes)
    try unsafe qemu.writeAll(bytes.span.bytes)
  }

  /// The answer to what was asked. QEMU says once what it waits for, before or behind it: that is kept.
  private static func next(
    _ path: inout ReturnPathSoFar, _ qemu: StreamSocket
  ) throws -> ReturnPathMessage {
    let buffer = PageBuffer(byteCount: 16 << 10)
    while true {
      if let at = path.messages.firstIndex(where: \.isAnswer) {
        return path.messages.remove(at: at)
      }
      guard path.messages.count <= ReturnPathSoFar.messagesMax else {
        throw RelayFailure.qemu("asks for more pages than can wait")
      }
      let count = try unsafe qemu.read(into: buffer.part(0, buffer.byteCount))
      guard count > 0 else { throw RelayFailure.qemu("closed its new stream") }
      path.messages += try path.reader.receive(buffer.span(count))
    }
  }
}

/// A return path that was read up to a point: the reader, which may hold a part of a message, and messages that
/// nobody has looked at.
struct ReturnPathSoFar: Sendable {
  static let messagesMax = 65_536
  var reader = ReturnPathReader()
  var messages: [ReturnPathMessage] = []
}

extension ReturnPathMessage {
  fileprivate var isAnswer: Bool {
    switch self {
    case .receivedBitmap, .resumeAck: true
    default: false
    }
  }
}
