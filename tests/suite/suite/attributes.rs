//! What only some containers ask of their process: sets of capabilities, who is killed first, scheduling, clocks, labels.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use pericarp::spec::{
    Capabilities, Capability, CapabilitySet, CpuAffinity, IoPriorityClass, Personality, PidMode, Scheduler,
    SchedulerFlag, SchedulerPolicy, Security, TimeNamespace, TimeOffset, TimeOffsets,
};
use pericarp::{ContainerSpec, ErrorKind, ExecSpec, Mount, Pod, PodSpec, Rootfs, Stdio};
use serde::{Deserialize, Serialize};

use crate::support::fixture::{facts, payload as payload_spec, rootfs, say};
use crate::support::{Facts, Fixture, Outcome, PASS, skip};

crate::tests![
    an_inheritable_set_is_there_only_when_it_is_given,
    the_effective_set_counts_when_the_program_is_executed,
    oom_score_adj_is_what_is_asked_for,
    less_oom_score_adj_than_one_may_have_is_told,
    a_proc_in_the_root_filesystem_is_never_written_to,
    schedulers_are_taken,
    a_scheduler_that_a_fork_would_lose_is_refused_where_there_is_one,
    io_priorities_are_taken,
    processors_are_those_of_the_list,
    processors_that_are_not_there_are_told,
    execution_domains_are_taken,
    clocks_are_offset_in_a_time_namespace,
    a_time_namespace_can_be_another_containers,
    what_is_no_time_namespace_is_told,
    a_clock_before_zero_is_told,
    the_hosts_attributes_stay,
    labels_of_a_machine_without_them_are_told,
    an_apparmor_profile_goes_to_the_kernel,
];

/// What a process can tell of these attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub policy: i32,
    /// With the flag in it.
    pub priority: i32,
    pub nice: i32,
    pub io_priority: i64,
    pub processors: String,
    pub personality: i32,
    pub machine: String,
    pub oom_score_adj: String,
    pub monotonic: i64,
    pub boottime: i64,
    pub time: u64,
    pub time_for_children: u64,
    pub offsets: String,
}

impl Report {
    pub fn gather() -> Report {
        let clock = |clock| {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the structure is ours.
            assert_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
            time.tv_sec
        };
        // SAFETY: an all-zero structure is valid, and ours.
        let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
        // SAFETY: as above; the rest are numbers.
        let (policy, nice, io_priority, personality) = unsafe {
            libc::sched_getparam(0, &mut parameters);
            let io = libc::syscall(libc::SYS_ioprio_get, 1, 0);
            (libc::sched_getscheduler(0), libc::getpriority(0, 0), io, libc::personality(0xffff_ffff))
        };
        let status = fs::read_to_string("/proc/thread-self/status").expect("read the status");
        let processors = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let inode = |name: &str| fs::metadata(format!("/proc/self/ns/{name}")).map_or(0, |file| file.ino());
        Report {
            policy,
            priority: parameters.sched_priority,
            nice,
            io_priority,
            processors: processors.expect("the list of processors").trim().to_string(),
            personality,
            machine: nix::sys::utsname::uname().expect("uname").machine().to_string_lossy().into_owned(),
            oom_score_adj: read("/proc/self/oom_score_adj"),
            monotonic: clock(libc::CLOCK_MONOTONIC),
            boottime: clock(libc::CLOCK_BOOTTIME),
            time: inode("time"),
            time_for_children: inode("time_for_children"),
            offsets: fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default(),
        }
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).expect("read a file").trim().to_string()
}

/// Commands for processes in containers.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["attributes"] => {
            println!("{}", serde_json::to_string(&Report::gather()).expect("a report is JSON"));
        }
        _ => return false,
    }
    true
}

