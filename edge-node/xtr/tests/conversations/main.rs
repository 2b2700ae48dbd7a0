//! Conversations with one xTR in virtual time. Each test says what goes in, what comes out, and exactly which counters
//! move; any other movement fails.
#![allow(clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod lab;

mod answers;
mod bytes;
mod cache;
mod locators;
mod lookups;
mod notifies;
mod registers;
mod requests;
mod sealed;
mod sealed_lab;
mod solicits;
