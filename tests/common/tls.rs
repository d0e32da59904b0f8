//! Certificates for tests, and clients that speak TLS: tunnels, through which all other clients do.

use super::{DEADLINE, tcp_from};
use async_std::net::{TcpListener, TcpStream};
use async_std::task;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use futures_rustls::rustls::pki_types::ServerName;
use futures_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

/// A certificate for `localhost` with its key, in files that are removed at the end.
pub struct Certificate {
    pub directory: PathBuf,
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// The certificate and the key in PEM.
    pub pem: (String, String),
}

impl Certificate {
    /// Makes one that is valid for a year.
    pub fn new() -> Self {
        Self::valid_for(365 * 24 * 60 * 60)
    }

    /// Makes one that is valid from two years ago until some seconds from now, perhaps negative ones.
    pub fn valid_for(seconds: i64) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "switchboard-tls-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let now = SystemTime::now();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        params.not_before = (now - Duration::from_secs(2 * 365 * 24 * 60 * 60)).into();
        params.not_after = match seconds {
            0.. => (now + distance).into(),
            _ => (now - distance).into(),
        };
        let certificate = params.self_signed(&key).unwrap();
        let certificate = Self {
            directory,
            der: certificate.der().to_vec(),
            pem: (certificate.pem(), key.serialize_pem()),
        };
        certificate.write(&certificate.pem.clone());
        certificate
    }

    /// Replaces the files by those of another certificate.
    pub fn write(&self, (certificate, key): &(String, String)) {
        self.write_file("fullchain.pem", certificate);
        self.write_file("privkey.pem", key);
    }

    /// Replaces a file at once, as programs do that renew certificates.
    pub fn write_file(&self, name: &str, content: &str) {
        let new = self.directory.join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.directory.join(name)).unwrap();
    }

    /// Returns the value of `tls` with these files.
    pub fn setting(&self) -> Value {
        json!({
            "certificate": self.directory.join("fullchain.pem"),
            "key": self.directory.join("privkey.pem"),
        })
    }

    /// Returns what a client connects with that trusts this certificate.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone().into()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
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
