// swift-tools-version: 6.2
import PackageDescription

// The program that runs inside the lab's guests. A package of its own, because it is linked
// statically: `swift build -c release --static-swift-stdlib -Xlinker -static` is not enough, the
// lab builds it with `swiftc -static-executable` (see Lab/Guest/GuestProgram.swift).
let package = Package(
  name: "guest-workload",
  targets: [
    .executableTarget(
      name: "guest-workload",
      swiftSettings: [
        .treatAllWarnings(as: .error),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .strictMemorySafety(),
      ])
  ],
  swiftLanguageModes: [.v6]
)
