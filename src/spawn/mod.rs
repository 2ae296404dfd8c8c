//! Starting a process without ever running code of the host program in it.
//!
//! One of the four places where `unsafe` is allowed. `trampoline` makes the process and lets it execute init at
//! once; `image` is init as a sealed file in memory; `control` is the socket over which init talks, `meeting` that
//! by which programs come to it later; `userns` makes user namespaces, `own_userns` those of ordinary users.

mod control;
mod image;
mod meeting;
mod own_userns;
mod trampoline;
mod userns;

pub(crate) use control::{Control, Message};
pub(crate) use image::InitImage;
pub(crate) use meeting::{listen_in, listens, meet};
pub(crate) use own_userns::make_own_user_namespace;
pub(crate) use trampoline::{Child, Launch};
pub(crate) use userns::make_user_namespace;
