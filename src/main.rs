//! The binary of confhot.
fn main() {}
