//! Listening sockets, made by the main thread before a shard starts, so that "address in use" is said at once.
//!
//! A TCP address gets one SO_REUSEPORT socket per shard and the kernel spreads the connections. A Unix path can't do
//! that, and few long-lived TCP clients spread badly: there one shard accepts and hands the descriptors round.
//!
//! Never closes a member of a group while others serve: the connections queued on it would be reset. Hand it over
//! (`Listener::duplicate`, `Listener::adopt`).

use crate::io::Address;
use crate::mailbox::{Receiver, Sender, mailbox};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// A backlog that rides out a burst of reconnecting clients; the kernel cuts it to net.core.somaxconn.
pub const DEFAULT_BACKLOG: i32 = 4096;

/// One shard's part in listening on an address.
#[derive(Debug)]
pub struct Listener {
    pub(crate) address: Address,
    pub(crate) role: Role,
}

#[derive(Debug)]
pub(crate) enum Role {
    /// Has a socket of its own. With `others`, hands connections round: to itself, then to each of them.
    Accepts { socket: OwnedFd, others: Vec<Sender<OwnedFd>> },
    /// Is handed connections by the shard that accepts.
    Receives { inbox: Receiver<OwnedFd> },
}

impl Listener {
    /// The address listened on, with the port the kernel chose where 0 was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The listening socket; `None` for a shard that is only handed connections.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.role {
            Role::Accepts { socket, .. } => Some(socket.as_fd()),
            Role::Receives { .. } => None,
        }
    }

    /// Another descriptor of the listening socket, to keep or hand over to the next process.
    pub fn duplicate(&self) -> Option<io::Result<OwnedFd>> {
        self.socket().map(|socket| socket.try_clone_to_owned())
    }

    /// Listens on a socket made elsewhere: handed over by the process before this one, or by the service manager.
    pub fn adopt(socket: OwnedFd) -> io::Result<Listener> {
        let socket = Socket::from(socket);
        // The ring answers an accept on a non-blocking socket with EAGAIN instead of waiting.
        socket.set_nonblocking(false)?;
        let local = socket.local_addr()?;
        if local.as_socket().is_some() {
            socket.set_tcp_nodelay(true)?;
        }
        let address = address_of(&local)?;
        Ok(Listener { address, role: Role::Accepts { socket: socket.into(), others: Vec::new() } })
    }

    /// Lets one socket serve `shards` shards: the first accepts and hands descriptors round.
    pub fn spread(self, shards: usize) -> io::Result<Vec<Listener>> {
        let Listener { address, role } = self;
        let (mut others, mut receivers) = (Vec::new(), Vec::new());
        for _ in 1..shards {
            let (sender, inbox) = mailbox()?;
            others.push(sender);
            receivers.push(Listener { address: address.clone(), role: Role::Receives { inbox } });
        }
        let role = match role {
            Role::Accepts { socket, .. } => Role::Accepts { socket, others },
            Role::Receives { inbox } => Role::Receives { inbox },
        };
        receivers.insert(0, Listener { address, role });
        Ok(receivers)
    }
}

/// Listens on `address`, one listener per shard: a Unix path is spread, TCP is not.
pub fn bind(address: &Address, shards: usize, backlog: i32) -> Result<Vec<Listener>, BindError> {
    let fail = |reason| BindError { address: address.clone(), reason };
    let shards = shards.max(1);
    match address {
        Address::Tcp(socket_address) => bind_group(*socket_address, Stack::Own, shards, backlog).map_err(fail),
        Address::Unix(_) => bind_spread(address, shards, backlog),
    }
}

/// Listens on `port` of every address of the host, IPv4 and IPv6, one dual-stack socket per shard. Where the host has no
/// IPv6, on IPv4 alone.
pub fn bind_all_addresses(port: u16, shards: usize, backlog: i32) -> Result<Vec<Listener>, BindError> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let error = match bind_group(both, Stack::Dual, shards.max(1), backlog) {
        Ok(group) => return Ok(group),
        Err(BindReason::NotLocal | BindReason::Other(libc::EAFNOSUPPORT)) => {
            return bind(&Address::Tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))), shards, backlog);
        }
        Err(reason) => reason,
    };
    Err(BindError { address: Address::Tcp(both), reason: error })
}

/// Listens on `address` with one socket; the first shard accepts for all of them.
pub fn bind_spread(address: &Address, shards: usize, backlog: i32) -> Result<Vec<Listener>, BindError> {
    let fail = |reason| BindError { address: address.clone(), reason };
    let bound = match address {
        Address::Tcp(socket_address) => bind_alone(*socket_address, backlog),
        Address::Unix(path) => bind_unix(path, backlog),
    };
    bound.and_then(|listener| listener.spread(shards.max(1)).map_err(BindReason::from)).map_err(fail)
}

fn bind_alone(address: SocketAddr, backlog: i32) -> Result<Listener, BindReason> {
    let socket = tcp_socket(address, Stack::Own)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    listener(socket)
}

/// Which families an IPv6 socket takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stack {
    /// The address's own.
    Own,
    /// IPv4 too.
    Dual,
}

