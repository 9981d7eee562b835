//! A job: request to outcome.

pub mod limits;
