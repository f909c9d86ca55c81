/// What is wrong with a certificate, a key or a file of them, and what to do about it.
public struct PKIError: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
