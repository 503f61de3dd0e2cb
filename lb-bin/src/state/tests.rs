use std::collections::VecDeque;
use std::fs;

use lb_core::config::{Bind, PersistenceKey};
use lb_core::{Change, Record};
use proptest::prelude::*;

use super::*;

const TEXT: u64 = 0xabcd;
const EDITED: u64 = 0x1234;

/// A folder with a configuration in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("lb.ron")
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("lb.ron.state")
    }

    fn open(&self, text: u64) -> Opened {
        self.open_with(text, &[])
    }

    /// With these certificates in the configuration.
    fn open_with(&self, text: u64, certificates: &[Certificate]) -> Opened {
        let config = certificates.iter().cloned().fold(Config::default(), Config::certificate);
        StateFile::open(&self.config(), text, &config, &[]).unwrap()
    }

    /// The names of files that were set aside.
    fn set_aside(&self, why: &str) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(&format!("lb.ron.state.{why}-"))).collect()
    }
}

fn server(name: &str, port: u16) -> Server {
    Server::new(name, ([127, 0, 0, 1], port).into()).unwrap()
}

fn web(servers: &[(&str, u16)]) -> Frontend {
    let frontend = Frontend::new("web", Bind::Addr("127.0.0.1:7000".parse().unwrap())).unwrap();
    servers
        .iter()
        .fold(frontend.with_max_connections(9), |frontend, (name, port)| frontend.with_server(server(name, *port)))
}

fn config(frontends: &[Frontend]) -> Config {
    frontends.iter().cloned().fold(Config::default(), Config::frontend)
}

fn history() -> VecDeque<Arc<Record>> {
    let name: Name = "web".parse().unwrap();
    let record = |revision| Record {
        revision,
        at: 1_800_000_000 + revision,
        summary: vec![format!("line one\nof revision {revision}")],
        changes: vec![Change::RemoveFrontend { name: name.clone() }],
        inverse: vec![Change::AddFrontend { frontend: web(&[("a", 1)]) }],
    };
    (1..=3).map(record).map(Arc::new).collect()
}

fn key() -> PersistenceKey {
    PersistenceKey::new([0xa5; 32])
}

fn snapshot<'a>(
    revision: u64,
    key: &'a PersistenceKey,
    frontends: &'a [Arc<Frontend>],
    history: &'a VecDeque<Arc<Record>>,
) -> Snapshot<'a> {
    Snapshot { revision, persistence_key: Some(key), certificates: &[], frontends, history }
}

fn save(state: &mut StateFile, revision: u64, frontends: &[Frontend]) -> Result<Saved, String> {
    let frontends: Vec<_> = frontends.iter().cloned().map(Arc::new).collect();
    state.save(snapshot(revision, &key(), &frontends, &history()))
}

#[test]
fn what_was_saved_is_there_after_a_restart() {
    let place = Place::new();
    let frontends = [web(&[("a", 1), ("b", 2)]), Frontend::new("bare", Bind::Inherited(3)).unwrap()];
    let opened = place.open(TEXT);
    assert_eq!(opened.config.frontends, []);
    assert_eq!(opened.resume.revision, 0);
    let mut state = opened.state;
    assert_eq!(save(&mut state, 7, &frontends), Ok(Saved::Durable));
    drop(state);

    let opened = place.open(TEXT);
    assert_eq!(opened.config.frontends, frontends);
    assert_eq!(opened.resume.revision, 7);
    let records: Vec<Record> = history().iter().map(|record| Record::clone(record)).collect();
    assert_eq!(opened.resume.history, records);
}

