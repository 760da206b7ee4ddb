// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Keys from the secret of the group, and sealed datagrams.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chacha20poly1305::aead::rand_core::RngCore;
use chacha20poly1305::aead::{Aead, AeadCore, KeyInit, OsRng};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;

/// Fewest bytes of a secret.
const SECRET_MIN: usize = 32;

const NONCE: usize = 24;

/// A number that nobody can guess.
pub fn random() -> u64 {
    OsRng.next_u64()
}

/// The secret that all nodes of a group share.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Reads it from a file. White space around it does not count.
    ///
    /// # Errors
    ///
    /// A sentence for a person: unreadable, readable by everybody, or too short.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong =
            |e: &dyn std::fmt::Display| format!("node.secret-file: {}: {e}", path.display());
        let mode = fs::metadata(path)
            .map_err(|e| wrong(&e))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(wrong(&format!(
                "mode is {:o}, must be 600 or 400",
                mode & 0o777
            )));
        }
        let bytes = fs::read(path).map_err(|e| wrong(&e))?;
        Self::new(bytes.trim_ascii()).ok_or_else(|| {
            wrong(&format!(
                "must have {SECRET_MIN} bytes at least (openssl rand -base64 32)"
            ))
        })
    }

    /// A secret of these bytes; `None` if they are too few.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= SECRET_MIN).then(|| Secret(bytes.to_vec()))
    }

    /// The key for one purpose.
    pub fn key(&self, purpose: &str) -> [u8; 32] {
        let mut key = [0; 32];
        // PANIC: 32 bytes are fewer than the 255 hashes that HKDF gives.
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(purpose.as_bytes(), &mut key)
            .unwrap();
        key
    }
}

/// Seals and opens datagrams.
pub struct Seal(XChaCha20Poly1305);

impl Seal {
    /// For one purpose.
    pub fn new(secret: &Secret, purpose: &str) -> Self {
        Seal(XChaCha20Poly1305::new(&secret.key(purpose).into()))
    }

    /// The sealed form of `plain`.
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let mut out = nonce.to_vec();
        // Fails only beyond 256 GiB.
        out.extend(self.0.encrypt(&nonce, plain).unwrap_or_default());
        out
    }

    /// What was sealed, or `None` if a byte of it is not ours.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE)?;
        self.0.decrypt(XNonce::from_slice(nonce), rest).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;

        let path = std::env::temp_dir().join(format!("holdfast-secret-{}", std::process::id()));
        let mut f = std::fs::File::create(&path).unwrap();
        f.write_all(&[b'x'; 40]).unwrap();
        f.set_permissions(std::fs::Permissions::from_mode(0o644))
            .unwrap();
        assert!(Secret::read(&path).err().unwrap().contains("644"));
        f.set_permissions(std::fs::Permissions::from_mode(0o600))
            .unwrap();
        assert!(Secret::read(&path).is_ok());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn only_what_was_sealed_opens() {
        let secret = Secret::new(&[7; 32]).unwrap();
        let seal = Seal::new(&secret, "beat");
        let sealed = seal.seal(b"hello");
        assert_eq!(seal.open(&sealed).as_deref(), Some(&b"hello"[..]));
        assert_eq!(Seal::new(&secret, "other").open(&sealed), None);
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert_eq!(seal.open(&bad), None);
            assert_eq!(seal.open(&sealed[..i]), None);
        }
        assert!(Secret::new(&[0; 31]).is_none());
    }
}
