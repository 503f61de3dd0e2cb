//! What was confirmed is there after a restart, a crash at any moment, a full or failing disk, and a damaged file.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use tests::client::ask;
use tests::fault::{Injection, SmallDisk, is_root, skipped};
use tests::{Backend, Config, Frontend, Lb, Place, Reply, wait};

#[test]
fn changes_survive_a_restart() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    lb.change(&format!("AddServer(frontend:\"web\",server:(name:\"b\",ip:\"127.0.0.1\",port:{}))", two.addr().port()));
    lb.change("DrainServer(frontend:\"web\",name:\"a\")");
    lb.change(&format!("AddFrontend(frontend:{})", Frontend::new("api").server("c", one.addr())));
    lb.change("UpdateFrontend(name:\"web\",policy:least_connections,idle_timeout:\"7s\")");
    let (revision, history) = (lb.revision(), lb.json(&["history"]));
    let settings = lb.settings();

    let lb = lb.kill().start();

    assert_eq!(lb.settings(), settings);
    assert_eq!((ask(lb.addr("web")).as_str(), ask(lb.addr("api")).as_str()), ("two", "one"));
    assert!(lb.revision() >= revision, "revisions go on after {revision}, not at {}", lb.revision());
    let kept = lb.json(&["history"]);
    let kept = kept.as_array().unwrap();
    for record in history.as_array().unwrap() {
        assert!(kept.contains(record), "revision {} is not in the history any more", record["revision"]);
    }
}

#[test]
fn a_revision_from_before_a_restart_can_be_taken_back() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    let port = two.addr().port();
    let changed = lb.change(&format!("UpdateServer(frontend:\"web\",name:\"a\",port:{port})")).revision;
    let lb = lb.kill().start();
    assert_eq!(ask(lb.addr("web")), "two");
    lb.change(&format!("Undo(revision:{changed})"));
    assert_eq!(ask(lb.addr("web")), "one");
}

#[test]
fn what_was_confirmed_is_there_after_kill_9_at_any_moment_of_a_change() {
    let mut place = Place::new(Config::of(Frontend::new("web")));
    let confirmed = Arc::new(AtomicU64::new(0));
    for round in 0..15 {
        let lb = place.start();
        let writer = keep_adding(&lb, Arc::clone(&confirmed));
        let until = confirmed.load(SeqCst) + 1 + round % 5;
        wait::until("some changes are confirmed", || confirmed.load(SeqCst) >= until || writer.is_finished());
        place = lb.kill();
        writer.join().unwrap();
        check_added(&place, confirmed.load(SeqCst), round);
        confirmed.store(added(&place), SeqCst);
    }
    assert_eq!(set_aside(&place), Vec::<PathBuf>::new(), "a crash damaged nothing that had to be set aside");
}

#[test]
fn what_was_confirmed_is_there_after_kill_9_at_each_step_of_saving() {
    if skipped("what_was_confirmed_is_there_after_kill_9_at_each_step_of_saving", Injection::is_possible(), STRACE) {
        return;
    }
    let mut place = Place::new(Config::of(Frontend::new("web")));
    let mut confirmed = 0;
    // `fsync` is called for the file first, then for its folder.
    for step in
        ["fsync,fdatasync:signal=KILL:when=1", "rename,renameat,renameat2:signal=KILL", "fsync:signal=KILL:when=2"]
    {
        let mut lb = place.start();
        lb.change(&add(confirmed));
        confirmed += 1;
        let injection = Injection::into(&lb, step);
        let reply = lb.connect_admin().try_ask(&add(confirmed));
        assert!(reply.is_none(), "{step}: killed in mid-change, but it replied {reply:?}");
        lb.exit();
        drop(injection);
        place = lb.kill();
        check_added(&place, confirmed, step);
        confirmed = added(&place);
    }
    assert_eq!(set_aside(&place), Vec::<PathBuf>::new(), "a crash damaged nothing that had to be set aside");
}

