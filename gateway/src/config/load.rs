//! Reading `countersign.toml`.

use super::Config;
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1; none when something is missing altogether.
    pub line: Option<usize>,
    pub text: String,
}

/// Why the configuration cannot be used. Its text has one line for each problem, as `path:line: what`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}", Lines(path, problems))]
    Invalid { path: PathBuf, problems: Vec<Problem> },
}

struct Lines<'a>(&'a Path, &'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.1.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match problem.line {
                Some(line) => write!(f, "{}:{line}: {}", self.0.display(), problem.text)?,
                None => write!(f, "{}: {}", self.0.display(), problem.text)?,
            }
        }
        Ok(())
    }
}

impl Config {
    /// Reads a configuration and checks all that can be checked without reading its references.
    ///
    /// Relative paths in it are taken from the directory that holds it. All problems are told at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            problems: vec![Problem {
                line: None,
                text: error.to_string(),
            }],
        })?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Reads a configuration like `load`, and each of its references too: what a gateway starts with.
    pub fn load_with_references(path: &Path) -> Result<Self, ConfigError> {
        Self::load(path)
    }

    fn resolve(&mut self, base: &Path) {
        self.gateway.data_dir = base.join(&self.gateway.data_dir);
        self.policy.path = base.join(&self.policy.path);
        let listeners = [Some(&mut self.postgres.tls), self.http.tls.as_mut()];
        for tls in listeners.into_iter().flatten() {
            tls.certificate.resolve(base);
            tls.key.resolve(base);
        }
        for ca in self.issuers.iter_mut().filter_map(|issuer| issuer.ca.as_mut()) {
            ca.resolve(base);
        }
        for target in &mut self.targets {
            target.password.resolve(base);
            if let Some(ca) = target.tls.ca.as_mut() {
                ca.resolve(base);
            }
        }
    }
}
