//! Who listens at an address.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) process: u32,
    /// Its program's name.
    pub(super) name: String,
}

/// The processes that listen at `addr` or at an address that takes it up, as far as this user may see them: the first
/// process of each program.
pub(super) fn holders(addr: SocketAddr) -> Vec<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let sockets: Vec<u64> = tables.iter().flat_map(|table| listening(table, addr)).collect();
    let mut programs: BTreeMap<String, u32> = BTreeMap::new();
    for process in processes().filter(|process| has_socket(*process, &sockets)) {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        let first = programs.entry(name.trim().to_owned()).or_insert(process);
        *first = process.min(*first);
    }
    programs.into_iter().map(|(name, process)| Holder { process, name }).collect()
}

/// In words: `nginx (process 7) and lb (process 9)`; `None` if nobody is seen.
pub(super) fn names(holders: &[Holder]) -> Option<String> {
    let names: Vec<String> =
        holders.iter().map(|holder| format!("{} (process {})", holder.name, holder.process)).collect();
    (!names.is_empty()).then(|| names.join(" and "))
}

/// The inodes of sockets in a table of the kernel that listen where `addr` would.
fn listening(table: &str, addr: SocketAddr) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = local_addr(fields.get(1)?)?;
        let is_there = *fields.get(3)? == LISTEN && local.port() == addr.port() && overlap(local.ip(), addr.ip());
        is_there.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().filter_map(socket).collect()
}

/// Whether two sockets on these addresses would be in each other's way.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one.to_canonical() == other.to_canonical() || one.is_unspecified() || other.is_unspecified()
}

/// `0100007F:1F90`: the address as words of the machine in hexadecimal digits, the port.
fn local_addr(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words = ip.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok().filter(|word| word.len() == 8)?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    });
    let bytes = words.collect::<Option<Vec<[u8; 4]>>>()?.concat();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::from(Ipv4Addr::from(bytes)),
        Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn has_socket(process: u32, sockets: &[u64]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let socket = |target: &str| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok();
    let mut targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    targets.any(|target| target.to_str().and_then(socket).is_some_and(|inode| sockets.contains(&inode)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_of_the_kernels_tables_are_read() {
        let cases = [
            ("0100007F:4269", "127.0.0.1:17001"),
            ("00000000:0050", "0.0.0.0:80"),
            ("00000000000000000000000001000000:1F90", "[::1]:8080"),
            ("B80D0120000000000000000001000000:0016", "[2001:db8::1]:22"),
        ];
        for (text, addr) in cases {
            assert_eq!(local_addr(text), Some(addr.parse().unwrap()));
        }
        for broken in ["", "local_address", "0100007F", "xyz:1", "0100:1"] {
            assert_eq!(local_addr(broken), None);
        }
    }

    #[test]
    fn only_who_listens_at_the_address_or_at_all_is_in_the_way() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0\n\
             1: 0200007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0\n\
             2: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0\n\
             3: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 14 1 0 100 0 0 10 0\n";
        assert_eq!(listening(table, "127.0.0.1:8080".parse().unwrap()), [11, 13]);
        assert_eq!(listening(table, "0.0.0.0:8080".parse().unwrap()), [11, 12, 13]);
        assert_eq!(listening(table, "127.0.0.1:80".parse().unwrap()), Vec::<u64>::new());
    }

    #[test]
    fn this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = holders(listener.local_addr().unwrap());
        assert!(found.iter().any(|holder| holder.process == std::process::id()), "{found:?}");
    }
}
