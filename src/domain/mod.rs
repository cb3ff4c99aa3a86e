//! What should be, what is, and what to do about it. No async, no clock, no input or output.

pub mod azure;
pub mod class;
pub mod fleet;

pub mod gitlab;
pub mod ids;
pub mod kubernetes;
pub mod marker;
pub mod names;
pub mod spec;
