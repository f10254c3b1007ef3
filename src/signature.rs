//! Who vouches for a revision: signatures over what stands where, and whose signatures count.
//!
//! What is signed is the text that [`Statement`] makes: bucket, key, operation, format, digest of the bytes, and the
//! revision of the key that it follows. So a signed document cannot be altered, moved to another key or bucket, or be put
//! again over what came after it, without its signature not fitting any more. Who wrote it and why is not signed.
//!
//! Keys are nkeys, as NATS has them: Ed25519 (RFC 8032) in a text form with a checksum. `nkeys` reads that form, `ring`
//! does the arithmetic, on keys that were decoded once.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::document::{Digest, Format};

/// The scheme that is written, and the only one that is read.
const VERSION: &str = "1";

/// Longest text of a claim that is looked at; one in order is shorter.
const LONGEST: usize = 256;

/// What a signature is about, but for the revision that it follows.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// The bucket's name.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// `put` or `delete`.
    pub operation: &'a str,
    /// How the document is written, as the publisher told it.
    pub format: Option<Format>,
    /// The digest of the stored bytes.
    pub digest: Digest,
}

impl Statement<'_> {
    /// The text that is signed. No part of it can hold a line break, so that no two statements have one text.
    fn text(&self, follows: u64) -> String {
        let Statement { bucket, key, operation, format, digest } = self;
        let format = format.map_or("-".to_owned(), |format| format.to_string());
        format!(
            "confhot signature {VERSION}\nbucket {bucket}\nkey {key}\noperation {operation}\nformat {format}\n\
             digest {digest}\nfollows {follows}\n"
        )
    }
}

/// A signature as it stands in the headers of a message. It claims something, and may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `Confhot-Signature`: the scheme's version, the revision that it follows (0 for none), and the signature in base64.
    pub signature: String,
    /// `Confhot-Signer`: the public nkey.
    pub signer: String,
}

impl Claim {
    /// The revision that the document was signed to follow, 0 for none, and the signature.
    fn parts(&self) -> Option<(u64, [u8; 64])> {
        if self.signature.len() > LONGEST {
            return None;
        }
        let mut words = self.signature.split(' ');
        let (version, follows, signature) = (words.next()?, words.next()?, words.next()?);
        if version != VERSION || words.next().is_some() || !follows.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some((follows.parse().ok()?, STANDARD_NO_PAD.decode(signature).ok()?.try_into().ok()?))
    }

    /// Who signed `statement`, if this is a signature of it at all, by whomever.
    pub fn signer_of(&self, statement: &Statement<'_>) -> Option<&str> {
        let key = Public::parse(&self.signer).ok()?;
        let (follows, signature) = self.parts()?;
        key.verify(statement, follows, &signature).then_some(&self.signer)
    }
}

/// The text is not the key that it is to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// A seed stands where a public key is to be.
    #[error("it is a seed, which is a secret: give the public key that belongs to it")]
    Secret,
    /// It is no public nkey.
    #[error("it is no public nkey: {0}")]
    Public(String),
    /// It is no seed of a key that can sign.
    #[error("it holds no nkey seed that can sign: {0}")]
    Seed(String),
}

/// What can sign.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The first byte of a curve key, which encrypts and does not sign (`nkeys`, `PREFIX_BYTE_CURVE`).
const CURVE: u8 = 23 << 3;

impl Signer {
    /// The signer of a file's text, which has an nkey seed on a line of its own.
    ///
    /// # Errors
    /// [`InvalidKey::Seed`].
    pub fn parse(text: &str) -> Result<Signer, InvalidKey> {
        let invalid = |why: &dyn fmt::Display| InvalidKey::Seed(why.to_string());
        let seed = text.lines().map(str::trim).find(|line| line.starts_with('S'));
        let seed = seed.ok_or_else(|| invalid(&"no line begins with S"))?;
        let (prefix, secret) = nkeys::decode_seed(seed).map_err(|error| invalid(&error))?;
        if prefix == CURVE {
            return Err(invalid(&"it is a curve key, which encrypts"));
        }
        let public = nkeys::KeyPair::from_seed(seed).map_err(|error| invalid(&error))?.public_key();
        let pair = Ed25519KeyPair::from_seed_unchecked(&secret).map_err(|error| invalid(&error))?;
        Ok(Signer { pair, public })
    }

    /// The public nkey.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Trust in this signer alone.
    pub fn trust(&self) -> Trust {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        Trust([(self.public.clone(), Public(UnparsedPublicKey::new(&ED25519, key)))].into())
    }

    /// Signs `statement`, which follows the revision `follows` of its key, 0 for none.
    pub fn sign(&self, statement: &Statement<'_>, follows: u64) -> Claim {
        let signature = self.pair.sign(statement.text(follows).as_bytes());
        let signature = format!("{VERSION} {follows} {}", STANDARD_NO_PAD.encode(signature));
        Claim { signature, signer: self.public.clone() }
    }
}

