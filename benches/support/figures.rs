//! Figures as people read them.
#![expect(clippy::print_stdout, reason = "a benchmark's result is its output")]

/// The value below which `share` (0 to 1) of the samples lie.
pub(crate) fn percentile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (share * (sorted.len().saturating_sub(1)) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Prints rows of *what*, *figure* and *goal* under a heading, in columns.
pub(crate) fn table(heading: &str, rows: &[[String; 3]]) {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let (what, figure) = (width(0), width(1));
    println!("\n{heading}");
    for [name, value, goal] in rows {
        println!("  {name:what$}  {value:>figure$}  {goal}");
    }
}
