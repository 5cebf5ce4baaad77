//! An adversarial corpus of tokens: tables of changes, each applied to good tokens of several
//! algorithms. Which tokens there are is the same on every run; keys and times are the run's own.

pub mod keys;
mod members;
mod signatures;
mod tables;

use self::{
    keys::{Keys, Signer},
    members::{CLAIMS, HEADERS, Members},
    tables::{CONTRADICTIONS, FORMS, OBJECTS},
};
use crate::{
    issuer::{base64url, now},
    random::Random,
};
use anyhow::Result;

/// The issuer of every good token.
pub const ISSUER: &str = "https://issuer.test";
/// The audience of every good token.
pub const AUDIENCE: &str = "rampart-corpus";
/// The leeway that both filters are to be given: the corpus keeps two minutes away from its edges,
/// so that a slow machine decides nothing.
pub const LEEWAY_SECONDS: u64 = 300;

/// Algorithms that every change of header and claims is tried with: one of each family.
const FAMILIES: [&str; 3] = ["ES256", "RS256", "EdDSA"];

/// A request's credentials.
#[derive(Debug, Clone)]
pub struct Case {
    /// What was done, and to what part; the same for all algorithms.
    pub name: String,
    /// What the good token was signed with.
    pub algorithm: &'static str,
    /// Header lines, each with its line break.
    pub lines: Vec<u8>,
}

/// The whole corpus.
///
/// # Errors
///
/// When the machine has no randomness.
pub fn generate(keys: &Keys) -> Result<Vec<Case>> {
    let corpus = Corpus { keys, now: now() };
    let mut cases = Vec::new();
    for signer in &keys.honest {
        corpus.signatures(signer, &mut cases)?;
        corpus.algorithms(signer, &mut cases)?;
    }
    for signer in FAMILIES.map(|name| keys.honest(name)) {
        corpus.members(signer, &mut cases)?;
        corpus.objects(signer, &mut cases)?;
        corpus.sizes(signer, &mut cases)?;
        corpus.forms(signer, &mut cases)?;
    }
    corpus.keys(&mut cases)?;
    corpus.flips(&mut cases)?;
    Ok(cases)
}

struct Corpus<'a> {
    keys: &'a Keys,
    now: u64,
}

/// Members of a good payload and of a good header, in order.
const PAYLOAD: [(&str, &str); 5] =
    [("iss", "$iss"), ("aud", "$aud"), ("exp", "$now+900"), ("sub", "\"alice\""), ("org_id", "\"acme\"")];
const HEADER: [(&str, &str); 2] = [("alg", "\"$alg\""), ("kid", "\"$kid\"")];

/// The members with one replaced, added or, by an empty text, left out.
fn members(good: &[(&str, &str)], change: Option<(&str, &str)>) -> String {
    let mut texts = Vec::new();
    for (name, text) in good {
        let text = change.filter(|(changed, _)| changed == name).map_or(*text, |(_, text)| text);
        if !text.is_empty() {
            texts.push(format!("\"{name}\":{text}"));
        }
    }
    if let Some((name, text)) = change.filter(|(changed, _)| good.iter().all(|(name, _)| name != changed))
        && !text.is_empty()
    {
        texts.push(format!("\"{name}\":{text}"));
    }
    texts.join(",")
}

