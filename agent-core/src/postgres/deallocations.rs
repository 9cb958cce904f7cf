//! Names that statements on their way deallocate by SQL (`DEALLOCATE name`). The upstream's answer gives no
//! name, so the names wait here, in the order of the answers.

use std::collections::VecDeque;

/// How many names wait at most. A further one is not noted: the session then keeps a statement that the
/// upstream has dropped, and the upstream refuses its use.
const NAMES_MAX: usize = 1_024;

/// Deallocated names, by command.
#[derive(Debug, Default)]
pub(super) struct Deallocations(VecDeque<(u64, Box<[u8]>)>);

impl Deallocations {
    /// Notes the names that a command deallocates, in its order. Commands come in the order of their numbers.
    pub(super) fn note(&mut self, command: u64, names: impl IntoIterator<Item = Box<[u8]>>) {
        let room = NAMES_MAX.saturating_sub(self.0.len());
        self.0.extend(names.into_iter().take(room).map(|name| (command, name)));
    }

    /// The name that the command's next answer is about; `None` if it was not noted.
    pub(super) fn next(&mut self, command: u64) -> Option<Box<[u8]>> {
        // A command that failed, or was skipped, leaves names behind.
        while self.0.front().is_some_and(|(noted, _)| *noted < command) {
            self.0.pop_front();
        }
        self.0.pop_front_if(|(noted, _)| *noted == command).map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Box<[u8]>> {
        names.iter().map(|name| name.as_bytes().into()).collect()
    }

    #[test]
    fn answers_are_about_the_names_in_their_order_and_names_of_failed_commands_are_skipped() {
        let mut noted = Deallocations::default();
        noted.note(1, names(&["a", "b"]));
        noted.note(3, names(&["c"]));
        assert_eq!(noted.next(1).as_deref(), Some(&b"a"[..]));
        assert_eq!(noted.next(2), None);
        assert_eq!(noted.next(3).as_deref(), Some(&b"c"[..]));
        assert_eq!(noted.next(3), None);
    }

    #[test]
    fn no_more_names_wait_than_the_bound() {
        let mut noted = Deallocations::default();
        noted.note(1, (0..2 * NAMES_MAX).map(|_| Box::from(&b"a"[..])));
        assert_eq!(noted.0.len(), NAMES_MAX);
    }
}
