use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::http::referee;

const LIMITS: Limits = Limits { line: 8192, fields: 100, head: 32768 };

/// The cause that a head is refused for, however it is cut; `None` if it is not.
fn refused_within(head: impl AsRef<[u8]>, limits: &Limits) -> Option<Cause> {
    let head = head.as_ref();
    referee::request(head, 1, limits);
    match read(head, limits, &mut Fields::new()) {
        Ok(Some((_, length))) => {
            assert_eq!(length, head.len());
            None
        }
        Ok(None) => panic!("more is waited for after {:?}", head.escape_ascii().to_string()),
        Err(wrong) => Some(wrong.cause),
    }
}

fn refused(head: impl AsRef<[u8]>) -> Option<Cause> {
    refused_within(head, &LIMITS)
}

/// A POST of HTTP/1.1 with these fields, each with its CRLF, besides its Host.
fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n")
}

/// A GET of HTTP/1.1 whose only field is this Host.
fn to_host(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn read_with<T>(head: &str, look: impl FnOnce(Request<'_, '_>) -> T) -> T {
    assert_eq!(refused(head), None, "{head:?}");
    look(read(head.as_bytes(), &LIMITS, &mut Fields::new()).unwrap().unwrap().0)
}

fn framing(fields: &str) -> Framing {
    read_with(&post(fields), |request| request.framing)
}

#[track_caller]
fn all_malformed<H: AsRef<[u8]> + std::fmt::Debug>(heads: impl IntoIterator<Item = H>) {
    for head in heads {
        assert_eq!(refused(&head), Some(Cause::Malformed), "{head:?}");
    }
}

#[test]
fn a_request_is_read_as_it_is_written() {
    let bytes = b"\r\nPATCH /a%20b?c=d|e HTTP/1.1\r\nHost: Example.com:8080\r\nX-Empty:\r\nx-odd:  a\tb \xff \r\n\
        content-LENGTH: 5\r\nConnection: keep-alive\r\n\r\nhelloGET";
    let mut room = Fields::new();
    let (request, length) = read(bytes, &LIMITS, &mut room).unwrap().unwrap();
    assert_eq!(&bytes[length..], b"helloGET");
    assert_eq!((request.method, request.method_name, request.target), (Method::Patch, "PATCH", "/a%20b?c=d|e"));
    assert_eq!((request.version, request.framing), (Version::Http11, Framing::Length(5)));
    assert_eq!(request.host, Some(&b"Example.com:8080"[..]));
    assert_eq!(request.upgrade, None);
    let fields: Vec<_> = request.fields.iter().map(|field| (field.name, field.value)).collect();
    let expected: [(&str, &[u8]); 5] = [
        ("Host", b"Example.com:8080"),
        ("X-Empty", b""),
        ("x-odd", b"a\tb \xff"),
        ("content-LENGTH", b"5"),
        ("Connection", b"keep-alive"),
    ];
    assert_eq!(fields, expected);
    assert!(request.connection.keeps_alive && !request.connection.closes);
    referee::request(bytes, 1, &LIMITS);
}

#[test]
fn methods_are_known_by_their_exact_names() {
    let method = |name| read_with(&format!("{name} / HTTP/1.0\r\n\r\n"), |request| request.method);
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];
    let methods = known.map(method);
    assert_eq!(methods.map(|method| format!("{method:?}").to_uppercase()), known.map(String::from));
    let idempotent = methods.into_iter().filter(|method| method.is_idempotent());
    use Method::{Delete, Get, Head, Options, Put, Trace};
    assert_eq!(idempotent.collect::<Vec<_>>(), [Get, Head, Put, Delete, Options, Trace]);
    for other in ["get", "GETX", "PROPFIND", "M-SEARCH", "connect"] {
        assert_eq!(method(other), Method::Other);
        assert!(!method(other).is_idempotent());
    }
}

