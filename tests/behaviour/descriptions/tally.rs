//! What one run of the suite checked: written by its process, read by `tests/descriptions.rs`.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// Replaced as a whole by each process that runs behaviour tests.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Whether the process was asked for all tests.
    pub(crate) whole: bool,
    /// By name of the description's file.
    pub(crate) files: BTreeMap<String, Checked>,
    /// How often each exception was needed; all are listed.
    pub(crate) exceptions: BTreeMap<String, u64>,
    pub(crate) violations: Vec<String>,
}

/// How much was held against one file.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Checked {
    pub(crate) requests: u64,
    pub(crate) answers: u64,
    /// Of these operations, such as `GET /secrets`.
    pub(crate) operations: BTreeSet<String>,
}

/// Where the tally lies: in Cargo's own folder for what tests leave.
pub(crate) fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("descriptions.json")
}
