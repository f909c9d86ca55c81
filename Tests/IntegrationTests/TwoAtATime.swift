import HostIO
import Testing

/// Does something for each of `cases`, two at a time, each with guests and hosts of its own: most of their time they
/// wait. What one of them throws is an issue of its own, and the others go on.
func twoAtATime<Case: Sendable>(
  _ cases: [Case], _ body: @escaping @Sendable (Case) async throws -> Void
) async {
  let left = Guarded(cases[...])
  await withTaskGroup(of: Void.self) { group in
    for _ in 0..<2 {
      group.addTask {
        while let next = left.update({ $0.popFirst() }) {
          do { try await body(next) } catch { Issue.record("\(next): \(error)") }
        }
      }
    }
  }
}
