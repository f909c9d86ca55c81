/// Version of this build; `godwit version` prints it, and both ends of a control socket tell it.
public struct GodwitVersion: Codable, Sendable, Equatable {
  public static let current = Self(godwit: "0.1.0", control: 1)

  /// Version of the program, `major.minor.patch`.
  public var godwit: String
  /// Version of the control protocol; an agent refuses a request of another one.
  public var control: UInt32

  public init(godwit: String, control: UInt32) {
    (self.godwit, self.control) = (godwit, control)
  }
}
