//! Every file of the fuzz corpora goes through its parser: seeds, and whatever once crashed one.

mod common;
#[path = "../../tests/fuzz/src/lib.rs"]
mod parsers;

use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus")
}

#[test]
fn every_file_goes_through_its_parser() {
    for (name, parser) in parsers::PARSERS {
        let folder = corpus().join(name);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            println!("{}", path.display());
            parser(&std::fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "no seed for {name}");
    }
}

#[test]
fn the_seeds_are_the_samples_of_today() {
    let stale: Vec<_> = common::seeds::seeds()
        .into_iter()
        .filter(|(target, name, bytes)| std::fs::read(corpus().join(target).join(name)).ok().as_ref() != Some(bytes))
        .map(|(target, name, _)| format!("{target}/{name}"))
        .collect();
    assert!(
        stale.is_empty(),
        "run `cargo run -p lisp --example fuzz_corpus`: {stale:?}"
    );
}

#[test]
fn every_target_is_a_parser_and_every_parser_a_target() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/fuzz_targets");
    let mut targets: Vec<String> = std::fs::read_dir(targets)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    targets.sort();
    assert_eq!(targets, parsers::PARSERS.map(|(name, _)| name));
}