#[test]
fn lines_that_are_kept_in_memory_follow_every_change() {
    let place = Place::new();
    let mut state = place.open(TEXT).state;
    let mut servers: Vec<Arc<Server>> = Vec::new();
    let build = |servers: &[Arc<Server>]| {
        servers.iter().fold(web(&[]), |frontend, server| frontend.with_server(Server::clone(server)))
    };
    let change = |servers: &mut Vec<Arc<Server>>, step: u16| match step % 4 {
        0 | 1 => servers.push(Arc::new(server(&format!("s{step}"), 1000 + step))),
        2 => servers[0] = Arc::new(server(&format!("s{step}"), 2000 + step)),
        _ => drop(servers.remove(servers.len() / 2)),
    };
    for step in 0..40_u16 {
        change(&mut servers, step);
        let expected = build(&servers);
        save(&mut state, step.into(), std::slice::from_ref(&expected)).unwrap();
        let kept = parse_state(&fs::read(place.state()).unwrap()).unwrap();
        assert_eq!((kept.revision, kept.frontends), (step.into(), vec![expected]));
    }
}

#[test]
fn shared_servers_keep_their_lines() {
    let place = Place::new();
    let mut state = place.open(TEXT).state;
    let first = Arc::new(web(&[("a", 1), ("b", 2), ("c", 3)]));
    // As a change makes it: a new frontend with the same servers and one more.
    let second = Arc::new(Frontend::clone(&first).with_server(server("d", 4)));
    assert!(Arc::ptr_eq(&first.servers()[1], &second.servers()[1]));
    for (revision, frontend) in [(1, &first), (2, &second), (3, &first), (4, &first)] {
        let frontends = [Arc::clone(frontend)];
        state.save(snapshot(revision, &key(), &frontends, &history())).unwrap();
        let kept = parse_state(&fs::read(place.state()).unwrap()).unwrap();
        assert_eq!(kept.frontends, [Frontend::clone(frontend)]);
    }
}

#[test]
fn an_edited_configuration_wins_and_the_state_is_kept_aside() {
    let place = Place::new();
    for _ in 0..2 {
        let mut state = place.open(TEXT).state;
        save(&mut state, 7, &[web(&[("a", 1)])]).unwrap();
        drop(state);
        let mut opened = place.open(EDITED);
        assert_eq!(opened.config.frontends, []);
        assert_eq!((opened.resume.revision, opened.resume.history.len()), (7, 0));
        let before = place.set_aside("replaced").len();
        save(&mut opened.state, 8, &[web(&[("b", 2)])]).unwrap();
        assert_eq!(place.set_aside("replaced").len(), before + 1, "by the first save");
        fs::remove_file(place.state()).unwrap();
    }
    let aside = place.set_aside("replaced");
    assert_eq!(aside.len(), 2, "{aside:?}");
    let kept = parse_state(&fs::read(place.0.path().join(&aside[0])).unwrap()).unwrap();
    assert_eq!(kept.frontends, [web(&[("a", 1)])]);
}

#[test]
fn a_state_cut_off_anywhere_is_set_aside_as_damaged() {
    let place = Place::new();
    save(&mut place.open(TEXT).state, 7, &[web(&[("a", 1)])]).unwrap();
    let whole = fs::read(place.state()).unwrap();
    assert!(parse_state(&whole).is_ok());
    for length in 0..whole.len() {
        parse_state(&whole[..length]).expect_err(&format!("cut to {length} bytes"));
    }
    for (content, count) in [(&whole[..whole.len() / 2], 1), (b"", 2), (b"\xff\n", 3)] {
        fs::write(place.state(), content).unwrap();
        let opened = place.open(TEXT);
        assert_eq!(opened.config.frontends, []);
        assert_eq!(place.set_aside("damaged").len(), count);
        assert!(!place.state().exists());
    }
}

#[test]
fn a_state_that_is_no_file_is_set_aside_too() {
    let place = Place::new();
    fs::create_dir(place.state()).unwrap();
    let mut state = place.open(TEXT).state;
    assert_eq!(place.set_aside("damaged").len(), 1);
    assert_eq!(save(&mut state, 1, &[]), Ok(Saved::Durable));
}

