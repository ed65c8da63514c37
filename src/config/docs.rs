//! `houston docs config|steps|commands`: the reference, generated from what the code reads.
//!
//! Must not: print.
