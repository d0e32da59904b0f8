//! Binding the sockets of a listener's address (rulings, "address"), and what to do about an error of that.

use super::listen_socket::ListenSocket;
use super::socket_options;
use super::{system, unix_socket};
use crate::config::Address;
use crate::sys::systemd_sockets;
use async_io::Async;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener};

/// Length of a listener's accept queue. The 128 of the standard library are soon used up when many clients
/// reconnect at once, and each client above the limit waits a second before it tries again.
/// `systemd/switchboard.socket` has the same.
const BACKLOG: i32 = 4096;

/// How often a port that the system has chosen for one address is tried on the other, where it may be in use.
const PORT_TRIES: u32 = 20;

/// The sockets of one listener.
pub(crate) struct Bound {
    /// The address, with the port that the sockets have.
    pub(crate) address: Address,
    /// At least one.
    pub(crate) sockets: Vec<ListenSocket>,
}

impl Bound {
    /// Returns where clients connect, for people, with what the configuration alone does not say.
    pub(crate) fn urls(&self, scheme: &str, endpoint: &str) -> String {
        let (url, addresses) = (self.address.url(scheme, endpoint), self.ip_addresses());
        let ips: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
        match self.address {
            Address::Ip(_) | Address::Unix(_) => url,
            Address::Any(_) if ips.iter().any(IpAddr::is_ipv6) => format!("{url} (IPv4 and IPv6)"),
            Address::Any(_) => format!("{url} (IPv4; this system has no IPv6)"),
            Address::Localhost(_) => {
                let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
                format!("{url} ({})", ips.join(", "))
            }
            Address::Systemd(_) => {
                let urls: Vec<String> = self
                    .sockets
                    .iter()
                    .map(|it| it.url(scheme, endpoint))
                    .collect();
                format!("{} ({})", urls.join(" and "), self.address)
            }
        }
    }

    /// Returns where a browser of this machine finds a page of the listener; `None`: it cannot connect.
    pub(crate) fn page_url(&self, scheme: &str, path: &str) -> Option<String> {
        let address = self.ip_addresses().next()?;
        let is_specific = matches!(self.address, Address::Ip(_) | Address::Systemd(_));
        let host = match address.ip() {
            ip if !is_specific || ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V6(ip) => format!("[{ip}]"),
            IpAddr::V4(ip) => ip.to_string(),
        };
        Some(format!("{scheme}://{host}:{}{path}", address.port()))
    }

    /// Returns the addresses of the sockets that have one.
    pub(crate) fn ip_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().filter_map(ListenSocket::ip_address)
    }
}

/// Binds what an address stands for.
///
/// # Errors
/// The system's error, if an address that exists cannot be bound, or if none exists.
pub(crate) fn bind(address: &Address) -> io::Result<Bound> {
    let sockets = match address {
        Address::Unix(path) => {
            let (file, socket) = unix_socket::bind(path, BACKLOG)?;
            let _file = Some(file);
            vec![ListenSocket::Unix { _file, socket }]
        }
        Address::Systemd(name) => passed(name)?,
        Address::Localhost(_) | Address::Any(_) | Address::Ip(_) => {
            return bind_with(address, listen);
        }
    };
    let address = address.clone();
    Ok(Bound { address, sockets })
}

/// Returns the sockets that systemd passes under a name.
fn passed(name: &str) -> io::Result<Vec<ListenSocket>> {
    let passed = systemd_sockets::passed().copies(name)?.into_iter();
    passed.map(ListenSocket::from_passed).collect()
}

/// Closes the sockets that systemd passes and that none of these addresses names, and logs that.
pub(crate) fn close_unnamed<'a>(addresses: impl Iterator<Item = &'a Address>) {
    for name in systemd_sockets::passed().close_others(&passed_names(addresses)) {
        log::warn!(
            "systemd passes a socket {name:?}, which no listener names, and its clients wait in vain; write \"address\": \
             \"systemd:{name}\" for a listener, or disable its socket unit"
        );
    }
}

/// Logs which sockets that systemd passes none of these addresses names any more. They stay open: a listener that is added
/// again may name them.
pub(crate) fn warn_of_unnamed<'a>(addresses: impl Iterator<Item = &'a Address>) {
    for name in systemd_sockets::passed().other_names(&passed_names(addresses)) {
        log::warn!(
            "no listener names the socket {name:?} of systemd any more, and its clients wait; write \"address\": \
             \"systemd:{name}\" for a listener, or disable its socket unit and restart this service"
        );
    }
}

