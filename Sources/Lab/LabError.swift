/// Why an experiment could not be done. One sentence that names the cause and, where there is one,
/// the remedy.
public struct LabError: Error, CustomStringConvertible, Sendable, Equatable {
  public let description: String
  public init(_ description: String) { self.description = description }
}
