//! Pieces of text set into lines.

/// Sets pieces into lines of `width`, with two spaces between them. A piece that is longer has a line of its own.
/// There is at least one line.
pub(super) fn flow(pieces: &[String], width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in pieces {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(piece);
        } else if line.chars().count() + 2 + piece.chars().count() <= width {
            line.push_str("  ");
            line.push_str(piece);
        } else {
            lines.push(piece.clone());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stay_whole() {
        let pieces = ["one", "two", "three", "longer than a line", "x"].map(str::to_owned);
        assert_eq!(flow(&pieces, 10), ["one  two", "three", "longer than a line", "x"]);
        assert_eq!(flow(&pieces[..2], 8), ["one  two"]);
        assert_eq!(flow(&pieces[..2], 7), ["one", "two"]);
        assert_eq!(flow(&[], 7), [""]);
    }
}
