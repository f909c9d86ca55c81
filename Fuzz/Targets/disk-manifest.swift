@c(LLVMFuzzerTestOneInput)
public func fuzzOne(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  let broken = DiskManifestHarness.run(Array(UnsafeBufferPointer(start: data, count: size)))
  precondition(broken == nil, broken ?? "")
  return 0
}
