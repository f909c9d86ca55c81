/// Images that pages of some guests may refer to beside those that they have attached: one `[[sharedImages]]` of the
/// configuration. Both hosts' operators must name an image, and both hosts must have an index of it.
public struct SharedImages: Sendable, Equatable, Decodable {
  /// Names of VMs, with wildcards as in `AllowRule`.
  public var vms: [String]
  /// Absolute paths.
  public var images: [String]

  public init(vms: [String], images: [String]) { (self.vms, self.images) = (vms, images) }

  /// The images that are named for `vm`.
  static func images(_ rules: [SharedImages], for vm: String) -> [String] {
    rules.filter { rule in rule.vms.contains { AllowRule.matches(vm, $0) } }.flatMap(\.images)
  }
}
