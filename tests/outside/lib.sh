# Shared by the scripts of this directory that run on the host; sourced, never run.
# shellcheck shell=bash disable=SC2034  # what the scripts use

# Some distributions keep runc and iptables out of an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

outside_dir=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
vm_run=$outside_dir/../vm/run

die() { echo "${0##*/}: $*" >&2; exit 125; }

# need COMMAND:PACKAGE... : install the packages whose command is missing, or say which they are.
# A command may be a path, for those that no PATH has.
need() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "these are missing: apt-get install --no-install-recommends ${missing[*]}"
  apt-get -q update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" >&2
}

# What the guest itself needs, see ../vm/run.
need_guest() {
  need qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio xz:xz-utils mke2fs:e2fsprogs
}

# runtime_path NAME|PATH : the absolute path of the runtime under test, by the name it was given:
# a runtime may act by the name it is called with.
runtime_path() {
  local path
  path=$(type -P "$1") || die "no such runtime: $1"
  realpath -s "$path"
}