/// One socket per shard on the same port. A second instance would join the group silently, so first try to be alone.
fn bind_group(address: SocketAddr, stack: Stack, shards: usize, backlog: i32) -> Result<Vec<Listener>, BindReason> {
    if shards == 1 {
        // Still joinable on hand-over: the next process binds beside it.
        return bind_member(address, stack, backlog, true).map(|listener| vec![listener]);
    }
    let first = bind_member(address, stack, backlog, true)?;
    let Address::Tcp(actual) = first.address else { return Err(BindReason::Other(libc::EINVAL)) };
    let mut group = vec![first];
    for _ in 1..shards {
        group.push(bind_member(actual, stack, backlog, false)?);
    }
    Ok(group)
}

fn bind_member(address: SocketAddr, stack: Stack, backlog: i32, first: bool) -> Result<Listener, BindReason> {
    if first && address.port() != 0 {
        let probe = tcp_socket(address, stack)?;
        probe.bind(&address.into())?;
    }
    let socket = tcp_socket(address, stack)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    listener(socket)
}

fn tcp_socket(address: SocketAddr, stack: Stack) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run in TIME_WAIT don't keep us out; a listening socket still does.
    socket.set_reuse_address(true)?;
    // Inherited by what is accepted, which spares a call per connection.
    socket.set_tcp_nodelay(true)?;
    // Likewise: a client whose host vanished is found out by the kernel.
    socket.set_keepalive(true)?;
    if address.is_ipv6() {
        // `[::]` beside `0.0.0.0` on one port is the usual configuration.
        socket.set_only_v6(stack == Stack::Own)?;
    }
    Ok(socket)
}

fn bind_unix(path: &Path, backlog: i32) -> Result<Listener, BindReason> {
    let name = SockAddr::unix(path).map_err(|_| BindReason::PathTooLong)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&name) {
        Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE) => {
            remove_stale(path, &name)?;
            socket.bind(&name)?;
        }
        bound => bound?,
    }
    socket.listen(backlog)?;
    listener(socket)
}

/// Removes the socket file a dead process left; refuses when somebody answers, or when it is no socket.
fn remove_stale(path: &Path, name: &SockAddr) -> Result<(), BindReason> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if !kind.is_socket() {
        return Err(BindReason::NotASocket);
    }
    let caller = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Non-blocking: a server with a full backlog answers EAGAIN, which is an answer.
    caller.set_nonblocking(true)?;
    match caller.connect(name).map_err(|e| e.raw_os_error()) {
        Err(Some(libc::ECONNREFUSED)) => {}
        Err(Some(libc::ENOENT)) => return Ok(()),
        Err(Some(errno @ (libc::EACCES | libc::EPERM))) => return Err(BindReason::Other(errno)),
        Ok(()) | Err(_) => return Err(BindReason::InUse),
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

fn listener(socket: Socket) -> Result<Listener, BindReason> {
    let address = address_of(&socket.local_addr()?)?;
    Ok(Listener { address, role: Role::Accepts { socket: socket.into(), others: Vec::new() } })
}

fn address_of(local: &SockAddr) -> io::Result<Address> {
    if let Some(address) = local.as_socket() {
        return Ok(Address::Tcp(address));
    }
    let path = local.as_pathname().ok_or(io::ErrorKind::Unsupported)?;
    Ok(Address::Unix(path.to_path_buf()))
}

/// Why an address can't be listened on. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindError {
    /// What was asked for.
    pub address: Address,
    /// What was in the way.
    pub reason: BindReason,
}

/// What was in the way of listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindReason {
    /// Somebody listens there.
    InUse,
    /// A port below 1024, or a directory we may not write to.
    Forbidden,
    /// The host has no such address.
    NotLocal,
    /// The path names something that is no socket; it is left alone.
    NotASocket,
    /// A Unix socket's path is at most 107 bytes.
    PathTooLong,
    /// The directory doesn't exist.
    NoDirectory,
    /// Out of descriptors.
    OutOfDescriptors,
    /// The kernel's errno.
    Other(i32),
}

impl From<io::Error> for BindReason {
    fn from(error: io::Error) -> BindReason {
        match error.raw_os_error().unwrap_or(libc::EIO) {
            libc::EADDRINUSE => BindReason::InUse,
            libc::EACCES | libc::EPERM => BindReason::Forbidden,
            libc::EADDRNOTAVAIL => BindReason::NotLocal,
            libc::ENOENT | libc::ENOTDIR => BindReason::NoDirectory,
            libc::EMFILE | libc::ENFILE => BindReason::OutOfDescriptors,
            errno => BindReason::Other(errno),
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(address) => write!(f, "can't listen on {address}: ")?,
            Address::Unix(path) => write!(f, "can't listen on {}: ", path.display())?,
        }
        match self.reason {
            BindReason::InUse => f.write_str("the address is in use: stop who listens there, or choose another"),
            BindReason::Forbidden => f.write_str(
                "not permitted: a port below 1024 needs CAP_NET_BIND_SERVICE, a socket file a directory we may write to",
            ),
            BindReason::NotLocal => f.write_str("this host has no such address (or its family is disabled)"),
            BindReason::NotASocket => f.write_str("the file exists and is no socket; it is left alone"),
            BindReason::PathTooLong => f.write_str("the path is longer than a socket's name may be (107 bytes)"),
            BindReason::NoDirectory => f.write_str("the directory doesn't exist"),
            BindReason::OutOfDescriptors => f.write_str("out of descriptors: raise the limit (ulimit -n)"),
            BindReason::Other(errno) => write!(f, "{}", io::Error::from_raw_os_error(errno)),
        }
    }
}

impl std::error::Error for BindError {}
