//! Whom a request is for and where it comes from, before anything else is looked at: a page of another site can make a
//! browser send requests here, under a name of its own that it has turned to this address (DNS rebinding) or across sites.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};

/// What is wrong with where a request is from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stray {
    /// It is for another host.
    Host,
    /// It is from the page of another site.
    Origin,
}

/// The names of the console.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    /// Where it listens.
    pub(super) ip: IpAddr,
    /// Whether it speaks TLS.
    pub(super) tls: bool,
    /// Whether its certificate is for this name or address.
    pub(super) certificate_is_for: &'a dyn Fn(&str) -> bool,
}

impl Own<'_> {
    /// Lets a request pass.
    ///
    /// # Errors
    /// It is not meant for the console, or changes something and is sent by a page of another site.
    pub(super) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Stray> {
        let host = only(headers, &header::HOST).ok_or(Stray::Host)?;
        let authority: Authority = host.parse().map_err(|_| Stray::Host)?;
        // Where the request line names a host, it is that one that counts.
        if uri.authority().is_some_and(|named| *named != authority) || !self.has(&authority) {
            return Err(Stray::Host);
        }
        if is_reading(method) || self.is_own_page(host, headers) { Ok(()) } else { Err(Stray::Origin) }
    }

    /// The port is not compared: it may be another one on the way here.
    fn has(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let (ip, name) = (host.parse::<IpAddr>().ok(), host.strip_suffix('.').unwrap_or(host));
        match ip.map(|ip| ip.to_canonical()) {
            // Nobody can turn an address to another one.
            Some(ip) => self.ip.is_unspecified() || ip == self.ip.to_canonical(),
            None if name.eq_ignore_ascii_case("localhost") => self.is_on_loopback(),
            None => self.tls && (self.certificate_is_for)(name),
        }
    }

    fn is_on_loopback(&self) -> bool {
        self.ip.is_unspecified() || self.ip.to_canonical().is_loopback()
    }

    /// Whether a page that sends the request, if it is one, is the console's.
    fn is_own_page(&self, host: &str, headers: &HeaderMap) -> bool {
        let scheme = if self.tls { "https" } else { "http" };
        let is_own = |origin: &str| origin.eq_ignore_ascii_case(&format!("{scheme}://{host}"));
        let origin = !headers.contains_key(header::ORIGIN) || only(headers, &header::ORIGIN).is_some_and(is_own);
        let site = only(headers, &HeaderName::from_static("sec-fetch-site"));
        origin && site.is_none_or(|site| matches!(site, "same-origin" | "none"))
    }
}

/// Whether requests of this method change nothing.
pub(super) fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// The values of the cookies of this name.
pub(super) fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(found, _)| *found == name).map(|(_, value)| value)
}

