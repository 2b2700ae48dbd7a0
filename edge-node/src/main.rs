//! `weft`: one binary for every role of the node.

fn main() {}
