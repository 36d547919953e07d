//! Addresses as a configuration writes them: of servers, and to listen on.
//!
//! Never resolves a name or opens anything. A value of these types is well-formed; whether it answers is another matter.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// The kernel's `sun_path` holds 108 bytes with the closing NUL.
const UNIX_PATH_BYTES: usize = 107;
/// Longest name DNS knows.
const HOST_BYTES: usize = 253;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerAddress {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A name to be resolved, and a port.
    Name(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
    /// A server inside this process, by its name.
    Embedded(String),
}

impl ServerAddress {
    /// Reads `host:port`, `[v6]:port`, `unix:/path` or `embedded:name`; an error says what is wrong.
    pub fn parse(text: &str) -> Result<ServerAddress, &'static str> {
        if let Some(name) = text.strip_prefix("embedded:") {
            return if is_name(name) {
                Ok(ServerAddress::Embedded(name.to_owned()))
            } else {
                Err("is not embedded:name")
            };
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path.strip_prefix("//").unwrap_or(path)).map(ServerAddress::Unix);
        }
        if text.contains("://") {
            return Err("has a scheme, which servers are written without");
        }
        let (host, port) = host_and_port(text)?;
        if port == 0 {
            return Err("has port 0");
        }
        match host {
            Host::All => Err("has no host"),
            Host::Ip(ip) => Ok(ServerAddress::Ip(SocketAddr::new(ip, port))),
            Host::Name(name) => Ok(ServerAddress::Name(name.to_ascii_lowercase(), port)),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Ip(address) => write!(out, "{address}"),
            ServerAddress::Name(host, port) => write!(out, "{host}:{port}"),
            ServerAddress::Unix(path) => write!(out, "unix:{}", path.display()),
            ServerAddress::Embedded(name) => write!(out, "embedded:{name}"),
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    /// One IP address (or `0.0.0.0`, `[::]`) and a port; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// Every address of the host, IPv4 and IPv6: `tcp://:port`. One dual-stack socket on `[::]`, or one on `0.0.0.0`
    /// where the host has no IPv6.
    AllTcp(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Reads `tcp://ip:port`, `tcp://[v6]:port`, `tcp://:port`, `unix:///path`, and the TCP forms without `tcp://`.
    pub fn parse(text: &str) -> Result<ListenAddress, &'static str> {
        if let Some(path) = text.strip_prefix("unix://") {
            return unix_path(path).map(ListenAddress::Unix);
        }
        let rest = text.strip_prefix("tcp://").unwrap_or(text);
        if rest.contains("://") {
            return Err("has an unknown scheme");
        }
        let (host, port) = host_and_port(rest)?;
        match host {
            Host::All => Ok(ListenAddress::AllTcp(port)),
            Host::Ip(ip) => Ok(ListenAddress::Tcp(SocketAddr::new(ip, port))),
            Host::Name("localhost") => Ok(ListenAddress::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))),
            Host::Name(_) => Err("has a name where an IP address is needed"),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(out, "tcp://{address}"),
            ListenAddress::AllTcp(port) => write!(out, "tcp://:{port}"),
            ListenAddress::Unix(path) => write!(out, "unix://{}", path.display()),
        }
    }
}

/// True for what pools, routes, servers and embedded servers may be called.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

enum Host<'a> {
    All,
    Ip(IpAddr),
    Name(&'a str),
}

fn host_and_port(text: &str) -> Result<(Host<'_>, u16), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("lacks a closing bracket")?;
        let ip: Ipv6Addr = host.parse().map_err(|_| "is no IPv6 address in the brackets")?;
        let port = after.strip_prefix(':').ok_or("has no port")?;
        return Ok((Host::Ip(ip.into()), port_number(port)?));
    }
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    if host.contains(':') {
        // Also mcrouter's host:port:protocol, which isn't done; an IPv6 address is the likelier meaning of several colons.
        return Err("has several colons; an IPv6 address goes in brackets");
    }
    let port = port_number(port)?;
    if host.is_empty() {
        return Ok((Host::All, port));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok((Host::Ip(ip.into()), port));
    }
    let is_host =
        host.len() <= HOST_BYTES && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    // A last label of digits alone is meant as an IPv4 address, as in 10.0.0.300.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or("");
    if !is_host || last.is_empty() || last.bytes().all(|byte| byte.is_ascii_digit()) || host.contains("..") {
        return Err("is no host name or IP address before the port");
    }
    Ok((Host::Name(host), port))
}

