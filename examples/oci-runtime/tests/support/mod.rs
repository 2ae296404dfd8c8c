//! Bundles for the program's tests.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pericarp::{CgroupParent, Node, NodeOptions};
use serde_json::{Value, json};

/// All nodes of the program have one cgroup, which goes with the first of them that is removed while it is empty.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A bundle whose program is a script of a static shell, and a node of its own.
pub struct Bundle(
    tempfile::TempDir,
    #[expect(dead_code, reason = "held to the end")] MutexGuard<'static, ()>,
);

impl Bundle {
    pub fn new(terminal: bool, script: &str) -> Bundle {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let bundle = Bundle(tempfile::tempdir().unwrap(), alone);
        let bin = bundle.path().join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.expect("busybox"), bin.join("busybox")).unwrap();
        for applet in ["cat", "id", "sh", "sleep", "stty"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        assert!(bundle.command(&["spec", "-b"]).arg(bundle.path()).status().unwrap().success());
        bundle.change(|json| {
            json["process"]["terminal"] = json!(terminal);
            json["process"]["args"] = json!(["sh", "-c", script]);
            json["root"]["readonly"] = json!(false);
            // A cgroup of version 2 without controllers will do.
            json["linux"]["resources"] = json!({});
        });
        bundle
    }

    /// Changes its configuration.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let config = self.path().join("config.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        change(&mut json);
        fs::write(config, json.to_string()).unwrap();
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pericarp-oci"));
        command.arg("--root").arg(self.path().join("state")).args(words);
        command
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let parent = CgroupParent::Named("pericarp-oci".into());
        let options = NodeOptions::new().state_dir(self.path().join("state")).cgroup_parent(parent);
        let node = Node::open(&options).unwrap();
        for pod in node.pods().unwrap() {
            pod.remove().unwrap();
        }
        node.remove().unwrap();
    }
}