#[test]
fn a_change_of_any_byte_is_noticed() {
    let place = Place::new();
    save(&mut place.open(TEXT).state, 7, &[web(&[("a", 1)])]).unwrap();
    let whole = fs::read(place.state()).unwrap();
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        changed[index] ^= 1;
        parse_state(&changed).expect_err(&format!("byte {index} was changed"));
    }
}

#[test]
fn another_format_is_not_guessed_at() {
    let body = "State(format:4,revision:1,config:\"0000000000000000\")\n";
    let sum = xxhash_rust::xxh3::xxh3_64(body.as_bytes());
    let reason = parse_state(format!("{body}Checksum(\"{sum:016x}\")\n").as_bytes()).unwrap_err();
    assert_eq!(reason, "it has format 4, this lb reads formats up to 3");
}

#[test]
fn a_file_of_an_earlier_format_is_read() {
    let frontend = "Frontend(name:\"web\",bind:\"127.0.0.1:7000\",max_connections:9)\n";
    for format in [1, 2] {
        let body = format!("State(format:{format},revision:5,config:\"000000000000abcd\")\n{frontend}");
        let sum = xxhash_rust::xxh3::xxh3_64(body.as_bytes());
        let kept = parse_state(format!("{body}Checksum(\"{sum:016x}\")\n").as_bytes()).unwrap();
        let base = Base { text: TEXT, ..Base::default() };
        assert_eq!((kept.revision, kept.base, kept.frontends), (5, base, vec![web(&[])]));
        assert_eq!(kept.persistence_key, None);
    }
}

#[test]
fn the_key_of_cookies_is_kept_whatever_becomes_of_the_rest() {
    let place = Place::new();
    let mut opened = place.open(TEXT);
    assert_eq!(opened.config.persistence_key, None);
    save(&mut opened.state, 1, &[web(&[("a", 1)])]).unwrap();
    let text = fs::read_to_string(place.state()).unwrap();
    assert!(
        text.contains(&format!("config:\"000000000000abcd\",persistence_key:\"{}\")\n", "a5".repeat(32))),
        "{text}"
    );
    assert!(!format!("{:?} {:?}", opened.state, parse_state(text.as_bytes())).contains("a5a5"));
    drop(opened);
    assert_eq!(place.open(TEXT).config.persistence_key, Some(key()));
    let edited = place.open(EDITED);
    assert_eq!(edited.config.frontends, []);
    assert_eq!(edited.config.persistence_key, Some(key()));
}

#[test]
fn a_state_without_changes_is_not_set_aside_when_the_configuration_was_edited() {
    let place = Place::new();
    let frontends = [Arc::new(web(&[("a", 1)]))];
    let (key, none) = (key(), VecDeque::new());
    place.open(TEXT).state.save(snapshot(1, &key, &frontends, &none)).unwrap();
    let mut edited = place.open(EDITED);
    edited.state.save(snapshot(1, &key, &frontends, &none)).unwrap();
    assert_eq!(place.set_aside("replaced"), Vec::<String>::new());
    assert_eq!(base_on_disk(&place), EDITED);
}

#[test]
fn a_text_that_does_not_say_an_identity_is_in_effect_with_any() {
    let place = Place::new();
    let mut state = place.open(TEXT).state;
    let running = web(&[]).with_server(server("b", 2).with_identity("a".parse().unwrap()));
    let ticket = state.expect(EDITED, &config(&[web(&[("b", 2)])]));
    save(&mut state, 2, &[running]).unwrap();
    assert_eq!(base_on_disk(&place), EDITED, "noted by the save itself");
    state.settle(ticket, Some(2));
}

fn pair(name: &str, text: &str) -> Certificate {
    Certificate::pair(name, &format!("-----BEGIN {text}\n"), "-----BEGIN key").unwrap()
}

fn save_certificates(state: &mut StateFile, revision: u64, certificates: &[Certificate]) {
    let certificates: Vec<_> = certificates.iter().cloned().map(Arc::new).collect();
    let (certificates, frontends, history) = (&certificates[..], &[], &history());
    state.save(Snapshot { revision, persistence_key: None, certificates, frontends, history }).unwrap();
}

