import Base
import HostIO
import QEMUStream
import Strategy
import Wire

/// Pages that are here go to QEMU, those that it lacks and no others.
extension PullFeeder {
  /// Pages came over a lane. Those that QEMU lacks go to it, the others are dropped.
  func arrived(_ header: BatchHeader, _ buffer: PageBuffer?) throws(RelayFailure) {
    try place(header.runs, buffer, from: .source)
  }

  /// Pages are here, whose bytes are in `buffer` in the order of the runs.
  func place(
    _ runs: [PageRun], _ buffer: PageBuffer?, from origin: PullOrigin
  ) throws(RelayFailure) {
    try writing { (stream) throws(RelayFailure) in
      // After the end there is nothing that QEMU lacks.
      guard !stream.hasEnded else { return }
      var gathered = GatheredPages()
      var rawPage = 0
      for run in runs {
        let wanted = try self.wanted(run, from: origin)
        for (index, isWanted) in wanted.enumerated() {
          let offset = (run.firstPage + UInt64(index)) << UInt64(Page.shift)
          let block = Int(run.block)
          switch run.pageClass {
          case .zero:
            if isWanted {
              self.noteZeroForAudit(block, run.firstPage + UInt64(index))
              stream.writer.zeroPage(block: block, offset: offset, into: &gathered.head)
            }
          case .raw:
            if isWanted {
              self.noteForAudit(block, run.firstPage + UInt64(index), buffer, at: rawPage)
              stream.writer.pageHeader(block: block, offset: offset, into: &gathered.head)
              gathered.cut(page: rawPage)
            }
            rawPage += 1
          }
          if gathered.isFull { try self.flush(&gathered, buffer) }
        }
      }
      try self.flush(&gathered, buffer)
    }
    try endIfDone()
    try askForMore()
  }

  /// Which pages of a run QEMU lacks; they count as placed from now on.
  private func wanted(_ run: PageRun, from origin: PullOrigin) throws(RelayFailure) -> [Bool] {
    let nowUs = MonotonicClock.nowUs
    let result = directory.update { directory -> Result<[Bool], PullRefusal> in
      do throws(PullRefusal) {
        let pages = try directory.numbering.numbers(
          block: Int(run.block), firstPage: run.firstPage, count: UInt64(run.count))
        var wanted: [Bool] = []
        wanted.reserveCapacity(pages.count)
        for page in pages {
          wanted.append(try directory.arrived(page, from: origin, nowUs: nowUs))
        }
        if origin == .source { local?.forget(pages) }
        return .success(wanted)
      } catch {
        return .failure(error)
      }
    }
    switch result {
    case .success(let wanted): return wanted
    case .failure: throw .protocolViolation("pages outside RAM: \(run)")
    }
  }

  private func flush(_ gathered: inout GatheredPages, _ buffer: PageBuffer?) throws(RelayFailure) {
    do { try gathered.flush(to: qemu, pages: buffer) } catch { throw .qemu("\(error)") }
  }
}
