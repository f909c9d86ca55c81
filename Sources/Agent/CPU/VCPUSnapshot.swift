import HostIO

/// Why a guest's processor time is not touched.
enum VCPUError: Error, Hashable, CustomStringConvertible {
  /// QEMU's monitor names a thread that is none of QEMU's, or its main one.
  case notItsThread(Int32)
  case noVCPUs
  case unreadable(String)
  /// The kernel took other processors than were asked for: the thread's cpuset, say.
  case notObeyed(tid: Int32, wanted: CPUSet, found: CPUSet)
  /// This host, or this agent, cannot do it.
  case unavailable(String)
  case ended

  var description: String {
    switch self {
    case .notItsThread(let tid):
      "QEMU calls thread \(tid) a vCPU, which is no thread of its own for vCPUs"
    case .noVCPUs: "QEMU names no vCPU"
    case .unreadable(let what): "\(what) cannot be read"
    case .notObeyed(let tid, let wanted, let found):
      "vCPU thread \(tid) was confined to processors \(wanted) and may use \(found)"
    case .unavailable(let why): "the guest's processor time cannot be limited: \(why)"
    case .ended: "the guest's processors were given back already"
    }
  }
}

/// How a guest's vCPU threads were before anything was changed: what goes into the journal, and all
/// that is needed to put them back. Its calls block.
struct VCPUSnapshot: Codable, Sendable, Hashable {
  struct Thread: Codable, Sendable, Hashable {
    let identity: ThreadIdentity
    let affinity: CPUSet
    /// The group that limits its time when there is a quota; nil: it cannot have one.
    let group: QuotaGroup?
  }

  /// Each once, in the order of vCPUs: under single-threaded TCG all vCPUs share one.
  let threads: [Thread]

  /// - Parameters:
  ///   - tids: as QEMU's monitor names them; not trusted.
  ///   - label: names the groups; of letters, digits and `-`.
  init(tids: [Int32], of process: ProcessIdentity, label: String) throws {
    var threads: [Thread] = []
    for tid in tids where !threads.contains(where: { $0.identity.tid == tid }) {
      // QEMU's first thread is its main loop: limiting that would hang its monitor.
      guard tid != process.pid, let identity = ThreadIdentity(process: process, tid: tid) else {
        throw VCPUError.notItsThread(tid)
      }
      let name = "\(QuotaGroup.prefix)\(label)-\(threads.count)"
      threads.append(
        Thread(
          identity: identity, affinity: try identity.affinity(),
          group: CPUGroupPlace.of(identity).map { QuotaGroup(in: $0, name: name) }))
    }
    guard !threads.isEmpty else { throw VCPUError.noVCPUs }
    self.threads = threads
  }

  /// Processors that any of the threads may use.
  var processors: CPUSet { threads.reduce(CPUSet()) { $0.union($1.affinity) } }

  /// All of them in the order in which they are kept: first the one where the first vCPU ran last, so
  /// that guests which are confined at the same time don't all meet on processor 0.
  var processorsByPreference: [Int] {
    processors.numbers(from: threads.first?.identity.lastProcessor ?? 0)
  }

  /// Puts everything back that is not as it was: threads that are still there, groups of ours.
  /// Returns what could not be done.
  func restore() -> [String] {
    var troubles: [String] = []
    func attempt(_ body: () throws -> Void) {
      do { try body() } catch { troubles.append("\(error)") }
    }
    for thread in threads {
      attempt { try thread.identity.setAffinity(thread.affinity) }
      if let group = thread.group, group.isOurs {
        attempt { try group.giveBack(thread.identity) }
      }
    }
    attempt { try QuotaGroup.remove(threads.compactMap(\.group)) }
    return troubles
  }

  /// Nothing is limited any more; the groups stay for the next limit.
  func unlimit() throws {
    for thread in threads {
      try thread.identity.setAffinity(thread.affinity)
      guard let group = thread.group, group.isOurs, group.exists else { continue }
      try group.limit(permille: nil)
    }
  }

  /// All threads together on these processors.
  func confine(to set: CPUSet) throws {
    for thread in threads where try thread.identity.setAffinity(set) {
      let found = try thread.identity.affinity()
      guard !found.isEmpty, found.intersection(set) == found else {
        throw VCPUError.notObeyed(tid: thread.identity.tid, wanted: set, found: found)
      }
    }
  }

  /// Each thread gets at most so many thousandths of a processor.
  func limitTime(permille: UInt64) throws {
    for thread in threads {
      guard let group = thread.group, group.isOurs else {
        throw VCPUError.unavailable("thread \(thread.identity.tid) is in no group")
      }
      try group.create()
      try group.limit(permille: permille)
      try group.take(thread.identity)
    }
  }

  /// Finds out by doing it whether the threads can be confined and moved into groups: nil, or why not.
  /// Whoever has journalled the snapshot may call it; nothing is left behind.
  func probe() -> (confining: String?, limiting: String?) {
    var confining: String?
    for thread in threads where confining == nil {
      do { try thread.identity.setAffinity(thread.affinity) } catch { confining = "\(error)" }
    }
    var limiting: String?
    do {
      // Without a limit that is felt.
      try limitTime(permille: 1000)
    } catch { limiting = "\(error)" }
    for thread in threads {
      do { try thread.group?.giveBack(thread.identity) } catch { limiting = limiting ?? "\(error)" }
    }
    do { try QuotaGroup.remove(threads.compactMap(\.group)) } catch {
      limiting = limiting ?? "\(error)"
    }
    return (confining, limiting)
  }
}
