//! What the tests replay, for the fuzzer's programs.

#[path = "../../support/mod.rs"]
pub mod support;
#[path = "../../targets/mod.rs"]
pub mod targets;
