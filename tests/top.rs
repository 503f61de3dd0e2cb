//! `lb top` in a real terminal: what it shows, what its keys do, and that it leaves the terminal as it was.
#![forbid(unsafe_code)]

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tests::client::{connect, echo};
use tests::{Backend, Config, Frontend, Lb, Place, Terminal, lb_path, refusing_addr, text, wait};

/// A balancer with two servers that are there and one that is not.
struct Setup {
    lb: Lb,
    _backends: [Backend; 2],
    /// Keeps the address of the third one refusing.
    _refusing: socket2::Socket,
}

impl Setup {
    fn new() -> Self {
        let backends = [Backend::echo(), Backend::echo()];
        let check = "(kind: tcp, interval: \"100ms\", rise: 1, fall: 1)";
        let web = Frontend::new("web").check(check).server("app1", backends[0].addr());
        let db = Frontend::new("db").check(check).server("app2", backends[1].addr());
        let (gone, refusing) = refusing_addr();
        let db = db.server("gone", gone);
        let place = Place::new(Config::of(web).frontend(db).set("shards", 2));
        Self { lb: place.start(), _backends: backends, _refusing: refusing }
    }

    /// A terminal in which `lb top` shows it.
    fn top(&self, width: u16, height: u16) -> Terminal {
        let terminal = Terminal::open(width, height);
        terminal.run(&format!("lb top --admin {}", self.lb.place().admin().display()));
        terminal.until("the first picture", |screen| screen.contains("q quit"));
        terminal
    }
}

/// The line of a server or frontend.
fn line<'a>(screen: &'a str, name: &str) -> &'a str {
    let is_it = |line: &&str| line.split_whitespace().next() == Some(name);
    screen.lines().find(is_it).unwrap_or_default()
}

#[test]
fn frontends_and_servers_are_shown_with_live_numbers_under_load() {
    let setup = Setup::new();
    let terminal = setup.top(150, 30);
    let is_down = |screen: &str| line(screen, "gone").contains("down: ");
    let screen = terminal.until("that a server is down, and why", is_down);
    assert!(line(&screen, "web").contains("active servers"), "{screen}");
    assert!(line(&screen, "app1").contains(" up "), "{screen}");
    assert!(screen.contains("revision 1") && screen.contains("shard 1 "), "{screen}");

    let addr = setup.lb.addr("web");
    let mut held: Vec<TcpStream> = (0..7).map(|_| connect(addr)).collect();
    held.iter_mut().for_each(|stream| echo(stream, b"x"));
    let numbers =
        |screen: &str, name: &str| line(screen, name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    terminal.until("seven connections", |screen| {
        ["web", "app1"].iter().all(|name| numbers(screen, name).iter().any(|number| number == "7"))
    });

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                echo(&mut connect(addr), b"some bytes");
            }
        });
        terminal.until("a rate", |screen| {
            screen.contains(" accepted/s") && !screen.contains(" 0 accepted/s") && screen.contains("shard 0 ")
        });
        // The selected row, the first one, has its plots.
        let has_bars = |screen: &str| screen.lines().rev().take(6).any(|line| line.contains('█'));
        terminal.until("the plot of it", has_bars);
        stop.store(true, Relaxed);
    });
}

#[test]
fn a_key_drains_disables_and_enables_the_selected_server_and_says_what_came_of_it() {
    let setup = Setup::new();
    let terminal = setup.top(120, 24);
    let listed = || setup.lb.done(&["server", "list", "web"]);
    terminal.keys("Down d");
    terminal.until("the question", |screen| screen.contains("drain web/app1 ") && screen.contains("? y/n"));
    terminal.keys("n");
    terminal.until("the answer to no", |screen| screen.contains("nothing was changed"));
    assert_eq!(setup.lb.revision(), 1);

    for (key, state, revision) in [("d", "drains", 2), ("e", "up", 3), ("m", "disabled", 4), ("e", "up", 5)] {
        terminal.keys(key);
        if key != "e" {
            terminal.until("the question", |screen| screen.contains("? y/n"));
            terminal.keys("y");
        }
        let confirmed =
            |screen: &str| screen.contains(&format!("revision {revision}: ")) && screen.contains("2 shards");
        terminal.until("the confirmation", confirmed);
        assert_eq!(setup.lb.revision(), revision);
        // One that was disabled is checked anew first.
        wait::until("the list says so", || listed().contains(state) || state == "up" && listed().contains("unchecked"));
        terminal.until("the new state", |screen| {
            [state, "unchecked"].iter().any(|state| line(screen, "app1").contains(state))
        });
    }
}

#[test]
fn a_refusal_is_shown() {
    let setup = Setup::new();
    let terminal = setup.top(120, 24);
    terminal.keys("Down d");
    terminal.until("the question", |screen| screen.contains("drain web/app1 "));
    setup.lb.done(&["server", "remove", "web", "app1"]);
    terminal.keys("y");
    terminal.until("the refusal", |screen| screen.contains("refused: ") && screen.contains("app1"));
}

