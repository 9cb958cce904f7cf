//! Denials: poison is sent, its error is rewritten, and client and upstream stay in step.

use super::{executor::Executor, notation, script::check};
use crate::{
    postgres::{ClientStep, Denial, Limits, Session},
    ruling::tests::{permit, preparation},
};

#[test]
fn a_denied_query_is_refused_by_the_upstream_and_the_client_reads_the_denial() {
    check(
        "> Q deny
         ? simple deny
         -> Q!
         < E 42883 function pg_catalog.lineal_denied_() does not exist / Z I
         <- DENIED / Z I
         ! 2 denied
         ! ready I
         > Q a
         ? simple a
         < C A / Z I
         ! 3 complete A
         ! ready I",
    );
}

#[test]
fn in_a_failed_transaction_the_client_reads_the_denial_too() {
    check(
        "> Q deny
         ? simple deny
         -> Q!
         < E 25P02 current transaction is aborted / Z E
         <- DENIED / Z E
         ! 2 denied
         ! ready E",
    );
}

#[test]
fn a_denied_parse_is_refused_and_the_rest_of_its_segment_never_sent() {
    check(
        "> P x=deny / B <x / D p / E / Q drop / S / P =a / B < / E / S
         ? prepare x=deny
         ? prepare =a
         ? execute : a
         -> P! x / S / P =a / B < / E / S
         < E 42883 no such function / Z I / 1 / 2 / C A / Z I
         <- DENIED / Z I / 1 / 2 / C A / Z I
         ! 2 denied
         ! ready I
         ! 3 complete
         ! 4 complete A
         ! ready I",
    );
}

#[test]
fn a_statement_allowed_once_may_be_denied_later() {
    check(
        "> P x=later / B <x / E / S
         ? prepare x=later
         ? execute : later
         -> P x=later / B <x / E! / S
         < 1 / 2 / E 34000 portal does not exist / Z I
         <- 1 / 2 / DENIED / Z I
         ! 2 complete
         ! 3 denied
         ! ready I",
    );
}

#[test]
fn a_denied_bind_makes_no_portal_and_the_rest_of_its_segment_is_never_sent() {
    check(
        "> P x=unbound / B p<x long / E p / S / B <x / E / S
         ? prepare x=unbound
         ? bind p: unbound with long
         -> P x=unbound / B! / S
         < 1 / E 26000 no such statement / Z I
         <- 1 / DENIED / Z I
         ! 2 complete
         ! 3 denied
         ! ready I
         ? execute : unbound
         -> B <x / E / S
         < 2 / C A / Z I
         ! 4 complete A
         ! ready I",
    );
}

#[test]
fn a_denial_fails_in_the_upstream_before_the_pipelines_sync() {
    // The upstream itself meets the error before the Sync, so it rolls back the earlier commands.
    check(
        "> P =insert / B < / E / P =deny / B < / E / S
         ? prepare =insert
         ? execute : insert
         ? prepare =deny
         -> P =insert / B < / E / P! / S
         < 1 / 2 / C INSERT 0 1 / E 42883 no such function / Z I
         <- 1 / 2 / C INSERT 0 1 / DENIED / Z I
         ! 2 complete
         ! 3 complete rows=1 INSERT 0 1
         ! 4 denied
         ! ready I",
    );
}

#[test]
fn a_genuine_error_in_front_of_a_denial_is_forwarded_unchanged() {
    check(
        "> P =bad / P =deny / S
         ? prepare =bad
         ? prepare =deny
         -> P =bad / P! / S
         < E 42601 syntax error / Z I
         ! 2 error 42601
         ! 3 skipped
         ! ready I",
    );
}

#[test]
fn a_denied_function_call_is_refused() {
    check(
        "> F 666
         ? function 666
         -> F!
         < E 42883 function with OID 0 does not exist / Z I
         <- DENIED / Z I
         ! 2 denied
         ! ready I",
    );
}

#[test]
fn a_denied_query_amid_a_pipeline_fails_alone() {
    check(
        "> P x=a / Q deny / B <x / E / S
         ? prepare x=a
         ? simple deny
         ? execute : a
         -> P x=a / Q! / B <x / E / S
         < 1 / E 42883 no / Z I / 2 / C A / Z I
         <- 1 / DENIED / Z I / 2 / C A / Z I
         ! 2 complete
         ! 3 denied
         ! ready I
         ! 4 complete A
         ! ready I",
    );
}

