//! Fuzzes what `bodies::index` says.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

use std::sync::LazyLock;

use bodies::Place;

static PLACE: LazyLock<Place> = LazyLock::new(Place::new);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::index(&PLACE, bytes));
