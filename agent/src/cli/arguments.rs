//! Arguments that several commands share.

use clap::Args;

/// How a listing is printed.
#[derive(Args)]
pub struct Format {
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Reads a claim: `NAME=VALUE`.
pub fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
