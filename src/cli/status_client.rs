//! Requests to the status port of a daemon that runs.

use crate::base::log_escape::{Quoted, escape};
use crate::config::{Address, Config};
use crate::net::unix_socket;
use crate::sys::token_file::{self, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// Time to connect, and to wait for each part of the response. The daemon itself waits for the broker for 5 s.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a response, at most. The largest that a daemon sends have some megabytes.
const MAX_RESPONSE: u64 = 64 << 20;

/// Headers of a response, at most.
const MAX_HEADERS: usize = 32;

/// A daemon that runs, by the address of its status port.
pub(super) struct StatusClient {
    address: Address,
    /// Where the token may be.
    token_places: Vec<PathBuf>,
}

/// A response with status 200, or else the text of another one.
type Answer = Result<String, (u16, String)>;

impl StatusClient {
    /// Finds the daemon that runs with this configuration.
    ///
    /// # Errors
    /// It has no status port, or one that cannot be known.
    pub(super) fn new(
        config: &Config,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, String> {
        let Some(address) = config.process.status.clone() else {
            return Err(
                "status is null in this configuration: a daemon that runs with it cannot be asked; write an address, \
                 such as \"localhost:7171\""
                    .to_owned(),
            );
        };
        if let Some(chooser) = chooser(&address) {
            return Err(format!(
                "status is \"{address}\" in this configuration, which {chooser}; write the address that the daemon's \
                 log has (\"status on http://...\"): --set status=ADDRESS"
            ));
        }
        Ok(Self {
            token_places: token_file::candidates(&address.to_string(), variable),
            address,
        })
    }

    /// Asks for something that needs no token.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let answer = self.exchange("GET", path, None, "")?;
        self.read_json(answer)
    }

    /// Asks for something that needs the token: of the files that may have it, the first whose token is right.
    ///
    /// # Errors
    /// Why there is no answer, or what the daemon says instead.
    pub(super) fn authorized<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, String> {
        let body = match method {
            "POST" => serde_json::to_string(body).expect("bodies have texts and numbers alone"),
            _ => String::new(),
        };
        let mut refused = Vec::new();
        for place in &self.token_places {
            let Ok(token) = Token::read(place) else {
                continue;
            };
            match self.exchange(method, path, Some(&token), &body)? {
                Err((401, _)) => refused.push(place.display().to_string()),
                answer => return self.read_json(answer),
            }
        }
        Err(self.without_token(&refused)?)
    }

    /// Returns why no token was right. `refused` are the files whose token was wrong.
    ///
    /// # Errors
    /// There is no daemon.
    fn without_token(&self, refused: &[String]) -> Result<String, String> {
        if let Err((403, text)) = self.exchange("GET", "/bans", None, "")? {
            return Ok(text);
        }
        let unreadable = self.token_places.iter().find_map(|place| {
            let error = Token::read(place).err()?;
            (error.kind() != ErrorKind::NotFound).then(|| (place.display(), error))
        });
        if let Some((place, error)) = unreadable {
            return Ok(format!(
                "cannot read the token {place}: {error}; only the user of the daemon and root can: use sudo"
            ));
        }
        if !refused.is_empty() {
            return Ok(format!(
                "the daemon at {} has another token than {}; run this as its user, or as root",
                self.address,
                refused.join(" and ")
            ));
        }
        let places = self.token_places.iter();
        let places: Vec<String> = places.map(|place| place.display().to_string()).collect();
        Ok(format!(
            "there is no token at {}; run this as the user of the daemon, or as root",
            places.join(" or ")
        ))
    }

    /// Sends a request, and reads the response to its end.
    ///
    /// # Errors
    /// No daemon is there, or it does not answer.
    fn exchange(
        &self,
        method: &str,
        path: &str,
        token: Option<&Token>,
        body: &str,
    ) -> Result<Answer, String> {
        let connection = self.connect()?;
        let response = send_and_read(connection, &request_text(method, path, token, body));
        let response = response.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("nothing came for {} s", TIMEOUT.as_secs())
            }
            _ => error.to_string(),
        });
        let answer = response.and_then(|response| parse(&response));
        answer.map_err(|problem| self.unanswered(&problem))
    }

    /// Connects to the daemon.
    fn connect(&self) -> Result<Box<dyn Connection>, String> {
        let connection: io::Result<Box<dyn Connection>> = match &self.address {
            Address::Unix(path) => {
                unix_socket::connect(path, TIMEOUT).map(|stream| Box::new(stream) as _)
            }
            address => connect_tcp(address).map(|stream| Box::new(stream) as _),
        };
        connection.map_err(|error| {
            format!(
                "no daemon answers at {}: {error}; is it running, and with this configuration (--config FILE, --set \
                 status=ADDRESS)?",
                self.address
            )
        })
    }

    fn unanswered(&self, problem: &str) -> String {
        format!("the daemon at {} does not answer: {problem}", self.address)
    }

    fn read_json<T: DeserializeOwned>(&self, answer: Answer) -> Result<T, String> {
        let body = answer.map_err(|(_, text)| text)?;
        serde_json::from_str(&body).map_err(|error| {
            self.unanswered(&format!("what it says is not what was asked: {error}"))
        })
    }
}

