//! A conversation with the real `psql` program, as a person has it.

use crate::wait::eventually_blocking;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(30);
/// No prompts, no line editing, no pager: what it prints is what it says.
const PLAIN: [&str; 7] = [
    "--no-readline",
    "--pset=pager=off",
    "-v",
    "PROMPT1=",
    "-v",
    "PROMPT2=",
    "--no-psqlrc",
];

/// A running `psql`. Everything it prints, on either stream, is kept in order.
pub struct Psql {
    child: Child,
    input: Option<ChildStdin>,
    output: Arc<Mutex<String>>,
    /// How much of the output was looked at already.
    seen: usize,
    statements: usize,
}

impl Psql {
    /// Starts it with the arguments and environment of `command` (see `Gateway::psql`), at a terminal of its own:
    /// without one, psql ends at Ctrl-C. Returns once it is connected.
    pub fn start(command: &Command) -> Result<Self> {
        let mut words = vec![command.get_program().to_string_lossy().into_owned()];
        words.extend(
            command
                .get_args()
                .map(|argument| argument.to_string_lossy().into_owned()),
        );
        words.extend(PLAIN.map(str::to_owned));
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--flush", "--return", "--command"]);
        terminal
            .arg(format!("stty -echo; exec {}", words.join(" ")))
            .arg("/dev/null");
        terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        terminal
            .env("SHELL", "/bin/sh")
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = terminal.process_group(0).spawn().context("cannot run script(1)")?;
        let output = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().context("psql has no output")?, Arc::clone(&output));
        let input = child.stdin.take();
        let mut psql = Self {
            child,
            input,
            output,
            seen: 0,
            statements: 0,
        };
        psql.run("", START_LIMIT)?;
        Ok(psql)
    }

    /// Types a line and does not wait.
    pub fn send(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("psql's input is closed")?;
        Ok(writeln!(input, "{line}").and_then(|()| input.flush())?)
    }

    /// Types a statement, waits until psql has dealt with it, and gives what it printed.
    pub fn run(&mut self, statement: &str, limit: Duration) -> Result<String> {
        let typed = self.begin(statement)?;
        self.finish(&typed, limit)
    }

    /// Types a statement and does not wait for its end; `finish` does.
    pub fn begin(&mut self, statement: &str) -> Result<Typed> {
        self.statements += 1;
        let marker = format!("-- end of statement {} --", self.statements);
        self.send(statement)?;
        // Typed with quotes that are not printed: what a terminal may echo is not taken for the answer.
        let echo = format!("\\echo '-- end' 'of statement {} --'", self.statements);
        self.send(&echo)?;
        Ok(Typed {
            statement: statement.to_owned(),
            marker,
            echo,
        })
    }

    /// Waits for a text in what was printed since the last statement ended; gives all of that.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        let what = format!("psql to print {text:?}");
        let found = eventually_blocking(&what, limit, || {
            let ended = self.child.try_wait().ok().flatten().is_some();
            let printed = self.unseen();
            (printed.contains(text) || ended).then_some(printed)
        });
        match found {
            Ok(printed) if printed.contains(text) => Ok(printed),
            Ok(printed) => bail!("psql ended and had printed:\n{printed}"),
            Err(error) => Err(error.context(format!("psql has printed:\n{}", self.unseen()))),
        }
    }

    /// Waits until psql has dealt with a statement, and gives what it printed for it.
    pub fn finish(&mut self, typed: &Typed, limit: Duration) -> Result<String> {
        let printed = self
            .wait_for(&typed.marker, limit)
            .with_context(|| typed.statement.clone())?;
        let (before, _) = printed.split_once(&typed.marker).unwrap_or((&printed, ""));
        self.seen += before.len() + typed.marker.len();
        Ok(before.trim_matches('\n').to_owned())
    }

    /// Everything printed and not yet taken by `finish`.
    pub fn unseen(&self) -> String {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.get(self.seen..).unwrap_or_default().to_owned()
    }

    /// Presses Ctrl-C during a statement; `finish` gives what comes of it.
    pub fn interrupt(&mut self, typed: &Typed) -> Result<()> {
        let input = self.input.as_mut().context("psql's input is closed")?;
        input.write_all(b"\x03")?;
        // A terminal forgets at Ctrl-C what was typed ahead.
        self.send(&typed.echo)
    }

    /// Ends the input and waits for the program's end.
    pub fn quit(mut self) -> Result<()> {
        self.send("\\q")?;
        eventually_blocking("psql to end", Duration::from_secs(10), || {
            self.child.try_wait().ok().flatten()
        })?;
        Ok(())
    }
}

/// A statement that was typed.
#[derive(Debug)]
pub struct Typed {
    statement: String,
    marker: String,
    echo: String,
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps what psql prints, without the terminal's carriage returns.
fn collect(mut pipe: ChildStdout, sink: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut bytes = [0; 8192];
        while let Ok(count @ 1..) = pipe.read(&mut bytes) {
            let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).replace('\r', "");
            sink.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
        }
    });
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{HOST, Postgres};

    #[tokio::test]
    async fn psql_can_be_talked_to_and_interrupted() {
        let server = Postgres::shared().await.unwrap();
        let database = server.database("create table t (a int)").await.unwrap();
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc"]);
        command
            .env("PGHOST", HOST)
            .env("PGPORT", server.port().to_string())
            .env("PGSSLMODE", "require");
        command
            .env("PGUSER", &database.user)
            .env("PGPASSWORD", &database.password)
            .env("PGDATABASE", &database.name);
        let limit = Duration::from_secs(20);
        let mut psql = Psql::start(&command).unwrap();
        assert_eq!(psql.run("insert into t values (1);", limit).unwrap(), "INSERT 0 1");
        let typed = psql
            .begin("do $$ begin raise notice 'now asleep'; perform pg_sleep(600); end $$;")
            .unwrap();
        psql.wait_for("now asleep", limit).unwrap();
        psql.interrupt(&typed).unwrap();
        let printed = psql.finish(&typed, limit).unwrap();
        assert!(printed.contains("canceling statement due to user request"), "{printed}");
        assert!(psql.run("select a + 41 from t;", limit).unwrap().contains("42"));
        psql.quit().unwrap();
    }
}
