//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush and Sync; and what a name means at
//! which moment.

use super::script::{check, check_with};
use crate::postgres::Limits;

#[test]
fn an_extended_query_is_asked_about_at_parse_and_execute_and_forwarded_as_sent() {
    check(
        "> P =select 1 / B < / D p / E / S
         ? prepare =select 1
         ? execute : select 1
         < 1 / 2 / T / D 1 / C SELECT 1 / Z I
         ! 2 complete
         ! 3 complete rows=1 SELECT 1
         ! ready I",
    );
}

#[test]
fn a_named_statement_is_asked_about_at_each_execute() {
    check(
        "> P x=select $1 / D sx / S
         ? prepare x=select $1
         < 1 / t / n / Z I
         ! 2 complete
         ! ready I
         > B <x 5 / E / S
         ? execute : select $1 with 5
         < 2 / D 5 / C SELECT 1 / Z I
         ! 3 complete rows=1 SELECT 1
         ! ready I
         > B <x 6 / E / B <x 7 / E / S
         ? execute : select $1 with 6
         ? execute : select $1 with 7
         < 2 / D 6 / C SELECT 1 / 2 / D 7 / C SELECT 1 / Z I
         ! 4 complete rows=1 SELECT 1
         ! 5 complete rows=1 SELECT 1
         ! ready I",
    );
}

#[test]
fn a_portal_can_be_executed_in_several_parts() {
    check(
        "> P =q / B p< / E p / H
         ? prepare =q
         ? bind p: q
         ? execute p: q
         < 1 / 2 / D 1 / D 2 / s
         ! 2 complete
         ! 3 complete
         ! 4 suspended rows=2
         > E p / C pp / S
         ? execute p: q
         < D 3 / C SELECT 1 / 3 / Z T
         ! 5 complete rows=1 SELECT 1
         ! ready T
         > E p / S
         ? execute p: or cursor p
         < E 34000 no portal / Z E
         ! 6 error 34000
         ! ready E",
    );
}

#[test]
fn an_error_skips_everything_up_to_sync() {
    check(
        "> P =bad / B < / E / Q a / F 1 / S / P =good / B < / E / S
         ? prepare =bad
         ? execute : bad
         ? simple a
         ? function 1
         ? prepare =good
         ? execute : good
         < E 42601 syntax error / Z I / 1 / 2 / C GOOD / Z I
         ! 2 error 42601
         ! 3 skipped
         ! 4 skipped
         ! 5 skipped
         ! ready I
         ! 6 complete
         ! 7 complete GOOD
         ! ready I",
    );
}

#[test]
fn messages_that_the_upstream_is_known_to_skip_are_neither_asked_about_nor_sent() {
    check(
        "> P =bad / H
         ? prepare =bad
         < E 42601 syntax error
         ! 2 error 42601
         > B < / E / Q a / S / Q b
         ? simple b
         -> S / Q b
         < Z I / C B / Z I
         ! ready I
         ! 3 complete B
         ! ready I",
    );
}

#[test]
fn a_failed_query_amid_a_pipeline_skips_nothing_behind_it() {
    check(
        "> P x=a / Q q / B <x / E / S
         ? prepare x=a
         ? simple q
         ? execute : a
         < 1 / E 22012 division by zero / Z I / 2 / C A / Z I
         ! 2 complete
         ! 3 error 22012
         ! ready I
         ! 4 complete A
         ! ready I",
    );
}

#[test]
fn a_commit_that_fails_at_sync_is_followed_by_one_ready() {
    // The second ReadyForQuery answers the second Sync.
    check(
        "> P =a / B < / E / S / S
         ? prepare =a
         ? execute : a
         < 1 / 2 / C INSERT 0 1 / E 23503 deferred / Z I / Z I
         ! 2 complete
         ! 3 complete rows=1 INSERT 0 1
         ! ready I
         ! ready I",
    );
}

#[test]
fn a_refused_parse_leaves_the_existing_statement() {
    // The hostile order: a text that is allowed, another text of the same name, which the upstream refuses as
    // a duplicate, and an Execute.
    check(
        "> P x=first / S
         ? prepare x=first
         < 1 / Z I
         ! 2 complete
         ! ready I
         > P x=second / S
         ? prepare x=second
         < E 42P05 already exists / Z I
         ! 3 error 42P05
         ! ready I
         > B <x / E / S
         ? execute : first
         < 2 / C FIRST / Z I
         ! 4 complete FIRST
         ! ready I",
    );
}

