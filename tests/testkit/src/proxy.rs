//! A TCP proxy that misbehaves as it is told.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// What the proxy does, to the connections that are open as well as to new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Hands on what comes.
    Pass,
    /// Accepts, and hands on nothing in either direction. What waits is handed on after the next `Pass`.
    Stall,
    /// Hands on each piece this much later.
    Delay(Duration),
    /// Ends a connection once `after` bytes of the server's have been handed on over it, counted from its
    /// beginning.
    Cut {
        /// Bytes from server to client.
        after: u64,
        /// How the client sees it.
        end: End,
    },
    /// Nothing listens: connecting is refused, and open connections are closed.
    Refuse,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order, with FIN: the client reads an end of file.
    Close,
    /// With RST: the client reads "connection reset".
    Reset,
}

/// A proxy on 127.0.0.1 in front of a server. Dropped, it closes its port and every connection;
/// [`close`](Proxy::close) waits for that.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: mpsc::Sender<(Behaviour, oneshot::Sender<()>)>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to `server`, which passes at first.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (orders, inbox) = mpsc::channel(1);
        let task = tokio::spawn(serve(listener, server, inbox));
        Ok(Self { address, orders, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Behaves otherwise from now on.
    ///
    /// # Panics
    /// Where its port was lost while it refused.
    pub async fn set(&self, behaviour: Behaviour) {
        let (done, seen) = oneshot::channel();
        self.orders.send((behaviour, done)).await.expect("the proxy runs");
        seen.await.expect("the proxy runs");
    }

    /// Closes its port and every connection.
    pub async fn close(mut self) {
        self.task.abort();
        // It was told to end: how it ended says nothing.
        (&mut self.task).await.ok();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    server: SocketAddr,
    mut inbox: mpsc::Receiver<(Behaviour, oneshot::Sender<()>)>,
) {
    let address = listener.local_addr().expect("an address");
    let mut listener = Some(listener);
    let (behaviour, watched) = watch::channel(Behaviour::Pass);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = inbox.recv() => {
                let Some((wanted, done)) = order else { return };
                if wanted == Behaviour::Refuse {
                    listener = None;
                    connections.shutdown().await;
                } else if listener.is_none() {
                    listener = Some(TcpListener::bind(address).await.expect("the port is still free"));
                }
                behaviour.send_replace(wanted);
                // Who gave the order may have gone.
                done.send(()).ok();
            }
            Some((client, _)) = accept(listener.as_ref()) => {
                connections.spawn(carry(client, server, watched.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// `None`, which disables its branch, while nothing listens.
async fn accept(listener: Option<&TcpListener>) -> Option<(TcpStream, SocketAddr)> {
    listener?.accept().await.ok()
}

async fn carry(mut client: TcpStream, server: SocketAddr, behaviour: watch::Receiver<Behaviour>) {
    let Ok(mut upstream) = TcpStream::connect(server).await else { return };
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = upstream.split();
    let mut up = Pump { from: client_reads, to: server_writes, behaviour: behaviour.clone(), counted: None };
    let mut down = Pump { from: server_reads, to: client_writes, behaviour, counted: Some(0) };
    let end = tokio::select! {
        end = up.run() => end,
        end = down.run() => end,
    };
    if end == Ok(Some(End::Reset)) {
        // Without it a close is in order.
        client.set_zero_linger().ok();
    }
}

/// One direction of one connection.
struct Pump<R, W> {
    from: R,
    to: W,
    behaviour: watch::Receiver<Behaviour>,
    /// Bytes handed on, in the direction that can be cut.
    counted: Option<u64>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Pump<R, W> {
    /// Until the connection is cut, or one side has gone.
    async fn run(&mut self) -> Result<Option<End>, ()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            if let Some((0, end)) = self.cut() {
                return Ok(Some(end));
            }
            let read = tokio::select! {
                read = self.from.read(&mut buffer) => read.map_err(drop)?,
                changed = self.behaviour.changed() => { changed.map_err(drop)?; continue }
            };
            self.hold().await?;
            if read == 0 {
                return Ok(None);
            }
            let left = self.cut().map_or(u64::MAX, |(left, _)| left);
            let allowed = read.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.to.write_all(&buffer[..allowed]).await.map_err(drop)?;
            self.counted = self.counted.map(|counted| counted + allowed as u64);
        }
    }

    /// How many bytes may still pass, and what comes then.
    fn cut(&self) -> Option<(u64, End)> {
        match (*self.behaviour.borrow(), self.counted) {
            (Behaviour::Cut { after, end }, Some(counted)) => Some((after.saturating_sub(counted), end)),
            _ => None,
        }
    }

    /// Waits for as long as the behaviour says.
    async fn hold(&mut self) -> Result<(), ()> {
        loop {
            let now = *self.behaviour.borrow_and_update();
            match now {
                Behaviour::Stall => self.behaviour.changed().await.map_err(drop)?,
                Behaviour::Delay(by) => {
                    tokio::time::sleep(by).await;
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }
}
