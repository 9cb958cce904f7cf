//! A command that may change how the server reads text: nothing follows it before the server has reported its
//! settings.

use super::script::check;

#[test]
fn no_command_follows_a_query_that_may_change_settings_before_the_upstream_is_ready() {
    check(
        "> Q unsettle / Q b / P =c / S
         ? simple unsettle
         -> Q unsettle
         < T / D 1
         -> 
         < C SELECT 1 / Z I
         ? simple b
         ? prepare =c
         -> Q b / P =c / S
         ! 2 complete rows=1 SELECT 1
         ! ready I
         < C B / Z I / 1 / Z I
         ! 3 complete B
         ! ready I
         ! 4 complete
         ! ready I",
    );
}

#[test]
fn what_waits_behind_a_change_of_settings_is_never_sent_if_text_is_read_differently_now() {
    check(
        "> Q unsettle / Q b
         ? simple unsettle
         -> Q unsettle
         < T / D 1 / C SELECT 1 / PS standard_conforming_strings=off / Z I
         <- T / D 1 / C SELECT 1
         x upstream: setting standard_conforming_strings is off: lineal reads statements only under on",
    );
}

#[test]
fn a_command_in_the_segment_of_a_change_of_settings_may_not_pass() {
    check(
        "> P =unsettle / B < / E / P =b / B < / E / S / Q c
         ? prepare =unsettle
         ? execute : unsettle
         ? prepare =b
         -> P =unsettle / B < / E / P! / S
         < 1 / 2 / D 1 / C SELECT 1 / E 42883 no such function / Z I
         <- 1 / 2 / D 1 / C SELECT 1 / DENIED / Z I
         ? simple c
         -> Q c
         ! 2 complete
         ! 3 complete rows=1 SELECT 1
         ! 4 denied
         ! ready I
         < C C / Z I
         ! 5 complete C
         ! ready I",
    );
}

#[test]
fn a_copy_can_go_on_while_settings_are_awaited() {
    check(
        "> Q unsettle; copy
         ? simple unsettle; copy
         < C SELECT 1 / G
         > d row / c
         < C COPY 1 / Z I
         ! 2 complete rows=2 COPY 1
         ! ready I",
    );
}

#[test]
fn a_change_of_settings_that_failed_holds_nothing_up_longer() {
    check(
        "> P =unsettle / B < / E / S
         ? prepare =unsettle
         ? execute : unsettle
         < E 42601 no / Z I
         ! 2 error 42601
         ! 3 skipped
         ! ready I
         > Q b
         ? simple b
         < C B / Z I
         ! 4 complete B
         ! ready I",
    );
}
