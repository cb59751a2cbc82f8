use super::*;
use Direction::{ClientToGateway, GatewayToClient, GatewayToUpstream};

fn typed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

fn row_description(columns: &[(&str, u32, u16)]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for (name, kind, format) in columns {
        body.extend(name.as_bytes());
        body.extend([0; 7]);
        body.extend(kind.to_be_bytes());
        body.extend([0; 6]);
        body.extend(format.to_be_bytes());
    }
    typed(b'T', &body)
}

fn data_row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        match value {
            Some(bytes) => {
                body.extend((bytes.len() as u32).to_be_bytes());
                body.extend(*bytes);
            }
            None => body.extend((-1i32).to_be_bytes()),
        }
    }
    typed(b'D', &body)
}

/// What is printed of bytes, however they are cut into frames.
fn check(parts: &[(Direction, Vec<u8>)], expected: &[&str]) {
    for size in [1, 3, 7, 10_000] {
        let mut transcript = Transcript::default();
        let mut found = Vec::new();
        for (direction, bytes) in parts {
            for piece in bytes.chunks(size) {
                found.extend(transcript.push(*direction, 1, piece));
            }
        }
        found.extend(transcript.finish());
        let texts = found.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>();
        assert_eq!(texts, expected, "in pieces of {size}");
    }
}

#[test]
fn a_simple_query_and_its_rows_are_a_table() {
    let answer = [
        row_description(&[("id", 23, 0), ("customer", 25, 0)]),
        data_row(&[Some(b"7"), Some(b"Ada")]),
        data_row(&[Some(b"1234"), None]),
        data_row(&[Some(b"8"), Some(b"two\nlines")]),
        typed(b'C', b"SELECT 3\0"),
        typed(b'Z', b"I"),
    ];
    check(
        &[
            (ClientToGateway, typed(b'Q', b"SELECT * FROM orders\0")),
            (GatewayToClient, answer.concat()),
        ],
        &[
            "Query: SELECT * FROM orders",
            "id   | customer\n-----+-----------\n7    | Ada\n1234 | NULL\n8    | two\\nlines",
            "Complete: SELECT 3",
            "Ready",
        ],
    );
}

#[test]
fn bound_values_are_shown_by_their_types() {
    let parse = [
        &b"s1\0DELETE FROM orders WHERE id = $1 AND name = $2\0"[..],
        &[0, 2, 0, 0, 0, 23, 0, 0, 0, 25],
    ]
    .concat();
    let mut bind = b"\0s1\0".to_vec();
    bind.extend([0, 2, 0, 1, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 3]);
    bind.extend(b"O'B");
    bind.extend((-1i32).to_be_bytes());
    bind.extend([0, 0]);
    check(
        &[(
            ClientToGateway,
            [
                typed(b'P', &parse),
                typed(b'B', &bind),
                typed(b'D', b"P\0"),
                typed(b'E', b"\0\0\0\0\0"),
                typed(b'E', b"c1\0\0\0\0\x05"),
                typed(b'S', b""),
            ]
            .concat(),
        )],
        &[
            "Parse s1: DELETE FROM orders WHERE id = $1 AND name = $2",
            "Bind of s1: $1 = 7, $2 = 'O''B', $3 = NULL",
            "Describe portal",
            "Execute",
            "Execute c1, at most 5 rows",
            "Sync",
        ],
    );
}

#[test]
fn parameter_types_that_the_server_chose_are_learnt_and_an_error_mixes_nothing_up() {
    let parse = |name: &str| typed(b'P', format!("{name}\0select $1\0\0\0").as_bytes());
    let describe = |name: &str| typed(b'D', format!("S{name}\0").as_bytes());
    let bind = |name: &str| {
        let head = format!("\0{name}\0");
        let rest: [&[u8]; 2] = [&[0, 1, 0, 1, 0, 1, 0, 0, 0, 4], b"abcd"];
        typed(b'B', &[head.as_bytes(), rest[0], rest[1], &[0, 0]].concat())
    };
    let (sync, ready) = (typed(b'S', b""), typed(b'Z', b"I"));
    let error = typed(b'E', b"SERROR\0C42601\0Mno\0\0");
    let mut transcript = Transcript::default();
    let mut all = transcript.push(GatewayToClient, 0, &ready);
    let mut say = |direction, bytes: Vec<u8>| all.extend(transcript.push(direction, 0, &bytes));
    say(ClientToGateway, [parse("bad"), describe("bad"), sync.clone()].concat());
    say(
        ClientToGateway,
        [parse("good"), describe("good"), sync.clone()].concat(),
    );
    say(GatewayToClient, [error, ready.clone()].concat());
    say(
        GatewayToClient,
        [typed(b'1', b""), typed(b't', &[0, 1, 0, 0, 0, 25]), ready].concat(),
    );
    say(ClientToGateway, [bind("good"), bind("bad"), sync].concat());
    let texts = all.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>();
    assert!(texts.contains(&"Bind of good: $1 = 'abcd'"), "{texts:?}");
    assert!(texts.contains(&"Bind of bad: $1 = \\x61626364"), "{texts:?}");
}

