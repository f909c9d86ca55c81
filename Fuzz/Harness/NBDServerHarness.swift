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
    let events = watch(bytes, cutAt: bytes.count)
    guard joined(events) == joined(watch(bytes, cutAt: bytes.count * Int(first) / 255)) else {
      return "a cut changes what a watcher sees"
    }
    if let missed = missed(whole.items, events) { return "a watcher misses \(missed)" }
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

  /// What somebody sees who passes the bytes on.
  private static func watch(_ bytes: [UInt8], cutAt: Int) -> [WriteWatcher.Event] {
    var watcher = WriteWatcher()
    var events: [WriteWatcher.Event] = []
    for (base, part) in [(0, bytes[..<cutAt]), (cutAt, bytes[cutAt...])] {
      let part = Array(part)
      var start = 0
      while let event = watcher.next(in: part.span.bytes, from: &start) {
        guard case .data(let offset, let place) = event else {
          events.append(event)
          continue
        }
        precondition(place.lowerBound >= 0 && place.upperBound <= part.count)
        events.append(
          .data(offset: offset, place: place.lowerBound + base..<place.upperBound + base))
      }
    }
    return events
  }

  /// Data that follow one another in the bytes and in the export are one.
  private static func joined(_ events: [WriteWatcher.Event]) -> [WriteWatcher.Event] {
    events.reduce(into: []) { all, event in
      if case .data(let offset, let place) = event, case .data(let start, let before)? = all.last,
        start + UInt64(before.count) == offset, before.upperBound == place.lowerBound
      {
        all[all.count - 1] = .data(offset: start, place: before.lowerBound..<place.upperBound)
      } else {
        all.append(event)
      }
    }
  }

  /// A change that the server carries out, in vain looked for behind those before it. The data of the last one may not
  /// all be there.
  private static func missed(
    _ items: [RequestReader.Item], _ events: [WriteWatcher.Event]
  ) -> NBDRequest? {
    var rest = events[...]
    for (number, item) in items.enumerated() {
      guard case .success(let request) = item.request, request.command.isChange else { continue }
      let found = rest.firstIndex { event in
        switch event {
        case .export: false
        case .cleared(let offset, let length):
          request.command != .write && offset == request.offset && length == request.length
        case .data(let offset, let place):
          request.command == .write && offset == request.offset
            && (UInt64(place.count) == request.length || number == items.count - 1)
        }
      }
      if let found {
        rest = rest[(found + 1)...]
      } else if request.command != .write || number < items.count - 1 {
        return request
      }
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
