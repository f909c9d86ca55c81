import Glibc

/// TCP by host name and port.
public enum TCPSocket {
  /// The port an agent listens on when nothing else is said.
  public static let defaultPort: UInt16 = 4750

  /// Splits `host`, `host:port`, `[v6]`, `[v6]:port`; nil when it is none of these.
  public static func split(_ text: String, defaultPort: UInt16) -> (host: String, port: UInt16)? {
    var host = Substring(text)
    var port: Substring?
    if text.hasPrefix("[") {
      guard let end = text.firstIndex(of: "]") else { return nil }
      host = text[text.index(after: text.startIndex)..<end]
      let rest = text[text.index(after: end)...]
      if rest.hasPrefix(":") { port = rest.dropFirst() } else if !rest.isEmpty { return nil }
    } else if let colon = text.firstIndex(of: ":") {
      guard text.lastIndex(of: ":") == colon else { return (text, defaultPort) }  // bare IPv6
      host = text[..<colon]
      port = text[text.index(after: colon)...]
    }
    guard !host.isEmpty else { return nil }
    guard let port else { return (String(host), defaultPort) }
    guard let number = UInt16(port) else { return nil }
    return (String(host), number)
  }

  /// Whether `host`, as a user or the kernel writes it, can only be this machine.
  public static func isLoopback(_ host: String) -> Bool {
    let address = host.hasPrefix("::ffff:") ? String(host.dropFirst(7)) : host
    var bytes: UInt32 = 0
    if unsafe inet_pton(AF_INET, address, &bytes) == 1 {
      return UInt32(bigEndian: bytes) >> 24 == 127
    }
    return host == "::1" || host == "localhost"
  }

  /// Connects to the first address of `host` that answers within `timeoutMs`.
  public static func connect(
    host: String, port: UInt16, timeoutMs: UInt64
  ) throws(SystemError) -> StreamSocket {
    try unsafe overAddresses(of: host, port: port, passive: false) {
      (raw, address, length) throws(SystemError) in
      let socket = StreamSocket(owning: raw, peer: "\(host):\(port)")
      socket.setTimeout(ms: timeoutMs)  // Linux applies SO_SNDTIMEO to connect
      guard unsafe Glibc.connect(raw, address, length) == 0 else {
        let code = errno == EINPROGRESS || errno == EAGAIN ? ETIMEDOUT : errno
        throw SystemError("connect to \(host):\(port)", code: code)
      }
      socket.setTimeout(ms: 0)
      return tuned(socket)
    }
  }

  /// Listens on one of the addresses that `host` has, which may take a look into the DNS: blocks.
  /// Port 0: the kernel chooses one.
  public static func listen(host: String, port: UInt16) throws(SystemError) -> ListeningSocket {
    try unsafe overAddresses(of: host, port: port, passive: true) {
      (raw, address, length) throws(SystemError) in
      let listener = ListeningSocket(owning: raw, name: "\(host):\(port)")
      var on: Int32 = 1
      _ = unsafe setsockopt(raw, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
      guard unsafe bind(raw, address, length) == 0, Glibc.listen(raw, 128) == 0 else {
        throw SystemError("listen on \(host):\(port)")
      }
      return listener
    }
  }

  /// The port a listening socket got; for tests that ask for port 0.
  public static func localPort(of listener: ListeningSocket) -> UInt16? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    // SAFETY: the kernel writes at most `length` bytes, the size of `storage`; any address fits it.
    let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe getsockname(listener.raw, $0, &length)
      }
    }
    guard result == 0, let name = name(of: storage, length: length) else { return nil }
    return split(name, defaultPort: 0)?.port
  }

  /// Sets what connections between hosts want: no Nagle delay, and peers that are dead noticed after 15 s of silence. Of
  /// a unix socket it changes nothing.
  @discardableResult
  public static func tuned(_ socket: StreamSocket) -> StreamSocket {
    let tcp = Int32(IPPROTO_TCP)
    socket.setOption(tcp, TCP_NODELAY, 1)
    socket.setOption(SOL_SOCKET, SO_KEEPALIVE, 1)
    socket.setOption(tcp, TCP_KEEPIDLE, 5)
    socket.setOption(tcp, TCP_KEEPINTVL, 2)
    socket.setOption(tcp, TCP_KEEPCNT, 5)
    return socket
  }

  static func name(of storage: sockaddr_storage, length: socklen_t) -> String? {
    guard storage.ss_family == sa_family_t(AF_INET) || storage.ss_family == sa_family_t(AF_INET6)
    else { return nil }
    var storage = storage
    var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    var service = [CChar](repeating: 0, count: Int(NI_MAXSERV))
    let flags = Int32(NI_NUMERICHOST | NI_NUMERICSERV)
    // SAFETY: `length` is what the kernel filled of `storage`; each buffer goes with its own count.
    let result = unsafe withUnsafePointer(to: &storage) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe getnameinfo(
          $0, length, &host, socklen_t(host.count), &service, socklen_t(service.count), flags)
      }
    }
    guard result == 0 else { return nil }
    let text = [host, service].map { chars in
      String(decoding: chars.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    return text[0].contains(":") ? "[\(text[0])]:\(text[1])" : "\(text[0]):\(text[1])"
  }

  private static func overAddresses<Result>(
    of host: String, port: UInt16, passive: Bool,
    _ body: (Int32, UnsafePointer<sockaddr>, socklen_t) throws(SystemError) -> Result
  ) throws(SystemError) -> Result {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    if passive { unsafe hints.ai_flags = AI_PASSIVE }
    var list: UnsafeMutablePointer<addrinfo>?
    // SAFETY: on success `list` is a list that stays until `freeaddrinfo`; no pointer into it outlives this call.
    let status = unsafe getaddrinfo(host, String(port), &hints, &list)
    guard status == 0 else {
      throw SystemError(
        "look up \(host) (\(unsafe String(cString: gai_strerror(status))))", code: ENOENT)
    }
    defer { unsafe freeaddrinfo(list) }
    var failure = SystemError("no address for \(host)", code: EADDRNOTAVAIL)
    var next = unsafe list
    while let entry = unsafe next {
      unsafe next = unsafe entry.pointee.ai_next
      let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
      let raw = unsafe socket(entry.pointee.ai_family, kind, 0)
      guard raw >= 0, let address = unsafe entry.pointee.ai_addr else {
        failure = SystemError("socket for \(host)")
        continue
      }
      do { return try unsafe body(raw, address, entry.pointee.ai_addrlen) } catch {
        failure = error
      }
    }
    throw failure
  }
}
