//! The one HTTP client where the network is not kind: each fault ends in time, and its error says what a person can mend.

use super::{
    stub::{Stub, clock, reply},
    tls::{TlsServer, certified, certified_until},
};
use forerunner::{
    adapters::{
        gitlab::{Gitlab, TokenSource},
        http::{Http, HttpSettings, Loopback, Proxy, Repeat, Request, TransportError},
    },
    domain::class::Class,
};
use http::Method;
use secrecy::SecretString;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const HOST: &str = "gitlab.example.com";

fn get(host: &str, port: u16) -> Request {
    Request::get(format!("https://{host}:{port}/here").parse().unwrap())
}

/// A server that does the same with each connection, once it has read something.
async fn raw<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Clone + Send + 'static,
) -> (u16, Arc<AtomicUsize>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let serve = serve.clone();
            tokio::spawn(async move {
                if stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                    serve(stream).await;
                }
            });
        }
    });
    (port, taken, task)
}

/// Gives a byte of a long answer now and then, for ever.
async fn drip(mut stream: TcpStream) {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for byte in head.iter().copied().chain(std::iter::repeat(b'x')) {
        if stream.write_all(&[byte]).await.is_err() {
            return;
        }
        // The head comes at once, the body drips.
        if byte == b'x' {
            ticks.tick().await;
        }
    }
}

/// An answer that never ends.
async fn flood(mut stream: TcpStream) {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let mut more = stream.write_all(head).await;
    while more.is_ok() {
        more = stream.write_all(chunk.as_bytes()).await;
    }
}

async fn half(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"id\": 4").await;
}

async fn garbage(mut stream: TcpStream) {
    let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await;
}

fn played(port: u16, settings: HttpSettings) -> Http {
    let settings = HttpSettings { loopback: vec![Loopback::new(HOST, port)], ..settings };
    Http::new(settings, clock())
}

fn impatient() -> HttpSettings {
    HttpSettings { total_timeout: Duration::from_millis(300), ..HttpSettings::default() }
}

