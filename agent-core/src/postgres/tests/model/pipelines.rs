//! What a client may send: pieces of pipelines, chosen by random numbers.

/// A few messages of the client's, in notation. `n` makes their texts distinguishable; the other three
/// choose.
pub(super) fn item(n: usize, kind: u8, a: u8, b: u8) -> String {
    let statement = ["", "x", "y"][usize::from(a % 3)];
    let portal = ["", "p", "q"][usize::from(b % 3)];
    let text = match (a / 3).wrapping_add(b / 3) % 40 {
        0 | 1 => "begin".to_owned(),
        2 => "commit".to_owned(),
        3 => format!("bad {n}"),
        4 => format!("deny {n}"),
        5 => format!("later {n}"),
        6 => format!("prepare x t{n}"),
        7 => "deallocate x".to_owned(),
        8 => format!("declare p t{n}"),
        9 => "close p".to_owned(),
        10 => format!("syntax {n}"),
        11 => "rows".to_owned(),
        _ => format!("t{n}"),
    };
    let sync = if b.is_multiple_of(2) { " / S" } else { "" };
    match kind % 54 {
        0..10 => format!("C s{statement} / P {statement}={text} / B {portal}<{statement} / E {portal}{sync}"),
        10..14 => format!("P {statement}={text}{sync}"),
        14..22 => format!("B {portal}<{statement} / E {portal}{sync}"),
        22..26 => format!("E {portal}{sync}"),
        26..31 => "S".to_owned(),
        31..33 => format!("Q {text}"),
        33 => format!("Q deallocate x; prepare x t{n}"),
        34 => "Q begin".to_owned(),
        35 => "Q commit".to_owned(),
        36 => format!("C s{statement}{sync}"),
        37 => format!("C p{portal}{sync}"),
        38 => format!("D s{statement}"),
        39 => format!("D p{portal}"),
        40 => format!("F {}", if a.is_multiple_of(2) { 666 } else { 1 }),
        41 => "H".to_owned(),
        42 => format!("P x=deny / B <x / E{sync}"),
        43 => format!("C pp / P =declare p t{n} / B < / E{sync}"),
        44 | 45 => {
            let copy = ["copyin", "early", "cancelled"][usize::from(b % 3)];
            let data = ["d 1 / c / S", "c / S", "d x / c / S", "d 1 / f no / S"][usize::from(a % 4)];
            let dropped = ["", "S / ", "H / "][usize::from(a / 4 % 3)];
            format!("P ={copy} / B < / E / {dropped}{data}")
        }
        46 => ["Q copyin; t; copyin / d 1 / c / d 1 / c", "Q early / d 1 / c", "Q copyin / d x / S / c"]
            [usize::from(a % 3)]
        .to_owned(),
        47 => ["d 1", "d x", "c", "f no"][usize::from(a % 4)].to_owned(),
        // By SQL, what a Parse made whose answer may not have come.
        50 => format!("P x=t{n} / S / Q execute x {n}"),
        51 => format!("C sx / P x=t{n} / Q execute x {n} / S"),
        52 => format!("Q execute x {n}"),
        48 | 49 => format!("Q begin / P =t{n} / B p< / Q close p; declare p c{n} / E p / S"),
        // What follows the first Sync runs if the COPY fails before reading that Sync, is skipped if after,
        // and is refused if the COPY goes on.
        _ => format!(
            "C sx / P ={} / B < / E / S / P x=t{n} / S / C sx / P x=u{n} / S / B <x / E / S",
            ["early", "cancelled"][usize::from(b % 2)]
        ),
    }
}
