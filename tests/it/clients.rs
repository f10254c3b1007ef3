//! HTTP clients of the sample service that are slow, huge, many, or never read: they cost little, and keep nobody out.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::feed::{key, put};
use crate::serve::{address, fresh, get, serve};
use crate::support::{DEADLINE, Daemon, eventually};

/// MB resident.
fn resident(service: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn connect(to: &str) -> TcpStream {
    let stream = TcpStream::connect(to.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Whether the service ends the connection within `limit`, whatever it says before.
fn ends_within(stream: &mut TcpStream, limit: Duration) -> bool {
    let since = Instant::now();
    stream.set_read_timeout(Some(limit)).unwrap();
    let mut rest = [0; 4096];
    while since.elapsed() < limit {
        match stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_huge_clients_keep_nobody_out_and_cost_little() {
    let (server, bucket) = fresh().await;
    let k = key("service1");
    // Large, so that an answer does not fit into a socket's buffers.
    put(&bucket, &k, &format!("n = 0\ntext = \"{}\"\n", "x".repeat(900_000))).await;
    let mut service = serve(&server.url(), bucket.name(), &["--http", "127.0.0.1:0"]);
    service.event("applied");
    let to = address(&service);
    assert_eq!(get(&service, "healthz").0, 200);
    let before = resident(&service);
    let answers = |what: &str| {
        let since = Instant::now();
        assert_eq!(get(&service, "healthz").0, 200, "{what}");
        assert!(since.elapsed() < DEADLINE, "{what}: it took {:?}", since.elapsed());
        let now = resident(&service);
        assert!(now < before + 90, "{what}: {now} MB, where it was {before}");
    };

    // Heads that never end, far more of them than are kept, and connections that only sit there.
    let mut slow: Vec<_> = (0..300).map(|_| connect(&to)).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET /config HTTP/1.1\r\nX-Slow: ");
    }
    let idle: Vec<_> = (0..300).map(|_| connect(&to)).collect();
    answers("slow and idle ones");
    let mut last = connect(&to);
    last.write_all(b"GET /con").unwrap();
    assert!(ends_within(&mut last, Duration::from_secs(15)), "a head may come for ever");
    drop((slow, idle));

    // Answers that nobody reads.
    let mut deaf: Vec<_> = (0..70).map(|_| connect(&to)).collect();
    for stream in &mut deaf {
        let _ = stream.write_all(&b"GET /config HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10));
    }
    answers("deaf ones");
    eventually("it has let go of the deaf", 2 * DEADLINE, || (resident(&service) < before + 10).then_some(()));

    // A head of 16 MB, and a body of as much as anybody likes.
    let mut head = connect(&to);
    let _ = head.write_all(b"GET / HTTP/1.1\r\n");
    let mut sent = 0;
    while sent < 16 << 20 && head.write_all(format!("X-{sent}: {}\r\n", "y".repeat(1000)).as_bytes()).is_ok() {
        sent += 1_000;
    }
    assert!(sent < 16 << 20, "it took all of a head of 16 MB");
    let mut body = connect(&to);
    let _ = body.write_all(b"POST /config HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n");
    body.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut sent = 0;
    while sent < 256 << 20 && body.write_all(&[b'z'; 65_536]).is_ok() {
        sent += 65_536;
    }
    assert!(sent < 256 << 20, "it took all of the body");
    answers("huge ones");

    // All the while it follows its key, and nothing of the above has ended it.
    let revision = put(&bucket, &k, "n = 1").await;
    assert_eq!(service.event("applied")["revision"], revision.0);
    drop(deaf);
    eventually("it has let go of them", DEADLINE, || (resident(&service) < before + 40).then_some(()));
    service.sigterm();
    assert_eq!(service.wait_exit(), 0);
}