#[test]
fn connect_is_not_allowed() {
    assert_eq!(refused("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n"), Some(Cause::NotAllowed));
    assert_eq!(refused("CONNECT / HTTP/1.0\r\n\r\n"), Some(Cause::NotAllowed));
}

#[test]
fn cl_te_and_te_cl_are_refused() {
    all_malformed([
        post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
        post("Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 0\r\n"),
    ]);
}

#[test]
fn te_te_in_every_disguise_is_refused() {
    let codings = [
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "chunked\r\nTransfer-Encoding: chunked, chunked",
        "chunked\r\ntransfer-encoding: x",
        "chunked, chunked",
        "chunked, identity",
        "chunked,",
        ",chunked",
        "",
        "\"chunked\"",
        "'chunked' x",
        "chunked;q=1",
        "chunked x",
        "chun ked",
        "x chunked",
        "chunked\u{b}",
        "\u{b}chunked",
        "chunked\0",
        "chunk\u{e9}d",
        "\n chunked",
        "\r\n chunked",
        "\rchunked",
    ];
    all_malformed(codings.map(|coding| post(&format!("Transfer-Encoding: {coding}\r\n"))));
    let names = [
        "Transfer-Encoding ",
        "Transfer-Encoding\t",
        " Transfer-Encoding",
        "\tTransfer-Encoding",
        "Transfer_Encoding",
        "transfer__encoding",
        "TransferEncoding",
        "Transfer-Encoding\0",
        "Transfer\u{b}-Encoding",
        "Transfer Encoding",
        "X: y\nTransfer-Encoding",
        "X: y\rTransfer-Encoding",
        "Transfer-Encoding\r\n ",
        "Tr\u{e0}nsfer-Encoding",
        "(Transfer-Encoding)",
        "Transfer-Encoding:\r\nTransfer-Encoding",
        "Content_Length: 3\r\nTransfer-Encoding",
    ];
    all_malformed(names.map(|name| post(&format!("{name}: chunked\r\n"))));
    all_malformed(names.map(|name| post(&format!("Content-Length: 4\r\n{name}: chunked\r\n"))));
}

#[test]
fn chunked_is_the_only_coding_and_others_are_said_not_to_be_known() {
    for coding in ["chunked", "Chunked", "CHUNKED", "\tchunked \t"] {
        assert_eq!(framing(&format!("Transfer-Encoding:{coding}\r\n")), Framing::Chunked);
        assert_eq!(framing(&format!("tRANSFER-eNCODING:{coding}\r\n")), Framing::Chunked);
    }
    for coding in [
        "gzip",
        "identity",
        "xchunked",
        "chunkedx",
        "gzip, chunked",
        "gzip , deflate\t,chunked",
        "x\r\nTransfer-Encoding: chunked",
    ] {
        let head = post(&format!("Transfer-Encoding: {coding}\r\n"));
        assert_eq!(refused(head), Some(Cause::UnknownCoding), "{coding}");
    }
}

#[test]
fn http_1_0_has_no_transfer_coding() {
    all_malformed(["chunked", "gzip"].map(|coding| format!("POST / HTTP/1.0\r\nTransfer-Encoding: {coding}\r\n\r\n")));
}

#[test]
fn content_length_is_one_number_written_once_in_digits() {
    for (written, length) in [("0", 0), ("5", 5), (" 0005 ", 5), ("9223372036854775807", i64::MAX as u64)] {
        assert_eq!(framing(&format!("Content-Length:{written}\r\n")), Framing::Length(length));
    }
    assert_eq!(framing(""), Framing::None);
    let wrong = [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "5 5",
        "5,5",
        "5, 5",
        "5,",
        "5.0",
        "0x5",
        "5e1",
        "5_0",
        "5;",
        "\"5\"",
        "a",
        "5a",
        "\u{b}5",
        "5\0",
        "5\u{b}",
        "\u{664}",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "5\r\nContent-Length: 5",
        "5\r\ncontent-length: 6",
        "5\r\nContent-Length:",
        "5\n",
        "5\r",
    ];
    all_malformed(wrong.map(|length| post(&format!("Content-Length: {length}\r\n"))));
    let names = [
        "Content-Length ",
        "Content-Length\t",
        " Content-Length",
        "Content_Length",
        "content__length",
        "ContentLength",
        "Content-Length\0",
        "Content Length",
        "X: y\nContent-Length",
        "X: y\rContent-Length",
    ];
    all_malformed(names.map(|name| post(&format!("{name}: 5\r\n"))));
}

