//! The fleet as one page for people: no assets from elsewhere, filters that work without a script, well-formed down to
//! the last element. Every text passes [`Html::text`], and with it the veil.

use super::veil::veil;
use crate::{
    domain::{
        fleet_status::FleetStatus,
        ids::Unit,
        records::ParkedPlan,
        standing::{Standing, from_now, telling},
        status::{Condition, RoundRecord, Status},
    },
    functions::work::Told,
};
use jiff::Timestamp;
use std::collections::BTreeMap;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Steps of one round that are told; more are counted. JSON has all.
const STEPS_MAX: usize = 12;
/// Units of one plan that are told; more are counted.
const REMOVALS_MAX: usize = 50;
/// Rounds of a unit that is ready, and steps of one: its conditions say it all, and most units are ready.
const ROUNDS_OF_READY: usize = 1;
const STEPS_OF_READY: usize = 3;

/// The whole page as of `now`.
pub(super) fn page(told: &Told, now: Timestamp, nonce: &str) -> String {
    let mut units: Vec<(Standing, &Status)> =
        told.units.iter().map(|status| (Standing::of(status), status)).collect();
    units.sort_by(|left, right| (left.0, &left.1.unit).cmp(&(right.0, &right.1.unit)));
    let profiles = profiles(&told.units);
    let title =
        told.fleet.as_ref().map_or_else(|| "Fleet".to_owned(), |name| format!("Fleet {name}"));
    let mut html = Html(String::with_capacity(4096 + 2048 * units.len()));
    head(&mut html, &title, nonce, profiles.len());
    html.raw("<a class=\"skip\" href=\"#units\">Skip to the units</a>\n<header>\n");
    html.element("h1", &title);
    html.element("p", &summary(&units));
    html.raw("<p>As of ");
    time(&mut html, now, &format!("{now:.0}"));
    html.raw(". Seen from what each unit's rounds wrote down.</p>\n</header>\n");
    if told.fleet.is_none() {
        html.element("p", "The fleet's file is not valid, so nothing is known. The health function and the log say why.");
    }
    told.removals.iter().for_each(|plan| removals(&mut html, plan, now));
    told.fleet_status.iter().for_each(|whole| fleet_as_a_whole(&mut html, whole, now));
    filters(&mut html, &units, &profiles);
    html.raw("<main id=\"units\" tabindex=\"-1\">\n<ul class=\"units\">\n");
    for (standing, status) in &units {
        unit(&mut html, *standing, status, profiles.get(&profile(&status.unit)).copied(), now);
    }
    html.raw("</ul>\n</main>\n");
    html.raw(&format!("<script nonce=\"{nonce}\">\n{SCRIPT}</script>\n</body>\n</html>\n"));
    html.0
}

/// What is shown where nothing can be read.
pub(super) fn failure(reason: &str, nonce: &str) -> String {
    let mut html = Html(String::new());
    head(&mut html, "Fleet", nonce, 0);
    html.element("h1", "The fleet cannot be shown");
    html.element("p", reason);
    html.raw("</body>\n</html>\n");
    html.0
}

fn head(html: &mut Html, title: &str, nonce: &str, profiles: usize) {
    html.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n");
    html.element("title", title);
    html.raw(&format!("<style nonce=\"{nonce}\">\n{STYLE}"));
    let states = Standing::ALL.map(|standing| class(standing).to_owned());
    let profiles = (0..profiles).map(|number| format!("p-{number}"));
    for one in states.into_iter().chain(profiles) {
        // A filter is a style: it needs no script. Of the whole body, `:has` would be judged anew for each unit.
        html.raw(&format!(
            "form:has(#only-{one}:checked) ~ main .unit:not(.{one}) {{ display: none; }}\n"
        ));
    }
    html.raw("</style>\n</head>\n<body>\n");
}

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Parked => "parked",
        Standing::NeedsAdministrator => "needs-administrator",
        Standing::NotReady => "not-ready",
        Standing::Ready => "ready",
    }
}

fn summary(units: &[(Standing, &Status)]) -> String {
    let counts = Standing::ALL.map(|standing| {
        let count = units.iter().filter(|(of, _)| *of == standing).count();
        format!("{count} {}", standing.word())
    });
    format!("{} units: {}.", units.len(), counts.join(", "))
}

