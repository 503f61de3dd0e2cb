//! What is shown, what is selected, and what keys do. Knows no terminal and no socket.

use lb_core::Status;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::history::History;
use super::link::News;
use super::rows::{Order, Row, RowId, rows};

/// Everything that a picture is made of.
#[derive(Debug)]
pub(super) struct Model {
    /// The version of the balancer.
    pub(super) version: String,
    /// The newest status.
    pub(super) status: Status,
    pub(super) history: History,
    /// Why there is no answer, while there is none.
    pub(super) gone: Option<String>,
    pub(super) mode: Mode,
    /// What came of the last key.
    pub(super) note: Option<Note>,
    pub(super) order: Order,
    pub(super) filter: String,
    selected: Option<RowId>,
    /// Where the selected row stood when it was seen last, for when it is gone.
    position: usize,
    /// The first row that is shown, and how many are.
    top: usize,
    height: usize,
}

/// What keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    /// The filter is written.
    Filter,
    /// Something waits for a yes.
    Confirm(Action, RowId),
    Help,
}

/// A change by one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Drain,
    Enable,
    Disable,
}

/// A line that says what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) text: String,
    pub(super) is_bad: bool,
}

/// What the terminal's side has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    /// Tell the balancer to do this with this server.
    Change(Action, RowId),
}

impl Model {
    pub(super) fn new(version: String, status: Status) -> Self {
        let mut model = Self {
            version,
            status,
            history: History::default(),
            gone: None,
            mode: Mode::Browse,
            note: None,
            order: Order::Configured,
            filter: String::new(),
            selected: None,
            position: 0,
            top: 0,
            height: 1,
        };
        model.history.add(&model.status);
        model.settle();
        model
    }

    /// All rows of the list, also those that are out of sight.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        rows(&self.status, self.order, &self.filter)
    }

    /// The selected row, and which of `rows` it is.
    pub(super) fn selected<'a>(&self, rows: &[Row<'a>]) -> Option<(usize, Row<'a>)> {
        let id = self.selected.as_ref()?;
        rows.iter().position(|row| row.id() == *id).map(|index| (index, rows[index]))
    }

    /// The first row in sight.
    pub(super) fn top(&self) -> usize {
        self.top
    }

    /// Makes room for `height` rows and moves the selected one into sight.
    pub(super) fn fit(&mut self, height: usize) {
        self.height = height.max(1);
        self.settle();
    }

    pub(super) fn on_news(&mut self, news: News) {
        match news {
            News::Version(version) => self.version = version,
            News::Status(status) => self.on_status(*status),
            News::Gone(why) => {
                self.history.add_gap();
                self.gone = Some(why);
            }
            News::Done(text) => self.say(text),
            News::Failed(text) => self.complain(text),
        }
    }

    fn on_status(&mut self, status: Status) {
        let is_other = status.uptime_seconds < self.status.uptime_seconds;
        if is_other {
            self.say(format!("lb was started anew, with revision {}", status.revision));
        } else if self.gone.is_some() {
            self.say("lb answers again".to_owned());
        }
        self.gone = None;
        self.history.add(&status);
        self.status = status;
        self.settle();
    }

    fn say(&mut self, text: String) {
        self.note = Some(Note { text, is_bad: false });
    }

    fn complain(&mut self, text: String) {
        self.note = Some(Note { text, is_bad: true });
    }

    /// Keeps the selection on its row, or near where that was, and in sight.
    fn settle(&mut self) {
        let rows = self.rows();
        let count = rows.len();
        let index = self.selected(&rows).map_or(self.position, |(index, _)| index).min(count.saturating_sub(1));
        self.selected = rows.get(index).map(|row| row.id());
        self.position = index;
        self.top =
            self.top.clamp((index + 1).saturating_sub(self.height), index).min(count.saturating_sub(self.height));
    }

    pub(super) fn on_key(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Wish::Quit);
        }
        match self.mode.clone() {
            Mode::Browse => return self.browse(key.code),
            Mode::Filter => self.write_filter(key.code),
            Mode::Confirm(action, row) => return self.confirm(action, &row, key.code),
            Mode::Help => self.mode = Mode::Browse,
        }
        None
    }

    fn browse(&mut self, code: KeyCode) -> Option<Wish> {
        self.note = None;
        match code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('?') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => self.set_filter(String::new()),
            KeyCode::Char('s') => {
                self.order = self.order.next();
                self.say(format!("sort: {}", self.order.word()));
                self.settle();
            }
            KeyCode::Char('d') => return self.change(Action::Drain),
            KeyCode::Char('e') => return self.change(Action::Enable),
            KeyCode::Char('m') => return self.change(Action::Disable),
            _ => self.steer(code),
        }
        None
    }

    /// Keys that move the selection.
    fn steer(&mut self, code: KeyCode) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let is_frontend = |index: &usize| matches!(rows[*index], Row::Frontend(_));
        let position = match code {
            KeyCode::Up | KeyCode::Char('k') => self.position.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.position + 1,
            KeyCode::PageUp => self.position.saturating_sub(self.height),
            KeyCode::PageDown => self.position + self.height,
            KeyCode::Home => 0,
            KeyCode::End => last,
            KeyCode::Tab => (self.position + 1..rows.len()).find(is_frontend).unwrap_or(0),
            KeyCode::BackTab => (0..self.position.min(rows.len())).rfind(is_frontend).unwrap_or(last),
            _ => return,
        };
        self.position = position.min(last);
        self.selected = None;
        self.settle();
    }

    /// Begins a change of the selected server. What takes it out of service asks first.
    fn change(&mut self, action: Action) -> Option<Wish> {
        let verb = action.verb();
        match self.selected.clone() {
            Some(row) if row.server.is_some() && action == Action::Enable => return self.send(action, &row),
            Some(row) if row.server.is_some() => self.mode = Mode::Confirm(action, row),
            Some(row) => self.complain(format!("{} is a frontend: select the server to {verb}", row.text())),
            None => self.complain(format!("there is no server to {verb}")),
        }
        None
    }

    fn confirm(&mut self, action: Action, row: &RowId, code: KeyCode) -> Option<Wish> {
        self.mode = Mode::Browse;
        if matches!(code, KeyCode::Char('y' | 'Y')) {
            return self.send(action, row);
        }
        self.say("nothing was changed".to_owned());
        None
    }

    fn send(&mut self, action: Action, row: &RowId) -> Option<Wish> {
        if self.gone.is_some() {
            self.complain(format!("lb does not answer: it can't be told to {} {}", action.verb(), row.text()));
            return None;
        }
        Some(Wish::Change(action, row.clone()))
    }

    fn write_filter(&mut self, code: KeyCode) {
        let mut filter = self.filter.clone();
        match code {
            KeyCode::Enter => self.mode = Mode::Browse,
            KeyCode::Esc => {
                self.mode = Mode::Browse;
                filter.clear();
            }
            KeyCode::Backspace => drop(filter.pop()),
            KeyCode::Char(letter) => filter.push(letter),
            _ => self.steer(code),
        }
        self.set_filter(filter);
    }

    fn set_filter(&mut self, filter: String) {
        self.filter = filter;
        self.settle();
    }
}

