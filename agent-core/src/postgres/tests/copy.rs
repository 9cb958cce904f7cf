//! COPY in both directions and by both protocols, and the Syncs that it may drop.

use super::script::check;

#[test]
fn copy_from_stdin_works_by_the_simple_protocol() {
    check(
        "> Q copy in
         ? simple copy in
         < G
         > d 1 / d 2 / H / c
         < C COPY 2 / Z I
         ! 2 complete rows=2 COPY 2
         ! ready I
         > Q a
         ? simple a
         < C A / Z I
         ! 3 complete A
         ! ready I",
    );
}

#[test]
fn one_query_may_copy_twice() {
    check(
        "> Q copy in; copy in
         ? simple copy in; copy in
         > d 1 / c / d 2 / c / Q a
         ? simple a
         < G / C COPY 1 / G / C COPY 1 / Z I / C A / Z I
         ! 2 complete rows=2 COPY 1
         ! ready I
         ! 3 complete A
         ! ready I",
    );
}

#[test]
fn copy_to_stdout_works_by_both_protocols() {
    check(
        "> Q copy out
         ? simple copy out
         < H / d a / d b / c / C COPY 2 / Z I
         ! 2 complete rows=2 COPY 2
         ! ready I
         > P =copy out / B < / E / S
         ? prepare =copy out
         ? execute : copy out
         < 1 / 2 / H / d a / c / C COPY 1 / Z I
         ! 3 complete
         ! 4 complete rows=1 COPY 1
         ! ready I",
    );
}

#[test]
fn a_copy_to_stdout_that_fails_halfway_ends_with_its_error() {
    check(
        "> Q copy out
         ? simple copy out
         < H / d a / E 57014 canceled / Z I
         ! 2 error 57014 rows=1
         ! ready I",
    );
}

#[test]
fn the_sync_that_libpq_sends_with_its_execute_is_dropped_by_the_copy() {
    check(
        "> P =copy in / B < / E / S
         ? prepare =copy in
         ? execute : copy in
         < 1 / 2 / G
         ! 2 complete
         > d 1 / c / S
         < C COPY 1 / Z I
         ! 3 complete rows=1 COPY 1
         ! ready I
         > P =a / B < / E / S
         ? prepare =a
         ? execute : a
         < 1 / 2 / C A / Z I
         ! 4 complete
         ! 5 complete A
         ! ready I",
    );
}

#[test]
fn the_same_sync_is_answered_if_there_is_no_copy() {
    check(
        "> P =a / B < / E / S / d 1 / c / S
         ? prepare =a
         ? execute : a
         < 1 / 2 / C A / Z I / Z I
         ! 2 complete
         ! 3 complete A
         ! ready I
         ! ready I",
    );
}

#[test]
fn after_a_failed_copy_the_sync_before_it_may_be_answered_or_not() {
    let start = "> P =copy in / B < / E / S
         ? prepare =copy in
         ? execute : copy in
         < 1 / 2 / G
         ! 2 complete
         > d x / c / S
         < E 22P02 bad data
         ! 3 error 22P02";
    let next = "> P x=a / B <x / E / S
         ? prepare x=a
         ? execute : a
         < 1 / 2 / C A / Z I
         ! 4 complete
         ! 5 complete A
         ! ready I";
    // Dropped: the COPY read it before the bad data.
    check(&format!("{start}\n< Z I\n! ready I\n{next}"));
    // Answered: a trigger failed before the COPY read anything.
    check(&format!("{start}\n< Z I\n! ready I\n< Z I\n! ready I\n{next}"));
}

#[test]
fn a_sync_sent_after_the_failure_ends_the_uncertainty() {
    check(
        "> P =copy in / B < / E / S
         ? prepare =copy in
         ? execute : copy in
         < 1 / 2 / G
         ! 2 complete
         > d x
         < E 22P02 bad data
         ! 3 error 22P02
         > d y / c / S
         < Z I
         ! ready I
         > P x=a / B <x / E / S
         ? prepare x=a
         ? execute : a
         < 1 / 2 / C A / Z I
         ! 4 complete
         ! 5 complete A
         ! ready I",
    );
}

#[test]
fn a_command_that_may_run_or_be_skipped_after_a_failed_copy_ends_the_session() {
    // It stands behind the Sync that the COPY may have dropped: it runs if not, and is refused if so.
    check(
        "> P =copy in / B < / E / S / P x=a / S
         ? prepare =copy in
         ? execute : copy in
         ? prepare x=a
         < 1 / 2 / G
         ! 2 complete
         < E P0001 early
         <-
         x client: commands were sent behind a COPY from stdin that had not been ended, and the COPY failed",
    );
    // It is sent after the failure, while the upstream may still be skipping.
    check(
        "> P =copy in / B < / E / S
         ? prepare =copy in
         ? execute : copy in
         < 1 / 2 / G
         ! 2 complete
         < E P0001 early
         ! 3 error P0001
         > Q a
         ->
         x client: commands were sent behind a COPY from stdin that had not been ended, and the COPY failed",
    );
}

#[test]
fn a_copy_that_fails_in_a_query_skips_nothing() {
    check(
        "> Q copy in
         ? simple copy in
         < G
         > d x / S / c / S / Q a
         ? simple a
         < E 22P02 bad data / Z I
         ! 2 error 22P02
         ! ready I
         < Z I
         ! ready I
         < C A / Z I
         ! 3 complete A
         ! ready I",
    );
}

#[test]
fn a_copy_that_the_client_gives_up_ends_with_an_error() {
    check(
        "> P =copy in / B < / E / H
         ? prepare =copy in
         ? execute : copy in
         < 1 / 2 / G
         ! 2 complete
         > d 1 / f enough / S
         < E 57014 COPY from stdin failed / Z I
         ! 3 error 57014
         ! ready I",
    );
}

#[test]
fn a_command_while_the_upstream_reads_data_ends_the_session() {
    check(
        "> Q copy in
         ? simple copy in
         < G
         > Q drop
         ->
         x client: unexpected message of type Q during COPY from stdin",
    );
}

#[test]
fn a_denied_command_amid_copy_data_is_not_sent() {
    check(
        "> P =copy in / B < / E / P =deny / d 1 / c / S
         ? prepare =copy in
         ? execute : copy in
         ? prepare =deny
         -> P =copy in / B < / E / P! / S",
    );
}

#[test]
fn the_data_of_a_denied_copy_is_not_sent() {
    check(
        "> P =copy in deny / B < / E / d 1 / c / S
         ? prepare =copy in deny
         -> P! / S
         < E 42883 no such function / Z I
         <- DENIED / Z I
         ! 2 denied
         ! ready I",
    );
}