pub fn report(pod: &Pod, change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> Report {
    let text = say(pod, change(payload_spec("report", &["attributes"])));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Why a container cannot be made.
fn refused(pod: &Pod, spec: ContainerSpec) -> pericarp::Error {
    pod.create_container(&spec).map(|container| container.remove()).expect_err("a container was made")
}

fn set(facts: &Facts, name: &str) -> u64 {
    u64::from_str_radix(&facts.status[name], 16).expect("a set")
}

/// Whether this program has a capability.
fn capable(capability: Capability) -> bool {
    let status = read("/proc/thread-self/status");
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    u64::from_str_radix(bits.trim(), 16).expect("a set") & capability.bitmask() != 0
}

/// CVE-2022-29162. With the bounding set as the inheritable one in init's capset(2), the first CapInh was a80425fb.
fn an_inheritable_set_is_there_only_when_it_is_given() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for uid in [0, 1000] {
        assert_eq!(set(&facts(&pod, |spec| spec.user(uid, uid)), "CapInh"), 0);
        let chown: CapabilitySet = [Capability::CAP_CHOWN].into_iter().collect();
        let security = Security::default().capabilities(Capabilities::default().inheritable(chown));
        let seen = facts(&pod, |spec| spec.user(uid, uid).security(security));
        assert_eq!(set(&seen, "CapInh"), 1);
        // An ordinary user gets it by a file with file capabilities only.
        assert_eq!(set(&seen, "CapEff"), if uid == 0 { 0xa804_25fb } else { 0 });
        assert_eq!(set(&seen, "CapAmb"), 0);
    }
    PASS
}

/// execve(2) makes sets anew; those that the specification gives are what it is executed with.
fn the_effective_set_counts_when_the_program_is_executed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let program = fixture.path("program");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
    let spec = |capabilities| {
        ContainerSpec::new("a", rootfs())
            .args(["/program", "payload", "exit", "0"])
            .mount(Mount::bind(&program, "/program"))
            .user(1000, 1000)
            .security(Security::default().capabilities(capabilities))
    };
    let all: CapabilitySet = [Capability::CAP_DAC_OVERRIDE].into_iter().collect();
    let may = Capabilities::default().permitted(all);
    assert!(pod.run(&spec(may.clone()))?.success());
    for not in [Capabilities::default(), may.effective(CapabilitySet::EMPTY)] {
        let error = pod.run(&spec(not)).expect_err("root's program was executed by another user");
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(libc::EACCES)), "{error}");
    }
    PASS
}

fn oom_score_adj_is_what_is_asked_for() -> Outcome {
    let fixture = Fixture::new();
    let own: i32 = read("/proc/self/oom_score_adj").parse()?;
    let more = own.max(500) + 1;
    let pods = [PodSpec::new("one"), PodSpec::new("shared").pid(PidMode::Pod)];
    for pod in pods {
        let pod = fixture.node.create_pod(&pod)?;
        for user in [0, 1000] {
            let seen = report(&pod, |spec| spec.user(user, user).oom_score_adj(more));
            assert_eq!(seen.oom_score_adj, more.to_string());
        }
        assert_eq!(report(&pod, |spec| spec).oom_score_adj, own.to_string());
    }
    assert_eq!(read("/proc/self/oom_score_adj"), own.to_string());
    PASS
}

fn less_oom_score_adj_than_one_may_have_is_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    if read("/proc/self/oom_score_adj") == "-1000" {
        return skip("there is no less than -1000, which this program has");
    }
    if capable(Capability::CAP_SYS_RESOURCE) {
        assert_eq!(report(&pod, |spec| spec.oom_score_adj(-1000)).oom_score_adj, "-1000");
    } else {
        let error = refused(&pod, payload_spec("a", &["exit", "0"]).oom_score_adj(-1000));
        assert_eq!((error.kind(), error.errno()), (ErrorKind::PermissionDenied, Some(libc::EACCES)));
        assert!(error.to_string().contains("set oom_score_adj to -1000"), "{error}");
        assert!(error.to_string().contains("CAP_SYS_RESOURCE"), "{error}");
    }
    PASS
}

/// CVE-2019-16884, CVE-2025-52881: a root filesystem that has a proc of its own, of ordinary files, changes nothing and
/// is not changed. With `/proc` of the root filesystem in place of the private proc, and no look at its type, the
/// container was made and its adjustment was the host's, 0 and not 307.
fn a_proc_in_the_root_filesystem_is_never_written_to() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let fake = fixture.path("fake");
    let files = ["oom_score_adj", "attr/apparmor/exec", "attr/exec", "timens_offsets"];
    fs::create_dir_all(fake.join("proc/self/attr/apparmor"))?;
    fs::create_dir_all(fake.join("proc/self/ns"))?;
    for file in files {
        fs::write(fake.join("proc/self").join(file), "fake\n")?;
    }
    let own: i32 = read("/proc/self/oom_score_adj").parse()?;
    let adjustment = own.max(300) + 7;
    let mut spec = ContainerSpec::new("a", Rootfs::directory(&fake)).args(["/nothing"]);
    spec = spec.default_mounts(false).oom_score_adj(adjustment);
    if time_namespaces() {
        spec = spec.time(offsets(100, 100));
    }
    if apparmor() {
        spec = spec.security(Security::default().apparmor_profile("unconfined"));
    }
    // Init has done all of it when the container is made.
    let container = pod.create_container(&spec)?;
    let host = format!("/proc/{}", container.pid());
    assert_eq!(read(format!("{host}/oom_score_adj")), adjustment.to_string());
    if time_namespaces() {
        assert_ne!(fs::metadata(format!("{host}/ns/time"))?.ino(), Report::gather().time);
    }
    container.remove()?;
    for file in files {
        assert_eq!(fs::read_to_string(fake.join("proc/self").join(file))?, "fake\n");
    }
    PASS
}

