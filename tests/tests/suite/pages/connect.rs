//! The password `web`: psql waits until its person has typed its code into the browser.

use super::stage::Stage;
use countersign_infra::domain::audit::Happening;
use countersign_tests::provider::Browser;
use countersign_tests::wait::eventually;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use url::Url;

const SOON: Duration = Duration::from_secs(20);

/// A psql that waits for its person.
pub(super) struct Waiting {
    child: Child,
    errors: BufReader<ChildStderr>,
    pub link: Url,
    pub code: String,
}

fn psql(stage: &Stage) -> Command {
    let mut command = Command::from(stage.world.gateway.psql("web", "shop"));
    command
        .args(["--tuples-only", "--no-align", "--command", "select 40 + 2"])
        .env("PGUSER", "somebody")
        .env("PGAPPNAME", "psql <b>")
        .env("PGCONNECT_TIMEOUT", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Waiting {
    /// Starts psql and reads what it shows at once.
    pub async fn start(stage: &Stage) -> Self {
        let mut child = psql(stage).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut shown = String::new();
        while !shown.contains("HINT:") {
            let read = tokio::time::timeout(SOON, errors.read_line(&mut shown)).await;
            assert_ne!(read.expect("psql shows the notice at once").unwrap(), 0, "{shown}");
        }
        assert!(
            shown.starts_with("NOTICE:  countersign: sign in by a browser"),
            "{shown}"
        );
        let word_after = |mark: &str| {
            shown
                .split(mark)
                .nth(1)
                .and_then(|rest| rest.split(' ').next())
                .unwrap()
        };
        Self {
            link: word_after("DETAIL:  Open ").parse().unwrap(),
            code: word_after("type the code ").to_owned(),
            child,
            errors,
        }
    }

    /// Its exit code, and all that it printed since.
    pub async fn end(mut self) -> (i32, String) {
        let mut printed = String::new();
        let mut output = self.child.stdout.take().unwrap();
        let ended = tokio::time::timeout(SOON, async {
            output.read_to_string(&mut printed).await.unwrap();
            self.errors.read_to_string(&mut printed).await.unwrap();
            self.child.wait().await.unwrap()
        });
        (ended.await.expect("psql ends").code().unwrap_or(-1), printed)
    }
}

/// Connections of the gateway to the server.
async fn dialled(stage: &Stage) -> i64 {
    let query = "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'countersign: %'";
    stage.world.count(query).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_goes_on_as_the_person_who_typed_its_code() {
    let stage = Stage::set().await.unwrap();
    let waiting = Waiting::start(&stage).await;
    let mut alice = Browser::new().unwrap();
    let page = alice.open(waiting.link.clone(), "alice").await.unwrap();
    for told in ["Connect to shop as alice?", "somebody", "127.0.0.1:", "psql &lt;b&gt;"] {
        assert!(page.text.contains(told), "{told}: {}", page.text);
    }
    assert!(!page.text.contains(&waiting.code), "the page does not know the code");
    let wrong = alice.submit(&page, &[("code", "0000-0000")]).await.unwrap();
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.text.contains("That code was wrong. 2 more tries."),
        "{}",
        wrong.text
    );
    assert_eq!(dialled(&stage).await, 0, "nothing is dialled before");
    let typed = waiting.code.to_lowercase();
    let page = alice.submit(&wrong, &[("code", typed.as_str())]).await.unwrap();
    assert!(page.text.contains("goes on as <strong>alice</strong>"), "{}", page.text);
    let (link, code) = (waiting.link.clone(), waiting.code.clone());
    assert_eq!(waiting.end().await, (0, "42\n".to_owned()));
    let opened = stage.journaled("session_opened").await;
    let Happening::SessionOpened { header } = &opened.last().unwrap().what else {
        panic!("{opened:?}");
    };
    let key = &header.person.key;
    assert_eq!(
        key.issuer.trim_end_matches('/'),
        stage.provider.url.as_str().trim_end_matches('/')
    );
    assert_eq!(
        (key.subject.as_str(), header.client.application.as_str()),
        ("alice", "psql <b>")
    );
    let log = stage.world.gateway.log();
    let secret = link.path().trim_start_matches("/connect/");
    assert!(
        log.contains("/connect/") && !log.contains(secret) && !log.contains(&code),
        "{log}"
    );
    // The link was good once.
    eventually("the link to be over", SOON, async || {
        let page = alice.open(link.clone(), "alice").await.unwrap();
        (page.status == 404).then_some(())
    })
    .await
    .unwrap();
    let again = alice.submit(&page, &[("code", code.as_str())]).await.unwrap();
    assert_eq!(again.status, 404, "{}", again.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_in_the_browser_or_three_wrong_codes_end_the_wait() {
    let stage = Stage::set().await.unwrap();
    let mut bob = Browser::new().unwrap();

    let waiting = Waiting::start(&stage).await;
    let mut page = bob.open(waiting.link.clone(), "bob").await.unwrap();
    for _ in 0..3 {
        page = bob.submit(&page, &[("code", "K7Q2-M4XA")]).await.unwrap();
    }
    assert!(page.text.contains("A wrong code was typed 3 times"), "{}", page.text);
    let late = bob.submit(&page, &[("code", waiting.code.as_str())]).await.unwrap();
    assert!(late.status >= 400, "{}", late.text);
    let (exit, printed) = waiting.end().await;
    assert_eq!(exit, 2, "{printed}");
    assert!(
        printed.contains("the sign-in was refused: a wrong code was typed 3 times"),
        "{printed}"
    );

    let waiting = Waiting::start(&stage).await;
    let page = bob.open(waiting.link.clone(), "bob").await.unwrap();
    let page = bob.submit(&page, &[("choice", "refuse")]).await.unwrap();
    assert!(page.text.contains("efused in the browser by bob"), "{}", page.text);
    let (exit, printed) = waiting.end().await;
    assert_eq!(exit, 2, "{printed}");
    assert!(printed.contains("efused in the browser by bob"), "{printed}");

    // A client that leaves takes its link with it.
    let mut waiting = Waiting::start(&stage).await;
    waiting.child.start_kill().unwrap();
    eventually("the link to be over", SOON, async || {
        let page = bob.open(waiting.link.clone(), "bob").await.unwrap();
        (page.status == 404).then_some(())
    })
    .await
    .unwrap();

    let refused = eventually("all three on record", SOON, async || {
        let refused = stage.journaled("sign_in_refused").await;
        (refused.len() == 3).then_some(refused)
    });
    let refused = refused.await.unwrap();
    let whys = refused.iter().map(|event| event.what.words()[0]);
    for (why, expected) in whys.zip(["3 times", "in the browser by bob", "the client left"]) {
        assert!(why.contains(expected), "{why}");
    }
    assert_eq!(dialled(&stage).await, 0);
    assert!(stage.journaled("session_opened").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_clients_wait_at_once() {
    let stage = Stage::set().await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(Waiting::start(&stage).await);
    }
    let turned_away = psql(&stage).output().await.unwrap();
    let told = String::from_utf8_lossy(&turned_away.stderr).into_owned();
    assert!(told.contains("too many connections wait for a sign-in"), "{told}");
    drop(waiting.pop());
    eventually("a place to be free", SOON, async || {
        stage
            .journaled("sign_in_refused")
            .await
            .iter()
            .any(|event| event.what.words()[0].contains("left"))
            .then_some(())
    })
    .await
    .unwrap();
    Waiting::start(&stage).await;
}
