//! What a query weighs before it is answered.
//! Source: <https://docs.gitlab.com/api/graphql/#limits>; the weights are near GitLab's own, and not all of them.

use super::{Context, parse::Field};

/// Fields of which one page is shown.
const LISTS: [&str; 4] = ["runners", "groups", "projects", "managers"];
const PAGE_MAX: f64 = 100.0;

impl Context<'_> {
    /// A refusal, where the query weighs more than the instance lets pass.
    pub(super) fn too_complex(&self, selection: &[Field]) -> Option<String> {
        let weight = self.weigh(selection).ceil();
        let most = self.state.settings.complexity_max;
        (weight > most as f64).then(|| {
            format!("Query has complexity of {weight}, which exceeds max complexity of {most}")
        })
    }

    /// Every field is one, a search and an order more; in a list each row adds a hundredth.
    fn weigh(&self, selection: &[Field]) -> f64 {
        let one = |field: &Field| {
            let own = 1.0
                + if self.argument(field, "search").is_some() { 5.0 } else { 0.0 }
                + if self.argument(field, "sort").is_some() { 1.0 } else { 0.0 };
            let whole = own + self.weigh(&field.selection);
            if !LISTS.contains(&field.name.as_str()) {
                return whole;
            }
            let first = self.argument(field, "first").and_then(|first| first.as_f64());
            whole * (1.0 + first.unwrap_or(PAGE_MAX).min(PAGE_MAX) / 100.0)
        };
        selection.iter().map(one).sum()
    }
}
