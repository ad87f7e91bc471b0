//! The whole router over a storage in memory (on disk for administrators' calls): every call, and bad input to every call.

mod admin;
mod dashboard;
mod export;
mod pages;
mod prometheus;
mod requests;
mod server;
mod support;
