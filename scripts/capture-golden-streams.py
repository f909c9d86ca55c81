#!/usr/bin/env python3
"""Captures the golden migration streams of Tests/Golden/stream from real QEMU processes.

usage: scripts/capture-golden-streams.py LABEL QEMU [-L FIRMWARE_DIR]... [--only NAME]

LABEL is the version in the file names ("7.2"), QEMU the program. A second version is unpacked
beside the installed one with `apt-get download` and `dpkg-deb -x`, and started with `-L` for its
firmware folders. Guests run neither firmware nor kernel but the 24 bytes of BOOT below, so that
no one else's code is in the files. This script plays the destination: it reads the stream, answers
the return path with SHUT 0, and writes LABEL-NAME.stream.gz. Of several connections only the main
one is kept.
"""
import argparse, gzip, json, os, pathlib, socket, subprocess, tempfile, threading, time

OUT = pathlib.Path(__file__).resolve().parent.parent / "Tests/Golden/stream"

# A 64 KiB ROM for -bios: adds one to the first word of 64 pages from 64 KiB on, forever.
BOOT = bytes.fromhex(
    "b80010"    # 00 mov ax, 0x1000
    "8ed8"      # 03 mov ds, ax
    "ff060000"  # 05 inc word [0]
    "050001"    # 09 add ax, 0x100      the next page
    "3d0050"    # 0c cmp ax, 0x5000
    "72f2"      # 0f jb 0x03
    "b9ffff"    # 11 mov cx, 0xffff
    "e2fe"      # 14 loop 0x14
    "ebe8"      # 16 jmp 0x00
)
ROM = BOOT.ljust(0xFFF0, b"\0") + bytes.fromhex("ea000000f0").ljust(16, b"\0")

# name -> (QEMU arguments, capabilities, extra steps)
CASES = {
    "precopy": (["-m", "8M"], [], {"exec": True}),
    "return-path": (["-m", "8M"], ["return-path"], {}),
    "no-description": (["-m", "8M", "-M", "pc,suppress-vmdesc=on"], [], {"exec": True}),
    "numa": (
        ["-m", "16M", "-smp", "2",
         "-object", "memory-backend-ram,id=mem0,size=8M", "-numa", "node,memdev=mem0,cpus=0",
         "-object", "memory-backend-ram,id=mem1,size=8M", "-numa", "node,memdev=mem1,cpus=1"],
        ["return-path"], {}),
    "q35-devices": (
        ["-m", "8M", "-M", "q35", "-device", "virtio-rng-pci", "-serial", "null",
         "-blockdev", "null-co,node-name=n0,size=1048576", "-device", "virtio-blk-pci,drive=n0"],
        ["return-path"], {}),
    "ignore-shared": (
        ["-m", "8M", "-M", "pc,memory-backend=mem0",
         "-object", "memory-backend-file,id=mem0,size=8M,share=on,mem-path=@TMP@/ram"],
        ["return-path", "x-ignore-shared"], {}),
    "postcopy": (["-m", "8M"], ["return-path", "postcopy-ram"], {"postcopy": True}),
    "postcopy-advised": (["-m", "8M"], ["return-path", "postcopy-ram"], {}),
    # Not a multiple of 256 KiB: QEMU before 9.0 loses dirty pages under TCG otherwise.
    "xbzrle": (["-m", "8256K"], ["return-path", "xbzrle"], {"slow": 1.5, "bandwidth": 1 << 20}),
    "multifd": (["-m", "8M"], ["return-path", "multifd"], {}),
    "dirty-bitmap": (
        ["-m", "8M", "-blockdev", "null-co,node-name=n0,size=1048576"],
        ["return-path", "dirty-bitmaps"], {"bitmap": "n0"}),
    "virtio-mem": (
        ["-m", "8M,maxmem=64M", "-object", "memory-backend-ram,id=extra,size=16M",
         "-device", "virtio-mem-pci,memdev=extra,requested-size=4M"],
        ["return-path"], {}),
}


