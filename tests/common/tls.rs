//! Clients that speak TLS: tunnels, through which all other clients do.

pub use super::certificate::Certificate;
use super::{DEADLINE, tcp_from};
use async_std::net::{TcpListener, TcpStream};
use async_std::task;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use futures_rustls::rustls::ClientConfig;
use futures_rustls::rustls::pki_types::ServerName;
use serde_json::Value;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::{Arc, LazyLock};

/// The certificate of all listeners that name none, if `SWITCHBOARD_TESTS_OVER_TLS` is set: then all tests run over TLS.
static OF_ALL: LazyLock<Option<Certificate>> =
    LazyLock::new(|| std::env::var_os("SWITCHBOARD_TESTS_OVER_TLS").map(|_| Certificate::new()));

/// Has a listener on a port speak TLS, if all are to and it says nothing of it.
pub fn encrypt_listener(listener: &mut Value) {
    let address = listener.get("address").and_then(Value::as_str);
    let has_port = address.is_none_or(|it| !it.starts_with("unix:") && !it.starts_with("systemd:"));
    let is_said = listener.get("tls").is_some();
    if let Some(certificate) = OF_ALL.as_ref().filter(|_| has_port && !is_said) {
        listener["tls"] = certificate.setting();
    }
}

/// Returns the address that clients of the listener connect to of which this line of the log is, whose address is known.
pub fn address_for_clients(line: &str, listener: SocketAddr) -> SocketAddr {
    let certificate = OF_ALL.as_ref().filter(|_| line.contains("wss://"));
    certificate.map_or(listener, |certificate| {
        tunnel(listener, certificate.client_config())
    })
}

/// Returns an address of this machine, where clients that connect speak TLS to another address by themselves. Each connects
/// there from its own address.
pub fn tunnel(to: SocketAddr, config: Arc<ClientConfig>) -> SocketAddr {
    let listener = task::block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    task::spawn(async move {
        while let Ok((plain, from)) = listener.accept().await {
            let config = Arc::clone(&config);
            task::spawn(async move {
                // The client sees what has failed as the end of its connection.
                let _ = forward(plain, from.ip(), to, config).await;
            });
        }
    });
    address
}

async fn forward(
    plain: TcpStream,
    from: IpAddr,
    to: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<()> {
    let tls = connect_from(from, to, config).await?;
    // Closing what is split of a socket does not shut it down.
    let (server, client) = (tls.get_ref().0.clone(), plain.clone());
    let (from_server, to_server) = tls.split();
    let (from_client, to_client) = plain.split();
    let up = copy(from_client, to_server, server);
    let down = copy(from_server, to_client, client);
    futures::future::try_join(up, down).await?;
    Ok(())
}

/// Connects with TLS.
pub async fn connect_from(
    from: IpAddr,
    to: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::from(tcp_from(from, to));
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

/// Connects with TLS, within the deadline of a test.
pub fn connect(to: SocketAddr, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let connect = connect_from(IpAddr::from([127, 0, 0, 1]), to, config);
    let connected = task::block_on(async_std::future::timeout(DEADLINE, connect));
    connected.expect("the handshake ends")
}

/// Copies all that is read, each part at once, and then the end.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    socket: TcpStream,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            to.close().await?;
            return socket.shutdown(Shutdown::Write);
        }
        to.write_all(&buffer[..bytes]).await?;
        to.flush().await?;
    }
}
