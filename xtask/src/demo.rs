//! `cargo xtask demo`: tells the story on real parts. It prints no outcome that was not checked first.

use std::{
    io::{self, Write},
    time::Instant,
};

use lineal_tests::{
    Lab, LabOptions,
    story::{Telling, tell},
};

use crate::{
    build::{self, Profile},
    setup::Purpose,
    shell::{Took, say, step},
};

/// The width that explanations are wrapped to.
const COLUMNS: usize = 96;

/// Sets up what is missing, raises a lab and tells the story; fails where an outcome is not as told.
pub(crate) fn demo() -> anyhow::Result<()> {
    let begun = Instant::now();
    build::agent(Purpose::Demo, Profile::Dev)?;
    let lab = step("raising PostgreSQL, an OpenID provider and an agent", "some seconds", || {
        Lab::start(&LabOptions::default())
    })?;
    let mut out = io::stdout().lock();
    let mut written = Ok(());
    let told = tell(&lab, &mut |telling| {
        if written.is_ok() {
            written = show(&mut out, &telling);
        }
    });
    written?;
    told?;
    writeln!(
        out,
        "\nEvery outcome above was checked. `cargo xtask lab` leaves these parts running for you."
    )?;
    drop(lab);
    say(format_args!("the demo, with all that it needed, took {}", Took(begun.elapsed())));
    Ok(())
}

fn show(out: &mut impl Write, telling: &Telling) -> io::Result<()> {
    match telling {
        Telling::Chapter(title) => writeln!(out, "\n== {title}"),
        Telling::Explanation(text) => wrapped(out, text).and_then(|()| writeln!(out)),
        Telling::Action(text) => writeln!(out, "  $ {text}"),
        Telling::Outcome(text) => writeln!(out, "      {text}"),
    }?;
    out.flush()
}

fn wrapped(out: &mut impl Write, text: &str) -> io::Result<()> {
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count() + 1;
        if column > 0 && column + length > COLUMNS {
            writeln!(out)?;
            column = 0;
        }
        write!(out, "{}{word}", if column == 0 { "   " } else { " " })?;
        column += length;
    }
    writeln!(out)
}
