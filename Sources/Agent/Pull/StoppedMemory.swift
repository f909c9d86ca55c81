import Base
import Glibc
import HostIO
import QEMUStream
import QMP
import Strategy

/// The memory of a guest that has stopped for good here, readable until its QEMU ends.
///
/// Shared RAM is read through the agent's own mapping, other RAM out of QEMU's process.
struct StoppedMemory: Sendable {
  enum Place: Sendable {
    case file(SharedFile)
    case process(ProcessMemory, address: UInt64)
    /// Not to be found from outside: its pages are never left for a pull.
    case unknown
  }

  /// Blocks that cannot be read hold this much at most together, in bytes: ROMs that are switched off, which
  /// QEMU before 8.0 does not say the place of.
  static let unknownBytesMax: UInt64 = 4 << 20

  let numbering: PageNumbering
  private let places: [Place]

  /// Finds every block of the stream.
  ///
  /// - Parameters:
  ///   - blocks: of the stream, in its order.
  ///   - shared: those that the agent has mapped already, by name.
  static func open(
    _ blocks: [RAMBlock], shared: [String: SharedFile], _ client: QMPClient, pid: Int32
  ) async throws -> StoppedMemory {
    let known = try await client.ramBlocks()
    let addresses = try await HostAddresses.find(
      known.filter { shared[$0.name] == nil }, client)
    let memory = try ProcessMemory(pid: pid)
    var places: [Place] = []
    var unknownBytes: UInt64 = 0
    for block in blocks {
      if let file = shared[block.name], file.length >= block.length {
        places.append(.file(file))
      } else if let address = addresses[block.name],
        known.contains(where: { $0.name == block.name && $0.usedSize >= block.length })
      {
        places.append(.process(memory, address: address))
      } else {
        places.append(.unknown)
        unknownBytes += block.length
        guard unknownBytes <= unknownBytesMax else {
          throw Ending.failed("RAM block \(block.name) cannot be read from outside QEMU")
        }
      }
    }
    let found = StoppedMemory(
      numbering: PageNumbering(blockPages: blocks.map(\.pageCount)), places: places)
    try await Blocking.run { try found.readEdges() }
    return found
  }

  /// Reads the first and the last page of each block: a place that is wrong shows before anything depends on it.
  private func readEdges() throws(SystemError) {
    let page = PageBuffer(byteCount: Page.size)
    for (block, isReadable) in isReadable.enumerated() where isReadable {
      for number in [0, numbering.counts[block] - 1] {
        try unsafe read(block: block, firstPage: UInt64(number), into: page.part(0, Page.size))
      }
    }
  }

  /// Whether all of it is the agent's own mapping.
  var outlivesQEMU: Bool {
    places.allSatisfy { if case .process = $0 { false } else { true } }
  }

  /// Which blocks can be read, in the stream's order.
  var isReadable: [Bool] {
    places.map { if case .unknown = $0 { false } else { true } }
  }

  init(numbering: PageNumbering, places: [Place]) {
    (self.numbering, self.places) = (numbering, places)
  }

  /// Whether pages may hold anything but zeros, asked without touching them.
  func mayHoldData(block: Int, firstPage: UInt64, pages: Int) throws(SystemError) -> Bool {
    guard case .file(let file) = places[block] else { return true }
    return try file.mayHoldData(at: firstPage << UInt64(Page.shift), count: pages * Page.size)
  }

  /// Copies `buffer.count` bytes of pages, from page `firstPage` of a block on.
  func read(
    block: Int, firstPage: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(SystemError) {
    let offset = firstPage << UInt64(Page.shift)
    switch places[block] {
    case .file(let file): try unsafe file.read(at: offset, into: buffer)
    case .process(let memory, let address):
      try unsafe memory.read(at: address + offset, into: buffer)
    case .unknown:
      throw SystemError("read RAM block \(block), whose place is not known", code: EFAULT)
    }
  }
}
