/// Why a migration does not begin: what is wrong, and what the operator can do about it.
public struct Refusal: Codable, Sendable, Hashable, CustomStringConvertible {
  /// Stable names for scripts.
  public enum Code: String, Codable, Sendable, CaseIterable {
    case runState, migrationRunning, blockedByQEMU, iterativeDevice, dirtyBitmaps
    case capability, tlsCredentials, lostDirtyPages, sharedMemoryMissing, request
    case accelerator, machineType, cpuModel, cpuFeatures, cpuCount, uuid
    case ramBlocks, disks, memory, destinationState, peerSecurity, notAllowed
  }

  public let code: Code
  public let cause, remedy: String

  public init(_ code: Code, _ cause: String, remedy: String) {
    (self.code, self.cause, self.remedy) = (code, cause, remedy)
  }

  public var description: String { "\(cause). Remedy: \(remedy)" }
}
