//! The PostgreSQL protocol, version 3.0, as a state machine without I/O.
