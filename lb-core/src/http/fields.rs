//! Header fields: room for them, what frames a body, and what is for one connection only.

use std::mem::MaybeUninit;

use httparse::Header;

use super::{Cause, Version, Wrong};

/// Room for the fields of a head. Costs nothing to make: what is not read into is never initialised.
pub(crate) struct Fields<'b>([MaybeUninit<Header<'b>>; Fields::MOST]);

impl<'b> Fields<'b> {
    /// How many there is room for.
    pub(crate) const MOST: usize = 128;

    pub(crate) fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; Self::MOST])
    }

    /// Room for at most so many, as [`super::Limits`] say.
    pub(super) fn room(&mut self, most: u16) -> &mut [MaybeUninit<Header<'b>>] {
        &mut self.0[..usize::from(most).min(Self::MOST)]
    }
}

/// What the `Connection` fields of a message say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Connection<'b> {
    /// The sender closes after this exchange.
    pub(crate) closes: bool,
    /// The sender keeps the connection; what HTTP/1.0 does only if it says so.
    pub(crate) keeps_alive: bool,
    /// `Upgrade` is among the names.
    pub(super) upgrades: bool,
    /// Fields of other names than those that are for one connection by themselves.
    names_others: bool,
    values: [&'b [u8]; 4],
}

impl<'b> Connection<'b> {
    /// Takes in one more `Connection` field.
    pub(super) fn add(&mut self, value: &'b [u8]) -> Result<(), Wrong> {
        let free = self.values.iter_mut().find(|value| value.is_empty());
        *free.ok_or(Wrong::malformed("too many Connection fields"))? = value;
        for name in elements(value) {
            match name.len() {
                5 if name.eq_ignore_ascii_case(b"close") => self.closes = true,
                7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrades = true,
                10 if name.eq_ignore_ascii_case(b"keep-alive") => self.keeps_alive = true,
                _ if !is_token(name) => return Err(Wrong::malformed("a name in Connection is no token")),
                _ => self.names_others = true,
            }
        }
        Ok(())
    }

    /// Whether the sender, who writes in `version`, keeps the connection after this exchange (RFC 9112 9.3).
    pub(crate) fn persists(&self, version: Version) -> bool {
        !self.closes && (version == Version::Http11 || self.keeps_alive)
    }

    /// Whether a field is for this connection only, and so is not passed on (RFC 9110 7.6.1). Those that frame the body
    /// count as such: who writes the message writes its framing.
    pub(crate) fn is_hop_by_hop(&self, name: &str) -> bool {
        let by_itself = match name.len() {
            2 => name.eq_ignore_ascii_case("te"),
            7 => name.eq_ignore_ascii_case("upgrade"),
            10 => name.eq_ignore_ascii_case("connection") || name.eq_ignore_ascii_case("keep-alive"),
            14 => name.eq_ignore_ascii_case("content-length"),
            16 => name.eq_ignore_ascii_case("proxy-connection"),
            17 => name.eq_ignore_ascii_case("transfer-encoding"),
            _ => false,
        };
        by_itself || (self.names_others && self.names(name) && !is_end_to_end(name))
    }

    fn names(&self, name: &str) -> bool {
        self.values.iter().any(|value| elements(value).any(|one| one.eq_ignore_ascii_case(name.as_bytes())))
    }
}

/// Whether a field is for whoever handles the message in the end. A client that names such a field in `Connection` would
/// have it taken away from the server: https://nathandavison.com/blog/abusing-http-hop-by-hop-request-headers.
fn is_end_to_end(name: &str) -> bool {
    const NAMES: &str = "host cookie cookie2 set-cookie authorization forwarded via cache-control date expect location \
        origin vary range";
    const BEGINNINGS: [&str; 3] = ["x-forwarded-", "content-", "x-real-"];
    NAMES.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case(name))
        || BEGINNINGS.iter().any(|beginning| begins_with(name, beginning))
}

/// Whether a name begins so, in capitals or not.
pub(super) fn begins_with(name: &str, beginning: &str) -> bool {
    name.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

/// What the fields that frame a message say.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) length: Option<u64>,
    pub(super) is_chunked: bool,
}

impl Frames {
    /// Takes in a `Content-Length` field: digits only and once only, even if another is equal.
    pub(super) fn add_length(&mut self, value: &[u8]) -> Result<(), Wrong> {
        if self.length.replace(length(value)?).is_some() {
            return Err(Wrong::malformed("Content-Length twice"));
        }
        if self.is_chunked { Err(Self::BOTH) } else { Ok(()) }
    }