#[test]
fn cl_0_get_and_head_have_no_body() {
    for method in ["GET", "HEAD"] {
        let with = |field| format!("{method} / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        all_malformed(["Content-Length: 44", "Transfer-Encoding: chunked"].map(with));
        assert_eq!(read_with(&with("Content-Length: 0"), |request| request.framing), Framing::Length(0));
    }
    let options = "OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
    assert_eq!(read_with(options, |request| request.framing), Framing::Length(4));
}

#[test]
fn lines_end_by_crlf_only() {
    let good = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX: y\r\n\r\n";
    assert_eq!(refused(good), None);
    let ends: Vec<_> = good.match_indices("\r\n").map(|(at, _)| at).collect();
    for at in ends {
        for end in ["\n", "\r", "\r\r\n", "\n\r", "\n\r\n", "\0", "\u{b}", "\u{c}"] {
            let mut head = String::from(good);
            head.replace_range(at..at + 2, end);
            // Where no end is left in it, what follows has one.
            head.push_str("X: y\r\n\r\n");
            all_malformed([head]);
        }
    }
}

#[test]
fn a_bare_cr_or_nul_or_control_is_refused_anywhere() {
    let good = "POST /path HTTP/1.1\r\nHost: a\r\nX-Name: a value\r\n\r\n";
    for at in 0..good.len() {
        for control in ["\0", "\u{1}", "\u{8}", "\u{b}", "\u{c}", "\u{1b}", "\u{7f}"] {
            let mut head = String::from(good);
            head.insert_str(at, control);
            all_malformed([head]);
        }
        let mut head = String::from(good);
        head.insert(at, '\r');
        all_malformed([head]);
    }
}

#[test]
fn obs_fold_is_refused() {
    let fields = [
        "X: a\r\n b\r\n",
        "X: a\r\n\tb\r\n",
        "X:\r\n a\r\n",
        " X: a\r\n",
        "Content-Length:\r\n 5\r\n",
        "X: a\r\n \r\n",
    ];
    all_malformed(fields.map(post));
    all_malformed(["GET / HTTP/1.1\r\n Host: a\r\n\r\n", "GET / HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n"]);
}

#[test]
fn a_name_is_a_token_that_a_colon_follows() {
    let lines =
        ["X : y", "X\t: y", ": y", "X", "X y: z", "X\u{e9}: y", "(X): y", "X@: y", "\"X\": y", "X\0: y", "[X]: y"];
    all_malformed(lines.map(|line| post(&format!("{line}\r\n"))));
    assert_eq!(refused(post("!#$%&'*+-.^_`|~09azAZ: y:z: \r\nX::\r\n")), None);
}

#[test]
fn a_request_line_has_one_space_between_its_parts_and_nothing_else() {
    let lines = [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 HTTP/1.1",
        "GET /HTTP/1.1",
        "GET HTTP/1.1",
        "/ HTTP/1.1",
        "GET",
        "G(T / HTTP/1.1",
        "GET\0/ HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET / HTTP/1.1\0",
        "GET / HTTP/1.1\t",
        "\u{feff}GET / HTTP/1.1",
    ];
    all_malformed(lines.map(|line| format!("{line}\r\nHost: a\r\n\r\n")));
}

#[test]
fn http_0_9_is_no_request() {
    all_malformed(["GET /\r\n\r\n", "GET / \r\n\r\n", "GET /\r\nHost: a\r\n\r\n"]);
}

#[test]
fn versions_are_1_0_and_1_1_and_others_of_http_are_said_not_to_be_known() {
    let line = |version| format!("GET / {version}\r\nHost: a\r\n\r\n");
    assert_eq!(read_with(&line("HTTP/1.0"), |request| request.version), Version::Http10);
    assert_eq!(read_with(&line("HTTP/1.1"), |request| request.version), Version::Http11);
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/3.1"] {
        assert_eq!(refused(line(version)), Some(Cause::Version), "{version}");
    }
    let wrong = [
        "http/1.1",
        "HTTP/1.10",
        "HTTP/11.1",
        "HTTP/2",
        "HTTP/1,1",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTX/1.1",
        "ICE/1.0",
        "HTTP/1.1x",
    ];
    all_malformed(wrong.map(line));
    assert_eq!(refused("PRI * HTTP/2.0\r\n\r\n"), Some(Cause::Version));
}

