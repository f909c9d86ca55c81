import Agent
import ArgumentParser
import Base
import DiskStrategy

/// The surrogate of `--method waio`.
struct BlockSurrogateOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "For waio: absolute path of a file or block device, or URI of an export; its first 4 KiB are zeros, and all of it is used.",
      valueName: "place"))
  var surrogate: String?
  @Option(
    help: ArgumentHelp(
      "Use no more of the surrogate than this, 12MiB at least.", valueName: "size"),
    transform: UnitArguments.size)
  var surrogateLimit: ByteCount?
  @Option(
    help: ArgumentHelp(
      "Reads within a short time that make a block popular, 2 to 100 (default: 3).",
      valueName: "count"))
  var popularReads: UInt32?
  @Option(
    help: ArgumentHelp(
      "Most of the guest's popular blocks to copy to the surrogate, up to 64GiB; 0B: none (default: 256MiB).",
      valueName: "size"), transform: UnitArguments.size)
  var popularSize: ByteCount?
  @Option(
    help: ArgumentHelp(
      "Time in which a read loses half of its weight (default: 10s).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var popularHalfLife: UInt64?

  func validate() throws {
    let more: [Any?] = [surrogateLimit, popularReads, popularSize, popularHalfLife]
    guard surrogate != nil || more.allSatisfy({ $0 == nil }) else {
      throw ValidationError("these options go with --surrogate")
    }
    // The server looks for it from elsewhere.
    guard surrogate.map({ $0.hasPrefix("/") || NBDAddress($0) != nil }) ?? true else {
      throw ValidationError("--surrogate takes an absolute path or the URI of an export")
    }
    guard popularReads.map(PopularityFilter.Terms.thresholds.contains) ?? true else {
      throw ValidationError("--popular-reads takes 2 to 100")
    }
    guard popularSize.map({ $0.bytes <= 64 << 30 }) ?? true else {
      throw ValidationError("--popular-size takes up to 64GiB")
    }
    guard popularHalfLife.map({ $0 > 0 }) ?? true else {
      throw ValidationError("--popular-half-life takes 1ms or more")
    }
  }

  var order: BlockSurrogateOrder? {
    guard let surrogate else { return nil }
    var terms = PopularityFilter.Terms()
    if let popularReads { terms.threshold = popularReads }
    if let popularSize { terms.capacity = Int(popularSize.bytes) / DiskGeometry.blockByteCount }
    if let popularHalfLife { terms.halfLifeMs = popularHalfLife }
    var order = BlockSurrogateOrder(place: surrogate)
    (order.byteCountMax, order.popularity) = (surrogateLimit?.bytes, terms)
    return order
  }
}
