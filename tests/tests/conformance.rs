//! Every test that a conformance table names exists in the tree: a table that promises more than is tested fails here.

use std::{collections::BTreeSet, fs, path::Path};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// Names of all test functions in the Rust files under `folder`.
fn tests_under(folder: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                tests_under(&path, found);
            }
        } else if path.extension() == Some("rs".as_ref()) {
            let text = fs::read_to_string(&path).expect("a source file");
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    is_test = true;
                } else if let Some(rest) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn ")) {
                    if is_test {
                        found.insert(rest.split('(').next().unwrap_or_default().to_owned());
                    }
                    is_test = false;
                } else if !line.starts_with("#[") {
                    is_test &= line.is_empty() || line.starts_with("//");
                }
            }
        }
    }
}

/// Rows of the tables of a document: cells without the header.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    text.lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---") && !line.starts_with("| Section"))
        .map(cells)
        .collect()
}

fn backticked(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

#[test]
fn conformance_tables_name_tests_that_exist() {
    let mut tests = BTreeSet::new();
    tests_under(root(), &mut tests);
    assert!(tests.contains("conformance_tables_name_tests_that_exist"));
    for document in ["rfc9300.md", "rfc9301.md"] {
        let text = fs::read_to_string(root().join("docs/conformance").join(document)).expect(document);
        let rows = rows(&text);
        assert!(rows.len() > 30, "{document} has {} rows", rows.len());
        for row in rows {
            assert_eq!(row.len(), 5, "{document}: {row:?}");
            let [section, level, _clause, _place, judged] = row.as_slice() else {
                unreachable!()
            };
            assert!(section.starts_with(|c: char| c.is_ascii_digit()), "{document}: {row:?}");
            assert!(
                ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "RECOMMENDED"].contains(&level.as_str()),
                "{row:?}"
            );
            let named = backticked(judged);
            assert!(
                !named.is_empty() || judged.starts_with("not yet") || judged.starts_with("the kernel's"),
                "{document} §{section} says neither a test nor \"not yet\": {judged:?}"
            );
            for test in named {
                assert!(
                    tests.contains(&test),
                    "{document} §{section} names `{test}`, which is no test of the tree"
                );
            }
        }
    }
}
