//! The loopback port that a handler is told to listen on.

use std::{io, net::Ipv4Addr};
use tokio::net::TcpSocket;

/// A free port for another process to listen on. On Linux nobody but one who names it gets it while this is held: a socket
/// that is bound and does not listen keeps it from those who ask for any port, and lets one listen that sets `SO_REUSEADDR`,
/// as servers' libraries do. Elsewhere such a socket would keep the handler away too, and so the port is only free.
pub struct Reserved {
    port: u16,
    _socket: Option<TcpSocket>,
}

impl Reserved {
    /// Reserves any free port.
    pub fn any() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let port = socket.local_addr()?.port();
        Ok(Self { port, _socket: cfg!(target_os = "linux").then_some(socket) })
    }

    pub const fn port(&self) -> u16 {
        self.port
    }
}