/// Every profile with a number, which is a legal class whatever the name.
fn profiles(units: &[Status]) -> BTreeMap<String, usize> {
    let names: std::collections::BTreeSet<String> =
        units.iter().map(|status| profile(&status.unit)).filter(|name| !name.is_empty()).collect();
    names.into_iter().zip(0..).collect()
}

/// Empty for what belongs to no one profile.
fn profile(unit: &Unit) -> String {
    match unit {
        Unit::Runner(key) => key.profile.to_string(),
        Unit::Domain(profile) => profile.to_string(),
        Unit::Target(_) | Unit::Identity(_) => String::new(),
    }
}

/// What the brake holds.
fn removals(html: &mut Html, plan: &ParkedPlan, now: Timestamp) {
    html.raw("<section id=\"removals\" aria-label=\"Removals that the brake holds\">\n");
    html.element("h2", "Removals that the brake holds");
    html.raw("<p>Since ");
    time(html, plan.since, &from_now(plan.since, now));
    html.text(&format!(", plan {}: {}; {}", plan.id, plan.words(), plan.remedy()));
    html.raw("</p>\n<ul>\n");
    for (unit, why) in plan.wants.iter().take(REMOVALS_MAX) {
        html.element("li", &format!("{unit}: {}", why.as_str()));
    }
    let more = plan.wants.len().saturating_sub(REMOVALS_MAX);
    if more > 0 {
        html.element("li", &format!("and {more} more"));
    }
    html.raw("</ul>\n</section>\n");
}

/// What sweeps found that is no unit's.
fn fleet_as_a_whole(html: &mut Html, whole: &FleetStatus, now: Timestamp) {
    if whole.is_quiet() {
        return;
    }
    html.raw("<section id=\"whole\" aria-label=\"The fleet as a whole\">\n");
    html.element("h2", "The fleet as a whole");
    html.raw("<ul>\n");
    for finding in &whole.findings {
        html.raw("<li><strong>");
        html.text(&format!("{:?}", finding.kind));
        html.raw("</strong> ");
        time(html, finding.since, &from_now(finding.since, now));
        html.text(&format!(": {}. {}", finding.message, finding.remedy));
        html.raw("</li>\n");
    }
    if whole.more > 0 {
        html.element("li", &format!("and {} more", whole.more));
    }
    for (reason, since) in whole.unseen() {
        html.raw("<li>Not seen by the sweep ");
        time(html, whole.swept_at, &from_now(whole.swept_at, now));
        html.raw(", for the first time ");
        time(html, since, &from_now(since, now));
        html.text(&format!(", so it permits nothing: {reason}"));
        html.raw("</li>\n");
    }
    for (kind, slice) in &whole.slices {
        html.element("li", &format!("Of {kind} {}.", slice.words()));
    }
    html.raw("</ul>\n</section>\n");
}

fn filters(html: &mut Html, units: &[(Standing, &Status)], profiles: &BTreeMap<String, usize>) {
    html.raw("<form aria-label=\"Filters\">\n<fieldset><legend>State</legend>\n");
    radio(html, "state", "all", "all");
    for standing in Standing::ALL {
        let count = units.iter().filter(|(of, _)| *of == standing).count();
        radio(html, "state", class(standing), &format!("{} ({count})", standing.word()));
    }
    html.raw("</fieldset>\n<fieldset><legend>Profile</legend>\n");
    radio(html, "profile", "all", "all");
    for (name, number) in profiles {
        radio(html, "profile", &format!("p-{number}"), name);
    }
    html.raw("</fieldset>\n<p id=\"search\"><label>Search <input type=\"search\" autocomplete=\"off\"/></label></p>\n");
    html.raw("</form>\n<p><output id=\"shown\" aria-live=\"polite\"></output></p>\n");
}

fn radio(html: &mut Html, name: &str, value: &str, label: &str) {
    let all = value == "all";
    let id = if all { format!("{name}-all") } else { format!("only-{value}") };
    let checked = if all { " checked=\"checked\"" } else { "" };
    html.raw(&format!(
        "<label><input type=\"radio\" name=\"{name}\" value=\"{value}\" id=\"{id}\"{checked}/> "
    ));
    html.text(label);
    html.raw("</label>\n");
}