class Monitor:
    def __init__(self, path):
        for _ in range(200):
            try:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.connect(path)
                break
            except OSError:
                time.sleep(0.05)
        self.file = self.sock.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            reply = json.loads(self.file.readline())
            if "error" in reply:
                raise RuntimeError(f"{command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]


def serve(listener, streams, answer):
    """Accepts connections and stores what they carry; answers SHUT 0 when `answer` is set."""
    def one(conn, index):
        def shut():
            answer.wait()
            try:
                conn.sendall(bytes.fromhex("0001000400000000"))
            except OSError:
                pass
        if index == 0:
            threading.Thread(target=shut, daemon=True).start()
        while data := conn.recv(65536):
            streams[index] += data
    while True:
        try:
            conn, _ = listener.accept()
        except OSError:
            return
        streams.append(bytearray())
        threading.Thread(target=one, args=(conn, len(streams) - 1), daemon=True).start()


def capture(label, qemu, firmware, name):
    arguments, capabilities, steps = CASES[name]
    with tempfile.TemporaryDirectory() as tmp:
        pathlib.Path(tmp, "boot.rom").write_bytes(ROM)
        arguments = [a.replace("@TMP@", tmp) for a in arguments]
        command = [qemu, *sum((["-L", d] for d in firmware), []), "-nodefaults", "-display", "none",
                   "-accel", "tcg", "-bios", f"{tmp}/boot.rom",
                   "-qmp", f"unix:{tmp}/qmp,server=on,wait=off", *arguments]
        vm = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            run(label, name, tmp, Monitor(f"{tmp}/qmp"), capabilities, steps)
        finally:
            vm.kill()
            vm.wait()


def run(label, name, tmp, qmp, capabilities, steps):
    time.sleep(0.5)
    if capabilities:
        qmp("migrate-set-capabilities",
            capabilities=[{"capability": c, "state": True} for c in capabilities])
    if node := steps.get("bitmap"):
        qmp("block-dirty-bitmap-add", node=node, name="bitmap0", persistent=False)
    streams, answer = [], threading.Event()
    if steps.get("exec"):
        qmp("migrate", uri=f"exec:cat > {tmp}/stream")
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{tmp}/migrate")
        listener.listen()
        threading.Thread(target=serve, args=(listener, streams, answer), daemon=True).start()
        slow = steps.get("slow") or (1.0 if steps.get("postcopy") else 0)
        if slow:
            qmp("migrate-set-parameters", 
                **{"max-bandwidth": steps.get("bandwidth", 1 << 16), "downtime-limit": 1})
        qmp("migrate", uri=f"unix:{tmp}/migrate")
        time.sleep(slow)
        if steps.get("postcopy"):
            qmp("migrate-start-postcopy")
        if slow:
            qmp("migrate-set-parameters",
                **{"max-bandwidth": 1 << 30, "downtime-limit": 300})
    status, size, still = "", -1, 0
    for _ in range(400):
        status = qmp("query-migrate").get("status")
        if status in ("completed", "failed"):
            break
        # The source waits for SHUT when its stream has stopped growing for a while.
        total = sum(map(len, streams))
        still = still + 1 if total == size and total > 0 else 0
        size = total
        if still > 20:
            answer.set()
        time.sleep(0.05)
    if status != "completed":
        raise RuntimeError(f"{name}: migration is {status}")
    if steps.get("exec"):
        streams.append(pathlib.Path(f"{tmp}/stream").read_bytes())
    time.sleep(0.2)
    main = next(i for i, s in enumerate(streams) if s[:4] == b"QEVM")
    path = OUT / f"{label}-{name}.stream.gz"
    path.write_bytes(gzip.compress(bytes(streams[main]), 9, mtime=0))
    print(f"{path.name}: {len(streams[main])} bytes, {path.stat().st_size} compressed, "
          f"{len(streams)} connection(s)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("label")
    parser.add_argument("qemu")
    parser.add_argument("-L", dest="firmware", action="append", default=[])
    parser.add_argument("--only")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else CASES:
        try:
            capture(options.label, options.qemu, options.firmware, name)
        except (RuntimeError, OSError, StopIteration, ValueError) as error:
            print(f"{options.label}-{name}: not captured: {error}")


main()
