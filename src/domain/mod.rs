//! What should be, what is, and what to do about it. No async, no clock, no input or output.

pub mod azure;
pub mod class;

pub mod claim;
pub mod fleet;
pub mod gitlab;
pub mod hook;
pub mod ids;
pub mod kubernetes;
pub mod message;