#[test]
fn binary_columns_are_decoded_and_what_is_not_known_is_hexadecimal() {
    let answer = [
        row_description(&[("n", 20, 1), ("ok", 16, 1), ("day", 1082, 1), ("point", 600, 1)]),
        data_row(&[
            Some(&(-5i64).to_be_bytes()),
            Some(&[1]),
            Some(&1i32.to_be_bytes()),
            Some(b"abcd"),
        ]),
    ];
    check(
        &[(GatewayToClient, answer.concat())],
        &["n  | ok | day        | point\n---+----+------------+-----------\n-5 | t  | 2000-01-02 | \\x61626364"],
    );
}

#[test]
fn rows_without_a_description_are_shown_too() {
    check(
        &[(
            GatewayToClient,
            [data_row(&[Some(b"1"), Some(b"2")]), typed(b's', b"")].concat(),
        )],
        &["1 | 2", "Portal suspended"],
    );
}

#[test]
fn an_error_shows_code_detail_and_hint() {
    let error =
        b"SERROR\0VERROR\0C42501\0Mdenied by bob: the customer has not been asked\0DApproval K7Q2M4XA\0HAsk again\0\0";
    check(
        &[(GatewayToClient, typed(b'E', error))],
        &[
            "Error: ERROR 42501: denied by bob: the customer has not been asked\nDETAIL: Approval K7Q2M4XA\nHINT: Ask again",
        ],
    );
}

#[test]
fn nothing_that_was_recorded_reaches_the_terminal_unescaped() {
    let hostile = b"SELECT '\x1b]0;title\x07\x1b[2J\xe2\x80\xae'\0";
    let answer = [
        row_description(&[("\u{1b}[31m", 25, 0)]),
        data_row(&[Some(b"\x1b[2J")]),
        typed(b'C', b"\x1b[H\0"),
        typed(0x1b, b"\x1b"),
    ];
    let mut transcript = Transcript::default();
    let mut found = transcript.push(ClientToGateway, 0, &typed(b'Q', hostile));
    found.extend(transcript.push(GatewayToClient, 0, &answer.concat()));
    found.extend(transcript.finish());
    assert_eq!(found.len(), 4);
    for entry in found {
        assert!(
            !entry.text.contains(['\u{1b}', '\u{7}', '\u{202e}']),
            "{:?}",
            entry.text
        );
    }
}

#[test]
fn passwords_and_keys_are_not_shown() {
    check(
        &[
            (ClientToGateway, typed(b'p', b"secret\0")),
            (GatewayToClient, typed(b'K', &[1, 2, 3, 4, 5, 6, 7, 8])),
        ],
        &[
            "Password or authentication data, 7 bytes (not shown)",
            "Cancel key (not shown)",
        ],
    );
}

#[test]
fn the_packets_before_the_first_message_are_understood() {
    let mut startup = [0, 0, 0, 0, 0, 3, 0, 0].to_vec();
    startup.extend(b"user\0alice\0database\0orders\0\0");
    startup[3] = startup.len() as u8;
    let tls = [0, 0, 0, 8, 4, 210, 22, 47].to_vec();
    check(
        &[
            (ClientToGateway, [tls, startup].concat()),
            (GatewayToUpstream, typed(b'S', b"")),
        ],
        &["Asks for TLS", "Startup 3.0: user=alice database=orders", "Sync"],
    );
}

#[test]
fn a_message_too_long_to_show_is_skipped_and_the_next_is_understood() {
    let length = 20usize << 20;
    let mut transcript = Transcript::default();
    let mut head = vec![b'd'];
    head.extend((length as u32).to_be_bytes());
    let mut found = transcript.push(ClientToGateway, 0, &head);
    let body = vec![b'x'; length - 4];
    for piece in body.chunks(1 << 20) {
        found.extend(transcript.push(ClientToGateway, 0, piece));
    }
    found.extend(transcript.push(ClientToGateway, 0, &typed(b'c', b"")));
    let texts = found.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>();
    assert_eq!(texts, ["Message d of 20971520 bytes: too long to show", "Copy done"]);
}

proptest::proptest! {
    #[test]
    fn random_bytes_never_panic(
        client in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..500),
        server in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..500),
        kind in proptest::prelude::any::<u8>(),
    ) {
        let mut transcript = Transcript::default();
        transcript.push(ClientToGateway, 0, &typed(kind, &client));
        transcript.push(GatewayToClient, 0, &typed(kind, &server));
        transcript.push(ClientToGateway, 0, &client);
        transcript.push(GatewayToClient, 0, &server);
        transcript.finish();
    }
}
