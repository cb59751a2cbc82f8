//! What the bot draws is what Slack's own SDK, Slack's own types and Discord's own description take: cards in every state,
//! answers, notes, forms and what follows them, also with texts that mean harm.

use countersign_bot::card::Card;
use countersign_bot::chat::{Say, discord, slack};
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::example::approvals;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Texts that mean harm, or are longer than anything shows.
fn hostile() -> [String; 5] {
    [
        "<!channel> ```@everyone``` *x* &amp; \u{200b}\u{202e}\u{2066}".to_owned(),
        "`".repeat(9000),
        "\u{1f600}".repeat(9000),
        "x".repeat(100 << 10),
        String::new(),
    ]
}

#[test]
fn what_the_bot_posts_is_what_the_chats_take() {
    let mut lines: Vec<Value> = Vec::new();
    for (name, approval) in approvals() {
        lines.push(line(name, &approval));
        for hostile in hostile() {
            let mut approval = approval.clone();
            approval.operation.display = hostile.clone();
            approval.operation.display_bytes = hostile.len() as u64;
            approval.requester.name = hostile.clone();
            approval.client.application = hostile.clone();
            approval.terms.reasons = vec![hostile.clone()];
            lines.push(line(&format!("{name} {:.20}", hostile), &approval));
        }
    }
    for checker in Checker::ALL {
        assert_eq!(
            check(checker, &lines),
            format!("{} drawn\n", lines.len()),
            "{checker:?}"
        );
    }
}

#[test]
fn what_the_bot_answers_is_what_slack_takes() {
    let (_, approval) = approvals().remove(0);
    let card = || Some(Box::new(Card::of(&approval, &pages())));
    let mut lines = vec![json!({"name": "reason form", "view": slack::say::reason_form(&approval.id)})];
    for text in hostile().into_iter().chain(["3 operations.".to_owned()]) {
        let link = format!("https://gateway.example/{}", "x".repeat(text.len().min(4000)));
        let full = Say {
            text: text.clone(),
            table: Some(text.clone()),
            links: vec![(text.clone(), link.parse().unwrap())],
            buttons: (0..40).map(|number| (text.clone(), number.to_string())).collect(),
            ..Say::default()
        };
        let with_card = Say {
            card: card(),
            ..full.clone()
        };
        let bare = Say {
            text: text.clone(),
            ..Say::default()
        };
        let name = |kind: &str| format!("{kind} {text:.20}");
        lines.push(json!({"name": name("note"), "slack": slack::say::note(&text)}));
        for (kind, say) in [("full", &full), ("with a card", &with_card), ("bare", &bare)] {
            lines.push(json!({"name": name(kind), "slack": slack::say::message(say)}));
        }
        for (kind, say) in [("closing", &full), ("closing, bare", &bare)] {
            lines.push(json!({"name": name(kind), "view": slack::say::closing(say)}));
        }
    }
    for checker in Checker::ALL {
        assert_eq!(
            check(checker, &lines),
            format!("{} drawn\n", lines.len()),
            "{checker:?}"
        );
    }
}

#[test]
fn what_no_chat_would_take_is_noticed() {
    let (name, approval) = approvals().remove(0);
    let good = line(name, &approval);
    let changed = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let form = |pointer: &str, value: Value| {
        let mut form = json!({"name": "form", "view": slack::say::reason_form(&approval.id)});
        *form.pointer_mut(pointer).unwrap() = value;
        form
    };
    for (checker, bad) in [
        (
            Checker::Sdk,
            changed("/slack/blocks/0/text/text", json!("x".repeat(151))),
        ),
        (
            Checker::Sdk,
            changed("/discord/embeds/0/description", json!("x".repeat(4097))),
        ),
        (Checker::Sdk, form("/view/title/text", json!("x".repeat(25)))),
        (Checker::Types, changed("/slack/blocks/0/text/type", json!("mrkdwn"))),
        (Checker::Types, changed("/slack/blocks/0", json!({"type": "heading"}))),
        (Checker::Types, changed("/slack/text", json!(null))),
        (Checker::Types, form("/view/blocks/0/element/max_length", json!("500"))),
        (
            Checker::Types,
            form(
                "/view/submit",
                json!({"type": "plain_text", "text": "Deny", "colour": "red"}),
            ),
        ),
    ] {
        let said = check(checker, std::slice::from_ref(&bad));
        assert!(said.lines().count() > 1, "{checker:?}: {said}: {bad}");
    }
}

fn pages() -> url::Url {
    "https://gateway.example/".parse().unwrap()
}

fn line(name: &str, approval: &Approval) -> Value {
    let card = Card::of(approval, &pages());
    json!({
        "name": name,
        "slack": slack::card::message(&card),
        "discord": discord::card::message(&card),
        "discord_change": discord::card::change(&card),
    })
}

#[derive(Clone, Copy, Debug)]
enum Checker {
    /// `slack_sdk`, and Discord's description.
    Sdk,
    /// `@slack/types`.
    Types,
}

impl Checker {
    const ALL: [Self; 2] = [Self::Sdk, Self::Types];

    fn command(self) -> Command {
        let drivers = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers");
        let (program, script) = match self {
            Self::Sdk => (drivers.join(".venv/bin/python"), "check_cards.py"),
            Self::Types => ("node".into(), "check_types.mjs"),
        };
        let mut command = Command::new(program);
        command.arg(drivers.join(script));
        command
    }
}

/// What a checker says of what was drawn: its faults, and a line that counts.
fn check(checker: Checker, lines: &[Value]) -> String {
    let mut checker = checker
        .command()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`make drivers` installs what checks cards");
    let mut input = checker.stdin.take().unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = checker.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
