//! What the demo prints.
#![allow(clippy::print_stdout, reason = "the demo speaks to the one who started it")]

/// Prints steps, or nothing when the story is played by a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    Terminal,
    Silent,
}

impl Screen {
    /// Begins a step of the story.
    pub fn step(self, title: &str) {
        self.print(&format!("\n== {title}"));
    }

    /// Shows what somebody typed, and what came back.
    pub fn exchange(self, prompt: &str, typed: &str, printed: &str) {
        self.print(&format!("{prompt} {typed}"));
        for line in printed.lines() {
            self.print(&format!("    {line}"));
        }
    }

    /// States something that was checked.
    pub fn checked(self, fact: &str) {
        self.print(&format!("  ok: {fact}"));
    }

    pub fn progress(self, what: &str) {
        self.print(&format!(".. {what}"));
    }

    pub fn print(self, text: &str) {
        match self {
            Self::Terminal => println!("{text}"),
            Self::Silent => {}
        }
    }
}
