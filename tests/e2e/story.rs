//! The story that the demo tells.

use lineal_tests::story::{Telling, tell};

use crate::shared::own_lab;

#[test]
fn every_line_of_the_demo_story_holds() {
    let lab = own_lab();
    let mut told = Vec::new();
    // `tell` checks each outcome before it passes it on, and fails at the first that does not hold.
    tell(&lab, &mut |telling| told.push(telling)).unwrap();
    let count = |kind: fn(&Telling) -> bool| told.iter().filter(|&telling| kind(telling)).count();
    assert_eq!(count(|telling| matches!(telling, Telling::Chapter(_))), 9);
    assert_eq!(count(|telling| matches!(telling, Telling::Outcome(_))), 1 + 7 + 3 + 1 + 1 + 10 + 2 + 3 + 1);
}
