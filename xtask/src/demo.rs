//! `cargo xtask demo`: tells the story on real parts. Every outcome printed was checked first.

use std::io::{self, Write};

use lineal_tests::{
    Lab, LabOptions,
    story::{Telling, tell},
};

use crate::{
    build::{self, Profile},
    setup::Purpose,
};

/// How wide explanations are set.
const COLUMNS: usize = 96;

/// Tells the story, and fails where the parts don't live up to it.
pub(crate) fn demo() -> anyhow::Result<()> {
    build::agent(Purpose::Lab, Profile::Dev)?;
    let mut out = io::stdout().lock();
    writeln!(out, "Raising PostgreSQL, an OpenID provider and an agent …")?;
    let lab = Lab::start(&LabOptions::default())?;
    let mut written = Ok(());
    let told = tell(&lab, &mut |telling| {
        written = show(&mut out, &telling);
    });
    written?;
    told?;
    writeln!(
        out,
        "\nEvery outcome above was checked. `cargo xtask lab` leaves these parts running for you."
    )?;
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
