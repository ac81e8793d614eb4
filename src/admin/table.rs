//! Columns as wide as they must be. Pure but for the question whether a terminal listens.

use std::io::{IsTerminal as _, Write};

const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// Prints a table; its head is bold on a terminal.
///
/// # Errors
/// When `output` cannot be written to.
pub(super) fn print(output: &mut dyn Write, head: &[&str], rows: &[Vec<String>]) -> std::io::Result<()> {
    let text = render(head, rows);
    match text.split_once('\n') {
        Some((head, rest)) if std::io::stdout().is_terminal() => write!(output, "{BOLD}{head}{PLAIN}\n{rest}"),
        _ => output.write_all(text.as_bytes()),
    }
}

fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| harmless(cell)).collect()).collect();
    let lines = || std::iter::once(&head).chain(&rows);
    let width = |column: usize| lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in lines() {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// Ids come from other systems: none of them moves the cursor of whoever looks at it.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_control_characters_stay_out_of_the_terminal() {
        let rows = [vec!["1".to_owned(), "a\u{1b}[2Jb".to_owned()], vec!["12345".to_owned(), "ü".to_owned()]];
        let expected = "SEQ     RECORD\n1       a\u{fffd}[2Jb\n12345   ü\n";
        assert_eq!(render(&["SEQ", "RECORD"], &rows), expected);
    }
}
