//! `lb top`: a running balancer in the terminal.
//!
//! `model` decides and `view` draws, both without a terminal; `link` asks the balancer; here are terminal, keys and signals.

mod columns;
mod details;
mod flow;
mod history;
mod link;
mod model;
mod rows;
mod units;
mod view;

use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, KeyEvent};
use ratatui::layout::Rect;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::paths;
use link::{Link, News};
use model::{Action, Model, Wish};
use rows::RowId;
use view::Palette;

/// What the picture changes by.
enum Event {
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    News(News),
    /// A signal to end, or no more keys.
    End,
}

/// Shows the balancer until a key or a signal ends it. The terminal is as it was then, however it ended.
pub fn top(admin: Option<&Path>) -> ExitCode {
    let ended = |code: u8| {
        move |reason: String| {
            eprintln!("lb: {reason}");
            ExitCode::from(code)
        }
    };
    if !io::stdout().is_terminal() {
        return ended(1)("`lb top` draws on a terminal, and its output is none: programs take `lb status`".to_owned());
    }
    let connected = paths::admin_socket(admin).and_then(|path| first_look(Link::new(path)));
    let (link, model) = match connected {
        Ok(connected) => connected,
        Err(reason) => return ended(3)(reason),
    };
    show(link, model).map_or_else(|error| ended(1)(format!("the terminal: {error}")), |()| ExitCode::SUCCESS)
}

/// Asks before the terminal is taken: who named a wrong socket is told so in plain text.
fn first_look(mut link: Link) -> Result<(Link, Model), String> {
    let (mut version, mut status) = (String::new(), Err(String::new()));
    link.poll(&mut |news| match news {
        News::Version(text) => version = text,
        News::Status(first) => status = Ok(*first),
        News::Gone(why) | News::Failed(why) | News::Done(why) => status = Err(why),
    });
    Ok((link, Model::new(version, status?)))
}

fn show(link: Link, mut model: Model) -> io::Result<()> {
    let (events, happened) = mpsc::channel();
    // Before the terminal is taken, so that no signal leaves it as it is then.
    watch_signals(events.clone())?;
    let changes = start_link(link, events.clone())?;
    let palette =
        if env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) { Palette::Plain } else { Palette::Coloured };
    // Panics restore it too.
    let terminal = ratatui::try_init();
    let shown = terminal.and_then(|mut terminal| {
        watch_keys(events)?;
        run(&mut terminal, &mut model, &happened, &changes, palette)?;
        // Some terminals that were resized keep lines of it otherwise.
        terminal.clear()
    });
    let restored = ratatui::try_restore();
    // A terminal that is gone can't be restored, and nobody is there to be told.
    shown.and(restored.or(Ok(())))
}

fn run(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    happened: &Receiver<Event>,
    changes: &Sender<(Action, RowId)>,
    palette: Palette,
) -> io::Result<()> {
    loop {
        let size = terminal.size()?;
        model.fit(view::rows_in_sight(Rect::from((ratatui::layout::Position::ORIGIN, size)), model));
        terminal.draw(|frame| view::draw(frame, model, palette))?;
        let wish = match happened.recv() {
            Ok(Event::Key(key)) => model.on_key(key),
            Ok(Event::News(news)) => {
                model.on_news(news);
                None
            }
            Ok(Event::Resized) => None,
            Ok(Event::End) | Err(_) => return Ok(()),
        };
        match wish {
            Some(Wish::Quit) => return Ok(()),
            // The link ends after this loop.
            Some(Wish::Change(action, row)) => changes.send((action, row)).map_err(io::Error::other)?,
            None => {}
        }
    }
}

fn start_link(link: Link, events: Sender<Event>) -> io::Result<Sender<(Action, RowId)>> {
    let (changes, wanted) = mpsc::channel();
    // Nobody listens any more once it ends.
    let report = move |news| drop(events.send(Event::News(news)));
    thread::Builder::new().name("lb-link".to_owned()).spawn(move || link.run(&wanted, report))?;
    Ok(changes)
}

fn watch_keys(events: Sender<Event>) -> io::Result<()> {
    let watch = move || {
        loop {
            let event = match event::read() {
                Ok(event::Event::Key(key)) if key.is_press() => Event::Key(key),
                Ok(event::Event::Resize(..)) => Event::Resized,
                Ok(_) => continue,
                Err(_) => Event::End,
            };
            let is_end = matches!(event, Event::End);
            if events.send(event).is_err() || is_end {
                return;
            }
        }
    };
    thread::Builder::new().name("lb-keys".to_owned()).spawn(watch).map(drop)
}

fn watch_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT, SIGQUIT])?;
    let watch = move || {
        if signals.forever().next().is_some() {
            // The loop may have ended by itself.
            let _ = events.send(Event::End);
        }
    };
    thread::Builder::new().name("lb-signals".to_owned()).spawn(watch).map(drop)
}
