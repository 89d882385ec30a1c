//! A TCP proxy that can become a black hole: nothing is forwarded any more, and nothing is closed or refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A proxy to one server; its connections end with it.
pub struct Proxy {
    address: SocketAddr,
    forwards: Arc<watch::Sender<bool>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy to this port of 127.0.0.1, on a free port.
    pub async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, relaytrace_servers::free_port(None)?)).await?;
        let address = listener.local_addr()?;
        let forwards = Arc::new(watch::Sender::new(true));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, port, forwards.clone()));
        Ok(Self { address, forwards, _tasks: tasks })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on every byte is held back.
    pub fn swallow(&self) {
        self.forwards.send_replace(false);
    }

    /// Releases held bytes, and everything after them.
    pub fn forward(&self) {
        self.forwards.send_replace(true);
    }
}

async fn accept(listener: TcpListener, port: u16, forwards: Arc<watch::Sender<bool>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connect(client, port, forwards.subscribe()));
    }
}

async fn connect(client: TcpStream, port: u16, mut forwards: watch::Receiver<bool>) {
    if forwards.wait_for(|forwards| *forwards).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // Whoever closes its half has it closed on the other side; the rest goes on.
    tokio::join!(copy(from_client, to_server, forwards.clone()), copy(from_server, to_client, forwards));
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut forwards: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16_384];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if forwards.wait_for(|forwards| *forwards).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
            || read == 0
        {
            return;
        }
    }
}
