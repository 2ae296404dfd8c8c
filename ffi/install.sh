#!/bin/sh
# Installs the C library: header, shared and static library, pkg-config file. `cargo cinstall` (cargo-c) does the same,
# but its shared library has no symbol versions.
set -eu

usage() {
  cat <<'END'
usage: ffi/install.sh [--prefix DIR] [--libdir DIR] [--destdir DIR] [--library FILE]

Installs what `cargo build --release --package pericarp-ffi` has built.

  --prefix DIR    where programs will find it (/usr/local)
  --libdir DIR    where libraries go (PREFIX/lib)
  --destdir DIR   put before every path, for packagers
  --library FILE  the static library to install (target/release/libpericarp_ffi.a)
END
}

here=$(dirname "$(realpath "$0")")
prefix=/usr/local
libdir=
destdir=
library=${CARGO_TARGET_DIR:-$here/../target}/release/libpericarp_ffi.a
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit ;;
    --prefix | --libdir | --destdir | --library)
      [ $# -ge 2 ] || { echo "install.sh: $1 wants a value" >&2; exit 2; }
      case $1 in
        --prefix) prefix=$2 ;;
        --libdir) libdir=$2 ;;
        --destdir) destdir=$2 ;;
        --library) library=$2 ;;
      esac
      shift 2 ;;
    *) echo "install.sh: no such option: $1" >&2; usage >&2; exit 2 ;;
  esac
done
libdir=${libdir:-$prefix/lib}
if [ ! -f "$library" ]; then
  echo "install.sh: there is no $library: run cargo build --release --package pericarp-ffi" >&2
  exit 1
fi

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/Cargo.toml")
# What Rust's standard library needs, as `rustc --print native-static-libs` tells.
system="-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"

install -d "$destdir$prefix/include" "$destdir$libdir/pkgconfig"
install -m 644 "$here/../include/pericarp.h" "$destdir$prefix/include/pericarp.h"
install -m 644 "$library" "$destdir$libdir/libpericarp.a"
# Linked here and not by cargo, so that the symbols have versions.
# shellcheck disable=SC2086
${CC:-cc} -shared -o "$destdir$libdir/libpericarp.so.$version" \
  -Wl,--whole-archive "$library" -Wl,--no-whole-archive -Wl,--gc-sections \
  -Wl,-soname,libpericarp.so.0 -Wl,--version-script="$here/pericarp.map" -Wl,--no-undefined -Wl,-z,relro,-z,now \
  $system
ln -sf "libpericarp.so.$version" "$destdir$libdir/libpericarp.so.0"
ln -sf libpericarp.so.0 "$destdir$libdir/libpericarp.so"
# Some compilers pass --as-needed: then a library that stands before the program's own files, as in
# `cc $(pkg-config --cflags --libs pericarp) pod.c`, would be taken for one that nobody needs. (Go 1.19 refuses the
# flags that would put the linker's state back; what follows is linked although nothing needs it, which does no harm.)
cat > "$destdir$libdir/pkgconfig/pericarp.pc" <<END
prefix=$prefix
libdir=$libdir
includedir=\${prefix}/include

Name: pericarp
Description: Kubernetes-style pods as a library: no daemon, no pause process, no re-exec
Version: $version
Libs: -L\${libdir} -Wl,--no-as-needed -lpericarp
Libs.private: $system
Cflags: -I\${includedir}
END
