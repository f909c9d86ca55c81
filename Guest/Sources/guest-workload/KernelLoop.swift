import Synchronization

/// One copy of a NAS kernel, run again and again. Every run's result is held against the published one: a page
/// that a migration lost or damaged makes it wrong.
struct KernelLoop {
  let kernel: NASKernel
  let size: NASClass

  /// Never returns.
  func run() -> Never {
    while true {
      let verdict = kernel.run(size) { counters.steps.add(UInt64($0), ordering: .relaxed) }
      if verdict.isVerified {
        counters.kernelRuns.add(1, ordering: .relaxed)
      } else {
        counters.errors.add(1, ordering: .relaxed)
        emit("ERR kernel \(kernel.rawValue) \(size.rawValue): \(verdict.text)\n")
      }
    }
  }
}
