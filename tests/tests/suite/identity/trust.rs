//! Certificates: of issuers, of our own listeners, and of targets.

use super::{AUDIENCE, alice, check};
use countersign_gateway::vault::{UpstreamTls, Vault};
use countersign_infra::config::{Config, Reference, Speaks, Tls, TlsError};
use countersign_infra::identity::oidc::{self, TokenError, Verifier};
use countersign_tests::certificates::{Authority, LOCAL_NAMES, Leaf};
use countersign_tests::issuer::Issuer;
use countersign_tests::wait::eventually;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[tokio::test]
async fn an_issuer_is_believed_only_over_a_trusted_certificate() {
    let authority = Authority::new("An authority").unwrap();
    let other = Authority::new("Another authority").unwrap();
    let cases = [
        (authority.leaf(&["localhost"]).unwrap(), Some(authority.pem()), ""),
        (
            authority.leaf(&["localhost"]).unwrap(),
            Some(other.pem()),
            "UnknownIssuer",
        ),
        (authority.leaf(&["localhost"]).unwrap(), None, "UnknownIssuer"),
        (
            authority.leaf(&["login.example.com"]).unwrap(),
            Some(authority.pem()),
            "not valid for name",
        ),
        (
            authority.expired_leaf(&["localhost"]).unwrap(),
            Some(authority.pem()),
            "expired",
        ),
    ];
    for (leaf, ca, expected) in cases {
        let issuer = Issuer::start_encrypted("127.0.0.1:0".parse().unwrap(), &leaf)
            .await
            .unwrap();
        let mut trusted = oidc::Issuer::new(issuer.url(), vec![AUDIENCE.to_owned()]);
        trusted.ca_pem = ca.map(|pem| pem.as_bytes().to_vec());
        let verifier = Verifier::new(vec![trusted]).unwrap();
        match verifier.verify(&issuer.token(&alice()), chrono::Utc::now()).await {
            Err(TokenError::Unavailable { source, .. }) => {
                assert!(
                    !expected.is_empty() && source.to_string().contains(expected),
                    "{source}"
                );
            }
            answer => check("https", answer, expected),
        }
    }
}

#[tokio::test]
async fn a_listener_needs_a_key_that_fits_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("An authority").unwrap();
    let (one, two) = (
        authority.leaf(&LOCAL_NAMES).unwrap(),
        authority.leaf(&LOCAL_NAMES).unwrap(),
    );
    let tls = written(directory.path(), &one);
    assert!(tls.check().is_ok() && tls.acceptor(Speaks::Postgres).is_ok());
    written(
        directory.path(),
        &Leaf {
            certificate: one.certificate.clone(),
            key: two.key.clone(),
        },
    );
    assert!(matches!(tls.check(), Err(TlsError::Mismatch { .. })));
    written(
        directory.path(),
        &Leaf {
            certificate: "nothing".to_owned(),
            key: one.key.clone(),
        },
    );
    assert!(matches!(tls.check(), Err(TlsError::NoCertificate(_))));
    written(
        directory.path(),
        &Leaf {
            certificate: one.certificate.clone(),
            key: "nothing".to_owned(),
        },
    );
    assert!(matches!(tls.check(), Err(TlsError::NoKey(_))));
}