    /// Takes in a `Transfer-Encoding` field: `chunked`, and once only.
    pub(super) fn add_coding(&mut self, value: &[u8], version: Version) -> Result<(), Wrong> {
        if version == Version::Http10 {
            return Err(Wrong::malformed("Transfer-Encoding in HTTP/1.0"));
        }
        if self.is_chunked {
            return Err(Wrong::malformed("Transfer-Encoding twice"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(other_coding(value));
        }
        self.is_chunked = true;
        if self.length.is_some() { Err(Self::BOTH) } else { Ok(()) }
    }

    /// Checks a field that is none of those that frame.
    pub(super) fn check_other(name: &str) -> Result<(), Wrong> {
        // By far the most fields are too short or begin otherwise, so that their names are not looked at.
        let may_be = matches!(name.as_bytes(), [b'c' | b'C' | b't' | b'T' | b'-' | b'_', ..] if name.len() >= 13);
        if may_be && is_nearly_framing(name) {
            return Err(Wrong::malformed("a field's name is nearly that of one that frames the body"));
        }
        Ok(())
    }

    const BOTH: Wrong = Wrong::malformed("both Content-Length and Transfer-Encoding");
}

/// Whether a field's name is that of one that frames, but for `-` and `_`. Some servers read `Content_Length` as if it were
/// `Content-Length`.
pub(super) fn is_nearly_framing(name: &str) -> bool {
    let letters = || name.bytes().filter(|byte| !matches!(byte, b'-' | b'_')).map(|byte| byte.to_ascii_lowercase());
    letters().eq(*b"contentlength") || letters().eq(*b"transferencoding")
}

/// A Content-Length. What a signed number of 64 bits cannot hold overflows in other parsers.
fn length(value: &[u8]) -> Result<u64, Wrong> {
    const WRONG: Wrong = Wrong::malformed("Content-Length is no length");
    if value.is_empty() {
        return Err(WRONG);
    }
    value.iter().try_fold(0u64, |length, &byte| {
        let digit = if byte.is_ascii_digit() { u64::from(byte - b'0') } else { return Err(WRONG) };
        let length = length.checked_mul(10).and_then(|length| length.checked_add(digit));
        length.filter(|&length| length <= i64::MAX as u64).ok_or(WRONG)
    })
}

/// What is wrong with a Transfer-Encoding that is not `chunked`: a coding that is not known here, or a list that is none.
fn other_coding(value: &[u8]) -> Wrong {
    let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let last = codings.next_back().unwrap_or_default();
    if !is_token(last) || codings.any(|coding| !is_token(coding) || coding.eq_ignore_ascii_case(b"chunked")) {
        return Wrong::malformed("Transfer-Encoding is no list of codings that may be chunked once, in the end");
    }
    Wrong::new(Cause::UnknownCoding, "a transfer coding other than chunked")
}

/// The elements of a field that is a list, without the empty ones (RFC 9110 5.6.1.2).
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Whether these bytes are a token (RFC 9110 5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(values: &[&'static str]) -> Result<Connection<'static>, Wrong> {
        let mut connection = Connection::default();
        values.iter().try_for_each(|value| connection.add(value.as_bytes()))?;
        Ok(connection)
    }

    #[test]
    fn who_keeps_a_connection_depends_on_the_version_and_what_is_said() {
        let persists = |values: &[&'static str]| {
            let connection = connection(values).unwrap();
            [Version::Http10, Version::Http11].map(|version| connection.persists(version))
        };
        assert_eq!(persists(&[]), [false, true]);
        assert_eq!(persists(&["keep-alive"]), [true, true]);
        assert_eq!(persists(&["Close"]), [false, false]);
        assert_eq!(persists(&["x, CLOSE"]), [false, false]);
        assert_eq!(persists(&["keep-alive", "close"]), [false, false]);
        assert_eq!(persists(&["Keep-Alive , TE", ""]), [true, true]);
        assert_eq!(persists(&["closed"]), [false, true]);
    }

    #[test]
    fn what_is_for_one_connection_is_known_by_itself_or_named() {
        let plain = connection(&["keep-alive"]).unwrap();
        for name in
            ["Connection", "keep-alive", "Proxy-Connection", "TE", "Upgrade", "transfer-encoding", "CONTENT-LENGTH"]
        {
            assert!(plain.is_hop_by_hop(name), "{name}");
        }
        for name in ["Trailer", "Host", "X-Custom", "Cookie", "ETag", "Content-Type", "Te-St"] {
            assert!(!plain.is_hop_by_hop(name), "{name}");
        }
        let named = connection(&["x-custom, close", "ETag,,http2-settings"]).unwrap();
        for name in ["X-Custom", "etag", "HTTP2-Settings", "Connection"] {
            assert!(named.is_hop_by_hop(name), "{name}");
        }
        assert!(!named.is_hop_by_hop("X-Other"));
    }

    #[test]
    fn what_servers_need_cannot_be_named_away() {
        let names = "Host, Cookie, Set-Cookie, Authorization, X-Forwarded-For, X-Forwarded-Proto, Forwarded, Content-Type, X-Real-IP";
        let connection = connection(&[names]).unwrap();
        for name in names.split(", ") {
            assert!(!connection.is_hop_by_hop(name), "{name}");
        }
    }

    #[test]
    fn names_in_connection_are_tokens_and_their_fields_few() {
        for wrong in ["a b", "close;x", "\"close\"", "close\u{e9}", "keep-alive: x"] {
            assert!(connection(&[wrong]).is_err(), "{wrong}");
        }
        assert!(connection(&["a"; 4]).is_ok());
        assert!(connection(&["a"; 5]).is_err());
    }

    #[test]
    fn names_that_are_nearly_those_that_frame_are_known() {
        for name in [
            "Content_Length",
            "content__length",
            "ContentLength",
            "Transfer_Encoding",
            "TRANSFER-_ENCODING",
            "_content-length",
        ] {
            assert!(Frames::check_other(name).is_err(), "{name}");
        }
        for name in
            ["Content-Type", "Content-Lengths", "X-Content-Length", "Transfer-Encodings", "TE", "Content-Language"]
        {
            assert!(Frames::check_other(name).is_ok(), "{name}");
        }
    }
}
