import Agent
import BlockStore

/// The server of a guest's qcow2 image, over its control socket.
struct BlockImageServer: ImageServer {
  let socket: String
  let export: String
  /// nil: no server is known, and none has anything to give back.
  private let client: BlockClient?

  init(socket: String?, export: String, control: String?) {
    self.socket = socket ?? ""
    self.export = export
    client = (control ?? socket.map { $0 + BlockClient.suffix }).map { BlockClient(path: $0) }
  }

  func look() async throws { try await tell(.look) }
  func take() async throws { try await tell(.take) }
  func release() async throws { try await tell(.release) }
  func rest() async throws { try await tell(.rest) }

  private func tell(_ step: LendingStep) async throws {
    guard let client else { return }
    var request = BlockRequest(.lend, disk: export)
    request.lending = step
    _ = try await client.exchange(request)
  }
}