/// A connection to the daemon, whose reads and writes have a [`TIMEOUT`].
trait Connection: Read + io::Write {}

impl<T: Read + io::Write> Connection for T {}

/// Connects at the first of the IP addresses that takes the connection.
fn connect_tcp(address: &Address) -> io::Result<TcpStream> {
    let port = address.port().unwrap_or_default();
    let mut result = Err(ErrorKind::AddrNotAvailable.into());
    for ip in address.ips() {
        let address = SocketAddr::new(reachable(ip), port);
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            error => result = error,
        }
    }
    result
}

/// Returns who has chosen the address, if the configuration does not say where it is.
fn chooser(address: &Address) -> Option<&'static str> {
    match address {
        Address::Systemd(_) => Some("is a socket of a systemd unit"),
        address if address.port() == Some(0) => Some("is a port that the system has chosen"),
        _ => None,
    }
}

/// Returns an address of this machine at which a socket that is bound to `ip` can be reached.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Returns a request as it goes over the wire.
fn request_text(method: &str, path: &str, token: Option<&Token>, body: &str) -> String {
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let mut header = |name: &str, value: &str| {
        let _ = write!(request, "{name}: {value}\r\n");
    };
    if let Some(token) = token {
        header("Authorization", &format!("Bearer {}", token.secret()));
    }
    if !body.is_empty() {
        header("Content-Type", "application/json");
        header("Content-Length", &body.len().to_string());
    }
    request + "\r\n" + body
}

/// Sends a request, and returns the response as it comes.
fn send_and_read(mut connection: Box<dyn Connection>, request: &str) -> io::Result<Vec<u8>> {
    connection.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    connection.take(MAX_RESPONSE).read_to_end(&mut response)?;
    Ok(response)
}

/// Parses a response that has ended.
fn parse(bytes: &[u8]) -> Result<Answer, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let not_http = || "it does not speak HTTP, so it is another program".to_owned();
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.is_empty() => {
            return Err("it has closed the connection".to_owned());
        }
        _ => return Err(not_http()),
    };
    let body = bytes.get(length..).unwrap_or_default();
    let expected = response.headers.iter();
    let mut expected = expected.filter(|it| it.name.eq_ignore_ascii_case("Content-Length"));
    let expected = expected.next().map(|it| String::from_utf8_lossy(it.value));
    if let Some(expected) = expected.filter(|expected| *expected != body.len().to_string()) {
        return Err(format!(
            "it has sent {} bytes of {}",
            body.len(),
            Quoted(&expected)
        ));
    }
    let text = String::from_utf8_lossy(body);
    match response.code.unwrap_or_default() {
        200 => Ok(Ok(text.into_owned())),
        status => Ok(Err((status, escape(text.trim_end())))),
    }
}
