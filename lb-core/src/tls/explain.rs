//! What is wrong with a server's TLS, and how to mend it, in a sentence for its operator.

use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{AlertDescription, CertificateError, Error};

use super::cause::Cause;
use super::certificate::Trust;
use super::facts::{Facts, Parsed, shown};

/// Most names of a certificate that are listed.
const NAMES_SHOWN: usize = 5;

/// A sentence about `error`, where `chain` is what the server presented.
pub(super) fn explain(error: &Error, chain: &[CertificateDer<'_>], trust: &Trust) -> String {
    let chain: Vec<Parsed> = chain.iter().filter_map(|certificate| Parsed::read(certificate).ok()).collect();
    match (error, chain.first()) {
        (Error::InvalidCertificate(error), Some(leaf)) => of_certificate(error, leaf, &chain, trust),
        (Error::InvalidCertificate(error), None) => {
            format!("its certificate can't be used: {}", shown(&error.to_string()))
        }
        (Error::AlertReceived(alert), _) => of_alert(*alert),
        _ => of_handshake(error),
    }
}

fn of_certificate(error: &CertificateError, leaf: &Parsed, chain: &[Parsed], trust: &Trust) -> String {
    use CertificateError as Why;
    let subject = &leaf.facts.subject;
    match error {
        Why::ExpiredContext { not_after, .. } => {
            let certificate = by_time(chain, |facts| facts.not_after, *not_after);
            format!("{certificate} expired on {}: renew it", date(not_after.as_secs()))
        }
        Why::NotValidYetContext { not_before, .. } => {
            let certificate = by_time(chain, |facts| facts.not_before, *not_before);
            let date = date(not_before.as_secs());
            format!("{certificate} is not valid before {date}: compare the clocks of both machines")
        }
        Why::NotValidForNameContext { expected, .. } => {
            let (names, expected) = (names(&leaf.facts), shown(&expected.to_str()));
            format!("its certificate {subject:?} is {names}, not for {expected}: set server_name to a name it is for")
        }
        Why::UnknownIssuer => of_unknown_issuer(leaf, chain, trust),
        Why::BadSignature => of_bad_signature(leaf, chain, trust),
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            format!("its certificate {subject:?} is not for servers: its extended key usage must include serverAuth")
        }
        Why::UnsupportedSignatureAlgorithmContext { .. }
        | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            format!(
                "its certificate {subject:?} or one above it is signed in a way that is not accepted (SHA-1, for example): \
                 have it issued anew with SHA-256"
            )
        }
        _ => of_other(error, leaf, chain),
    }
}

/// What webpki has no error of rustls for.
fn of_other(error: &CertificateError, leaf: &Parsed, chain: &[Parsed]) -> String {
    let subject = &leaf.facts.subject;
    if let Some(issuer) = chain.iter().find(|other| !other.is_ca && leaf.is_issued_by(other)) {
        let issuer = &issuer.facts.subject;
        return format!(
            "its certificate {subject:?} is issued by {issuer:?}, which is no CA: have it issued by a CA of the bundle"
        );
    }
    if leaf.is_ca {
        return format!(
            "its certificate {subject:?} is that of a CA: give the server one of its own, or add exactly this one to the bundle"
        );
    }
    format!("its certificate {subject:?} can't be used: {}", shown(&error.to_string()))
}

fn of_unknown_issuer(leaf: &Parsed, chain: &[Parsed], trust: &Trust) -> String {
    let (subject, bundle) = (&leaf.facts.subject, &trust.name);
    if leaf.is_self_issued() {
        return format!(
            "its certificate {subject:?} is self-signed and not in bundle {bundle}: add it there if it is the right one"
        );
    }
    let last = last_of_chain(leaf, chain);
    let issuer = &last.facts.issuer;
    let held = held_by_name(last, trust);
    if let Some(held) = held.iter().find(|held| !held.is_ca) {
        return format!(
            "its certificate {subject:?} is issued by {:?}, which bundle {bundle} holds but which is no CA",
            held.facts.subject
        );
    }
    if !held.is_empty() {
        return format!(
            "its certificate {subject:?} is issued by {issuer:?}, of which bundle {bundle} holds one with another key: \
             add the present certificate of that CA to the bundle"
        );
    }
    match chain.len() {
        // Nobody can tell whether the issuer is a root or an intermediate that is missing.
        1 => format!(
            "its certificate {subject:?} is issued by {issuer:?}, which the server does not send and bundle {bundle} does not \
             hold: add the certificate of {issuer:?} to the bundle or have the server send it"
        ),
        _ => format!(
            "its certificate {subject:?} is issued by {issuer:?}, which bundle {bundle} does not hold: add that CA to the bundle"
        ),
    }
}

