//! What network devices have counted.

use super::{IFLA_IFNAME, NLM_F_DUMP, Netlink, RTM_GETLINK, RTM_NEWLINK, attributes, link_message};
use crate::sys::Result;

const IFLA_STATS64: u16 = 23;
/// `struct ifinfomsg`.
const INFO: usize = 16;
/// Where `rx_missed_errors` is: dropped by the device, which `/proc/net/dev` counts with what was dropped later.
const MISSED: usize = 15;

/// The first members of `struct rtnl_link_stats64`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LinkCounters {
    pub(crate) name: String,
    pub(crate) rx_packets: u64,
    pub(crate) tx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) rx_errors: u64,
    pub(crate) tx_errors: u64,
    /// By the device or after it.
    pub(crate) rx_dropped: u64,
    pub(crate) tx_dropped: u64,
}

impl Netlink {
    /// The counters of all devices of the namespace.
    pub(crate) fn counters(&mut self) -> Result<Vec<LinkCounters>> {
        let replies = self.request(RTM_GETLINK, NLM_F_DUMP, &link_message(0, 0, 0))?;
        let links = replies.iter().filter(|(kind, _)| *kind == RTM_NEWLINK);
        Ok(links.filter_map(|(_, body)| read(body)).collect())
    }
}

/// A device of the kernel's reply; `None` if it has no name or no counters, which every device has.
fn read(body: &[u8]) -> Option<LinkCounters> {
    let (mut name, mut counters) = (None, None);
    for (kind, value) in attributes(body.get(INFO..)?) {
        match kind {
            IFLA_IFNAME => name = Some(value.strip_suffix(b"\0").unwrap_or(value)),
            IFLA_STATS64 => counters = Some(value),
            _ => {}
        }
    }
    let (chunks, _) = counters?.as_chunks::<8>();
    let mut numbers = chunks.iter().map(|chunk| u64::from_ne_bytes(*chunk));
    let missed = numbers.clone().nth(MISSED).unwrap_or(0);
    let mut next = || numbers.next();
    Some(LinkCounters {
        name: String::from_utf8_lossy(name?).into_owned(),
        rx_packets: next()?,
        tx_packets: next()?,
        rx_bytes: next()?,
        tx_bytes: next()?,
        rx_errors: next()?,
        tx_errors: next()?,
        rx_dropped: next()?.saturating_add(missed),
        tx_dropped: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{HEADER, attribute};
    use super::*;

    #[test]
    fn the_loopback_device_counts_what_it_sends_to_itself() {
        let lo = || {
            let all = Netlink::open().unwrap().counters().unwrap();
            all.into_iter().find(|link| link.name == "lo").expect("lo")
        };
        let before = lo();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
        let after = lo();
        assert!(after.rx_bytes >= before.rx_bytes + 1000 && after.tx_bytes >= before.tx_bytes + 1000);
        assert!(after.rx_packets > before.rx_packets && after.tx_packets > before.tx_packets);
    }

    #[test]
    fn replies_that_are_cut_short_are_no_devices() {
        let mut body = link_message(1, 0, 0);
        attribute(&mut body, IFLA_IFNAME, b"eth0\0");
        let counters: Vec<u8> = (1..=24_u64).flat_map(u64::to_ne_bytes).collect();
        attribute(&mut body, IFLA_STATS64, &counters);
        let link = read(&body).unwrap();
        assert_eq!((link.name.as_str(), link.rx_packets, link.tx_dropped), ("eth0", 1, 8));
        assert_eq!(link.rx_dropped, 7 + 16);
        for length in 0..body.len() - (24 - 8) * 8 {
            assert_eq!(read(&body[..length]), None, "{length}");
        }
        assert!(HEADER + body.len() < 1 << 16);
    }
}
