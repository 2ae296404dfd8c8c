# Shared by the host-side scripts of the guest runner; sourced, never run.
# shellcheck shell=bash

# Some distributions keep mke2fs and friends out of an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

vm_dir=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
vm_cache=${XDG_CACHE_HOME:-$HOME/.cache}/pericarp

# Every failure of the runner itself, as opposed to one of the command it runs, exits with 125.
die() { echo "${0##*/}: $*" >&2; exit 125; }
set -E
trap 'die "failed at line $LINENO: $BASH_COMMAND"' ERR

need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null || die "$1 not found: apt-get install $2"
}

# The highest version of the paths given, or nothing.
newest() { { ls -dv "$@" 2>/dev/null || :; } | tail -n 1; }

# put ROOT PATH... : copy each file or directory to its own absolute path below ROOT. Programs bring
# the shared libraries that they need. What is there already stays: the tree may be hard links.
put() {
  local root=$1 path library
  shift
  for path in "$@"; do
    path=$(realpath -s "$path")
    [ ! -e "$root$path" ] || continue
    mkdir -p "$root${path%/*}"
    if [ -d "$path" ]; then cp -a "$path" "$root$path"; continue; fi
    cp -L --preserve=mode "$path" "$root$path"
    for library in $({ ldd "$path" 2>/dev/null || :; } | grep -oE '/[^ ]+' || :); do
      [ -e "$root$library" ] || { mkdir -p "$root${library%/*}"; cp -L "$library" "$root$library"; }
    done
  done
}

# kernel_dir NAME|DIR : print the directory of an unpacked kernel, downloading it the first time.
kernel_dir() {
  case $1 in
    */*) [ -d "$1" ] || die "no such directory: $1"; realpath "$1" ;;
    *) [ -d "$vm_cache/kernels/$1" ] || "$vm_dir/fetch-kernel" "$1" "$vm_cache/kernels/$1" >&2 || exit 125
       echo "$vm_cache/kernels/$1" ;;
  esac
}
kernel_image() { newest "$1"/boot/vmlinuz-* "$1"/usr/lib/modules/*/vmlinuz; }
kernel_modules() { newest "$1"/lib/modules/* "$1"/usr/lib/modules/*; }
