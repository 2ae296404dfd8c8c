//! The metrics, one after the other: each is written once, with all its samples.

use super::super::types::{CpuStats, DeviceIo, FilesystemStats, InterfaceStats, Pressure};
use super::super::{ContainerStats, MachineStats, MemoryStats, PodStats};
use super::{Kind, Row, Text, details, labels, limit, total};

use Kind::{Counter, Gauge};

/// The metrics of cAdvisor, and those of the kubelet that have containers in their names.
pub(super) fn containers(text: &mut Text, rows: &[Row<'_>]) {
    cpu(text, rows);
    details::cpu_limits(text, rows);
    memory(text, rows);
    details::memory(text, rows);
    pressure(text, rows);
    io(text, rows);
    network(text, rows);
    rest(text, rows);
}

fn cpu(text: &mut Text, rows: &[Row<'_>]) {
    let mut seconds = |name, help, more: &str, value: fn(&CpuStats) -> Option<u64>| {
        let mut family = text.family(name, Counter, help);
        for row in rows {
            let cpu = row.cgroup.map(|cgroup| &cgroup.cpu).or(row.machine().map(|machine| &machine.cpu));
            family.seconds(&row.labels, more, cpu.and_then(value));
        }
    };
    let all = labels(&[("cpu", "total")]);
    seconds("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", &all, |cpu| {
        cpu.usage_usec
    });
    seconds("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", "", |cpu| {
        cpu.user_usec
    });
    seconds(
        "container_cpu_system_seconds_total",
        "Cumulative system cpu time consumed in seconds.",
        "",
        |cpu| cpu.system_usec,
    );
    seconds(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time the container has been throttled, in seconds.",
        "",
        |cpu| cpu.throttled_usec,
    );
    seconds(
        "container_cpu_cfs_burst_seconds_total",
        "Total time the container has run in bursts, in seconds.",
        "",
        |cpu| cpu.burst_usec,
    );
    let mut count = |name, help, value: fn(&CpuStats) -> Option<u64>| {
        let mut family = text.family(name, Counter, help);
        for row in rows {
            family.plain(&row.labels, "", row.cgroup.and_then(|cgroup| value(&cgroup.cpu)));
        }
    };
    count("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", |cpu| {
        cpu.periods
    });
    count("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", |cpu| {
        cpu.throttled_periods
    });
    count("container_cpu_cfs_burst_periods_total", "Number of periods in which bursts occurred.", |cpu| {
        cpu.burst_periods
    });
}

fn memory(text: &mut Text, rows: &[Row<'_>]) {
    let mut put = |name, kind, help, value: fn(&MemoryStats) -> Option<u64>, machine: Option<u64>| {
        let mut family = text.family(name, kind, help);
        for row in rows {
            let of_machine = row.machine().and(machine);
            family.plain(&row.labels, "", row.memory().and_then(value).or(of_machine));
        }
    };
    let machine = rows.iter().find_map(Row::machine);
    let usage = machine.and_then(|machine| machine.memory_usage_bytes);
    let working_set = machine.and_then(|machine| machine.working_set_bytes);
    put("container_memory_usage_bytes", Gauge, "Current memory usage in bytes.", |m| m.usage_bytes, usage);
    put(
        "container_memory_working_set_bytes",
        Gauge,
        "Current working set in bytes.",
        |m| m.working_set_bytes,
        working_set,
    );
    put(
        "container_memory_max_usage_bytes",
        Gauge,
        "Maximum memory usage recorded in bytes.",
        |m| m.peak_bytes,
        None,
    );
    put("container_memory_rss", Gauge, "Size of anonymous memory in bytes.", |m| m.stat.anon_bytes, None);
    put(
        "container_memory_cache",
        Gauge,
        "Number of bytes of page cache memory.",
        |m| m.stat.file_bytes,
        None,
    );
    put(
        "container_memory_kernel_usage",
        Gauge,
        "Size of kernel memory in bytes.",
        |m| m.stat.kernel_bytes,
        None,
    );
    put(
        "container_memory_mapped_file",
        Gauge,
        "Size of memory mapped files in bytes.",
        |m| m.stat.mapped_file_bytes,
        None,
    );
    put(
        "container_memory_total_active_file_bytes",
        Gauge,
        "Current total active file in bytes.",
        |m| m.stat.active_file_bytes,
        None,
    );
    put(
        "container_memory_total_inactive_file_bytes",
        Gauge,
        "Current total inactive file in bytes.",
        |m| m.stat.inactive_file_bytes,
        None,
    );
    put("container_memory_swap", Gauge, "Container swap usage in bytes.", |m| m.swap_bytes, None);
    put(
        "container_swap_usage_bytes",
        Gauge,
        "Current amount of the container swap usage in bytes.",
        |m| m.swap_bytes,
        None,
    );
    put("container_memory_failcnt", Counter, "Number of memory usage hits limits.", |m| m.events.max, None);
    put("container_oom_events_total", Counter, "Count of out of memory kills.", |m| m.events.oom_kill, None);
    put(
        "container_spec_memory_limit_bytes",
        Gauge,
        "Memory limit for the container; 0 is none.",
        |m| limit(m.limit),
        None,
    );
    put(
        "container_spec_memory_swap_limit_bytes",
        Gauge,
        "Memory swap limit for the container; 0 is none.",
        |m| limit(m.swap_limit),
        None,
    );
    put(
        "container_spec_memory_reservation_limit_bytes",
        Gauge,
        "Memory reservation limit for the container.",
        |m| limit(m.min),
        None,
    );
    let mut faults =
        text.family("container_memory_failures_total", Counter, "Cumulative count of page faults.");
    for row in rows {
        let Some(memory) = row.memory() else { continue };
        for (kind, value) in
            [("pgfault", memory.stat.page_faults), ("pgmajfault", memory.stat.major_page_faults)]
        {
            // A cgroup counts what is below it, too.
            let more = labels(&[("failure_type", kind), ("scope", "hierarchy")]);
            faults.plain(&row.labels, &more, value);
        }
    }
}

fn pressure(text: &mut Text, rows: &[Row<'_>]) {
    let mut put = |name, help, of: fn(&super::super::types::PressureStats) -> Option<Pressure>, full| {
        let mut family = text.family(name, Counter, help);
        for row in rows {
            let all = row.cgroup.map(|cgroup| &cgroup.pressure).or(row.machine().map(|m| &m.pressure));
            let one = all.and_then(of);
            let stall = one.and_then(|one| if full { one.full } else { Some(one.some) });
            family.seconds(&row.labels, "", total(stall));
        }
    };
    put(
        "container_pressure_cpu_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to CPU congestion.",
        |all| all.cpu,
        false,
    );
    put(
        "container_pressure_cpu_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to CPU congestion.",
        |all| all.cpu,
        true,
    );
    put(
        "container_pressure_memory_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to memory congestion.",
        |all| all.memory,
        false,
    );
    put(
        "container_pressure_memory_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to memory congestion.",
        |all| all.memory,
        true,
    );
    put(
        "container_pressure_io_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to IO congestion.",
        |all| all.io,
        false,
    );
    put(
        "container_pressure_io_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to IO congestion.",
        |all| all.io,
        true,
    );
}

fn io(text: &mut Text, rows: &[Row<'_>]) {
    let path = |device: &DeviceIo| {
        device.name.as_ref().map_or(String::new(), |name| format!("/dev/{}", name.replace('!', "/")))
    };
    let devices = |row: &Row<'_>| row.cgroup.and_then(|cgroup| cgroup.io.clone()).unwrap_or_default();
    let mut put = |name, help, value: fn(&DeviceIo) -> Option<u64>| {
        let mut family = text.family(name, Counter, help);
        for row in rows {
            for device in devices(row) {
                let (major, minor) = (device.major.to_string(), device.minor.to_string());
                let more = labels(&[("device", &path(&device)), ("major", &major), ("minor", &minor)]);
                family.plain(&row.labels, &more, value(&device));
            }
        }
    };
    put("container_fs_reads_bytes_total", "Cumulative count of bytes read.", |d| d.counters.read_bytes);
    put("container_fs_writes_bytes_total", "Cumulative count of bytes written.", |d| {
        d.counters.written_bytes
    });
    put("container_fs_reads_total", "Cumulative count of reads completed.", |d| d.counters.reads);
    put("container_fs_writes_total", "Cumulative count of writes completed.", |d| d.counters.writes);
    let mut usage = text.family("container_blkio_device_usage_total", Counter, "Blkio device bytes usage.");
    for row in rows {
        for device in devices(row) {
            let (major, minor) = (device.major.to_string(), device.minor.to_string());
            for (operation, value) in [
                ("Read", device.counters.read_bytes),
                ("Write", device.counters.written_bytes),
                ("Discard", device.counters.discarded_bytes),
            ] {
                let more = labels(&[
                    ("device", &path(&device)),
                    ("major", &major),
                    ("minor", &minor),
                    ("operation", operation),
                ]);
                usage.plain(&row.labels, &more, value);
            }
        }
    }
}

fn network(text: &mut Text, rows: &[Row<'_>]) {
    let mut put = |name, help, value: fn(&InterfaceStats) -> u64| {
        let mut family = text.family(name, Counter, help);
        for row in rows {
            for interface in row.interfaces() {
                family.plain(&row.labels, &labels(&[("interface", &interface.name)]), Some(value(interface)));
            }
        }
    };
    put("container_network_receive_bytes_total", "Cumulative count of bytes received.", |i| i.received_bytes);
    put("container_network_receive_packets_total", "Cumulative count of packets received.", |i| {
        i.received_packets
    });
    put(
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving.",
        |i| i.receive_errors,
    );
    put(
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving.",
        |i| i.receive_dropped,
    );
    put("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted.", |i| i.sent_bytes);
    put("container_network_transmit_packets_total", "Cumulative count of packets transmitted.", |i| {
        i.sent_packets
    });
    put(
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting.",
        |i| i.send_errors,
    );
    put(
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting.",
        |i| i.send_dropped,
    );
}

fn rest(text: &mut Text, rows: &[Row<'_>]) {
    let cgroups = || rows.iter().filter_map(|row| Some((row, row.cgroup?)));
    let mut family =
        text.family("container_processes", Gauge, "Number of processes running inside the container.");
    cgroups().for_each(|(row, cgroup)| family.plain(&row.labels, "", cgroup.processes));
    let mut family =
        text.family("container_threads", Gauge, "Number of threads running inside the container.");
    let pids = || cgroups().filter_map(|(row, cgroup)| Some((row, cgroup.pids.as_ref()?)));
    pids().for_each(|(row, pids)| family.plain(&row.labels, "", pids.current));
    let mut family = text.family("container_threads_peak", Gauge, "The most threads that there were inside.");
    pids().for_each(|(row, pids)| family.plain(&row.labels, "", pids.peak));
    let mut family = text.family(
        "container_threads_max",
        Gauge,
        "Maximum number of threads allowed inside the container; 0 is no limit.",
    );
    pids().for_each(|(row, pids)| family.plain(&row.labels, "", limit(pids.limit)));

    let pages = || {
        cgroups().flat_map(|(row, cgroup)| {
            cgroup
                .hugetlb
                .iter()
                .flatten()
                .map(move |(size, pages)| (row, labels(&[("pagesize", size)]), pages))
        })
    };
    let mut family = text.family("container_hugetlb_usage_bytes", Gauge, "Current hugepage usage in bytes.");
    pages().for_each(|(row, size, pages)| family.plain(&row.labels, &size, pages.usage_bytes));
    let mut family =
        text.family("container_hugetlb_failcnt", Counter, "Number of hugepage usage hits limits.");
    pages().for_each(|(row, size, pages)| family.plain(&row.labels, &size, pages.limit_hits));
    let adapters = || {
        cgroups().flat_map(|(row, cgroup)| {
            cgroup.rdma.iter().flatten().map(move |(name, used)| (row, labels(&[("device", name)]), used))
        })
    };
    let mut family = text.family("container_rdma_hca_handles", Gauge, "Handles in use of an RDMA adapter.");
    adapters().for_each(|(row, name, used)| family.plain(&row.labels, &name, used.hca_handles));
    let mut family = text.family("container_rdma_hca_objects", Gauge, "Objects in use of an RDMA adapter.");
    adapters().for_each(|(row, name, used)| family.plain(&row.labels, &name, used.hca_objects));
    let mut family = text.family("container_misc_usage", Gauge, "Use of a resource of the misc controller.");
    for (row, cgroup) in cgroups() {
        for (name, used) in cgroup.misc.iter().flatten() {
            family.plain(&row.labels, &labels(&[("resource", name)]), Some(*used));
        }
    }

    let own = || rows.iter().filter_map(|row| Some((row, row.container()?)));
    let mut family = text.family(
        "container_start_time_seconds",
        Gauge,
        "Start time of the container since unix epoch in seconds.",
    );
    own().for_each(|(row, container)| family.seconds(&row.labels, "", container.started_at_usec));
    let mut family =
        text.family("container_last_seen", Gauge, "Last time a container was seen by the exporter.");
    rows.iter().for_each(|row| family.seconds(&row.labels, "", row.read_at().filter(|at| *at > 0)));
    let mut layer = |name, help, value: fn(&FilesystemStats) -> Option<u64>| {
        let mut family = text.family(name, Gauge, help);
        for (row, container) in own() {
            let ContainerStats { writable_layer, .. } = container;
            let Some(layer) = writable_layer else { continue };
            family.plain(&row.labels, &labels(&[("device", &layer.device)]), value(layer));
        }
    };
    layer("container_fs_usage_bytes", "Number of bytes in the container's writable layer.", |fs| {
        Some(fs.used_bytes)
    });
    layer("container_fs_limit_bytes", "Number of bytes of the filesystem that it is on.", |fs| {
        Some(fs.capacity_bytes)
    });
    layer("container_fs_inodes_total", "Number of inodes of the filesystem that it is on.", |fs| fs.inodes);
    layer("container_fs_inodes_free", "Number of available inodes of that filesystem.", |fs| fs.free_inodes);
}

/// The kubelet's metrics of pods, and of their volumes.
pub(super) fn pods(text: &mut Text, pods: &[PodStats]) {
    let names = |pod: &PodStats| labels(&[("namespace", pod.namespace.as_str()), ("pod", pod.name.as_str())]);
    let mut family = text.family(
        "pod_cpu_usage_seconds_total",
        Counter,
        "Cumulative cpu time consumed by the pod in core-seconds.",
    );
    pods.iter().for_each(|pod| family.seconds(&names(pod), "", pod.cgroup.cpu.usage_usec));
    let memory =
        |pod: &PodStats, value: fn(&MemoryStats) -> Option<u64>| pod.cgroup.memory.as_ref().and_then(value);
    let mut family =
        text.family("pod_memory_working_set_bytes", Gauge, "Current working set of the pod in bytes.");
    pods.iter().for_each(|pod| family.plain(&names(pod), "", memory(pod, |m| m.working_set_bytes)));
    let mut family =
        text.family("pod_swap_usage_bytes", Gauge, "Current amount of the pod swap usage in bytes.");
    pods.iter().for_each(|pod| family.plain(&names(pod), "", memory(pod, |m| m.swap_bytes)));
    let mut volume = |name, help, value: fn(&FilesystemStats) -> Option<u64>| {
        let mut family = text.family(name, Gauge, help);
        for pod in pods {
            for (volume, stats) in &pod.volumes {
                family.plain(&names(pod), &labels(&[("volume", volume)]), value(stats));
            }
        }
    };
    volume("kubelet_volume_stats_used_bytes", "Number of used bytes in the volume.", |fs| {
        Some(fs.used_bytes)
    });
    volume("kubelet_volume_stats_capacity_bytes", "Capacity in bytes of the volume.", |fs| {
        Some(fs.capacity_bytes)
    });
    volume("kubelet_volume_stats_available_bytes", "Number of available bytes in the volume.", |fs| {
        Some(fs.available_bytes)
    });
    volume("kubelet_volume_stats_inodes_used", "Number of used inodes in the volume.", |fs| {
        Some(fs.used_inodes)
    });
    volume("kubelet_volume_stats_inodes", "Maximum number of inodes in the volume.", |fs| fs.inodes);
    volume("kubelet_volume_stats_inodes_free", "Number of free inodes in the volume.", |fs| fs.free_inodes);
}

/// The kubelet's and cAdvisor's metrics of the machine.
pub(super) fn node(text: &mut Text, machine: &MachineStats) {
    let mut family = text.family(
        "node_cpu_usage_seconds_total",
        Counter,
        "Cumulative cpu time consumed by the node in core-seconds.",
    );
    family.seconds("", "", machine.cpu.usage_usec);
    let mut put = |name, help, value| text.family(name, Gauge, help).plain("", "", value);
    put(
        "node_memory_working_set_bytes",
        "Current working set of the node in bytes.",
        machine.working_set_bytes,
    );
    put("node_swap_usage_bytes", "Current swap usage of the node in bytes.", machine.swap_usage_bytes);
    put("machine_cpu_cores", "Number of logical CPU cores.", machine.processors);
    put("machine_memory_bytes", "Amount of memory installed on the machine.", machine.memory_bytes);
    put("machine_swap_bytes", "Amount of swap memory available on the machine.", machine.swap_bytes);
}
