import Agent
import Base
import Strategy

/// What people read of an index that is being built.
enum IndexText {
  private static let barColumns = 20

  /// On one line, while it is read.
  static func line(_ progress: ImageIndexing.Progress) -> String {
    let (read, total) = (min(progress.readBytes, progress.totalBytes), progress.totalBytes)
    let permille = total == 0 ? 1000 : read.scaled(by: 1000, over: total)
    let full = Int(permille) * barColumns / 1000
    var parts = [
      String(repeating: "█", count: full) + String(repeating: "░", count: barColumns - full),
      "\(permille / 10).\(permille % 10) %",
      "\(ByteCount(read)) of \(ByteCount(total))",
    ]
    if progress.elapsedMs > 0,
      let rate = ByteRate(bytesPerSecond: read.scaled(by: 1000, over: progress.elapsedMs))
    {
      let leftMs = rate.milliseconds(for: ByteCount(total - read))
      parts += ["\(rate)", "\(Milliseconds.format(leftMs)) left"]
    }
    parts.append(TerminalText.plain(progress.path))
    return parts.joined(separator: "  ")
  }

  /// What became of an image.
  static func lines(_ outcome: ImageIndexing.Outcome) -> [String] {
    let image = TerminalText.plain(outcome.image)
    var text: String
    switch outcome.action {
    case .unchanged: text = "\(image): unchanged since it was indexed"
    case .built:
      text = "\(image): indexed, \(ByteCount(outcome.readBytes)) read in "
      text += Milliseconds.format(outcome.elapsedMs)
      if outcome.resumedRegions > 0 {
        text += "; \(outcome.resumedRegions) regions were read by an earlier run"
      }
      if let changed = outcome.changedRegions {
        text += "; \(changed) of \(outcome.regions) regions differ from the index before"
      }
    case .verified:
      text =
        outcome.changedRegions == 0
        ? "\(image): as indexed"
        : "\(image): \(outcome.changedRegions ?? 0) of \(outcome.regions) regions differ from its index"
    }
    var lines = [text]
    lines.append(
      "  \(ByteCount(outcome.heldBytes)) of \(ByteCount(outcome.imageBytes)) are not zero; "
        + "the index takes \(ByteCount(outcome.indexBytes))")
    if outcome.wasChangedMeanwhile {
      lines.append("  it was written to meanwhile: parts of the index may be old already")
    }
    return lines
  }
}