fn port_number(text: &str) -> Result<u16, &'static str> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("has a port that is no number");
    }
    text.parse().map_err(|_| if text.is_empty() { "has no port" } else { "has a port above 65535" })
}

fn unix_path(path: &str) -> Result<PathBuf, &'static str> {
    if !path.starts_with('/') {
        return Err("has a path that isn't absolute");
    }
    if path.len() > UNIX_PATH_BYTES {
        return Err("has a path over 107 bytes, the kernel's limit");
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses() {
        let check = |text: &str, wanted: Result<&str, &str>| {
            let seen = ServerAddress::parse(text).map(|address| address.to_string());
            assert_eq!(seen.as_deref().map_err(|problem| *problem), wanted, "{text}");
        };
        check("10.0.0.1:11211", Ok("10.0.0.1:11211"));
        check("Memcache-1.Example.com:11211", Ok("memcache-1.example.com:11211"));
        check("[::1]:11211", Ok("[::1]:11211"));
        check("[0:0::1]:11211", Ok("[::1]:11211"));
        check("unix:/run/mc.sock", Ok("unix:/run/mc.sock"));
        check("unix:///run/mc.sock", Ok("unix:/run/mc.sock"));
        check("embedded:a", Ok("embedded:a"));
        check("embedded:", Err("is not embedded:name"));
        check("embedded:a b", Err("is not embedded:name"));
        check("unix:run", Err("has a path that isn't absolute"));
        check("memcache1", Err("has no port"));
        check("memcache1:", Err("has no port"));
        check("memcache1:x", Err("has a port that is no number"));
        check("memcache1:+1", Err("has a port that is no number"));
        check("memcache1:70000", Err("has a port above 65535"));
        check("memcache1:0", Err("has port 0"));
        check(":11211", Err("has no host"));
        check("10.0.0.300:1", Err("is no host name or IP address before the port"));
        check("a..b:1", Err("is no host name or IP address before the port"));
        check("a b:1", Err("is no host name or IP address before the port"));
        check("::1:11211", Err("has several colons; an IPv6 address goes in brackets"));
        check("[::1]11211", Err("has no port"));
        check("[::1:11211", Err("lacks a closing bracket"));
        check("[x]:1", Err("is no IPv6 address in the brackets"));
        check("tcp://a:1", Err("has a scheme, which servers are written without"));
        check("", Err("has no port"));
    }

    #[test]
    fn listen_addresses() {
        let check = |text: &str, wanted: Result<&str, &str>| {
            let seen = ListenAddress::parse(text).map(|address| address.to_string());
            assert_eq!(seen.as_deref().map_err(|problem| *problem), wanted, "{text}");
        };
        check("tcp://0.0.0.0:11211", Ok("tcp://0.0.0.0:11211"));
        check("tcp://[::]:6379", Ok("tcp://[::]:6379"));
        check("tcp://:8080", Ok("tcp://:8080"));
        check(":9090", Ok("tcp://:9090"));
        check("localhost:0", Ok("tcp://127.0.0.1:0"));
        check("unix:///run/keyway/mc.sock", Ok("unix:///run/keyway/mc.sock"));
        check("unix://mc.sock", Err("has a path that isn't absolute"));
        check("udp://:1", Err("has an unknown scheme"));
        check("tcp://example.com:1", Err("has a name where an IP address is needed"));
        check("tcp://", Err("has no port"));
        check(&format!("unix:///{}", "x".repeat(200)), Err("has a path over 107 bytes, the kernel's limit"));
    }
}
