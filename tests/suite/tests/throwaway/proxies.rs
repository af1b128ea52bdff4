//! A proxy misbehaves exactly as it is told.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ops_testkit::{Behaviour, End, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const A_WHILE: Duration = Duration::from_millis(150);

/// A server that says everything back.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    address
}

async fn proxy() -> (Proxy, TcpStream) {
    let proxy = Proxy::to(echo().await).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

async fn says_back(client: &mut TcpStream, words: &[u8]) {
    client.write_all(words).await.unwrap();
    let mut back = vec![0; words.len()];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(back, words);
}

/// Whether the client gets nothing for a while.
async fn is_silent(client: &mut TcpStream) -> bool {
    timeout(A_WHILE, client.read_u8()).await.is_err()
}

#[tokio::test]
async fn it_passes_and_closes() {
    let (proxy, mut client) = proxy().await;
    says_back(&mut client, &vec![7; 100_000]).await;
    let address = proxy.address();
    proxy.close().await;
    assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)), "the connection ends");
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn it_stalls_new_connections_and_those_in_midstream() {
    let (proxy, mut client) = proxy().await;
    says_back(&mut client, b"before").await;
    proxy.set(Behaviour::Stall).await;
    client.write_all(b"x").await.unwrap();
    assert!(is_silent(&mut client).await);
    let mut newcomer = TcpStream::connect(proxy.address()).await.unwrap();
    newcomer.write_all(b"y").await.unwrap();
    assert!(is_silent(&mut newcomer).await);

    proxy.set(Behaviour::Pass).await;
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    assert_eq!(newcomer.read_u8().await.unwrap(), b'y');
}

#[tokio::test]
async fn it_delays() {
    let (proxy, mut client) = proxy().await;
    proxy.set(Behaviour::Delay(A_WHILE)).await;
    let began = Instant::now();
    says_back(&mut client, b"slowly").await;
    assert!(began.elapsed() >= 2 * A_WHILE, "there and back: {:?}", began.elapsed());
}

#[tokio::test]
async fn it_cuts_after_exactly_so_many_bytes() {
    for end in [End::Close, End::Reset] {
        let (proxy, mut client) = proxy().await;
        proxy.set(Behaviour::Cut { after: 5, end }).await;
        client.write_all(b"0123456789").await.unwrap();
        let mut got = Vec::new();
        let ended = client.read_to_end(&mut got).await;
        match end {
            End::Close => assert_eq!((got.as_slice(), ended.unwrap()), (b"01234".as_slice(), 5)),
            // A reset may overtake what was sent before it.
            End::Reset => {
                assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
                assert!(b"01234".starts_with(&got), "{got:?}");
            }
        }
    }
}

#[tokio::test]
async fn it_cuts_an_idle_connection() {
    let (proxy, mut client) = proxy().await;
    says_back(&mut client, b"before").await;
    proxy.set(Behaviour::Cut { after: 0, end: End::Reset }).await;
    assert_eq!(client.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn it_refuses_and_comes_back_at_the_same_address() {
    let (proxy, mut client) = proxy().await;
    says_back(&mut client, b"before").await;
    proxy.set(Behaviour::Refuse).await;
    assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)), "the connection ends");
    assert_eq!(TcpStream::connect(proxy.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    proxy.set(Behaviour::Pass).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    says_back(&mut client, b"after").await;
}
