//! `lineal`: the host agent and its command line.
mod kernel;
fn main() {
    for f in kernel::probe() { println!("{f:?}"); }
}