#[tokio::test]
async fn a_listener_agrees_on_its_protocol_or_ends_the_handshake() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("An authority").unwrap();
    let tls = written(directory.path(), &authority.leaf(&LOCAL_NAMES).unwrap());
    let acceptor = tls.acceptor(Speaks::Postgres).unwrap();
    for (offered, agreed) in [
        (vec!["postgresql"], Some(Some("postgresql"))),
        (vec!["h2", "postgresql"], Some(Some("postgresql"))),
        (vec![], Some(None)),
        (vec!["http/1.1"], None),
    ] {
        let mut client = trusting(authority.pem());
        client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let answer = handshake(&acceptor, Arc::new(client), "localhost").await;
        let name = answer.as_ref().ok().map(|(protocol, _)| protocol.as_deref());
        assert_eq!(name, agreed, "{offered:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("An authority").unwrap();
    let tls = written(directory.path(), &authority.leaf(&LOCAL_NAMES).unwrap());
    let acceptor = tls.acceptor(Speaks::Postgres).unwrap();
    let client = Arc::new(trusting(authority.pem()));
    let (_, first) = handshake(&acceptor, Arc::clone(&client), "localhost").await.unwrap();

    written(
        directory.path(),
        &Leaf {
            certificate: "broken".to_owned(),
            key: "broken".to_owned(),
        },
    );
    let renewed = authority.leaf(&LOCAL_NAMES).unwrap();
    let begun = std::time::Instant::now();
    let second = eventually("the renewed certificate", Duration::from_secs(20), async || {
        let (_, served) = handshake(&acceptor, Arc::clone(&client), "localhost").await.unwrap();
        if begun.elapsed() > Duration::from_secs(6) {
            // The broken pair was looked at by now, and the old one served all along.
            written(directory.path(), &renewed);
        }
        (served != first).then_some(served)
    });
    let expected = CertificateDer::from_pem_slice(renewed.certificate.as_bytes()).unwrap();
    assert_eq!(second.await.unwrap(), expected.as_ref());
}

#[tokio::test]
async fn a_targets_server_is_verified_in_full() {
    let authority = Authority::new("An authority").unwrap();
    let other = Authority::new("Another authority").unwrap();
    for (leaf, ca, host, accepted) in [
        (
            authority.leaf(&["localhost"]).unwrap(),
            authority.pem(),
            "localhost",
            true,
        ),
        (
            authority.leaf(&["127.0.0.1"]).unwrap(),
            authority.pem(),
            "127.0.0.1",
            true,
        ),
        (
            authority.leaf(&["db.example.com"]).unwrap(),
            authority.pem(),
            "localhost",
            false,
        ),
        (authority.leaf(&["localhost"]).unwrap(), other.pem(), "localhost", false),
        (
            authority.expired_leaf(&["localhost"]).unwrap(),
            authority.pem(),
            "localhost",
            false,
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let acceptor = written(directory.path(), &leaf).acceptor(Speaks::Postgres).unwrap();
        let vault = Vault::open(&with_target(directory.path(), ca, host)).unwrap();
        let access = vault.access("orders").await.unwrap();
        let UpstreamTls::VerifyFull { config, server_name } = access.tls else {
            panic!("{:?}", access.tls)
        };
        let answer = handshake(&acceptor, config, &server_name.to_str()).await;
        assert_eq!(answer.is_ok(), accepted, "{host}: {answer:?}");
    }
}

fn written(directory: &Path, leaf: &Leaf) -> Tls {
    for (name, text) in [("server.crt", &leaf.certificate), ("server.key", &leaf.key)] {
        std::fs::write(directory.join(name), text).unwrap();
        std::fs::set_permissions(directory.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let file = |name: &str| Reference::File(directory.join(name));
    Tls {
        certificate: file("server.crt"),
        key: file("server.key"),
    }
}

fn with_target(directory: &Path, ca: &str, host: &str) -> Config {
    std::fs::write(directory.join("ca.pem"), ca).unwrap();
    std::fs::write(directory.join("password"), "s3cret").unwrap();
    std::fs::set_permissions(directory.join("password"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "[gateway]\nname = \"g\"\ndata_dir = \"d\"\n[store]\nkind = \"embedded\"\n\
         [postgres]\nlisten = \"127.0.0.1:0\"\ntls = {{ certificate = \"file:server.crt\", key = \"file:server.key\" }}\n\
         [http]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://127.0.0.1\"\n[policy]\npath = \".\"\n\
         [[issuer]]\nurl = \"https://login.example.com\"\naudiences = [\"countersign\"]\n\
         [[target]]\nname = \"orders\"\nkind = \"postgres\"\nhost = \"{host}\"\ndatabase = \"shop\"\nuser = \"app\"\n\
         password = \"file:password\"\ntls.ca = \"file:ca.pem\"\n"
    );
    std::fs::write(directory.join("countersign.toml"), text).unwrap();
    countersign_gateway::app::load(&directory.join("countersign.toml")).unwrap()
}

fn trusting(ca: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Both ends of a handshake in memory: the agreed protocol, and the certificate that was served.
async fn handshake(
    acceptor: &TlsAcceptor,
    client: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<(Option<String>, Vec<u8>)> {
    let (near, far) = tokio::io::duplex(16 << 10);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(client);
    let (served, connected) = tokio::join!(acceptor.accept(far), connector.connect(name, near));
    let (connected, served) = (connected?, served?);
    let (_, session) = connected.get_ref();
    let protocol = served
        .get_ref()
        .1
        .alpn_protocol()
        .map(|name| String::from_utf8_lossy(name).into_owned());
    let certificate = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .map(|first| first.to_vec());
    Ok((protocol, certificate.unwrap_or_default()))
}
