//! Writes the seeds of the fuzz corpora, `tests/fuzz/corpus/TARGET/NAME`, from the sample messages of the tests:
//! `cargo run -p lisp --example fuzz_corpus`. Files that are there for other reasons (old crashes) stay.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    let seeds = common::seeds::seeds();
    for (target, name, bytes) in &seeds {
        let folder = corpus.join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    println!("{} seeds", seeds.len());
    Ok(())
}
