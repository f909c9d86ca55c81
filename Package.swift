// swift-tools-version: 6.2
import PackageDescription

// The arrows of ARCHITECTURE.md, enforced: a target can import only what it names here
// (`--explicit-target-dependency-import-check error`, `MemberImportVisibility`).

let common: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableExperimentalFeature("Lifetimes"),
]
let strict = common + [.strictMemorySafety()]
// What handles every byte of a guest is optimized in debug builds too, with all assertions: tests move whole
// guests and disks through it.
let optimized = SwiftSetting.unsafeFlags(
  ["-O", "-assert-config", "Debug"], .when(configuration: .debug))
let hot = strict + [optimized]

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let nio: [Target.Dependency] = [
  .product(name: "NIOCore", package: "swift-nio"),
  .product(name: "NIOPosix", package: "swift-nio"),
]
let http = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let tls = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let certificates: [Target.Dependency] = [
  .product(name: "X509", package: "swift-certificates"),
  .product(name: "Crypto", package: "swift-crypto"),
  .product(name: "SwiftASN1", package: "swift-asn1"),
]
let lifecycle = Target.Dependency.product(
  name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals = Target.Dependency.product(
  name: "UnixSignals", package: "swift-service-lifecycle")
let subprocess = Target.Dependency.product(name: "Subprocess", package: "swift-subprocess")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let toml = Target.Dependency.product(name: "TOMLKit", package: "TOMLKit")

func core(_ name: String, _ dependencies: [Target.Dependency] = ["Base"]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: hot)
}
func program(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: strict)
}
func tests(_ name: String, _ dependencies: [Target.Dependency], isHot: Bool = false) -> Target {
  .testTarget(
    name: name, dependencies: dependencies, swiftSettings: common + (isHot ? [optimized] : []))
}

