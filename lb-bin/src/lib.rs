//! What the program `lb` is made of. It is a library so that tests and fuzz targets reach its parts; to build a
//! balancer into a program of your own, use `lb-core`.
//!
//! `run` starts a balancer from a configuration (`config`) and from what was changed at run time (`state`), and
//! lets it be changed through a Unix socket (`admin`). `client` is the other end of that socket.
#![forbid(unsafe_code)]

mod access_log;
pub mod admin;
mod apply;
mod certificates;
pub mod cli;
pub mod client;
pub mod config;
mod console;
pub mod demo;
pub mod doctor;
mod document;
mod lock;
mod log;
pub mod manual;
pub mod metrics;
mod paths;
mod ron_text;
pub mod run;
pub mod settings;
pub mod state;
mod table;
mod take_over;
#[cfg(test)]
mod testing;
pub mod top;
mod unix_socket;
mod web;