#[test]
fn a_balancer_that_is_killed_is_told_of_and_the_next_one_shown() {
    let setup = Setup::new();
    let terminal = setup.top(100, 24);
    let Setup { lb, _backends, _refusing } = setup;
    let place = lb.kill();
    terminal.until("that it is gone", |screen| screen.contains("lb is gone, looking for it: no answer at"));
    let lb = place.start();
    let is_back = |screen: &str| !screen.contains("lb is gone") && line(screen, "app1").contains(" up ");
    terminal.until("that it is back", is_back);
    terminal.keys("Down d y");
    wait::until("a key works again", || lb.done(&["server", "list", "web"]).contains("drains"));
}

#[test]
fn the_smallest_terminal_has_room_for_it_and_a_larger_one_for_more() {
    let setup = Setup::new();
    let terminal = setup.top(60, 15);
    let screen = terminal.until("every row", |screen| {
        ["web", "app1", "db", "app2", "gone"].iter().all(|name| !line(screen, name).is_empty())
    });
    assert!(!screen.contains("CONNECT 50/99"), "{screen}");
    assert!(screen.contains("connections 0") && screen.contains("shard 1"), "{screen}");
    terminal.resize(160, 40);
    terminal.until("more columns", |screen| screen.contains("CONNECT 50/99") && screen.contains("ADDRESS"));
    terminal.resize(60, 15);
    terminal.until("fewer columns", |screen| !screen.contains("CONNECT 50/99") && screen.contains("q quit"));
}

#[test]
fn a_thousand_servers_are_scrolled_sorted_and_filtered() {
    let backend = Backend::echo();
    let web = (0..1000).fold(Frontend::new("web"), |web, number| web.server(&format!("app{number}"), backend.addr()));
    let lb = Lb::start(Config::of(web));
    let terminal = Terminal::open(80, 24);
    terminal.run(&format!("lb top --admin {}", lb.place().admin().display()));
    terminal.until("the first servers", |screen| !line(screen, "app0").is_empty());
    terminal.keys("End");
    terminal.until("the last server", |screen| !line(screen, "app999").is_empty());
    terminal.keys("/ 7 7 7 Enter");
    terminal.until("the one that was looked for", |screen| {
        !line(screen, "app777").is_empty() && line(screen, "app999").is_empty()
    });
}

#[test]
fn the_terminal_is_as_before_however_it_ends() {
    let setup = Setup::new();
    let admin = setup.lb.place().admin().display().to_string();
    let terminal = Terminal::open(80, 24);
    let modes = terminal.output("stty -a");
    let process = terminal.path("process");
    for end in ["q", "C-c", "TERM", "HUP", "INT"] {
        terminal.run(&format!("sh -c 'echo $$ > {}; exec lb top --admin {admin}'", process.display()));
        terminal.until("the picture", |screen| screen.contains("q quit"));
        assert!(terminal.is_taken());
        let pid = fs::read_to_string(&process).unwrap().trim().to_owned();
        match end {
            "q" | "C-c" => terminal.keys(end),
            signal => {
                let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap();
                assert!(sent.success());
            }
        }
        // While it is there it may take keys that are meant for the shell.
        wait::until("the program has ended", || !Path::new("/proc").join(&pid).exists());
        wait::until("the terminal is given back", || !terminal.is_taken());
        assert_eq!(terminal.output("stty -a"), modes, "after {end}");
        assert!(!terminal.screen().contains("q quit"), "after {end}:\n{}", terminal.screen());
    }
}

#[test]
fn without_colours_nothing_is_coloured() {
    let setup = Setup::new();
    let admin = setup.lb.place().admin().display().to_string();
    // Numbers of colours: 30 to 37, 90 to 97, and 38 for the others.
    let is_coloured = |screen: &str| {
        screen.split("\u{1b}[").skip(1).any(|rest| {
            let codes = rest.split('m').next().unwrap_or_default();
            codes.split(';').any(|code| matches!(code.parse(), Ok(30..=38 | 90..=97)))
        })
    };
    for (variable, expected) in [("NO_COLOR=1", false), ("NO_COLOR=", true)] {
        let terminal = Terminal::open(80, 24);
        terminal.run(&format!("{variable} lb top --admin {admin}"));
        terminal.until("a server that is down", |screen| line(screen, "gone").contains("down"));
        assert_eq!(is_coloured(&terminal.coloured_screen()), expected, "{variable}");
    }
}

#[test]
fn without_a_terminal_or_a_balancer_it_says_so_and_ends() {
    let setup = Setup::new();
    let mut command = Command::new(lb_path());
    let output = command.args(["top", "--admin"]).arg(setup.lb.place().admin()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("draws on a terminal"), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());

    let terminal = Terminal::open(100, 24);
    terminal.run("lb top --admin /nonexistent/admin.sock; echo code $?");
    let screen = terminal.until("the exit code", |screen| screen.contains("code 3"));
    assert!(screen.contains("is lb running?"), "{screen}");
}
