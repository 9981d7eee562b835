//! The bodies of the fuzz targets, run on their corpus and on changed copies of what they begin
//! with: so that targets and corpus stay in order, and what fuzzing has found stays mended.

#[path = "../../tests/fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::path::Path;

use bodies::Place;

/// Runs a body on the corpus of a target and on seeds of which bytes were changed.
fn run(target: &str, seeds: &[Vec<u8>], body: fn(&Place, &[u8])) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let place = Place::within(scratch.path());
    let corpus = Path::new("../tests/fuzz/corpus").join(target);
    let mut cases = 0;
    for entry in fs::read_dir(&corpus).expect("a corpus") {
        body(
            &place,
            &fs::read(entry.expect("an entry").path()).expect("a case"),
        );
        cases += 1;
    }
    assert!(cases > 0, "the corpus of {target} is empty");
    for seed in seeds {
        body(&place, seed);
        for at in 0..seed.len() {
            let mut changed = seed.clone();
            changed[at] ^= 1 << (at % 8);
            body(&place, &changed);
        }
        for end in (0..seed.len()).step_by(7) {
            body(&place, &seed[..end]);
        }
    }
}

/// Seeds of a target whose first byte chooses a sound image.
fn chosen(seeds: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let choose = |(number, seed): (usize, Vec<u8>)| {
        let mut chosen = vec![u8::try_from(number).expect("a few")];
        chosen.extend(seed);
        chosen
    };
    seeds.into_iter().enumerate().map(choose).collect()
}

#[test]
fn the_verifier_refuses_or_gives_a_sound_tree_whatever_the_image() {
    run("verifier", &Place::images(), bodies::verifier);
}

#[test]
fn the_index_reader_refuses_or_gives_a_sound_tree_whatever_the_index() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let seeds = chosen(Place::within(scratch.path()).indexes());
    run("index", &seeds, bodies::index);
}

#[test]
fn the_block_reader_gives_the_exact_length_or_an_error_whatever_the_block() {
    run("block", &chosen(Place::images()), bodies::block);
}
