/// The guest's first program: a shell script that gets the machine ready and becomes the workload.
///
/// It takes its orders from the kernel command line: `gw.ip=10.77.0.10/24`, `gw.memcached=64`
/// (MiB), `gw.redis=64`, `gw.root=vdb` (a disk whose files are all read first), and every `gw.work.KEY=VALUE` is passed to the workload as `KEY=VALUE`.
enum GuestInit {
  /// Kernel modules for the guest's devices; the ones built into a kernel are skipped.
  static let modules = [
    "virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
    "virtio_mmio", "failover", "net_failover", "virtio_net", "virtio_blk", "rng-core",
    "virtio-rng", "crc16", "crc32c_generic", "libcrc32c", "mbcache", "jbd2", "ext4",
  ]

  static let script = """
    #!/bin/busybox sh
    export PATH=/bin
    /bin/busybox --install -s /bin
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t devtmpfs dev /dev 2>/dev/null
    exec </dev/null >/dev/ttyS0 2>&1
    # Raw: the terminal layer would turn line feeds into two bytes.
    stty -F /dev/ttyS0 raw -echo 2>/dev/null
    for module in $(cat /modules/order); do
      insmod /modules/$module.ko || echo "INIT cannot insert $module"
    done
    workload=""
    for word in $(cat /proc/cmdline); do
      case $word in
        gw.ip=*) address=${word#gw.ip=} ;;
        gw.memcached=*) memcached=${word#gw.memcached=} ;;
        gw.redis=*) redis=${word#gw.redis=} ;;
        gw.disk) disk=yes ;;
        gw.root=*) root=${word#gw.root=} ;;
        gw.work.*) workload="$workload ${word#gw.work.}" ;;
      esac
    done
    ip link set lo up
    if [ -n "$address" ]; then
      if [ "$address" = dhcp ]; then
        # QEMU's user-mode network always hands out this one.
        address=10.0.2.15/24
      fi
      ip link set eth0 up && ip address add "$address" dev eth0
    fi
    if [ -n "$disk" ]; then
      mount -t ext4 /dev/vda /mnt || echo "INIT cannot mount the disk"
    fi
    if [ -n "$root" ]; then
      mkdir -p /root
      mount -t ext4 -o ro "/dev/$root" /root || echo "INIT cannot mount the root disk"
      # Nothing drops the pages again as long as memory is free.
      find /root -type f -exec cat {} + >/dev/null
    fi
    if [ -n "$memcached" ]; then
      memcached -u root -l 0.0.0.0 -m "$memcached" -t 2 &
    fi
    if [ -n "$redis" ]; then
      # Memory alone, and as memcached: the oldest values go when it is full.
      redis-server --bind 0.0.0.0 --protected-mode no --save '' --appendonly no \
        --maxmemory "${redis}mb" --maxmemory-policy allkeys-lru --loglevel warning &
    fi
    echo "INIT done $(cut -d' ' -f1 /proc/uptime)"
    exec /bin/guest-workload $workload

    """
}
