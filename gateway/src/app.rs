//! app

use std::path::PathBuf;

pub async fn run(config: PathBuf) -> anyhow::Result<()> {
    anyhow::bail!("{} is not served yet", config.display())
}