let package = Package(
  name: "godwit",
  products: [.executable(name: "godwit", targets: ["godwit"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
    .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2", traits: []),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
  ],
  targets: [
    // Sans-IO cores: bytes and time are arguments.
    core("Base", []),
    core("QEMUStream"),
    core("QMP"),
    core("Wire", ["Base", "CXXHash"]),
    core("Strategy"),
    core("Compaction", ["Base", "Wire", "CXXHash", "CZstd", "CLZ4"]),
    core("NBD"),
    core("DiskStrategy"),
    core("Simulator", ["Strategy", "DiskStrategy", "Base"]),

    // The edge: everything that touches the kernel.
    .target(name: "CLinux"),
    .systemLibrary(name: "CXXHash", providers: [.apt(["libxxhash-dev"])]),
    .systemLibrary(name: "CZstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CLZ4", providers: [.apt(["liblz4-dev"])]),
    core("HostIO", ["Base", "CLinux", logging, system, subprocess, tls] + nio),
    core(
      "BlockStore",
      [
        "Base", "CLinux", "CXXHash", "DiskStrategy", "HostIO", "NBD",
        .product(name: "Crypto", package: "swift-crypto"),
      ]),
    core("PKI", ["Base", "HostIO"] + certificates),

    // The product.
    program(
      "Agent",
      [
        "Base", "BlockStore", "DiskStrategy", "HostIO", "Strategy", "QEMUStream", "Compaction",
        "Wire", "QMP", "NBD", "PKI", logging, lifecycle, unixSignals, system, grdb, toml, http,
        .product(name: "Crypto", package: "swift-crypto"),
      ] + nio),
    program(
      "Lab",
      [
        "Base", "Agent", "BlockStore", "HostIO", "NBD", "PKI", "QMP", "Simulator", "Strategy",
        logging, system, subprocess, .product(name: "Crypto", package: "swift-crypto"),
      ] + nio),
    program(
      "CLI",
      [
        "Base", "Agent", "BlockStore", "DiskStrategy", "HostIO", "Lab", "NBD", "PKI", "Simulator",
        "Strategy",
        "QEMUStream",
        argumentParser, logging, lifecycle, unixSignals, system,
      ]),
    .executableTarget(name: "godwit", dependencies: ["CLI"], swiftSettings: strict),

    // A strategy of one's own: Docs/own-strategies.md.
    .target(
      name: "Halving", dependencies: ["Strategy", "Base"], path: "Examples/Halving",
      swiftSettings: strict),
    .executableTarget(
      name: "godwit-halving", dependencies: ["CLI", "Halving", "Strategy"],
      path: "Examples/HalvingProgram", swiftSettings: strict),
    tests("ExamplesTests", ["Halving", "Simulator", "Strategy", "Base"]),

    // Of the program that runs inside the lab's guests (Guest/): what can be tested outside them.
    .target(
      name: "GuestKernels", path: "Guest/Sources/guest-workload/Kernels", swiftSettings: strict),
    tests("GuestKernelsTests", ["GuestKernels"]),

    // What must hold for hostile bytes: run by the fuzzers (Fuzz/run.sh) and by the tests.
    .target(
      name: "FuzzHarness",
      dependencies: [
        "Base", "Compaction", "DiskStrategy", "QEMUStream", "QMP", "Wire", "NBD", "Simulator",
      ],
      path: "Fuzz/Harness", swiftSettings: common),
    .executableTarget(
      name: "StreamBench", dependencies: ["QEMUStream", "Base"], path: "Benchmarks/StreamBench",
      swiftSettings: strict),

    .executableTarget(
      name: "PageBench",
      dependencies: [
        "Compaction", "Wire", "Base", .product(name: "Crypto", package: "swift-crypto"),
      ],
      path: "Benchmarks/PageBench", swiftSettings: strict),

    .target(
      name: "TestSupport", dependencies: ["QEMUStream", "Base"], path: "Tests/Support",
      swiftSettings: common + [optimized]),
    tests("FuzzTests", ["FuzzHarness", "Compaction", "Wire", "Base", "TestSupport"]),
    tests("BaseTests", ["Base"]),
    tests("QEMUStreamTests", ["QEMUStream", "Base", "TestSupport"]),
    tests("QMPTests", ["QMP", "Base"]),
    tests("WireTests", ["Wire", "Base"]),
    tests("NBDTests", ["NBD", "Base"]),
    tests("DiskStrategyTests", ["DiskStrategy", "Base"]),
    tests(
      "BlockStoreTests",
      ["BlockStore", "DiskStrategy", "Simulator", "NBD", "HostIO", "Base"], isHot: true),
    tests("CompactionTests", ["Compaction", "Wire", "Base"]),
    tests("StrategyTests", ["Strategy", "Base"]),
    tests("SimulatorTests", ["Simulator", "Strategy", "DiskStrategy", "Base"]),
    tests("HostIOTests", ["HostIO", "Base", "TestSupport", system, logging]),
    tests(
      "PKITests",
      [
        "PKI", "HostIO", "Base", .product(name: "CryptoExtras", package: "swift-crypto"),
      ] + certificates),
    tests(
      "AgentTests",
      [
        "Agent", "BlockStore", "HostIO", "NBD", "PKI", "QMP", "QEMUStream", "Strategy", "Wire",
        "Base",
        "TestSupport", logging, tls,
      ], isHot: true),
    tests(
      "LabTests",
      ["Lab", "Agent", "BlockStore", "HostIO", "NBD", "QMP", "Simulator", "Strategy", "Base"]),
    tests(
      "CLITests",
      [
        "CLI", "Agent", "BlockStore", "HostIO", "Lab", "PKI", "QMP", "Simulator", "Strategy",
        "QEMUStream",
        "Base",
        "TestSupport", argumentParser, logging, grdb,
      ] + nio),
    tests("IntegrationTests", ["Lab", "Agent", "HostIO", "QMP", "Strategy", "Base"]),
  ],
  swiftLanguageModes: [.v6]
)
