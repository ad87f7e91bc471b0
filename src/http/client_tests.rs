use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use super::super::{Secret, error_chain, read_body};
use super::*;

/// Answers each connection once, with `answer`, and gives back what was asked.
fn serve(answers: Vec<Vec<u8>>) -> (url::Url, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap()).parse().unwrap();
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).unwrap();
            asked.push(String::from_utf8_lossy(&buffer[..n]).to_lowercase());
            let _closed_by_peer = stream.write_all(&answer);
        }
        asked
    });
    (url, thread)
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

#[tokio::test]
async fn secrets_in_files_are_read_at_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let config = HttpConfig {
        authentication: Some(Authentication::Header {
            kind: "Bearer".to_owned(),
            credentials: SecretSource::File(token.clone()),
        }),
        headers: vec![("X-A".to_owned(), SecretSource::Value(Secret::new("b")))],
        ..HttpConfig::default()
    };
    let client = ClientPool::new().client(&config);
    let (url, asked) = serve(vec![answer(""), answer("")]);
    for secret in ["one\n", "two\n"] {
        std::fs::write(&token, secret).unwrap();
        client.request(Method::GET, url.clone()).unwrap().send().await.unwrap();
    }
    let asked = asked.join().unwrap();
    assert!(
        asked[0].contains("authorization: bearer one\r\n") && asked[0].contains("x-a: b\r\n"),
        "{asked:?}"
    );
    assert!(asked[1].contains("authorization: bearer two\r\n"), "{asked:?}");
    std::fs::remove_file(&token).unwrap();
    let error = client.request(Method::GET, url).unwrap_err().to_string();
    assert!(error.starts_with("unable to read credentials file"), "{error}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read_to_its_end() {
    let endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n0123456789".to_vec();
    let (url, _asked) = serve(vec![answer("12345678"), answer("123456789"), endless]);
    let client = ClientPool::new().client(&HttpConfig::default());
    for fits in [true, false, false] {
        let mut response = client.request(Method::GET, url.clone()).unwrap().send().await.unwrap();
        let mut body = Vec::new();
        let read = read_body(&mut response, 8, &mut body).await;
        assert_eq!(read.is_ok(), fits, "{read:?}");
        assert!(body.len() <= 8);
    }
}

#[tokio::test]
async fn redirects_are_followed_only_when_wanted() {
    let (there, asked) = serve(vec![answer("there")]);
    let moved =
        format!("HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: {there}\r\ncontent-length: 0\r\n\r\n");
    let (url, _asked) = serve(vec![moved.clone().into_bytes(), moved.into_bytes()]);
    let pool = ClientPool::new();
    let stay = pool.client(&HttpConfig { follow_redirects: false, ..HttpConfig::default() });
    assert_eq!(stay.request(Method::GET, url.clone()).unwrap().send().await.unwrap().status(), 302);
    let follow = pool.client(&HttpConfig::default());
    assert_eq!(
        follow.request(Method::GET, url).unwrap().send().await.unwrap().text().await.unwrap(),
        "there"
    );
    assert_eq!(asked.join().unwrap().len(), 1);
}

#[test]
fn equal_settings_share_a_client_and_unused_ones_go() {
    let pool = ClientPool::new();
    let a = pool.client(&HttpConfig::default());
    let b = pool.client(&HttpConfig::default());
    assert!(Arc::ptr_eq(&a.shared, &b.shared));
    drop((a, b));
    let _other = pool.client(&HttpConfig { enable_http2: false, ..HttpConfig::default() });
    assert_eq!(pool.clients.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url: url::Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let client = ClientPool::new().client(&HttpConfig::default());
    let error = client.request(Method::GET, url).unwrap().send().await.unwrap_err();
    let text = error_chain(&HttpError::from(error));
    assert!(text.to_lowercase().contains("refused") && !text.contains("127.0.0.1:"), "{text}");
}

/// A TLS server with a certificate for `server.test` that answers each of `n` connections; gives its port and CA.
fn serve_tls(n: usize, client_ca: bool) -> (u16, rcgen::CertifiedKey<rcgen::KeyPair>) {
    let certified = rcgen::generate_simple_self_signed(["server.test".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if client_ca {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let config = Arc::new(builder.with_single_cert(vec![certified.cert.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for _ in 0..n {
            let (mut stream, _) = listener.accept().unwrap();
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            let mut buffer = [0; 4096];
            if tls.read(&mut buffer).is_ok() {
                let _closed_by_peer = tls.write_all(&answer("fine"));
                let _closed_by_peer = tls.flush();
            }
        }
    });
    (port, certified)
}

#[tokio::test]
async fn certificates_are_checked_as_configured() {
    let (port, certified) = serve_tls(4, false);
    let ca = Some(SecretSource::Value(Secret::new(certified.cert.pem())));
    let named = Some("server.test".to_owned());
    let pool = ClientPool::new();
    for (tls, expected) in [
        (super::super::TlsConfig::default(), "UnknownIssuer"),
        (super::super::TlsConfig { ca: ca.clone(), ..Default::default() }, "not valid for name"),
        (super::super::TlsConfig { ca, server_name: named, tls13_only: true, ..Default::default() }, "fine"),
        (
            super::super::TlsConfig { insecure_skip_verify: true, tls12_only: true, ..Default::default() },
            "fine",
        ),
    ] {
        let client = pool.client(&HttpConfig { tls: tls.clone(), ..HttpConfig::default() });
        let url = format!("https://127.0.0.1:{port}/").parse().unwrap();
        let said = match client.request(Method::GET, url).unwrap().send().await {
            Ok(response) => response.text().await.unwrap(),
            Err(error) => error_chain(&HttpError::from(error)),
        };
        assert!(said.contains(expected), "{tls:?}: {said}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_read_anew_when_its_file_changes() {
    let (port, certified) = serve_tls(2, true);
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, "nothing").unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let identity = Some((SecretSource::File(cert.clone()), SecretSource::File(PathBuf::from(&key))));
    let tls = super::super::TlsConfig { identity, insecure_skip_verify: true, ..Default::default() };
    let client = ClientPool::new().client(&HttpConfig { tls, ..HttpConfig::default() });
    let url: url::Url = format!("https://127.0.0.1:{port}/").parse().unwrap();
    let error = client.request(Method::GET, url.clone()).unwrap_err().to_string();
    assert!(error.contains("client certificate is no valid PEM"), "{error}");
    std::fs::write(&cert, certified.cert.pem()).unwrap();
    let said = client.request(Method::GET, url).unwrap().send().await.unwrap().text().await.unwrap();
    assert_eq!(said, "fine");
}
