//! Addresses of ours that peers see.

use std::net::IpAddr;

use super::Mux;
use crate::airhook::channel::Channel;
use crate::context::{Context, Key};

/// All of them: a host has few, and so a connection keeps no more than a place in this list, counted
/// from 1; 0: not asked for yet.
#[derive(Debug, Default)]
pub(super) struct Locals(Vec<IpAddr>);

impl Locals {
    fn get(&self, place: u8) -> Option<IpAddr> {
        self.0.get(usize::from(place).checked_sub(1)?).copied()
    }

    /// The place of this one; 0 when there are too many.
    fn place(&mut self, local: IpAddr) -> u8 {
        let known = self.0.iter().position(|&known| known == local);
        let place = known.unwrap_or(self.0.len());
        let Ok(number) = u8::try_from(place + 1) else {
            return 0;
        };
        if known.is_none() {
            self.0.push(local);
        }
        number
    }
}

impl<C: Channel> Mux<C> {
    /// The address of ours that this peer sees, by the route to it.
    pub fn local(&mut self, key: Key, ctx: &Context<'_>) -> Option<IpAddr> {
        let entry = self.get(key)?;
        if let Some(local) = self.locals.get(entry.watch.local) {
            return Some(local);
        }
        let local = ctx.routes.local_address(entry.addr.ip())?;
        let place = self.locals.place(local);
        self.get_mut(key)?.watch.local = place;
        Some(local)
    }
}
