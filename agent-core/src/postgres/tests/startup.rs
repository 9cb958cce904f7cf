//! Startup: from the first byte to the first ReadyForQuery.

use super::{
    executor::Executor,
    notation,
    script::{check_from_start, check_prepared},
};
use crate::postgres::Limits;

const SETTINGS: &str = "PS client_encoding=UTF8 / PS standard_conforming_strings=on";

#[test]
fn a_startup_is_asked_about_before_anything_is_sent_upstream() {
    check_from_start(
        "> START user=ada database=shop
         ? startup ada shop
         < R 0 / PS client_encoding=UTF8 / PS standard_conforming_strings=on / K 7 secret / Z I
         ! key secret
         ! ready I
         > X
         .",
    );
}

#[test]
fn a_denied_startup_gets_a_fatal_error_and_is_never_forwarded() {
    check_from_start(
        "> START user=deny
         ? startup deny deny
         ->
         <- FATAL 42501 lineal: denied by policy test: no
         .
         > Q select 1
         ->
         .",
    );
}

#[test]
fn encryption_is_declined_and_startup_goes_on() {
    check_from_start(
        "> GSS
         ->
         <- NO
         > SSL
         ->
         <- NO
         > START user=ada
         ? startup ada ada",
    );
}

#[test]
fn scram_is_relayed_byte_for_byte() {
    check_from_start(&format!(
        "> START user=ada
         ? startup ada ada
         < R 10 SCRAM-SHA-256
         > p client-first
         < R 11 server-first
         > p client-final
         < R 12 server-final / R 0 / {SETTINGS} / Z I
         ! ready I"
    ));
}

#[test]
fn an_authentication_failure_is_forwarded() {
    check_from_start(
        "> START user=ada
         ? startup ada ada
         < R 3
         > p wrong
         < FATAL 28P01 password authentication failed
         ! fatal 28P01",
    );
}

#[test]
fn commands_sent_early_wait_for_the_end_of_startup() {
    check_from_start(&format!(
        "> START user=ada
         ? startup ada ada
         > Q select 1
         ->
         < R 0
         < {SETTINGS}
         < Z I
         ! ready I
         ? simple select 1
         -> Q select 1"
    ));
}

#[test]
fn a_command_in_place_of_a_password_ends_the_session() {
    check_from_start(
        "> START user=ada
         ? startup ada ada
         < R 5 salt
         > Q select 1
         ->
         x client: unexpected message of type Q during authentication",
    );
}

#[test]
fn a_cancel_request_is_handed_over_with_its_key() {
    check_from_start(
        "> CANCEL 7 secret
         ->
         ? cancel secret
         > RAW x
         ->
         .",
    );
}

#[test]
fn settings_are_understood_however_the_upstream_spells_them() {
    for settings in [
        "PS client_encoding=UNICODE / PS standard_conforming_strings=on",
        "PS client_encoding=utf-8 / PS standard_conforming_strings=true",
        "PS client_encoding=SQL_ASCII / PS standard_conforming_strings=ON",
    ] {
        check_from_start(&format!(
            "> START user=ada
             ? startup ada ada
             < R 0 / {settings} / K 7 secret / Z I
             ! key secret
             ! ready I"
        ));
    }
}

#[test]
fn settings_that_change_how_text_is_read_end_the_session() {
    for (setting, fault) in [
        (
            "client_encoding=SJIS",
            "setting client_encoding is SJIS: lineal reads statements only under UTF8 or SQL_ASCII",
        ),
        (
            "standard_conforming_strings=off",
            "setting standard_conforming_strings is off: lineal reads statements only under on",
        ),
    ] {
        check_from_start(&format!(
            "> START user=ada
             ? startup ada ada
             < R 0
             < PS {setting}
             <-
             x upstream: {fault}"
        ));
    }
}

#[test]
fn an_upstream_must_report_how_it_reads_text() {
    check_from_start(
        "> START user=ada
         ? startup ada ada
         < R 0 / PS client_encoding=UTF8
         < Z I
         <-
         x upstream: the upstream did not report its setting standard_conforming_strings",
    );
}

#[test]
fn protocol_versions_and_options_are_negotiated_down() {
    check_from_start(&format!(
        "> START9 user=ada _pq_.x=1 _pq_.y=2
         ? startup ada ada
         < v 2 _pq_.x _pq_.y
         < R 0 / {SETTINGS} / Z I
         ! ready I"
    ));
}

#[test]
fn a_protocol_that_lineal_does_not_know_ends_the_session() {
    let check = |start: &str, upstream: &str, fault: &str| {
        check_from_start(&format!(
            "> {start}
             ? startup ada ada
             < {upstream}
             <-
             x upstream: protocol negotiation: {fault}"
        ));
    };
    check("START9 user=ada", "R 0", "it took a version newer than 3.2");
    check("START9 user=ada", "v 5", "it settled on a version newer than 3.2");
    check("START user=ada _pq_.x=1", "R 0", "it took a protocol option");
}

