pub mod airhook;
pub mod bencode;
pub mod config;
pub mod contact;
pub mod context;
pub mod error;
pub mod id;
pub mod krpc;
pub mod lookup;
pub mod publish;
pub mod random;
pub mod table;
pub mod time;
pub mod wheel;

pub use config::{Config, Durability};
pub use contact::Contact;
pub use error::*;
pub use id::{Distance, Id};
