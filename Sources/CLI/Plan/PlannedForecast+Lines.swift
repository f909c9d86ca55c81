import Agent
import Base
import Simulator

// What a forecast says to people: what the agent found, and what is assumed.
extension PlannedForecast {
  var lines: [String] {
    [guestLine, linkLine] + diskLines + ForecastReport.lines(forecast)
  }

  private var guestLine: String {
    let curve = guest.dirtyCurve.map { point in
      "\(Self.size(point.dirtied.pages)) in \(Milliseconds.format(point.windowMs))"
    }
    let zero = guest.zeroPages.map { ", \(Self.percent($0.pages, of: guest.ramPages)) zero" } ?? ""
    let packed = guest.packedPermille.map { ", the rest packs to \(($0 + 5) / 10) %" } ?? ""
    let known = guest.known.map { ", the destination already has \(Self.percent($0, guest))" } ?? ""
    return
      "\(TerminalText.plain(report.vm)): \(Self.size(guest.ramPages))\(zero)\(known)\(packed); dirties "
      + curve.joined(separator: ", ")
  }

  private var diskLines: [String] {
    guard let disks = report.disks else { return [] }
    let each = disks.map { disk in
      let name = TerminalText.plain(disk.name)
      if disk.isShared { return "disk \(name): both hosts have it" }
      let taken = disk.takenBytes.map { ", \(ByteCount($0)) of it in use" } ?? ""
      return "disk \(name): \(ByteCount(disk.bytes))\(taken), to \(TerminalText.plain(disk.path))"
    }
    return each + ["disks first: \(Milliseconds.format(diskCopyMs ?? 0)) at the link's rate"]
  }

  private var linkLine: String {
    let trip = Double(link.roundTripUs) / 1000
    return "link: \(ByteCount(link.bytesPerSecond))/s over \(link.lanes) lanes, round trip "
      + "\(trip) ms"
  }

  static func experience(_ report: PlanReport) -> String {
    let all = ForecastCalibration(report.earlier.map(\.ratio))
    let factor = String((all.median * 100).rounded() / 100)
    guard all.count > 0 else {
      return
        "nothing was forecast to this destination before: total times are the model's times \(factor), "
        + "with a wide band"
    }
    return
      "\(all.count) earlier migrations to this destination took \(factor) of what the model had said, in "
      + "the median; total times are scaled so, and the bands are theirs"
  }

  static func assumptions(
    _ report: PlanReport, _ guest: GuestSample, _ costs: ProcessorCosts,
    _ request: MigrationRequest,
    way: PackedWay?
  ) -> [String] {
    var lines: [String] = []
    if let point = guest.dirtyCurve.last {
      let range = "\(size(point.dirtied.lowPages)) to \(size(point.dirtied.highPages))"
      lines.append(
        "the guest dirties \(range) in \(Milliseconds.format(point.windowMs)): "
          + "\(guest.sampledPages) of \(guest.ramPages) pages looked at (\(guest.source.rawValue)), "
          + "9 of 10 such samples hold the truth; beyond that time it goes on as within")
    }
    lines.append("pages written with what they held already are not counted as dirtied")
    if guest.zeroPages == nil { lines.append("no page is zero: QEMU doesn't say") }
    if request.compaction != .off, guest.packedPermille != nil || guest.known != nil {
      if guest.packedPermille != nil {
        lines.append(
          contentsOf: way?.lines
            ?? ["no page is packed: the link carries them sooner than they would be"])
      }
      lines.append(known(guest))
      lines.append(contentsOf: processors(costs, guest, way))
    } else {
      lines.append("no page is compressed")
    }
    lines.append("starting QEMU at the destination takes \(Int(startMs)) ms")
    if report.disks != nil {
      lines.append(
        "disks are copied at the link's rate, and the guest writes none of them meanwhile")
      lines.append(
        "pages that are the same as blocks of them are counted as sent: with a page cache it is faster"
      )
    }
    if report.canPull {
      lines.append("the destination's QEMU can wait for pages, as its kernel can")
    }
    return lines
  }

  /// What the destination has already, or that it doesn't say.
  private static func known(_ guest: GuestSample) -> String {
    guard let known = guest.known else {
      return
        "pages that the destination can make of its images or its vault are counted as sent: with those it is faster"
    }
    func share(_ pages: GuestSample.Pages) -> String { percent(pages.pages, of: guest.ramPages) }
    return
      "the destination already has \(share(known.disk)) in images, \(share(known.snapshot)) kept at the same place and "
      + "\(share(known.vault)) kept elsewhere, as far as the guest doesn't write there; what a gang has in common is not "
      + "counted"
  }

  private static func size(_ pages: UInt64) -> String {
    ByteCount(pages << UInt64(Page.shift)).description
  }

  private static func percent(_ known: GuestSample.Known, _ guest: GuestSample) -> String {
    let (pages, overflow) = known.snapshot.pages.addingReportingOverflow(known.namedPages)
    return percent(overflow ? .max : pages, of: guest.ramPages)
  }

  private static func percent(_ part: UInt64, of whole: UInt64) -> String {
    SimulationReport.percent(Double(part) / Double(max(whole, 1)))
  }
}
