import Base
import Glibc
import HostIO
import NBD
import Synchronization

/// Reads a connection's requests, answers at once what is in memory, and gives the rest to the pool.
/// One thread.
///
/// Answers are gathered as long as there are requests to read, and sent together.
final class RequestLoop {
  /// Data of one piece of a read, in bytes: while it is sent the next one is read.
  static let pieceByteCount = 64 << 10
  /// Gathered answers are sent from here on, in bytes.
  static let batchByteCount = 64 << 10

  let input: InputBuffer
  let link: ConnectionLink
  private let reader: RequestReader
  private let queue: JobQueue<RequestJob>
  private let waiting: WaitingPool
  private let batch = PageBuffer(byteCount: 192 << 10)
  private var batchCount = 0
  private var header: [UInt8] = []

  init(
    _ input: InputBuffer, _ session: ServerSession, _ link: ConnectionLink,
    _ queue: JobQueue<RequestJob>, _ waiting: WaitingPool
  ) {
    (self.input, self.link, self.queue, self.waiting) = (input, link, queue, waiting)
    reader = RequestReader(session)
  }

  /// Returns when the client has left, or counts no more; throws when the connection or the protocol is broken. Requests
  /// may still be in the pool.
  func run() throws {
    defer { flush() }
    while true {
      guard try fill(reader.headerByteCount), !link.connection.isFenced else { return }
      let item = try input.look(reader.headerByteCount) { bytes throws(DecodeError) in
        try reader.read(bytes)
      }
      input.drop(reader.headerByteCount)
      switch item.request {
      case .success(let request):
        if request.command == .disconnect { return }
        link.disk.counters.note(request)
        try serve(request)
      case .failure(let refusal):
        try skip(item.payloadByteCount)
        link.disk.counters.noteError(nil, refusal.code)
        answer { writer, header in
          writer.failure(
            cookie: item.cookie, offset: item.offset, refusal.code, refusal.message, into: &header)
        }
      }
    }
  }

  private func serve(_ request: NBDRequest) throws {
    switch request.command {
    case .read: readAtOnce(request)
    case .write: try write(request)
    default: enqueue(RequestJob(request: request, from: request.offset, link: link))
    }
  }

  // MARK: Reads

  private func readAtOnce(_ request: NBDRequest) {
    let isWhole = link.writer.mode == .simple || request.flags.contains(.doNotFragment)
    let pieceMax = isWhole ? Int(request.length) : Self.pieceByteCount
    let (store, end) = (link.disk.store, request.offset + request.length)
    var (place, startUs) = (request.offset, MonotonicClock.nowUs)
    let fits = pieceMax + ReplyWriter.dataHeaderByteCountMax <= batch.byteCount
    while fits, link.disk.isPrompt(startUs), place < end {
      let count = Int(min(end - place, UInt64(pieceMax)))
      if batchCount + ReplyWriter.dataHeaderByteCountMax + count > batch.byteCount { flush() }
      header.removeAll(keepingCapacity: true)
      let isLast = place + UInt64(count) == end
      link.writer.data(request, at: place, count: count, last: isLast, into: &header)
      // SAFETY: within the batch, as was just made sure.
      let target = unsafe batch.part(batchCount + header.count, count)
      let wasThere = unsafe store.readAtOnce(at: place, into: target)
      // Where the store can't tell it is tried, as long as that goes well.
      if wasThere == nil {
        do throws(StoreError) { try unsafe store.read(at: place, into: target) } catch { break }
        link.disk.noteCall(from: startUs)
        startUs = MonotonicClock.nowUs
      } else if wasThere == false {
        break
      }
      unsafe batch.store(header.span.bytes, at: batchCount)
      batchCount += header.count + count
      place += UInt64(count)
      if batchCount >= Self.batchByteCount { flush() }
    }
    if place < end { enqueue(RequestJob(request: request, from: place, link: link)) }
  }

  // MARK: Writes

  private func write(_ request: NBDRequest) throws {
    if !request.flags.contains(.fua), link.disk.isPrompt(MonotonicClock.nowUs),
      !link.disk.store.mayWait(at: request.offset, count: request.length, writes: true)
    {
      return try writeAsItComes(request)
    }
    flush()
    link.admit(RequestJob.byteCount(request))
    do {
      let data = PageBuffer(byteCount: Int(request.length))
      // SAFETY: the buffer is ours alone until the job has it.
      guard try unsafe input.take(into: data.part(0, Int(request.length))) else {
        throw SystemError("read a request's data (ended inside)", code: ECONNRESET)
      }
      push(RequestJob(request: request, from: request.offset, data: data, link: link))
    } catch {
      link.release(RequestJob.byteCount(request))
      throw error
    }
  }

  /// Writes the data while they arrive, without copying them, in whole pages of the file.
  private func writeAsItComes(_ request: NBDRequest) throws {
    let end = request.offset + request.length
    var (place, failure): (UInt64, StoreError?) = (request.offset, nil)
    while place < end {
      guard !link.connection.isFenced else { return }
      var count = Int(min(end - place, UInt64(input.count)))
      if place + UInt64(count) < end {
        // A page that is written in two parts may have to be read in between.
        let whole = (place + UInt64(count)) & ~UInt64(Page.size - 1)
        count = whole > place ? Int(whole - place) : 0
      }
      guard count > 0 else {
        try fillMore()
        continue
      }
      if failure == nil {
        let startUs = MonotonicClock.nowUs
        do throws(StoreError) {
          // SAFETY: the bytes stay in the input until they are dropped.
          try unsafe link.disk.store.write(
            UnsafeRawBufferPointer(input.part(count)), at: place, durable: false)
        } catch { failure = error }
        link.disk.noteCall(from: startUs)
      }
      input.drop(count)
      place += UInt64(count)
    }
    if let failure {
      link.disk.counters.noteError(.write, failure.code)
      answer { writer, header in
        writer.failure(
          cookie: request.cookie, offset: request.offset, failure.code, failure.message,
          into: &header)
      }
    } else {
      answer { writer, header in writer.success(request, into: &header) }
    }
  }

  // MARK: The connection

  private func enqueue(_ job: RequestJob) {
    // Before this thread may have to wait.
    flush()
    link.admit(RequestJob.byteCount(job.request))
    push(job)
  }

  private func push(_ job: RequestJob) {
    if job.mayWait { waiting.push(job) } else { queue.push(job) }
  }

  private func answer(_ write: (ReplyWriter, inout [UInt8]) -> Void) {
    header.removeAll(keepingCapacity: true)
    write(link.writer, &header)
    if batchCount + header.count > batch.byteCount { flush() }
    unsafe batch.store(header.span.bytes, at: batchCount)
    batchCount += header.count
  }

  private func flush() {
    guard batchCount > 0 else { return }
    link.outlet.send(batch, count: batchCount)
    batchCount = 0
  }

  /// Waits until `count` bytes are there; false when the stream ends between two requests.
  private func fill(_ count: Int) throws -> Bool {
    while input.count < count {
      flush()
      if try input.fill() { continue }
      guard input.count == 0 else {
        throw SystemError("read a request (ended inside)", code: ECONNRESET)
      }
      return false
    }
    return true
  }

  private func fillMore() throws {
    flush()
    guard try input.fill() else {
      throw SystemError("read a request's data (ended inside)", code: ECONNRESET)
    }
  }

  /// Data of a request that was refused.
  private func skip(_ byteCount: UInt64) throws {
    var left = byteCount
    while left > 0 {
      if input.count == 0 { try fillMore() }
      let count = Int(min(left, UInt64(input.count)))
      input.drop(count)
      left -= UInt64(count)
    }
  }
}
