//! The stores that Terraform makes, as `make cloud` has it make them.

use super::{Cloud, CloudStores, fresh_name, localstack};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;
use tokio::process::Command;

const APPLY_LIMIT: Duration = Duration::from_secs(300);

impl Cloud {
    /// Applies what `make cloud` applies, under a name of its own.
    pub async fn apply_terraform(&self) -> Result<CloudStores> {
        let directory = tempfile::Builder::new().prefix("countersign-terraform-").tempdir()?;
        let mut command = Command::new(localstack().join("apply.sh"));
        command.arg(directory.path()).kill_on_drop(true);
        command.envs(Self::environment(self.endpoint()));
        command.env("TF_VAR_name", fresh_name("made"));
        let applied = tokio::time::timeout(APPLY_LIMIT, command.output())
            .await
            .context("localstack/apply.sh takes too long")?
            .context("cannot run localstack/apply.sh")?;
        ensure!(
            applied.status.success(),
            "localstack/apply.sh failed: {}",
            String::from_utf8_lossy(&applied.stderr)
        );
        let outputs: Value = serde_json::from_slice(&applied.stdout).context("the outputs of Terraform")?;
        let output = |name: &str| {
            let value = outputs.pointer(&format!("/{name}/value")).and_then(Value::as_str);
            value
                .map(str::to_owned)
                .with_context(|| format!("Terraform has no output {name}"))
        };
        Ok(CloudStores {
            table: output("table")?,
            bucket: output("bucket")?,
            kms_key: output("kms_key")?,
        })
    }
}
