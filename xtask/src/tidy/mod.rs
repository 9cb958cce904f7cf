//! The tidy tier: house style, format, lints and the shipped policies. It must change nothing.

mod circles;
mod imports;
pub(crate) mod style;
mod tokens;

use std::process::Command;

use lineal_tests::paths;

use crate::shell::{cargo, in_repository, run};

/// Checks format, lints and shipped policies. The agent must have been built.
pub(crate) fn tidy() -> anyhow::Result<()> {
    run(cargo().args(["fmt", "--all", "--", "--check"]))?;
    run(cargo().args(["fmt", "--manifest-path", "agent-ebpf/Cargo.toml", "--", "--check"]))?;
    run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    for subcommand in ["check", "test"] {
        run(in_repository(Command::new(paths::lineal()?)).args(["policy", subcommand, "policies"]))?;
    }
    Ok(())
}
