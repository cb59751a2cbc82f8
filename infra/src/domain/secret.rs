//! Bytes that must not be printed, logged or stored.

use zeroize::Zeroize;

/// A secret. It has no `Debug` that shows it and no `Serialize`; its memory is wiped when it is dropped.
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Shows the secret. Each call is a place to look at in review.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