#[tokio::test]
async fn an_answer_that_drips_ends_at_the_time_out() {
    let (port, _, _server) = raw(drip).await;
    let request = get(HOST, 443).repeat(Repeat::Never);
    let error = played(port, impatient()).send(request).await.unwrap_err();
    assert!(matches!(error, TransportError::TimedOut { .. }), "{error:?}");
    assert_eq!(error.to_string(), "gitlab.example.com did not answer in time");
    assert_eq!(error.class(), Class::Retry { after: None });
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off_at_the_limit() {
    let (port, taken, _server) = raw(flood).await;
    let settings = HttpSettings { response_bytes_max: 50_000, ..HttpSettings::default() };
    let error = played(port, settings).send(get(HOST, 443)).await.unwrap_err();
    assert_eq!(error.to_string(), "the answer of gitlab.example.com is larger than 50000 bytes");
    assert_eq!((error.class(), taken.load(Ordering::SeqCst)), (Class::Permanent, 1));
}

#[tokio::test]
async fn half_an_answer_is_none_and_is_asked_for_again() {
    let (port, taken, _server) = raw(half).await;
    let error = played(port, HttpSettings::default()).send(get(HOST, 443)).await.unwrap_err();
    assert!(matches!(error, TransportError::Broken { .. }), "{error:?}");
    assert_eq!(taken.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_an_error() {
    let (port, _, _server) = raw(garbage).await;
    let error = played(port, HttpSettings::default()).send(get(HOST, 443)).await.unwrap_err();
    assert!(matches!(error, TransportError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_is_not_reached() {
    // TCP is there, TLS never answers.
    let (port, _, _server) = raw(|stream: TcpStream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let settings =
        HttpSettings { connect_timeout: Duration::from_millis(200), ..HttpSettings::default() };
    let http = Http::new(settings, clock());
    let url = format!("https://localhost:{port}/").parse().unwrap();
    let error = http.send(Request::new(Method::POST, url)).await.unwrap_err();
    assert!(matches!(error, TransportError::Unreached { .. }), "{error:?}");
    assert_eq!(error.to_string(), "localhost could not be reached");
}

#[tokio::test]
async fn a_certificate_is_accepted_only_for_its_name_its_time_and_from_an_authority_we_trust() {
    let good = TlsServer::start(&certified("localhost"), &[]).await;
    assert_eq!(good.trusted().send(get("localhost", good.port)).await.unwrap().status, 200);

    let check = async |http: Http, port: u16, words: &str| {
        let error = http.send(get("localhost", port)).await.unwrap_err();
        assert!(matches!(error, TransportError::Untrusted { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("the certificate of localhost is not accepted"), "{text}");
        assert!(text.contains(words), "{text}");
        assert_eq!(error.class(), Class::Permanent);
    };
    let stranger = Http::new(HttpSettings::default(), clock());
    check(stranger, good.port, "no authority that we trust signed it").await;
    assert_eq!(good.connections(), 2, "a refusal is not tried twice");
    let other = TlsServer::start(&certified("other.example.com"), &[]).await;
    check(other.trusted(), other.port, "made out for another name").await;
    let old = TlsServer::start(&certified_until("localhost", 2021), &[]).await;
    check(old.trusted(), old.port, "it has expired").await;
}

#[tokio::test]
async fn a_clusters_own_authority_is_trusted_alone() {
    let (ours, other) = (certified("localhost"), certified("localhost"));
    let server = TlsServer::start(&ours, &[]).await;
    // The client's own CA file holds the server's, which does not count here.
    let only = |pem: &str| server.trusted().trusting_only(pem.as_bytes().to_vec());
    assert!(only(&ours.pem).send(get("localhost", server.port)).await.is_ok());
    let error = only(&other.pem).send(get("localhost", server.port)).await.unwrap_err();
    assert!(matches!(error, TransportError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered_and_connections_are_kept() {
    let check = async |protocols: &[&str], expected: &str| {
        let server = TlsServer::start(&certified("localhost"), protocols).await;
        let http = server.trusted();
        for _ in 0..3 {
            let answer = http.send(get("localhost", server.port)).await.unwrap();
            assert_eq!(answer.text(), expected);
        }
        assert_eq!(server.connections(), 1);
    };
    check(&["h2", "http/1.1"], "HTTP/2.0 /here").await;
    check(&["http/1.1"], "HTTP/1.1 /here").await;
    check(&[], "HTTP/1.1 /here").await;
}

/// A proxy that tunnels everything to one port, and the targets it was asked for.
async fn proxy(to: u16) -> (Proxy, Arc<std::sync::Mutex<Vec<String>>>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://made:up@127.0.0.1:{}", listener.local_addr().unwrap().port());
    let asked: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let noted = asked.clone();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            noted.lock().unwrap().push(String::from_utf8(head).unwrap());
            tokio::spawn(async move {
                let mut onward = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    let except = Some("127.0.0.1,localhost,.inner.example");
    (Proxy::new(address.parse().unwrap(), except), asked, task)
}

#[tokio::test]
async fn a_proxy_is_used_for_all_but_what_is_excepted() {
    let server = TlsServer::start(&certified(HOST), &[]).await;
    let (proxy, asked, _task) = proxy(server.port).await;
    assert!(!format!("{proxy:?}").contains("made"), "a proxy's password is not shown");
    let settings = HttpSettings { proxy: Some(proxy.clone()), ..HttpSettings::default() };
    let http = server.client(settings);
    // Nobody but the proxy knows where this host is.
    assert_eq!(http.send(get(HOST, 443)).await.unwrap().text(), "HTTP/1.1 /here");
    let first = asked.lock().unwrap()[0].to_ascii_lowercase();
    assert!(first.starts_with("connect gitlab.example.com:443 "), "{first}");
    assert!(first.contains("proxy-authorization: basic"), "{first}");

    let local = TlsServer::start(&certified("localhost"), &[]).await;
    let settings = HttpSettings { proxy: Some(proxy), ..HttpSettings::default() };
    assert!(local.client(settings.clone()).send(get("localhost", local.port)).await.is_ok());
    // Plain HTTP is the identity endpoint's and the sandbox's, both on this machine.
    let stub = Stub::answering(|_, _| reply(200, "")).await;
    let url = format!("http://127.0.0.1:{}/msi/token", stub.port).parse().unwrap();
    local.client(settings).send(Request::get(url)).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1, "neither went through the proxy");
}

#[tokio::test]
async fn what_is_no_json_is_told_apart_and_never_quoted() {
    let check = async |kind: &'static str, body: &'static str, words: &str| {
        let stub = Stub::answering(move |_, _| reply(200, body).header("content-type", kind)).await;
        let token = TokenSource::Given(SecretString::from("made-up"));
        let url = "https://gitlab.example.com".parse().unwrap();
        let error = Gitlab::new(stub.http(&[HOST]), url, token).version().await.unwrap_err();
        let text = error.to_string();
        assert_eq!(text, format!("GitLab's answer about its version cannot be read: {words}"));
        assert_eq!(error.class(), Class::Retry { after: None });
    };
    let json = "application/json";
    check(json, "", "it is empty").await;
    check(json, "{\"version\": \"19.4", "it ends in the middle, after 17 bytes").await;
    check(json, "{\"version\": oops}", "it is no JSON from line 1 column 13 on").await;
    check(json, "{\"version\": 19}", "not the JSON we know, at line 1 column 14").await;
    let page =
        "it is `text/html` and no JSON; does a proxy or a sign-in page answer at this address?";
    check("text/html; charset=utf-8", "<html>Please sign in</html>", page).await;
}
