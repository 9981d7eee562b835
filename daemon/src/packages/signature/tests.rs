//! What GnuPG has signed (`gpg/`: keys and signatures of 2024, one of each fault), and what we sign.

use proptest::prelude::{any, prop_assert, proptest};

use super::*;

const DATA: &[u8] = b"what was signed\n";

macro_rules! gpg {
    ($name:literal) => {
        include_str!(concat!("gpg/", $name))
    };
}

fn check(keys: &str, signature: &str, data: &[u8]) -> Result<Signed, String> {
    let keys = Keys::parse(keys).unwrap();
    keys.check(signature, || Ok(data))
        .map_err(|error| error.to_string())
}

#[test]
fn what_a_trusted_key_or_its_subkey_signed_is_vouched_for() {
    let both = [gpg!("other.pub"), gpg!("good.pub")].concat();
    let signed = check(&both, gpg!("good.sig"), DATA).unwrap();
    assert_eq!(signed.at, 1_704_067_200);
    let keys = Keys::parse(&both).unwrap();
    assert_eq!(signed.by, keys.fingerprints()[1]);
    assert_eq!(signed.by.len(), 40);
    let signed = check(gpg!("sub.pub"), gpg!("sub.sig"), DATA).unwrap();
    let primary = Keys::parse(gpg!("sub.pub")).unwrap();
    assert_eq!(
        signed.by,
        primary.fingerprints()[0],
        "named by its primary key"
    );
}

#[test]
fn whatever_proves_nothing_is_refused_and_says_why() {
    for (keys, signature, data, words) in [
        (
            gpg!("good.pub"),
            gpg!("good.sig"),
            &b"another"[..],
            "not what",
        ),
        (gpg!("other.pub"), gpg!("good.sig"), DATA, "not trusted"),
        (
            gpg!("expired.pub"),
            gpg!("expired.sig"),
            DATA,
            "has expired",
        ),
        (gpg!("revoked.pub"), gpg!("revoked.sig"), DATA, "is revoked"),
        (gpg!("good.pub"), gpg!("sha1.sig"), DATA, "can be forged"),
        (gpg!("good.pub"), gpg!("text.sig"), DATA, "not of a file"),
        (gpg!("good.pub"), gpg!("future.sig"), DATA, "time to come"),
        (gpg!("good.pub"), gpg!("lapsed.sig"), DATA, "has expired"),
        (gpg!("good.pub"), gpg!("other.pub"), DATA, "of no use"),
        (gpg!("good.pub"), "", DATA, "of no use"),
    ] {
        let error = check(keys, signature, data).unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
    let long = "x".repeat(MAX_SIGNATURE_BYTES + 1);
    let error = check(gpg!("good.pub"), &long, DATA).unwrap_err();
    assert!(error.contains("too long"), "{error}");
    for text in ["", "no keys", gpg!("good.sig"), gpg!("good.key")] {
        let error = Keys::parse(text).unwrap_err().to_string();
        assert!(error.contains("gpg --armor --export"), "{error}");
    }
}

/// A file with a secret key.
pub(crate) fn key_file(folder: &Path) -> PathBuf {
    let file = folder.join("secret.asc");
    std::fs::write(&file, gpg!("good.key")).unwrap();
    file
}

/// Its public half, and another key.
pub(crate) const GOOD: &str = gpg!("good.pub");
pub(crate) const OTHER: &str = gpg!("other.pub");

#[test]
fn what_we_sign_is_accepted_by_the_public_key_and_by_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::read(&key_file(dir.path()), "").unwrap();
    let signature = signer.sign(|| Ok(DATA)).unwrap();
    let signed = check(GOOD, &signature, DATA).unwrap();
    assert_eq!(signed.by, signer.fingerprint());
    assert!(signed.at.abs_diff(now()) < 100);
    assert!(signer.made(&signature, || Ok(DATA)));
    assert!(!signer.made(&signature, || Ok(&DATA[1..])));
    assert!(!signer.made(gpg!("other.sig"), || Ok(DATA)));
    check(OTHER, &signature, DATA).unwrap_err();
    let public = dir.path().join("public.asc");
    std::fs::write(&public, GOOD).unwrap();
    let error = Signer::read(&public, "").unwrap_err().to_string();
    assert!(error.contains("--export-secret-keys"), "{error}");
}

proptest! {
    /// Whatever a stranger writes as a signature: no panic, and nothing but the file is vouched for.
    #[test]
    fn no_signature_that_was_changed_vouches_for_another_file(
        at in 0_usize..252, byte in any::<u8>(), text in "[ -~\n]{0,300}", bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut changed = gpg!("good.sig").as_bytes().to_vec();
        if let Some(place) = changed.get_mut(at) {
            *place = byte;
        }
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
        let armored = format!("-----BEGIN PGP SIGNATURE-----\n\n{encoded}\n-----END PGP SIGNATURE-----\n");
        for signature in [&*String::from_utf8_lossy(&changed), &text, &armored] {
            prop_assert!(check(GOOD, signature, b"another file").is_err());
            drop(Keys::parse(signature));
        }
    }
}