#[test]
fn there_is_one_host_but_in_http_1_0_there_may_be_none() {
    all_malformed([
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\n\r\n",
    ]);
    assert_eq!(read_with("GET / HTTP/1.0\r\n\r\n", |request| request.host.map(<[u8]>::to_vec)), None);
    assert_eq!(read_with(&to_host("a"), |request| request.host.map(<[u8]>::to_vec)), Some(b"a".to_vec()));
}

#[test]
fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
    for host in
        ["a", "Example.COM", "a:80", "a:65535", "127.0.0.1:8080", "[::1]", "[2001:db8::1]:443", "a_b-c.~d", "%41"]
    {
        assert_eq!(refused(to_host(host)), None, "{host}");
    }
    let wrong = [
        "",
        ":",
        ":80",
        "a:",
        "a:b",
        "a:-1",
        "a:+1",
        "a:65536",
        "a:000080",
        "a:80:80",
        "user@a",
        "user:pw@a",
        "a b",
        "a,b",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "http://a",
        "[::1",
        "::1",
        "[::1]a",
        "[::1]:",
        "[g]",
        "[::1%eth0]",
        "[v1.a]",
        "[]",
        "<a>",
        "a\u{e9}",
        "\"a\"",
        "a\t b",
        "a{}",
        "a|b",
        "a^b",
        "`a`",
    ];
    all_malformed(wrong.map(to_host));
}

