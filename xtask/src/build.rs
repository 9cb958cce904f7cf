//! Builds the agent for the chores that run it.

use lineal_tests::paths;

use crate::{
    run, say,
    setup::{self, Purpose, cargo},
};

/// How the agent is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// With all checks, and soonest.
    Dev,
    /// As it ships.
    Release,
}

/// Sets up, builds the agent, and makes labs use it.
pub(crate) fn agent(purpose: Purpose, profile: Profile) -> anyhow::Result<()> {
    setup::setup(purpose)?;
    build(profile)
}

/// Builds the agent, and makes labs use it.
pub(crate) fn build(profile: Profile) -> anyhow::Result<()> {
    say(format_args!("building lineal (the first time takes some minutes)"));
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "agent"]).current_dir(paths::repository());
    if profile == Profile::Release {
        build.arg("--release");
    }
    run(&mut build)?;
    if profile == Profile::Release {
        let target = paths::profile_dir()?;
        paths::use_lineal(target.with_file_name("release").join("lineal"));
    }
    Ok(())
}
