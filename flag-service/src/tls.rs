//! Cryptography of the process.

use tokio_rustls::rustls::crypto::ring;

/// Makes ring the process's cryptography, as it is the tests'; libraries ask for the process's.
pub fn use_ring() {
    // An error means that it is so already.
    let _ = ring::default_provider().install_default();
}
