//! The stores of a gateway, as its configuration names them.

use countersign_infra::config::Config;
use countersign_infra::stores::Stores;

/// Opens them. In tests of restarts they end this process at the write that `COUNTERSIGN_CRASH_AT` names.
pub async fn open(config: &Config) -> anyhow::Result<Stores> {
    let stores = Stores::open(config).await?;
    #[cfg(feature = "crash-points")]
    let stores = stores.with_crash_point()?;
    Ok(stores)
}
