/// A named experiment: a guest with a job, and how it is moved.
public struct Scenario: Sendable {
  public let name: String
  /// One line for people.
  public let about: String
  public let options: LabOptions

  public static let all = [quickstart, idle, hot]

  /// nil: there is none of that name.
  public static func named(_ name: String) -> Scenario? { all.first { $0.name == name } }

  static let quickstart = Scenario(
    name: "quickstart",
    about: "512 MiB guest with memcached, 64 MiB rewritten at 20 MiB/s; by QEMU, then by Godwit"
  ) { _ in }

  static let idle = Scenario(
    name: "idle", about: "the same guest, writing nothing but its heartbeat and memcached"
  ) { $0.guest.workload.hotMiB = 0 }

  static let hot = Scenario(
    name: "hot", about: "128 MiB rewritten at 80 MiB/s with a Zipf pattern: hard for pre-copy"
  ) { options in
    options.guest.workload.hotMiB = 128
    options.guest.workload.dirtyMiBPerSecond = 80
    options.guest.workload.pattern = .zipf
  }

  private init(name: String, about: String, _ adjust: (inout LabOptions) -> Void) {
    var options = LabOptions()
    options.scenario = name
    adjust(&options)
    (self.name, self.about, self.options) = (name, about, options)
  }
}
