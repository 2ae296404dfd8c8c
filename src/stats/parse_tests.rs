use proptest::prelude::*;

use super::super::types::{CpuStats, MemoryDetail, MemoryEvents};
use super::*;

const CPU: &[u8] = b"usage_usec 8002537\nuser_usec 6002537\nsystem_usec 2000000\nnice_usec 0\n\
    core_sched.force_idle_usec 0\nnr_periods 20\nnr_throttled 7\nthrottled_usec 1234567\nnr_bursts 2\nburst_usec 99\n";
const MEMORY: &[u8] = b"anon 1048576\nfile 4096\nkernel 90112\nfile_mapped 2048\ninactive_file 1024\n\
    pgfault 345\npgmajfault 6\nnumber_of_a_later_kernel 5\n";
const IO: &[u8] = b"8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n254:16 cost.vrate=100.00\n\
    7:1 \n259:3 rbytes=1 cost.usage=77 wbytes=18446744073709551615 rios=1 wios=1 dbytes=9 dios=3\n";
const PRESSURE: &[u8] = b"some avg10=1.25 avg60=0.50 avg300=100.00 total=9693357211\n\
    full avg10=0.00 avg60=0.07 avg300=0.00 total=12\n";

#[test]
fn quotas_are_read_with_their_period() {
    let max = |quota, period| Some(CpuMax { quota, period });
    assert_eq!(cpu_max(b"max 100000\n"), max(Limit::MAX, 100_000));
    assert_eq!(cpu_max(b"20000 50000\n"), max(Limit::At(20_000), 50_000));
    for wrong in [&b""[..], b"max", b"20000", b"x 5", b"5 x"] {
        assert_eq!(cpu_max(wrong), None);
    }
}

#[test]
fn numbers_are_numbers_and_nothing_else() {
    assert_eq!(number(b"18446744073709551615\n"), Some(u64::MAX));
    for wrong in
        [&b""[..], b"\n", b"max", b"-1", b"+1", b"1 2", b"0x1", b"18446744073709551616", b"1.0", b"\xff"]
    {
        assert_eq!(number(wrong), None, "{wrong:?}");
    }
    assert_eq!(limit(b"max\n"), Some(Limit::MAX));
    assert_eq!(limit(b"4096\n"), Some(Limit::At(4096)));
    assert_eq!(limit(b"maximum\n"), None);
}

#[test]
fn flat_files_fill_what_is_known() {
    let mut cpu = CpuStats::default();
    flat(CPU, |key, value| cpu.take(key, value));
    assert_eq!(
        cpu,
        CpuStats {
            usage_usec: Some(8_002_537),
            user_usec: Some(6_002_537),
            system_usec: Some(2_000_000),
            periods: Some(20),
            throttled_periods: Some(7),
            throttled_usec: Some(1_234_567),
            burst_periods: Some(2),
            burst_usec: Some(99),
            ..CpuStats::default()
        }
    );
    let mut memory = MemoryDetail::default();
    flat(MEMORY, |key, value| memory.take(key, value));
    assert_eq!((memory.anon_bytes, memory.inactive_file_bytes), (Some(1 << 20), Some(1024)));
    assert_eq!((memory.page_faults, memory.major_page_faults), (Some(345), Some(6)));
    assert_eq!(memory.slab_bytes, None, "what is not said is not 0");
}

#[test]
fn devices_with_nothing_to_tell_are_left_out() {
    let devices = io(IO);
    let ids: Vec<(u32, u32)> = devices.iter().map(|device| (device.major, device.minor)).collect();
    assert_eq!(ids, [(8, 0), (259, 3)]);
    assert_eq!(devices[0].counters.written_bytes, Some(8192));
    assert_eq!(devices[1].counters.written_bytes, Some(u64::MAX));
    assert_eq!(devices[1].counters.discards, Some(3));
}

#[test]
fn pressure_is_read_with_and_without_full() {
    let all = pressure(PRESSURE).unwrap();
    assert_eq!(all.some, Stall { avg10: 1.25, avg60: 0.5, avg300: 100.0, total_usec: 9_693_357_211 });
    assert_eq!(all.full.map(|full| full.total_usec), Some(12));
    let some = PRESSURE.split(|byte| *byte == b'\n').next().unwrap();
    assert_eq!(pressure(some).unwrap().full, None);
    for wrong in [
        &b""[..],
        b"full avg10=0.00 avg60=0.07 avg300=0.00 total=12\n",
        b"some avg10=nan total=1\n",
        b"some avg10=1e5 total=1\n",
        b"some avg10=0.00 total=-1\n",
        b"some avg10=0.00\n",
    ] {
        assert_eq!(pressure(wrong), None, "{}", String::from_utf8_lossy(wrong));
    }
}

#[test]
fn files_with_names_of_the_machines_own() {
    let adapters = rdma(b"mlx5_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n");
    assert_eq!(adapters["mlx5_0"].hca_objects, Some(2000));
    assert_eq!((adapters["ocrdma1"].hca_handles, adapters["ocrdma1"].hca_objects), (Some(3), None));
    assert_eq!(named(b"res_a 3\nres_b 0\n"), [("res_a".to_string(), 3), ("res_b".to_string(), 0)].into());
}

/// Everything that reads a file, on any file.
fn read_all(text: &[u8]) {
    let _ = (number(text), limit(text), io(text), pressure(text), rdma(text), named(text));
    let (mut cpu, mut memory, mut events) =
        (CpuStats::default(), MemoryDetail::default(), MemoryEvents::default());
    flat(text, |key, value| {
        cpu.take(key, value);
        memory.take(key, value);
        events.take(key, value);
        cpu_max(text);
    });
    if let Some(found) = pressure(text) {
        let stalls = [Some(found.some), found.full].into_iter().flatten();
        assert!(
            stalls.flat_map(|s| [s.avg10, s.avg60, s.avg300]).all(|share| share.is_finite() && share >= 0.0)
        );
    }
}

/// A file of the kernel's with one piece of it changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![Just(CPU), Just(MEMORY), Just(IO), Just(PRESSURE)];
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8),
        prop_oneof![
            Just("\n"),
            Just(" "),
            Just("="),
            Just(":"),
            Just("."),
            Just("max"),
            Just("999999999999999999999")
        ]
        .prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    (whole, any::<prop::sample::Index>(), 0..9_usize, piece).prop_map(|(whole, at, cut, piece)| {
        let at = at.index(whole.len());
        let mut text = whole.to_vec();
        text.splice(at..(at + cut).min(whole.len()), piece);
        text
    })
}

proptest! {
    #[test]
    fn no_file_makes_the_parsers_fail(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_all(&text);
    }

    #[test]
    fn no_damage_makes_the_parsers_fail(text in damaged()) {
        read_all(&text);
    }

    #[test]
    fn numbers_come_back(value in any::<u64>(), before in "[ \n\t]{0,2}", after in "[ \n]{0,2}") {
        prop_assert_eq!(number(format!("{before}{value}{after}").as_bytes()), Some(value));
    }

    #[test]
    fn keys_that_nobody_knows_change_nothing(key in "[a-z_.]{1,12}", value in any::<u64>()) {
        let known = CPU.split(|byte| *byte == b'\n').any(|line| line.starts_with(format!("{key} ").as_bytes()));
        prop_assume!(!known);
        let mut cpu = CpuStats::default();
        flat(format!("{key} {value}\n").as_bytes(), |key, value| cpu.take(key, value));
        prop_assert_eq!(cpu, CpuStats::default());
    }
}