#[test]
fn a_target_that_names_an_authority_names_the_host() {
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (target, host) in [
        ("http://a.example/b", "a.example"),
        ("HTTPS://A.example:8443/?c", "a.EXAMPLE:8443"),
        ("http://[::1]", "[::1]"),
        ("http://a?b", "a"),
        ("//a/b", "other"),
        ("/http://a/", "other"),
    ] {
        assert_eq!(refused(get(target, host)), None, "{target} {host}");
    }
    all_malformed([
        get("http://a/", "b"),
        get("http://a:80/", "a"),
        get("http://a/", "a:80"),
        get("http://user@a/", "a"),
        get("http://a@b/", "b"),
        get("http://a\\@b/", "b"),
        get("http:///", "a"),
        get("http://", "a"),
        get("http:/a/", "a"),
        get("ftp://a/", "a"),
        get("a", "a"),
        get("a:80", "a"),
        get("?a", "a"),
        get("*", "a"),
        get("**", "a"),
        String::from("POST * HTTP/1.1\r\nHost: a\r\n\r\n"),
        String::from("OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n"),
        String::from("GET http://user@a/ HTTP/1.0\r\n\r\n"),
    ]);
    assert_eq!(refused("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), None);
    assert_eq!(refused("GET http://a/ HTTP/1.0\r\n\r\n"), None);
}

#[test]
fn a_target_is_visible_ascii_without_a_fragment() {
    let get = |target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(refused(get("/a?b=c;d&e='f'|\"<>[]{}^`\\~%00")), None);
    all_malformed(["/#a", "/a#", "/\u{e9}", "/\u{7f}", "/\u{1}", "/\0"].map(get));
}

#[test]
fn one_empty_line_may_come_before_a_request() {
    assert_eq!(refused("\r\nGET / HTTP/1.0\r\n\r\n"), None);
    all_malformed([
        "\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "\nGET / HTTP/1.0\r\n\r\n",
        "\rGET / HTTP/1.0\r\n\r\n",
        " \r\n\r\n",
    ]);
}

#[test]
fn a_line_is_as_long_as_it_may_be_and_no_longer() {
    let limits = Limits { line: 40, ..LIMITS };
    let get = |length: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(length - "GET / HTTP/1.0".len()));
    assert_eq!(refused_within(get(40), &limits), None);
    assert_eq!(refused_within(get(41), &limits), Some(Cause::LineTooLong));
    assert_eq!(refused_within(get(4000), &limits), Some(Cause::LineTooLong));
    // It need not end to be too long, and what is no request is not said to be too long a one.
    assert_eq!(refused_within(&get(100)[..42], &limits), Some(Cause::LineTooLong));
    assert_eq!(refused_within([0x16; 100], &limits), Some(Cause::Malformed));
    assert_eq!(refused_within(format!("GET / {}", "HTTP/2.0".repeat(9)), &limits), Some(Cause::LineTooLong));
}

#[test]
fn there_are_as_many_fields_as_there_may_be_and_no_more() {
    let head = |fields: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(fields));
    let limits = Limits { fields: 5, ..LIMITS };
    assert_eq!(refused_within(head(5), &limits), None);
    assert_eq!(refused_within(head(6), &limits), Some(Cause::HeadTooLarge));
    let limits = Limits { fields: u16::MAX, ..LIMITS };
    assert_eq!(refused_within(head(Fields::MOST), &limits), None);
    assert_eq!(refused_within(head(Fields::MOST + 1), &limits), Some(Cause::HeadTooLarge));
}

#[test]
fn a_head_is_as_large_as_it_may_be_and_no_larger() {
    let limits = Limits { head: 100, ..LIMITS };
    let head = |length: usize| {
        format!("GET / HTTP/1.0\r\nA: {}\r\n\r\n", "b".repeat(length - "GET / HTTP/1.0\r\nA: \r\n\r\n".len()))
    };
    assert_eq!(refused_within(head(100), &limits), None);
    assert_eq!(refused_within(head(101), &limits), Some(Cause::HeadTooLarge));
    assert_eq!(refused_within(&head(200)[..100], &limits), Some(Cause::HeadTooLarge));
    assert_eq!(read(&head(200).as_bytes()[..99], &limits, &mut Fields::new()), Ok(None));
}

#[test]
fn a_body_waits_for_100_continue_or_for_nothing() {
    for expect in ["100-continue", "100-CONTINUE", " 100-continue "] {
        assert_eq!(refused(post(&format!("Expect:{expect}\r\nContent-Length: 5\r\n"))), None);
    }
    let wrong = ["y 100-continue", "100-continue, 100-continue", "", "100-continuex", "200-ok", "100-continue;a"];
    all_malformed(wrong.map(|expect| post(&format!("Expect: {expect}\r\nContent-Length: 5\r\n"))));
    assert_eq!(refused("POST / HTTP/1.0\r\nExpect: what\r\n\r\n"), None);
}

