import Base
import QEMUStream
import TestSupport
import Testing

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

extension SyntheticStream {
  /// What the reader says of the stream.
  func events(limits: StreamLimits = .standard) throws(StreamError) -> [EventLog.Event] {
    var log = EventLog()
    _ = try read(bytes, into: &log, limits: limits)
    return log.events
  }
}

extension [EventLog.Event] {
  var handover: (reason: HandoverReason, offset: UInt64, lastBlock: Int?)? {
    for case .handedOver(let reason, let offset, let block) in self {
      return (reason, offset, block)
    }
    return nil
  }
}
