//! The credentials of targets, and how far their servers are trusted.
//!
//! Secrets leave this module only into `upstream.rs`.

mod roots;

use countersign_infra::config::{self, Config, ReferenceError, UpstreamTlsMode};
use countersign_infra::domain::secret::Secret;
use roots::Roots;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the gateway logs in to a target with. Never shown to a client.
pub struct Credential {
    pub user: String,
    pub password: Secret,
}

/// How a target's server is reached.
#[derive(Clone, Debug)]
pub enum UpstreamTls {
    /// TLS, with the certificate and the name in it verified.
    VerifyFull {
        config: Arc<rustls::ClientConfig>,
        server_name: ServerName<'static>,
    },
    /// No TLS. The caller refuses an address that is not on the loopback interface.
    PlaintextOnLoopback,
}

/// Where a target is, and all that is needed to log in to it. Made anew for each session.
pub struct Access {
    pub host: String,
    pub port: u16,
    pub credential: Credential,
    pub tls: UpstreamTls,
}

/// Why there is no access to a target. Names places, never secrets.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("there is no target called {0}")]
    UnknownTarget(String),
    #[error("the password of target {target}: {source}")]
    Password {
        target: String,
        #[source]
        source: ReferenceError,
    },
    #[error("the roots that target {target} trusts: {source}")]
    Roots {
        target: String,
        #[source]
        source: roots::RootsError,
    },
    #[error("{name:?} of target {target} is neither a host name nor an address")]
    ServerName { target: String, name: String },
    #[error("the vault's reader ended early")]
    Interrupted,
}

/// Keeps where each target's secrets are. The secrets themselves are read at each session's start, so that a
/// rotated one is used by the next session.
pub struct Vault {
    targets: BTreeMap<String, Arc<Target>>,
}

struct Target {
    config: config::Target,
    roots: Roots,
}

impl Vault {
    /// Opens the vault: every secret and every root is read once, so that a missing one shows at start.
    ///
    /// Blocks on the file system.
    pub fn open(config: &Config) -> Result<Self, VaultError> {
        let system = Arc::default();
        let mut targets = BTreeMap::new();
        for target in &config.targets {
            let entry = Target::new(target, &system);
            entry.access()?;
            targets.insert(target.name.clone(), Arc::new(entry));
        }
        Ok(Self { targets })
    }

    /// Whether a target's password can be read.
    pub fn check_password(target: &config::Target) -> Result<(), VaultError> {
        Target::new(target, &Arc::default()).credential().map(drop)
    }

    /// Whether there are roots and a name to verify a target's server with.
    pub fn check_tls(target: &config::Target) -> Result<(), VaultError> {
        Target::new(target, &Arc::default()).tls().map(drop)
    }

    /// Reads what is needed to log in to a target now. Cancel safe.
    pub async fn access(&self, target: &str) -> Result<Access, VaultError> {
        let entry = self.targets.get(target).cloned();
        let entry = entry.ok_or_else(|| VaultError::UnknownTarget(target.to_owned()))?;
        tokio::task::spawn_blocking(move || entry.access())
            .await
            .map_err(|_| VaultError::Interrupted)?
    }
}

impl Target {
    fn new(target: &config::Target, system: &Arc<roots::System>) -> Self {
        Self {
            config: target.clone(),
            roots: Roots::new(target.tls.ca.clone(), Arc::clone(system)),
        }
    }

    fn access(&self) -> Result<Access, VaultError> {
        Ok(Access {
            host: self.config.host.clone(),
            port: self.config.port,
            credential: self.credential()?,
            tls: self.tls()?,
        })
    }

    fn credential(&self) -> Result<Credential, VaultError> {
        let target = &self.config;
        let password = target.password.read().map_err(|source| VaultError::Password {
            target: target.name.clone(),
            source,
        })?;
        Ok(Credential {
            user: target.user.clone(),
            password,
        })
    }

    fn tls(&self) -> Result<UpstreamTls, VaultError> {
        let target = &self.config;
        match target.tls.mode {
            UpstreamTlsMode::Disable => Ok(UpstreamTls::PlaintextOnLoopback),
            UpstreamTlsMode::VerifyFull => {
                let name = target.tls.server_name.as_ref().unwrap_or(&target.host);
                let server_name = ServerName::try_from(name.clone()).map_err(|_| VaultError::ServerName {
                    target: target.name.clone(),
                    name: name.clone(),
                })?;
                let config = self.roots.client().map_err(|source| VaultError::Roots {
                    target: target.name.clone(),
                    source,
                })?;
                Ok(UpstreamTls::VerifyFull { config, server_name })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn password(dir: &Path, text: &str) {
        let path = dir.join("password");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn config(dir: &Path) -> Config {
        let text = "[gateway]\nname = \"g\"\ndata_dir = \"d\"\n[store]\nkind = \"embedded\"\n\
            [postgres]\nlisten = \"127.0.0.1:0\"\ntls = { certificate = \"file:c\", key = \"file:k\" }\n\
            [http]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://127.0.0.1\"\n[policy]\npath = \"p\"\n\
            [[issuer]]\nurl = \"https://login.example.com\"\naudiences = [\"countersign\"]\n\
            [[target]]\nname = \"orders\"\nkind = \"postgres\"\nhost = \"127.0.0.1\"\ndatabase = \"shop\"\n\
            user = \"app\"\npassword = \"file:password\"\ntls.mode = \"disable\"\n";
        std::fs::write(dir.join("countersign.toml"), text).unwrap();
        Config::load(&dir.join("countersign.toml")).unwrap()
    }

    #[tokio::test]
    async fn a_rotated_password_is_used_by_the_next_session() {
        let dir = tempfile::tempdir().unwrap();
        password(dir.path(), "first\n");
        let vault = Vault::open(&config(dir.path())).unwrap();
        for (rotated, expected) in [(None, "first"), (Some("second"), "second")] {
            if let Some(text) = rotated {
                password(dir.path(), text);
            }
            let access = vault.access("orders").await.unwrap();
            assert_eq!(
                (access.credential.user.as_str(), access.credential.password.reveal()),
                ("app", expected)
            );
            assert!(matches!(access.tls, UpstreamTls::PlaintextOnLoopback));
        }
        std::fs::remove_file(dir.path().join("password")).unwrap();
        assert!(matches!(vault.access("orders").await, Err(VaultError::Password { .. })));
        assert!(matches!(vault.access("other").await, Err(VaultError::UnknownTarget(_))));
    }

    #[test]
    fn a_vault_without_a_password_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let error = Vault::open(&config(dir.path())).err().unwrap().to_string();
        assert!(error.starts_with("the password of target orders: "), "{error}");
    }
}
