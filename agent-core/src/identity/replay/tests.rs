//! Which second uses of a token are admitted, and when a table forgets a token.

use super::*;

const NOW: i64 = 1_700_000_000;
const POD: &str = "6f1c2c0e-1111-4222-8333-444455556666";
const OTHER_POD: &str = "00000000-1111-4222-8333-444455556666";

fn run(id: &str) -> RunKey {
    RunKey::try_from(BTreeMap::from([("run_id".to_owned(), id.to_owned())])).unwrap()
}

fn enroller(uid: u32, pod_uid: Option<&str>) -> Enroller {
    Enroller { uid, pod_uid: pod_uid.map(str::to_owned) }
}

fn token(name: &str) -> TokenId {
    TokenId::from_jti("https://issuer", name)
}

/// One use of the token `t`. In order: the run id that the token names, the UID of the pod that the token is
/// bound to, the user id of the enrolling process, and the UID of that process's pod.
struct OneUse(Option<&'static str>, Option<&'static str>, u32, Option<&'static str>);

fn admit(table: &mut UseTable, OneUse(run_id, bound, uid, pod_uid): &OneUse) -> Result<Admitted, Refusal> {
    let run = run_id.map(run);
    let token = Use { token: token("t"), run: run.as_ref(), pod_uid: *bound, forget_unix: NOW + 60 };
    table.admit(token, &enroller(*uid, *pod_uid), NOW)
}

/// Checks that a table which has admitted `first` answers `expect` to `second`.
fn check(first: OneUse, second: OneUse, expect: Result<Admitted, Refusal>) {
    let mut table = UseTable::new(USES_MAX);
    assert_eq!(admit(&mut table, &first), Ok(Admitted::First));
    assert_eq!(admit(&mut table, &second), expect);
    // The answer is the same after a restart of the agent, and when asked again.
    let stored = serde_json::to_string(&table.save()).unwrap();
    let mut table = UseTable::restore(serde_json::from_str(&stored).unwrap(), USES_MAX).unwrap();
    assert_eq!(admit(&mut table, &second), expect);
    assert_eq!(admit(&mut table, &second), expect);
}

/// The refusal of a second use in the same second as the first.
fn replayed(elsewhere: Elsewhere) -> Result<Admitted, Refusal> {
    Err(Refusal::Replayed { ago_s: 0, elsewhere })
}

#[test]
fn the_run_that_a_token_was_issued_to_may_use_it_again() {
    check(OneUse(Some("7"), None, 1000, None), OneUse(Some("7"), None, 1000, None), Ok(Admitted::Again));
    let in_pod = || OneUse(Some("7"), None, 1000, Some(POD));
    check(in_pod(), in_pod(), Ok(Admitted::Again));
    let bound = || OneUse(Some("7"), Some(POD), 1000, Some(POD));
    check(bound(), bound(), Ok(Admitted::Again));
}

#[test]
fn a_token_that_names_no_run_may_be_used_once() {
    check(OneUse(None, None, 1000, None), OneUse(None, None, 1000, None), replayed(Elsewhere::NoRun));
    check(
        OneUse(None, Some(POD), 1000, Some(POD)),
        OneUse(None, Some(POD), 1000, Some(POD)),
        replayed(Elsewhere::NoRun),
    );
}

#[test]
fn one_token_id_with_two_runs_is_a_replay() {
    check(
        OneUse(Some("7"), None, 1000, None),
        OneUse(Some("8"), None, 1000, None),
        replayed(Elsewhere::OtherRun),
    );
    check(OneUse(Some("7"), None, 1000, None), OneUse(None, None, 1000, None), replayed(Elsewhere::NoRun));
    check(OneUse(None, None, 1000, None), OneUse(Some("7"), None, 1000, None), replayed(Elsewhere::NoRun));
}

#[test]
fn another_user_may_not_use_a_token_again_not_even_root() {
    check(
        OneUse(Some("7"), None, 1000, None),
        OneUse(Some("7"), None, 1001, None),
        replayed(Elsewhere::OtherUser),
    );
    check(
        OneUse(Some("7"), None, 1000, None),
        OneUse(Some("7"), None, 0, None),
        replayed(Elsewhere::OtherUser),
    );
}

#[test]
fn another_pod_may_not_use_a_token_again() {
    let first = || OneUse(Some("7"), None, 1000, Some(POD));
    check(first(), OneUse(Some("7"), None, 1000, Some(OTHER_POD)), replayed(Elsewhere::OtherPod));
    check(first(), OneUse(Some("7"), None, 1000, None), replayed(Elsewhere::OtherPod));
    let bound = || OneUse(Some("7"), Some(POD), 1000, Some(POD));
    check(bound(), OneUse(Some("7"), Some(POD), 1000, Some(OTHER_POD)), Err(Refusal::WrongPod));
}

#[test]
fn a_bound_token_is_refused_outside_its_pod_and_stays_unused() {
    for pod_uid in [None, Some(OTHER_POD), Some("")] {
        let mut table = UseTable::new(USES_MAX);
        assert_eq!(admit(&mut table, &OneUse(Some("7"), Some(POD), 1000, pod_uid)), Err(Refusal::WrongPod));
        assert!(table.is_empty());
        assert_eq!(admit(&mut table, &OneUse(Some("7"), Some(POD), 1000, Some(POD))), Ok(Admitted::First));
    }
}

/// Uses the token `name`, which names no run, at `now_unix`. Verification refuses it from `forget_unix` on.
fn use_at(table: &mut UseTable, name: &str, forget_unix: i64, now_unix: i64) -> Result<Admitted, Refusal> {
    let token = Use { token: token(name), run: None, pod_uid: None, forget_unix };
    table.admit(token, &enroller(1000, None), now_unix)
}

#[test]
fn a_full_table_refuses_until_a_token_has_expired() {
    let mut table = UseTable::new(2);
    assert_eq!(use_at(&mut table, "a", NOW + 10, NOW), Ok(Admitted::First));
    assert_eq!(use_at(&mut table, "b", NOW + 20, NOW), Ok(Admitted::First));
    assert_eq!(use_at(&mut table, "c", NOW + 90, NOW), Err(Refusal::Full { uses_max: 2 }));
    assert_eq!(use_at(&mut table, "c", NOW + 90, NOW + 9), Err(Refusal::Full { uses_max: 2 }));
    assert_eq!(use_at(&mut table, "c", NOW + 90, NOW + 10), Ok(Admitted::First));
    assert_eq!(table.len(), 2);
    // A token that the table knows is still recognised while the table is full.
    let replayed = Err(Refusal::Replayed { ago_s: 10, elsewhere: Elsewhere::NoRun });
    assert_eq!(use_at(&mut table, "b", NOW + 20, NOW + 10), replayed);
}

#[test]
fn a_table_restored_above_its_bound_keeps_every_token() {
    let mut table = UseTable::new(3);
    for name in ["a", "b", "c"] {
        assert_eq!(use_at(&mut table, name, NOW + 10, NOW), Ok(Admitted::First));
    }
    let mut table = UseTable::restore(table.save(), 1).unwrap();
    assert_eq!(table.len(), 3);
    assert_eq!(use_at(&mut table, "d", NOW + 10, NOW), Err(Refusal::Full { uses_max: 1 }));
}

#[test]
fn an_expired_token_is_refused_and_not_remembered() {
    let mut table = UseTable::new(USES_MAX);
    assert_eq!(use_at(&mut table, "a", NOW, NOW), Err(Refusal::Expired));
    assert!(table.is_empty());
}

#[test]
fn setting_the_clock_back_revives_no_token() {
    let mut table = UseTable::new(USES_MAX);
    assert_eq!(use_at(&mut table, "a", NOW + 10, NOW), Ok(Admitted::First));
    assert_eq!(use_at(&mut table, "b", NOW + 9_000, NOW + 5_000), Ok(Admitted::First));
    assert_eq!(use_at(&mut table, "a", NOW + 10, NOW), Err(Refusal::Forgotten));
    let mut table = UseTable::restore(table.save(), USES_MAX).unwrap();
    assert_eq!(use_at(&mut table, "a", NOW + 10, NOW), Err(Refusal::Forgotten));
    // A token that expires later than the forgotten ones is unaffected.
    assert_eq!(use_at(&mut table, "c", NOW + 11, NOW), Ok(Admitted::First));
}

#[test]
fn a_stored_table_of_another_version_or_with_an_empty_run_is_refused() {
    let saved = serde_json::json!({"v": 2, "forgotten_unix": 0, "uses": {}});
    let saved: SavedUses = serde_json::from_value(saved).unwrap();
    assert_eq!(UseTable::restore(saved, USES_MAX).unwrap_err(), UnknownVersion { found: 2 });
    assert!(serde_json::from_str::<RunKey>("{}").is_err());
}