#[test]
fn a_disk_error_at_each_step_of_saving_refuses_the_change_and_changes_nothing() {
    if skipped("a_disk_error_at_each_step_of_saving_refuses_the_change", Injection::is_possible(), STRACE) {
        return;
    }
    for step in ["fsync,fdatasync:error=EIO:when=1", "rename,renameat,renameat2:error=EIO"] {
        let lb = Lb::start(Config::of(Frontend::new("web")));
        lb.change(&add(0));
        let before = (lb.revision(), lb.settings());

        let injection = Injection::into(&lb, step);
        let refused = lb.refuse(&add(1));
        drop(injection);

        assert!(refused.reason.contains(".state"), "{step}: the reason names the file: {refused:?}");
        assert_eq!((lb.revision(), lb.settings()), before, "{step}");
        lb.change(&add(1));
        let lb = lb.kill().start();
        assert_eq!(lb.server_names("web"), ["s0", "s1"], "{step}");
    }
}

#[test]
fn a_folder_that_cannot_be_synced_is_not_called_durable() {
    if skipped("a_folder_that_cannot_be_synced_is_not_called_durable", Injection::is_possible(), STRACE) {
        return;
    }
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let injection = Injection::into(&lb, "fsync:error=EIO:when=2");
    let confirmed = lb.change(&add(0));
    drop(injection);
    assert!(!confirmed.durable, "{confirmed:?}");
    assert_eq!(lb.server_names("web"), ["s0"]);
    assert!(lb.change(&add(1)).durable, "the next change is");
}

#[test]
fn on_a_full_disk_changes_are_refused_and_traffic_goes_on_until_there_is_room() {
    if skipped("on_a_full_disk_changes_are_refused", is_root(), "root, to mount a small disk") {
        return;
    }
    let (disk, backend) = (SmallDisk::mount(), Backend::who("app"));
    let config = Config::of(Frontend::new("web").server("a", backend.addr()));
    let lb = Place::new(config).with_state_in(disk.path()).start();
    lb.change(&add(0));
    lb.change("RemoveServer(frontend:\"web\",name:\"s0\")");
    let before = (lb.revision(), lb.settings());

    let filler = disk.fill();
    for _ in 0..3 {
        let refused = lb.refuse(&add(1));
        assert!(refused.reason.contains(".state"), "the reason names the file: {refused:?}");
    }
    assert_eq!((lb.revision(), lb.settings()), before);
    assert_eq!(ask(lb.addr("web")), "app");

    fs::remove_file(filler).unwrap();
    lb.change(&add(1));
    let lb = lb.kill().start();
    assert_eq!(lb.server_names("web"), ["a", "s1"]);
    drop(lb);
}

#[test]
fn an_edited_configuration_wins_and_what_it_replaces_is_kept_and_listed() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    lb.change("AddServer(frontend:\"web\",server:(name:\"added-at-run-time\",ip:\"127.0.0.1\",port:9))");
    let place = lb.kill();
    let replaced = fs::read(place.state()).unwrap();

    place.write_config(Config::of(Frontend::new("web").server("b", two.addr())));
    let lb = place.start();

    assert_eq!(lb.server_names("web"), ["b"]);
    assert_eq!(ask(lb.addr("web")), "two");
    let kept = set_aside(&place);
    assert_eq!(kept.len(), 1, "the replaced state is kept: {kept:?}");
    assert_eq!(fs::read(&kept[0]).unwrap(), replaced);
    assert!(name_of(&kept[0]).contains("20"), "its name has a date: {kept:?}");
    assert!(lb.log().contains("added-at-run-time"), "the log lists what it held:\n{}", lb.log().text());
}

#[test]
fn a_configuration_that_was_only_touched_or_rewritten_the_same_keeps_the_changes() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    lb.change(&add(0));
    let place = lb.kill();
    let same = fs::read(place.config()).unwrap();
    fs::write(place.config(), same).unwrap();
    let lb = place.start();
    assert_eq!(lb.server_names("web"), ["s0"]);
}

