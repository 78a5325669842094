//! The examples, as programs to be run by tests.

use std::path::PathBuf;
use std::process::Command;

/// Builds an example, in the profile of this test, and says where it is. (Cargo
/// does not build examples for a single test.)
pub fn example(name: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--message-format=json", "--example", name]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if cfg!(feature = "offload") {
        cargo.args(["--features", "offload"]);
    }
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let wanted = message["target"]["name"] == name && message["target"]["kind"][0] == "example";
        wanted.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executable.expect("cargo says where the example is")
}
