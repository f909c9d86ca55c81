import Synchronization

/// A child that is told to end when this process dies before it has let the child go.
///
/// The kernel can send a child one signal when its parent dies (`PR_SET_PDEATHSIG`). That isn't enough: a program that isn't ready
/// for the signal loses it, as `qemu-nbd` does until it has opened its image, and stays for ever. So a shell waits beside the child at
/// a socket whose other end nobody has but this process, and repeats the signal until the child has gone.
public final class TiedChild: Sendable {
  public let process: ChildProcess
  private let tie: Mutex<StreamSocket?>

  /// The shell that becomes the program, so that its process id is the program's, leaves another one behind, which is nobody's
  /// child. A line at the socket: the program may live. Its end without one: this process has died.
  private static let script = """
    exec 3<&0 </dev/null
    ( (
      if ! read -r line <&3; then
        for second in 1 2 3 4 5 6 7 8 9 10; do kill $$ || exit; sleep 1; done
        kill -KILL $$
      fi
    ) >/dev/null 2>&1 & )
    exec "$0" "$@" 3<&-
    """

  /// As `ChildProcess`; a program that isn't there is told by its exit code, 127, and in its output.
  public init(_ program: String, _ arguments: [String], output: Int32? = nil) throws {
    let (near, far) = try UnixSocket.pair(program)
    process = try ChildProcess(
      "/bin/sh", ["-c", Self.script, program] + arguments, input: far.raw, output: output)
    tie = Mutex(near)
  }

  /// From now on the child's end is its own affair, also when this process dies. May be said again.
  public func letGo() {
    let tie = tie.withLock { tie in
      defer { tie = nil }
      return tie
    }
    guard let tie else { return }
    // Where nobody reads it, nobody waits any more either.
    try? unsafe tie.writeAll([UInt8(ascii: "\n")].span.bytes)
  }
}