#[test]
fn an_execute_waits_until_the_replies_tell_which_of_two_texts_it_runs() {
    check(
        "> P x=first / S
         ? prepare x=first
         < 1 / Z I
         ! 2 complete
         ! ready I
         > P x=second / S / B <x / E / S
         ? prepare x=second
         -> P x=second / S
         < E 42P05 already exists
         ! 3 error 42P05
         ? execute : first
         -> B <x / E / S
         < Z I / 2 / C FIRST / Z I
         ! ready I
         ! 4 complete FIRST
         ! ready I",
    );
    check(
        "> P x=first / S / C sx / P x=second / S / B <x / E / S
         ? prepare x=first
         ? prepare x=second
         -> P x=first / S / C sx / P x=second / S
         < 1 / Z I / 3 / 1
         ! 2 complete
         ! ready I
         ! 3 complete
         ? execute : second
         -> B <x / E / S",
    );
}

#[test]
fn an_execute_waits_for_a_portal_of_an_unanswered_segment() {
    check(
        "> P =a / B p< / S / E p / S
         ? prepare =a
         ? bind p: a
         -> P =a / B p< / S
         < 1 / 2
         ! 2 complete
         ! 3 complete
         ? execute p: a
         -> E p / S
         < Z T / C A / Z T
         ! ready T
         ! 4 complete A
         ! ready T",
    );
}

#[test]
fn an_execute_runs_the_newest_text_of_its_segment() {
    check(
        "> P =a / B < / E / P =b / B < / E / S
         ? prepare =a
         ? execute : a
         ? prepare =b
         ? execute : b
         < 1 / 2 / C A / 1 / 2 / C B / Z I
         ! 2 complete
         ! 3 complete A
         ! 4 complete
         ! 5 complete B
         ! ready I",
    );
}

#[test]
fn a_portal_keeps_the_statement_it_was_bound_to() {
    check(
        "> P =a / B p< / P =b / E p / S
         ? prepare =a
         ? bind p: a
         ? prepare =b
         ? execute p: a
         < 1 / 2 / 1 / C A / Z I
         ! 2 complete
         ! 3 complete
         ! 4 complete
         ! 5 complete A
         ! ready I",
    );
}

#[test]
fn portals_end_with_their_transaction() {
    check(
        "> P =a / B p< / E p / S
         ? prepare =a
         ? bind p: a
         ? execute p: a
         < 1 / 2 / C A / Z I
         ! 2 complete
         ! 3 complete
         ! 4 complete A
         ! ready I
         > E p / S
         ? execute p: or cursor p
         < E 34000 no portal / Z I
         ! 5 error 34000
         ! ready I",
    );
}

#[test]
fn an_unnamed_parse_that_fails_leaves_no_unnamed_statement() {
    check(
        "> P =a / S
         ? prepare =a
         < 1 / Z I
         ! 2 complete
         ! ready I
         > P =bad / S
         ? prepare =bad
         < E 42601 syntax / Z I
         ! 3 error 42601
         ! ready I
         > B < / E / S
         ? execute :
         -> B < / E! / S
         < E 26000 no unnamed statement / Z I
         ! 4 skipped
         ! ready I",
    );
}

#[test]
fn a_named_portal_is_asked_about_at_bind_because_sql_can_run_it() {
    check(
        "> P =a / B p< 5 / S / Q fetch all from p
         ? prepare =a
         ? bind p: a with 5
         ? simple fetch all from p
         < 1 / 2 / Z T / T / D 5 / C FETCH 1 / Z T
         ! 2 complete
         ! 3 complete
         ! ready T
         ! 4 complete rows=1 FETCH 1
         ! ready T",
    );
}

#[test]
fn names_unknown_to_the_protocol_are_asked_about_as_made_by_sql() {
    check(
        "> B p<y / E p / E c / S
         ? bind p: or prepared y
         ? execute p: or prepared y
         ? execute c: or cursor c",
    );
}

#[test]
fn sql_that_executes_a_name_is_asked_about_once_the_name_is_answered() {
    check(
        "> P x=a / S / Q execute x 1
         -> P x=a / S
         ? prepare x=a
         < 1 / Z I
         -> Q execute x 1
         ! 2 complete
         ! ready I
         ? simple execute x 1",
    );
}

#[test]
fn a_name_that_sql_may_have_reused_has_both_meanings() {
    check(
        "> P x=a / S
         ? prepare x=a
         < 1 / Z I
         ! 2 complete
         ! ready I
         > Q deallocate x; prepare x as b / B <x / E / S
         ? simple deallocate x; prepare x as b
         ? execute : a or prepared x
         < C DEALLOCATE / C PREPARE / Z I / 2 / C B / Z I
         ! 3 deallocated x
         ! 3 complete PREPARE
         ! ready I
         ! 4 complete B
         ! ready I
         > C sx / P x=c / B <x / E / S
         ? prepare x=c
         ? execute : c
         < 3 / 1 / 2 / C C / Z I
         ! 5 complete
         ! 6 complete C
         ! ready I",
    );
}

#[test]
fn a_cursor_declared_under_a_portals_name_is_a_candidate() {
    check(
        "> P =a / B p< / Q close p; declare p cursor for b / E p / S
         ? prepare =a
         ? bind p: a
         ? simple close p; declare p cursor for b
         ? execute p: a or cursor p",
    );
}

