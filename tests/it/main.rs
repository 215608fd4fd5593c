//! The tests that see moltis from outside: one binary, one file per area.
#![cfg(test)]
mod accounts;
mod cli;
mod commands;
mod config;
mod demo;
mod documents;
mod layers;
mod pdf;
