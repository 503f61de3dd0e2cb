//! The columns of the list: as many as there is room for, the more important ones first.

use super::rows::Row;
use super::units;
use crate::table::bytes;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) heading: &'static str,
    /// Its cells' width; for the state the least one, for the name the widest.
    pub(super) width: u16,
    pub(super) is_text: bool,
    pub(super) cell: fn(Row<'_>) -> String,
    /// The smaller, the later it is left out.
    rank: u8,
}

/// The narrowest name and state.
const NAME_MIN: u16 = 12;

/// All columns, in their order.
const COLUMNS: [Column; 12] = [
    text("NAME", NAME_MIN, 0, |row| row.label()),
    text("STATE", 14, 0, |row| row.state()),
    right("CONNS", 6, 1, |row| units::number(row.load().connections)),
    right("NEW/s", 6, 2, |row| units::number(row.load().rate)),
    right("TO SERVER/s", 11, 5, |row| bytes(row.throughput().0 as u64)),
    right("TO CLIENT/s", 11, 4, |row| bytes(row.throughput().1 as u64)),
    right("WAITING", 7, 8, |row| row.waiting().map_or_else(String::new, |waiting| waiting.to_string())),
    right("FAILED", 6, 3, |row| units::number(row.failed() as f64)),
    right("CONNECT 50/99", 13, 6, |row| row.connect().map_or_else(String::new, units::quantiles)),
    right("FIRST BYTE 50/99", 16, 7, |row| row.first_byte().map_or_else(String::new, units::quantiles)),
    right("LASTED 50/99", 12, 9, |row| row.lasted().map_or_else(String::new, units::quantiles)),
    text("ADDRESS", 21, 10, |row| row.addr()),
];

const fn text(heading: &'static str, width: u16, rank: u8, cell: fn(Row<'_>) -> String) -> Column {
    Column { heading, width, is_text: true, cell, rank }
}

const fn right(heading: &'static str, width: u16, rank: u8, cell: fn(Row<'_>) -> String) -> Column {
    Column { heading, width, is_text: false, cell, rank }
}

/// The columns that fit into `width`, with a space between each two, for names as wide as `name`. The state gets what is left.
pub(super) fn columns(width: u16, name: u16) -> Vec<Column> {
    let name = name.clamp(NAME_MIN, (width / 4).max(NAME_MIN));
    let all = COLUMNS.map(|column| if column.heading == "NAME" { Column { width: name, ..column } } else { column });
    let taken = |rank: u8| all.iter().filter(|column| column.rank <= rank).map(|column| column.width + 1).sum::<u16>();
    let last = all.iter().map(|column| column.rank).filter(|rank| taken(*rank) <= width + 1).max().unwrap_or(0);
    let mut columns: Vec<Column> = all.into_iter().filter(|column| column.rank <= last).collect();
    let spare = (width + 1).saturating_sub(taken(last));
    columns.iter_mut().filter(|column| column.heading == "STATE").for_each(|column| column.width += spare);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_columns_as_fit() {
        let headings = |width| columns(width, 10).iter().map(|column| column.heading).collect::<Vec<_>>();
        assert_eq!(headings(20), ["NAME", "STATE"]);
        assert_eq!(headings(60), ["NAME", "STATE", "CONNS", "NEW/s", "TO CLIENT/s", "FAILED"]);
        assert_eq!(headings(200).len(), COLUMNS.len());
    }

    #[test]
    fn columns_fill_the_width_and_no_more() {
        for width in 28..300 {
            for name in [1, 20, 200] {
                let columns = columns(width, name);
                let sum: u16 = columns.iter().map(|column| column.width + 1).sum();
                assert_eq!(sum, width + 1, "{width} wide, names {name}");
            }
        }
    }
}
