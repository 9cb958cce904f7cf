//! Runs scripts. A line of a script starts with a mark:
//!
//! - `>` the client sends this, `<` the upstream sends this;
//! - `->` the upstream then gets this, `<-` the client then gets this. Without such a line, the other side
//!   gets what was sent, and the sender gets nothing;
//! - `?` the executor is asked this, `!` it is told this event, `x` the session fails with this fault, `.`
//!   nothing more is taken from the client.
//!
//! Everything is expected exactly: what is not in the script must not happen. Each script is run several
//! times: with the bytes of each line in one piece, with them in pieces of a few bytes, and with one line cut
//! in two, for every place in every line. The results must be the same.

use super::{
    executor::{Executor, Seen},
    notation,
};
use crate::postgres::{Limits, Session};

/// One thing that is sent, and all that is expected before the next.
struct Step {
    line: String,
    from_client: bool,
    bytes: Vec<u8>,
    expect: Seen,
    fault: Option<String>,
}

/// Reads a script.
fn read(script: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // Whether a `->` and a `<-` have replaced what is expected by default.
    let mut explicit = [false; 2];
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (mark, text) = line.split_once(' ').unwrap_or((line, ""));
        if matches!(mark, ">" | "<") {
            let from_client = mark == ">";
            let bytes = if from_client { notation::client(text) } else { notation::upstream(text) };
            let mut expect = Seen::default();
            if from_client {
                expect.to_upstream = bytes.clone();
            } else {
                expect.to_client = bytes.clone();
            }
            steps.push(Step { line: line.to_owned(), from_client, bytes, expect, fault: None });
            explicit = [false; 2];
            continue;
        }
        let step = steps.last_mut().expect("the first line sends something");
        let add = |to: &mut Vec<u8>, explicit: &mut bool, bytes: Vec<u8>| {
            if !std::mem::replace(explicit, true) {
                to.clear();
            }
            to.extend(bytes);
        };
        match mark {
            "->" => add(&mut step.expect.to_upstream, &mut explicit[0], notation::client(text)),
            "<-" => add(&mut step.expect.to_client, &mut explicit[1], notation::upstream(text)),
            "?" => step.expect.asked.push(text.to_owned()),
            "!" => step.expect.told.push(text.to_owned()),
            "x" => step.fault = Some(text.to_owned()),
            "." => step.expect.ended = true,
            _ => panic!("no such line: {line}"),
        }
    }
    steps
}

/// How the bytes of a script are cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Each line's bytes in one piece.
    Whole,
    /// Each line's bytes in pieces of this many.
    Every(usize),
    /// Once, after this many bytes of the whole script.
    At(usize),
}

/// Runs a script, cut in one way, up to its end or its fault.
fn run(steps: &[Step], mut executor: Executor, cut: Cut) {
    let mut position = 0;
    let mut ended = false;
    for step in steps {
        let pieces: Vec<&[u8]> = match cut {
            Cut::Whole => vec![&step.bytes],
            Cut::Every(bytes) => step.bytes.chunks(bytes).collect(),
            Cut::At(at) if (position + 1..position + step.bytes.len()).contains(&at) => {
                let (head, tail) = step.bytes.split_at(at - position);
                vec![head, tail]
            }
            Cut::At(_) => vec![&step.bytes],
        };
        position += step.bytes.len();
        for piece in pieces {
            if step.from_client { executor.client(piece) } else { executor.upstream(piece) }
        }
        let mut seen = std::mem::take(&mut executor.seen);
        let fault = seen.fault.take().map(|fault| fault.to_string());
        assert_eq!(fault, step.fault, "fault at {:?}, {cut:?}", step.line);
        // Once the session has ended, it stays so.
        ended |= step.expect.ended;
        let expect = Seen { ended: ended && seen.ended, ..step.expect.clone() };
        assert!(!step.expect.ended || seen.ended, "not ended at {:?}, {cut:?}", step.line);
        let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert_eq!(
            show(&seen.to_upstream),
            show(&expect.to_upstream),
            "to upstream at {:?}, {cut:?}",
            step.line
        );
        assert_eq!(show(&seen.to_client), show(&expect.to_client), "to client at {:?}, {cut:?}", step.line);
        assert_eq!(seen, expect, "at {:?}, {cut:?}", step.line);
        if fault.is_some() {
            return;
        }
    }
}

fn run_every_way(script: &str, start: impl Fn() -> Executor) {
    let steps = read(script);
    run(&steps, start(), Cut::Whole);
    for bytes in [1, 2, 3, 7] {
        run(&steps, start(), Cut::Every(bytes));
    }
    let total = steps.iter().map(|step| step.bytes.len()).sum();
    for at in 1..total {
        run(&steps, start(), Cut::At(at));
    }
}

/// Checks a script that starts in the command phase. Its first command is number 2: the startup was number 1.
pub(super) fn check(script: &str) {
    check_with(Limits::default(), script);
}

/// Like [`check`], with other limits.
pub(super) fn check_with(limits: Limits, script: &str) {
    run_every_way(script, || Executor::open(limits.clone()));
}

/// Checks a script that starts with the connection's first byte.
pub(super) fn check_from_start(script: &str) {
    run_every_way(script, || Executor::new(Limits::default()));
}

/// Like [`check_from_start`], with a session that `prepare` has changed first.
pub(super) fn check_prepared(prepare: impl Fn(&mut Session), script: &str) {
    run_every_way(script, || {
        let mut executor = Executor::new(Limits::default());
        prepare(&mut executor.session);
        executor
    });
}
