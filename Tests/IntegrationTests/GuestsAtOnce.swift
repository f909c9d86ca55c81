@testable import Lab

extension GuestSession {
  /// Boots guests on the same hosts, all at once; each one's files begin with its name.
  static func start(
    together guests: [LabOptions], _ commandLine: GuestCommandLine, _ hosts: HostPair,
    _ folder: RunFolder
  ) async throws -> [GuestSession] {
    try await withThrowingTaskGroup(of: GuestSession.self) { group in
      for (number, options) in guests.enumerated() {
        var commandLine = commandLine
        commandLine.specification = options.guest
        group.addTask { [commandLine] in
          try await GuestSession.start(
            options: options, commandLine: commandLine, hosts: hosts, folder: folder,
            label: options.guest.name, number: number)
        }
      }
      let sessions = try await group.reduce(into: [GuestSession]()) { $0.append($1) }
      return sessions.sorted { $0.number < $1.number }
    }
  }
}