/// Whether a thread of this program may take a real-time policy: a cgroup may have no share of it.
fn real_time() -> bool {
    let probe = || {
        let parameters = libc::sched_param { sched_priority: 1 };
        // SAFETY: the structure is ours; the thread ends at once.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) == 0 }
    };
    std::thread::spawn(probe).join().expect("a thread")
}

fn schedulers_are_taken() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let shared = fixture.node.create_pod(&PodSpec::new("shared").pid(PidMode::Pod))?;
    let usual = Report::gather();
    for pod in [&pod, &shared] {
        let seen = |scheduler| {
            let seen = report(pod, |spec| spec.user(1000, 1000).scheduler(scheduler));
            (seen.policy, seen.priority, seen.nice)
        };
        assert_eq!(seen(Scheduler::new(SchedulerPolicy::Batch).nice(7)), (libc::SCHED_BATCH, 0, 7));
        assert_eq!(seen(Scheduler::new(SchedulerPolicy::Other).nice(-3)), (libc::SCHED_OTHER, 0, -3));
        assert_eq!(seen(Scheduler::new(SchedulerPolicy::Idle)).0, libc::SCHED_IDLE);
        let unasked = report(pod, |spec| spec);
        assert_eq!((unasked.policy, unasked.nice), (usual.policy, usual.nice));
    }
    let fifo = Scheduler::new(SchedulerPolicy::Fifo).priority(3);
    if real_time() {
        let seen = report(&pod, |spec| spec.scheduler(fifo));
        assert_eq!((seen.policy, seen.priority), (libc::SCHED_FIFO, 3));
        let reset = Scheduler::new(SchedulerPolicy::RoundRobin).priority(4).flag(SchedulerFlag::ResetOnFork);
        let seen = report(&pod, |spec| spec.scheduler(reset));
        assert_eq!((seen.policy, seen.priority), (libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 4));
    } else {
        let error = refused(&pod, payload_spec("a", &["exit", "0"]).scheduler(fifo));
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("policy Fifo, priority 3"), "{error}");
    }
    PASS
}

fn a_scheduler_that_a_fork_would_lose_is_refused_where_there_is_one() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    for scheduler in [
        Scheduler::new(SchedulerPolicy::Deadline).deadline(1_000_000, 10_000_000, 10_000_000),
        Scheduler::new(SchedulerPolicy::Other).nice(1).flag(SchedulerFlag::ResetOnFork),
    ] {
        let error = refused(&pod, payload_spec("a", &["exit", "0"]).scheduler(scheduler));
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("scheduler")), "{error}");
    }
    PASS
}

fn io_priorities_are_taken() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for (class, number, priority) in [
        (IoPriorityClass::RealTime, 1, 2),
        (IoPriorityClass::BestEffort, 2, 6),
        (IoPriorityClass::Idle, 3, 0),
    ] {
        let seen = report(&pod, |spec| spec.user(1000, 1000).io_priority(class, priority));
        assert_eq!(seen.io_priority, number << 13 | i64::from(priority), "{class:?}");
    }
    assert_eq!(report(&pod, |spec| spec).io_priority, Report::gather().io_priority);
    PASS
}

/// The last processor that this program may use.
pub fn last_processor() -> String {
    let list = Report::gather().processors;
    list.rsplit([',', '-']).next().expect("a number").to_string()
}