#[test]
fn an_upstream_that_sends_before_the_startup_message_ends_the_session() {
    check_from_start(
        "< R 0
         <-
         x upstream: the upstream sent a message of type R while nothing had been sent to it",
    );
}

#[test]
fn authentication_methods_that_cannot_be_relayed_end_the_session() {
    check_from_start(
        "> START user=ada
         ? startup ada ada
         < R 2
         <-
         x upstream: authentication request 2 is not supported",
    );
}

#[test]
fn tls_is_granted_if_offered_and_startup_goes_on_inside() {
    check_prepared(
        |session| session.offer_tls(),
        "> GSS
         ->
         <- NO
         > SSL
         ->
         ? tls
         > START user=ada
         ? startup ada ada",
    );
}

#[test]
fn encryption_requests_inside_tls_are_refused() {
    for request in ["SSL", "GSS"] {
        check_prepared(
            |session| session.begun_with_tls(),
            &format!(
                "> {request}
                 ->
                 x client: encryption was requested more than once"
            ),
        );
    }
}

#[test]
fn a_cancel_request_may_come_through_tls() {
    check_prepared(
        |session| session.offer_tls(),
        "> SSL
         ->
         ? tls
         > CANCEL 7 secret
         ->
         ? cancel secret",
    );
}

/// A list of mechanisms, one of them with channel binding.
const WITH_BINDING: &str = "SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256";

// Only the client's first SASL message begins with a GS2 header (RFC 5802, section 7), here `n,,`: a `y`
// at the beginning of the second says nothing about channel binding.
#[test]
fn channel_binding_is_withheld_from_a_client_that_sees_another_certificate() {
    check_prepared(
        |session| session.upstream_encrypted(),
        &format!(
            "> START user=ada
             ? startup ada ada
             < v 0 / {WITH_BINDING}
             <- v 0 / SASL SCRAM-SHA-256
             > SASL SCRAM-SHA-256 n,,n=,r=abc
             < R 11 server-first
             > p y is no header here
             < R 12 server-final / R 0 / {SETTINGS} / Z I
             ! ready I"
        ),
    );
}

#[test]
fn a_client_that_insists_on_channel_binding_is_told_the_remedy() {
    for choice in ["SCRAM-SHA-256 y,,n=,r=abc", "SCRAM-SHA-256-PLUS p=tls-server-end-point,,n=,r=abc"] {
        check_prepared(
            |session| session.upstream_encrypted(),
            &format!(
                "> START user=ada
                 ? startup ada ada
                 < {WITH_BINDING}
                 <- SASL SCRAM-SHA-256
                 > SASL {choice}
                 ->
                 x client: the client uses SCRAM channel binding, which cannot hold through a proxy: connect \
                 with channel_binding=disable (PGCHANNELBINDING=disable), or have the administrator \
                 configure a login for this upstream"
            ),
        );
    }
}

#[test]
fn the_clients_choice_is_not_checked_if_no_mechanism_was_withheld() {
    let script = |offered: &str| {
        format!(
            "> START user=ada
             ? startup ada ada
             < {offered}
             > SASL SCRAM-SHA-256 y,,n=,r=abc"
        )
    };
    check_prepared(|session| session.upstream_encrypted(), &script("SASL SCRAM-SHA-256"));
    check_from_start(&script(WITH_BINDING));
}

#[test]
fn an_upstream_that_insists_on_channel_binding_cannot_be_relayed() {
    check_prepared(
        |session| session.upstream_encrypted(),
        "> START user=ada
         ? startup ada ada
         < SASL SCRAM-SHA-256-PLUS
         <-
         x upstream: the upstream authenticates by SCRAM-SHA-256-PLUS alone, which cannot be relayed: have \
         the administrator configure a login for this upstream",
    );
}

#[test]
fn the_executor_may_have_logged_in_itself() {
    check_from_start(&format!(
        "> START user=injected
         ->
         ? startup injected injected
         < v 0 / R 0 / {SETTINGS} / Z I
         ! ready I"
    ));
}

#[test]
fn the_client_is_asked_nothing_once_the_executor_has_logged_in() {
    check_from_start(
        "> START user=injected
         ->
         ? startup injected injected
         < R 3
         <-
         x upstream: the upstream asks for authentication again",
    );
}

#[test]
fn a_client_whose_certificate_the_upstream_wants_gets_a_hint_and_other_refusals_pass_as_they_are() {
    check_from_start(
        "> START user=ada
         ? startup ada ada
         < FATAL 3D000 database \"ada\" does not exist
         ! fatal 3D000",
    );
    let mut executor = Executor::new(Limits::default());
    executor.client(&notation::client("START user=ada"));
    let refusal = notation::upstream("FATAL 28000 connection requires a valid client certificate");
    executor.upstream(&refusal);
    let told = &executor.seen.to_client;
    let fields = &refusal[5..refusal.len() - 1];
    assert!(told[5..].starts_with(fields) && told[5 + fields.len()..].starts_with(b"Hlineal ends"));
    assert_eq!(told.len() - 1, u32::from_be_bytes(told[1..5].try_into().unwrap()) as usize);
}
