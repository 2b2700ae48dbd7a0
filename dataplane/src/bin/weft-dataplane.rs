//! The packet path alone, for the tests of this crate, which cannot use the binary `weft`. Not shipped: `weft
//! dataplane` is the same function.

use std::process::ExitCode;

use dataplane::{
    link::NOBODY,
    process::{Options, run},
};

fn main() -> ExitCode {
    let mut options = Options {
        uid: NOBODY,
        gid: NOBODY,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (name.as_str(), value) {
            ("--uid", Some(uid)) => options.uid = uid,
            ("--gid", Some(gid)) => options.gid = gid,
            _ => {
                eprintln!("weft-dataplane: only --uid NUMBER and --gid NUMBER are understood");
                return ExitCode::FAILURE;
            }
        }
    }
    match run(&options) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-dataplane: {error}");
            ExitCode::FAILURE
        }
    }
}
