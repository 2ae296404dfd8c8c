//! The container's process as it begins: arguments, environment, identity and limits.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pericarp::spec::{PidMode, Rlimit, RlimitResource};
use pericarp::{ContainerSpec, ErrorKind, Mount, Pod, PodSpec};

use crate::support::fixture::{facts, output, payload as payload_spec, say, script};
use crate::support::{Facts, Fixture, Outcome, PASS};

crate::tests![
    arguments_arrive_as_they_are,
    thousands_of_arguments_arrive,
    one_argument_may_be_as_long_as_the_kernel_takes,
    the_environment_is_exact,
    the_program_is_searched_in_path_as_execvp_does,
    a_program_that_cannot_be_executed_is_told_by_name,
    a_script_runs_by_its_first_line,
    a_script_without_its_interpreter_is_told,
    the_working_directory_is_made_when_it_is_missing,
    a_file_is_no_working_directory,
    user_and_groups_are_exact,
    ids_may_be_as_large_as_the_kernel_takes,
    files_are_made_with_the_umask,
    resource_limits_are_exact,
    a_limit_above_the_hosts_needs_the_capability,
    the_first_process_leads_a_session_of_its_own,
];

/// Commands for processes in containers.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["process-args", ..] => {
            let args: Vec<String> = std::env::args().collect();
            println!("{}", serde_json::to_string(&args).expect("strings are JSON"));
        }
        ["process-environ"] => {
            let environ = fs::read("/proc/self/environ").expect("read the environment");
            println!("{}", serde_json::to_string(&String::from_utf8_lossy(&environ)).expect("JSON"));
        }
        _ => return false,
    }
    true
}

/// What the arguments are in the container, without those that start the payload.
fn arguments(pod: &Pod, args: &[String]) -> Vec<String> {
    let words: Vec<&str> = ["process-args"].into_iter().chain(args.iter().map(String::as_str)).collect();
    let text = say(pod, payload_spec("a", &words));
    let mut seen: Vec<String> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(seen[..3], ["/payload", "payload", "process-args"]);
    seen.split_off(3)
}

fn arguments_arrive_as_they_are() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let args = [
        "",
        " ",
        "a b",
        "",
        "-x",
        "--",
        "\"quoted\"",
        "'",
        "$HOME",
        "`id`",
        "a\nb",
        "\t",
        "\\",
        "größer",
        "日本語 🦀",
        "*",
        "\u{1}\u{7f}",
        "",
    ]
    .map(String::from);
    assert_eq!(arguments(&pod, &args), args);
    PASS
}

fn thousands_of_arguments_arrive() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // Near both bounds of the library: 32768 entries, 512 KiB.
    let args: Vec<String> = (0..32_000).map(|i| format!("argument{i}")).collect();
    let seen = arguments(&pod, &args);
    assert!(seen == args, "{} of {} arrived", seen.len(), args.len());
    // One too many is an error, and a clear one.
    let error = pod
        .create_container(&script("a", "").args((0..32_769).map(|_| "x")))
        .expect_err("more than the library takes");
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("args and env")));
    let error = pod
        .create_container(&script("a", "").args((0..6).map(|_| "x".repeat(100_000))))
        .expect_err("more than the library takes");
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("args and env")));
    PASS
}

fn one_argument_may_be_as_long_as_the_kernel_takes() -> Outcome {
    /// `MAX_ARG_STRLEN` of execve(2): 32 pages, with the NUL.
    const MAX: usize = 128 << 10;
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let longest = "x".repeat(MAX - 1);
    assert!(arguments(&pod, std::slice::from_ref(&longest)) == [longest]);
    let error = pod.run(&script("a", "").args(["/bin/sh".to_string(), "x".repeat(MAX)])).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(libc::E2BIG)), "{error}");
    PASS
}

