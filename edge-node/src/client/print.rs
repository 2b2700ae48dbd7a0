//! Ways to print: JSON, YAML, tables.

use serde::Serialize;

use crate::cli::Format;

/// Prints a value as JSON or YAML; `false` when it is to be text.
pub fn structured(format: Format, value: &impl Serialize) -> bool {
    match format {
        Format::Json => match serde_json::to_string_pretty(value) {
            Ok(text) => say!("{text}"),
            Err(error) => eprintln!("weft: {error}"),
        },
        Format::Yaml => match serde_saphyr::to_string(value) {
            Ok(text) => say_exactly!("{text}"),
            Err(error) => eprintln!("weft: {error}"),
        },
        Format::Text | Format::Wide => return false,
    }
    true
}

/// Prints rows under a heading, columns aligned. Nothing when there are no rows.
pub fn table(title: &str, heading: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    if !title.is_empty() {
        say!("\n{title}");
    }
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        say!("  {}", cells.join("  ").trim_end());
    };
    print(&mut heading.iter().copied());
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
}

/// Seconds, short.
pub fn seconds(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.1} s"),
        v if v < 120.0 => format!("{v:.0} s"),
        v if v < 7200.0 => format!("{:.0} min", v / 60.0),
        v => format!("{:.0} h", v / 3600.0),
    }
}

/// A value, or `-`.
pub fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(seconds(0.25), "0.2 s");
        assert_eq!(seconds(59.6), "60 s");
        assert_eq!(seconds(600.0), "10 min");
        assert_eq!(seconds(86_400.0), "24 h");
    }
}
