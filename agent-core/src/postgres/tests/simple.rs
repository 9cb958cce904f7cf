//! The simple protocol: Query and FunctionCall; and what the upstream may send at any time.

use super::script::{check, check_with};
use crate::postgres::Limits;

#[test]
fn a_query_is_forwarded_after_it_is_allowed() {
    check(
        "> Q select 1
         ? simple select 1
         < T / D 1 / C SELECT 1 / Z I
         ! 2 complete rows=1 SELECT 1
         ! ready I",
    );
}

#[test]
fn a_query_may_have_many_results() {
    check(
        "> Q insert; select; copy out;
         ? simple insert; select; copy out;
         < C INSERT 0 2 / T / D 1 / D 2 / D 3 / C SELECT 3 / H / d a / d b / c / C COPY 2 / Z T
         ! 2 complete rows=7 COPY 2
         ! ready T",
    );
}

#[test]
fn an_empty_query_is_answered_by_empty_query_response() {
    check(
        "> Q
         ? simple
         < I / Z I
         ! 2 complete
         ! ready I",
    );
}

#[test]
fn queries_can_be_pipelined() {
    check(
        "> Q a / Q b
         ? simple a
         ? simple b
         < E 42601 syntax / Z I / C B / Z I
         ! 2 error 42601
         ! ready I
         ! 3 complete B
         ! ready I",
    );
}

#[test]
fn rows_sent_before_an_error_are_counted() {
    check(
        "> Q select
         ? simple select
         < T / D 1 / D 2 / E 22012 division by zero / Z E
         ! 2 error 22012 rows=2
         ! ready E",
    );
}

#[test]
fn notices_notifications_and_settings_are_forwarded_at_any_time() {
    check(
        "< N notice / A notification / PS application_name=x
         > Q select 1
         ? simple select 1
         < N notice / T / A notification / D 1 / PS a=b / C SELECT 1 / N n / Z I
         ! 2 complete rows=1 SELECT 1
         ! ready I",
    );
}

#[test]
fn a_fatal_error_may_come_at_any_time_and_nothing_may_follow_it() {
    check(
        "< FATAL 57P01 terminating connection due to administrator command
         ! fatal 57P01
         < Z I
         <-
         x upstream: the upstream went on after a FATAL error",
    );
    check(
        "> Q select 1
         ? simple select 1
         < T / D 1 / FATAL 57P01 terminating connection
         ! fatal 57P01",
    );
}

#[test]
fn a_setting_that_changes_how_text_is_read_ends_the_session_before_the_next_command() {
    check(
        "> Q set client_encoding to sjis
         ? simple set client_encoding to sjis
         < C SET / PS client_encoding=SJIS / Z I
         <- C SET
         x upstream: setting client_encoding is SJIS: lineal reads statements only under UTF8 or SQL_ASCII",
    );
}

#[test]
fn a_function_call_is_asked_about_by_its_oid() {
    check(
        "> F 1598
         ? function 1598
         < V 1 / Z I
         ! 2 complete
         ! ready I
         > F 1598
         ? function 1598
         < E 42501 no / Z I
         ! 3 error 42501
         ! ready I",
    );
}

#[test]
fn terminate_is_forwarded_and_nothing_after_it() {
    check(
        "> Q a / X / Q b
         ? simple a
         -> Q a / X
         .
         < C A / Z I
         ! 2 complete A
         ! ready I
         .",
    );
}

#[test]
fn a_query_beyond_the_length_bound_is_denied_even_if_allowed() {
    let limits = Limits { message_bytes_max: 64, ..Limits::default() };
    let long = "x".repeat(400);
    check_with(
        limits,
        &format!(
            "> Q {long} / Q b
             ? excess Query
             ? simple b
             -> Q! / Q b
             < E 42883 no such function / Z I / C B / Z I
             <- E 42501 lineal: denied: the message has more than 16 MiB: send it in parts / Z I
             <- C B / Z I
             ! 2 denied
             ! ready I
             ! 3 complete B
             ! ready I"
        ),
    );
}
