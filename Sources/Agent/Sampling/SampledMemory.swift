import Base
import Compaction
import HostIO
import QMP
import Strategy

/// A running guest's RAM as it can be read from outside, without changing it: shared memory, or QEMU's own.
///
/// A page that nobody ever touched reads as zeros and isn't read, for that would make the kernel find memory
/// for it.
final class SampledMemory: Sendable {
  struct Block: Sendable {
    let name: String
    let place: GuestPlace
    /// Of its first page among all sampled pages, and how many it has.
    let firstPage, pageCount: UInt64
  }

  /// The process that memory which is not shared lies in.
  private struct Owner: Sendable {
    let memory: ProcessMemory
    let present: PresentPages
  }

  let blocks: [Block]
  private let owner: Owner?
  /// By block name, for who reads other pages than the sampled ones.
  var places: [String: GuestPlace] {
    Dictionary(blocks.map { ($0.name, $0.place) }) { first, _ in first }
  }
  /// Pages that can be read, and pages of RAM blocks that can't.
  let ramPages, unseenPages: UInt64

  private init(blocks: [Block], owner: Owner?, ramPages: UInt64, unseenPages: UInt64) {
    (self.blocks, self.owner) = (blocks, owner)
    (self.ramPages, self.unseenPages) = (ramPages, unseenPages)
  }

  /// Memory that is all shared.
  convenience init(shared files: [(name: String, file: SharedFile)]) {
    var blocks: [Block] = []
    var seen: UInt64 = 0
    for (name, file) in files {
      let pages = file.length >> UInt64(Page.shift)
      blocks.append(Block(name: name, place: .shared(file), firstPage: seen, pageCount: pages))
      seen += pages
    }
    self.init(blocks: blocks, owner: nil, ramPages: seen, unseenPages: 0)
  }

  /// What most of the pages that can be read are.
  var source: GuestSample.Source {
    let shared = blocks.reduce(UInt64(0)) { sum, block in
      if case .shared = block.place { sum + block.pageCount } else { sum }
    }
    return shared * 2 >= ramPages ? .shared : .process
  }

  /// Finds the RAM blocks of the QEMU in `process`; nil when none can be read.
  ///
  /// Where a block lies says QEMU itself; it counts only if the kernel has memory of that size mapped there.
  static func open(_ client: QMPClient, _ process: ProcessIdentity) async throws -> SampledMemory? {
    let pid = process.pid
    let blocks = try await client.ramBlocks()
    let backends = try await SharedMemoryBackend.locate(client, pid: pid)
    let addresses = try await HostAddresses.find(blocks, client)
    return try await Blocking.run {
      let owner = try? Owner(memory: ProcessMemory(pid: pid), present: PresentPages(pid: pid))
      let mappings = FileMapping.all(pid: pid) ?? []
      // What was opened is of this very process, whatever became of its pid meanwhile.
      guard process.isAlive else { return nil }
      var found: [Block] = []
      var (seen, unseen): (UInt64, UInt64) = (0, 0)
      for block in blocks where block.usedSize > 0 {
        let pages = UInt64(Page.count(bytes: block.usedSize))
        let backend = backends.first { $0.blockName == block.name }
        let file = backend.flatMap {
          try? SharedFile(path: $0.path, offset: $0.offset, length: $0.length, writable: false)
        }
        let place: GuestPlace
        if let file, block.usedSize % UInt64(Page.size) == 0 {
          place = .shared(file)
        } else if let owner, let address = addresses[block.name],
          FileMapping.isPrivate(address, length: block.usedSize, in: mappings)
        {
          place = .process(owner.memory, address: address, length: block.usedSize)
        } else {
          unseen += pages
          continue
        }
        found.append(Block(name: block.name, place: place, firstPage: seen, pageCount: pages))
        seen += pages
      }
      guard seen > 0 else { return nil }
      return SampledMemory(blocks: found, owner: owner, ramPages: seen, unseenPages: unseen)
    }
  }

  private static let zeroMark: UInt64 = {
    let page = PageBuffer.zeroed(byteCount: Page.size)
    return PageFingerprint(of: page.span(Page.size)).low
  }()

  /// A mark per page of the sample: 0 for zeros, else its fingerprint. Blocks.
  func marks(of sample: PageSample) throws(SystemError) -> [UInt64] {
    let buffer = PageBuffer(byteCount: Page.size)
    var marks: [UInt64] = []
    marks.reserveCapacity(sample.pages.count)
    var index = 0
    for page in sample.pages {
      while index < blocks.count, page >= blocks[index].firstPage + blocks[index].pageCount {
        index += 1
      }
      guard index < blocks.count else { break }
      let isThere = try read(blocks[index], page - blocks[index].firstPage, buffer)
      let mark = isThere ? PageFingerprint(of: buffer.span(Page.size)).low : Self.zeroMark
      marks.append(mark == Self.zeroMark ? 0 : max(mark, 1))
    }
    return marks
  }

  /// Reads a page of a block; false when nobody ever touched it.
  func read(
    _ block: Block, _ page: UInt64, _ buffer: PageBuffer, at offset: Int = 0
  ) throws(SystemError) -> Bool {
    let position = page << UInt64(Page.shift)
    switch block.place {
    case .shared(let file):
      guard try file.mayHoldData(at: position, count: Page.size) else { return false }
    case .process(_, let address, _):
      guard let owner, try owner.present.contains(address + position) else { return false }
    }
    try unsafe block.place.read(page: page, into: buffer.part(offset, Page.size))
    return true
  }
}
