/// Starts programs that outlive us: a session of their own, nothing inherited but what is named.
public enum DaemonProcess {
  /// Starts `program` with standard output and error appended to `logPath` (mode 0600).
  ///
  /// The child leads a new session, gets default signals, an empty signal mask, `/dev/null` as
  /// standard input, and no other descriptor.
  ///
  /// - Parameter program: an absolute path; it is not searched for.
  /// - Parameter environment: all that the child gets, `NAME=value`.
  public static func spawn(
    program: String, arguments: [String], environment: [String], logPath: String
  ) throws(SystemError) -> ProcessIdentity {
    let pid = try SessionSpawn.start(
      program, arguments, environment: environment, output: .file(logPath), isDaemon: true)
    // Our own child cannot be recycled before it is reaped, so its start time can be read in peace.
    return ProcessIdentity(pid: pid) ?? ProcessIdentity(pid: pid, startTime: 0)
  }
}
