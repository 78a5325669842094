//! Seeds of tests: how one is chosen, and what is printed when it brings a failure.

use std::env::VarError;

/// The environment variable that [`seed_or`] reads.
pub const SEED_VARIABLE: &str = "KHASHMIR_SEED";

/// The seed for a test: what the environment variable `KHASHMIR_SEED` says, as a decimal number, or
/// else this one. So a failure that another seed brought can be repeated:
///
/// ```text
/// KHASHMIR_SEED=17 cargo test name_of_the_test
/// ```
///
/// # Panics
///
/// When the variable is set to something else than a number below 2⁶⁴: a test that went on with another
/// seed than was asked for would mislead.
pub fn seed_or(default: u64) -> u64 {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => match text.trim().parse() {
            Ok(seed) => seed,
            Err(_) => panic!("{SEED_VARIABLE} must be a number below 2^64, not {text:?}"),
        },
        Err(VarError::NotPresent) => default,
        Err(VarError::NotUnicode(text)) => {
            panic!("{SEED_VARIABLE} must be a number below 2^64, not {text:?}")
        }
    }
}

/// Tells the seed, and how to repeat what happened, when it is dropped in a panic.
#[derive(Debug)]
pub(super) struct Failure {
    seed: u64,
    /// None: a test, which bears the thread's name.
    pub command: Option<String>,
}

impl Failure {
    pub fn new(seed: u64) -> Self {
        Failure { seed, command: None }
    }

    pub fn text(&self) -> String {
        let seed = self.seed;
        let command = match (&self.command, std::thread::current().name()) {
            (Some(command), _) => command.clone(),
            (None, Some(name)) if name != "main" => format!("{SEED_VARIABLE}={seed} cargo test {name}"),
            (None, _) => format!("{SEED_VARIABLE}={seed}, for what takes its seed from there"),
        };
        format!("a simulation with the seed {seed} failed; to repeat it: {command}")
    }
}

impl Drop for Failure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.text());
        }
    }
}
