import Base
import HostIO
import QEMUStream
import Strategy
import Wire

/// Collects what a pull begins with (which pages are invalid, the devices' state) and begins it.
///
/// Calls come in the order of the log: the frames are sequenced.
final class PullEntrance: Sendable {
  /// Device state that is kept at most, in bytes: a PC's has some 13 to 160 kB.
  static let deviceStateMax = 64 << 20

  private struct State {
    var numbering: PageNumbering?
    var invalid: PageBitmap?
    var invalidIsComplete = false
    var deviceState: [UInt8] = []
    var deviceStateIsComplete = false
    var feeder: PullFeeder?
  }

  private let state = Guarded(State())
  /// The session has agreed to a pull and has set QEMU up for it.
  private let isAllowed: Bool
  private let audits: Bool
  private let memoryLimit: UInt64

  /// - Parameter memoryLimit: what keeping track of the guest's pages may take, in bytes.
  init(isAllowed: Bool, audits: Bool, memoryLimit: UInt64) {
    (self.isAllowed, self.audits, self.memoryLimit) = (isAllowed, audits, memoryLimit)
  }

  /// Bytes that it takes for so many pages, at most: seven bits a page.
  static func byteCount(pages: UInt64) -> UInt64 { (pages / 8 + 1) * 7 }

  /// Set once QEMU's stream is the pull's.
  var feeder: PullFeeder? { state.read { $0.feeder } }

  /// Whether the rest of the stream belongs to the pull: nothing else may be written any more.
  var hasBegun: Bool { state.read { $0.deviceStateIsComplete } }

  func take(_ pages: InvalidPages, _ blocks: [RAMBlock]) throws(RelayFailure) {
    try check()
    let trouble = state.update { state -> String? in
      guard !state.invalidIsComplete else { return "invalid pages after the last of them" }
      let numbering = state.numbering ?? PageNumbering(blockPages: blocks.map(\.pageCount))
      guard Self.byteCount(pages: UInt64(numbering.limit)) <= memoryLimit else {
        return "more pages than the agent's memory limit allows to keep track of"
      }
      state.numbering = numbering
      var invalid = state.invalid.take() ?? PageBitmap(count: numbering.limit)
      defer { state.invalid = invalid }
      for run in pages.runs {
        do throws(PullRefusal) {
          let numbers = try numbering.numbers(
            block: Int(pages.block), firstPage: run.lowerBound,
            count: run.upperBound - run.lowerBound)
          for page in numbers { _ = invalid.insert(page) }
        } catch { return "invalid pages outside RAM: \(run) of block \(pages.block)" }
      }
      state.invalidIsComplete = pages.isLast
      return nil
    }
    if let trouble { throw .protocolViolation(trouble) }
  }

  /// True: the state is complete, and `begin` is next.
  func take(_ part: DeviceStatePart) throws(RelayFailure) -> Bool {
    try check()
    let trouble = state.update { state -> String? in
      guard state.invalidIsComplete else { return "device state before the invalid pages" }
      guard !state.deviceStateIsComplete else { return "device state after its end" }
      guard state.deviceState.count + part.bytes.count <= Self.deviceStateMax else {
        return "more than \(Self.deviceStateMax) bytes of device state"
      }
      state.deviceState += part.bytes
      state.deviceStateIsComplete = part.isLast
      return nil
    }
    if let trouble { throw .protocolViolation(trouble) }
    return part.isLast
  }

  /// Hands over to QEMU; blocks until QEMU has read it.
  ///
  /// - Parameter local: what pages can be made of here; nil: all are pulled.
  func begin(
    qemu: StreamSocket, blocks: [RAMBlock], sectionID: UInt32, port: PullPort, local: LocalPages?,
    onEvent: @escaping @Sendable (PullFeeder.Event) -> Void
  ) throws(RelayFailure) {
    let (sections, invalid) = state.update { state in
      defer { (state.deviceState, state.invalid) = ([], nil) }
      return (state.deviceState, state.invalid)
    }
    guard let invalid else { throw .protocolViolation("no invalid pages were named") }
    let feeder: PullFeeder
    let deviceState: DeviceState
    do {
      deviceState = try DeviceState(sections: sections)
      feeder = try PullFeeder(
        qemu: qemu, blocks: blocks, sectionID: sectionID, invalid: invalid, audits: audits,
        local: local, ask: { port.ask($0) }, onEvent: onEvent)
    } catch {
      throw .protocolViolation("\(error)")
    }
    state.update { $0.feeder = feeder }
    port.begin(feeder)
    try feeder.start(deviceState, invalid: invalid)
  }

  private func check() throws(RelayFailure) {
    guard isAllowed else { throw .protocolViolation("a pull that was not agreed on") }
  }
}
