/// `query-cpus-fast`: one vCPU.
public struct VCPU: Sendable, Hashable {
  public let index: Int
  /// Kernel thread that executes it, under KVM and TCG alike.
  public let threadID: Int32
  public let qomPath: String

  init?(_ json: JSONValue) {
    guard let index = json["cpu-index"]?.int, let path = json["qom-path"]?.string,
      let thread = json["thread-id"]?.int64.flatMap({ Int32(exactly: $0) }), thread > 0
    else { return nil }
    (self.index, threadID, qomPath) = (index, thread, path)
  }
}

/// `query-memdev`: one memory backend.
public struct MemoryBackend: Sendable, Hashable {
  public let id: String
  /// Bytes.
  public let size: UInt64
  /// Mapped shared, so another process can map it too. Unknown before 6.1.
  public let isShared: Bool
  public let isPreallocated: Bool

  init?(_ json: JSONValue) {
    guard let size = json["size"]?.uint64 else { return nil }
    (id, self.size) = (json["id"]?.string ?? "", size)
    isShared = json["share"]?.bool ?? false
    isPreallocated = json["prealloc"]?.bool ?? false
  }
}

/// `query-machines`: a machine type this QEMU has.
public struct MachineType: Sendable, Hashable {
  public let name: String
  public let alias: String?
  public let isDeprecated: Bool

  init?(_ json: JSONValue) {
    guard let name = json["name"]?.string else { return nil }
    (self.name, alias) = (name, json["alias"]?.string)
    isDeprecated = json["deprecated"]?.bool ?? false
  }
}

/// `query-chardev`: one character device.
public struct CharacterDevice: Sendable, Hashable {
  public let label, fileName: String
  public let isOpen: Bool

  init?(_ json: JSONValue) {
    guard let label = json["label"]?.string else { return nil }
    (self.label, fileName) = (label, json["filename"]?.string ?? "")
    isOpen = json["frontend-open"]?.bool ?? false
  }
}

/// `query-kvm`.
public struct KVMState: Sendable, Hashable {
  public let isEnabled, isPresent: Bool

  public init(isEnabled: Bool, isPresent: Bool) {
    (self.isEnabled, self.isPresent) = (isEnabled, isPresent)
  }
}

/// One word of CPUID as the guest sees it (`feature-words` of an x86 CPU object).
public struct CPUFeatureWord: Sendable, Hashable, Codable, Comparable {
  /// CPUID leaf, and sub-leaf where there is one.
  public let leaf: UInt64
  public let subleaf: UInt64?
  public let register: String
  public let bits: UInt64

  public init(leaf: UInt64, subleaf: UInt64?, register: String, bits: UInt64) {
    (self.leaf, self.subleaf, self.register, self.bits) = (leaf, subleaf, register, bits)
  }

  init?(_ json: JSONValue) {
    guard let leaf = json["cpuid-input-eax"]?.uint64, let bits = json["features"]?.uint64,
      let register = json["cpuid-register"]?.string
    else { return nil }
    self.init(leaf: leaf, subleaf: json["cpuid-input-ecx"]?.uint64, register: register, bits: bits)
  }

  /// By leaf, sub-leaf (none counts as 0) and register; the bits don't count.
  public static func < (a: Self, b: Self) -> Bool {
    (a.leaf, a.subleaf ?? 0, a.register) < (b.leaf, b.subleaf ?? 0, b.register)
  }
}

/// `qom-list`: one property of an object.
public struct ObjectProperty: Sendable, Hashable {
  public let name, type: String

  init?(_ json: JSONValue) {
    guard let name = json["name"]?.string, let type = json["type"]?.string else { return nil }
    (self.name, self.type) = (name, type)
  }
}
