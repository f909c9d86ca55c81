import HostIO
import NBD

/// Carries out what may have to wait: one thread of the pool.
final class RequestWorker {
  /// Reads are sent in pieces of this size where the protocol has pieces, in bytes.
  private static let pieceByteCount = 256 << 10

  private let scratch = PageBuffer(byteCount: pieceByteCount)
  private var header: [UInt8] = []

  func carryOut(_ job: RequestJob) {
    let (request, link) = (job.request, job.link)
    defer { link.release(RequestJob.byteCount(request)) }
    guard !link.connection.isFenced else { return }
    do throws(StoreError) {
      switch request.command {
      case .read: return read(job)
      case .blockStatus: return try status(request, link)
      default: try change(job)
      }
      header.removeAll(keepingCapacity: true)
      link.writer.success(request, into: &header)
      link.outlet.send(header: header)
    } catch {
      link.fail(request, error)
    }
  }

  private func change(_ job: RequestJob) throws(StoreError) {
    let (request, store) = (job.request, job.link.disk.store)
    let isDurable = request.flags.contains(.fua)
    switch request.command {
    case .write:
      guard let data = job.data else { return }
      // SAFETY: the buffer is the job's own, at least as long as the request.
      let bytes = unsafe UnsafeRawBufferPointer(data.part(0, Int(request.length)))
      try unsafe store.write(bytes, at: request.offset, durable: isDurable)
    case .flush: try store.flush()
    case .trim:
      try store.trim(at: request.offset, count: request.length)
      if isDurable { try store.flush() }
    case .writeZeroes:
      var options: ZeroOptions = []
      if request.flags.contains(.noHole) { options.insert(.keepsSpace) }
      if request.flags.contains(.fastZero) { options.insert(.fast) }
      if isDurable { options.insert(.durable) }
      try store.zero(at: request.offset, count: request.length, options)
    case .cache: store.cache(at: request.offset, count: request.length)
    case .read, .blockStatus, .disconnect, .resize: break
    }
  }

  private func status(_ request: NBDRequest, _ link: ConnectionLink) throws(StoreError) {
    let isOne = request.flags.contains(.requestOne)
    // All of it before the first chunk: what fails has one answer.
    var told: [(id: UInt32, extents: [NBDExtent])] = []
    for context in link.contexts {
      let extents = try link.disk.status(
        of: context.name, at: request.offset, count: request.length,
        extentsMax: isOne ? 1 : NBDLimits.extentsMax)
      told.append((context.id, extents))
    }
    header.removeAll(keepingCapacity: true)
    for (place, context) in told.enumerated() {
      let isLast = place + 1 == told.count
      link.writer.status(
        request, context: context.id, context.extents, last: isLast, into: &header)
    }
    link.outlet.send(header: header)
  }

  private func read(_ job: RequestJob) {
    let (request, link) = (job.request, job.link)
    let end = request.offset + request.length
    let isWhole = link.writer.mode == .simple || request.flags.contains(.doNotFragment)
    let buffer =
      isWhole && request.length > UInt64(scratch.byteCount)
      ? PageBuffer(byteCount: Int(request.length)) : scratch
    var place = job.from
    while place < end {
      let count = Int(min(end - place, UInt64(buffer.byteCount)))
      do throws(StoreError) {
        // SAFETY: `count` bytes of a buffer that this thread alone uses.
        try unsafe link.disk.store.read(at: place, into: buffer.part(0, count))
      } catch {
        return link.fail(request, error, at: place)
      }
      header.removeAll(keepingCapacity: true)
      let isLast = place + UInt64(count) == end
      link.writer.data(request, at: place, count: count, last: isLast, into: &header)
      unsafe link.outlet.send(header, UnsafeRawBufferPointer(buffer.part(0, count)))
      place += UInt64(count)
    }
  }
}