#[test]
fn a_pipeline_beyond_the_bound_is_flushed_and_waits() {
    let limits = Limits { pipeline_max: 2, ..Limits::default() };
    check_with(
        limits,
        "> P =a / B < / E / P =b / B < / E / S
         ? prepare =a
         ? execute : a
         -> P =a / B < / E / H
         < 1
         ! 2 complete
         < 2
         ? prepare =b
         -> P =b / B < / H
         < C A
         ! 3 complete A
         < 1 / 2
         ! 4 complete
         ? execute : b
         -> E / S",
    );
}

#[test]
fn statements_beyond_the_bound_are_denied_and_closing_makes_room() {
    let limits = Limits { statements_max: 1, ..Limits::default() };
    check_with(
        limits,
        "> P x=a / P y=b / S
         ? prepare x=a
         ? excess Statements
         -> P x=a / P! y / S
         < 1 / E 42883 no such function / Z I
         <- 1 / E 42501 lineal: denied: too many prepared statements: deallocate some / Z I
         ! 2 complete
         ! 3 denied
         ! ready I
         > C sx / S
         < 3 / Z I
         ! ready I
         > P y=b / S
         ? prepare y=b",
    );
}

#[test]
fn a_close_without_room_to_note_it_leaves_a_later_statement_of_that_name() {
    // While x takes the only place, the Close of y cannot be noted. Its CloseComplete comes after a Parse
    // of y has been sent, and must not remove that statement.
    let limits = Limits { statements_max: 1, ..Limits::default() };
    check_with(
        limits,
        "> P x=a / S
         ? prepare x=a
         < 1 / Z I
         ! 2 complete
         ! ready I
         > C sx / C sy / H
         < 3
         > P y=b / H
         ? prepare y=b
         < 3
         < 1
         ! 3 complete
         > B <y / E / S
         ? execute : b",
    );
}

#[test]
fn deallocating_makes_room() {
    let limits = Limits { statements_max: 1, ..Limits::default() };
    for (text, tag, name) in [
        ("deallocate x", "DEALLOCATE", "x"),
        ("deallocate all", "DEALLOCATE ALL", "all"),
        ("discard all", "DISCARD ALL", "all"),
    ] {
        check_with(
            limits.clone(),
            &format!(
                "> P x=a / S
                 ? prepare x=a
                 < 1 / Z I
                 ! 2 complete
                 ! ready I
                 > Q {text}
                 ? simple {text}
                 < C {tag} / Z I
                 ! 3 deallocated {name}
                 ! 3 complete {tag}
                 ! ready I
                 > P y=b / S
                 ? prepare y=b"
            ),
        );
    }
}

#[test]
fn a_name_that_a_pipeline_deallocates_and_makes_again_is_the_new_statement() {
    check(
        "> P x=a / S
         ? prepare x=a
         < 1 / Z I
         ! 2 complete
         ! ready I
         > Q deallocate x / P x=b / S
         ? simple deallocate x
         ? prepare x=b
         < C DEALLOCATE / Z I
         ! 3 deallocated x
         ! 3 complete DEALLOCATE
         ! ready I
         < 1 / Z I
         ! 4 complete
         ! ready I
         > B <x / E / S
         ? execute : b",
    );
}

#[test]
fn texts_beyond_the_bound_are_denied_and_closing_makes_room() {
    let limits = Limits { kept_bytes_max: 10, parameters_bytes_max: 0, ..Limits::default() };
    check_with(
        limits,
        "> P x=12345678 / P y=1234 / S
         ? prepare x=12345678
         ? excess KeptBytes
         -> P x=12345678 / P! y / S
         < 1 / E 42883 no such function / Z I
         <- 1
         <- E 42501 lineal: denied: the session's prepared statements take too much memory: close some
         <- Z I
         ! 2 complete
         ! 3 denied
         ! ready I
         > C sx / S
         < 3 / Z I
         ! ready I
         > P y=1234 / S
         ? prepare y=1234",
    );
}

#[test]
fn a_bind_too_long_to_keep_is_streamed_and_asked_about_without_values() {
    let limits = Limits { parameters_bytes_max: 30, ..Limits::default() };
    let long = "v".repeat(2000);
    check_with(
        limits,
        &format!(
            "> P x=a / B <x {long} / E / B <x short / E / S
             ? prepare x=a
             ? execute : a
             ? execute : a with short"
        ),
    );
}

#[test]
fn a_parse_beyond_the_length_bound_is_denied_under_its_name() {
    let limits = Limits { message_bytes_max: 64, ..Limits::default() };
    let long = "x".repeat(400);
    check_with(
        limits,
        &format!(
            "> P x={long} / B <x / E / S
             ? excess Parse
             -> P! x / S
             < E 42883 no such function / Z I
             <- E 42501 lineal: denied: the message has more than 16 MiB: send it in parts / Z I
             ! 2 denied
             ! ready I"
        ),
    );
}
