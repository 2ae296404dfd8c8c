//! POSIX shared memory.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;

use super::super::{create_shm_object, list, open_shm_object, remove_shm_object};
use super::{TestPod, as_file, assert_fails, in_pod, owner_of, spec};
use crate::error::ErrorKind;
use crate::spec::ShmObjectSpec;
use crate::sys::ipc::hostile::{lease, xattr_size};
use crate::sys::xattr;

fn object(json: &str) -> ShmObjectSpec {
    spec(json)
}

fn plain(pod: &TestPod, name: &str) -> crate::error::Result<std::os::fd::OwnedFd> {
    create_shm_object(pod.shm(), &object(&format!(r#"{{"name": "{name}", "size": 4096}}"#)))
}

#[test]
fn what_the_host_writes_is_in_the_file() {
    in_pod(|pod| {
        let fd = plain(pod, "/ring").unwrap();
        assert_eq!(fcntl(&fd, FcntlArg::F_GETFD).unwrap(), FdFlag::FD_CLOEXEC.bits());
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL).unwrap());
        assert_eq!(flags & (OFlag::O_ACCMODE | OFlag::O_NONBLOCK), OFlag::O_RDWR);
        as_file(fd).write_all_at(b"hello", 4000).unwrap();
        let content = std::fs::read(pod.path("ring")).unwrap();
        assert_eq!((content.len(), &content[4000..4005]), (4096, &b"hello"[..]));

        let mut back = String::new();
        let mut reader = as_file(open_shm_object(pod.shm(), "ring", false).unwrap());
        assert_eq!(fcntl(&reader, FcntlArg::F_GETFL).unwrap() & OFlag::O_NONBLOCK.bits(), 0);
        reader.read_to_string(&mut back).unwrap();
        assert_eq!(back.as_bytes(), content);
        assert!(reader.write(b"x").is_err());
        as_file(open_shm_object(pod.shm(), "/ring", true).unwrap()).write_all(b"J").unwrap();
        assert_eq!(std::fs::read(pod.path("ring")).unwrap()[0], b'J');
    });
}

#[test]
fn owner_and_mode_are_exact() {
    in_pod(|pod| {
        for (mode, uid, gid) in [(0o666, 1000, 2000), (0o777, 0, 0), (0, 7, 0), (0o640, u32::MAX - 1, 5)] {
            let name = format!("m{mode:o}");
            let fd =
                create_shm_object(pod.shm(), &ShmObjectSpec { name: name.clone(), size: 1, mode, uid, gid });
            assert_eq!(owner_of(fd.unwrap()), (mode, uid, gid));
            assert_eq!(owner_of(File::open(pod.path(&name)).unwrap()), (mode, uid, gid));
        }
    });
}

#[test]
fn an_acl_or_set_group_id_of_the_directory_does_not_show() {
    in_pod(|pod| {
        // A default ACL (posix_acl_xattr.h): user 6666 may read and write; with the entries that every ACL
        // has.
        let mut acl = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in
            [(1u16, 7u16, u32::MAX), (2, 7, 6666), (4, 7, u32::MAX), (16, 7, u32::MAX), (32, 7, u32::MAX)]
        {
            acl.extend(tag.to_le_bytes());
            acl.extend(permissions.to_le_bytes());
            acl.extend(id.to_le_bytes());
        }
        let directory = File::open(&pod.shm_path).unwrap();
        if let Err(errno) = xattr::set(&directory, c"system.posix_acl_default", &acl) {
            eprintln!("SKIPPED: this kernel's tmpfs has no ACLs: {errno}");
            return;
        }
        nix::unistd::chown(&pod.shm_path, None, Some(4242.into())).unwrap();
        nix::sys::stat::fchmod(&directory, Mode::from_bits_truncate(0o3777)).unwrap();

        // The trap works: a plain creation inherits.
        File::create(pod.path("victim")).unwrap();
        assert_eq!(acl_entries(pod, "victim"), 5);
        assert_eq!(owner_of(File::open(pod.path("victim")).unwrap()).2, 4242);

        let fd = create_shm_object(
            pod.shm(),
            &object(r#"{"name": "a", "size": 1, "mode": 432, "uid": 1, "gid": 2}"#),
        );
        assert_eq!(owner_of(fd.unwrap()), (0o660, 1, 2));
        assert_eq!(acl_entries(pod, "a"), 0);
    });
}

/// The entries of the access control list of a file (posix_acl_xattr.h), 0 when it has none.
fn acl_entries(pod: &TestPod, name: &str) -> usize {
    let size = xattr_size(File::open(pod.path(name)).unwrap(), c"system.posix_acl_access");
    size.map_or(0, |bytes| (bytes - 4) / 8)
}

#[test]
fn what_is_there_stays() {
    in_pod(|pod| {
        std::fs::write(pod.path("outside"), "precious").unwrap();
        symlink("outside", pod.path("link")).unwrap();
        symlink("nowhere", pod.path("dangling")).unwrap();
        mkfifo(&pod.path("fifo"), Mode::S_IRWXU).unwrap();
        std::fs::create_dir(pod.path("dir")).unwrap();
        drop(plain(pod, "taken").unwrap());
        let before = pod.names();
        for name in ["taken", "link", "dangling", "fifo", "dir"] {
            let error = assert_fails(plain(pod, name), ErrorKind::AlreadyExists, name);
            assert_eq!(error.errno(), Some(libc::EEXIST));
        }
        assert_eq!(pod.names(), before);
        assert_eq!(std::fs::read_to_string(pod.path("outside")).unwrap(), "precious");
    });
}

#[test]
fn opening_takes_regular_files_only_and_never_waits() {
    in_pod(|pod| {
        std::fs::write(pod.path("outside"), "secret").unwrap();
        symlink("outside", pod.path("link")).unwrap();
        symlink(pod.path("outside"), pod.path("absolute")).unwrap();
        symlink("/proc/self/fd/0", pod.path("magic")).unwrap();
        mkfifo(&pod.path("fifo"), Mode::S_IRWXU).unwrap();
        std::fs::create_dir(pod.path("dir")).unwrap();
        mknod(&pod.path("null"), SFlag::S_IFCHR, Mode::S_IRWXU, nix::sys::stat::makedev(1, 3)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(pod.path("socket")).unwrap();
        let start = Instant::now();
        for writable in [false, true] {
            for name in ["link", "absolute", "magic"] {
                let result = open_shm_object(pod.shm(), name, writable);
                assert_fails(result, ErrorKind::WrongState, "it is a symbolic link");
            }
            for name in ["fifo", "dir", "socket"] {
                let result = open_shm_object(pod.shm(), name, writable);
                assert_fails(result, ErrorKind::WrongState, "it is no regular file");
            }
            // The tmpfs of a pod is mounted nodev.
            assert_fails(open_shm_object(pod.shm(), "null", writable), ErrorKind::PermissionDenied, "EACCES");
            assert_fails(open_shm_object(pod.shm(), "none", writable), ErrorKind::NotFound, "none");
            for name in ["", "/", "..", "dir/x", "../etc/passwd", "a\0b"] {
                assert_fails(open_shm_object(pod.shm(), name, writable), ErrorKind::InvalidSpec, "name");
            }
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn a_lease_does_not_make_the_host_wait() {
    in_pod(|pod| {
        let holder = as_file(plain(pod, "leased").unwrap());
        drop(holder);
        let holder = File::open(pod.path("leased")).unwrap();
        lease(&holder).unwrap();
        let start = Instant::now();
        assert_fails(open_shm_object(pod.shm(), "leased", true), ErrorKind::WrongState, "lease");
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn nothing_remains_of_what_cannot_be_made() {
    in_pod(|pod| {
        let too_large = object(r#"{"name": "large", "size": 1048577}"#);
        let error = assert_fails(create_shm_object(pod.shm(), &too_large), ErrorKind::Exhausted, "1048576");
        assert_eq!(error.errno(), Some(libc::ENOSPC));
        let whole = object(r#"{"name": "whole", "size": 1048576}"#);
        drop(create_shm_object(pod.shm(), &whole).unwrap());
        assert_fails(
            create_shm_object(pod.shm(), &object(r#"{"name": "a/b", "size": 1}"#)),
            ErrorKind::InvalidSpec,
            "shm.name",
        );
        assert_eq!(pod.names(), ["whole"]);
    });
}

#[test]
fn removal_takes_the_name_itself() {
    in_pod(|pod| {
        drop(plain(pod, "kept").unwrap());
        drop(plain(pod, "gone").unwrap());
        symlink("kept", pod.path("link")).unwrap();
        remove_shm_object(pod.shm(), "/gone").unwrap();
        remove_shm_object(pod.shm(), "link").unwrap();
        assert_fails(
            remove_shm_object(pod.shm(), "gone"),
            ErrorKind::NotFound,
            "remove shared memory object gone",
        );
        assert_fails(remove_shm_object(pod.shm(), ".."), ErrorKind::InvalidSpec, "name");
        assert_eq!(pod.names(), ["kept"]);
    });
}

#[test]
fn the_list_holds_regular_files_at_the_top() {
    in_pod(|pod| {
        let all = object(r#"{"name": "b", "size": 5000, "mode": 416, "uid": 3, "gid": 4}"#);
        drop(create_shm_object(pod.shm(), &all).unwrap());
        drop(plain(pod, "a").unwrap());
        std::fs::create_dir(pod.path("dir")).unwrap();
        std::fs::write(pod.path("dir/inside"), "").unwrap();
        symlink("b", pod.path("link")).unwrap();
        mkfifo(&pod.path("fifo"), Mode::S_IRWXU).unwrap();
        let listing = list(pod.shm(), pod.mqueue()).unwrap();
        let found: Vec<_> =
            listing.shm.iter().map(|o| (o.name.as_str(), o.size, o.mode, o.uid, o.gid)).collect();
        assert_eq!(found, [("a", 4096, 0o600, 0, 0), ("b", 5000, 0o640, 3, 4)]);
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap(), listing);
        assert!(!listing.truncated);
    });
}
