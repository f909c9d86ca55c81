import Agent
import Base
import Simulator

// What processors take of a move, for its forecast.
extension PlannedForecast {
  /// What processors take, as far as it is known.
  static func processors(
    _ costs: ProcessorCosts, _ guest: GuestSample, _ way: PackedWay?
  ) -> [String] {
    var parts: [String] = []
    let ownNs = way.flatMap { $0.all.pageNs > 0 ? $0.all.pageNs : nil }
    if let ns = ownNs ?? costs.packNs { parts.append("packs a page in \(microseconds(ns))") }
    if let ns = costs.nameNs { parts.append("names one in \(microseconds(ns))") }
    let threads = costs.threads == 1 ? "one thread" : "each of \(costs.threads) threads"
    var lines = parts.isEmpty ? [] : ["\(threads) here \(parts.joined(separator: ", and "))"]
    guard guest.known != nil else { return lines }
    let there = costs.destinationNs.map {
      "the destination takes \(microseconds($0)) for a page that it has, as earlier moves show"
    }
    lines.append(
      there
        ?? "what the destination takes for pages that it has is not known from earlier moves: it is taken to keep up"
    )
    return lines
  }

  private static func microseconds(_ ns: UInt64) -> String {
    "\(ns / 1000).\(ns % 1000 / 100) µs"
  }
}

extension GuestProfile {
  /// Takes over what pages cost the link and processors, those that the destination has and others. Returns how the
  /// others are packed; nil: they are not.
  ///
  /// - Parameter rate: what the link carries, in bytes per second.
  mutating func apply(
    _ costs: ProcessorCosts, _ sample: GuestSample, _ request: MigrationRequest, rate: Double
  ) -> PackedWay? {
    if let known = sample.known {
      (heldPages, namedPages) = (known.snapshot.pages, known.namedPages)
      knownUs = costs.knownUs
    }
    let fullBytes = pageBytes
    func price(_ packing: GuestSample.Packing) -> PagePrice {
      let bytes = fullBytes * Double(packing.permille) / 1000
      return costs.price(bytes: bytes, packNs: packing.pageNs > 0 ? packing.pageNs : nil)
    }
    let ways = PackedWay.all(sample, request)
    let chosen = ProcessorCosts.choose(
      ways.map { price($0.all) }, bytesPerSecond: rate, isChosen: request.compaction != .auto)
    guard let chosen else { return nil }
    let way = ways[chosen]
    let sent = price(way.all)
    (pageBytes, pageUs) = (sent.bytes, sent.us)
    (written, resent) = (way.written.map(price), way.again.map(price))
    return way
  }
}

/// A way of packing pages, and what they cost in it.
struct PackedWay {
  let name: String
  /// All that hold something, those that the guest writes when they are sent first, and once they were sent before; nil:
  /// as the others.
  let all: GuestSample.Packing
  var written, again: GuestSample.Packing?

  /// Those that a migration would choose from, by rising effort.
  static func all(_ sample: GuestSample, _ request: MigrationRequest) -> [PackedWay] {
    guard let permille = sample.packedPermille else { return [] }
    var lz4 = PackedWay(
      name: "LZ4",
      all: .init(permille: permille, pageNs: sample.processors?.packPageNs ?? 0))
    // Out of QEMU's stream no differences are made.
    let mayDiffer = request.pageSource != .inline
    (lz4.written, lz4.again) = (sample.written?.lz4, mayDiffer ? sample.written?.againLZ4 : nil)
    // An earlier agent times no zstd.
    guard request.compaction != .lz4, let packing = sample.zstd else { return [lz4] }
    var zstd = PackedWay(name: "zstd", all: packing)
    (zstd.written, zstd.again) = (
      sample.written?.zstd, mayDiffer ? sample.written?.againZstd : nil
    )
    return request.compaction == .zstd ? [zstd] : [lz4, zstd]
  }

  /// What that means for a forecast.
  var lines: [String] {
    var lines = ["a page costs \(all.permille / 10) % of its size, as \(name) packs it"]
    if let written {
      let again = again.map { ", and \($0.permille / 10) % once it was sent before" } ?? ""
      lines.append("one that the guest goes on writing costs \(written.permille / 10) %" + again)
    }
    return lines
  }
}

extension ProcessorCosts {
  /// - Parameter bytesPerSecond: what the link carries.
  init(_ report: PlanReport, _ guest: GuestSample, bytesPerSecond: Double) {
    self.init(
      threads: guest.processors?.threads ?? 1, packNs: guest.processors?.packPageNs,
      nameNs: guest.processors?.namePageNs)
    learn(
      from: (report.earlierKnown ?? []).map {
        Move(
          knownPages: $0.knownPages, wireBytes: $0.wireBytes, encodeMs: $0.encodeMs,
          totalMs: $0.totalMs)
      }, bytesPerSecond: bytesPerSecond,
      fixedMs: PlannedForecast.startMs + PlannedForecast.pauseMs)
  }
}
