//! `countersign login`, `logout` and `connect`, against a certified OpenID provider and with the real psql.

use anyhow::{Context, Result, ensure};
use countersign_tests::harness::{GatewayOptions, countersign};
use countersign_tests::provider::{Browser, Provider};
use countersign_tests::world::{TARGET, World, WorldOptions};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use url::Url;

const LIMIT: Duration = Duration::from_secs(60);

/// A gateway that signs people in at a provider, and one person's home.
struct Desk {
    provider: Provider,
    world: World,
    home: tempfile::TempDir,
}

impl Desk {
    /// A desk at which the command line is that client of the provider.
    async fn with(client: &str) -> Result<Self> {
        // Fails only when another test was first.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let provider = Provider::start().await?;
        let more = format!(
            "[[issuer]]\nurl = \"{}\"\naudiences = [\"{client}\"]\nlogin_client_id = \"{client}\"\nscopes = []\n",
            provider.url
        );
        let gateway = GatewayOptions {
            more,
            ..GatewayOptions::default()
        };
        let options = WorldOptions {
            gateway,
            ..WorldOptions::default()
        };
        Ok(Self {
            provider,
            world: World::start(options).await?,
            home: tempfile::tempdir()?,
        })
    }

    /// The command line of a person who has nothing but a home.
    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(countersign()?);
        let gateway = &self.world.gateway;
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").context("PATH")?)
            .env("HOME", self.home.path())
            .env("COUNTERSIGN_URL", gateway.http_url())
            .env("COUNTERSIGN_CA", gateway.path().join("ca.pem"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    async fn output(&self, arguments: &[&str]) -> Result<Output> {
        let output = tokio::time::timeout(LIMIT, self.command(arguments)?.output()).await;
        Ok(output.context("it does not end")??)
    }

    /// Runs a command: its exit code, and both streams.
    async fn run(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let output = self.output(arguments).await?;
        Ok((output.status.code().unwrap_or(-1), both(&output)))
    }

    /// Signs in on another device.
    async fn sign_in(&self, person: &str) -> Result<String> {
        let mut login = Login::start(self.command(&["login"])?)?;
        let (page, code) = login.device().await?;
        let told = Browser::new()?.type_code(&page, &code, "confirm", person).await?;
        ensure!(told.contains("Sign-in Success"), "{told}");
        let (status, said) = login.end().await?;
        ensure!(status == 0, "{status}: {said}");
        Ok(said)
    }

    fn state(&self) -> PathBuf {
        self.home.path().join(".local/state/countersign")
    }

    /// The file of what is kept, and what it says.
    fn kept(&self) -> Result<(PathBuf, Value)> {
        let entries = std::fs::read_dir(self.state())?;
        let mut files = entries.map(|entry| entry.unwrap().path());
        let file = files.find(|path| path.extension().is_some_and(|end| end == "json"));
        let file = file.context("nothing is kept")?;
        let text = std::fs::read_to_string(&file)?;
        Ok((file, serde_json::from_str(&text)?))
    }
}

/// A running `countersign login`.
struct Login {
    process: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl Login {
    fn start(mut command: Command) -> Result<Self> {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let said = BufReader::new(process.stderr.take().context("its errors")?).lines();
        Ok(Self { process, said })
    }

    /// The next line that starts so: the rest of it.
    async fn line(&mut self, start: &str) -> Result<String> {
        let find = async {
            while let Some(line) = self.said.next_line().await? {
                if let Some(rest) = line.trim().strip_prefix(start) {
                    return Ok(rest.trim().to_owned());
                }
            }
            anyhow::bail!("it never says {start:?}")
        };
        tokio::time::timeout(LIMIT, find).await.context("it says nothing")?
    }

    /// Where a code is to be typed, and the code.
    async fn device(&mut self) -> Result<(Url, String)> {
        let page = self.line("Open ").await?.parse()?;
        let code = self.line("and type the code ").await?;
        let complete = self.line("or open ").await?;
        ensure!(complete.contains(&code), "{complete}");
        Ok((page, code))
    }

    /// Waits for its end: the exit code, and what it said last.
    async fn end(mut self) -> Result<(i32, String)> {
        let rest = async {
            let mut rest = String::new();
            while let Some(line) = self.said.next_line().await? {
                rest += &format!("{line}\n");
            }
            let output = self.process.wait_with_output().await?;
            anyhow::Ok((output.status.code().unwrap_or(-1), rest + &both(&output)))
        };
        tokio::time::timeout(LIMIT, rest).await.context("it does not end")?
    }
}

fn both(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signed_in_on_another_device_works_until_she_signs_out() {
    let desk = Desk::with("login").await.unwrap();
    let before = desk.run(&["approvals", "list"]).await.unwrap();
    assert_eq!(before.0, 4, "{before:?}");
    assert!(before.1.contains("run `countersign login`"), "{before:?}");

    let said = desk.sign_in("alice").await.unwrap();
    assert!(
        said.contains("Signed in at http://127.0.0.1:") && said.contains(" as alice, the token is refreshed"),
        "{said}"
    );
    let (file, kept) = desk.kept().unwrap();
    assert_eq!((mode(&file), mode(&desk.state())), (0o600, 0o700));
    let token = kept["token"].as_str().unwrap();
    assert!(!said.contains(token) && !desk.world.gateway.log().contains(token));
    let refresh_token = kept["refresh_token"].as_str().unwrap().to_owned();
    assert!(!refresh_token.is_empty());

    let listed = desk.run(&["approvals", "list"]).await.unwrap();
    assert_eq!(listed, (0, "Nothing waits for a decision.\n".to_owned()));
    let select = "select count(*) from orders";
    let answer = desk
        .output(&["connect", TARGET, "--", "-X", "-At", "-c", select])
        .await
        .unwrap();
    let rows = desk.world.count(select).await.unwrap();
    assert_eq!(
        String::from_utf8(answer.stdout.clone()).unwrap(),
        format!("{rows}\n"),
        "{}",
        both(&answer)
    );

    // Others may read it: it is refused, not used.
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let refused = desk.run(&["approvals", "list"]).await.unwrap();
    assert!(refused.0 == 2 && refused.1.contains("others may read"), "{refused:?}");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();

    let out = desk.run(&["logout"]).await.unwrap();
    assert!(
        out.0 == 0 && out.1.contains("the refresh token is revoked") && out.1.contains("as alice"),
        "{out:?}"
    );
    assert!(!file.exists());
    let after = desk.run(&["approvals", "list"]).await.unwrap();
    assert!(after.0 == 4 && after.1.contains("run `countersign login`"), "{after:?}");
    let again = desk.run(&["logout"]).await.unwrap();
    assert!(again.0 == 0 && again.1.contains("Nobody was signed in"), "{again:?}");
    // The issuer knows it no more.
    let form = format!("grant_type=refresh_token&client_id=login&refresh_token={refresh_token}");
    let answer = reqwest::Client::new()
        .post(desk.provider.url.join("/token").unwrap())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let answer = answer.send().await.unwrap().text().await.unwrap();
    assert!(answer.contains("invalid_grant"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_or_expired_code_signs_nobody_in() {
    for (client, choice, words) in [("login", "abort", "was denied at"), ("login-hasty", "", "has expired")] {
        let desk = Desk::with(client).await.unwrap();
        let mut login = Login::start(desk.command(&["login", "--device"]).unwrap()).unwrap();
        let (page, code) = login.device().await.unwrap();
        if !choice.is_empty() {
            let mut browser = Browser::new().unwrap();
            let told = browser.type_code(&page, &code, choice, "alice").await.unwrap();
            assert!(told.contains("interrupted"), "{told}");
        }
        let (status, said) = login.end().await.unwrap();
        assert!(status == 4 && said.contains(words), "{status}: {said}");
        assert!(desk.kept().is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_browser_of_this_machine_signs_in_and_nobody_else_answers_for_it() {
    let desk = Desk::with("login").await.unwrap();
    let (programs, opened) = (desk.home.path().join("bin"), desk.home.path().join("opened"));
    std::fs::create_dir(&programs).unwrap();
    let opener = programs.join("xdg-open");
    std::fs::write(
        &opener,
        format!("#!/bin/sh\nprintf %s \"$1\" > '{}'\n", opened.display()),
    )
    .unwrap();
    std::fs::set_permissions(&opener, Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = desk.command(&["login"]).unwrap();
    command
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("DISPLAY", ":99");
    let mut login = Login::start(command).unwrap();
    let link: Url = format!("http{}", login.line("http").await.unwrap()).parse().unwrap();
    login.line("Waiting for the browser").await.unwrap();
    assert_eq!(std::fs::read_to_string(&opened).unwrap(), link.as_str());
    let asked = |wanted: &str| {
        let found = link.query_pairs().find(|(name, _)| name == wanted);
        found.unwrap_or_else(|| panic!("no {wanted} in {link}")).1.into_owned()
    };
    assert_eq!(
        (asked("response_type").as_str(), asked("code_challenge_method").as_str()),
        ("code", "S256")
    );
    assert_eq!(asked("scope"), "openid offline_access");
    assert!(asked("nonce").len() > 20 && asked("state").len() > 20 && asked("code_challenge").len() == 43);

    let callback: Url = asked("redirect_uri").parse().unwrap();
    assert_eq!((callback.host_str(), callback.path()), (Some("127.0.0.1"), "/callback"));
    let stranger = reqwest::get(format!("{callback}?code=stolen&state=guessed"))
        .await
        .unwrap();
    assert_eq!(stranger.status().as_u16(), 400);
    assert!(login.process.try_wait().unwrap().is_none(), "a stranger ended the wait");

    let mut browser = Browser::new().unwrap();
    let comes_back = |url: &Url| url.port() == callback.port();
    let (answer, _) = browser.go(link.clone(), "bob", comes_back).await.unwrap();
    assert!(answer.query_pairs().any(|(name, _)| name == "iss"), "{answer}");
    let page = reqwest::get(answer.clone()).await.unwrap().text().await.unwrap();
    assert!(page.contains("you can close this page"), "{page}");
    let (status, said) = login.end().await.unwrap();
    assert!(status == 0 && said.contains(" as bob"), "{status}: {said}");
    assert!(reqwest::get(answer).await.is_err(), "it still listens");
    assert_eq!(desk.run(&["approvals", "list"]).await.unwrap().0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_refreshed_before_it_ends_and_once_for_commands_at_once() {
    let mut desk = Desk::with("login-brief").await.unwrap();
    desk.sign_in("alice").await.unwrap();
    let first = desk.kept().unwrap().1;
    assert_eq!(desk.provider.refreshed().await.unwrap(), 0);
    let list = ["approvals", "list"];
    let all = tokio::join!(desk.run(&list), desk.run(&list), desk.run(&list), desk.run(&list));
    for (status, said) in [all.0, all.1, all.2, all.3].map(Result::unwrap) {
        assert_eq!(status, 0, "{said}");
    }
    assert_eq!(
        desk.provider.refreshed().await.unwrap(),
        1,
        "one refresh for four commands"
    );
    let (file, second) = desk.kept().unwrap();
    for changed in ["token", "refresh_token", "ends"] {
        assert_ne!(first[changed], second[changed], "{changed}");
    }
    assert_eq!(mode(&file), 0o600);
    assert_eq!(desk.run(&list).await.unwrap().0, 0);
    assert_eq!(desk.provider.refreshed().await.unwrap(), 0, "the new token lasts");

    // What cannot be refreshed is used to its end, and no longer.
    for (seconds, wanted) in [(50, 0), (-1, 4)] {
        let mut kept = second.clone();
        kept["refresh_token"] = "unknown to the issuer".into();
        kept["ends"] = (chrono::Utc::now() + chrono::TimeDelta::seconds(seconds))
            .to_rfc3339()
            .into();
        std::fs::write(&file, kept.to_string()).unwrap();
        let (status, said) = desk.run(&list).await.unwrap();
        assert_eq!(status, wanted, "{said}");
        assert_eq!(said.contains("your sign-in has ended"), wanted == 4, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_runs_psql_as_the_signed_in_person_and_shows_nobody_the_token() {
    let desk = Desk::with("login").await.unwrap();
    desk.sign_in("alice").await.unwrap();
    let token = desk.kept().unwrap().1["token"].as_str().unwrap().to_owned();
    let psql = |sql| ["connect", TARGET, "--", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql];
    // Others' settings do not lead the token elsewhere.
    let mut command = desk.command(&psql("select current_database()")).unwrap();
    let output = command
        .env("PGHOSTADDR", "192.0.2.1")
        .env("PGSERVICE", "elsewhere")
        .output();
    let output = output.await.unwrap();
    let database = desk.world.database.name.clone();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("{database}\n"),
        "{}",
        both(&output)
    );
    let failed = desk.run(&psql("select nothing")).await.unwrap();
    assert!(
        failed.0 == 1 && failed.1.contains("column \"nothing\" does not exist"),
        "{failed:?}"
    );
    let named = format!("{TARGET}/{database}");
    assert_eq!(
        desk.run(&["connect", &named, "--", "-c", "select 1"]).await.unwrap().0,
        0
    );
    let unknown = desk.run(&["connect", "nowhere"]).await.unwrap();
    assert!(
        unknown.0 == 2 && unknown.1.contains("there is no target nowhere"),
        "{unknown:?}"
    );

    let (status, shown) = desk
        .run(&["connect", TARGET, "--print", "--", "-c", "select 1"])
        .await
        .unwrap();
    assert!(
        status == 0 && shown.contains("PGUSER='alice'") && shown.ends_with("psql '-c' 'select 1'\n"),
        "{shown}"
    );
    assert!(!shown.contains(&token));
    let (status, exports) = desk.run(&["connect", TARGET, "--env"]).await.unwrap();
    assert!(
        status == 0 && exports.contains(&format!("export PGPASSWORD='{token}'\n")),
        "{exports}"
    );

    // A token that is given goes before the one that is kept.
    let mut command = desk.command(&["env", TARGET]).unwrap();
    let output = command
        .env("COUNTERSIGN_TOKEN", desk.world.gateway.token("bob"))
        .output();
    let shown = both(&output.await.unwrap());
    assert!(shown.contains("PGUSER='bob'"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_signs_nobody_in_says_so() {
    let world = World::start(WorldOptions::default()).await.unwrap();
    let (status, said) = world.gateway.run("alice", &["login"]).unwrap();
    assert!(status == 2 && said.contains("login_client_id"), "{status}: {said}");
}
