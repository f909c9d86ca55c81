import Foundation
import QMP
import Synchronization
import Testing

/// Replies captured from real QEMUs by `Tests/Golden/qmp/capture.py`.
enum Golden {
  static let versions = ["7.2", "10.0"]

  static var folder: URL {
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Golden/qmp")
  }

  static func line(_ version: String, _ name: String) throws -> [UInt8] {
    let bytes = [UInt8](try Data(contentsOf: folder.appending(path: "\(version)/\(name).json")))
    return Array(bytes.prefix { $0 != 0x0A && $0 != 0x0D })
  }

  static func reply(_ version: String, _ name: String) throws -> JSONValue {
    let message = try QMPMessage.parse(line(version, name))
    guard case .reply(1, let value) = message else {
      throw QMPError(.unexpectedReply, command: name, detail: "\(message)")
    }
    return value
  }

  static func files(_ version: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.appending(path: version).path())
      .filter { $0.hasSuffix(".json") }.map { String($0.dropLast(5)) }.sorted()
  }
}

/// Time that stands still until a test moves it.
final class ManualTimer: QMPTimer {
  private struct State {
    var nowMs: UInt64 = 0
    var nextID: UInt64 = 0
    var pending: [UInt64: (dueMs: UInt64, action: @Sendable () -> Void)] = [:]
  }
  private let state = Mutex(State())
  var pendingCount: Int { state.withLock { $0.pending.count } }

  func schedule(
    afterMs milliseconds: UInt64, _ action: @escaping @Sendable () -> Void
  ) -> @Sendable () -> Void {
    let id = state.withLock { state in
      state.nextID += 1
      state.pending[state.nextID] = (state.nowMs + milliseconds, action)
      return state.nextID
    }
    return { [self] in state.withLock { _ = $0.pending.removeValue(forKey: id) } }
  }

  func advance(byMs milliseconds: UInt64) {
    let due = state.withLock { state in
      state.nowMs += milliseconds
      let due = state.pending.filter { $0.value.dueMs <= state.nowMs }
      for id in due.keys { state.pending[id] = nil }
      return due.sorted { $0.key < $1.key }.map(\.value.action)
    }
    for action in due { action() }
  }
}

/// A monitor played by the test: `answer` gets each request and says what comes back.
final class ScriptedTransport: QMPTransport {
  typealias Answer = @Sendable (_ request: JSONValue) -> [String]
  private struct State {
    var client: QMPClient?
    var sent: [JSONValue] = []
    var isOpen = true
  }
  private let state = Mutex(State())
  private let answer: Answer

  init(_ answer: @escaping Answer = { _ in [] }) { self.answer = answer }

  var sent: [JSONValue] { state.withLock { $0.sent } }
  var isOpen: Bool { state.withLock { $0.isOpen } }
  func attach(_ client: QMPClient) { state.withLock { $0.client = client } }

  func send(_ line: String) -> Bool {
    guard let request = try? JSONParser.parse(Array(line.utf8)) else { return false }
    let client: QMPClient? = state.withLock { state in
      guard state.isOpen else { return nil }
      state.sent.append(request)
      return state.client
    }
    guard let client else { return false }
    for reply in answer(request) { client.receive(Array(reply.utf8)) }
    return true
  }

  func close() {
    let client = state.withLock { state in
      state.isOpen = false
      return state.client
    }
    client?.connectionClosed()
  }
}

/// Answers every request with `{}`.
func returnsEmpty(_ request: JSONValue) -> [String] {
  ["{\"return\":{},\"id\":\(request["id"]?.line ?? "0")}"]
}

func makeClient(
  _ answer: @escaping ScriptedTransport.Answer = { _ in [] }
) -> (QMPClient, ScriptedTransport, ManualTimer) {
  let (transport, timer) = (ScriptedTransport(answer), ManualTimer())
  let client = QMPClient(transport: transport, timer: timer, defaultTimeoutMs: 1000)
  transport.attach(client)
  return (client, transport, timer)
}

func text(_ string: String) -> [UInt8] { Array(string.utf8) }

/// Lets other tasks run until `condition` holds.
func eventually(_ condition: @Sendable () -> Bool) async {
  for _ in 0..<10_000 where !condition() { try? await Task.sleep(for: .milliseconds(1)) }
  #expect(condition())
}
