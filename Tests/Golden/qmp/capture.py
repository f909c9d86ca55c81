#!/usr/bin/env python3
"""Captures real QMP replies for the golden tests: capture.py QEMU [FIRMWARE_FOLDER] OUTPUT_FOLDER.

One file per command: the reply line exactly as QEMU wrote it."""
import json, os, socket, subprocess, sys, tempfile, time

qemu, out = sys.argv[1], sys.argv[-1]
firmware = ["-L", sys.argv[2]] if len(sys.argv) == 4 else []
os.makedirs(out, exist_ok=True)
work = tempfile.mkdtemp(prefix="golden-qmp-")
disk = os.path.join(work, "disk.raw")
with open(disk, "wb") as f:
    f.truncate(8 << 20)
path = os.path.join(work, "qmp.sock")
process = subprocess.Popen(
    [qemu, *firmware, "-name", "guest=golden", "-uuid", "8d9f7a52-6a0e-4c1b-9d2f-2d3c6c2b1a11",
     "-machine", "pc,memory-backend=mem0", "-accel", "tcg", "-smp", "2", "-m", "65664K",
     "-object", "memory-backend-memfd,id=mem0,size=65664K,share=on",
     "-nodefaults", "-display", "none", "-vga", "none",
     "-blockdev", f"driver=file,filename={disk},node-name=file0",
     "-blockdev", "driver=raw,file=file0,node-name=disk0",
     "-device", "virtio-blk-pci,drive=disk0,id=vblk0",
     "-chardev", "null,id=serial0", "-serial", "chardev:serial0",
     "-qmp", f"unix:{path},server=on,wait=off"])
while not os.path.exists(path):
    time.sleep(0.05)
link = socket.socket(socket.AF_UNIX)
link.connect(path)
lines = link.makefile("rwb")


def save(name, line):
    with open(os.path.join(out, name + ".json"), "wb") as f:
        f.write(line.replace(work.encode(), b"/srv/golden"))


def run(command, name=None, **arguments):
    lines.write(json.dumps({"execute": command, "arguments": arguments, "id": 1}).encode() + b"\n")
    lines.flush()
    while True:
        line = lines.readline()
        message = json.loads(line)
        if "event" in message:
            save("event-" + message["event"], line)
            continue
        if name != "":
            save(name or command, line)
        return message


save("greeting", lines.readline())
run("qmp_capabilities", enable=["oob"])
for command in """query-status query-version query-name query-uuid query-kvm query-cpus-fast query-memdev
    query-named-block-nodes query-block query-chardev query-migrate query-migrate-capabilities
    query-migrate-parameters query-dirty-rate query-machines query-commands query-cpu-definitions
    query-blockstats query-memory-size-summary query-memory-devices""".split():
    run(command)
run("qom-get", "qom-get-machine-type", path="/machine", property="type")
run("qom-list", "qom-list-machine", path="/machine")
run("human-monitor-command", "info-ramblock", **{"command-line": "info ramblock"})
run("human-monitor-command", "info-mtree", **{"command-line": "info mtree -f"})
run("query-cpu-model-expansion", type="full", model={"name": "qemu64"})
run("no-such-command", "error-command-not-found")
run("migrate-continue", "error-migrate-continue", state="pre-switchover")
run("migrate-set-parameters", "", **{"max-bandwidth": 200000})
run("migrate-set-capabilities", "migrate-set-capabilities",
    capabilities=[{"capability": "events", "state": True}])
run("migrate", "migrate", uri="exec:cat >/dev/null")
time.sleep(0.5)
run("query-migrate", "query-migrate-active")
run("migrate_cancel")
time.sleep(0.3)
run("query-migrate", "query-migrate-cancelled")
run("migrate-set-parameters", "", **{"max-bandwidth": 1 << 30})
run("migrate", "", uri="unix:/nonexistent/socket")
time.sleep(0.3)
run("query-migrate", "query-migrate-failed")
run("migrate", "", uri="exec:cat >/dev/null")
while run("query-migrate", "query-migrate-completed")["return"]["status"] not in ("completed", "failed"):
    time.sleep(0.1)
run("query-status", "query-status-postmigrate")
run("cont")
run("stop")
run("quit")
process.wait()
