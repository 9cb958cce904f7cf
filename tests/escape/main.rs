//! What a hostile job tries, each attempt made for real, as root.
//!
//! A destination that no policy declares stands for the outside world: reaching it is the escape. It counts who
//! reaches it, so that a test never takes the job's word.

mod control;
mod egress;
mod shared;
