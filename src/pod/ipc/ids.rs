//! Ids of a pod with a user namespace: specifications and listings have those inside, the kernel tells and takes those
//! of the host here.

use super::IpcListing;
use crate::error::{Error, Result};
use crate::spec::{IdMappings, IpcObjects};

/// Objects with the ids of the host.
///
/// # Errors
/// `InvalidSpec` for an id that the pod does not have.
pub(crate) fn to_host(objects: &IpcObjects, ids: &IdMappings) -> Result<IpcObjects> {
    let mut objects = objects.clone();
    let owners = objects.shm.iter_mut().map(|object| ("shm", &mut object.uid, &mut object.gid));
    let owners = owners.chain(objects.mqueues.iter_mut().map(|o| ("mqueues", &mut o.uid, &mut o.gid)));
    let owners = owners.chain(objects.sysv_shm.iter_mut().map(|o| ("sysvShm", &mut o.uid, &mut o.gid)));
    let owners = owners.chain(objects.sysv_sem.iter_mut().map(|o| ("sysvSem", &mut o.uid, &mut o.gid)));
    let owners = owners.chain(objects.sysv_msg.iter_mut().map(|o| ("sysvMsg", &mut o.uid, &mut o.gid)));
    for (field, uid, gid) in owners {
        let unmapped = |what: &str, id: u32| {
            let why = format!("id {id} has no id on the host in the pod's user namespace");
            Error::invalid(format!("{field}.{what}"), why)
        };
        *uid = ids.host_uid(*uid).ok_or_else(|| unmapped("uid", *uid))?;
        *gid = ids.host_gid(*gid).ok_or_else(|| unmapped("gid", *gid))?;
    }
    Ok(objects)
}

/// A listing with the ids inside; what belongs to nobody there has the kernel's id for that.
pub(crate) fn to_container(mut listing: IpcListing, ids: &IdMappings) -> IpcListing {
    /// `overflowuid` and `overflowgid` of proc_sys_kernel(5), unless somebody has changed them.
    const NOBODY: u32 = 65534;
    let owners = listing.shm.iter_mut().map(|o| (&mut o.uid, &mut o.gid));
    let owners = owners.chain(listing.mqueues.iter_mut().map(|o| (&mut o.uid, &mut o.gid)));
    let owners = owners.chain(listing.sysv_shm.iter_mut().map(|o| (&mut o.uid, &mut o.gid)));
    let owners = owners.chain(listing.sysv_sem.iter_mut().map(|o| (&mut o.uid, &mut o.gid)));
    let owners = owners.chain(listing.sysv_msg.iter_mut().map(|o| (&mut o.uid, &mut o.gid)));
    for (uid, gid) in owners {
        *uid = ids.container_uid(*uid).unwrap_or(NOBODY);
        *gid = ids.container_gid(*gid).unwrap_or(NOBODY);
    }
    listing
}
