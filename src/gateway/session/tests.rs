//! The promises of conversations, each a test: with a store in memory, a wire that records, and a model that does as it is told.

mod again;
mod crash;
mod exactly_one;
mod person;
mod queueing;
mod retention;
mod rooms;
mod stage;