impl Corpus<'_> {
    /// Fills in a template's placeholders.
    fn fill(&self, template: &str, signer: &Signer) -> Vec<u8> {
        let mut text = template
            .replace("$alg", signer.algorithm)
            .replace("$kid", signer.kid.unwrap_or("none"))
            .replace("$iss", &format!("\"{ISSUER}\""))
            .replace("$aud", &format!("\"{AUDIENCE}\""))
            .replace("$jwk", &self.keys.foreign_jwk.to_string());
        for (offset, seconds) in [("+1800", 1800), ("+900", 900), ("+420", 420), ("+180", 180)] {
            text = text.replace(&format!("$now{offset}"), &(self.now + seconds).to_string());
        }
        for (offset, seconds) in [("-900", 900), ("-420", 420), ("-180", 180), ("", 0)] {
            text = text.replace(&format!("$now{offset}"), &(self.now - seconds).to_string());
        }
        bytes(&text)
    }

    /// A token of any header and payload, signed by `signer`.
    fn token(&self, header: &str, payload: &str, signer: &Signer) -> Result<String> {
        let (input, signature) = self.signed(header, payload, signer)?;
        Ok(format!("{input}.{}", base64url(&signature)))
    }

    /// The same in its parts: what is signed, and the signature.
    fn signed(&self, header: &str, payload: &str, signer: &Signer) -> Result<(String, Vec<u8>)> {
        let input =
            format!("{}.{}", base64url(&self.fill(header, signer)), base64url(&self.fill(payload, signer)));
        let signature = signer.sign(input.as_bytes())?;
        Ok((input, signature))
    }

    fn good(&self, signer: &Signer) -> Result<String> {
        self.token(&good_header(signer), &good_payload(), signer)
    }

    fn members(&self, signer: &Signer, cases: &mut Vec<Case>) -> Result<()> {
        let named = |part: &str, member: &str, text: &str| {
            if text.is_empty() { format!("{part}: no {member}") } else { format!("{part}: {member} {text}") }
        };
        let each = |members: &'static Members| {
            members.iter().flat_map(|(member, texts)| texts.iter().map(move |text| (*member, *text)))
        };
        for change in each(CLAIMS) {
            let payload = format!("{{{}}}", members(&PAYLOAD, Some(change)));
            let token = self.token(&good_header(signer), &payload, signer)?;
            cases.push(bearer(named("claims", change.0, change.1), signer, &token));
        }
        for change in each(HEADERS) {
            let header = format!("{{{}}}", members(&HEADER, Some(change)));
            let token = self.token(&header, &good_payload(), signer)?;
            cases.push(bearer(named("header", change.0, change.1), signer, &token));
        }
        Ok(())
    }

    fn objects(&self, signer: &Signer, cases: &mut Vec<Case>) -> Result<()> {
        let (header, payload) = (members(&HEADER, None), members(&PAYLOAD, None));
        for (name, template) in OBJECTS {
            let token = self.token(&good_header(signer), &template.replace("$members", &payload), signer)?;
            cases.push(bearer(format!("payload: {name}"), signer, &token));
            let token = self.token(&template.replace("$members", &header), &good_payload(), signer)?;
            cases.push(bearer(format!("header: {name}"), signer, &token));
        }
        for (in_header, name, template) in CONTRADICTIONS {
            let (part, token) = if *in_header {
                let header = template.replace("$members", &header);
                ("header", self.token(&header, &good_payload(), signer)?)
            } else {
                let payload = template.replace("$members", &payload);
                ("payload", self.token(&good_header(signer), &payload, signer)?)
            };
            cases.push(bearer(format!("{part}: twice: {name}"), signer, &token));
        }
        Ok(())
    }

    /// Deep and big ones.
    fn sizes(&self, signer: &Signer, cases: &mut Vec<Case>) -> Result<()> {
        let (header, payload) = (members(&HEADER, None), members(&PAYLOAD, None));
        for (name, member) in [
            ("10 deep", nested(10)),
            ("90 deep", nested(90)),
            ("110 deep", nested(110)),
            ("200 deep", nested(200)),
            ("2,000 deep", nested(2_000)),
            ("10 objects deep", format!("{}1{}", "{\"a\":".repeat(10), "}".repeat(10))),
            ("5,000 characters", format!("\"{}\"", "y".repeat(5_000))),
            ("10,000 characters", format!("\"{}\"", "y".repeat(10_000))),
            ("14,000 characters", format!("\"{}\"", "y".repeat(14_000))),
            ("1,000 numbers", format!("[{}1]", "1,".repeat(999))),
        ] {
            let big = format!("{{{payload},\"x\":{member}}}");
            let token = self.token(&good_header(signer), &big, signer)?;
            cases.push(bearer(format!("payload: {name}"), signer, &token));
            let big = format!("{{{header},\"x\":{member}}}");
            let token = self.token(&big, &good_payload(), signer)?;
            cases.push(bearer(format!("header: {name}"), signer, &token));
        }
        Ok(())
    }

    fn forms(&self, signer: &Signer, cases: &mut Vec<Case>) -> Result<()> {
        let token = self.good(signer)?;
        let mut parts = token.split('.');
        let mut part = || parts.next().unwrap_or_default();
        let (header, payload, signature) = (part(), part(), part());
        for (name, template) in FORMS {
            let lines = template
                .replace("$token", &token)
                .replace("$header", header)
                .replace("$payload", payload)
                .replace("$signature", signature);
            let mut lines = bytes(&lines);
            lines.extend(b"\r\n");
            cases.push(Case { name: format!("form: {name}"), algorithm: signer.algorithm, lines });
        }
        Ok(())
    }

    /// One character of a good token exchanged for another, at random.
    fn flips(&self, cases: &mut Vec<Case>) -> Result<()> {
        let mut random = Random::new(7);
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.+/=~";
        for number in 0..150 {
            let signer = &self.keys.honest[number % self.keys.honest.len()];
            let good = self.good(signer)?;
            let mut token = good.clone().into_bytes();
            // Not the last character: some of its bits may carry nothing. That has cases of its own.
            let at = random.below(token.len() - 1);
            token[at] = alphabet[random.below(alphabet.len())];
            let token = String::from_utf8_lossy(&token).into_owned();
            if token != good {
                cases.push(bearer(format!("a character changed: number {number}"), signer, &token));
            }
        }
        Ok(())
    }
}

fn good_header(signer: &Signer) -> String {
    let without_kid = signer.kid.is_none().then_some(("kid", ""));
    format!("{{{}}}", members(&HEADER, without_kid))
}

fn good_payload() -> String {
    format!("{{{}}}", members(&PAYLOAD, None))
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

fn bearer(name: String, signer: &Signer, token: &str) -> Case {
    let lines = format!("authorization: Bearer {token}\r\n").into_bytes();
    Case { name, algorithm: signer.algorithm, lines }
}

/// The text's bytes, where `$xNN` is one.
fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split("$x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).unwrap_or_default());
        bytes.extend(rest.as_bytes());
    }
    bytes
}
