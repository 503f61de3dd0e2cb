//! Changes: a path, a query and a body into a request of the admin protocol. `routes` in `api` says which path is which.

use axum::extract::Query;
use axum::http::Uri;

use super::json::{self, Fields, Json};
use crate::admin::{Refusal, Request};

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// The admin protocol's name for it.
    pub(super) request: &'static str,
    /// What of it the body is; `None` if the body has its fields themselves.
    pub(super) body: Option<&'static str>,
}

/// The options that a query can have.
const OPTIONS: [&str; 3] = ["if_revision", "dry_run", "probe"];

impl Kind {
    /// The request for this change. `names` are those of the path, by the names of the request's fields.
    ///
    /// # Errors
    /// What of it is wrong, with the field at fault.
    pub(super) fn request(self, names: Fields, options: Fields, body: Fields) -> Result<Request, Refusal> {
        let mut fields = names;
        match self.body {
            Some(name) => fields.push((name.to_owned(), Json::Object(body))),
            None => {
                if let Some((option, _)) = body.iter().find(|(name, _)| OPTIONS.contains(&name.as_str())) {
                    return Err(Refusal::field(
                        option,
                        format!("{option} belongs into the query, as ?dry_run=true does"),
                    ));
                }
                fields.extend(body);
            }
        }
        fields.extend(options);
        json::read(Json::Object(vec![(self.request.to_owned(), Json::Object(fields))]))
    }
}

/// The options of a query.
///
/// # Errors
/// One that is not known, is there twice, or has no value that it can have.
pub(super) fn options(uri: &Uri) -> Result<Fields, Refusal> {
    let pairs: Query<Vec<(String, String)>> =
        Query::try_from_uri(uri).map_err(|_| Refusal::other("the query is not understood"))?;
    let mut options = Fields::new();
    for (name, text) in pairs.0 {
        if options.iter().any(|(there, _)| *there == name) {
            return Err(Refusal::field(&name, format!("{name} is there twice")));
        }
        let value = match (name.as_str(), text.as_str()) {
            ("if_revision", digits) => digits.parse::<u64>().ok().map(|number| Json::Number(number.into())),
            ("dry_run" | "probe", "true") => Some(Json::Bool(true)),
            ("dry_run" | "probe", "false") => Some(Json::Bool(false)),
            ("dry_run" | "probe", _) => None,
            _ => return Err(Refusal::field(&name, crate::ron_text::unknown("parameter", &name, &OPTIONS))),
        };
        let expected = if name == "if_revision" { "a whole number" } else { "true or false" };
        let value = value.ok_or_else(|| Refusal::field(&name, format!("{name}: {expected} is expected")))?;
        options.push((name, value));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::parse_request;

    fn made(kind: Kind, names: &[(&str, &str)], query: &str, body: &str) -> Result<Request, Refusal> {
        let names = names.iter().map(|(field, name)| ((*field).to_owned(), Json::Text((*name).to_owned()))).collect();
        let options = options(&format!("/?{query}").parse().unwrap())?;
        kind.request(names, options, json::read_object(body.as_bytes())?)
    }

    const ADD: Kind = Kind { request: "AddServer", body: Some("server") };
    const UPDATE: Kind = Kind { request: "UpdateServer", body: None };
    const TRANSACTION: Kind = Kind { request: "Transaction", body: None };

    #[test]
    fn path_query_and_body_make_the_request_of_the_admin_protocol() {
        let web = ("frontend", "web");
        let cases = [
            (
                made(ADD, &[web], "probe=true&if_revision=7", r#"{"name":"a","ip":"::1","port":80}"#),
                r#"AddServer(frontend:"web",server:(name:"a",ip:"::1",port:80),probe:true,if_revision:7)"#,
            ),
            (
                made(UPDATE, &[web, ("name", "a")], "dry_run=false", r#"{"rename":"b","server_certificate":"none"}"#),
                r#"UpdateServer(frontend:"web",name:"a",rename:"b",server_certificate:"none")"#,
            ),
            (
                made(
                    TRANSACTION,
                    &[],
                    "dry_run=true",
                    r#"{"changes":[{"DrainServer":{"frontend":"web","name":"a"}}]}"#,
                ),
                r#"Transaction((changes:[DrainServer(frontend:"web",name:"a")],dry_run:true))"#,
            ),
        ];
        for (made, line) in cases {
            assert_eq!(made, Ok(parse_request(line.as_bytes()).unwrap()), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        let names = [("frontend", "web"), ("name", "a")];
        let wrong = |query, body| made(UPDATE, &names, query, body).unwrap_err();
        let cases = [
            (wrong("dryrun=true", "{}"), "dryrun", "unknown parameter \"dryrun\", did you mean \"dry_run\"?"),
            (wrong("dry_run=1", "{}"), "dry_run", "dry_run: true or false is expected"),
            (wrong("dry_run=true&dry_run=true", "{}"), "dry_run", "dry_run is there twice"),
            (wrong("if_revision=-1", "{}"), "if_revision", "if_revision: a whole number is expected"),
            (wrong("", "{\"dry_run\":true}"), "dry_run", "dry_run belongs into the query, as ?dry_run=true does"),
            (wrong("", "{\"name\":\"b\"}"), "name", "name is there twice"),
            (wrong("", "{\"prt\":1}"), "prt", "unknown field \"prt\", did you mean \"port\"?"),
        ];
        for (refusal, field, reason) in cases {
            assert_eq!(refusal, Refusal::field(field, reason));
        }
        let twice = made(TRANSACTION, &[], "", r#"{"changes":[],"changes":[]}"#);
        assert_eq!(twice, Err(Refusal::field("changes", "changes is there twice")));
        assert_eq!(made(TRANSACTION, &[], "", "{}"), Err(Refusal::field("changes", "changes is missing")));
    }
}