fn processors_are_those_of_the_list() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (one, all) = (last_processor(), Report::gather().processors);
    assert_eq!(report(&pod, |spec| spec.cpu_affinity(&one)).processors, one);
    let with = |initial: &str, at_exec: Option<&str>| {
        let affinity = CpuAffinity { initial: Some(initial.into()), at_exec: at_exec.map(Into::into) };
        report(&pod, |mut spec| {
            spec.cpu_affinity = Some(affinity);
            spec
        })
    };
    assert_eq!(with(&one, None).processors, one);
    assert_eq!(with(&one, Some(&all)).processors, all);
    // What is said for programs that are executed in the container is not the container's own.
    assert_eq!(report(&pod, |spec| spec.exec_cpu_affinity(&one)).processors, all);
    let stdin = |mut spec: ContainerSpec| {
        spec.stdio.stdin = Stdio::Pipe;
        spec
    };
    let container =
        pod.create_container(&stdin(payload_spec("b", &["hostile-wait-for-keys"])).exec_cpu_affinity(&one))?;
    container.start()?;
    let executed = |spec: ExecSpec| -> pericarp::Result<String> {
        let process = container.exec(&spec.stdout(Stdio::Pipe))?;
        let text = std::io::read_to_string(process.take_stdout().expect("a pipe")).expect("read a pipe");
        process.wait()?;
        Ok(serde_json::from_str::<Report>(&text).expect("a report").processors)
    };
    let look = || ExecSpec::new(["/payload", "payload", "attributes"]);
    assert_eq!(executed(look())?, one);
    let mut own = look();
    own.cpu_affinity = Some(CpuAffinity { initial: None, at_exec: Some(all.clone()) });
    assert_eq!(executed(own)?, all);
    assert_eq!(report(&pod, |spec| spec).processors, all);
    PASS
}

fn processors_that_are_not_there_are_told() -> Outcome {
    let fixture = Fixture::new();
    let error = refused(&fixture.pod("web"), payload_spec("a", &["exit", "0"]).cpu_affinity("8000-8191"));
    assert_eq!(error.errno(), Some(libc::EINVAL));
    assert!(error.to_string().contains("stay on the processors 8000-8191"), "{error}");
    assert!(error.to_string().contains("cpuset of the container's cgroup"), "{error}");
    PASS
}

fn execution_domains_are_taken() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let seen = |personality| {
        let seen = report(&pod, |spec| spec.personality(personality));
        (seen.personality, seen.machine)
    };
    let machine = Report::gather().machine;
    assert_eq!(seen(Personality::Linux), (0, machine.clone()));
    let (number, other) = seen(Personality::Linux32);
    assert_eq!(number, 8);
    assert_ne!(other, machine);
    if cfg!(target_arch = "x86_64") {
        assert_eq!(other, "i686");
    }
    PASS
}

const NO_TIME: &str = "this kernel has no time namespaces (CONFIG_TIME_NS)";

pub fn time_namespaces() -> bool {
    Path::new("/proc/self/ns/time").exists()
}

pub fn offsets(monotonic: i64, boottime: i64) -> TimeNamespace {
    TimeNamespace::New(TimeOffsets {
        monotonic: TimeOffset { secs: monotonic, nanosecs: 5 },
        boottime: TimeOffset { secs: boottime, nanosecs: 0 },
    })
}

fn clocks_are_offset_in_a_time_namespace() -> Outcome {
    if !time_namespaces() {
        return skip(NO_TIME);
    }
    let fixture = Fixture::new();
    let own = Report::gather();
    let (days, weeks) = (86_400 * 3, 86_400 * 70);
    for pod in [PodSpec::new("one"), PodSpec::new("shared").pid(PidMode::Pod)] {
        let pod = fixture.node.create_pod(&pod)?;
        let before = Report::gather();
        let seen = report(&pod, |spec| spec.user(1000, 1000).time(offsets(days, weeks)));
        let after = Report::gather();
        // The clocks of the machine, and so much more; the nanoseconds may carry one second.
        assert!((before.monotonic + days..=after.monotonic + days + 1).contains(&seen.monotonic));
        assert!((before.boottime + weeks..=after.boottime + weeks).contains(&seen.boottime));
        assert_ne!(seen.time, own.time);
        assert_eq!(seen.time, seen.time_for_children);
        let numbers = seen.offsets.split_ascii_whitespace().collect::<Vec<_>>();
        assert_eq!(numbers, ["monotonic", &days.to_string(), "5", "boottime", &weeks.to_string(), "0"]);
        assert_eq!(report(&pod, |spec| spec).time, own.time);
    }
    PASS
}

