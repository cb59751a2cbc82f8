use super::*;

type Talk = Conversation<&'static str>;

fn prepared(text: &'static str) -> Arc<PreparedStatement> {
    let text = Bytes::from_static(text.as_bytes());
    Arc::new(PreparedStatement {
        text,
        analysis: Arc::default(),
        types: vec![],
        foreign_types: vec![],
    })
}

fn parse(name: &str, text: &'static str) -> Expected<&'static str> {
    Expected::Parse {
        name: Name::of(name),
        prepared: prepared(text),
    }
}

fn bind(name: &str) -> Expected<&'static str> {
    let portal = Portal {
        prepared: prepared("select 1"),
        values: Arc::new([]),
        epoch: 0,
        with_hold: false,
    };
    Expected::Bind {
        name: Name::of(name),
        portal,
    }
}

fn execute() -> Expected<&'static str> {
    Expected::Execute { step: Step::default() }
}

fn query(steps: Vec<Step>) -> Expected<&'static str> {
    Expected::Query { steps: steps.into() }
}

fn end(ticket: &'static str) -> Expected<&'static str> {
    Expected::End(Running {
        ticket,
        started: std::time::Instant::now(),
    })
}

fn talk(entries: impl IntoIterator<Item = Expected<&'static str>>) -> Talk {
    let mut talk = Talk::default();
    entries
        .into_iter()
        .for_each(|entry| assert!(talk.expect(entry).is_none()));
    talk
}

/// Feeds messages and gives, for each, what became of it: `pass`, `swallow`, `instead`, or the tickets that ended.
#[track_caller]
fn feed(talk: &mut Talk, messages: &[(u8, &[u8])]) -> Vec<String> {
    let became = messages.iter().map(|(tag, body)| match talk.reply(*tag, body) {
        Ok(Disposition::Pass) => "pass".to_owned(),
        Ok(Disposition::Swallow) => "swallow".to_owned(),
        Ok(Disposition::Instead(_)) => "instead".to_owned(),
        Ok(Disposition::PassAfter(ends)) => {
            let ends = ends
                .iter()
                .map(|(running, outcome)| format!("{} {}", running.ticket, outcome.summary));
            ends.collect::<Vec<_>>().join(", ")
        }
        Err(unexpected) => unexpected.to_string(),
    });
    became.collect()
}

fn text_of(talk: &Talk, name: &str) -> Option<Bytes> {
    talk.statement(&Name::of(name)).map(|prepared| prepared.text.clone())
}

const ERROR: &[u8] = b"SERROR\0C42P05\0Malready exists\0\0";

#[test]
fn a_parse_that_fails_leaves_the_old_text_under_its_name() {
    let mut talk = talk([parse("s", "select 1"), Expected::Sync]);
    feed(&mut talk, &[(b'1', b""), (b'Z', b"I")]);
    talk.expect(parse("s", "delete from t"));
    talk.expect(Expected::Sync);
    assert_eq!(text_of(&talk, "s"), Some(Bytes::from("select 1")));
    feed(&mut talk, &[(b'E', ERROR), (b'Z', b"I")]);
    assert_eq!(text_of(&talk, "s"), Some(Bytes::from("select 1")));
    assert!(talk.is_settled());
}

#[test]
fn after_an_error_nothing_is_owed_up_to_the_next_sync() {
    let mut talk = talk([
        parse("a", "x"),
        bind(""),
        execute(),
        end("one"),
        parse("b", "y"),
        Expected::Sync,
        end("two"),
    ]);
    let became = feed(&mut talk, &[(b'1', b""), (b'E', ERROR), (b'Z', b"I")]);
    let skipped = "two not run: the server skipped it after an error";
    assert_eq!(became, ["pass", "one 42P05: already exists", skipped]);
    assert_eq!(text_of(&talk, "b"), None);
    assert!(talk.is_settled());
}

#[test]
fn an_error_before_the_sync_was_sent_ends_the_operation_at_once() {
    let mut talk = talk([parse("a", "x"), bind(""), execute(), end("one")]);
    let became = feed(&mut talk, &[(b'1', b""), (b'2', b""), (b'E', ERROR)]);
    assert_eq!(became, ["pass", "pass", "one 42P05: already exists"]);
    assert!(talk.is_settled() && talk.is_skipping());
}

#[test]
fn what_is_sent_while_the_server_skips_is_never_owed() {
    let mut talk = talk([bind("")]);
    feed(&mut talk, &[(b'E', ERROR)]);
    assert!(talk.is_skipping());
    assert!(talk.expect(parse("a", "x")).is_none());
    assert!(talk.expect(query(vec![Step::default()])).is_none());
    assert!(talk.expect(end("one")).is_some_and(|(_, outcome)| !outcome.ok));
    talk.expect(Expected::Sync);
    assert_eq!(feed(&mut talk, &[(b'Z', b"I")]), ["pass"]);
    assert!(talk.is_settled() && !talk.is_skipping());
}

#[test]
fn each_statement_of_a_query_changes_names_when_it_completes() {
    let prepare = |name: &str| Step {
        names: Some(NameChange::Prepare(Name::of(name), prepared("delete from t"))),
        ..Step::default()
    };
    let mut talk = talk([query(vec![prepare("a"), prepare("b")]), end("q")]);
    assert_eq!(
        feed(&mut talk, &[(b'C', b"PREPARE\0"), (b'E', ERROR)]),
        ["pass", "pass"]
    );
    assert_eq!(feed(&mut talk, &[(b'Z', b"I")]), ["q 42P05: already exists"]);
    assert!(text_of(&talk, "a").is_some() && text_of(&talk, "b").is_none());
}

#[test]
fn portals_end_with_their_transaction_and_statements_stay() {
    let mut talk = talk([parse("s", "select 1"), bind("p"), execute(), Expected::Sync]);
    feed(&mut talk, &[(b'1', b""), (b'2', b""), (b's', b""), (b'Z', b"T")]);
    assert!(talk.portal(&Name::of("p")).is_some());
    talk.expect(Expected::Sync);
    feed(&mut talk, &[(b'Z', b"I")]);
    assert!(talk.portal(&Name::of("p")).is_none() && text_of(&talk, "s").is_some());
}

#[test]
fn the_answer_to_the_gateways_own_question_is_kept_from_the_client() {
    let own = [Own::Parse, Own::Bind, Own::Execute, Own::Close, Own::Close, Own::Sync];
    let mut talk = talk(own.map(Expected::Own));
    let answer: [(u8, &[u8]); 7] = [
        (b'1', b""),
        (b'2', b""),
        (b'D', b"row"),
        (b'C', b"SELECT 1\0"),
        (b'3', b""),
        (b'3', b""),
        (b'Z', b"I"),
    ];
    assert_eq!(feed(&mut talk, &answer), ["swallow"; 7]);
    assert_eq!(talk.take_own_rows(), [Bytes::from("row")]);
}

#[test]
fn the_error_of_the_failing_statement_becomes_the_refusal() {
    let mut talk = talk([Expected::Own(Own::Fail(Bytes::from("refused"))), Expected::Sync]);
    talk.block = Block::Open;
    assert_eq!(feed(&mut talk, &[(b'E', ERROR)]), ["instead"]);
    assert_eq!(talk.block, Block::Failed);
    assert_eq!(feed(&mut talk, &[(b'Z', b"E")]), ["pass"]);
}

#[test]
fn a_sync_that_came_with_a_copy_is_never_answered() {
    let copy = Expected::Execute {
        step: Step {
            copy_in: true,
            ..Step::default()
        },
    };
    let mut talk = talk([parse("", "copy"), bind(""), copy, Expected::Sync, end("copy")]);
    assert_eq!(feed(&mut talk, &[(b'1', b""), (b'2', b""), (b'G', b"")]), ["pass"; 3]);
    assert!(talk.copy_in);
    assert_eq!(feed(&mut talk, &[(b'C', b"COPY 2\0")]), ["copy COPY 2"]);
    talk.expect(Expected::Sync);
    assert_eq!(feed(&mut talk, &[(b'Z', b"I")]), ["pass"]);
    assert!(talk.is_settled() && !talk.copy_in);
}

#[test]
fn what_was_not_asked_for_is_not_taken() {
    let cases: [(&[u8], &str); 9] = [
        (b"1", "ParseComplete"),
        (b"2", "BindComplete"),
        (b"3", "CloseComplete"),
        (b"C", "CommandComplete"),
        (b"D", "DataRow"),
        (b"G", "CopyInResponse"),
        (b"W", "CopyBothResponse"),
        (b"Z", "ReadyForQuery"),
        (b"R", "Authentication"),
    ];
    for (tag, name) in cases {
        assert!(Talk::default().reply(tag[0], b"I").is_err(), "{name}");
    }
    // A COPY FROM STDIN that was not judged as one.
    assert!(talk([query(vec![Step::default()])]).reply(b'G', b"").is_err());
}

#[test]
fn names_are_cut_to_63_bytes_at_a_character() {
    assert_eq!(Name::of(&"a".repeat(64)), Name::of(&"a".repeat(63)));
    let long = format!("{}\u{e9}", "a".repeat(62));
    assert_eq!(Name::of(&long).as_bytes(), "a".repeat(62).as_bytes());
}
