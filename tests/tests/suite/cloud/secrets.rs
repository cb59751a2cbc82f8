//! Secrets that stand in Secrets Manager.

use crate::chat::{BOB, chats, psql, said, slack_card};
use countersign_tests::bot::{ChatOptions, RING_KEY, Way};
use countersign_tests::cloud::{Cloud, REGION, SecretValue};
use countersign_tests::harness::{Gateway, GatewayOptions, IssuerOptions, TargetOptions};
use countersign_tests::slack;
use countersign_tests::weather::{Service, Weather};
use countersign_tests::world::{TARGET, World, WorldOptions};
use serde_json::json;
use tokio::net::TcpListener;

/// Rewrites a configuration: what was `from` is read from `to`.
fn rewrite(gateway: &Gateway, changes: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(gateway.config()).unwrap();
    for (from, to) in changes {
        assert!(text.contains(&format!("\"{from}\"")), "{from}: {text}");
        text = text.replace(&format!("\"{from}\""), &format!("\"{to}\""));
    }
    gateway.write("countersign.toml", &text).unwrap();
}

async fn text(cloud: &Cloud, text: &str) -> String {
    cloud.secret(SecretValue::Text(text)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_starts_with_its_secrets_from_there_and_asks_for_each_once() {
    let cloud = Cloud::shared().await.unwrap();
    let weather = Weather::over(&cloud).await.unwrap();
    let mut world = World::start(WorldOptions::default()).await.unwrap();
    let read = |name: &str| std::fs::read_to_string(world.gateway.path().join(name)).unwrap();
    let one = json!({"shop": read("target0.password").trim(), "key": read("gateway.key")});
    let one = text(&cloud, &one.to_string()).await;
    let certificate = text(&cloud, &read("gateway.crt")).await;
    rewrite(
        &world.gateway,
        &[
            ("file:target0.password", &format!("secret:{one}#shop")),
            ("file:gateway.key", &format!("secret:{one}#key")),
            ("file:gateway.crt", &format!("secret:{certificate}")),
        ],
    );
    for name in ["target0.password", "gateway.key", "gateway.crt"] {
        std::fs::remove_file(world.gateway.path().join(name)).unwrap();
    }
    world.gateway.restart_with(weather.environment()).await.unwrap();
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    let rows = alice.query("select id from orders where id = 7", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(weather.count(Service::Other, "GetSecretValue"), 2);
    assert!(!world.gateway.log().contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_starts_with_its_secrets_from_there_and_asks_once_in_each_sandbox() {
    let cloud = Cloud::shared().await.unwrap();
    let weather = Weather::over(&cloud).await.unwrap();
    let mut options = ChatOptions::new(Way::Function);
    options.world.gateway.environment = weather.environment();
    let mut chats = chats(options).await.unwrap();
    let one = json!({
        "ring": RING_KEY,
        "slack_token": chats.slack.bot_token(slack::TEAM),
        "slack_secret": chats.slack.signing_secret(),
        "discord_token": chats.discord.token(),
    });
    let one = text(&cloud, &one.to_string()).await;
    chats.stop_bot();
    rewrite(
        &chats.world.gateway,
        &[
            ("env:RING_KEY", &format!("secret:{one}#ring")),
            ("env:SLACK_TOKEN", &format!("secret:{one}#slack_token")),
            ("env:SLACK_SECRET", &format!("secret:{one}#slack_secret")),
            ("env:DISCORD_TOKEN", &format!("secret:{one}#discord_token")),
        ],
    );
    chats.start_bot().await.unwrap();
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    let bob = chats.slack.person(slack::TEAM, BOB.0);
    bob.click(slack::CHANNEL, &card.ts, "approve").await.unwrap();
    let output = waiting.await.unwrap().unwrap();
    assert!(said(&output).contains("DELETE 1"), "{}", said(&output));
    let sandboxes = chats.function().unwrap().sandboxes().len();
    assert_eq!(weather.count(Service::Other, "GetSecretValue"), sandboxes as u64);
}

/// What `countersign check` says of a gateway whose listener's key is to be read from `reference`.
fn refused(environment: Vec<(String, std::ffi::OsString)>, reference: &str) -> String {
    let gateway = Gateway::prepare(&GatewayOptions {
        policy: "permit (principal, action == Action::\"read\", resource);\n".to_owned(),
        issuers: vec![IssuerOptions {
            url: "https://login.example.com".to_owned(),
            audience: "countersign".to_owned(),
        }],
        targets: vec![TargetOptions {
            name: "orders".to_owned(),
            tags: Vec::new(),
            host: "127.0.0.1".to_owned(),
            port: 5432,
            database: "shop".to_owned(),
            user: "app".to_owned(),
            password: "s3cret".to_owned(),
            ca: None,
        }],
        ..GatewayOptions::default()
    })
    .unwrap();
    rewrite(&gateway, &[("file:gateway.key", reference)]);
    let mut check = gateway.cli_command("nobody").unwrap();
    check.args(["check", "--config", "countersign.toml"]).envs(environment);
    let output = check.output().unwrap();
    assert!(!output.status.success());
    said(&output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_named_with_what_to_do() {
    let cloud = Cloud::shared().await.unwrap();
    let environment = || Cloud::environment(cloud.endpoint());
    let whole = text(&cloud, "swordfish").await;
    let object = text(&cloud, r#"{"other":"swordfish"}"#).await;
    let binary = cloud.secret(SecretValue::Binary(b"swordfish")).await.unwrap();
    let missing = "countersign/missing";
    for (name, key, wanted) in [
        (missing, "", format!("no secret {missing} in {REGION}")),
        (&whole, "#key", format!("{whole} is no JSON object")),
        (&object, "#key", format!("{object} has no key \"key\"")),
        (&binary, "", format!("{binary} holds binary data")),
        (&whole, "", "holds no PEM private key".to_owned()),
    ] {
        let said = refused(environment(), &format!("secret:{name}{key}"));
        assert!(said.contains(&wanted), "{wanted}: {said}");
        assert!(!said.contains("swordfish"), "{said}");
    }
}

/// Secrets Manager as it refuses a role without the right: <https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html>
async fn who_refuses() -> String {
    let denied = r#"{"__type":"AccessDeniedException","Message":"User: arn:aws:iam::1:role/bot is not authorized"}"#;
    let router = axum::Router::new().fallback(async move || {
        let kind = [("content-type", "application/x-amz-json-1.1")];
        (axum::http::StatusCode::BAD_REQUEST, kind, denied)
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_names_the_right_that_is_missing_and_silence_ends() {
    let said = refused(Cloud::environment(&who_refuses().await), "secret:prod/bot#key");
    for wanted in ["prod/bot", "secretsmanager:GetSecretValue", "is not authorized"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let asked = std::time::Instant::now();
    let said = refused(Cloud::environment(&url), "secret:prod/bot");
    assert!(said.contains("the secret prod/bot cannot be read"), "{said}");
    assert!(
        asked.elapsed() < std::time::Duration::from_secs(15),
        "{:?}",
        asked.elapsed()
    );
    drop(silent);
}
