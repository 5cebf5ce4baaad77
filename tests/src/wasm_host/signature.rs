//! `verify_signature` as Envoy offers it, for RSA (PKCS #1) and ECDSA on P-256, P-384 and P-521 with a
//! DER signature: messages in protobuf, keys as SubjectPublicKeyInfo.

use p521::ecdsa::signature::Verifier as _;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};

/// The algorithm identifiers' object ids, as they stand in a key: rsaEncryption, and the curves.
const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const P256: &[u8] = b"\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x2b\x81\x04\x00\x22";
const P521: &[u8] = b"\x2b\x81\x04\x00\x23";

/// Answers `VerifySignatureArguments` with `VerifySignatureResult`; none where the message is none.
pub(super) fn verify(message: &[u8]) -> Option<Vec<u8>> {
    let [hash, key, signature, text] = fields(message)?;
    Some(match is_good(hash, key, signature, text) {
        // Field 1, `result`: true.
        Some(()) => vec![0x08, 0x01],
        // Field 2, `error`; a result that is false is left out.
        None => b"\x12\x0cis not valid".to_vec(),
    })
}

fn is_good(hash: &[u8], key: &[u8], signature: &[u8], text: &[u8]) -> Option<()> {
    let (body, _) = element(0x30, key)?;
    let (identifier, rest) = element(0x30, body)?;
    let (bits, _) = element(0x03, rest)?;
    // A bit string begins with the number of bits that do not count.
    let public = bits.strip_prefix(b"\0")?;
    let contains = |id: &[u8]| identifier.windows(id.len()).any(|window| window == id);
    if hash == b"sha512" && contains(P521) {
        // ring does not know this curve.
        let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(public).ok()?;
        return key.verify(text, &p521::ecdsa::Signature::from_der(signature).ok()?).ok();
    }
    let algorithm: &dyn VerificationAlgorithm = match hash {
        b"sha256" if contains(RSA) => &RSA_PKCS1_2048_8192_SHA256,
        b"sha384" if contains(RSA) => &RSA_PKCS1_2048_8192_SHA384,
        b"sha512" if contains(RSA) => &RSA_PKCS1_2048_8192_SHA512,
        b"sha256" if contains(P256) => &ECDSA_P256_SHA256_ASN1,
        b"sha384" if contains(P384) => &ECDSA_P384_SHA384_ASN1,
        _ => return None,
    };
    UnparsedPublicKey::new(algorithm, public).verify(text, signature).ok()
}

/// Fields 1 to 4 of a message, all of them byte strings; of signatures: hash, key, signature, text.
pub(super) fn fields(mut message: &[u8]) -> Option<[&[u8]; 4]> {
    let mut fields: [&[u8]; 4] = [b""; 4];
    while let [tag, rest @ ..] = message {
        let index = usize::from(tag >> 3).checked_sub(1).filter(|_| tag & 7 == 2)?;
        let (mut length, mut shift, mut rest) = (0, 0, rest);
        loop {
            let (byte, after) = rest.split_first()?;
            length |= usize::from(byte & 0x7f) << shift;
            (shift, rest) = (shift + 7, after);
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return None;
            }
        }
        let (field, after) = rest.split_at_checked(length)?;
        *fields.get_mut(index)? = field;
        message = after;
    }
    Some(fields)
}

/// The contents of a DER element with this tag, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = match length {
        0x81 => rest.split_first().map(|(byte, rest)| (usize::from(*byte), rest))?,
        0x82 => {
            rest.split_first_chunk().map(|(bytes, rest)| (usize::from(u16::from_be_bytes(*bytes)), rest))?
        }
        short => (usize::from(*short), rest),
    };
    rest.split_at_checked(length)
}
