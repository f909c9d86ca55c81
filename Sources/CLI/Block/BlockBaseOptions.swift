import Agent
import ArgumentParser

/// The older copy of `--method incremental`.
struct BlockBaseOptions: ParsableArguments {
  enum Verification: String, ExpressibleByArgument, CaseIterable, Sendable {
    /// Some parts of the copy, drawn by chance, before anything is left out.
    case sample
    /// Every part, before it is left out.
    case all
  }

  @Option(
    help: ArgumentHelp(
      "For incremental: absolute path of the manifest of the copy that the destination has, on the server's host.",
      valueName: "path"))
  var baseManifest: String?
  @Option(
    help: ArgumentHelp(
      "For incremental, in place of a manifest: name of the disk's dirty bitmap that has recorded since the destination's copy was made (--bitmap of godwit block serve).",
      valueName: "name"))
  var baseBitmap: String?
  @Option(
    help: ArgumentHelp(
      "For incremental: which parts of 64 KiB are read back from the copy and compared with its manifest, or with the disk where the bitmap has no write, some (sample) or each one that isn't sent (all) (default: sample).",
      valueName: "extent"))
  var verify: Verification?
  @Option(
    help: ArgumentHelp(
      "For incremental: parts that make a sample, 1 to 65536 (default: 64).", valueName: "count"))
  var samples: Int?

  func validate() throws {
    guard isGiven || (verify == nil && samples == nil) else {
      throw ValidationError("--verify and --samples go with --base-manifest or --base-bitmap")
    }
    guard baseManifest == nil || baseBitmap == nil else {
      throw ValidationError("a copy has its manifest, or a bitmap, and not both")
    }
    guard baseBitmap.map({ (1...1023).contains($0.utf8.count) }) ?? true else {
      throw ValidationError("--base-bitmap takes the name of a bitmap")
    }
    guard baseManifest.map({ $0.hasPrefix("/") }) ?? true else {
      throw ValidationError("--base-manifest takes an absolute path")
    }
    guard samples.map({ (1...65_536).contains($0) }) ?? true else {
      throw ValidationError("--samples takes 1 to 65536")
    }
  }

  /// Whether something says what the copy has.
  var isGiven: Bool { baseManifest != nil || baseBitmap != nil }

  var order: BlockBaseOrder? {
    guard isGiven else { return nil }
    return BlockBaseOrder(
      manifest: baseManifest, bitmap: baseBitmap, sampleCount: samples ?? 64,
      verifiesAll: verify == .all)
  }
}