impl Action {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }

    /// What becomes of the server.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Drain => "no new connections, those that exist finish",
            Self::Enable => "it gets connections again",
            Self::Disable => "maintenance: no new connections, no checks",
        }
    }
}

#[cfg(test)]
mod tests {
    use lb_core::FrontendStatus;

    use super::*;
    use crate::testing::{frontend, server, status};

    fn model(frontends: Vec<FrontendStatus>) -> Model {
        Model::new("0.1.0".to_owned(), status(frontends))
    }

    fn two() -> Vec<FrontendStatus> {
        vec![frontend("web", vec![server("a", 1), server("b", 2)]), frontend("db", vec![server("c", 3)])]
    }

    fn key(model: &mut Model, code: KeyCode) -> Option<Wish> {
        model.on_key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn keys(model: &mut Model, letters: &str) -> Vec<Wish> {
        letters.chars().filter_map(|letter| key(model, KeyCode::Char(letter))).collect()
    }

    fn selected(model: &Model) -> String {
        model.selected(&model.rows()).map_or_else(String::new, |(_, row)| row.id().text())
    }

    fn wish(action: Action, server: &str) -> Option<Wish> {
        let server = Some(server.parse().unwrap());
        Some(Wish::Change(action, RowId { frontend: "web".parse().unwrap(), server }))
    }

    #[test]
    fn keys_move_the_selection_and_stop_at_the_ends() {
        let mut model = model(two());
        model.fit(2);
        for (code, expected) in [
            (KeyCode::Up, "web"),
            (KeyCode::Down, "web/a"),
            (KeyCode::Char('j'), "web/b"),
            (KeyCode::Char('k'), "web/a"),
            (KeyCode::Tab, "db"),
            (KeyCode::Tab, "web"),
            (KeyCode::BackTab, "db/c"),
            (KeyCode::BackTab, "db"),
            (KeyCode::PageUp, "web/a"),
            (KeyCode::PageDown, "db"),
            (KeyCode::PageDown, "db/c"),
            (KeyCode::Home, "web"),
            (KeyCode::End, "db/c"),
            (KeyCode::Down, "db/c"),
        ] {
            key(&mut model, code);
            assert_eq!(selected(&model), expected, "after {code:?}");
        }
    }

    #[test]
    fn the_selection_stays_in_sight_and_on_its_server() {
        let mut model = model(two());
        model.fit(2);
        key(&mut model, KeyCode::End);
        assert_eq!(model.top(), 3);
        key(&mut model, KeyCode::Home);
        assert_eq!(model.top(), 0);
        keys(&mut model, "jjs");
        assert_eq!((selected(&model).as_str(), model.top()), ("web/b", 3), "sorted by name, db comes first");
        model.fit(5);
        assert_eq!(model.top(), 0, "no room is wasted");

        model.on_news(News::Status(Box::new(status(vec![frontend("web", vec![server("a", 1)])]))));
        assert_eq!(selected(&model), "web/a", "the next one, when it is gone");
        model.on_news(News::Status(Box::new(status(vec![]))));
        assert_eq!((selected(&model).as_str(), model.top()), ("", 0));
        assert!(keys(&mut model, "jkdem").is_empty());
        key(&mut model, KeyCode::Tab);
        key(&mut model, KeyCode::BackTab);
    }

    #[test]
    fn a_drain_is_asked_for_and_sent_after_a_yes_only() {
        let mut model = model(two());
        keys(&mut model, "j");
        for (letter, action) in [('d', Action::Drain), ('m', Action::Disable)] {
            for no in ["n", "x", "q"] {
                assert!(keys(&mut model, &format!("{letter}{no}")).is_empty());
                assert_eq!(model.note.as_ref().unwrap().text, "nothing was changed");
            }
            assert!(key(&mut model, KeyCode::Char(letter)).is_none());
            assert_eq!(key(&mut model, KeyCode::Char('y')), wish(action, "a"));
            assert_eq!(model.mode, Mode::Browse);
        }
        assert_eq!(key(&mut model, KeyCode::Char('e')), wish(Action::Enable, "a"));
    }

    #[test]
    fn a_yes_is_for_the_server_that_was_asked_about() {
        let mut model = model(two());
        keys(&mut model, "jd");
        model.on_news(News::Status(Box::new(status(vec![frontend("web", vec![server("b", 2)])]))));
        assert_eq!(key(&mut model, KeyCode::Char('y')), wish(Action::Drain, "a"));
    }

    #[test]
    fn a_frontend_is_not_drained_and_nothing_is_sent_to_nobody() {
        let mut model = model(two());
        assert!(keys(&mut model, "d").is_empty());
        let note = model.note.clone().unwrap();
        assert_eq!((note.text.as_str(), note.is_bad), ("web is a frontend: select the server to drain", true));

        model.on_news(News::Gone("no answer".to_owned()));
        assert!(keys(&mut model, "je").is_empty());
        assert!(model.note.as_ref().unwrap().text.contains("can't be told to enable web/a"), "{:?}", model.note);
    }

    #[test]
    fn letters_of_a_filter_are_no_commands() {
        let mut model = model(two());
        assert!(keys(&mut model, "/q").is_empty());
        assert_eq!((model.filter.as_str(), model.rows().len()), ("q", 0));
        key(&mut model, KeyCode::Backspace);
        keys(&mut model, "db");
        key(&mut model, KeyCode::Enter);
        assert_eq!((model.filter.as_str(), model.rows().len(), selected(&model).as_str()), ("db", 2, "db"));
        key(&mut model, KeyCode::Esc);
        assert_eq!((model.filter.as_str(), model.rows().len()), ("", 5));
        keys(&mut model, "/db");
        key(&mut model, KeyCode::Esc);
        assert_eq!((model.filter.as_str(), &model.mode), ("", &Mode::Browse));
    }

    #[test]
    fn help_ends_with_any_key_and_control_c_quits_everywhere() {
        let mut model = model(two());
        for open in ["?", "/", "jd", ""] {
            keys(&mut model, open);
            let wish = model.on_key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
            assert!(matches!(wish, Some(Wish::Quit)), "after {open:?}");
            key(&mut model, KeyCode::Esc);
            assert_eq!(model.mode, Mode::Browse);
        }
        keys(&mut model, "?q");
        assert_eq!(model.mode, Mode::Browse);
        assert!(matches!(key(&mut model, KeyCode::Char('q')), Some(Wish::Quit)));
    }

    #[test]
    fn a_balancer_that_went_is_said_and_one_that_comes_too() {
        let mut model = model(two());
        model.on_news(News::Gone("no answer at x".to_owned()));
        assert_eq!(model.gone.as_deref(), Some("no answer at x"));
        model.on_news(News::Status(Box::new(status(two()))));
        assert_eq!((model.gone.clone(), model.note.clone().unwrap().text.as_str()), (None, "lb answers again"));
        let anew = Status { uptime_seconds: 1, revision: 3, ..status(two()) };
        model.on_news(News::Status(Box::new(anew)));
        assert_eq!(model.note.unwrap().text, "lb was started anew, with revision 3");
    }
}
