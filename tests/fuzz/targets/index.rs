//! Fuzzes what `bodies::index` says.

#![no_main]

#[allow(dead_code)] // of the bodies each target has one
#[path = "../bodies.rs"]
mod bodies;

use std::sync::LazyLock;

use bodies::Place;

static PLACE: LazyLock<Place> = LazyLock::new(|| Place::within(&std::env::temp_dir()));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::index(&PLACE, bytes));
