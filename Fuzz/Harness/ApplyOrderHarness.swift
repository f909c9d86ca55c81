import Wire

/// What must hold for `ApplyOrder` whatever order frames arrive and are finished in: a frame is
/// ready only behind its barrier, becomes ready once, and the log only moves forward.
public enum ApplyOrderHarness {
  static let windowFrames: UInt64 = 40

  /// What broke, or nil. Two bytes a step: a frame that arrives (sequence, distance to its
  /// barrier), or, with the first byte over 127, one in progress that is finished.
  public static func run(_ data: [UInt8]) -> String? {
    var order = ApplyOrder(windowFrames: windowFrames)
    var barriers: [UInt64: UInt64] = [:]
    var inProgress: [UInt64] = []
    var applied: Set<UInt64> = []
    var through: UInt64 = 0
    for index in stride(from: 0, to: data.count - 1, by: 2) {
      var ready: [UInt64] = []
      do throws(ApplyOrder.Refusal) {
        if data[index] > 127 {
          // Mostly a frame that is being applied, sometimes any.
          let pick = Int(data[index + 1])
          let isHonest = !inProgress.isEmpty && pick < 250
          let sequence = isHonest ? inProgress[pick % inProgress.count] : UInt64(pick)
          ready = try order.finished(sequence)
          guard let place = inProgress.firstIndex(of: sequence) else {
            return "\(sequence) finished, but was not in progress"
          }
          inProgress.remove(at: place)
          applied.insert(sequence)
        } else {
          let sequence = through &+ UInt64(data[index] % 64) &+ 1
          let distance = UInt64(data[index + 1] % 32) + 1
          let after = sequence > distance ? sequence - distance : 0
          if try order.arrived(sequence: sequence, after: after) { ready = [sequence] }
          guard barriers.updateValue(after, forKey: sequence) == nil else {
            return "\(sequence) was taken twice"
          }
        }
      } catch { continue }
      guard order.appliedThrough >= through else { return "went back" }
      through = order.appliedThrough
      for sequence in ready {
        guard let after = barriers[sequence], after <= through else {
          return "\(sequence) is ready before its barrier"
        }
        guard !inProgress.contains(sequence), !applied.contains(sequence) else {
          return "\(sequence) is ready twice"
        }
        inProgress.append(sequence)
      }
      guard applied.contains(through) || through == 0, !applied.contains(through + 1) else {
        return "applied through \(through) is wrong"
      }
      guard UInt64(order.parkedCount) <= windowFrames else { return "too many frames wait" }
    }
    return nil
  }
}