#[test]
fn a_certificate_is_taken_from_its_files_where_they_have_changed_and_from_the_state_otherwise() {
    let place = Place::new();
    let [old, renewed, changed] = ["old", "renewed", "changed"].map(|text| pair("site", text));
    let (other, added) = (pair("other", "of the file"), pair("added", "at run time"));
    let configured = [old, other.clone(), pair("gone", "of the file")];
    let mut opened = place.open_with(TEXT, &configured);
    // At run time one is changed, one added, one removed.
    save_certificates(&mut opened.state, 3, &[changed.clone(), other.clone(), added.clone()]);
    drop(opened);
    let opened = place.open_with(TEXT, &configured);
    assert_eq!(opened.resume.revision, 3);
    assert_eq!(opened.config.certificates, [changed, other.clone(), added.clone()], "the files are as they were");
    drop(opened.state);
    let mut opened = place.open_with(TEXT, &[renewed.clone(), other.clone(), pair("gone", "renewed, too")]);
    assert_eq!(opened.resume.revision, 4, "another one is running");
    let kept = opened.config.certificates;
    assert_eq!(kept, [renewed.clone(), other.clone(), added]);
    save_certificates(&mut opened.state, 4, &kept);
    drop(opened.state);
    let opened = place.open_with(TEXT, &[renewed, other, pair("gone", "renewed, too")]);
    assert_eq!((opened.resume.revision, opened.config.certificates), (4, kept), "what was read is noted");
}

#[test]
fn a_renewed_file_that_is_applied_is_noted_with_the_save() {
    let place = Place::new();
    let (old, renewed) = (pair("site", "old"), pair("site", "renewed"));
    let mut state = place.open_with(TEXT, std::slice::from_ref(&old)).state;
    save_certificates(&mut state, 1, &[old]);
    let ticket = state.expect(TEXT, &Config::default().certificate(renewed.clone()));
    save_certificates(&mut state, 2, std::slice::from_ref(&renewed));
    state.settle(ticket, Some(2));
    let changed = pair("site", "changed at run time");
    save_certificates(&mut state, 3, std::slice::from_ref(&changed));
    drop(state);
    assert_eq!(place.open_with(TEXT, &[renewed]).config.certificates, [changed]);
}

#[test]
fn a_failed_save_keeps_the_old_state() {
    let place = Place::new();
    let mut state = place.open(TEXT).state;
    save(&mut state, 1, &[web(&[("a", 1)])]).unwrap();
    let before = fs::read(place.state()).unwrap();
    let obstacle = place.0.path().join("lb.ron.state.tmp");
    fs::create_dir(&obstacle).unwrap();
    let reason = save(&mut state, 2, &[web(&[("b", 2)])]).unwrap_err();
    assert!(reason.contains("lb.ron.state: "), "{reason}");
    assert_eq!(fs::read(place.state()).unwrap(), before);

    // Nor does the refused change come in later by another way.
    fs::remove_dir(&obstacle).unwrap();
    let ticket = state.expect(EDITED, &config(&[]));
    state.settle(ticket, Some(1));
    assert_eq!(fs::read(place.state()).unwrap(), before);
    save(&mut state, 2, &[web(&[("c", 3)])]).unwrap();
    let kept = parse_state(&fs::read(place.state()).unwrap()).unwrap();
    assert_eq!((kept.base.text, kept.frontends), (EDITED, vec![web(&[("c", 3)])]));
}

#[test]
fn one_process_has_the_state_at_a_time() {
    let place = Place::new();
    let opened = place.open(TEXT);
    let reason = StateFile::open(&place.config(), TEXT, &Config::default(), &[]).unwrap_err();
    assert!(reason.contains("another lb runs with this configuration"), "{reason}");
    drop(opened);
    place.open(TEXT);
}