fn a_time_namespace_can_be_another_containers() -> Outcome {
    if !time_namespaces() {
        return skip(NO_TIME);
    }
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let first = pod.create_container(&payload_spec("first", &["sleep"]).time(offsets(1000, 2000)))?;
    let path = format!("/proc/{}/ns/time", first.pid());
    let inode = fs::metadata(&path)?.ino();
    let seen = report(&pod, |spec| spec.time(TimeNamespace::Path(path.into())));
    assert_eq!((seen.time, seen.time_for_children), (inode, inode));
    first.remove()?;
    PASS
}

fn what_is_no_time_namespace_is_told() -> Outcome {
    if !time_namespaces() {
        return skip(NO_TIME);
    }
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let at =
        |path: &str| refused(&pod, payload_spec("a", &["exit", "0"]).time(TimeNamespace::Path(path.into())));
    for path in ["/proc/self/ns/uts", "/dev/null"] {
        let error = at(path);
        assert_eq!(error.errno(), Some(libc::EINVAL), "{error}");
        assert!(error.to_string().contains("no time namespace"), "{error}");
    }
    let error = at("/nowhere");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("open the time namespace /nowhere"), "{error}");
    PASS
}

fn a_clock_before_zero_is_told() -> Outcome {
    if !time_namespaces() {
        return skip(NO_TIME);
    }
    let fixture = Fixture::new();
    let century = -86_400 * 36_500;
    let error = refused(&fixture.pod("web"), payload_spec("a", &["exit", "0"]).time(offsets(century, 0)));
    assert_eq!(error.errno(), Some(libc::ERANGE));
    assert!(error.to_string().contains("set offsets of the time namespace"), "{error}");
    assert!(error.to_string().contains("before 0"), "{error}");
    PASS
}

/// All of it is done by init: nothing of it touches the program that asks for it.
fn the_hosts_attributes_stay() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let unchanging = || {
        let report = Report::gather();
        let numbers = BTreeMap::from([("policy", i64::from(report.policy)), ("nice", report.nice.into())]);
        (
            numbers,
            report.io_priority,
            report.processors,
            report.personality,
            report.oom_score_adj,
            report.time,
        )
    };
    let before = unchanging();
    let change = |spec: ContainerSpec| {
        let spec = spec
            .oom_score_adj(1000)
            .scheduler(Scheduler::new(SchedulerPolicy::Batch).nice(19))
            .io_priority(IoPriorityClass::Idle, 0)
            .cpu_affinity(last_processor())
            .personality(Personality::Linux32);
        if time_namespaces() { spec.time(offsets(77, 78)) } else { spec }
    };
    let seen = report(&pod, change);
    assert_eq!((seen.policy, seen.nice, seen.personality), (libc::SCHED_BATCH, 19, 8));
    assert_eq!(unchanging(), before);
    PASS
}

pub fn apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

pub fn selinux() -> bool {
    read("/proc/filesystems").contains("selinuxfs")
}

fn labels_of_a_machine_without_them_are_told() -> Outcome {
    if apparmor() && selinux() {
        return skip("this machine has both AppArmor and SELinux");
    }
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let with = |security| payload_spec("a", &["exit", "0"]).security(security);
    let lacking = |security, words: &str| {
        let error = refused(&pod, with(security));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    if !selinux() {
        let label = "system_u:system_r:container_t:s0:c1,c2";
        lacking(Security::default().selinux_label(label), "SELinux is not enabled");
        lacking(Security::default().mount_label(label), "SELinux is not enabled");
        let error =
            fixture.node.create_pod(&PodSpec::new("b").mount_label(label)).expect_err("a pod was made");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("SELinux is not enabled"), "{error}");
    }
    if !apparmor() {
        lacking(Security::default().apparmor_profile("docker-default"), "AppArmor is not enabled");
        // No profile is what such a machine has.
        assert!(pod.run(&with(Security::default().apparmor_profile("unconfined")))?.success());
    }
    PASS
}

fn an_apparmor_profile_goes_to_the_kernel() -> Outcome {
    if !apparmor() {
        return skip("AppArmor is not enabled on this machine");
    }
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let with = |profile: &str| {
        payload_spec("a", &["exit", "0"]).security(Security::default().apparmor_profile(profile))
    };
    assert!(pod.run(&with("unconfined"))?.success());
    let error = refused(&pod, with("pericarp-no-such-profile"));
    assert_eq!(error.errno(), Some(libc::ENOENT), "{error}");
    assert!(error.to_string().contains("no such profile is loaded"), "{error}");
    PASS
}
