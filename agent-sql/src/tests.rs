//! Statements and what they are said to do.
