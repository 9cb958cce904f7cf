//! `cargo xtask setup`: gives a Debian 12 machine what a purpose needs. It looks before it acts, says what it
//! installs and why, and must start no service.

mod linker;
mod needs;
mod node;
mod packages;
mod python;

pub(crate) use needs::Purpose;

use crate::{shell::say, toolchain};

/// Makes sure that everything for a purpose is there. Silent and quick when it is.
pub(crate) fn setup(purpose: Purpose) -> anyhow::Result<()> {
    let missing = toolchain::find().err();
    let mut needs = needs::always(purpose);
    if let Some(missing) = &missing {
        needs.extend(needs::for_ebpf(missing));
    }
    if purpose.raises_labs() && !node::is_recent_enough() {
        needs.push(needs::NODE);
    }
    if purpose.runs_tests() || (purpose.raises_labs() && !node::has_npm()?) {
        needs.push(needs::PIP);
    }
    packages::install(&needs)?;
    if let Some(missing) = missing {
        if missing.linker {
            linker::install()?;
        }
        let found = toolchain::find().map_err(|missing| anyhow::anyhow!("{missing}"))?;
        say(format_args!("eBPF programs are compiled by {} and {}", found.compiler, found.linker.display()));
    }
    if purpose.raises_labs() {
        node::install_modules("oidc", "the lab's OpenID provider")?;
    }
    if purpose.runs_tests() {
        node::install_modules("clients/node", "node-postgres, a driver under test")?;
        node::fetch_pinned()?;
        node::install_modules("frameworks/node", "frameworks under test")?;
        python::install_packages("frameworks/python", "frameworks under test")?;
        node::install_modules("frameworks/migrations", "migration tools under test")?;
        python::install_packages("frameworks/migrations", "migration tools under test")?;
    }
    Ok(())
}
