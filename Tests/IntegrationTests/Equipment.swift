import Foundation
import Glibc
import Lab
import Testing

/// What tests with whole guests need of the machine.
enum Equipment {
  static let qemu72 = "/usr/bin/qemu-system-x86_64"
  static let isRoot = geteuid() == 0
  static let program = ProcessInfo.processInfo.environment["GODWIT_BINARY"]

  static var isThere: Bool {
    guard let program else { return false }
    return isRoot && FileManager.default.isExecutableFile(atPath: program)
      && FileManager.default.isExecutableFile(atPath: qemu72)
      && FileManager.default.fileExists(atPath: CacheFolder().path + "/kernel/current/vmlinuz")
  }
}

extension Trait where Self == ConditionTrait {
  /// Whole guests, over links of their own.
  static var needsEquipment: Self {
    .enabled(
      if: Equipment.isThere,
      "skipped: needs root, GODWIT_BINARY and scripts/install-dependencies.sh (use `make test`)")
  }
}
