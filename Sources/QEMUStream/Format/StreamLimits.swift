/// Upper bounds on what a stream may claim. A reader's memory is bounded by them.
public struct StreamLimits: Sendable, Hashable {
  /// Bytes of the machine type's name.
  public var machineNameLength = 255
  /// Names in `configuration/capabilities`.
  public var capabilityCount = 64
  /// Blocks in RAM's START section.
  public var ramBlockCount = 1024
  /// Sum of all block lengths, in bytes: 64 TiB.
  public var ramLength: UInt64 = 1 << 46
  /// Bytes of a command's data. QEMU sends at most 512.
  public var commandLength = 32 << 10
  /// Bytes after RAM's END: device state and description. Passed on, never held.
  public var tailLength: UInt64 = 256 << 20
  /// Bytes of the JSON description.
  public var descriptionLength: UInt64 = 64 << 20

  public init() {}
  public static let standard = StreamLimits()
}