#[test]
fn a_state_that_can_not_be_set_aside_is_not_overwritten() {
    let place = Place::new();
    let opened = place.open(TEXT);
    opened.state.inner().blocked = Some("it is in the way".to_owned());
    let mut state = opened.state;
    assert_eq!(save(&mut state, 2, &[]), Err("it is in the way".to_owned()));
    assert!(!place.state().exists());
}

/// What a restart would find to be the text that the state goes with.
fn base_on_disk(place: &Place) -> u64 {
    parse_state(&fs::read(place.state()).unwrap()).unwrap().base.text
}

#[test]
fn an_applied_text_goes_with_the_state_from_the_save_on() {
    let place = Place::new();
    let mut state = place.open(TEXT).state;
    let (old, other, new) = (web(&[("a", 1)]), web(&[("x", 9)]), web(&[("b", 2), ("a", 1)]));
    save(&mut state, 1, std::slice::from_ref(&old)).unwrap();
    let ticket = state.expect(EDITED, &config(std::slice::from_ref(&new)));
    // Another client's change comes first.
    save(&mut state, 2, &[other]).unwrap();
    assert_eq!(base_on_disk(&place), TEXT);
    // The frontends of the text, in the order in which they came about.
    save(&mut state, 3, &[web(&[("a", 1), ("b", 2)])]).unwrap();
    assert_eq!(base_on_disk(&place), EDITED);
    state.settle(ticket, Some(3));
    save(&mut state, 4, &[old]).unwrap();
    assert_eq!(base_on_disk(&place), EDITED);
}

#[test]
fn a_text_that_changes_nothing_goes_with_the_state_at_once() {
    let place = Place::new();
    let mut state = place.open(TEXT).state;
    let frontends = [web(&[("a", 1)])];
    save(&mut state, 1, &frontends).unwrap();
    let ticket = state.expect(EDITED, &config(&frontends));
    state.settle(ticket, Some(1));
    assert_eq!(base_on_disk(&place), EDITED);
    drop(state);
    assert_eq!(place.open(EDITED).config.frontends, frontends);
}

#[test]
fn a_text_that_changes_nothing_is_recorded_right_after_a_restart_too() {
    let place = Place::new();
    let frontends = [web(&[("a", 1)])];
    save(&mut place.open(TEXT).state, 1, &frontends).unwrap();
    let opened = place.open(TEXT);
    let before = fs::read_to_string(place.state()).unwrap();
    let ticket = opened.state.expect(EDITED, &config(&frontends));
    opened.state.settle(ticket, Some(1));
    assert_eq!(base_on_disk(&place), EDITED);
    let ticket = opened.state.expect(TEXT, &config(&frontends));
    opened.state.settle(ticket, Some(1));
    assert_eq!(fs::read_to_string(place.state()).unwrap(), before);
}

#[test]
fn a_refused_text_leaves_no_trace() {
    let place = Place::new();
    let mut state = place.open(TEXT).state;
    let wanted = [web(&[("b", 2)])];
    save(&mut state, 1, &[web(&[("a", 1)])]).unwrap();
    let ticket = state.expect(EDITED, &config(&wanted));
    state.settle(ticket, None);
    save(&mut state, 2, &wanted).unwrap();
    assert_eq!(base_on_disk(&place), TEXT);
}

#[test]
fn a_text_that_was_overtaken_by_another_is_not_recorded() {
    let place = Place::new();
    let mut state = place.open(TEXT).state;
    let (one, two) = ([web(&[("a", 1)])], [web(&[("b", 2)])]);
    save(&mut state, 1, &one).unwrap();
    let unchanged = state.expect(EDITED, &config(&one));
    let changing = state.expect(EDITED + 1, &config(&two));
    save(&mut state, 2, &two).unwrap();
    state.settle(changing, Some(2));
    // It changed nothing at revision 1, and revision 2 has another text.
    state.settle(unchanged, Some(1));
    assert_eq!(base_on_disk(&place), EDITED + 1);
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_state(&bytes);
    }
}
