//! What a person sees: colour on a terminal, plain lines in a pipe.

use crate::{
    cli::colour,
    sandbox::world::{FUNCTION_KEY, HOOK_TOKEN, World},
};
use std::{
    error::Error,
    io::{self, Write},
};

pub(super) struct Terminal {
    colour: bool,
}

impl Terminal {
    pub(super) fn new() -> Self {
        Self { colour: colour::wanted(&io::stdout()) }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(text: &str) {
        // A reader that went away wants no more.
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// A chapter of the story.
    pub(super) fn head(&self, text: &str) {
        Self::line(&format!("\n{}", self.paint("1", text)));
    }

    pub(super) fn say(&self, text: &str) {
        Self::line(&format!("  {text}"));
    }

    pub(super) fn quiet(&self, text: &str) {
        Self::line(&format!("  {}", self.paint("2", text)));
    }

    pub(super) fn good(&self, text: &str) {
        Self::line(&format!("  {} {text}", self.paint("32", "ok")));
    }

    pub(super) fn bad(&self, text: &str) {
        Self::line(&format!("  {} {text}", self.paint("31", "no")));
    }

    /// The whole chain of causes, once, on stderr.
    pub(super) fn fail(&self, failure: &dyn Error) {
        let mut text = format!("error: {failure}");
        let mut cause = failure.source();
        while let Some(deeper) = cause {
            text.push_str(&format!("\n  caused by: {deeper}"));
            cause = deeper.source();
        }
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Where everything listens, and a line to try.
    pub(super) fn addresses(&self, world: &World, with_host: bool) {
        self.head("The sandbox is up; Ctrl-C ends it");
        for (name, address) in world.addresses() {
            self.say(&format!("{name:<12} http://{address}"));
        }
        let Some(gitlab) = world.address("gitlab") else { return };
        let token = world.gitlab.admin_token();
        self.say("");
        self.say("Create a group, and what forerunner changes shows below:");
        self.say(&format!(
            "curl -s -H 'PRIVATE-TOKEN: {token}' -d 'name=payments&path=payments&parent_id=42' http://{gitlab}/api/v4/groups"
        ));
        self.say("See the runner that it got:");
        self.say(&format!(
            "curl -s -H 'PRIVATE-TOKEN: {token}' http://{gitlab}/api/v4/runners/all"
        ));
        if let Some(host) = world.address("host").filter(|_| with_host) {
            self.say("See what forerunner says of it:");
            self.say(&format!("curl -s 'http://{host}/api/fleet?code={FUNCTION_KEY}'"));
        }
        self.quiet(&format!("GitLab's hooks carry the token {HOOK_TOKEN}"));
    }
}
