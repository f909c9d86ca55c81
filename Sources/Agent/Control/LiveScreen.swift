import Glibc

/// Redraws a block of lines in place at the bottom of a terminal. Pure: gives the bytes to write.
///
/// Every frame is one string: cursor up, each line with its rest erased, what is left below erased;
/// nothing is cleared first, so nothing flickers. Cut lines and the cursor's position are counted
/// with the width of this frame, because a terminal that was made narrower has re-wrapped the
/// lines of the last one.
public struct LiveScreen: Sendable {
  private var shown: [Int] = []

  public init() {}

  /// Bytes that replace the block drawn before by `lines`, as many as `height` rows hold: what has
  /// scrolled away can't be redrawn.
  public mutating func frame(_ lines: [String], width: Int, height: Int = 24) -> String {
    let width = max(width, 1)
    let rows = max(height - 1, 1)
    var lines = lines
    if lines.count > rows {
      let hidden = lines.count - rows + 1
      lines = lines.prefix(rows - 1) + ["… \(hidden) more lines"]
    }
    var text = "\u{1B}[?2026h\u{1B}[?25l" + up(width)
    shown = []
    for line in lines {
      // One column stays free: a full line would leave the cursor in the wrap state.
      let cut = TerminalText.fit(line, columns: max(width - 1, 1))
      shown.append(TerminalText.width(cut))
      text += cut + "\u{1B}[K\n"
    }
    return text + "\u{1B}[J\u{1B}[?25h\u{1B}[?2026l"
  }

  /// Bytes that take the block away, so that other text can follow.
  public mutating func clear(width: Int) -> String {
    defer { shown = [] }
    return up(max(width, 1)) + "\u{1B}[J"
  }

  /// To the start of the block, counting rows as a terminal of `width` columns shows them now.
  private func up(_ width: Int) -> String {
    let rows = shown.reduce(0) { $0 + max(1, ($1 + width - 1) / width) }
    return rows == 0 ? "\r" : "\r\u{1B}[\(rows)A"
  }
}

/// Facts about the terminal behind a file descriptor.
public enum Terminal {
  /// Columns, `20...1000`; nil when the descriptor is no terminal, or one that can't move its cursor.
  public static func columns(_ descriptor: Int32 = 1) -> Int? { size(descriptor)?.columns }

  /// Columns, `20...1000`, and rows, `5...1000`; nil as above.
  public static func size(_ descriptor: Int32 = 1) -> (columns: Int, rows: Int)? {
    // SAFETY: getenv's result is copied at once; nothing in this program changes the environment.
    let kind = unsafe getenv("TERM").map { unsafe String(cString: $0) }
    guard isatty(descriptor) == 1, kind != "dumb" else { return nil }
    var size = winsize()
    // SAFETY: TIOCGWINSZ fills a `winsize`, which lives for the call.
    guard unsafe ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
      return (80, 24)
    }
    return (min(max(Int(size.ws_col), 20), 1000), min(max(Int(size.ws_row), 5), 1000))
  }
}
