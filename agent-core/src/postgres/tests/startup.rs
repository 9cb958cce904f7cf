//! From the first byte to the first ReadyForQuery.

use super::script::{check_from_start, check_prepared};

const SETTINGS: &str = "PS client_encoding=UTF8 / PS standard_conforming_strings=on";

#[test]
fn a_startup_is_judged_before_the_upstream_hears_of_it() {
    check_from_start(
        "> START user=ada database=shop
         ? startup ada shop
         < R 0 / PS client_encoding=UTF8 / PS standard_conforming_strings=on / K 7 secret / Z I
         ! authenticated
         ! client_encoding=UTF8
         ! standard_conforming_strings=on
         ! key secret
         ! ready I
         > X
         .",
    );
}

#[test]
fn a_denied_startup_is_told_so_and_never_forwarded() {
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
         ! authenticated
         ! client_encoding=UTF8
         ! standard_conforming_strings=on
         ! ready I"
    ));
}

#[test]
fn an_authentication_failure_is_passed_on() {
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
         ! authenticated
         < {SETTINGS}
         ! client_encoding=UTF8
         ! standard_conforming_strings=on
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
fn settings_under_which_text_reads_differently_end_the_session() {
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
             ! authenticated
             < PS {setting}
             <-
             x upstream: {fault}"
        ));
    }
}

#[test]
fn a_server_that_does_not_say_how_it_reads_text_is_not_believed() {
    check_from_start(
        "> START user=ada
         ? startup ada ada
         < R 0 / PS client_encoding=UTF8
         ! authenticated
         ! client_encoding=UTF8
         < Z I
         <-
         x upstream: the server did not report its setting standard_conforming_strings",
    );
}

#[test]
fn protocol_versions_and_options_are_negotiated_down() {
    check_from_start(
        "> START9 user=ada _pq_.x=1 _pq_.y=2
         ? startup ada ada
         < v 2 _pq_.x _pq_.y
         < R 0
         ! authenticated",
    );
}

#[test]
fn a_protocol_that_lineal_does_not_know_is_not_spoken() {
    let check = |start: &str, server: &str, fault: &str| {
        check_from_start(&format!(
            "> {start}
             ? startup ada ada
             < {server}
             <-
             x upstream: protocol negotiation: {fault}"
        ));
    };
    check("START9 user=ada", "R 0", "it took a version newer than 3.2");
    check("START9 user=ada", "v 5", "it settled on a version newer than 3.2");
    check("START user=ada _pq_.x=1", "R 0", "it took a protocol option");
}

#[test]
fn a_server_that_speaks_before_it_is_spoken_to_is_not_believed() {
    check_from_start(
        "< R 0
         <-
         x upstream: the server sent a message of type R while nothing had been sent to it",
    );
}

#[test]
fn authentication_methods_that_cannot_be_relayed_are_refused() {
    check_from_start(
        "> START user=ada
         ? startup ada ada
         < R 2
         <-
         x upstream: authentication request 2 is not supported",
    );
}

#[test]
fn tls_is_granted_where_it_is_offered_and_startup_goes_on_inside() {
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
fn nothing_more_is_asked_for_inside_tls() {
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

const BOUND: &str = "SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256";

#[test]
fn channel_binding_is_kept_from_a_client_that_sees_another_certificate() {
    check_prepared(
        |session| session.upstream_encrypted(),
        &format!(
            "> START user=ada
             ? startup ada ada
             < v 0 / {BOUND}
             <- v 0 / SASL SCRAM-SHA-256
             > SASL SCRAM-SHA-256 n,,n=,r=abc
             < R 11 server-first
             > p y is no header here
             < R 12 server-final / R 0
             ! authenticated"
        ),
    );
}

#[test]
fn a_client_that_noticed_is_told_what_to_do() {
    for choice in ["SCRAM-SHA-256 y,,n=,r=abc", "SCRAM-SHA-256-PLUS p=tls-server-end-point,,n=,r=abc"] {
        check_prepared(
            |session| session.upstream_encrypted(),
            &format!(
                "> START user=ada
                 ? startup ada ada
                 < {BOUND}
                 <- SASL SCRAM-SHA-256
                 > SASL {choice}
                 ->
                 x client: the client uses SCRAM channel binding, which cannot hold through a proxy: connect with \
                 channel_binding=disable (PGCHANNELBINDING=disable), or have the administrator configure a \
                 credential for this upstream"
            ),
        );
    }
}

#[test]
fn what_a_client_makes_of_channel_binding_is_its_own_affair_where_there_is_none() {
    let script = |offered: &str| {
        format!(
            "> START user=ada
             ? startup ada ada
             < {offered}
             > SASL SCRAM-SHA-256 y,,n=,r=abc"
        )
    };
    check_prepared(|session| session.upstream_encrypted(), &script("SASL SCRAM-SHA-256"));
    check_from_start(&script(BOUND));
}

#[test]
fn a_server_that_insists_on_channel_binding_cannot_be_relayed() {
    check_prepared(
        |session| session.upstream_encrypted(),
        "> START user=ada
         ? startup ada ada
         < SASL SCRAM-SHA-256-PLUS
         <-
         x upstream: the server authenticates by SCRAM-SHA-256-PLUS alone, which cannot be relayed: have the \
         administrator configure a credential for this upstream",
    );
}

#[test]
fn an_executor_may_have_authenticated_itself() {
    check_from_start(&format!(
        "> START user=injected
         ->
         ? startup injected injected
         < v 0 / R 0 / {SETTINGS} / Z I
         ! authenticated
         ! client_encoding=UTF8
         ! standard_conforming_strings=on
         ! ready I"
    ));
}

#[test]
fn a_client_is_never_asked_for_what_the_executor_has_answered() {
    check_from_start(
        "> START user=injected
         ->
         ? startup injected injected
         < R 3
         <-
         x upstream: the server asks to be authenticated again",
    );
}
