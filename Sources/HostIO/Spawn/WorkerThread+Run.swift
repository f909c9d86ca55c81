extension WorkerThread {
  /// Runs blocking `body` on a thread of its own; the caller waits without holding up the pool.
  public static func run<Value: Sendable>(
    _ name: String, _ body: @escaping @Sendable () throws -> Value
  ) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      _ = WorkerThread(name) { continuation.resume(with: Result { try body() }) }
    }
  }
}
