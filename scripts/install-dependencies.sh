#!/bin/bash
# Installs what building Godwit and running its lab needs on Debian 12. Quiet when nothing is missing.
#
#   scripts/install-dependencies.sh [--build-only]
#
# Packages for building are installed with apt (root). What the lab alone needs and what should not
# be installed on the machine (a guest kernel, a second QEMU) is unpacked in the cache folder.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
export PATH="${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin"

fail() { echo "godwit: $*" >&2; exit 1; }

home=${HOME:-/root}
cache=${GODWIT_CACHE:-${XDG_CACHE_HOME:-$home/.cache}/godwit}

# Commands that must be there come first, libraries and tools as Debian packages.
build_packages=(libzstd-dev liblz4-dev libxxhash-dev libsqlite3-dev)
lab_packages=(qemu-system-x86 qemu-utils busybox-static memcached redis-tools iproute2 e2fsprogs
  util-linux nbdkit libnbd-bin fio)
wanted=("${build_packages[@]}" "${lab_packages[@]}")
[[ ${1:-} == --build-only ]] && wanted=("${build_packages[@]}")

command -v swift >/dev/null ||
  fail "missing: swift 6.3 or newer; get it from swift.org/install and put it on PATH"
swift_version=$(swift --version 2>/dev/null | sed -nE 's/.*Swift version ([0-9]+\.[0-9]+).*/\1/p' | head -1)
[[ $(printf '%s\n' 6.3 "${swift_version:-0}" | sort -V | head -1) == 6.3 ]] ||
  fail "too old: swift ${swift_version:-unknown}, 6.3 or newer is needed; get it from swift.org/install"
command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
  fail "missing: apt (this script knows Debian 12); install by hand: ${wanted[*]}"

# --- Installed packages ---------------------------------------------------------------------------

missing=()
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done
if ((${#missing[@]})); then
  ((EUID == 0)) ||
    fail "missing: ${missing[*]}; as root run: apt-get install -y --no-install-recommends ${missing[*]}"
  echo "godwit: installing ${missing[*]}"
  log=$(mktemp)
  if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1 </dev/null; then
    tail -5 "$log" >&2
    rm -f "$log"
    fail "missing: ${missing[*]}; apt-get could not install them (its last lines are above)"
  fi
  rm -f "$log"
fi
[[ ${1:-} == --build-only ]] && exit 0

# --- Unpacked packages ----------------------------------------------------------------------------

mkdir -p "$cache" || fail "cannot create the cache folder $cache; set GODWIT_CACHE to one that can"
exec 9>"$cache/lock"
flock -w 900 9 || fail "the cache folder $cache is locked by another run for 15 minutes"

if [[ -e $cache/qemu/current/usr/bin/qemu-system-x86_64 && -e $cache/kernel/current/vmlinuz ]]; then
  exit 0
fi

# apt with lists of its own: works without root, and leaves the machine's configuration alone.
apt_state=$cache/apt
mkdir -p "$apt_state"/{parts,lists/partial,archives/partial}
apt_options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$apt_state/parts"
  -o "Dir::State::lists=$apt_state/lists" -o "Dir::Cache=$apt_state" -o APT::Sandbox::User=
  -o Acquire::Languages=none)

# The machine's own Debian sources, and the same once more with the suite set to backports.
write_sources() {
  rm -f "$apt_state"/parts/*
  local file name
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [[ -s $file ]] || continue
    name=$(basename "$file")
    if [[ $file == *.sources ]]; then
      grep -q '^Suites:.*bookworm' "$file" || continue
      cp "$file" "$apt_state/parts/machine-$name"
      awk 'BEGIN { RS = ""; ORS = "\n\n" } /Suites:[^\n]*bookworm([ \n]|$)/' "$file" |
        sed -E 's/^Suites:.*/Suites: bookworm-backports/; s/^Components:.*/Components: main/' \
          >"$apt_state/parts/backports-$name"
    else
      grep -qE '^deb .*bookworm' "$file" || continue
      cp "$file" "$apt_state/parts/machine-$name"
      sed -nE '/^deb .* bookworm (.* )?main/{s/ bookworm .*/ bookworm-backports main/p}' "$file" |
        head -1 >"$apt_state/parts/backports-$name"
    fi
  done
  compgen -G "$apt_state/parts/machine-*" >/dev/null ||
    fail "missing: Debian 12 (bookworm) in /etc/apt; the lab takes its guest kernel from there"
}

# download PACKAGE[=VERSION]...: puts the .deb files into the current folder.
download() {
  apt-get "${apt_options[@]}" -qq download "$@" >"$apt_state/log" 2>&1 </dev/null ||
    { tail -3 "$apt_state/log" >&2; fail "missing: $*; apt-get download failed (see above)"; }
}
candidate() { apt-cache "${apt_options[@]}" policy "$1" | sed -nE 's/^  Candidate: (.*)/\1/p'; }
backport() { apt-cache "${apt_options[@]}" madison "$1" | awk '/bookworm-backports/ { print $3; exit }'; }

# unpack FOLDER PACKAGE...: all or nothing, so that a folder that exists is complete.
unpack() {
  local folder=$1 work
  shift
  [[ -d $folder ]] && return 0
  work=$(mktemp -d "$cache/unpack.XXXXXX")
  (cd "$work" && download "$@" && mkdir root && for deb in *.deb; do dpkg-deb -x "$deb" root; done)
  mkdir -p "$(dirname "$folder")"
  mv -T "$work/root" "$folder"
  rm -rf "$work"
}

rm -rf "$cache"/unpack.*
write_sources
apt-get "${apt_options[@]}" -qq update >"$apt_state/log" 2>&1 </dev/null ||
  { tail -3 "$apt_state/log" >&2; fail "apt-get update failed (see above)"; }

if [[ ! -e $cache/kernel/current/vmlinuz ]]; then
  image=$(apt-cache "${apt_options[@]}" depends linux-image-cloud-amd64 |
    sed -nE 's/^  Depends: (linux-image-[0-9].*)/\1/p' | tail -1)
  [[ -n $image ]] || fail "missing: linux-image-cloud-amd64 in the Debian sources of this machine"
  version=$(candidate "$image")
  echo "godwit: unpacking $image $version for the lab's guests"
  unpack "$cache/kernel/$version" "$image=$version"
  ln -sfn "boot/$(basename "$(echo "$cache/kernel/$version"/boot/vmlinuz-*)")" \
    "$cache/kernel/$version/vmlinuz"
  ln -sfn "$version" "$cache/kernel/current"
fi

if [[ ! -e $cache/qemu/current/usr/bin/qemu-system-x86_64 ]]; then
  version=$(backport qemu-system-x86)
  if [[ -z $version ]]; then
    echo "godwit: QEMU 10 is not in bookworm-backports of this machine's mirror: the lab uses the" \
      "installed QEMU" >&2
    exit 0
  fi
  data=$(backport qemu-system-data)
  firmware=$(backport seabios)
  echo "godwit: unpacking QEMU $version beside the installed one"
  unpack "$cache/qemu/${version#*:}" "qemu-system-x86=$version" "qemu-system-common=$version" \
    "qemu-system-data=$data" "seabios${firmware:+=$firmware}" ipxe-qemu
  ln -sfn "${version#*:}" "$cache/qemu/current"
fi
