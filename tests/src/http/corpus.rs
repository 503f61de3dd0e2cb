//! Requests of other projects that say themselves how a proxy is to take them: those of http-desync-guardian.

use std::fs;
use std::path::{Path, PathBuf};

/// What should become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    Compliant,
    /// Not as it should be, but without danger.
    Acceptable,
    /// Where its body ends is a question.
    Ambiguous,
    Severe,
}

/// A request of the corpus.
#[derive(Debug, Clone)]
pub struct Example {
    pub name: String,
    pub method: String,
    pub uri: String,
    pub version: String,
    pub fields: Vec<(String, String)>,
    pub tier: Tier,
    /// Why, in the words of the corpus.
    pub reason: String,
}

/// All requests, or `None` where the corpus is not there, which is then said.
///
/// # Panics
/// If it can't be read.
pub fn desync_guardian(test: &str) -> Option<Vec<Example>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/http-desync-guardian");
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("SKIPPED {test}: it needs the corpus of http-desync-guardian in {}", folder.display());
        return None;
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let examples: Vec<_> = paths.iter().flat_map(|path| read(&fs::read_to_string(path).unwrap())).collect();
    assert!(examples.len() > 150, "only {} requests are in {}", examples.len(), folder.display());
    Some(examples)
}

/// Reads the little of YAML that the corpus is written in: a list of records, each line a key and a scalar.
fn read(text: &str) -> Vec<Example> {
    text.split("\n- name:").skip(1).map(|record| example(&format!("name:{record}"))).collect()
}

fn example(record: &str) -> Example {
    let mut example = Example {
        name: String::new(),
        method: String::new(),
        uri: String::new(),
        version: String::new(),
        fields: Vec::new(),
        tier: Tier::Compliant,
        reason: String::new(),
    };
    for line in record.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let indent = line.len() - line.trim_start().len();
        let Some((key, value)) = line.trim_start().trim_start_matches("- ").split_once(':') else { continue };
        let value = scalar(value.trim());
        match (indent, key) {
            (0, "name") => example.name = value,
            (2, "method") => example.method = value,
            (2, "uri") => example.uri = value,
            (2, "version") => example.version = value,
            (4, "name") => example.fields.push((value, String::new())),
            (6, "value") => example.fields.last_mut().expect("a name is before the value").1 = value,
            (4, "tier") => example.tier = tier(&value),
            (4, "reason") => example.reason = value,
            _ => {}
        }
    }
    example
}

fn tier(word: &str) -> Tier {
    match word {
        "Compliant" => Tier::Compliant,
        "Acceptable" => Tier::Acceptable,
        "Ambiguous" => Tier::Ambiguous,
        "Severe" => Tier::Severe,
        other => panic!("an unknown tier: {other}"),
    }
}

/// A scalar: plain, or in quotes of either kind. Behind it there may be a comment.
fn scalar(text: &str) -> String {
    match text.as_bytes().first() {
        Some(b'\'') => text[1..].replace("''", "\u{1}").split('\'').next().unwrap_or_default().replace('\u{1}', "'"),
        Some(b'"') => unescaped(&text[1..]),
        _ => text.split(" #").next().unwrap_or_default().trim_end().to_owned(),
    }
}

fn unescaped(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text.chars());
    while let Some(character) = rest.next() {
        plain.push(match character {
            '"' => break,
            '\\' => match rest.next().expect("something follows a backslash") {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    char::from(u8::from_str_radix(&digits, 16).expect("two digits"))
                }
                other => other,
            },
            other => other,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_of_every_kind_are_read() {
        assert_eq!(scalar("HTTP/1.1"), "HTTP/1.1");
        assert_eq!(scalar("'it''s \\x00'"), "it's \\x00");
        assert_eq!(scalar("\"a\\x01\\t\\\"b\\\"\" # a comment"), "a\u{1}\t\"b\"");
    }
}