fn environment(pod: &Pod, change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> Vec<String> {
    let text = say(pod, change(payload_spec("a", &["process-environ"])));
    let environ: String = serde_json::from_str(&text).expect("JSON");
    let mut list: Vec<String> = environ.split_terminator('\0').map(str::to_string).collect();
    list.sort();
    list
}

fn the_environment_is_exact() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(environment(&pod, |spec| spec), [path]);
    let seen = environment(&pod, |spec| {
        spec.env("EMPTY", "")
            .env("SPACE", "a b")
            .env("EQ", "x=y=z")
            .env("LINE", "1\n2")
            .env("ü", "ö")
            .env("a b", "c")
    });
    assert_eq!(seen, ["EMPTY=", "EQ=x=y=z", "LINE=1\n2", path, "SPACE=a b", "a b=c", "ü=ö"]);
    // A PATH of one's own is the only one.
    assert_eq!(environment(&pod, |spec| spec.env("PATH", "/x")), ["PATH=/x"]);
    assert_eq!(environment(&pod, |spec| spec.env("PATH", "")), ["PATH="]);
    PASS
}

/// A mount at `/l` with files of that mode and content.
fn layer(fixture: &Fixture, files: &[(&str, u32, &str)]) -> Mount {
    let root = fixture.path("layer");
    for (path, mode, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        fs::write(&path, content).expect("write a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("chmod");
    }
    Mount::bind(root, "/l")
}

fn the_program_is_searched_in_path_as_execvp_does() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let say_where = "#!/bin/sh\necho $0\n";
    let mount = layer(
        &fixture,
        &[
            ("p1/tool", 0o644, say_where),
            ("p2/tool", 0o755, say_where),
            ("p3/tool", 0o755, say_where),
            ("p4/tool/x", 0o755, ""),
            ("p5/tool", 0o755, "#!/bin/sh\necho closed\n"),
            ("work/tool", 0o755, say_where),
        ],
    );
    fs::set_permissions(fixture.path("layer/p5"), fs::Permissions::from_mode(0o700))?;
    let spec = |path: &str| {
        let path: Vec<_> = path
            .split(':')
            .map(|part| if part.starts_with('/') { format!("/l{part}") } else { part.to_string() })
            .collect();
        let spec = script("a", "").args(["tool"]).env("PATH", path.join(":"));
        spec.user(1000, 1000).cwd("/l/work").mount(mount.clone())
    };
    for (path, ran) in [
        ("/p2:/p3", "/p2/tool"),
        ("/p3:/p2", "/p3/tool"),
        ("/missing:/p2", "/p2/tool"),
        ("/p2/tool:/p3", "/p3/tool"), // a file as a directory: ENOTDIR
        ("/p1:/p2", "/p2/tool"),      // not executable: EACCES
        ("/p4:/p2", "/p2/tool"),      // a directory: EACCES
        ("/p5:/p2", "/p2/tool"),      // no permission to search: EACCES
        ("/p2/:/p3", "/p2/tool"),
        (":/p2", "tool"), // an empty part is the working directory
        ("/missing:", "tool"),
        ("../p2", "../p2/tool"),
    ] {
        let ran = if ran.starts_with('/') { format!("/l{ran}\n") } else { format!("{ran}\n") };
        assert_eq!(say(&pod, spec(path)), ran, "{path}");
    }
    for (path, errno) in [
        ("/missing:/p1", libc::EACCES),
        ("/p1:/missing", libc::EACCES), // what exists is more telling than what does not
        ("/p4", libc::EACCES),
        ("/p5", libc::EACCES),
        ("/missing:/p2/tool", libc::ENOENT),
        ("/missing", libc::ENOENT),
    ] {
        let error = pod.run(&spec(path)).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(errno)), "{path}: {error}");
        assert!(error.to_string().contains("\"tool\""), "{error}");
    }
    // With a slash there is no search; a relative program is looked up in the working directory.
    assert_eq!(say(&pod, spec("/p2").args(["./tool"])), "./tool\n");
    assert_eq!(pod.run(&spec("/p2").args(["x/tool"])).unwrap_err().errno(), Some(libc::ENOENT));
    PASS
}