/// What follows `Bearer` in the header that says who asks; `None` if there is no such header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    if !headers.contains_key(header::AUTHORIZATION) {
        return None;
    }
    let said = only(headers, &header::AUTHORIZATION).and_then(|value| value.split_once(' '));
    let token = said.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    Some(token.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn check(ip: &str, tls: bool, method: &Method, uri: &str, lines: &[(&'static str, &str)]) -> Result<(), Stray> {
        let certificate_is_for = |name: &str| name == "lb.example";
        let own = Own { ip: ip.parse().unwrap(), tls, certificate_is_for: &certificate_is_for };
        own.check(method, &uri.parse().unwrap(), &headers(lines))
    }

    #[test]
    fn a_request_is_for_the_console_or_refused() {
        let cases = [
            ("127.0.0.1", false, "127.0.0.1:8404", true),
            ("127.0.0.1", false, "127.0.0.1", true),
            ("127.0.0.1", false, "localhost:9000", true),
            ("127.0.0.1", false, "LocalHost.", true),
            ("127.0.0.1", false, "[::ffff:127.0.0.1]:8404", true),
            ("127.0.0.1", false, "127.0.0.2:8404", false),
            ("127.0.0.1", false, "evil.example:8404", false),
            ("127.0.0.1", false, "lb.example", false),
            ("127.0.0.1", false, "127.0.0.1.evil.example", false),
            ("127.0.0.1", false, "localhost.evil.example", false),
            ("127.0.0.1", false, "127.0.0.1@evil.example", false),
            ("127.0.0.1", false, "evil@127.0.0.1", false),
            ("127.0.0.1", false, "0x7f000001", false),
            ("127.0.0.1", false, "2130706433", false),
            ("127.0.0.1", false, "", false),
            ("127.0.0.1", false, "127.0.0.1, evil.example", false),
            ("::1", false, "[::1]:8404", true),
            ("::1", false, "localhost", true),
            ("0.0.0.0", true, "10.1.2.3:8404", true),
            ("0.0.0.0", true, "lb.example:8404", true),
            ("0.0.0.0", true, "other.example", false),
            ("10.1.2.3", true, "localhost", false),
            ("10.1.2.3", true, "10.1.2.4", false),
        ];
        for (ip, tls, host, passes) in cases {
            let expected = if passes { Ok(()) } else { Err(Stray::Host) };
            assert_eq!(check(ip, tls, &Method::GET, "/", &[("host", host)]), expected, "{ip} {host}");
        }
        let twice = [("host", "127.0.0.1"), ("host", "127.0.0.1")];
        assert_eq!(check("127.0.0.1", false, &Method::GET, "/", &twice), Err(Stray::Host));
        assert_eq!(check("127.0.0.1", false, &Method::GET, "/", &[]), Err(Stray::Host));
        let absolute = |uri| check("127.0.0.1", false, &Method::GET, uri, &[("host", "127.0.0.1:1")]);
        assert_eq!(absolute("http://127.0.0.1:1/"), Ok(()));
        assert_eq!(absolute("http://evil.example/"), Err(Stray::Host));
    }

    #[test]
    fn a_change_by_another_site_is_refused() {
        let host = ("host", "127.0.0.1:8404");
        let cases: [(&[(&'static str, &str)], bool); 11] = [
            (&[], true),
            (&[("origin", "http://127.0.0.1:8404")], true),
            (&[("origin", "http://127.0.0.1:8404"), ("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("origin", "http://127.0.0.1:9999")], false),
            (&[("origin", "https://127.0.0.1:8404")], false),
            (&[("origin", "http://evil.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "http://127.0.0.1:8404"), ("origin", "http://evil.example")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
        ];
        for (lines, passes) in cases {
            let all: Vec<_> = std::iter::once(host).chain(lines.iter().copied()).collect();
            for method in [Method::POST, Method::PATCH, Method::PUT, Method::DELETE, Method::OPTIONS] {
                let expected = if passes { Ok(()) } else { Err(Stray::Origin) };
                assert_eq!(check("127.0.0.1", false, &method, "/", &all), expected, "{method} {lines:?}");
            }
            // It tells another site nothing, as no browser shows it the answer.
            assert_eq!(check("127.0.0.1", false, &Method::GET, "/", &all), Ok(()), "{lines:?}");
        }
        let tls = [("host", "lb.example"), ("origin", "https://lb.example")];
        assert_eq!(check("0.0.0.0", true, &Method::POST, "/", &tls), Ok(()));
    }

    #[test]
    fn cookies_and_tokens_are_found_among_others() {
        let lines = headers(&[("cookie", "a=1; lb_session=x; lb_sessions=n;lb_session=y"), ("cookie", "lb_session=z")]);
        assert_eq!(cookies(&lines, "lb_session").collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(bearer(&headers(&[])), None);
        for (said, token) in [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("Bearer", "")] {
            assert_eq!(bearer(&headers(&[("authorization", said)])), Some(token), "{said}");
        }
        let twice = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(bearer(&twice), Some(""));
    }
}
