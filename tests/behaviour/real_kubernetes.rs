//! One suite, two servers: the sandbox's API and, where it was asked for, a real one. What holds for one must hold for
//! the other.

mod adapter;
mod attacks;
pub(crate) mod cluster;
mod drift;
mod limits;
mod managers;
mod path;
mod rows;
mod target;
