import Base
import NBD

/// What must hold for the server's side of NBD whatever the client sends: an export that was offered,
/// requests within it, bounded answers, and the same ones however the bytes are cut. The first byte
/// chooses security and cut.
public enum NBDServerHarness {
  static let exports = [
    NBDExport(
      name: "a", description: "first", byteCount: 1 << 20,
      flags: [.sendFlush, .sendFUA, .sendTrim, .sendWriteZeroes, .sendDoNotFragment]),
    NBDExport(
      name: "b", byteCount: 1 << 16, flags: [.readOnly],
      blockSizes: BlockSizes(minimum: 4096, preferred: 4096, maximum: 65536) ?? .usual,
      contexts: [NBDExtent.allocation, "godwit:test"]),
  ]

  private struct Log: Equatable {
    var output: [UInt8] = []
    var items: [RequestReader.Item] = []
    var outcome: ServerHandshake.Outcome?
    var failed = false
  }

  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    guard let first = data.first else { return nil }
    let bytes = Array(data.dropFirst())
    let security: ServerHandshake.Security =
      [.none, .required, .established][Int(first % 3)]
    let whole = log(bytes, cutAt: bytes.count, security)
    let cut = log(bytes, cutAt: bytes.count * Int(first) / 255, security)
    guard whole == cut else { return "a cut changes what is said" }
    // No option is answered at more than a fixed cost.
    guard whole.output.count <= 18 + (bytes.count / 16 + 1) * 4096 * 2 else {
      return "answers of \(whole.output.count) bytes to \(bytes.count)"
    }
    guard case .transmission(let session) = whole.outcome else { return nil }
    if security == .required { return "transmission without TLS" }
    for item in whole.items {
      if let problem = check(item, session) { return problem }
    }
    return nil
  }

  private static func check(_ item: RequestReader.Item, _ session: ServerSession) -> String? {
    guard item.payloadByteCount <= NBDLimits.skippedBytesMax else { return "payload: \(item)" }
    guard case .success(let request) = item.request else { return nil }
    let hasRange = request.command != .flush && request.command != .disconnect
    let (end, overflow) = request.offset.addingReportingOverflow(request.length)
    if hasRange, overflow || end > session.export.byteCount || request.length == 0 {
      return "outside of the export: \(request)"
    }
    if request.command.isChange, session.export.flags.contains(.readOnly) {
      return "changes what is read-only: \(request)"
    }
    if request.command == .write, request.length != item.payloadByteCount {
      return "a write of \(request.length) with \(item.payloadByteCount)"
    }
    return nil
  }

  private static func log(
    _ bytes: [UInt8], cutAt: Int, _ security: ServerHandshake.Security
  ) -> Log {
    var log = Log()
    var server = ServerHandshake(exports: exports, security: security)
    var reader: RequestReader?
    var skip: UInt64 = 0
    var held: [UInt8] = []
    do throws(DecodeError) {
      for part in [bytes[..<cutAt], bytes[cutAt...]] {
        held += part
        if log.outcome == nil {
          defer { log.output += server.takeOutput() }
          let step = try server.receive(held.span.bytes)
          held.removeFirst(step.used)
          log.outcome = step.outcome
          if case .transmission(let session) = step.outcome { reader = RequestReader(session) }
        }
        while let reader {
          let count = Int(min(skip, UInt64(held.count)))
          held.removeFirst(count)
          skip -= UInt64(count)
          guard skip == 0, held.count >= reader.headerByteCount else { break }
          let item = try reader.read(held.span.bytes)
          held.removeFirst(reader.headerByteCount)
          skip = item.payloadByteCount
          log.items.append(item)
        }
      }
    } catch { log.failed = true }
    return log
  }
}
