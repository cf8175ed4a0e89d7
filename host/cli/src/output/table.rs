//! Columns for people.

use super::console::tame;

/// Rows under their headings, each column as wide as its widest cell; whatever a terminal would obey is taken out.
pub fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let headings = headings.map(str::to_owned);
    let rows = rows.into_iter().map(|row| row.map(|cell| tame(&cell)));
    let lines: Vec<_> = std::iter::once(headings).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(widths) {
            row += &format!("{cell:<width$}  ");
        }
        text += row.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["a".to_owned(), "x\u{1b}".to_owned()], ["long".to_owned(), String::new()]];
        assert_eq!(table(["ID", "WHAT"], rows), "ID    WHAT\na     x\u{fffd}\nlong\n");
    }
}
