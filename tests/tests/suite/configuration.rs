//! `countersign check`, as it is run before a start.

use countersign_tests::harness::{Gateway, GatewayOptions, IssuerOptions, TargetOptions};
use serde_json::Value;

const POLICY: &str = "@id(\"reads\")\npermit (principal, action == Action::\"read\", resource);\n";

fn prepared(target: TargetOptions, policy: &str) -> Gateway {
    let options = GatewayOptions {
        policy: policy.to_owned(),
        issuers: vec![IssuerOptions {
            url: "https://login.example.com".to_owned(),
            audience: "countersign".to_owned(),
        }],
        targets: vec![target],
        ..GatewayOptions::default()
    };
    Gateway::prepare(&options).unwrap()
}

fn target() -> TargetOptions {
    TargetOptions {
        name: "orders".to_owned(),
        tags: Vec::new(),
        host: "127.0.0.1".to_owned(),
        port: 5432,
        database: "shop".to_owned(),
        user: "app".to_owned(),
        password: "s3cret".to_owned(),
        ca: None,
    }
}

fn check(gateway: &Gateway) -> (i32, String) {
    let (code, printed) = gateway
        .run("nobody", &["check", "--config", "countersign.toml"])
        .unwrap();
    (code, printed.replace(&format!("{}/", gateway.path().display()), ""))
}

#[test]
fn a_configuration_in_order_is_told_part_by_part() {
    let (code, printed) = check(&prepared(target(), POLICY));
    assert_eq!(
        (code, printed.as_str()),
        (
            0,
            "ok  countersign.toml: keys, values, secrets and certificates\nok  policy policy.cedar: 1 rule\n\
             ok  target orders: 127.0.0.1 is 127.0.0.1:5432\n"
        )
    );
}

#[test]
fn everything_that_keeps_a_gateway_from_starting_is_told_at_once() {
    let unknown = TargetOptions {
        host: "db.invalid".to_owned(),
        ca: Some("no PEM".to_owned()),
        ..target()
    };
    let gateway = prepared(unknown, "permit (principal, action, resource);");
    gateway.write("target0.password", "").unwrap();
    let (code, printed) = check(&gateway);
    assert_eq!(code, 1, "{printed}");
    for expected in [
        "the password of target orders: ",
        "the roots that target orders trusts: ",
        "policy.cedar",
        "target orders: db.invalid cannot be found: ",
    ] {
        assert!(printed.contains(expected), "{expected} is not in {printed}");
    }
    assert!(!printed.contains("ok  "), "{printed}");
}

#[test]
fn a_misspelt_key_is_told_with_its_line_for_people_and_programs() {
    let gateway = prepared(target(), POLICY);
    let text = std::fs::read_to_string(gateway.config())
        .unwrap()
        .replacen("listen = ", "lisen = ", 1);
    let line = 1 + text.lines().position(|line| line.starts_with("lisen")).unwrap();
    gateway.write("countersign.toml", &text).unwrap();
    let expected = "unknown key `lisen` in [postgres]; did you mean `listen`?";
    let (code, printed) = check(&gateway);
    assert_eq!(
        (code, printed),
        (1, format!("countersign: countersign.toml:{line}: {expected}\n"))
    );

    let arguments = ["check", "--json", "--config", "countersign.toml"];
    let output = gateway.cli("nobody", &arguments).unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["problems"][0]["line"], line);
    assert_eq!(found["problems"][0]["text"], expected);
}

#[test]
fn a_target_or_a_rule_that_the_bot_names_and_nobody_knows_is_told_with_what_may_be_meant() {
    let gateway = |bot: &str, route: &str| {
        let options = GatewayOptions {
            policy: POLICY.to_owned(),
            issuers: vec![IssuerOptions {
                url: "https://login.example.com".to_owned(),
                audience: "countersign".to_owned(),
            }],
            targets: vec![target()],
            environment: vec![("RING_KEY".to_owned(), "k".repeat(40).into())],
            more: format!(
                "[bot]\nurl = \"http://127.0.0.1:1\"\nlisten = \"127.0.0.1:1\"\nring_key = \"env:RING_KEY\"\n{bot}\n\
                 [[bot.slack]]\nteam = \"T1\"\nbot_token = \"env:RING_KEY\"\napp_token = \"env:RING_KEY\"\n\
                 [[bot.route]]\nchannels = [\"slack:T1:C1\"]\n{route}\n"
            ),
            ..GatewayOptions::default()
        };
        Gateway::prepare(&options).unwrap()
    };
    let (code, printed) = check(&gateway(
        "step_up_rules = [\"raeds\"]",
        "targets = [\"orders\", \"*-eu\"]\nrules = [\"reads\", \"other\"]",
    ));
    assert_eq!(code, 1, "{printed}");
    for expected in [
        "bot.step_up_rules: there is no rule \"raeds\"; did you mean \"reads\"?",
        "bot.route.0.rules: there is no rule \"other\"\n",
    ] {
        assert!(printed.contains(expected), "{expected} is not in {printed}");
    }
    let (code, printed) = check(&gateway("", "targets = [\"ordres\"]"));
    let expected = "there is no target \"ordres\"; did you mean \"orders\"?";
    assert!(code == 1 && printed.contains(expected), "{printed}");
    let (code, printed) = check(&gateway("step_up_rules = [\"reads\"]", ""));
    assert_eq!(code, 0, "{printed}");
}
