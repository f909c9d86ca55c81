import Base
import HostIO
import Synchronization
import Wire

@testable import Agent

/// Connections over a wire that breaks, and changes bytes, at places drawn from a seed.
final class FlakyWire: Sendable {
  private struct State {
    var random: SplitMix64
    /// Connections that still break; the ones after them hold.
    var breaksLeft: Int
    var made = 0
  }

  private let state: Mutex<State>
  private let bytesMax: Int
  private let flipsBits: Bool

  /// - Parameters:
  ///   - breaks: how many connections break before the wire holds.
  ///   - bytesMax: a connection breaks after at most so many bytes in one direction.
  ///   - flipsBits: instead of breaking, a bit is changed there.
  init(seed: UInt64, breaks: Int, bytesMax: Int, flipsBits: Bool) {
    state = Mutex(State(random: SplitMix64(seed: seed), breaksLeft: breaks))
    (self.bytesMax, self.flipsBits) = (bytesMax, flipsBits)
  }

  /// Connections made so far.
  var made: Int { state.withLock { $0.made } }

  func connect() throws -> (StreamSocket, StreamSocket) {
    let limit = state.withLock { state -> Int? in
      state.made += 1
      guard state.breaksLeft > 0 else { return nil }
      state.breaksLeft -= 1
      return Int.random(in: 1...bytesMax, using: &state.random)
    }
    let (near, nearEnd) = try Sockets.tcpPair()
    let (farEnd, far) = try Sockets.tcpPair()
    carry(nearEnd, farEnd, limit: limit)
    carry(farEnd, nearEnd, limit: nil)
    return (near, far)
  }

  /// Copies one direction; at `limit` bytes what was read last is lost, or has one bit changed.
  private func carry(_ from: StreamSocket, _ to: StreamSocket, limit: Int?) {
    let flips = flipsBits
    _ = WorkerThread("test-wire") {
      let buffer = PageBuffer(byteCount: 32 << 10)
      var total = 0
      while let count = try? from.read(into: buffer.part(0, buffer.byteCount)), count > 0 {
        if let limit, total < limit, total + count >= limit {
          guard flips else { break }
          buffer.part(limit - total - 1, 1)[0] ^= 0x10
        }
        total += count
        guard (try? to.writeAll(buffer.span(count))) != nil else { break }
      }
      from.shutdown()
      to.shutdown()
    }
  }
}
