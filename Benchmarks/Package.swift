// swift-tools-version: 6.2
import PackageDescription

// The hot targets alone, by links to the product's sources: a benchmark builds in seconds and
// crosses module borders as the product does.

let strict: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableExperimentalFeature("Lifetimes"),
  .strictMemorySafety(),
]

let package = Package(
  name: "godwit-benchmarks",
  targets: [
    .target(name: "Base", swiftSettings: strict),
    .target(name: "QEMUStream", dependencies: ["Base"], swiftSettings: strict),
    .executableTarget(
      name: "StreamBench", dependencies: ["QEMUStream", "Base"], swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)
