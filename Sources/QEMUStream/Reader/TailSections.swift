/// Follows the FULL sections of a tail from header to footer, to know whether it may be complete
/// where the stream has no description.
///
/// Bodies have no length. A section's footer is `7e` and its own id, with another section's
/// header or EOF behind it; a body that holds those bytes by chance makes this lose the thread,
/// which ends in "not complete", never in a wrong "complete" that one stray byte could cause.
struct TailSections: Sendable {
  private enum State: Sendable {
    case type, endOfFile, body, lost
    case id(left: Int), nameLength, name(left: Int), instanceAndVersion(left: Int)
  }

  private var state = State.type
  /// Of the section whose body is read; nil before the first.
  private var id: UInt32?
  private var nextID: UInt32 = 0
  private var bodyCount = 0

  /// Whether the last byte was EOF behind a footer, or EOF alone.
  var isAtEnd: Bool { if case .endOfFile = state { true } else { false } }

  /// Takes the next byte; `window` holds it and the seven before, the newest lowest.
  mutating func feed(_ byte: UInt8, window: UInt64) {
    switch state {
    case .body:
      bodyCount += 1
      guard bodyCount >= 5, let id, UInt32(truncatingIfNeeded: window) == id,
        (window >> 32) & 0xFF == UInt64(StreamFormat.Record.footer)
      else { return }
      state = .type
    case .type:
      switch byte {
      case StreamFormat.Record.full: state = .id(left: 4)
      case StreamFormat.Record.endOfFile: state = .endOfFile
      default: resumeBody()
      }
    case .id(let left):
      nextID = nextID << 8 | UInt32(byte)
      state = left > 1 ? .id(left: left - 1) : .nameLength
    case .nameLength:
      if byte > 0 { state = .name(left: Int(byte)) } else { resumeBody() }
    case .name(let left):
      // Names of sections are printable ASCII: device paths and vmstate names.
      guard (0x20..<0x7F).contains(byte) else { return resumeBody() }
      state = left > 1 ? .name(left: left - 1) : .instanceAndVersion(left: 8)
    case .instanceAndVersion(let left):
      if left > 1 { return state = .instanceAndVersion(left: left - 1) }
      (id, bodyCount, state) = (nextID, 0, .body)
    case .endOfFile: resumeBody()
    case .lost: return
    }
  }

  /// What looked like a footer was part of a body.
  private mutating func resumeBody() { state = id == nil ? .lost : .body }
}