#[test]
fn an_upgrade_is_one_that_connection_names_and_no_body_comes_with() {
    let upgrade = |head: String| read_with(&head, |request| request.upgrade.map(<[u8]>::to_vec));
    let websocket = Some(b"websocket".to_vec());
    assert_eq!(upgrade(post("Connection: Upgrade\r\nUpgrade: websocket\r\n")), websocket);
    assert_eq!(upgrade(post("Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n")), websocket);
    assert_eq!(upgrade(post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n")), websocket);
    for fields in [
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n",
    ] {
        assert_eq!(upgrade(post(fields)), None, "{fields}");
    }
    assert_eq!(upgrade(String::from("GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")), None);
    all_malformed([post("Connection: Upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n")]);
}

#[test]
fn connection_cannot_take_the_framing_away() {
    let head = post("Connection: Content-Length, Host, Cookie, close\r\nContent-Length: 5\r\nCookie: a=b\r\n");
    read_with(&head, |request| {
        assert_eq!(request.framing, Framing::Length(5));
        assert!(request.connection.closes);
        assert!(!request.connection.is_hop_by_hop("Host") && !request.connection.is_hop_by_hop("Cookie"));
    });
    let head = post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n");
    assert_eq!(read_with(&head, |request| request.framing), Framing::Chunked);
}

/// Pieces of heads, good and bad, so that many heads made of them are good ones.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::sample::select(vec![
        &b"Host: a\r\n"[..],
        b"Content-Length: 5\r\n",
        b"Content-Length: 6\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: upgrade, x\r\n",
        b"Upgrade: websocket\r\n",
        b"X: y\r\n",
        b"X:\ty z \xff\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X: y\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"Content_Length: 5\r\n",
        b"Expect: 100-continue\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Host: a, b\r\n",
    ]);
    let first = prop::sample::select(vec![
        &b"GET / HTTP/1.1\r\nHost: a\r\n"[..],
        b"POST /a?b HTTP/1.1\r\nHost: a\r\n",
        b"POST http://a/ HTTP/1.1\r\n",
        b"POST / HTTP/1.0\r\n",
        b"\r\nPUT / HTTP/1.1\r\nHost: b:1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"POST / HTTP/2.0\r\n",
        b"",
    ]);
    (first, vec(lines, 0..8)).prop_map(|(first, lines)| [first, &lines.concat(), b"\r\nrest"].concat())
}

proptest! {
    #[test]
    fn no_bytes_panic_and_parts_make_no_difference(bytes in vec(any::<u8>(), 0..300), part in 1..64_usize) {
        referee::request(&bytes, part, &LIMITS);
        referee::request(&bytes, part, &referee::SMALL);
    }

    #[test]
    fn heads_of_any_pieces_are_refused_or_framed_as_the_most_lenient_parser_would(bytes in pieces(), part in 1..64_usize) {
        referee::request(&bytes, part, &LIMITS);
        referee::request(&bytes, part, &referee::SMALL);
    }

    #[test]
    fn changed_bytes_make_no_difference_between_parsers(
        bytes in pieces(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), part in 1..64_usize,
    ) {
        let mut bytes = bytes;
        changes.iter().for_each(|(at, byte)| { let at = at.index(bytes.len()); bytes[at] = *byte; });
        referee::request(&bytes, part, &LIMITS);
    }

    #[test]
    fn what_is_written_of_a_request_is_read_again(
        path in "/[!-\"$-~]{0,40}", fields in vec(("[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}", "([!-~]([\t -~]{0,30}[!-~])?)?"), 0..20),
        length in 0..=i64::MAX as u64, part in 1..64_usize,
    ) {
        let special = ["host", "upgrade", "connection", "expect"];
        prop_assume!(!fields.iter().any(|(name, _)| special.contains(&&name.to_lowercase()[..])));
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("PUT {path} HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: {length}\r\n\r\n");
        referee::request(head.as_bytes(), part, &LIMITS);
        let mut room = Fields::new();
        let (request, _) = read(head.as_bytes(), &LIMITS, &mut room).unwrap().unwrap();
        prop_assert_eq!((request.target, request.framing), (&path[..], Framing::Length(length)));
        let read: Vec<_> = request.fields[1..=fields.len()].iter().map(|field| (field.name, field.value)).collect();
        let written: Vec<_> = fields.iter().map(|(name, value)| (&name[..], value.as_bytes())).collect();
        prop_assert_eq!(read, written);
    }
}