fn a_program_that_cannot_be_executed_is_told_by_name() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mount = layer(
        &fixture,
        &[
            ("plain", 0o644, "#!/bin/sh\n"),
            ("garbage", 0o755, "\x01\x02garbage"),
            ("empty", 0o755, ""),
            ("dir/x", 0o644, ""),
        ],
    );
    for (program, errno) in [
        ("/l/missing", libc::ENOENT),
        ("/l/plain", libc::EACCES),
        ("/l/dir", libc::EACCES),
        ("/l/plain/x", libc::ENOENT),
        ("/l/garbage", libc::ENOEXEC),
        ("/l/empty", libc::ENOEXEC),
        ("surely-no-such-program", libc::ENOENT),
    ] {
        let container = pod.create_container(&script("a", "").args([program]).mount(mount.clone()))?;
        let error = container.start().expect_err(program);
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(errno)), "{program}: {error}");
        assert!(error.step().contains(&format!("execute {program:?}")), "{error}");
        // It has ended, with the status that a shell has for it.
        assert!(!container.wait()?.success());
        assert_eq!(container.start().unwrap_err().kind(), ErrorKind::WrongState);
        assert!(container.processes()?.is_empty());
        container.remove()?;
    }
    PASS
}

fn a_script_runs_by_its_first_line() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mount = layer(&fixture, &[("run", 0o755, "#!/bin/sh -e\necho \"$0 $1 $2\"\nfalse\necho never\n")]);
    let (status, text) = output(&pod, script("a", "").args(["/l/run", "x y", ""]).mount(mount))?;
    assert_eq!((status.code(), text.as_str()), (1, "/l/run x y \n"));
    PASS
}

fn a_script_without_its_interpreter_is_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mount = layer(&fixture, &[("run", 0o755, "#!/no/such/interpreter\n")]);
    let error = pod.run(&script("a", "").args(["/l/run"]).mount(mount)).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(libc::ENOENT)));
    assert!(error.to_string().contains("\"/l/run\""), "{error}");
    PASS
}

fn the_working_directory_is_made_when_it_is_missing() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    assert_eq!(facts(&pod, |spec| spec).cwd, "/");
    assert_eq!(facts(&pod, |spec| spec.cwd("/etc")).cwd, "/etc");
    let text = say(&pod, script("a", "pwd; stat -c '%a %u' . ..").cwd("/new/deep/er").user(1000, 1000));
    assert_eq!(text, "/new/deep/er\n755 0\n755 0\n");
    // Below a mount it is made in the mount.
    let mount = pericarp::Mount::bind(fixture.dir.path(), "/m");
    assert_eq!(say(&pod, script("a", "pwd").cwd("/m/work").mount(mount)), "/m/work\n");
    assert!(fixture.path("work").is_dir());
    PASS
}

fn a_file_is_no_working_directory() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for cwd in ["/etc/passwd", "/etc/passwd/x"] {
        let error = pod.create_container(&script("a", "pwd").cwd(cwd)).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOTDIR), "{error}");
        assert!(
            error.to_string().contains(&format!("working directory to {cwd}"))
                || error.to_string().contains(&format!("directory {cwd}")),
            "{error}"
        );
    }
    PASS
}

fn ids(facts: &Facts) -> [Vec<u32>; 3] {
    ["Uid", "Gid", "Groups"]
        .map(|key| facts.status[key].split_ascii_whitespace().map(|id| id.parse().expect("an id")).collect())
}

fn user_and_groups_are_exact() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // The host's groups are not passed on, nor those of /etc/group.
    assert_eq!(ids(&facts(&pod, |spec| spec)), [vec![0; 4], vec![0; 4], vec![]]);
    assert_eq!(ids(&facts(&pod, |spec| spec.user(1000, 0))), [vec![1000; 4], vec![0; 4], vec![]]);
    let seen = facts(&pod, |spec| spec.user(1000, 1001).additional_gids([7, 5, 100_000]));
    assert_eq!(ids(&seen), [vec![1000; 4], vec![1001; 4], vec![5, 7, 100_000]]);
    let many: Vec<u32> = (1..=1000).collect();
    assert_eq!(ids(&facts(&pod, |spec| spec.additional_gids(many.clone())))[2], many);
    // An ordinary user cannot become another one again.
    let file = fixture.path("file");
    fs::write(&file, "secret")?;
    fs::set_permissions(fixture.dir.path(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640))?;
    let mount = pericarp::Mount::bind(&file, "/file");
    let read = |spec: ContainerSpec| output(&pod, spec.mount(mount.clone()));
    assert!(!read(script("a", "cat /file").user(1000, 1000))?.0.success());
    assert!(read(script("a", "cat /file").user(1000, 1000).additional_gids([0]))?.0.success());
    PASS
}

