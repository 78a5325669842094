//! KRPC: requests and responses, bencoded, one netstring each.

pub mod calls;
pub mod message;
pub mod netstring;
