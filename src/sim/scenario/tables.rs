//! What the tables look like when all is over.

use super::run::Run;
use crate::contact::Contact;
use crate::id::ID_BITS;
use crate::sim::report::Depth;

/// Of how many nodes the tables are looked at, evenly spread over all.
const TABLES: usize = 1000;

impl Run<'_> {
    /// Looks at the tables of the living nodes.
    pub fn look_at_tables(&mut self) {
        let mut sorted: Vec<Contact> = self.roster.members().iter().map(|member| member.contact).collect();
        sorted.sort_unstable_by_key(|contact| contact.id);
        let k = self.scenario.config.k;
        let mut depths = vec![Depth::default(); ID_BITS];
        let own: Vec<_> = self.roster.members().iter().filter(|member| !member.foreign).collect();
        let step = own.len().div_ceil(TABLES).max(1);
        for member in own.iter().step_by(step) {
            let Some(node) = self.sim.node(member.host) else { continue };
            self.report.tables += 1;
            let id = &member.contact.id;
            for info in self.sim.engine().contacts(node) {
                let depth = id.distance(&info.contact.id).leading_zeros().min(ID_BITS - 1);
                depths[depth].contacts += 1;
                depths[depth].dead += u64::from(!self.roster.is_alive(&info.contact.id));
            }
            for (depth, others) in super::build::ranges(id, &sorted) {
                depths[depth].room += others.len().min(k) as u64;
            }
        }
        let used = depths.iter().rposition(|depth| depth.contacts + depth.room > 0).map_or(0, |last| last + 1);
        depths.truncate(used);
        self.report.table = depths;
    }
}