/// A public key, decoded.
#[derive(Debug, Clone)]
struct Public(UnparsedPublicKey<[u8; 32]>);

impl Public {
    fn parse(text: &str) -> Result<Public, InvalidKey> {
        let invalid = |why: &dyn fmt::Display| InvalidKey::Public(why.to_string());
        let (prefix, key) = match nkeys::from_public_key(text) {
            Ok(key) => key,
            Err(_) if nkeys::decode_seed(text).is_ok() => return Err(InvalidKey::Secret),
            Err(error) => return Err(invalid(&error)),
        };
        if prefix == CURVE {
            return Err(invalid(&"it is a curve key, which encrypts"));
        }
        Ok(Public(UnparsedPublicKey::new(&ED25519, key)))
    }

    fn verify(&self, statement: &Statement<'_>, follows: u64, signature: &[u8]) -> bool {
        self.0.verify(statement.text(follows).as_bytes(), signature).is_ok()
    }
}

/// Whose signatures count.
#[derive(Debug, Clone, Default)]
pub struct Trust(BTreeMap<String, Public>);

impl Trust {
    /// Trusts the public nkeys in `text`, each on a line of its own; empty lines and lines that begin with `#` are passed
    /// over.
    ///
    /// # Errors
    /// [`InvalidKey`] of the first line that holds none, or where there is none at all.
    pub fn parse(text: &str) -> Result<Trust, InvalidKey> {
        let mut trust = Trust::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            trust.0.insert(line.to_owned(), Public::parse(line)?);
        }
        if trust.0.is_empty() { Err(InvalidKey::Public("there is none".into())) } else { Ok(trust) }
    }

    /// Trusts all that `other` trusts as well.
    pub fn and(mut self, other: Trust) -> Trust {
        self.0.extend(other.0);
        self
    }

    /// The revision that `statement` was signed to follow, 0 for none, if one who is trusted signed it. Whether it does
    /// follow that is for whoever knows the bucket.
    ///
    /// # Errors
    /// [`Distrust`]: unsigned, unreadable, a stranger's, or altered.
    pub fn verify(&self, statement: &Statement<'_>, claim: Option<&Claim>) -> Result<u64, Distrust> {
        let claim = claim.ok_or(Distrust::Unsigned)?;
        let (follows, signature) = claim.parts().ok_or(Distrust::Unreadable)?;
        // Compared as text, so that what a stranger claims to be is not even decoded.
        let Some(key) = self.0.get(&claim.signer) else {
            let signer = claim.signer.chars().take(LONGEST).filter(|c| !c.is_control()).collect();
            return Err(Distrust::Stranger(signer));
        };
        if key.verify(statement, follows, &signature) { Ok(follows) } else { Err(Distrust::Altered) }
    }
}

/// Why a revision is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// Nobody signed it.
    #[error("it is not signed")]
    Unsigned,
    /// Its headers hold something else than a signature of this scheme.
    #[error("its signature cannot be read")]
    Unreadable,
    /// It is signed by somebody who is not trusted, or who says so.
    #[error("it is signed by {0}, who is not trusted")]
    Stranger(String),
    /// The signature is of something else.
    #[error("its signature does not fit: its bytes, its format, its key or its bucket is not what was signed")]
    Altered,
    /// It was signed before what stands there now.
    #[error("it is an old document, put again: it was signed to follow {}, and stands after {}", named(*follows), named(*after))]
    Replayed {
        /// The revision that it was signed to follow, 0 for none.
        follows: u64,
        /// The revision that it stands after.
        after: u64,
    },
    /// The server was not asked to store it only after what it follows, as confhot does.
    #[error("it was not stored on condition that it follows {}, as it was signed to", named(*follows))]
    Unconditional {
        /// The revision that it was signed to follow, 0 for none.
        follows: u64,
    },
    /// Nothing that is retained shows what it follows.
    #[error("nothing before it is retained to show that it follows {}, as it was signed to", named(*follows))]
    Unproven {
        /// The revision that it was signed to follow, 0 for none.
        follows: u64,
    },
    /// It is not among what the bucket retains of its key.
    #[error("the bucket does not hold it")]
    NotStored,
}

