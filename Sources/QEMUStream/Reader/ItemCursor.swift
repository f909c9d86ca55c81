internal import Base

/// Why an item could not be read.
enum ItemError: Error {
  /// Its bytes are not all there yet.
  case short
  /// Offsets count from the item's start.
  case decode(DecodeError)
  case stream(StreamError)

  init(
    _ code: DecodeError.Code, in context: StaticString, at offset: Int, found: UInt64 = 0,
    limit: UInt64 = 0
  ) {
    self = .decode(
      DecodeError(code, in: context, at: UInt64(offset), found: found, limit: limit))
  }
}

/// A `ByteCursor` over the start of an item, where running short means "wait", not "wrong".
struct ItemCursor: ~Escapable {
  private let bytes: RawSpan
  private var cursor: ByteCursor

  @_lifetime(copy bytes)
  init(_ bytes: RawSpan) {
    self.bytes = bytes
    cursor = ByteCursor(bytes)
  }

  var position: Int { cursor.position }
  var remaining: Int { cursor.remaining }

  /// The bytes read so far.
  var item: RawSpan {
    @_lifetime(copy self) get { bytes.extracting(0..<cursor.position) }
  }

  @_lifetime(self: copy self)
  mutating func read<T: FixedWidthInteger & BitwiseCopyable>() throws(ItemError) -> T {
    guard cursor.remaining >= MemoryLayout<T>.size else { throw .short }
    do throws(DecodeError) { return try cursor.readBE() } catch { throw .decode(error) }
  }

  @_lifetime(copy self)
  mutating func take(_ count: Int) throws(ItemError) -> RawSpan {
    guard cursor.remaining >= count else { throw .short }
    do throws(DecodeError) { return try cursor.take(count) } catch { throw .decode(error) }
  }

  @_lifetime(self: copy self)
  mutating func string(_ count: Int) throws(ItemError) -> String {
    guard cursor.remaining >= count else { throw .short }
    do throws(DecodeError) { return try cursor.readString(count) } catch { throw .decode(error) }
  }

  /// A length byte and that many bytes of UTF-8.
  @_lifetime(self: copy self)
  mutating func countedString() throws(ItemError) -> String {
    try string(Int(try read() as UInt8))
  }

  /// Runs a decoder that works on a `ByteCursor`.
  @_lifetime(self: copy self)
  mutating func decode<R>(
    _ body: (inout ByteCursor) throws(DecodeError) -> R
  ) throws(ItemError) -> R {
    do throws(DecodeError) { return try body(&cursor) } catch {
      throw error.code == .truncated ? .short : .decode(error)
    }
  }
}

extension StreamVisitor {
  /// Calls the visitor; its refusal becomes the reader's error.
  mutating func tell(
    _ body: (inout Self) throws(VisitorStopped) -> Void
  ) throws(ItemError) {
    do throws(VisitorStopped) { try body(&self) } catch { throw .stream(.stopped) }
  }
}
