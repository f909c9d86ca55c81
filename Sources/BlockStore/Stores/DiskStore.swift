public import NBD

/// Why a store could not do something.
public struct StoreError: Error, Sendable, Hashable, CustomStringConvertible {
  /// What the client is told.
  public let code: NBDError
  /// For people, without paths of this host: the client sees it, too.
  public let message: String

  public init(_ code: NBDError, _ message: String) { (self.code, self.message) = (code, message) }

  public var description: String { message.isEmpty ? code.description : message }
}

/// What a store can do.
public struct DiskTraits: Sendable, Hashable {
  public var isReadOnly = false
  public var blockSizes = BlockSizes.usual
  /// Space of a range can be given back.
  public var canTrim = true
  /// Whether any number of connections see one another's writes and flushes.
  public var isCoherent = true
  /// Whether a read or write may be tried on the connection's own thread. False where each one
  /// waits for a device or another process.
  public var isPrompt = true

  public init() {}
}

/// How a range is made zero.
public struct ZeroOptions: OptionSet, Sendable, Hashable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// The range keeps its space, or gets it.
  public static let keepsSpace = Self(rawValue: 1)
  /// Fails at once with `notSupported` where it would take as long as writing.
  public static let fast = Self(rawValue: 2)
  /// On stable storage before it returns.
  public static let durable = Self(rawValue: 4)
}

/// The bytes of a disk. Calls block and come from any number of threads; ranges are within the disk
/// and keep to `traits.blockSizes`.
public protocol DiskStore: AnyObject, Sendable {
  var byteCount: UInt64 { get }
  var traits: DiskTraits { get }

  /// Fills `target`.
  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StoreError)

  /// Fills `target` if that needs no waiting; false: nothing was done. nil: the store can't tell, and
  /// `read` may or may not wait.
  func readAtOnce(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool?

  /// - Parameter durable: on stable storage before it returns.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) throws(StoreError)

  func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) throws(StoreError)

  /// Gives space back; what the range holds afterwards is not said.
  func trim(at offset: UInt64, count: UInt64) throws(StoreError)

  /// All writes that have returned are on stable storage when this returns.
  func flush() throws(StoreError)

  /// The range is about to be read: a hint.
  func cache(at offset: UInt64, count: UInt64)

  /// The range was read for a copy and won't be again: a hint to keep it out of the page cache.
  func forget(at offset: UInt64, count: UInt64)

  /// Whether a request may have to wait for another host, so that others must not stand behind it.
  ///
  /// - Parameter writes: whether it changes the range.
  func mayWait(at offset: UInt64, count: UInt64, writes: Bool) -> Bool

  /// The same of a flush, and of a look at what is allocated.
  var mayWaitForFlush: Bool { get }

  /// Whether nothing is open here: the first request has to open it, which may take long, and there is nothing to flush
  /// that was written here.
  var isAtRest: Bool { get }

  /// What is allocated from `offset` on (`base:allocation`): at least one extent, at most
  /// `extentsMax`, none beyond `offset + count`.
  func status(at offset: UInt64, count: UInt64, extentsMax: Int) throws(StoreError) -> [NBDExtent]

  /// Names of the metadata that clients may ask for. They stay as long as the store does.
  var contexts: [String] { get }

  /// The same of one of `contexts`.
  func status(
    of context: String, at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent]
}

extension DiskStore {
  public func readAtOnce(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool? {
    nil
  }
  public func cache(at offset: UInt64, count: UInt64) {}
  public func mayWait(at offset: UInt64, count: UInt64, writes: Bool) -> Bool { false }
  public var mayWaitForFlush: Bool { false }
  public func forget(at offset: UInt64, count: UInt64) {}
  public var isAtRest: Bool { false }
  public var contexts: [String] { [NBDExtent.allocation] }
  public func status(
    of context: String, at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    try status(at: offset, count: count, extentsMax: extentsMax)
  }
}
