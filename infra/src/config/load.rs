//! Reading `countersign.toml`.

use super::walk::{Places, one_line, walk};
use super::{AwsStore, Config, OperationsKey, Reference, ReferenceError, Store, Target, checks, references};
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
    #[error("the configuration {0}")]
    Unreadable(#[source] ReferenceError),
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
    /// Relative paths in it are taken from the directory that holds it. All problems of a kind are told at once:
    /// first those of keys and types, then those of values.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with_places(path).map(|(config, _)| config)
    }

    /// Reads a configuration like `load`, and each of its references too: what a gateway starts with. `target` says what is
    /// wrong with the references of a target, and under which key.
    pub fn load_with_references(
        path: &Path,
        target: impl Fn(&Target) -> Vec<(&'static str, String)>,
    ) -> Result<Self, ConfigError> {
        let (config, places) = Self::load_with_places(path)?;
        let problems = references::check(&config, &places, target);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(invalid(problems, path))
        }
    }

    fn load_with_places(path: &Path) -> Result<(Self, Places), ConfigError> {
        let text = Reference::File(path.to_owned())
            .read_text()
            .map_err(ConfigError::Unreadable)?;
        let (mut config, places) = Self::parse(&text).map_err(|problems| invalid(problems, path))?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok((config, places))
    }

    fn parse(text: &str) -> Result<(Self, Places), Vec<Problem>> {
        let (places, problems) = walk(text);
        if !problems.is_empty() {
            return Err(problems);
        }
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map(|before| 1 + before.matches('\n').count());
            vec![Problem {
                line,
                text: one_line(error.message()),
            }]
        })?;
        let problems = checks::check(&config, &places);
        if problems.is_empty() {
            Ok((config, places))
        } else {
            Err(problems)
        }
    }

    fn resolve(&mut self, base: &Path) {
        self.gateway.data_dir = base.join(&self.gateway.data_dir);
        self.policy.path = base.join(&self.policy.path);
        if let Some(path) = self.gateway.spool_dir.as_mut() {
            *path = base.join(&path);
        }
        if let Store::Aws(AwsStore {
            operations_key: OperationsKey::File(path),
            ..
        }) = &mut self.store
        {
            *path = base.join(&path);
        }
        let listeners = [
            Some(&mut self.postgres.tls),
            self.http.tls.as_mut(),
            self.bot.as_mut().and_then(|bot| bot.tls.as_mut()),
        ];
        for tls in listeners.into_iter().flatten() {
            tls.certificate.resolve(base);
            tls.key.resolve(base);
        }
        if let Some(bot) = &mut self.bot {
            let secrets = std::iter::once(&mut bot.ring_key)
                .chain(bot.slack.iter_mut().flat_map(|slack| {
                    std::iter::once(&mut slack.bot_token)
                        .chain(slack.signing_secret.as_mut())
                        .chain(slack.app_token.as_mut())
                }))
                .chain(bot.discord.iter_mut().map(|discord| &mut discord.bot_token));
            secrets.for_each(|secret| secret.resolve(base));
        }
        for secret in self
            .issuers
            .iter_mut()
            .filter_map(|issuer| issuer.client_secret.as_mut())
        {
            secret.resolve(base);
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

fn invalid(problems: Vec<Problem>, path: &Path) -> ConfigError {
    ConfigError::Invalid {
        path: path.to_owned(),
        problems,
    }
}
