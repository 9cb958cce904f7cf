//! The audit trail: its records and the hash chain that binds them.
