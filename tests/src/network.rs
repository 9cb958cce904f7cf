//! A network namespace of its own for one command: loopback, and a device through which IPv4 alone is routed.

use std::process::Command;

/// The namespace's own address.
pub const ADDRESS: &str = "192.0.2.1";
/// An address that is routed to through the device; nobody is there.
pub const FAR: &str = "198.51.100.7";
/// A name in the namespace's hosts file, first with an IPv6 address that no route leads to, then as [`FAR`].
pub const NAME: &str = "both.lab.example";

/// The other end of the device is a second one. Its address is known, so that no packet but the command's own
/// is sent: the device's counter shows what leaves.
const SET_UP: &str = r#"
set -e
ip link set lo up
ip link add out type veth peer name far
for device in out far; do
    echo 1 > /proc/sys/net/ipv6/conf/$device/disable_ipv6
    ip link set $device up
done
ip addr add 192.0.2.1/24 dev out
ip neigh add 192.0.2.254 lladdr 02:00:00:00:00:01 dev out nud permanent
ip route add default via 192.0.2.254
mount -t tmpfs none /mnt
printf '127.0.0.1 localhost\n2001:db8::7 both.lab.example\n198.51.100.7 both.lab.example\n' > /mnt/hosts
mount --bind /mnt/hosts /etc/hosts
exec "$0" "$@"
"#;

/// The command, in a namespace of its own.
pub fn apart(command: &Command) -> Command {
    let mut apart = Command::new("unshare");
    apart.args(["--net", "--mount", "/bin/sh", "-c", SET_UP]).arg(command.get_program());
    apart.args(command.get_args());
    apart.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    apart
}
