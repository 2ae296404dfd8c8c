//! The user namespace of a pod, and what is made in it by helpers.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::helper::Helper;
use super::ipc;
use crate::container::plan::{self, Source};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::node::Node;
use crate::spec::{IdMappings, MessageQueueSpec, UserMode, user};
use crate::sys;
use crate::sys::namespace::{self, Kind};

/// A user namespace with namespaces that belong to it.
pub(super) struct UserNamespace {
    pub(super) namespace: OwnedFd,
    pub(super) ids: IdMappings,
    /// Host ids of its root.
    pub(super) root: (u32, u32),
    /// The new namespaces that were asked for.
    pub(super) new: Vec<(Kind, OwnedFd)>,
}

/// Makes the user namespace of a pod, or takes the given one, and namespaces of these kinds in it; on a library thread.
/// `ids` are those of a new one.
pub(super) fn make(
    node: &Node,
    mode: &UserMode,
    ids: Option<IdMappings>,
    kinds: &[Kind],
) -> Result<UserNamespace> {
    let flags = kinds.iter().fold(CloneFlags::empty(), |flags, kind| flags | kind.flag());
    let (proc, ordinary) = (&node.0.proc, node.0.realm.is_ordinary());
    let (helper, ids) = match (mode, ids) {
        (UserMode::Path(path), _) => {
            let helper =
                Helper::start(node, plan::holder(true, flags, ordinary), CloneFlags::empty(), |_| {
                    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
                    openat(AT_FDCWD, path, flags, Mode::empty()).step("open", path.display())
                })
                .map_err(|error| error.within(format!("join the user namespace at {}", path.display())))?;
            let read = |file: &str| {
                let path = format!("{}/{file}", helper.pid());
                user::parse(&proc.read(&path)?)
                    .ok_or_else(|| Error::new(ErrorKind::System, "understand").on(format!("/proc/{path}")))
            };
            let ids = IdMappings { uid_mappings: read("uid_map")?, gid_mappings: read("gid_map")? };
            (helper, ids)
        }
        (_, ids) => {
            let ids = ids.unwrap_or_default();
            let flags = flags | CloneFlags::CLONE_NEWUSER;
            let helper =
                Helper::start(node, plan::holder(false, CloneFlags::empty(), ordinary), flags, |_| {
                    Err(Error::new(ErrorKind::System, "open").on("nothing"))
                })
                .map_err(explain)?;
            proc.write_map(helper.pid(), "uid_map", &user::text(&ids.uid_mappings))?;
            proc.write_map(helper.pid(), "gid_map", &user::text(&ids.gid_mappings))?;
            (helper, ids)
        }
    };
    let of = |kind: Kind| {
        namespace::of_process(proc, helper.pid(), kind).step("open", format!("the {} namespace", kind.word()))
    };
    let new = kinds.iter().map(|kind| Ok((*kind, of(*kind)?))).collect::<Result<_>>()?;
    let root = ids.host_uid(0).zip(ids.host_gid(0)).ok_or_else(|| {
        Error::invalid("namespaces.user", "id 0 has no id on the host; root of the pod makes its mounts")
    })?;
    Ok(UserNamespace { namespace: of(Kind::User)?, ids, root, new })
}

/// What the error numbers of making a user namespace mean.
fn explain(error: Error) -> Error {
    match error.errno().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EUSERS) => error
            .of_kind(ErrorKind::Exhausted)
            .because("user.max_user_namespaces, or that of another kind of namespace, is reached or 0"),
        Some(Errno::EINVAL) => error
            .of_kind(ErrorKind::Unsupported)
            .because("this kernel has no user namespaces (CONFIG_USER_NS)"),
        Some(Errno::EPERM) => {
            error.because("a program in a chroot cannot make a user namespace; see also user_namespaces(7)")
        }
        _ => error,
    }
    .within("make a user namespace")
}

impl UserNamespace {
    /// Options of a tmpfs that belongs to root of the pod, besides these.
    pub(super) fn owner_options(&self) -> [(&'static std::ffi::CStr, CString); 2] {
        let number = |id: u32| CString::new(id.to_string()).expect("digits have no NUL");
        [(c"uid", number(self.root.0)), (c"gid", number(self.root.1))]
    }

    /// Shows a tree of the host with the pod's ids.
    pub(super) fn map_ids(&self, tree: BorrowedFd<'_>) -> sys::Result<()> {
        sys::mount::map_ids(tree, true, self.namespace.as_fd())
    }
}

/// Makes a message queue; ids in `queue` are those inside.
pub(super) fn make_queue(
    node: &Node,
    queue: &MessageQueueSpec,
    mut open: impl FnMut(Kind) -> Result<OwnedFd>,
) -> Result<()> {
    ipc::validate(&crate::spec::IpcObjects { mqueues: vec![queue.clone()], ..Default::default() })?;
    let made = Helper::start(node, plan::queue(queue), CloneFlags::empty(), |source| match source {
        Source::Namespace(kind) => open(*kind),
        other => Err(Error::new(ErrorKind::System, "open").on(other)),
    });
    made.map(drop).map_err(|error| match error.errno() {
        Some(errno) => ipc::queue_refused(Errno::from_raw(errno), queue),
        None => error,
    })
}

/// Sets kernel parameters that only root of the user namespace may set, which is so since Linux 6.9 for those of IPC
/// namespaces.
pub(super) fn set_sysctls(
    node: &Node,
    kinds: [bool; 2],
    parameters: &[(&str, &str)],
    mut open: impl FnMut(Kind) -> Result<OwnedFd>,
) -> Result<()> {
    let [network, ipc] = kinds;
    let plan = plan::sysctls(network, ipc, parameters);
    Helper::start(node, plan, CloneFlags::empty(), |source| match source {
        Source::Namespace(kind) => open(*kind),
        _ => node.0.proc.as_fd().try_clone_to_owned().step("duplicate", "the private proc"),
    })
    .map(drop)
}