fn unit(
    html: &mut Html,
    standing: Standing,
    status: &Status,
    number: Option<usize>,
    now: Timestamp,
) {
    let of_profile = number.map_or(String::new(), |number| format!(" p-{number}"));
    html.raw(&format!("<li class=\"unit {}{of_profile}\"><details><summary>", class(standing)));
    html.span(Some("is"), standing.word());
    html.span(None, &status.unit.to_string());
    html.span(None, status.path.as_deref().unwrap_or_default());
    match telling(status, standing) {
        Some(condition) => time(html, condition.since, &from_now(condition.since, now)),
        None => html.span(None, ""),
    }
    html.raw("</summary><div class=\"more\">\n");
    if let Some(parked) = &status.parked {
        html.raw("<p>Parked since ");
        time(html, parked.since, &from_now(parked.since, now));
        html.raw(&format!(", tried {} time(s) again, next ", parked.tries));
        time(html, parked.next, &from_now(parked.next, now));
        html.raw(".</p>\n");
    }
    conditions(html, &status.conditions, now);
    let (rounds, steps) = match standing {
        Standing::Ready => (ROUNDS_OF_READY, STEPS_OF_READY),
        Standing::Parked | Standing::NeedsAdministrator | Standing::NotReady => {
            (usize::MAX, STEPS_MAX)
        }
    };
    for record in status.rounds.iter().take(rounds) {
        round(html, record, steps, now);
    }
    html.raw("</div></details></li>\n");
}

fn conditions(html: &mut Html, conditions: &[Condition], now: Timestamp) {
    html.raw("<table><thead><tr><th scope=\"col\">Condition</th><th scope=\"col\">Holds</th><th scope=\"col\">Why</th><th scope=\"col\">Since</th></tr></thead><tbody>\n");
    for condition in conditions {
        html.raw("<tr><th scope=\"row\">");
        html.text(&format!("{:?}", condition.kind));
        html.raw(if condition.status { "</th><td>yes</td><td>" } else { "</th><td>no</td><td>" });
        html.text(&format!("{}: {}", condition.reason, condition.message));
        html.raw("</td><td>");
        time(html, condition.since, &from_now(condition.since, now));
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table>\n");
}

fn round(html: &mut Html, record: &RoundRecord, steps: usize, now: Timestamp) {
    html.raw("<p>Round ");
    time(html, record.at, &from_now(record.at, now));
    // A hook's delivery has nothing but a GUID.
    match veil(&record.cause).as_str() {
        "…" => html.text(", caused by a delivery"),
        cause => html.text(&format!(", caused by {cause}")),
    }
    if let Some(took) = record.took {
        html.text(&format!(", took {took:#}"));
    }
    if let Some(failure) = &record.failure {
        html.text(&format!(": {failure}"));
    }
    html.raw("</p>\n");
    if record.did.is_empty() {
        return;
    }
    html.raw("<ul>");
    record.did.iter().take(steps).for_each(|step| html.element("li", step));
    let more = record.did.len().saturating_sub(steps);
    if more > 0 {
        html.element("li", &format!("and {more} more"));
    }
    html.raw("</ul>\n");
}

fn time(html: &mut Html, at: Timestamp, words: &str) {
    html.raw(&format!("<time datetime=\"{at:.0}\">"));
    html.text(words);
    html.raw("</time>");
}

/// A page being written.
struct Html(String);

impl Html {
    /// Markup of our own.
    fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// Anything else: veiled, escaped, and without what no page may hold.
    fn text(&mut self, text: &str) {
        for c in veil(text).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c if c.is_control() && !matches!(c, '\n' | '\t') => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
    }

    fn element(&mut self, name: &str, text: &str) {
        self.raw(&format!("<{name}>"));
        self.text(text);
        self.raw(&format!("</{name}>\n"));
    }

    fn span(&mut self, class: Option<&str>, text: &str) {
        match class {
            Some(class) => self.raw(&format!("<span class=\"{class}\">")),
            None => self.raw("<span>"),
        }
        self.text(text);
        self.raw("</span>");
    }
}
