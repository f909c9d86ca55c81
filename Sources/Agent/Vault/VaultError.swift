import Base

/// Why a snapshot could not be written or read.
enum VaultError: Error, CustomStringConvertible {
  /// The file is not what this program writes, or was changed since.
  case damaged(path: String, DecodeError)
  /// There is no room for it within the quota.
  case full(quotaBytes: UInt64)
  /// The guest has no memory that can be kept, or its names are over the limits.
  case cannotBeKept(String)
  case calledOff
  /// Reading it takes longer than a migration may be kept waiting.
  case slow(path: String)
  /// It is sealed with a key that this host doesn't have.
  case locked(path: String)
  /// The host's key can't be used.
  case noKey(path: String, String)

  var description: String {
    switch self {
    case .damaged(let path, let error): "\(path) is damaged: \(error)"
    case .full(let quota):
      "no room for it within the vault's quota of \(ByteCount(quota)) (vaultQuota)"
    case .cannotBeKept(let reason): reason
    case .calledOff: "called off"
    case .slow(let path): "\(path) cannot be read in time"
    case .locked(let path): "\(path) is sealed, and no key is known here (vaultKeyFile)"
    case .noKey(let path, let reason): "the key \(path) (vaultKeyFile) can't be used: \(reason)"
    }
  }
}
