//! Brings the kernel side up: takes the pins, loads the object, attaches every program in order.
//!
//! Either every program is attached or none: a half-attached agent would follow processes whose connections
//! it doesn't see, or the reverse.

use std::fs::File;

use aya::Btf;

use super::{
    cgroups::cgroup_root,
    config::KernelConfig,
    cover::Cover,
    error::KernelError,
    events::EventStream,
    maps::Kernel,
    object::load_object,
    pins::Pins,
    programs::{
        CGROUP_PROGRAMS, CGROUP_TRACEPOINTS, COVER_PROGRAMS, PROCESS_TRACEPOINTS, attach_to_cgroup,
        attach_tracing, load_program, loaded,
    },
    rules::Rules,
};

/// Loads and attaches everything, in place of what an earlier agent has left attached. Every connection of a
/// followed process is refused until the lease is renewed.
pub fn load(config: &KernelConfig, rules: &Rules) -> Result<(Kernel, EventStream), KernelError> {
    let cgroup_path = match &config.cgroup {
        Some(path) => path.clone(),
        None => cgroup_root()?,
    };
    let cgroup = File::open(&cgroup_path)
        .map_err(|source| KernelError::Cgroup { path: cgroup_path.clone(), source })?;
    let pins = Pins::hold(config.bpffs.as_deref())?;
    match attach(config, rules, &pins, &cgroup) {
        Ok((kernel, events, cover)) => Ok((kernel.keep(pins, cgroup_path, cover), events)),
        Err(error) => {
            // What an earlier agent has attached stays, and refuses.
            if !pins.inherited() {
                pins.remove_own();
            }
            Err(error)
        }
    }
}

fn attach(
    config: &KernelConfig,
    rules: &Rules,
    pins: &Pins,
    cgroup: &File,
) -> Result<(Kernel, EventStream, Cover), KernelError> {
    let mut ebpf = load_object(config, Some(pins), rules.kinds())?;
    rules.fill(&mut ebpf)?;
    let (kernel, events) = Kernel::new(&mut ebpf, config)?;
    let btf = Btf::from_sys_fs().map_err(|error| KernelError::Object(error.to_string()))?;
    // Before the hooks on calls, which leave to these programs what they let through.
    for (program, _) in COVER_PROGRAMS {
        load_program(&mut ebpf, program)?;
    }
    let cover = Cover::take_over(&ebpf, pins)?;
    for program in CGROUP_PROGRAMS {
        load_program(&mut ebpf, program)?;
        if !pins.update(program, loaded(&ebpf, program)?, cgroup)? {
            pins.pin(program, attach_to_cgroup(&mut ebpf, program, cgroup)?)?;
        }
    }
    for (program, tracepoint) in CGROUP_TRACEPOINTS {
        pins.pin(program, attach_tracing(&mut ebpf, program, tracepoint, &btf)?)?;
    }
    // From here on new cgroups are matched as they are made. The ones that exist are matched now, before the
    // first execution is looked up.
    rules.fill_cgroups(&mut ebpf)?;
    for (program, tracepoint) in PROCESS_TRACEPOINTS {
        pins.pin(program, attach_tracing(&mut ebpf, program, tracepoint, &btf)?)?;
    }
    pins.stop_other_layouts_enrolling();
    let log = aya_log::EbpfLogger::init(&mut ebpf).ok();
    Ok((kernel, events.with_log(log), cover))
}