#[test]
fn a_damaged_state_never_stops_the_start_and_is_set_aside() {
    let backend = Backend::who("app");
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    lb.change(&add(0));
    let place = lb.kill();
    let whole = fs::read(place.state()).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x01;
    let damages: [(&str, Vec<u8>); 7] = [
        ("empty", vec![]),
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("without its last byte", whole[..whole.len() - 1].to_vec()),
        ("garbage", b"\xff\xfe\x00garbage\n".to_vec()),
        ("zeros", vec![0; 4096]),
        ("another kind of RON", b"(frontends: \"none\")".to_vec()),
        ("a flipped bit", flipped),
    ];
    for (number, (kind, damage)) in damages.into_iter().enumerate() {
        fs::write(place.state(), &damage).unwrap();
        let lb = place.start();
        assert_eq!(lb.server_names("web"), ["a"], "{kind}: the configuration holds");
        assert_eq!(ask(lb.addr("web")), "app", "{kind}");
        assert!(lb.log().contains("ERROR"), "{kind}: the log has an error:\n{}", lb.log().text());
        let kept = set_aside(&place);
        assert_eq!(kept.len(), number + 1, "{kind}: set aside, not deleted: {kept:?}");
        assert!(kept.iter().any(|file| fs::read(file).unwrap() == damage), "{kind}: kept as it was");
        lb.change(&add(1));
        lb.kill();
    }
}

#[test]
fn a_state_that_is_a_folder_does_not_stop_the_start() {
    let place = Place::new(Config::of(Frontend::new("web")));
    fs::create_dir(place.state()).unwrap();
    let lb = place.start();
    lb.change(&add(0));
    let lb = lb.kill().start();
    assert_eq!(lb.server_names("web"), ["s0"]);
}

#[test]
fn a_temporary_file_left_by_a_crash_is_no_hindrance() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    lb.change(&add(0));
    let place = lb.kill();
    for name in ["lb.ron.state.tmp", "lb.ron.state.new", ".lb.ron.state.tmp"] {
        fs::write(place.folder().join(name), "half a sta").unwrap();
    }
    let lb = place.start();
    lb.change(&add(1));
    let lb = lb.kill().start();
    assert_eq!(lb.server_names("web"), ["s0", "s1"]);
}

const STRACE: &str = "root and strace";

/// The request that adds the server of a number.
fn add(number: u64) -> String {
    format!("AddServer(frontend:\"web\",server:(name:\"s{number}\",ip:\"127.0.0.1\",port:9))")
}

/// Adds servers, numbered on from those confirmed, until the balancer is gone.
fn keep_adding(lb: &Lb, confirmed: Arc<AtomicU64>) -> thread::JoinHandle<()> {
    let mut admin = lb.connect_admin();
    thread::spawn(move || {
        loop {
            let number = confirmed.load(SeqCst);
            match admin.try_ask(&add(number)) {
                Some(Reply::Confirmed(_)) => confirmed.store(number + 1, SeqCst),
                Some(other) => panic!("server {number} was not added: {other:?}"),
                None => return,
            }
        }
    })
}

/// After a crash all confirmed servers are there, and at most one more: the one that was on its way.
fn check_added(place: &Place, confirmed: u64, when: impl std::fmt::Display) {
    let there = added(place);
    assert!(
        there == confirmed || there == confirmed + 1,
        "crash {when}: {confirmed} servers were confirmed, {there} are there"
    );
}

/// How many servers a start finds; they are those with the first numbers.
fn added(place: &Place) -> u64 {
    let lb = place.start();
    let names = lb.server_names("web");
    let expected: Vec<_> = (0..names.len()).map(|number| format!("s{number}")).collect();
    assert_eq!(names, expected);
    names.len() as u64
}

/// Files that were set aside.
fn set_aside(place: &Place) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.folder()).unwrap().flatten().map(|entry| entry.path());
    let is_other =
        |name: &str| name.starts_with("lb.ron.state.") && !name.ends_with(".lock") && !name.ends_with(".tmp");
    entries.filter(|path| is_other(&name_of(path))).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
