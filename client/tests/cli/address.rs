//! Addresses at which no daemon answers: what a person is told, and that following it helps.

use std::io::{Read as _, Write as _};

use crate::daemon::piston;
use crate::text;

#[test]
fn no_daemon_says_how_to_start_one_there() {
    for words in [&["status"][..], &["run", "python", "-"]] {
        let output = piston("unix:///nowhere/piston.sock", words, b"");
        assert_eq!(output.status.code(), Some(125));
        insta::allow_duplicates!(insta::assert_snapshot!(text(&output.stderr), @"
        error: can't reach the daemon at unix:///nowhere/piston.sock: No such file or directory
         next: start one with `piston daemon start --host /nowhere/piston.sock` (`piston run -y` does), or name another with --host or $PISTON_HOST
        "));
    }
}

#[test]
fn an_address_on_a_network_where_nobody_answers_gets_advice_of_its_own() {
    let advice = |address: &str, words: &[&str]| {
        let output = piston(address, words, b"");
        assert_eq!(output.status.code(), Some(125));
        let complaint = text(&output.stderr);
        assert!(complaint.contains(address), "{complaint}");
        assert!(!complaint.contains("piston daemon start"), "{complaint}");
        complaint
            .split_once(" next: ")
            .expect("advice")
            .1
            .to_owned()
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let (plain, tls) = (
        format!("http://127.0.0.1:{port}"),
        format!("https://127.0.0.1:{port}"),
    );
    assert!(advice(&plain, &["status"]).starts_with("nothing listens there: check the port"));
    assert!(advice(&tls, &["status"]).contains("the proxy runs"));
    // RFC 6761: no such name will ever be there.
    for address in ["http://nowhere.invalid:2000", "https://nowhere.invalid"] {
        let advice = advice(address, &["run", "-y", "python", "-"]);
        assert!(advice.starts_with("check the host's name"), "{advice}");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // What a server without TLS says to the first bytes of TLS.
            let reply = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let mut stream = stream.expect("a client");
            let mut hello = [0; 4096];
            drop(
                stream
                    .read(&mut hello)
                    .and_then(|_| stream.write_all(reply)),
            );
        }
    });
    let advice = advice(&format!("https://127.0.0.1:{port}"), &["status"]);
    assert!(
        advice.contains(&format!("write http://127.0.0.1:{port}")),
        "{advice}"
    );
}

#[test]
fn whom_to_trust_is_a_file_with_certificates_and_for_https_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").expect("written");
    let empty = empty.to_str().expect("UTF-8");
    let complaint = |address: &str, file: &str| {
        let output = piston(address, &["--cacert", file, "status"], b"");
        assert_eq!(output.status.code(), Some(125));
        text(&output.stderr).to_owned()
    };
    let https = "https://127.0.0.1:9";
    assert!(complaint("/nowhere/s", empty).contains("only https:// addresses"));
    assert!(complaint(https, empty).contains("holds no certificate (PEM)"));
    let absent = complaint(https, "/nowhere.pem");
    assert!(absent.contains("/nowhere.pem: No such file"), "{absent}");
}

#[test]
fn a_wrong_address_says_how_it_is_written() {
    let output = piston("localhost:2000", &["status"], b"");
    assert_eq!(output.status.code(), Some(125));
    let text = text(&output.stderr);
    assert!(
        text.contains("`localhost:2000`") && text.contains("http://host:port"),
        "{text}"
    );
}
