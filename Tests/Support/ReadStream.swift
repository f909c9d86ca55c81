import Base
public import QEMUStream

/// Feeds `bytes` in the chunks that `next` says, as a caller with a carry buffer does.
public func read<V: StreamVisitor>(
  _ bytes: [UInt8], into visitor: inout V, limits: StreamLimits = .standard,
  chunk next: () -> Int = { Int.max }
) throws(StreamError) -> StreamReader {
  var reader = StreamReader(limits: limits)
  var (from, to) = (0, 0)
  while to < bytes.count {
    to += min(max(next(), 1), bytes.count - to)
    from += try reader.consume(bytes.span.bytes.extracting(from..<to), &visitor)
    precondition(to - from <= StreamReader.carryMax)
  }
  guard from == to else {
    throw .malformed(DecodeError(.truncated, in: "carry", at: UInt64(from)))
  }
  try reader.finish(&visitor)
  return reader
}
