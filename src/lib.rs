pub mod config;
pub mod contact;
pub mod engine;
pub mod error;
pub mod id;
pub mod khashmir;
pub mod random;
pub mod reactor;
pub mod time;
pub mod wheel;

pub use self::khashmir::{Khashmir, Operation, test_one};
pub use config::{Config, Durability};
pub use contact::Contact;
pub use engine::{ContactInfo, NodeKey, NodeOptions, OperationKey, Stats};
pub use error::*;
pub use id::{Distance, Id};
