//! Temporary.
fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    let dir = std::path::Path::new("../agent-ebpf");
    println!("cargo:rerun-if-changed=../agent-ebpf/src");
    println!("cargo:rerun-if-changed=../agent-abi/src");
    let mut c = std::process::Command::new(std::env::var("CARGO").unwrap());
    c.current_dir(dir).args(["build","--release","--target","bpfel-unknown-none","--target-dir"]).arg(format!("{out}/ebpf"));
    for k in ["RUSTC_WORKSPACE_WRAPPER","RUSTC_WRAPPER","RUSTFLAGS"] { c.env_remove(k); }
    c.env("RUSTC","/usr/bin/rustc").env("RUSTC_BOOTSTRAP","1").env("CARGO_ENCODED_RUSTFLAGS","--cfg=bpf_target_arch=\"x86_64\"\x1f-Cdebuginfo=2\x1f-Clinker=bpf-linker\x1f-Clink-arg=--btf");
    assert!(c.status().unwrap().success());
    std::fs::copy(format!("{out}/ebpf/bpfel-unknown-none/release/lineal-ebpf"), format!("{out}/lineal-ebpf")).unwrap();
}
