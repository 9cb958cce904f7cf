//! Records as text for people: one block a decision, one line for any other record.
//!
//! Text that a job wrote never reaches the terminal as it is. Control and direction characters are escaped;
//! otherwise a statement could rewrite the lines around it.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use serde_json::Value;

use super::row::{Ancestor, Joined, OutcomeRow, Upstream};

/// Prints a decision.
pub(super) fn decision(joined: &Joined, out: &mut dyn Write) -> io::Result<()> {
    let (row, origin) = (&joined.decision, &joined.origin);
    let observed = if row.observed { " (observed only)" } else { "" };
    writeln!(
        out,
        "{}  {}{observed}  {} on {}",
        row.time,
        row.decision.to_uppercase(),
        shown(&row.actions.join(", ")),
        shown(&row.resources.join(", ")),
    )?;
    if let Some(statement) = &row.statement {
        writeln!(out, "    {}", shown(&statement.text))?;
        if !statement.parameters.is_empty() {
            let parameters: Vec<_> = statement
                .parameters
                .iter()
                .map(|value| value.as_deref().map_or("NULL".to_owned(), |v| format!("{v:?}")))
                .collect();
            writeln!(out, "    with {}", shown(&parameters.join(", ")))?;
        }
    }
    let policies = if row.policies.is_empty() { "no policy".to_owned() } else { row.policies.join(", ") };
    writeln!(out, "    by   {}: {}", shown(&policies), shown(&row.reason))?;
    if !row.masked.is_empty() {
        writeln!(out, "    mask {}", shown(&row.masked.join(", ")))?;
    }
    if let Some(job) = &origin.job {
        let credential = origin.credential.as_ref().map_or_else(
            || "no credential".to_owned(),
            |credential| format!("{} from {}", credential.subject, credential.issuer),
        );
        writeln!(out, "    job  {} ({}): {}", shown(&job.name), shown(&job.id), shown(&credential))?;
    }
    if let Some(process) = &origin.process {
        let chain: Vec<_> = process.ancestry.iter().map(ancestor).collect();
        writeln!(
            out,
            "    from {}, uid {}, in {}",
            shown(&chain.join(" > ")),
            process.uid,
            shown(&process.cwd)
        )?;
    }
    if let Some(upstream) = &origin.upstream {
        writeln!(out, "    to   {}", shown(&upstream_text(upstream)))?;
    }
    writeln!(out, "    session {} command {}", shown(&row.session), row.command)?;
    if let Some(outcome) = &joined.outcome {
        writeln!(out, "    then {}", shown(&outcome_text(outcome)))?;
    }
    Ok(())
}

fn ancestor(process: &Ancestor) -> String {
    let name = process.exe.rsplit('/').next().unwrap_or(&process.exe);
    format!("{name}[{}]", process.pid)
}

fn upstream_text(upstream: &Upstream) -> String {
    let Upstream { name, address, database, user } = upstream;
    let name = if name.is_empty() { "undeclared" } else { name };
    let mut text = format!("{name} at {address}");
    if !database.is_empty() {
        text.push_str(&format!(", database {database}"));
    }
    if !user.is_empty() {
        text.push_str(&format!(", user {user}"));
    }
    text
}

fn outcome_text(outcome: &OutcomeRow) -> String {
    let OutcomeRow { rows, bytes, error, duration_us, .. } = outcome;
    let rows = rows.map_or(String::new(), |rows| format!("{rows} rows, "));
    let error =
        error.as_ref().map_or(String::new(), |error| format!("error {}: {}, ", error.code, error.message));
    format!("{error}{rows}{bytes} bytes, {duration_us} us")
}

/// Prints a record of any kind as one line: its time, its kind, and its own fields as `name=value`.
pub(super) fn line(line: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
        return writeln!(out, "{}", shown(&String::from_utf8_lossy(line)));
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or("");
    let mut own = String::new();
    for (name, value) in &fields {
        if !matches!(name.as_str(), "v" | "seq" | "time" | "host" | "kind" | "hash") && !value.is_null() {
            own.push_str(&format!(
                " {name}={}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            ));
        }
    }
    writeln!(out, "{}  {}{}", shown(text("time")), shown(text("kind")), shown(&own))
}

/// `text` with everything escaped that could do more to a terminal than be shown.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || steers_direction(c) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether a character is invisible and can reorder or join the text around it.
fn steers_direction(c: char) -> bool {
    matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_its_fields() {
        let record = concat!(
            r#"{"v":1,"seq":1,"time":"T","host":"h","kind":"bundle","state":"loaded","#,
            r#""version":"a\u001b","reason":null,"hash":"x"}"#
        );
        let mut out = Vec::new();
        line(record.as_bytes(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "T  bundle state=loaded version=a\\u{1b}\n");
    }

    #[test]
    fn control_and_direction_characters_are_escaped() {
        assert_eq!(shown("a\x1b[2Jb\u{9b}c\u{202e}d\ne\tf"), r"a\u{1b}[2Jb\u{9b}c\u{202e}d\ne\tf");
        assert_eq!(shown("SELECT 'é' -- ok"), "SELECT 'é' -- ok");
    }
}
