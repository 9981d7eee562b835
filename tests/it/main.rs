//! End-to-end tests: the real daemon, the real CLI, real packages, as root and as a user.

/// Makes a test of each `fn name(who: Who)` for a daemon of root and one of a user.
macro_rules! as_root_and_user {
    ($($name:ident),* $(,)?) => {
        mod root {
            $(#[test] fn $name() {
                if piston_tests::Who::Root.possible() { super::$name(piston_tests::Who::Root); }
            })*
        }
        mod user {
            $(#[test] fn $name() {
                if piston_tests::Who::User.possible() { super::$name(piston_tests::Who::User); }
            })*
        }
    };
}

mod attacks;
mod batch;
mod cache;
mod cache_disk;
mod cli;
mod contract;
mod docs;
mod examples;
mod execute;
mod exposure;
mod extend;
mod filesystem;
mod first_steps;
mod grants;
mod groups;
mod hostile;
mod interactive;
mod isolation;
mod limits;
mod makers;
mod oci;
mod packages;
mod page;
mod piston_v2;
mod proxy;
mod published;
mod python;
mod queue;
mod recovery;
mod runners;
mod stream;
mod terminals;
mod tidy;
mod verdicts;
