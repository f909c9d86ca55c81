import HostIO
import NBD
import Synchronization

/// What clients ask of a disk.
public enum DiskRequestKind: String, Sendable, CaseIterable {
  case read, write, flush, trim
  case writeZeroes = "write_zeroes"
  case cache
  case blockStatus = "block_status"

  /// nil: nothing that a disk does.
  init?(_ command: NBDCommand) {
    switch command {
    case .read: self = .read
    case .write: self = .write
    case .flush: self = .flush
    case .trim: self = .trim
    case .writeZeroes: self = .writeZeroes
    case .cache: self = .cache
    case .blockStatus: self = .blockStatus
    case .disconnect, .resize: return nil
    }
  }
}

/// What clients did with a disk.
///
/// Every request counts; only its own kind's counters are touched, without a lock. Errors are rare, and have one.
final class DiskCounters: Sendable {
  private final class Count: Sendable {
    let requests = Atomic<UInt64>(0)
    let bytes = Atomic<UInt64>(0)
  }

  private let read = Count()
  private let write = Count()
  private let flush = Count()
  private let trim = Count()
  private let writeZeroes = Count()
  private let cache = Count()
  private let blockStatus = Count()
  private let errors = Guarded<[DiskErrorKind: UInt64]>([:])

  private func count(_ kind: DiskRequestKind) -> Count {
    switch kind {
    case .read: read
    case .write: write
    case .flush: flush
    case .trim: trim
    case .writeZeroes: writeZeroes
    case .cache: cache
    case .blockStatus: blockStatus
    }
  }

  func note(_ request: NBDRequest) {
    guard let kind = DiskRequestKind(request.command) else { return }
    let count = count(kind)
    count.requests.wrappingAdd(1, ordering: .relaxed)
    count.bytes.wrappingAdd(request.length, ordering: .relaxed)
  }

  /// - Parameter command: nil: the request was refused before it was looked at.
  func noteError(_ command: NBDCommand?, _ code: NBDError) {
    let kind = DiskErrorKind(request: command.flatMap { DiskRequestKind($0) }, code)
    errors.update { $0[kind, default: 0] &+= 1 }
  }

  func use(_ kind: DiskRequestKind) -> (requests: UInt64, bytes: UInt64) {
    let count = count(kind)
    return (
      count.requests.load(ordering: .relaxed), count.bytes.load(ordering: .relaxed)
    )
  }

  var errorCounts: [DiskErrorKind: UInt64] { errors.read { $0 } }
}

/// What failed, and how.
public struct DiskErrorKind: Sendable, Hashable {
  /// nil: refused before it was one, as malformed or not allowed.
  public let request: DiskRequestKind?
  /// Name of the error that the client was told, `EIO` for instance. Some come from other servers: those that the protocol
  /// doesn't know are `other`, so that the names are few.
  public let error: String

  init(request: DiskRequestKind?, error: String) {
    (self.request, self.error) = (request, error)
  }

  init(request: DiskRequestKind?, _ code: NBDError) {
    self.request = request
    error =
      switch code {
      case .notPermitted: "EPERM"
      case .inputOutput: "EIO"
      case .noMemory: "ENOMEM"
      case .invalid: "EINVAL"
      case .noSpace: "ENOSPC"
      case .overflow: "EOVERFLOW"
      case .notSupported: "ENOTSUP"
      case .shutdown: "ESHUTDOWN"
      default: "other"
      }
  }
}

/// The counters at one instant.
public struct DiskUse: Sendable, Hashable, Encodable {
  public let export: String
  public let reads, readBytes, writes, writtenBytes, flushes, otherRequests: UInt64
  /// Requests that were refused or failed.
  public let errors: UInt64
}

extension ServedDisk {
  /// Since this server offers the disk; a restart begins at 0.
  public var use: DiskUse {
    let (read, write) = (counters.use(.read), counters.use(.write))
    let others: [DiskRequestKind] = [.trim, .writeZeroes, .cache, .blockStatus]
    return DiskUse(
      export: name, reads: read.requests, readBytes: read.bytes,
      writes: write.requests, writtenBytes: write.bytes, flushes: counters.use(.flush).requests,
      otherRequests: others.reduce(0) { $0 &+ counters.use($1).requests },
      errors: counters.errorCounts.values.reduce(0, &+))
  }

  /// Requests of one kind, and the bytes of their ranges.
  public func use(_ kind: DiskRequestKind) -> (requests: UInt64, bytes: UInt64) {
    counters.use(kind)
  }

  /// Requests that were refused or failed.
  public var errorCounts: [DiskErrorKind: UInt64] { counters.errorCounts }
}
