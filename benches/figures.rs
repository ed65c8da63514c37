//! The figures that the README quotes.

fn main() {}
