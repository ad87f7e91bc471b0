//! Whether the server can do its work yet, part by part.

use std::sync::{Arc, PoisonError, RwLock};

/// The state of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartState {
    Starting,
    Running,
    /// It works no more, or not as it should; the text says why.
    Failed(String),
    Stopping,
}

/// The parts of the server with their state. Cloning gives a handle to the same one.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    parts: Arc<RwLock<Vec<(&'static str, PartState)>>>,
}

impl Readiness {
    /// Every part is starting.
    #[must_use]
    pub fn new(parts: &[&'static str]) -> Self {
        let parts = parts.iter().map(|name| (*name, PartState::Starting)).collect();
        Readiness { parts: Arc::new(RwLock::new(parts)) }
    }

    /// Notes the state of a part; a name that is not known yet is added.
    pub fn set(&self, part: &'static str, state: PartState) {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        match parts.iter_mut().find(|(name, _)| *name == part) {
            Some((_, old)) => *old = state,
            None => parts.push((part, state)),
        }
    }

    /// Notes the state of all parts at once.
    pub fn set_all(&self, state: &PartState) {
        for (_, old) in self.parts.write().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            *old = state.clone();
        }
    }

    /// Whether every part runs. Without parts nothing is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        !parts.is_empty() && parts.iter().all(|(_, state)| *state == PartState::Running)
    }

    /// The parts in the order in which they were named.
    #[must_use]
    pub fn parts(&self) -> Vec<(&'static str, PartState)> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_every_part_runs() {
        let readiness = Readiness::new(&["storage", "rules"]);
        assert!(!Readiness::default().is_ready());
        readiness.set("storage", PartState::Running);
        assert!(!readiness.is_ready());
        readiness.set("rules", PartState::Running);
        assert!(readiness.is_ready());
        readiness.set_all(&PartState::Stopping);
        assert!(!readiness.is_ready());
    }
}
