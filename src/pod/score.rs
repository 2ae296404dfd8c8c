//! How low oom_score_adj may become.

use crate::error::Result;
use crate::node::Node;

/// The nearest to this score that this program may give to others: lower than its own it can be only with
/// `CAP_SYS_RESOURCE` on the machine. Without, it is the program's own, as runtimes of Kubernetes do it.
pub(crate) fn possible(node: &Node, score: i32) -> Result<i32> {
    let has = || caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE);
    // In a user namespace of others there is such a capability, too, and it is none of the machine.
    if !node.0.realm.is_ordinary() && has().unwrap_or(false) {
        return Ok(score);
    }
    Ok(score.max(node.0.proc.own_oom_score_adj()?))
}