fn named(revision: u64) -> String {
    if revision == 0 { "nothing".into() } else { format!("revision {revision}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signer(kind: nkeys::KeyPairType) -> Signer {
        Signer::parse(&nkeys::KeyPair::new(kind).seed().unwrap()).unwrap()
    }

    fn statement() -> Statement<'static> {
        let digest = Digest::of(b"port = 1");
        Statement { bucket: "configs", key: "service1", operation: "put", format: Some(Format::Toml), digest }
    }

    #[test]
    fn what_is_signed_verifies_and_nothing_else_does() {
        let (ours, other) = (signer(nkeys::KeyPairType::User), signer(nkeys::KeyPairType::Account));
        let trust = Trust::parse(ours.public()).unwrap();
        let claim = ours.sign(&statement(), 7);

        assert_eq!(trust.verify(&statement(), Some(&claim)), Ok(7));
        assert_eq!(claim.signer_of(&statement()), Some(ours.public()));
        for altered in [
            Statement { bucket: "config", ..statement() },
            Statement { key: "service2", ..statement() },
            Statement { operation: "delete", ..statement() },
            Statement { format: Some(Format::Yaml), ..statement() },
            Statement { format: None, ..statement() },
            Statement { digest: Digest::of(b"port = 2"), ..statement() },
        ] {
            assert_eq!(trust.verify(&altered, Some(&claim)), Err(Distrust::Altered), "{altered:?}");
            assert_eq!(claim.signer_of(&altered), None);
        }
        let later = Claim { signature: claim.signature.replacen("1 7 ", "1 8 ", 1), ..claim.clone() };
        assert_eq!(trust.verify(&statement(), Some(&later)), Err(Distrust::Altered));

        let strange = other.sign(&statement(), 7);
        assert_eq!(trust.verify(&statement(), Some(&strange)), Err(Distrust::Stranger(other.public().into())));
        let stolen = Claim { signer: ours.public().into(), ..strange };
        assert_eq!(trust.verify(&statement(), Some(&stolen)), Err(Distrust::Altered));
        assert_eq!(trust.verify(&statement(), None), Err(Distrust::Unsigned));
    }

    #[test]
    fn the_signed_text_is_what_it_was_and_the_bytes_are_those_of_rfc_8032() {
        assert_eq!(
            statement().text(7),
            "confhot signature 1\nbucket configs\nkey service1\noperation put\nformat toml\n\
             digest sha256:35d2f0c56ce2c303385501271e2cceb4d0825eaee3d8785df739fe42859d6d4a\nfollows 7\n"
        );
        // Another implementation makes the same of the same seed.
        let pair = nkeys::KeyPair::new_user();
        let claim = Signer::parse(&pair.seed().unwrap()).unwrap().sign(&statement(), 0);
        let theirs = pair.sign(statement().text(0).as_bytes()).unwrap();
        assert_eq!(claim.signature, format!("1 0 {}", STANDARD_NO_PAD.encode(theirs)));
    }

    #[test]
    fn several_are_trusted_and_a_key_of_a_wrong_kind_says_what_it_is() {
        let (a, b) = (signer(nkeys::KeyPairType::User), signer(nkeys::KeyPairType::Operator));
        let trust = Trust::parse(&format!("# the loader\n{}\n\n  {}\n", a.public(), b.public())).unwrap();
        for signer in [a, b] {
            assert_eq!(trust.verify(&statement(), Some(&signer.sign(&statement(), 0))), Ok(0));
        }
        let seed = nkeys::KeyPair::new_user().seed().unwrap();
        assert_eq!(Trust::parse(&seed).unwrap_err(), InvalidKey::Secret);
        let curve = nkeys::KeyPair::new(nkeys::KeyPairType::Curve);
        assert!(Trust::parse(&curve.public_key()).unwrap_err().to_string().contains("curve key"));
        assert!(Signer::parse(&curve.seed().unwrap()).unwrap_err().to_string().contains("curve key"));
        for text in ["", "# nothing\n", "U", "UAAAA\u{0}", "é"] {
            assert!(Trust::parse(text).is_err() && Signer::parse(text).is_err(), "{text:?}");
        }
        assert!(!format!("{:?}", Signer::parse(&seed)).contains(&seed));
    }

    proptest! {
        #[test]
        fn a_claim_may_be_anything_and_is_then_no_signature(signature in ".{0,300}", signer in ".{0,300}") {
            let trust = Trust::parse(&self::signer(nkeys::KeyPairType::User).public).unwrap();
            let claim = Claim { signature, signer };
            prop_assert!(trust.verify(&statement(), Some(&claim)).is_err());
            prop_assert_eq!(claim.signer_of(&statement()), None);
        }

        #[test]
        fn a_signature_of_which_a_byte_is_another_is_none(at in 0..90_usize, to in "[0-9A-Za-z+/ =]") {
            let ours = self::signer(nkeys::KeyPairType::User);
            let trust = Trust::parse(ours.public()).unwrap();
            let mut claim = ours.sign(&statement(), 42);
            prop_assume!(at < claim.signature.len() && claim.signature[at..=at] != to);
            claim.signature.replace_range(at..=at, &to);
            prop_assert!(trust.verify(&statement(), Some(&claim)).is_err(), "{}", claim.signature);
        }
    }
}
