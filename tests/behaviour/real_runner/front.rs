//! GitLab as a company has it: found through a proxy, spoken to by https, with a certificate of the company's own.
//! Behind it is the sandbox's.

use crate::tls::{Certified, certified};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What the fleet of all tests calls its GitLab.
const GITLAB: &str = "gitlab.example.com";
const REQUEST_BYTES_MAX: usize = 4096;

/// Its address, and the certificate that clients are to trust. Nothing serves yet.
pub(crate) struct Front {
    listener: TcpListener,
    certified: Certified,
}

/// Serves until it is dropped.
pub(crate) struct Open(JoinHandle<()>);

impl Front {
    /// At any free port of `address`.
    pub(crate) async fn at(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        Self { listener, certified: certified(GITLAB) }
    }

    /// For `HTTPS_PROXY`.
    pub(crate) fn proxy(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    pub(crate) fn certificate(&self) -> &str {
        &self.certified.pem
    }

    /// Passes what is said to GitLab on to where it really is.
    pub(crate) fn open(self, gitlab: SocketAddr) -> Open {
        let acceptor = self.certified.acceptor(&[]);
        Open(tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that went, or that does not trust us, ends it.
                    let _ended = pass(stream, acceptor, gitlab).await;
                });
            }
        }))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn pass(
    mut stream: TcpStream,
    acceptor: TlsAcceptor,
    gitlab: SocketAddr,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        request.push(stream.read_u8().await?);
    }
    if !request.starts_with(format!("CONNECT {GITLAB}:443 ").as_bytes()) {
        return stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut inner = acceptor.accept(stream).await?;
    let mut outer = TcpStream::connect(gitlab).await?;
    tokio::io::copy_bidirectional(&mut inner, &mut outer).await.map(drop)
}
