//! An executor that cannot answer a question at once postpones it, and resumes it when it can.

use super::{executor::Executor, notation};
use crate::{
    postgres::{ClientStep, Limits, Question, Session, UpstreamStep},
    ruling::tests::permit,
};

/// A session in the command phase.
fn open() -> Session {
    Executor::open(Limits::default()).session
}

/// Takes steps of the client's half until it asks or waits. Returns what it forwards, and the number and text
/// of what it asks.
fn ask(session: &mut Session, buffer: &mut Vec<u8>) -> (Vec<u8>, Option<(u64, Vec<u8>)>) {
    let mut forwarded = Vec::new();
    loop {
        let bytes = match session.client(buffer).unwrap() {
            ClientStep::Forward(forward) => forward.bytes(),
            ClientStep::Judge { command, question, .. } => {
                return (forwarded, Some((command, text(&question))));
            }
            ClientStep::Wait | ClientStep::NeedMore { .. } => return (forwarded, None),
            other => panic!("{other:?}"),
        };
        forwarded.extend(buffer.drain(..bytes));
    }
}

fn text(question: &Question<'_>) -> Vec<u8> {
    match question {
        Question::Simple { text } => text.to_vec(),
        Question::Prepare { statement, .. } => statement.text().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_resumed_question_is_asked_again_and_what_was_allowed_before_does_not_wait_for_its_answer() {
    let mut session = open();
    let mut buffer = notation::client("Q a / Q b");
    assert_eq!(ask(&mut session, &mut buffer), (vec![], Some((2, b"a".to_vec()))));
    session.allow(permit(2)).unwrap();
    assert_eq!(ask(&mut session, &mut buffer), (vec![], Some((3, b"b".to_vec()))));
    session.postpone(3).unwrap();
    assert_eq!(ask(&mut session, &mut buffer), (notation::client("Q a"), None));
    assert_eq!(ask(&mut session, &mut buffer), (vec![], None));
    session.resume();
    assert_eq!(ask(&mut session, &mut buffer), (vec![], Some((3, b"b".to_vec()))));
    session.allow(permit(3)).unwrap();
    assert_eq!(ask(&mut session, &mut buffer), (notation::client("Q b"), None));
    session.resume();
    assert_eq!(ask(&mut session, &mut buffer), (vec![], None));
}

#[test]
fn a_question_is_not_asked_again_once_the_upstream_is_certain_to_discard_its_message() {
    let mut session = open();
    let mut buffer = notation::client("P x=a / P y=b / S");
    assert_eq!(ask(&mut session, &mut buffer).1, Some((2, b"a".to_vec())));
    session.allow(permit(2)).unwrap();
    assert_eq!(ask(&mut session, &mut buffer).1, Some((3, b"b".to_vec())));
    session.postpone(3).unwrap();
    assert_eq!(ask(&mut session, &mut buffer), (notation::client("P x=a"), None));
    let failed = notation::upstream("E 42601 no");
    assert!(matches!(session.upstream(&failed).unwrap(), UpstreamStep::Forward { .. }));
    session.resume();
    // What the upstream would discard is dropped, and the Sync behind it goes on.
    let dropped = notation::client("P y=b").len();
    let ClientStep::Replace(replace) = session.client(&buffer).unwrap() else { panic!("it is not dropped") };
    assert_eq!((replace.consumed(), replace.bytes()), (dropped, &b""[..]));
    buffer.drain(..dropped);
    assert_eq!(ask(&mut session, &mut buffer), (notation::client("S"), None));
}