/// Returns the names of passed sockets in addresses.
fn passed_names<'a>(addresses: impl Iterator<Item = &'a Address>) -> Vec<&'a str> {
    let names = addresses.filter_map(|address| match address {
        Address::Systemd(name) => Some(&**name),
        _ => None,
    });
    names.collect()
}

/// Returns whether an address is bound to the loopback ([`Address::is_loopback`]), of sockets that systemd passes, too.
pub(crate) fn is_loopback(address: &Address) -> bool {
    let Address::Systemd(name) = address else {
        return address.is_loopback();
    };
    let is_loopback = |socket| {
        // Fails for a Unix socket.
        let address = TcpListener::from(socket).local_addr();
        address.is_ok_and(|address| address.ip().to_canonical().is_loopback())
    };
    let copies = systemd_sockets::passed().copies(name).unwrap_or_default();
    copies.into_iter().any(is_loopback)
}

/// Returns whether an error of binding may pass by itself.
pub(crate) fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
    )
}

/// Returns what to do about an error of binding, if that can be said.
pub(crate) fn remedy(error: &io::Error, address: &Address) -> String {
    match (error.kind(), address.port()) {
        (ErrorKind::AddrInUse, Some(port)) => {
            format!(
                "; end the program that listens there ({} shows it), or write a port other than {port}",
                system::LIST_LISTENERS
            )
        }
        (ErrorKind::AddrNotAvailable, Some(port)) => {
            format!("; write an address that this machine has, or \"*:{port}\" for all of them")
        }
        (ErrorKind::PermissionDenied, Some(..1024)) => {
            "; write a port from 1024 on and put a proxy in front, or \"systemd:NAME\" and let systemd open the port \
             (switchboard.socket)"
                .to_owned()
        }
        (ErrorKind::AddrInUse, None) => {
            "; end the program that listens there (ss -lxp shows it), or write another path".to_owned()
        }
        (ErrorKind::AlreadyExists, None) => "; write another path, or remove it".to_owned(),
        (ErrorKind::NotFound, None) => {
            "; make the directory (RuntimeDirectory= in a unit), or write a path in one that exists"
                .to_owned()
        }
        (ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem, None) => {
            "; write a path in a directory in which the daemon may write, such as its RuntimeDirectory= in a unit"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// Binds with a function that binds one socket.
fn bind_with(
    address: &Address,
    listen: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<Bound> {
    let (ips, port) = (address.ips(), address.port().unwrap_or_default());
    let mut tries = 0;
    loop {
        tries += 1;
        let bound = match ips.as_slice() {
            // One socket takes both families.
            [any, v4] if any.is_unspecified() => first_that_exists(&[*any, *v4], port, &listen),
            ips => all_that_exist(ips, port, &listen),
        };
        match bound {
            Err(error) if is(&error, Errno::ADDRINUSE) && port == 0 && tries < PORT_TRIES => {}
            Err(error) => return Err(error),
            Ok(sockets) => {
                let first = sockets.first().map(TcpListener::local_addr);
                let port = first.transpose()?.map_or(0, |address| address.port());
                let sockets = sockets
                    .into_iter()
                    .map(|tcp| Async::new(tcp).map(ListenSocket::Tcp));
                return Ok(Bound {
                    address: address.with_port(port),
                    sockets: sockets.collect::<io::Result<_>>()?,
                });
            }
        }
    }
}

/// Binds the first address of a family that the system has.
fn first_that_exists(
    ips: &[IpAddr],
    port: u16,
    listen: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<Vec<TcpListener>> {
    let mut result = Err(Errno::ADDRNOTAVAIL.into());
    for ip in ips {
        result = listen(SocketAddr::new(*ip, port)).map(|socket| vec![socket]);
        if result.as_ref().err().is_none_or(|error| !is_missing(error)) {
            break;
        }
    }
    result
}

/// Binds each address that the system has, all on the same port.
fn all_that_exist(
    ips: &[IpAddr],
    port: u16,
    listen: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<Vec<TcpListener>> {
    let (mut sockets, mut port, mut missing) = (Vec::new(), port, None);
    for ip in ips {
        match listen(SocketAddr::new(*ip, port)) {
            Ok(socket) => {
                port = socket.local_addr()?.port();
                sockets.push(socket);
            }
            Err(error) if is_missing(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok(sockets),
    }
}

/// Returns whether the system has no such address, or nothing of its family.
fn is_missing(error: &io::Error) -> bool {
    is(error, Errno::ADDRNOTAVAIL) || is(error, Errno::AFNOSUPPORT)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Binds one socket and listens on it. An IPv6 socket takes IPv4 clients, too, if its address is unspecified.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    listen_on(system::new_socket(family)?, address)
}

/// Binds a new socket, whatever its options are, and listens on it.
fn listen_on(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpListener> {
    system::allow_restart(&socket)?;
    if address.is_ipv6() {
        // Otherwise net.ipv6.bindv6only decides.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // Before it listens, so that no client comes without them.
    socket_options::set_tcp(&socket)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    /// Binds on a machine where addresses with one property do not exist.
    fn without(
        is_missing: impl Fn(&SocketAddr) -> bool,
        errno: Errno,
        address: Address,
    ) -> io::Result<Bound> {
        bind_with(&address, |address| {
            if is_missing(&address) {
                Err(errno.into())
            } else {
                listen(address)
            }
        })
    }

    fn ips(bound: &Bound) -> Vec<IpAddr> {
        bound.ip_addresses().map(|address| address.ip()).collect()
    }

    fn port(bound: &Bound) -> u16 {
        bound.address.port().unwrap()
    }

    fn bind(address: &str) -> io::Result<Bound> {
        super::bind(&Address::parse(address, 0).unwrap())
    }

    #[test]
    fn localhost_is_both_loopback_addresses_on_one_port() {
        let bound = bind("localhost:0").unwrap();
        assert_eq!(ips(&bound), Address::Localhost(0).ips());
        assert_ne!(port(&bound), 0);
        for ip in ips(&bound) {
            TcpStream::connect((ip, port(&bound))).unwrap();
        }
    }

    #[test]
    fn localhost_is_whichever_loopback_address_exists() {
        for errno in [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT] {
            let localhost = || Address::Localhost(0);
            let v4 = without(SocketAddr::is_ipv6, errno, localhost()).unwrap();
            assert_eq!(ips(&v4), [Ipv4Addr::LOCALHOST]);
            let v6 = without(SocketAddr::is_ipv4, errno, localhost()).unwrap();
            assert_eq!(ips(&v6), [Ipv6Addr::LOCALHOST]);
            assert!(without(|_| true, errno, localhost()).is_err());
        }
        // One that is there and cannot be bound is an error.
        assert!(without(SocketAddr::is_ipv6, Errno::ADDRINUSE, Address::Localhost(1)).is_err());
    }

    #[test]
    fn a_port_that_is_in_use_on_one_loopback_address_is_not_chosen_for_the_other() {
        let refused = std::cell::Cell::new(0);
        let bound = bind_with(&Address::Localhost(0), |address| {
            if address.is_ipv6() && refused.replace(refused.get() + 1) < 3 {
                return Err(Errno::ADDRINUSE.into());
            }
            listen(address)
        });
        assert_eq!(bound.unwrap().sockets.len(), 2);
    }

    #[test]
    fn a_star_takes_both_families() {
        for address in ["*:0", "[::]:0"] {
            let bound = bind(address).unwrap();
            let [ListenSocket::Tcp(socket)] = &bound.sockets[..] else {
                panic!("{} sockets", bound.sockets.len());
            };
            assert!(!sockopt::ipv6_v6only(socket).unwrap());
            for ip in Address::Localhost(0).ips() {
                TcpStream::connect((ip, port(&bound))).unwrap();
            }
        }
    }

    #[test]
    fn a_socket_that_is_for_ipv6_alone_takes_ipv4_too() {
        let socket = system::new_socket(AddressFamily::INET6).unwrap();
        // As new sockets are with net.ipv6.bindv6only=1.
        sockopt::set_ipv6_v6only(&socket, true).unwrap();
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let socket = listen_on(socket, any).unwrap();
        let port = socket.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn a_star_takes_ipv4_alone_where_the_kernel_has_no_ipv6() {
        for address in ["*:0", "[::]:0"] {
            let address = Address::parse(address, 0).unwrap();
            let bound = without(SocketAddr::is_ipv6, Errno::AFNOSUPPORT, address).unwrap();
            assert_eq!(ips(&bound), [Ipv4Addr::UNSPECIFIED]);
        }
    }

    #[test]
    fn one_address_is_one_socket_and_an_error_where_it_does_not_exist() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let bound = bind(address).unwrap();
            assert_eq!(ips(&bound), Address::parse(address, 0).unwrap().ips());
        }
        // TEST-NET-1 (RFC 5737).
        assert!(bind("192.0.2.1:0").is_err());
    }
}
