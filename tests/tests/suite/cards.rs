//! Cards are what Slack's own SDK and Discord's own description take, in every state and with texts that mean harm.

use countersign_bot::card::Card;
use countersign_bot::chat::{discord, slack};
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::example::approvals;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn what_the_bot_posts_is_what_the_chats_take() {
    let mut lines: Vec<Value> = Vec::new();
    for (name, approval) in approvals() {
        lines.push(line(name, &approval));
        for hostile in [
            "<!channel> ```@everyone``` *x* &amp; \u{202e}",
            &"`".repeat(9000),
            &"\u{1f600}".repeat(9000),
            "",
        ] {
            let mut approval = approval.clone();
            approval.operation.display = hostile.to_owned();
            approval.operation.display_bytes = hostile.len() as u64;
            approval.requester.name = hostile.to_owned();
            approval.client.application = hostile.to_owned();
            approval.terms.reasons = vec![hostile.to_owned()];
            lines.push(line(&format!("{name} {:.20}", hostile), &approval));
        }
    }
    let said = check(&lines);
    assert_eq!(said.trim(), format!("{} cards", lines.len()));
}

#[test]
fn a_card_that_no_chat_would_take_is_noticed() {
    let (name, approval) = approvals().remove(0);
    let good = line(name, &approval);
    let mut slack = good.clone();
    slack["slack"]["blocks"][0]["text"]["text"] = json!("x".repeat(151));
    let mut discord = good.clone();
    discord["discord"]["embeds"][0]["description"] = json!("x".repeat(4097));
    for bad in [slack, discord] {
        let said = check(&[bad]);
        assert!(said.lines().count() > 1, "{said}");
    }
}

fn line(name: &str, approval: &Approval) -> Value {
    let card = Card::of(approval, &"https://gateway.example/".parse().unwrap());
    json!({
        "name": name,
        "slack": slack::card::message(&card),
        "discord": discord::card::message(&card),
        "discord_change": discord::card::change(&card),
    })
}

fn check(lines: &[Value]) -> String {
    let drivers = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers");
    let mut checker = Command::new(drivers.join(".venv/bin/python"))
        .arg(drivers.join("check_cards.py"))
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
