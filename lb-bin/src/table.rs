//! Plain text tables.

use std::fmt::Write;

/// On which side a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under headings, columns as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub(crate) fn row<const CELLS: usize>(&mut self, cells: [String; CELLS]) {
        debug_assert_eq!(CELLS, self.columns.len());
        self.rows.push(cells.into());
    }

    /// The table as lines, without spaces at their ends.
    pub(crate) fn text(&self) -> String {
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(&self.rows).collect();
        let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for cells in lines {
            let mut line = String::new();
            for ((cell, (_, align)), width) in cells.iter().zip(&self.columns).zip(&widths) {
                // Writing to a string can't fail.
                let _ = match align {
                    Align::Left => write!(line, "{cell:<width$}  "),
                    Align::Right => write!(line, "{cell:>width$}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A number of bytes for people: `0`, `812`, `1.5 KiB`, `23.0 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut amount = count as f64;
    let mut unit = "";
    for larger in [" KiB", " MiB", " GiB", " TiB"] {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    if unit.is_empty() { count.to_string() } else { format!("{amount:.1}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("WHAT", Align::Left)]);
        table.row(["a".into(), "10".into(), "x".into()]);
        table.row(["longer".into(), "7".into(), String::new()]);
        assert_eq!(table.text(), "NAME     N  WHAT\na       10  x\nlonger   7\n");
    }

    #[test]
    fn bytes_are_short() {
        for (count, text) in [(0, "0"), (1023, "1023"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (23 << 30, "23.0 GiB")] {
            assert_eq!(bytes(count), text);
        }
    }
}
