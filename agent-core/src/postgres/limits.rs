//! The bounds of one session: what a client can make lineal remember or hold, and where that ends.

/// Bounds of one session.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest StartupMessage. PostgreSQL's own limit is 10 000 (`MAX_STARTUP_PACKET_LENGTH`).
    pub startup_bytes_max: usize,
    /// The longest Query, Parse or FunctionCall message that is read; a longer one is denied. The client's
    /// buffer must be able to hold one. The default has room for a text of 16 MiB and what goes with it.
    pub message_bytes_max: usize,
    /// Unanswered messages at once. Beyond this the client waits, and the upstream is asked to flush.
    pub pipeline_max: usize,
    /// Named prepared statements at once. Beyond this a Parse is denied.
    pub statements_max: usize,
    /// Named portals at once. Beyond this the session ends.
    pub portals_max: usize,
    /// Bytes of statement texts and parameter values kept at once. Beyond this a Parse is denied, and the
    /// values of a Bind are not kept. A text stays until the upstream has answered the Parse that replaces
    /// it: so by default there is room for two of the longest.
    pub kept_bytes_max: usize,
    /// The longest Bind message whose values are kept for the audit trail; 0 keeps none.
    pub parameters_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            startup_bytes_max: 10_000,
            message_bytes_max: (16 << 20) + (64 << 10),
            pipeline_max: 4096,
            statements_max: 4096,
            portals_max: 1024,
            kept_bytes_max: 36 << 20,
            parameters_bytes_max: 8 * 1024,
        }
    }
}

impl Limits {
    /// How large the upstream's buffer must be. Longer messages are streamed through it.
    pub const UPSTREAM_BUFFER_BYTES: usize = 4096;
}