/// Follows the chain from `leaf` to the last certificate whose issuer is not there.
fn last_of_chain<'a>(leaf: &'a Parsed, chain: &'a [Parsed]) -> &'a Parsed {
    let mut last = leaf;
    for _ in chain {
        match chain.iter().find(|other| last.is_issued_by(other) && !last.is_self_issued()) {
            Some(issuer) => last = issuer,
            None => break,
        }
    }
    last
}

/// The bundle's certificates with the name of the issuer of `certificate`.
fn held_by_name(certificate: &Parsed, trust: &Trust) -> Vec<Parsed> {
    let held = trust.certificates.iter().filter_map(|held| Parsed::read(held).ok());
    held.filter(|held| certificate.is_named_after(held)).collect()
}

fn of_bad_signature(leaf: &Parsed, chain: &[Parsed], trust: &Trust) -> String {
    let subject = &leaf.facts.subject;
    let weak = chain.iter().find(|certificate| certificate.rsa_bits.is_some_and(|bits| bits < 2048));
    if let Some(weak) = weak {
        let Facts { subject, key, .. } = &weak.facts;
        return format!(
            "the key of certificate {subject:?} is {key}, at least 2048 bits are needed: issue a longer one"
        );
    }
    let issuer = &last_of_chain(leaf, chain).facts.issuer;
    format!(
        "its certificate {subject:?} is not signed by the key of {issuer:?} that it names as its issuer: if that CA has a new \
         key, add its present certificate to bundle {}",
        trust.name
    )
}

/// "its certificate …", or the one of the chain whose time it is.
fn by_time(chain: &[Parsed], time: impl Fn(&Facts) -> i64, wanted: UnixTime) -> String {
    let is_it =
        |certificate: &&Parsed| u64::try_from(time(&certificate.facts)).is_ok_and(|time| time == wanted.as_secs());
    match chain.iter().position(|certificate| is_it(&certificate)) {
        Some(0) => format!("its certificate {:?}", chain[0].facts.subject),
        Some(other) => format!("certificate {:?}, which it sends along,", chain[other].facts.subject),
        None => "a certificate of the bundle that issued its own".into(),
    }
}

fn names(facts: &Facts) -> String {
    match facts.names.as_slice() {
        [] => "for no name at all".into(),
        names if names.len() <= NAMES_SHOWN => format!("for {}", names.join(", ")),
        names => format!("for {} and {} more", names[..NAMES_SHOWN].join(", "), names.len() - NAMES_SHOWN),
    }
}

/// A date as RFC 3339 writes it.
fn date(seconds: u64) -> String {
    // The end of the year 9999, the last that certificates and RFC 3339 can name.
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
}

fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => {
            "it wants a client's certificate: name one as client_certificate of the server".into()
        }
        Alert::UnknownCA | Alert::BadCertificate | Alert::UnsupportedCertificate | Alert::CertificateUnknown => {
            format!(
                "it refuses our client certificate (alert {alert:?}): name one that it trusts as client_certificate"
            )
        }
        Alert::UnrecognisedName => {
            "it has nothing by the name that was asked for: set server_name to a name it knows".into()
        }
        Alert::ProtocolVersion => "it speaks neither TLS 1.2 nor TLS 1.3: allow one of them there".into(),
        Alert::HandshakeFailure | Alert::InsufficientSecurity => format!(
            "it refuses the handshake (alert {alert:?}): it has no cipher, curve or key in common with rustls' defaults, or \
             wants a client_certificate"
        ),
        _ => format!("it refuses the handshake: alert {alert:?}"),
    }
}

fn of_handshake(error: &Error) -> String {
    match Cause::of(error) {
        Cause::NotTls => "it does not speak TLS there: check the port, or take server_certificate away".into(),
        Cause::NoSharedVersion => "it speaks neither TLS 1.2 nor TLS 1.3: allow one of them there".into(),
        Cause::NoSharedCipher => {
            "it has no cipher or curve in common with rustls' defaults: allow one of them there".into()
        }
        Cause::NoCertificate => "it shows no certificate".into(),
        _ => format!("the handshake failed: {}", shown(&error.to_string())),
    }
}