#[test]
fn a_denied_parse_leaves_the_earlier_statement_of_that_name() {
    check(
        "> P x=a / S
         ? prepare x=a
         < 1 / Z I
         ! 2 complete
         ! ready I
         > P x=deny / S / B <x / E / S
         ? prepare x=deny
         ? execute : a
         -> P! x / S / B <x / E / S
         < E 42883 no / Z I / 2 / C A / Z I
         <- DENIED / Z I / 2 / C A / Z I
         ! 3 denied
         ! ready I
         ! 4 complete A
         ! ready I",
    );
}

#[test]
fn a_fatal_error_is_never_rewritten() {
    check(
        "> Q deny
         ? simple deny
         -> Q!
         < FATAL 57P01 terminating connection
         ! fatal 57P01",
    );
}

#[test]
fn poison_that_the_upstream_accepts_ends_the_session() {
    let fault = "upstream: the upstream accepted the poison that was sent in place of a denied command";
    check(&format!("> Q deny\n ? simple deny\n -> Q!\n < T\n <-\n x {fault}"));
    check(&format!("> Q deny\n ? simple deny\n -> Q!\n < C SELECT 1\n <-\n x {fault}"));
    check(&format!("> P =deny\n ? prepare =deny\n -> P!\n < 1\n <-\n x {fault}"));
    check(&format!(
        "> E x
         ? execute x: or cursor x
         > F 666
         ? function 666
         -> F!
         < D 1 / C X / V
         <- D 1 / C X
         ! 2 complete rows=1 X
         x {fault}"
    ));
}

#[test]
fn behind_a_failed_copy_the_client_of_a_denied_query_still_reads_the_denial() {
    // The COPY may have dropped the Sync or not: the poison's error is recognised in both cases.
    let start = "> Q copy in
         ? simple copy in
         < G
         > d x / S / c / Q deny
         ? simple deny
         -> d x / S / c / Q!
         < E 22P02 bad data / Z I
         ! 2 error 22P02
         ! ready I";
    let end = "< E 42883 no / Z I
         <- DENIED / Z I
         ! 3 denied
         ! ready I";
    check(&format!("{start}\n{end}"));
    check(&format!("{start}\n< Z I\n! ready I\n{end}"));
}

#[test]
fn a_denial_shows_its_detail_and_hint_and_nothing_of_the_poisons_error() {
    let mut executor = Executor::open(Limits::default());
    let query = notation::client("Q x");
    let session = &mut executor.session;
    let Ok(ClientStep::Judge { command, .. }) = session.client(&query) else { panic!() };
    let denial = Denial {
        detail: Some("table shop.public.customers".into()),
        hint: Some("ask".into()),
        ..Denial::new("lineal: denied by policy p: r")
    };
    session.deny(command, denial).unwrap();
    let Ok(ClientStep::Replace(replace)) = session.client(&query) else { panic!() };
    let (consumed, upstream) = (replace.consumed(), replace.bytes());
    assert_eq!((consumed, upstream), (query.len(), &notation::client("Q!")[..]));
    let mut error =
        b"SERROR\0VERROR\0C42883\0Mfunction pg_catalog.lineal_denied_() does not exist\0".to_vec();
    error.extend(b"HNo function matches\0P8\0Fparse_func.c\0L629\0RParseFuncOrColumn\0\0");
    let mut message = Vec::new();
    crate::postgres::wire::put(&mut message, b'E', &[&error]);
    executor.upstream(&message);
    let shown = executor.seen.to_client.escape_ascii().to_string();
    assert!(
        shown.ends_with(
            "SERROR\\x00VERROR\\x00C42501\\x00Mlineal: denied by policy p: r\\x00\
         Dtable shop.public.customers\\x00Hask\\x00\\x00"
        ),
        "{shown}"
    );
}

#[test]
fn bytes_in_front_of_a_held_command_can_be_sent_before_its_ruling() {
    let mut executor = Executor::open(Limits::default());
    let session: &mut Session = &mut executor.session;
    let (front, held) = (notation::client("P =a"), notation::client("E / S"));
    let mut buffer = [front.clone(), held.clone()].concat();
    let Ok(ClientStep::Judge { command, .. }) = session.client(&buffer) else { panic!() };
    session.allow_preparation(preparation(command)).unwrap();
    let Ok(ClientStep::Judge { command, ready_bytes, .. }) = session.client(&buffer) else { panic!() };
    assert_eq!(ready_bytes, front.len());
    assert_eq!(session.take_ready(), front.len());
    buffer.drain(..front.len());
    assert!(matches!(session.client(&buffer), Ok(ClientStep::Wait)));
    session.allow(permit(command)).unwrap();
    let Ok(ClientStep::Forward(forward)) = session.client(&buffer) else { panic!() };
    assert_eq!(forward.bytes(), held.len());
}
