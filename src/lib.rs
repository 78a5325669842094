pub mod config;
pub mod contact;
pub mod error;
pub mod id;
pub mod random;
pub mod store;
pub mod time;

pub use config::{Config, Durability};
pub use contact::Contact;
pub use error::*;
pub use id::{Distance, Id};
