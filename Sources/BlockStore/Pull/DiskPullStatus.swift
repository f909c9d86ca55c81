public import Base

/// What is asked of a pull.
public struct DiskPullWish: Sendable {
  /// Cap on what is fetched without the guest's asking; nil: none.
  public var bytesPerSecond: UInt64?
  /// What the image holds is not wanted.
  public var overwrites = false

  public init() {}
}

/// Where a pull is.
public enum DiskPullPhase: String, Sendable, Codable, CaseIterable {
  /// There is no connection to the source; what isn't here can't be read.
  case connecting
  case pulling
  /// By wish, or because of what `problem` says, nothing is fetched but what is asked for.
  case paused
  /// Everything is here, on stable storage, and the source is not needed any more.
  case done
  case cancelled

  /// Nothing more is fetched: done or cancelled.
  public var isOver: Bool { self == .done || self == .cancelled }
}

/// A pull at one instant.
public struct DiskPullStatus: Sendable, Codable, Hashable {
  public var disk: String
  /// URI.
  public var source: String
  public var phase: DiskPullPhase
  public var diskBytes: UInt64
  /// What is not here.
  public var missingBytes: UInt64
  /// What came from the source as data, and what of the disk were zeros that cost none; since this server was started.
  public var fetchedBytes, zeroBytes: UInt64
  /// Requests that had to wait for the source, and how long: on average, and the longest, in microseconds.
  public var faults: UInt64
  @OrNull public var faultMeanUs: UInt64?
  @OrNull public var faultMaxUs: UInt64?
  /// Those that waited in vain.
  public var failedFaults: UInt64
  /// What comes, zeros included.
  @OrNull public var bytesPerSecond: UInt64?
  /// Until everything is here; nil: nothing is fetched by itself now, or no end can be named.
  @OrNull public var etaMs: UInt64?
  /// Connections that were opened, the first one included.
  public var connectionCount: UInt64
  /// Whether somebody has written here, so that the source isn't the disk any more.
  public var isWritten: Bool
  /// Why nothing comes.
  @OrNull public var problem: String?
}
