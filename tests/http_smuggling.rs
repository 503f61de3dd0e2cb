//! Requests that two parsers could read differently, of every published class, sent through the balancer to a strict parser of
//! another kind: it must read exactly the requests that the balancer counted, each once, also over connections that others
//! use, and those who come after must get their own answers.
#![forbid(unsafe_code)]

use tests::client::End;
use tests::http::corpus::{self, Example, Tier};
use tests::http::{Received, Referee, Wire, request};
use tests::{Config, Frontend, Lb, http_count, http_refused};

/// What must become of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Refused, and nothing of them reaches a server.
    Refused,
    /// The first request is passed on and is wrong later: no server takes it for whole, and nothing behind it is read.
    Broken,
    /// So many requests, each of which is answered.
    Served(usize),
}

use Fate::{Broken, Refused, Served};

/// `@` stands for the name of the host, here and below: [`with_host`].
const POST: &str = "POST /first HTTP/1.1\r\nHost: @\r\n";
/// What an attacker would smuggle.
const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: @\r\n\r\n";

/// Heads, what is behind `POST` and before the empty line; a chunked body of nothing and a request follow.
const HEADS: &[(&str, &str)] = &[
    ("CL.TE", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
    ("CL.TE, length 0", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
    ("CL.CL, different", "Content-Length: 5\r\nContent-Length: 0\r\n"),
    ("CL.CL, the same", "Content-Length: 5\r\nContent-Length: 5\r\n"),
    ("CL in a list", "Content-Length: 5, 5\r\n"),
    ("CL in another list", "Content-Length: 5,0\r\n"),
    ("CL with a sign", "Content-Length: +5\r\n"),
    ("CL below zero", "Content-Length: -5\r\n"),
    ("CL in hexadecimal", "Content-Length: 0x5\r\n"),
    ("CL with a fraction", "Content-Length: 5.0\r\n"),
    ("CL with an exponent", "Content-Length: 5e0\r\n"),
    ("CL with an underscore", "Content-Length: 1_0\r\n"),
    ("CL with a space", "Content-Length: 1 0\r\n"),
    ("CL in quotes", "Content-Length: \"5\"\r\n"),
    ("CL of nothing", "Content-Length:\r\n"),
    ("CL of spaces", "Content-Length:   \r\n"),
    ("CL that overflows", "Content-Length: 18446744073709551621\r\n"),
    ("CL that overflows 32 bits in text", "Content-Length: 4294967301x\r\n"),
    ("CL with a vertical tab", "Content-Length: \u{b}5\r\n"),
    ("CL with a form feed", "Content-Length: 5\u{c}\r\n"),
    ("CL with NUL", "Content-Length: 5\0\r\n"),
    ("CL with full-width digits", "Content-Length: \u{ff15}\r\n"),
    ("CL with a space before the colon", "Content-Length : 5\r\n"),
    ("CL with a tab before the colon", "Content-Length\t: 5\r\n"),
    ("CL folded", "Content-Length:\r\n 5\r\n"),
    ("CL behind a bare LF", "X: y\nContent-Length: 5\r\n"),
    ("CL behind a bare CR", "X: y\rContent-Length: 5\r\n"),
    ("CL with an underscore in its name", "Content_Length: 5\r\n"),
    ("TE.TE, twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    ("TE.TE, the other is unknown", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
    ("TE.TE, identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    ("TE.TE, in a list", "Transfer-Encoding: chunked, chunked\r\n"),
    ("TE, chunked is not last", "Transfer-Encoding: chunked, gzip\r\n"),
    ("TE, chunked is not first", "Transfer-Encoding: gzip, chunked\r\n"),
    ("TE, identity", "Transfer-Encoding: identity\r\n"),
    ("TE, nearly chunked", "Transfer-Encoding: xchunked\r\n"),
    ("TE, chunked and more", "Transfer-Encoding: chunkedx\r\n"),
    ("TE, chunked and a parameter", "Transfer-Encoding: chunked;q=1\r\n"),
    ("TE, in quotes", "Transfer-Encoding: \"chunked\"\r\n"),
    ("TE, a comma behind", "Transfer-Encoding: chunked,\r\n"),
    ("TE, a comma before", "Transfer-Encoding: ,chunked\r\n"),
    ("TE, two words", "Transfer-Encoding: x chunked\r\n"),
    ("TE of nothing", "Transfer-Encoding:\r\n"),
    ("TE with a space before the colon", "Transfer-Encoding : chunked\r\n"),
    ("TE with a tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
    ("TE with a space before its name", " Transfer-Encoding: chunked\r\n"),
    ("TE with a vertical tab", "Transfer-Encoding:\u{b}chunked\r\n"),
    ("TE with a form feed behind", "Transfer-Encoding: chunked\u{c}\r\n"),
    ("TE with a control character before", "Transfer-Encoding: \u{1}chunked\r\n"),
    ("TE with NUL", "Transfer-Encoding: chunked\0\r\n"),
    ("TE with a no-break space", "Transfer-Encoding:\u{a0}chunked\r\n"),
    ("TE folded", "Transfer-Encoding:\r\n chunked\r\n"),
    ("TE folded by a tab", "Transfer-Encoding:\r\n\tchunked\r\n"),
    ("TE folded by a bare LF", "Transfer-Encoding:\n chunked\r\n"),
    ("TE in another field's fold", "X: y\r\n Transfer-Encoding: chunked\r\n"),
    ("TE behind a bare LF", "X: y\nTransfer-Encoding: chunked\r\n"),
    ("TE behind a bare CR", "X: y\rTransfer-Encoding: chunked\r\n"),
    ("TE behind CR CR LF", "X: y\r\r\nTransfer-Encoding: chunked\r\n"),
    ("TE behind NUL", "X: y\0Transfer-Encoding: chunked\r\n"),
    ("TE without a colon", "Transfer-Encoding chunked\r\n"),
    ("TE with an underscore", "Transfer_Encoding: chunked\r\n"),
    ("TE with a letter that is lower case of a Kelvin sign", "Transfer-Encoding: chun\u{212a}ed\r\n"),
    ("a name that is empty", ": chunked\r\n"),
    ("a name of a space", " : chunked\r\n"),
    ("a name in quotes", "\"Transfer-Encoding\": chunked\r\n"),
    ("a name with NUL", "X\0Y: z\r\n"),
    ("a name that is not ASCII", "X\u{e4}: z\r\n"),
    ("Host twice", "Host: other.example\r\n"),
    ("Host twice, the same", "Host: @\r\n"),
    ("Host with a space before the colon", "Host : other.example\r\n"),
    ("a fold behind Host", " other.example\r\n"),
    ("an expectation that is unknown", "Expect: 100-continue, x\r\n"),
];

/// Whole requests that are refused.
const REQUESTS: &[(&str, &str)] = &[
    ("bare LF everywhere", "POST /first HTTP/1.1\nHost: @\nContent-Length: 0\n\n"),
    ("bare LF in the end", "POST /first HTTP/1.1\r\nHost: @\r\nContent-Length: 0\r\n\n"),
    ("bare CR in the end", "POST /first HTTP/1.1\r\nHost: @\r\nContent-Length: 0\r\n\r\r\n"),
    ("bare LF behind the first line", "POST /first HTTP/1.1\nHost: @\r\nContent-Length: 0\r\n\r\n"),
    ("bare CR behind the first line", "POST /first HTTP/1.1\rHost: @\r\nContent-Length: 0\r\n\r\n"),
    ("a field in the first line's fold", "POST /first HTTP/1.1\r\n Host: @\r\nHost: @\r\n\r\n"),
    ("a tab in the first line", "POST\t/first HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("two spaces in the first line", "POST  /first HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("two versions", "POST /first HTTP/1.1 HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("a space behind the version", "POST /first HTTP/1.1 \r\nHost: @\r\n\r\n"),
    ("a request in the target", "POST /first\tHTTP/1.1\r\nHost: @\r\n\r\n"),
    ("NUL in the target", "POST /first\0 HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("a fragment in the target", "POST /first#x HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("a target that is not ASCII", "POST /f\u{fc}rst HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("a target that is no path", "POST first HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("a target of another host", "POST http://other.example/first HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("a target with a user", "POST http://other@@/first HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("a target of another scheme", "POST file://@/first HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("a version without a number", "POST /first HTTP/1\r\nHost: @\r\n\r\n"),
    ("a version in lower case", "POST /first http/1.1\r\nHost: @\r\n\r\n"),
    ("a version with zeros", "POST /first HTTP/01.1\r\nHost: @\r\n\r\n"),
    ("a version of one digit too many", "POST /first HTTP/1.10\r\nHost: @\r\n\r\n"),
    ("HTTP/0.9", "GET /first\r\n"),
    ("HTTP/0.9 with fields", "GET /first\r\nHost: @\r\n\r\n"),
    ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("TE in HTTP/1.0", "POST /first HTTP/1.0\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("CL.TE in HTTP/1.0", "POST /first HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("no Host", "POST /first HTTP/1.1\r\n\r\n"),
    ("a Host with a path", "POST /first HTTP/1.1\r\nHost: @/x\r\n\r\n"),
    ("a Host with a user", "POST /first HTTP/1.1\r\nHost: x@@\r\n\r\n"),
    ("a Host with a list", "POST /first HTTP/1.1\r\nHost: @, @\r\n\r\n"),
    ("a Host with a port that is none", "POST /first HTTP/1.1\r\nHost: @:x\r\n\r\n"),
    ("a method in quotes", "\"POST\" /first HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("a method with a control character", "PO\u{1}ST /first HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("GET with a body (CL.0)", "GET /first HTTP/1.1\r\nHost: @\r\nContent-Length: 40\r\n\r\n"),
    ("GET with chunks (TE.0)", "GET /first HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("HEAD with a body", "HEAD /first HTTP/1.1\r\nHost: @\r\nContent-Length: 40\r\n\r\n"),
];

/// Chunked bodies that are wrong behind a right head.
const CHUNKS: &[(&str, &str)] = &[
    ("a size of nothing", "\r\nabc\r\n0\r\n\r\n"),
    ("a size below zero", "-1\r\nabc\r\n0\r\n\r\n"),
    ("a size with a sign", "+3\r\nabc\r\n0\r\n\r\n"),
    ("a size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("a size with an underscore", "0_3\r\nabc\r\n0\r\n\r\n"),
    ("a size with a space before", " 3\r\nabc\r\n0\r\n\r\n"),
    ("a size with a space behind", "3 \r\nabc\r\n0\r\n\r\n"),
    ("a size with a tab behind", "3\t\r\nabc\r\n0\r\n\r\n"),
    ("a size that overflows", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("a size of zeros without end", "00000000000000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("a size that is none", "3x\r\nabc\r\n0\r\n\r\n"),
    ("a size in full-width digits", "\u{ff13}\r\nabc\r\n0\r\n\r\n"),
    ("a size that ends by LF", "3\nabc\r\n0\r\n\r\n"),
    ("a size that ends by CR", "3\rabc\r\n0\r\n\r\n"),
    ("an extension that ends by LF (TERM.EXT)", "3;x\nabc\r\n0\r\n\r\n"),
    ("an extension that ends by CR", "3;x\rabc\r\n0\r\n\r\n"),
    ("an extension with a bare LF (EXT.TERM)", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ("an extension with NUL", "3;a\0b\r\nabc\r\n0\r\n\r\n"),
    ("an extension of nothing", "3;\r\nabc\r\n0\r\n\r\n"),
    ("an extension with an open quote", "3;a=\"b\r\nabc\r\n0\r\n\r\n"),
    ("data that is too long", "3\r\nabcd\r\n0\r\n\r\n"),
    ("data that is too short", "3\r\nab\r\n0\r\n\r\n"),
    ("data that ends by LF", "3\r\nabc\n0\r\n\r\n"),
    ("data that ends by CR", "3\r\nabc\r0\r\n\r\n"),
    ("data that ends by other bytes (TERM.SPILL)", "3\r\nabcXX0\r\n\r\n"),
    ("an end with a bare LF", "3\r\nabc\r\n0\r\n\n"),
    ("a last size that ends by LF", "3\r\nabc\r\n0\n\r\n"),
    ("a last size of more zeros than a number has", "3\r\nabc\r\n00000000000000000\r\n\r\n"),
    ("a trailer without a colon", "3\r\nabc\r\n0\r\nX\r\n\r\n"),
    ("a trailer with a space before the colon", "3\r\nabc\r\n0\r\nX : y\r\n\r\n"),
    ("a trailer that is folded", "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n"),
    ("a trailer that ends by LF", "3\r\nabc\r\n0\r\nX: y\n\r\n"),
    ("a trailer with NUL", "3\r\nabc\r\n0\r\nX: y\0\r\n\r\n"),
    ("a request for a trailer", "3\r\nabc\r\n0\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n\r\n"),
];

/// What is right, however odd it looks.
const SERVED: &[(&str, &str, usize)] = &[
    (
        "a body that looks like a request",
        "POST /first HTTP/1.1\r\nHost: @\r\nContent-Length: 41\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: aaaaaaaaa\r\n\r\n",
        1,
    ),
    ("zeros before a length", "POST /first HTTP/1.1\r\nHost: @\r\nContent-Length: 0003\r\n\r\nabc", 1),
    (
        "chunked in capitals",
        "POST /first HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        1,
    ),
    ("fields in capitals", "POST /first HTTP/1.1\r\nHOST: @\r\nCONTENT-LENGTH: 3\r\n\r\nabc", 1),
    ("spaces around a value", "POST /first HTTP/1.1\r\nHost: @\r\nContent-Length: \t 3 \t \r\n\r\nabc", 1),
    (
        "a size in capitals with zeros",
        "POST /first HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n00A\r\n0123456789\r\n0\r\n\r\n",
        1,
    ),
    (
        "extensions",
        "POST /first HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b;c=\"\\\"d;\"\r\nabc\r\n0;e\r\n\r\n",
        1,
    ),
    (
        "a trailer that would frame",
        "POST /first HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\n\r\n",
        1,
    ),
    (
        "chunks that look like requests",
        "POST /first HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nGET /smuggled HTTP/1.1\r\nX: yyy\r\n\r\n0\r\n\r\n",
        1,
    ),
    ("an empty line before a request", "\r\nPOST /first HTTP/1.1\r\nHost: @\r\nContent-Length: 0\r\n\r\n", 1),
    (
        "two at once",
        "POST /first HTTP/1.1\r\nHost: @\r\nContent-Length: 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: @\r\n\r\n",
        2,
    ),
    ("a path that looks like a version", "GET /first%20HTTP/1.1%0d%0aHost:%20x HTTP/1.1\r\nHost: @\r\n\r\n", 1),
    (
        "Connection that names what frames",
        "POST /first HTTP/1.1\r\nHost: @\r\nConnection: Content-Length, Host\r\nContent-Length: 3\r\n\r\nabc",
        1,
    ),
    (
        "Connection that names chunked",
        "POST /first HTTP/1.1\r\nHost: @\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        1,
    ),
    (
        "an upgrade to h2c",
        "GET /first HTTP/1.1\r\nHost: @\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        1,
    ),
    (
        "an upgrade with a body",
        "POST /first HTTP/1.1\r\nHost: @\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
        1,
    ),
    ("a length without a body", "GET /first HTTP/1.1\r\nHost: @\r\nContent-Length: 0\r\n\r\n", 1),
];

#[test]
fn heads_that_could_be_read_differently_never_reach_a_server() {
    let all = |follow: &'static str| {
        HEADS.iter().map(move |(class, head)| (*class, format!("{POST}{head}\r\n{follow}{NEXT}"), Refused))
    };
    judge(all("0\r\n\r\n"));
    judge(all("GET /x"));
}

#[test]
fn requests_that_could_be_read_differently_never_reach_a_server() {
    judge(REQUESTS.iter().map(|(class, bytes)| (*class, format!("{bytes}{NEXT}"), Refused)));
}

#[test]
fn chunks_that_could_be_read_differently_end_the_request_and_both_connections() {
    let head = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    judge(CHUNKS.iter().map(|(class, body)| (*class, format!("{head}{body}{NEXT}"), Broken)));
    judge(CHUNKS.iter().map(|(class, body)| (*class, format!("{head}1\r\nx\r\n{body}{NEXT}"), Broken)));
}

#[test]
fn what_is_right_is_read_as_it_is_meant_however_odd_it_looks() {
    judge(SERVED.iter().map(|(class, bytes, count)| (*class, (*bytes).to_owned(), Served(*count))));
}

#[test]
fn a_request_that_ends_in_the_middle_is_whole_for_nobody() {
    let whole = [
        format!("{POST}Content-Length: 10\r\n\r\n0123456789"),
        format!("{POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX: y\r\n\r\n"),
    ];
    for text in whole {
        // Of its own: what the referee says late of one text must not be held against the next.
        let mut court = Court::new();
        let text = text.replace('@', "site.example");
        let head = text.find("\r\n\r\n").unwrap() + 4;
        for end in 1..text.len() {
            let mut client = Wire::connect(court.lb.addr("web"));
            client.send(&text[..end]);
            client.end();
            let (rest, _) = client.rest();
            drop(client);
            assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "cut off at {end}: {}", rest.escape_ascii());
            court.judge_broken(&format!("cut off at {end} of {}", text.len()), end >= head);
        }
        court.ask_victim();
    }
}

#[test]
fn the_corpus_of_http_desync_guardian_is_taken_as_it_says() {
    let Some(examples) = corpus::desync_guardian("the_corpus_of_http_desync_guardian_is_taken_as_it_says") else {
        return;
    };
    let mut court = Court::new();
    for example in &examples {
        court.hear_example(example);
    }
    court.close();
}

#[test]
fn answers_to_refused_requests_never_become_those_of_others() {
    let court = Court::new();
    let addr = court.lb.addr("web");
    std::thread::scope(|scope| {
        for attacker in 0..4 {
            scope.spawn(move || {
                for (_, head) in HEADS.iter().skip(attacker).step_by(4) {
                    let mut client = Wire::connect(addr);
                    client.send(format!("{POST}{head}\r\n0\r\n\r\n{NEXT}").replace('@', "site.example"));
                    client.rest();
                }
                for (_, body) in CHUNKS.iter().skip(attacker).step_by(4) {
                    let mut client = Wire::connect(addr);
                    let head = format!("{POST}Transfer-Encoding: chunked\r\n\r\n").replace('@', "site.example");
                    client.send(head + body);
                    client.rest();
                }
            });
        }
        for victim in 0..4 {
            scope.spawn(move || {
                let mut client = Wire::connect(addr);
                for round in 0..100 {
                    let target = format!("/victim-among-others/{victim}/{round}");
                    assert_eq!(client.get(&target).text(), format!("GET {target} 0"));
                }
            });
        }
    });
    let received = court.referee.received();
    let victims = received
        .iter()
        .filter(|it| matches!(it, Received::Request { target, .. } if target.starts_with("/victim-among-others/")));
    assert_eq!(victims.count(), 400, "each once");
    assert_eq!(received.iter().filter(|it| is_wrong(it)).count(), 0, "{received:?}");
}

fn judge(cases: impl Iterator<Item = (&'static str, String, Fate)>) {
    let mut court = Court::new();
    for (class, bytes, fate) in cases {
        court.hear(class, &with_host(&bytes), fate);
    }
    court.close();
}

/// `@` is the name of the host, `@@` an `@` before it.
fn with_host(bytes: &str) -> String {
    bytes.replace("@@", "\u{2}@").replace('@', "site.example").replace('\u{2}', "@")
}

/// A balancer before the referee, with one connection for all, so that who smuggles something hits who comes next.
struct Court {
    referee: Referee,
    lb: Lb,
    /// What the referee has received of what was heard before.
    settled: usize,
    victims: usize,
    requests: u64,
}

impl Court {
    fn new() -> Self {
        let referee = Referee::start();
        let frontend = Frontend::new("web").set("protocol", "http").server("a", referee.addr());
        let lb = Lb::start(Config::of(frontend).set("shards", 1));
        let mut court = Self { referee, lb, settled: 0, victims: 0, requests: 0 };
        court.ask_victim();
        court
    }

    fn hear(&mut self, class: &str, bytes: &str, fate: Fate) {
        println!("{class}: {bytes:?}");
        let mut client = Wire::connect(self.lb.addr("web"));
        match fate {
            Refused => {
                client.send(bytes);
                let (rest, end) = client.rest();
                is_refusal(class, &rest, end);
            }
            Broken => {
                client.send(bytes);
                let (rest, _) = client.rest();
                assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400 "), "{class}: {}", rest.escape_ascii());
                drop(client);
                self.judge_broken(class, true);
            }
            Served(count) => {
                client.send(bytes);
                let method = bytes.trim_start().split(' ').next().unwrap();
                for nth in 0..count {
                    let answer = client.answer(if nth == 0 { method } else { "GET" });
                    assert_eq!(answer.status(), 200, "{class}, request {nth}");
                }
                self.judge_served(class, count);
                drop(client);
            }
        }
        self.ask_victim();
    }

    fn hear_example(&mut self, example: &Example) {
        let Example { name, method, uri, version, tier, reason, .. } = example;
        let what = format!("{name} ({tier:?}, {reason})");
        let bytes = text_of(example);
        println!("{what}: {:?}", &bytes[..bytes.len().min(1000)]);
        let mut client = Wire::connect(self.lb.addr("web"));
        client.send(bytes.as_bytes());
        client.end();
        let (rest, end) = client.rest();
        let is_refused = !rest.starts_with(b"HTTP/1.1 200 ");
        match tier {
            Tier::Severe => assert!(is_refused, "{what}: served"),
            // What makes an URI ambiguous is for the server behind to say.
            Tier::Ambiguous if reason != "AmbiguousUri" => assert!(is_refused, "{what}: served"),
            // Codings other than `chunked` are correct, and not known here.
            Tier::Compliant if has_other_coding(example) => assert!(is_refused, "{what}: served"),
            // Nor is what RFC 3986 has in no URI.
            Tier::Compliant if !is_uri(uri) => assert!(is_refused, "{what}: served"),
            Tier::Compliant => assert!(!is_refused, "{what}: {}", rest.escape_ascii()),
            _ => {}
        }
        if is_refused {
            is_refusal(&what, &rest, end);
        } else {
            let (_, target) = self.judge_served(&what, 1).pop().unwrap();
            assert_eq!(&target, uri, "{what}: the same target, of {method} {version}");
        }
        self.ask_victim();
    }

    /// Checks that the referee has read so many whole requests since, and gives method and target of each.
    fn judge_served(&mut self, class: &str, count: usize) -> Vec<(String, String)> {
        let fresh = self.fresh(count);
        assert_eq!(fresh.len(), count, "{class}: {fresh:?}");
        self.requests += count as u64;
        let request = |received: Received| match received {
            Received::Request { method, target, .. } if !target.contains("smuggled") => (method, target),
            other => panic!("{class}: the referee has received {other:?}"),
        };
        fresh.into_iter().map(request).collect()
    }

    /// Checks that the referee has read no whole request since. `has_begun`: the head was whole, so it may have begun.
    fn judge_broken(&mut self, class: &str, has_begun: bool) {
        // A connection that is over is written down when its end arrives, so before the next one's first request.
        self.lb.until_idle();
        let fresh = self.fresh(0);
        let is_unfinished =
            |received: &Received| matches!(received, Received::Unfinished { target, .. } if target == "/first");
        assert!(fresh.iter().all(|received| has_begun && is_unfinished(received)), "{class}: {fresh:?}");
    }

    /// Another client's request, which must get its own answer, over the connection that was there before.
    fn ask_victim(&mut self) {
        self.victims += 1;
        let target = format!("/victim/{}", self.victims);
        let answer = Wire::connect(self.lb.addr("web")).ask(&request("GET", &target, &[], ""));
        assert_eq!(answer.text(), format!("GET {target} 0"));
        let is_victim =
            |received: &Received| matches!(received, Received::Request { target: own, .. } if *own == target);
        let fresh: Vec<_> = self.fresh(1).into_iter().filter(|it| !matches!(it, Received::Unfinished { .. })).collect();
        assert!(matches!(&fresh[..], [only] if is_victim(only)), "besides {target}: {fresh:?}");
    }

    /// What the referee has received since the last call, at least so much.
    fn fresh(&mut self, count: usize) -> Vec<Received> {
        self.referee.until_received(self.settled + count);
        let fresh = self.referee.received().split_off(self.settled);
        self.settled += fresh.len();
        fresh
    }

    /// Checks that the balancer counted what the referee has read.
    fn close(self) {
        let whole = self.referee.received().iter().filter(|it| matches!(it, Received::Request { .. })).count();
        assert_eq!(whole as u64, self.requests + self.victims as u64);
        assert!(self.referee.received().iter().all(|it| !is_wrong(it)), "{:?}", self.referee.received());
        let status = self.lb.frontend("web");
        let unfinished = self.referee.received().len() - whole;
        let counted = http_count(&status, "requests");
        assert!(
            (whole..=whole + unfinished + refused(&status) as usize).contains(&(counted as usize)),
            "{counted} counted, {whole} read"
        );
    }
}

fn refused(status: &serde_json::Value) -> u64 {
    ["malformed", "unknown_coding", "version", "not_allowed"].iter().map(|cause| http_refused(status, cause)).sum()
}

fn is_wrong(received: &Received) -> bool {
    matches!(received, Received::Wrong { .. })
}

/// Checks that one refusal came and nothing else.
fn is_refusal(class: &str, bytes: &[u8], end: End) {
    let text = String::from_utf8_lossy(bytes);
    let statuses = ["HTTP/1.1 400 ", "HTTP/1.1 501 ", "HTTP/1.1 505 ", "HTTP/1.1 405 "];
    assert!(statuses.iter().any(|status| text.starts_with(status)), "{class}: not refused, but {text:?} and {end:?}");
    assert_eq!(text.matches("Content-Length: ").count(), 1, "{class}: {text:?}");
}

fn is_uri(uri: &str) -> bool {
    uri.starts_with('/') && uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

fn has_other_coding(example: &Example) -> bool {
    let is_other = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("transfer-encoding") && !value.trim().eq_ignore_ascii_case("chunked")
    };
    example.fields.iter().any(is_other)
}

/// A request of the corpus as it would be sent, with a body of the length that it says.
fn text_of(example: &Example) -> String {
    let Example { method, uri, version, fields, .. } = example;
    let mut text = format!("{method} {uri} {version}\r\n");
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text += "Host: site.example\r\n";
    }
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    let value =
        |wanted: &str| fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
    if value("transfer-encoding").is_some() {
        text += "0\r\n\r\n";
    } else if let Some(length) = value("content-length").and_then(|length| length.trim().parse::<usize>().ok()) {
        text += &"x".repeat(length);
    }
    text
}
