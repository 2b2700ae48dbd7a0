//! Who may use whom, as `docs/architecture.md` says: read from the manifests, so that a convenient import fails here.

use std::{collections::BTreeSet, fs, path::Path};

/// Names in the `[dependencies]` table of a crate of the workspace.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml")).expect("a manifest");
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['=', '.']).next())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

#[test]
fn crates_use_only_what_they_may() {
    let ours = [
        "lisp",
        "xtr",
        "mapserver",
        "dataplane",
        "edge-node",
        "bench",
        "weft-tests",
    ];
    let may: [(&str, &[&str]); 4] = [
        ("lisp", &[]),
        ("edge-node/xtr", &["lisp"]),
        ("mapserver", &["lisp"]),
        ("dataplane", &["lisp"]),
    ];
    for (folder, allowed) in may {
        let uses = dependencies(folder);
        let used: Vec<&str> = ours.into_iter().filter(|name| uses.contains(*name)).collect();
        assert!(used.iter().all(|name| allowed.contains(name)), "{folder} uses {used:?}");
    }
    let foreign: [(&str, &[&str]); 3] = [
        ("lisp", &["tokio", "socket2", "rustix", "serde-saphyr", "axum"]),
        ("edge-node/xtr", &["tokio", "socket2", "rustix", "serde-saphyr", "axum"]),
        ("dataplane", &["tokio", "futures", "serde-saphyr", "axum", "schemars"]),
    ];
    for (folder, never) in foreign {
        let uses = dependencies(folder);
        for name in never {
            assert!(!uses.contains(*name), "{folder} uses {name}");
        }
    }
    for folder in ["lisp", "edge-node/xtr", "mapserver", "dataplane", "edge-node"] {
        assert!(dependencies(folder).is_disjoint(&BTreeSet::from(["bench".to_owned(), "weft-tests".to_owned()])));
    }
}

/// Files and folders of the tree that the documents name in backticks.
#[test]
fn documents_name_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut named = 0;
    for document in [
        "README.md",
        "docs/architecture.md",
        "docs/packet-path.md",
        "tests/README.md",
        "bench/README.md",
    ] {
        let text = fs::read_to_string(root.join(document)).expect(document);
        let folder = Path::new(document).parent().expect("a folder");
        let quoted = text.split('`').skip(1).step_by(2);
        let linked = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for path in quoted
            .filter(|word| word.contains(".rs") || word.ends_with('/'))
            .chain(linked)
        {
            if path.contains("::") || path.contains('*') || path.contains(' ') || path.starts_with("http") {
                continue;
            }
            named += 1;
            let (file, heading) = path
                .split_once('#')
                .map_or((path, None), |(file, heading)| (file, Some(heading)));
            let places = [root.join(file), root.join(folder).join(file)];
            let place = places.iter().find(|place| place.exists());
            assert!(place.is_some(), "{document} names {path}, which does not exist");
            if let (Some(place), Some(heading)) = (place, heading) {
                let text = fs::read_to_string(place).expect(path);
                let there = text
                    .lines()
                    .filter_map(|line| line.strip_prefix('#'))
                    .any(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-") == heading);
                assert!(there, "{document} names {path}, and {file} has no such heading");
            }
        }
    }
    assert!(named > 30, "{named} names");
}
