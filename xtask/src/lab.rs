//! `cargo xtask lab`: the demo's parts, left running until standard input closes.

use std::io::{self, Read, Write};

use anyhow::Context;
use clap::Args;
use lineal_tests::{Lab, LabOptions};
use serde_json::Value;

use crate::{
    build::{self, Profile},
    setup::Purpose,
    shell::step,
};

/// What `cargo xtask lab` prints.
#[derive(Args)]
pub(crate) struct LabArgs {
    /// Print one JSON object when everything is up, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Raises a lab and waits for the end of standard input.
pub(crate) fn lab(args: &LabArgs) -> anyhow::Result<()> {
    build::agent(Purpose::Demo, Profile::Dev)?;
    let mut lab = step("raising PostgreSQL, an OpenID provider and an agent", "some seconds", || {
        Lab::start(&LabOptions::default())
    })?;
    let description = lab.describe()?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{description}")?;
    } else {
        write!(out, "{}", what_to_try(&description)?)?;
    }
    out.flush()?;
    io::copy(&mut io::stdin().lock().take(u64::MAX), &mut io::sink())?;
    Ok(())
}

fn what_to_try(lab: &Value) -> anyhow::Result<String> {
    let text = |pointer: &str| {
        let value = lab.pointer(pointer).with_context(|| format!("the lab has no {pointer}"))?;
        anyhow::Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    Ok(format!(
        "The lab is up: PostgreSQL, an OpenID provider and an agent. It ends with Ctrl-D or Ctrl-C.\n\
         \n\
         In another terminal, as root:\n\
         \n\
           export PATH=\"$(dirname {lineal}):$PATH\" LINEAL_CONTROL={control}\n\
           export PGHOST={host} PGPORT={port} PGDATABASE={database} PGUSER={user} PGPASSWORD={password}\n\
         \n\
           psql -c 'DELETE FROM orders WHERE id = 1'      # outside every job: lineal is not involved\n\
           lineal run --token-file {token} -- bash         # a job under contractor:dana; in it:\n\
             psql -c 'SELECT status, count(*) FROM orders GROUP BY 1'\n\
             psql -c 'DROP TABLE orders'                   # denied, and the session lives\n\
         \n\
           lineal jobs                                     # from a third terminal, with the same exports\n\
           lineal audit query --dir {audit}\n\
           lineal audit verify --dir {audit}\n\
           lineal revoke --subject contractor:dana --reason 'left the company'\n\
           curl {metrics}\n\
         \n\
         Policies: $(dirname {config})/policies, read again when they change.\n",
        lineal = text("/lineal")?,
        control = text("/control")?,
        host = text("/postgres/host")?,
        port = text("/postgres/port")?,
        database = text("/postgres/database")?,
        user = text("/postgres/user")?,
        password = text("/postgres/password")?,
        token = text("/token_file")?,
        audit = text("/audit")?,
        metrics = text("/metrics")?,
        config = text("/config")?,
    ))
}