fn ids_may_be_as_large_as_the_kernel_takes() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let large = u32::MAX - 1;
    let seen = facts(&pod, |spec| spec.user(large, large - 1).additional_gids([large - 2]));
    assert_eq!(ids(&seen), [vec![large; 4], vec![large - 1; 4], vec![large - 2]]);
    PASS
}

fn files_are_made_with_the_umask() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    assert_eq!(facts(&pod, |spec| spec).umask, 0o022);
    for umask in [0, 0o077, 0o777] {
        let command = "touch /tmp/f-mask; mkdir /tmp/d-mask; stat -c %a /tmp/f-mask /tmp/d-mask";
        let text = say(&pod, script("a", command).umask(umask));
        assert_eq!(text, format!("{:o}\n{:o}\n", 0o666 & !umask, 0o777 & !umask));
    }
    PASS
}

/// Soft and hard limit, as /proc/PID/limits has them.
fn limit(facts: &Facts, name: &str) -> (String, String) {
    let line = facts.limits.iter().find_map(|line| line.strip_prefix(name)).expect(name);
    let mut words = line.split_ascii_whitespace().map(str::to_string);
    (words.next().expect("soft"), words.next().expect("hard"))
}

fn resource_limits_are_exact() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let seen = facts(&pod, |spec| {
        spec.rlimit(RlimitResource::Nofile, 64, 128)
            .rlimit(RlimitResource::Core, 0, 0)
            .rlimit(RlimitResource::Stack, 4 << 20, Rlimit::INFINITY)
            .rlimit(RlimitResource::Msgqueue, 1000, 2000)
    });
    let pair = |soft: &str, hard: &str| (soft.to_string(), hard.to_string());
    assert_eq!(limit(&seen, "Max open files"), pair("64", "128"));
    assert_eq!(limit(&seen, "Max core file size"), pair("0", "0"));
    assert_eq!(limit(&seen, "Max stack size"), pair("4194304", "unlimited"));
    assert_eq!(limit(&seen, "Max msgqueue size"), pair("1000", "2000"));
    // The limit acts, and what was not asked for is the host program's.
    let fill = "dd if=/dev/zero of=/x bs=1024 count=8 2>/dev/null; echo $?; stat -c %s /x";
    let text = say(&pod, script("a", fill).rlimit(RlimitResource::Fsize, 4096, 4096));
    assert_eq!(text, format!("{}\n4096\n", 128 + libc::SIGXFSZ));
    let own = fs::read_to_string("/proc/self/limits")?;
    let line = |text: &str| text.lines().find(|line| line.starts_with("Max cpu time")).map(str::to_string);
    assert_eq!(line(&own), seen.limits.iter().find(|line| line.starts_with("Max cpu time")).cloned());
    PASS
}

fn a_limit_above_the_hosts_needs_the_capability() -> Outcome {
    const CAP_SYS_RESOURCE: u32 = 24;
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let status = fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("capabilities");
    let may = u64::from_str_radix(effective.trim(), 16)? >> CAP_SYS_RESOURCE & 1 == 1;
    let (_, own) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MSGQUEUE)?;
    let wanted = own + 1;
    let spec = |spec: ContainerSpec| spec.rlimit(RlimitResource::Msgqueue, wanted, wanted);
    if may {
        let seen = facts(&pod, spec);
        assert_eq!(limit(&seen, "Max msgqueue size"), (wanted.to_string(), wanted.to_string()));
    } else {
        let error = pod.create_container(&spec(script("a", "true"))).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::PermissionDenied, Some(libc::EPERM)));
        assert!(error.step().contains(&format!("RLIMIT_MSGQUEUE to {wanted}:{wanted}")), "{error}");
        assert!(pod.containers()?.is_empty());
    }
    PASS
}

fn the_first_process_leads_a_session_of_its_own() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let seen = facts(&pod, |spec| spec);
    assert_eq!((seen.pid, seen.session), (1, 1));
    // Also where it enters a PID namespace that is there already.
    let shared = fixture.node.create_pod(&PodSpec::new("shared").pid(PidMode::Pod))?;
    let seen = facts(&shared, |spec| spec);
    assert_eq!(seen.session, seen.pid as i32);
    let seen = facts(&pod, |spec| spec.pid(PidMode::Host));
    assert_eq!(seen.session, seen.pid as i32);
    PASS
}
