import Base
import Compaction
import HostIO
import Wire

/// Makes pages of what is in the destination's memory already, proves them, and keeps account of those that
/// could not be made and were asked for.
final class ReferencedPages: Sendable {
  /// Pages that may be asked for at once: all that an honest source may have on their way, since what they refer to
  /// may be unreadable altogether.
  private let awaitedMax: Int

  private struct State {
    var awaited: [UInt64: Set<PagePlace>] = [:]
    var count = 0
  }

  private let state = Guarded(State())

  /// - Parameter windowBytes: what the source was told that may be on its way.
  init(windowBytes: UInt64) {
    awaitedMax = SendQueue.pagesMax(windowMax: windowBytes)
  }

  /// Fills the references' places in `pages`. Where the outcome is not what it should be, the place gets what
  /// memory holds now; returns those pages' places.
  ///
  /// - Parameters:
  ///   - held: for pages that a snapshot holds; nil: there is none.
  ///   - vault: for stored pages, wherever they lay; nil: none were agreed on.
  ///   - images: for blocks of disks; nil: none were offered.
  ///   - gang: for pages of other guests; nil: the guest goes alone.
  ///   - memory: by block; nil for a block that is not written in place.
  func resolve(
    _ references: [(place: Int, reference: PageReference)], of batch: BatchHeader,
    in pages: PageBuffer, held: HeldResolution?, vault: HeldVault?, images: HeldImages?,
    gang: HeldGang?, memory: (Int) -> SharedFile?
  ) throws(RelayFailure) -> [PagePlace] {
    let places = batch.runs.rawPlaces
    let old = PageBuffer(byteCount: Page.size)
    var missing: [PagePlace] = []
    for (index, reference) in references {
      let place = places[index]
      let target = index * Page.size
      if case .held = reference {
        guard held != nil else {
          throw .protocolViolation("references to a snapshot, which was not agreed on")
        }
        continue
      }
      if case .disk = reference {
        guard images != nil else {
          throw .protocolViolation("references to images, which were not offered")
        }
        continue
      }
      if case .vault = reference {
        guard vault != nil else {
          throw .protocolViolation("references to kept pages, which were not agreed on")
        }
        continue
      }
      if case .gang = reference {
        guard gang != nil else {
          throw .protocolViolation("references to a gang's guests, which were not agreed on")
        }
        continue
      }
      try Self.read(place, memory, into: old, at: 0)
      switch reference {
      case .delta(let check):
        unsafe PageDelta.apply(old.span(Page.size), to: pages.part(target, Page.size))
        if Self.check(pages, target) == check { continue }
      case .duplicate(let note):
        let other = PagePlace(block: note.block, page: note.page)
        try Self.read(other, memory, into: pages, at: target)
        if Self.identity(pages, target) == note.identity { continue }
      case .held, .disk, .gang, .vault: continue
      }
      pages.store(old.span(Page.size), at: target)
      missing.append(place)
    }
    var elsewhere = held?.resolve(references, at: places, in: pages) ?? []
    elsewhere += try images?.resolve(references, in: pages) ?? []
    elsewhere += gang?.resolve(references, in: pages) ?? []
    elsewhere += try vault?.resolve(references, in: pages) ?? []
    for index in elsewhere {
      try Self.read(places[index], memory, into: pages, at: index * Page.size)
      missing.append(places[index])
    }
    return missing
  }

  /// The frame is applied but for these pages.
  func expect(_ missing: [PagePlace], of sequence: UInt64) throws(RelayFailure) {
    let isBounded = state.update { state -> Bool in
      state.count += missing.count
      state.awaited[sequence] = Set(missing)
      return state.count <= awaitedMax
    }
    guard isBounded else {
      throw .protocolViolation("more than \(awaitedMax) pages refer to what is not here")
    }
  }

  /// Writes pages that were asked for. True: the frame has all of them now.
  func arrived(
    _ answer: PageAnswerFrame, memory: (Int) -> SharedFile?
  ) throws(RelayFailure) -> Bool {
    for (index, place) in answer.places.enumerated() {
      let isAwaited = state.update { state -> Bool in
        guard state.awaited[answer.sequence]?.remove(place) != nil else { return false }
        state.count -= 1
        return true
      }
      guard isAwaited, let file = memory(Int(place.block)) else {
        throw .protocolViolation("page \(place.page) of block \(place.block) was not asked for")
      }
      do throws(SystemError) {
        // SAFETY: the frame has 4096 bytes for each of its places; the pointer stays inside.
        let result = unsafe answer.bytes.withUnsafeBytes { bytes -> Result<Void, SystemError> in
          let start = index * Page.size
          return Result { () throws(SystemError) in
            try unsafe file.write(
              UnsafeRawBufferPointer(rebasing: bytes[start..<start + Page.size]),
              at: place.page << UInt64(Page.shift))
          }
        }
        try result.get()
      } catch {
        throw .memory("\(error)")
      }
    }
    return state.update { state in
      guard state.awaited[answer.sequence]?.isEmpty == true else { return false }
      state.awaited[answer.sequence] = nil
      return true
    }
  }

  private static func read(
    _ place: PagePlace, _ memory: (Int) -> SharedFile?, into buffer: PageBuffer, at offset: Int
  ) throws(RelayFailure) {
    guard let file = memory(Int(place.block)), place.page < file.length >> UInt64(Page.shift) else {
      throw .protocolViolation("reference to page \(place.page) of block \(place.block)")
    }
    do {
      try unsafe file.read(
        at: place.page << UInt64(Page.shift), into: buffer.part(offset, Page.size))
    } catch {
      throw .memory("\(error)")
    }
  }

  private static func check(_ pages: PageBuffer, _ offset: Int) -> UInt64 {
    PageDelta.check(pages.span(offset + Page.size).extracting(offset...))
  }

  private static func identity(_ pages: PageBuffer, _ offset: Int) -> [UInt8] {
    PageIdentity.bytes(of: pages.span(offset + Page.size).extracting(offset...))
  }
}

extension [PageRun] {
  /// Where the pages are that are not zero, in order; of runs within the limits of a batch.
  var rawPlaces: [PagePlace] {
    var places: [PagePlace] = []
    for run in self where run.pageClass == .raw {
      for page in run.firstPage..<run.firstPage + UInt64(run.count) {
        places.append(PagePlace(block: run.block, page: page))
      }
    }
    return places
  }
}
