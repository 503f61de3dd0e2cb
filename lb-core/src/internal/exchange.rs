//! Heads of HTTP and whole requests, without sockets: for what reading and rewriting them costs.

use std::fmt;

use crate::config::{Bind, Frontend, Protocol};
use crate::http::exchange::{Asker, Exchange};
use crate::http::{Fields, Method, request, response};
use crate::table::http::Http;

/// The requests of one client, one after the other.
pub struct Requests {
    http: Http,
    exchange: Exchange,
}

impl fmt::Debug for Requests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Requests")
    }
}

impl Requests {
    /// A client of a frontend with default settings.
    ///
    /// # Panics
    /// The defaults are not valid.
    pub fn new() -> Self {
        let bind = Bind::Addr(([127, 0, 0, 1], 1).into());
        let config = Frontend::new("bench", bind).expect("a valid name").with_protocol(Protocol::Http);
        Self { http: Http::of(&config), exchange: Exchange::new() }
    }

    /// Whether these bytes begin with the whole head of a request.
    pub fn read_request(&self, bytes: &[u8]) -> bool {
        matches!(request::read(bytes, &self.http.limits, &mut Fields::new()), Ok(Some(_)))
    }

    /// Whether these bytes begin with the whole head of a response to a GET.
    pub fn read_response(&self, bytes: &[u8]) -> bool {
        matches!(response::read(bytes, &self.http.limits, Method::Get, &mut Fields::new()), Ok(Some(_)))
    }

    /// A request and its answer, both whole, go through. How many bytes go out, to server and client.
    pub fn pass(&mut self, request: &[u8], answer: &[u8]) -> usize {
        let client = Some([192, 0, 2, 1].into());
        let asker = Asker {
            http: &self.http,
            persistence: None,
            client,
            is_tls: false,
            is_last: false,
            is_recorded: false,
            now: 0,
        };
        let mut sent = 0;
        let mut emit = |bytes: &[u8]| {
            sent += bytes.len();
            Ok(())
        };
        let has_gone = self.exchange.hear(request, &mut emit).is_ok()
            && self.exchange.ask(&asker).is_ok_and(|is_whole| is_whole)
            && self.exchange.open(true, &mut emit).is_ok()
            && self.exchange.answer(answer, &mut emit).is_ok()
            && self.exchange.is_answered_whole();
        self.exchange.renew();
        if has_gone { sent } else { 0 }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}
