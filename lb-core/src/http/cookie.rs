//! Cookies, as far as a balancer needs them (RFC 6265): one is looked for, taken out of what a client sends, or seen when a
//! server sets it. Pure, and without allocation but for what is written.
//!
//! Values are bytes and stay as they are, whatever characters a server made them of. A `;` always ends a pair: quotes do not
//! protect it (section 4.1.1).

/// The value of the first cookie of this name in a Cookie field (section 5.4), without quotes around it.
pub(crate) fn find<'b>(field_value: &'b [u8], name: &str) -> Option<&'b [u8]> {
    pairs(field_value).find_map(|pair| value_of(pair, name))
}

/// Writes a Cookie field's value without the cookies of this name to the end of `into`: nothing if no other is left.
pub(crate) fn without(field_value: &[u8], name: &str, into: &mut Vec<u8>) {
    let mut is_first = true;
    for pair in pairs(field_value).filter(|pair| value_of(pair, name).is_none()) {
        if !std::mem::take(&mut is_first) {
            into.extend_from_slice(b"; ");
        }
        into.extend_from_slice(pair);
    }
}

/// The value that a Set-Cookie field (section 5.2) gives to the cookie of this name, without quotes around it; `None` if it
/// sets another one, or this one to nothing, by which servers take a cookie back.
pub(crate) fn set_by<'b>(set_cookie_value: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let pair = set_cookie_value.split(|&byte| byte == b';').next()?;
    value_of(pair, name).filter(|value| !value.is_empty())
}

/// What is between the semicolons, without the blanks around it. Nothing between two of them is left out.
fn pairs(field_value: &[u8]) -> impl Iterator<Item = &[u8]> {
    field_value.split(|&byte| byte == b';').map(trim).filter(|pair| !pair.is_empty())
}

/// The value of a pair if it has this name. Names differ by case too.
fn value_of<'b>(pair: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    let (found, value) = (trim(&pair[..equals]), trim(&pair[equals + 1..]));
    (found == name.as_bytes()).then(|| unquoted(value))
}

/// Without spaces and tabs at both ends: no other byte counts as a blank in a field.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// Reads bytes as a Cookie and as a Set-Cookie field, and panics if what is taken out is still found, or anything else lost.
#[cfg(any(test, feature = "internal"))]
pub(crate) fn read_any(bytes: &[u8], name: &str) {
    let mut rest = Vec::new();
    without(bytes, name, &mut rest);
    assert_eq!(find(&rest, name), None, "it was taken out");
    let others = |field| pairs(field).filter(|pair| value_of(pair, name).is_none()).map(<[u8]>::to_vec);
    assert!(others(bytes).eq(pairs(&rest).map(<[u8]>::to_vec)), "the others are all there");
    let mut again = Vec::new();
    without(&rest, name, &mut again);
    assert_eq!(again, rest, "there is nothing more to take out");
    if let Some(value) = find(bytes, name) {
        assert!(!value.contains(&b';'));
    }
    if let Some(value) = set_by(bytes, name) {
        assert_eq!(find(bytes, name), Some(value), "the first pair is the one that is set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(field: &str, name: &str) -> Option<String> {
        find(field.as_bytes(), name).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    fn rest(field: &str, name: &str) -> String {
        let mut into = Vec::new();
        without(field.as_bytes(), name, &mut into);
        String::from_utf8(into).unwrap()
    }

    fn set(field: &str, name: &str) -> Option<String> {
        set_by(field.as_bytes(), name).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_wherever_it_stands() {
        for field in ["LB=v", "a=1; LB=v", "LB=v; a=1", "a=1;LB=v;b=2", "a=1 ;\tLB = v ; b=2", ";; LB=v;"] {
            assert_eq!(found(field, "LB").as_deref(), Some("v"), "{field}");
        }
        for field in ["", ";", "lb=v", "XLB=v", "LBX=v", "LB", "a=LB=v", "a=\"; LBX=v\"", "=v", "LB v"] {
            assert_eq!(found(field, "LB"), None, "{field}");
        }
    }

    #[test]
    fn of_two_with_the_same_name_the_first_counts() {
        assert_eq!(found("LB=first; LB=second", "LB").as_deref(), Some("first"));
    }

    #[test]
    fn quotes_around_a_value_are_not_part_of_it_and_nothing_else_is_changed() {
        let values =
            [("\"v\"", "v"), ("\"\"", ""), ("\"", "\""), ("\"v", "\"v"), ("v\"", "v\""), ("a=b=", "a=b="), ("", "")];
        for (written, value) in values {
            assert_eq!(found(&format!("LB={written}"), "LB").as_deref(), Some(value), "{written}");
        }
        assert_eq!(find(b"LB=\xff\x80", "LB"), Some(&b"\xff\x80"[..]));
    }

    #[test]
    fn quotes_do_not_protect_a_semicolon() {
        assert_eq!(found("a=\"x; LB=v; y\"", "LB").as_deref(), Some("v"));
    }

    #[test]
    fn what_is_left_without_a_cookie_is_all_the_others() {
        let cases = [
            ("LB=v", ""),
            ("LB=v; LB=w", ""),
            ("a=1; LB=v; b=2", "a=1; b=2"),
            ("LB=v; a=1", "a=1"),
            ("a=1;LB=v", "a=1"),
            ("a=\"1\" ;b;LB=\"v\"; =c", "a=\"1\"; b; =c"),
            ("a=1; b=2", "a=1; b=2"),
            (";;", ""),
        ];
        for (field, left) in cases {
            assert_eq!(rest(field, "LB"), left, "{field}");
        }
    }

    #[test]
    fn what_a_server_sets_is_the_first_pair_and_never_an_attribute() {
        assert_eq!(set("SID=abc; Path=/; HttpOnly", "SID").as_deref(), Some("abc"));
        assert_eq!(set("SID=\"a b\";Secure", "SID").as_deref(), Some("a b"));
        assert_eq!(set("other=1; SID=abc", "SID"), None);
        assert_eq!(set("a=1; Path=/x", "Path"), None);
        assert_eq!(set("SID=; Max-Age=0", "SID"), None, "it is taken back");
        assert_eq!(set("SID", "SID"), None);
        assert_eq!(set("", "SID"), None);
    }

    #[test]
    fn a_value_is_set_as_it_is_sent_back() {
        for value in ["abc", "\"abc\"", "a=b", " spaced out "] {
            assert_eq!(set(&format!("SID={value}; Path=/"), "SID"), found(&format!("x=1; SID={value}"), "SID"));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_alike(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read_any(&bytes, "LB");
        }

        #[test]
        fn fields_that_look_like_cookies_are_read_alike(field in "([LBab;= \t\"]|LB=|; ){0,40}") {
            read_any(field.as_bytes(), "LB");
        }

        #[test]
        fn each_cookie_of_a_proper_field_is_found(values in proptest::collection::vec("[!#-+\\--:<-\\[\\]-~]{0,20}", 1..8)) {
            let pairs: Vec<_> = values.iter().enumerate().map(|(number, value)| format!("c{number}={value}")).collect();
            let field = pairs.join("; ");
            for (number, value) in values.iter().enumerate() {
                let name = format!("c{number}");
                prop_assert_eq!(found(&field, &name), Some(value.clone()));
                let others = pairs.iter().enumerate().filter(|(other, _)| *other != number);
                let others: Vec<_> = others.map(|(_, pair)| pair.clone()).collect();
                prop_assert_eq!(rest(&field, &name), others.join("; "));
            }
        }
    }
}
