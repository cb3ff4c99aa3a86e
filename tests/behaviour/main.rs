//! What forerunner does, seen from outside: one module a behaviour, one binary because linking is what costs.

mod check;
mod fleet_file;
