use super::{
    Approval, Ballot, Change, Choice, END_TEXT_BYTES_MAX, EVIDENCE_BYTES_MAX, Invalid, OPENED_BYTES_MAX, Outcome,
    REASON_BYTES_MAX, RECORD_BYTES_MAX, Rejected, State, Terms, VOTES_MAX, Via,
};
use crate::domain::Timestamp;
use crate::domain::display::HEAD_BYTES_MAX;
use crate::domain::example::{EPOCH, alice, at, ballot, bob, clause, new_approval, pending, person, start, terms};
use crate::domain::identity::{Person, PersonKind};
use chrono::TimeDelta;

fn approve(name: &str) -> Change {
    Change::Vote(ballot(person(name, &["dba"]), Choice::Approve))
}

fn deny(name: &str) -> Change {
    Change::Vote(ballot(person(name, &["dba"]), Choice::Deny))
}

fn withdraw() -> Change {
    Change::Withdraw {
        why: "Ctrl-C".to_owned(),
    }
}

fn approved(by: &[&str], terms: Terms) -> Approval {
    let first = pending(terms);
    by.iter()
        .fold(first, |approval, name| approval.apply(approve(name), at(5)).unwrap())
}

fn executing() -> Approval {
    approved(&["erin"], terms(1))
        .apply(Change::Execute { epoch: EPOCH }, at(6))
        .unwrap()
}

/// The events of the table: a letter, the change, and the second from which on it can happen.
fn events() -> [(char, Change, i64); 7] {
    [
        ('A', approve("bob"), 0),
        ('B', approve("carol"), 0),
        ('D', deny("dan"), 0),
        ('E', Change::Expire, 610),
        ('W', withdraw(), 0),
        ('X', Change::Execute { epoch: EPOCH }, 0),
        ('C', Change::LeaseLost, 32),
    ]
}

fn letter(state: &State) -> char {
    match state {
        State::Pending => 'p',
        State::Approved { .. } => 'a',
        State::Denied { .. } => 'd',
        State::Expired { .. } => 'x',
        State::Withdrawn { .. } => 'w',
        State::Abandoned { .. } => 'b',
        State::Revoked { .. } => 'r',
        State::Executing { .. } => 'e',
        State::Done { .. } => 'f',
        State::Unknown { .. } => 'u',
    }
}

/// Rows: which event comes first; columns: which comes second, in the order of `events`; letters: how it ends.
fn check_pairs(from: &Approval, table: [&str; 7]) {
    for ((first_name, first, first_at), row) in events().into_iter().zip(table) {
        let first_at = first_at.max(10);
        let one = from.apply(first, at(first_at));
        let between = one.clone().unwrap_or_else(|_| from.clone());
        for ((second_name, second, second_at), expected) in events().into_iter().zip(row.chars()) {
            let two = between.apply(second, at(second_at.max(first_at + 10)));
            let end = two.clone().unwrap_or_else(|_| between.clone());
            assert_eq!(letter(&end.state), expected, "{first_name} then {second_name}");
            if between.state.is_terminal() {
                assert!(
                    two.is_err(),
                    "{second_name} was accepted after {first_name} had ended it"
                );
            }
            let changes = u64::from(one.is_ok()) + u64::from(two.is_ok());
            assert_eq!(end.version, from.version + changes, "{first_name} then {second_name}");
        }
    }
}

#[test]
fn every_pair_of_events_ends_the_same_way_in_every_order() {
    // Two more people are asked for.
    check_pairs(
        &pending(terms(2)),
        [
            "padxwpb", "apdxwpb", "ddddddd", "xxxxxxx", "wwwwwww", "ppdxwpb", "bbbbbbb",
        ],
    );
    // One more: the next approval is the last.
    let one_more = approved(&["erin"], terms(2));
    check_pairs(
        &one_more,
        [
            "aadxweb", "aadxweb", "ddddddd", "xxxxxxx", "wwwwwww", "aadxwpb", "bbbbbbb",
        ],
    );
    let approved = approved(&["erin"], terms(1));
    check_pairs(
        &approved,
        [
            "aadxweb", "aadxweb", "ddddddd", "xxxxxxx", "wwwwwww", "eeeeeeu", "bbbbbbb",
        ],
    );
    check_pairs(
        &executing(),
        [
            "eeeeeeu", "eeeeeeu", "eeeeeeu", "eeeeeeu", "eeeeeeu", "eeeeeeu", "uuuuuuu",
        ],
    );
}

#[track_caller]
fn check_refused(approval: &Approval, change: Change, now: Timestamp, expected: &str) {
    match approval.apply(change.clone(), now) {
        Err(rejected) => assert_eq!(rejected.to_string(), expected),
        Ok(next) => panic!("{change:?} was accepted: {:?}", next.state),
    }
}

#[test]
fn who_tries_in_vain_is_told_why() {
    let waits = pending(terms(2));
    let vote = |voter: Person| Change::Vote(ballot(voter, Choice::Approve));
    let machine = Person {
        kind: PersonKind::Machine,
        ..bob()
    };
    let second_account = Person {
        email: Some(" Alice@Example.COM".to_owned()),
        ..bob()
    };
    let twin = Person {
        email: Some("BOB@example.com".to_owned()),
        ..person("robert", &["dba"])
    };
    let once = approved(&["bob"], terms(2));
    let done = approved(&["bob", "carol"], terms(2));
    let at_deadline = at(598) + TimeDelta::microseconds(1);
    let cases = [
        (
            &waits,
            vote(alice()),
            at(1),
            "you asked for this yourself: somebody else has to decide",
        ),
        (
            &waits,
            vote(second_account),
            at(1),
            "your e-mail address is the requester's: nobody decides on their own request through a second account",
        ),
        (
            &waits,
            vote(machine),
            at(1),
            "a program cannot vote: a person has to decide",
        ),
        (
            &waits,
            vote(person("eve", &["sales"])),
            at(1),
            "you are in none of the groups that may decide: dba",
        ),
        (
            &waits,
            deny("alice"),
            at(1),
            "you asked for this yourself: somebody else has to decide",
        ),
        (
            &once,
            vote(bob()),
            at(9),
            "you have voted already, at 2026-01-01 00:00:05 UTC",
        ),
        (
            &once,
            vote(twin),
            at(9),
            "you have voted already, at 2026-01-01 00:00:05 UTC",
        ),
        (
            &done,
            approve("dan"),
            at(9),
            "already approved by bob, carol at 2026-01-01 00:00:05 UTC",
        ),
        (
            &waits,
            approve("bob"),
            at(600),
            "too late: the deadline was 2026-01-01 00:10:00 UTC",
        ),
        (
            &waits,
            approve("bob"),
            at_deadline,
            "too late: the deadline is less than 2 s away (2026-01-01 00:10:00 UTC)",
        ),
        (
            &executing(),
            deny("dan"),
            at(9),
            "too late: it was sent at 2026-01-01 00:00:06 UTC",
        ),
        (
            &waits,
            Change::Expire,
            at(599),
            "not expired: the deadline is 2026-01-01 00:10:00 UTC",
        ),
        (
            &done,
            Change::Expire,
            at(609),
            "not expired: the deadline is 2026-01-01 00:10:00 UTC",
        ),
        (
            &once,
            Change::Execute { epoch: EPOCH },
            at(9),
            "not approved yet: 1 of 2: bob",
        ),
        (
            &done,
            Change::Execute { epoch: 1 },
            at(9),
            "another gateway holds this operation: gateway-1",
        ),
        (
            &done,
            Change::Execute { epoch: EPOCH },
            at(31),
            "the lease of gateway-1 ended at 2026-01-01 00:00:30 UTC: renew it first",
        ),
        (
            &done,
            Change::LeaseLost,
            at(31),
            "gateway gateway-1 holds it until 2026-01-01 00:00:30 UTC",
        ),
    ];
    for (approval, change, now, expected) in cases {
        check_refused(approval, change, now, expected);
    }
}

#[test]
fn what_was_approved_in_time_is_stale_ten_seconds_after_the_deadline() {
    let approval = approved(&["bob"], terms(1));
    let renewed = approval
        .apply(
            Change::Renew {
                epoch: EPOCH,
                until: at(900),
            },
            at(20),
        )
        .unwrap();
    assert!(renewed.apply(Change::Execute { epoch: EPOCH }, at(609)).is_ok());
    let stale = "approved, but not sent before its deadline (2026-01-01 00:10:00 UTC): ask again";
    check_refused(&renewed, Change::Execute { epoch: EPOCH }, at(610), stale);
    assert_eq!(
        renewed.verify(renewed.operation.digest, at(610)),
        Err(Invalid::Stale {
            deadline: renewed.deadline
        })
    );
    assert!(renewed.apply(Change::Expire, at(610)).is_ok());
}

#[test]
fn a_vote_at_the_last_allowed_moment_counts() {
    assert!(pending(terms(1)).apply(approve("bob"), at(598)).is_ok());
}

#[test]
fn whoever_approved_may_still_deny() {
    let denied = approved(&["bob"], terms(1)).apply(deny("bob"), at(9)).unwrap();
    assert!(matches!(denied.state, State::Denied { by, .. } if by.name == "bob"));
}

#[test]
fn a_clock_behind_the_gateways_still_votes() {
    let early = pending(terms(1)).apply(approve("bob"), at(-1)).unwrap();
    assert_eq!(early.votes[0].at, start());
    assert!(early.verify(early.operation.digest, at(1)).is_ok());
}

#[test]
fn only_the_holder_finishes_and_only_once() {
    let outcome = super::Outcome {
        ok: true,
        summary: "DELETE 1".to_owned(),
        rows: Some(1),
        duration_ms: 4,
    };
    let finish = |epoch| Change::Finish {
        epoch,
        outcome: outcome.clone(),
    };
    let sent = executing();
    check_refused(
        &sent,
        finish(1),
        at(9),
        "another gateway holds this operation: gateway-1",
    );
    check_refused(
        &pending(terms(1)),
        finish(EPOCH),
        at(9),
        "nothing was sent: the approval is pending",
    );
    let done = sent.apply(finish(EPOCH), at(9)).unwrap();
    check_refused(
        &done,
        finish(EPOCH),
        at(9),
        "too late: it was sent, and answered at 2026-01-01 00:00:09 UTC",
    );
    let lost = sent
        .apply(
            Change::LoseOutcome {
                epoch: EPOCH,
                why: "connection reset".to_owned(),
            },
            at(9),
        )
        .unwrap();
    let told = "too late: it was sent, its outcome is not known since 2026-01-01 00:00:09 UTC (connection reset)";
    check_refused(&lost, finish(EPOCH), at(10), told);
}

#[test]
fn a_lease_is_never_shortened() {
    let renewed = pending(terms(1))
        .apply(
            Change::Renew {
                epoch: EPOCH,
                until: at(3),
            },
            at(1),
        )
        .unwrap();
    assert_eq!(renewed.lease.until, at(30));
}

#[test]
fn every_clause_binds_and_one_person_may_count_in_several() {
    let mut both = terms(1);
    both.clauses.push(clause("money", &["finance", "audit"], 2));
    let mut approval = pending(both);
    assert_eq!(approval.quorum_state(), "0 of 1 from dba; 0 of 2 from finance or audit");
    for (name, groups, words) in [
        (
            "fay",
            ["finance", "x"],
            "0 of 1 from dba; 1 of 2 from finance or audit: fay",
        ),
        (
            "bob",
            ["dba", "audit"],
            "1 of 1 from dba: bob; 2 of 2 from finance or audit: fay, bob",
        ),
    ] {
        assert!(approval.is_open());
        let vote = Change::Vote(ballot(person(name, &groups), Choice::Approve));
        approval = approval.apply(vote, at(1)).unwrap();
        assert_eq!(approval.quorum_state(), words);
    }
    assert!(matches!(approval.state, State::Approved { .. }));
    assert_eq!(
        approval
            .verify(approval.operation.digest, at(2))
            .unwrap()
            .approvers
            .len(),
        2
    );
}

#[test]
fn critical_terms_ask_for_a_vote_outside_the_chat() {
    let chat = |name: &str| {
        Change::Vote(Ballot {
            via: Via::Slack,
            ..ballot(person(name, &["dba"]), Choice::Approve)
        })
    };
    let first = pending(Terms {
        critical: true,
        ..terms(1)
    })
    .apply(chat("bob"), at(1))
    .unwrap();
    assert!(first.is_open());
    assert_eq!(
        first.quorum_state(),
        "1 of 1: bob; one of them in the console or on the command line"
    );
    let second = first.apply(chat("carol"), at(2)).unwrap();
    assert!(second.is_open());
    let third = second.apply(approve("bob"), at(3)).unwrap();
    assert!(matches!(third.state, State::Approved { .. }));
    assert_eq!(third.verify(third.operation.digest, at(4)).unwrap().approvers.len(), 2);
}

#[test]
fn terms_that_mean_nothing_are_refused() {
    let open = |terms: Terms| Approval::open(new_approval(terms), start()).map_err(|error| error.to_string());
    let with = |clauses| Terms { clauses, ..terms(1) };
    for (terms, why) in [
        (with(vec![]), "no rule says who decides"),
        (with(vec![clause("r", &[], 1)]), "rule r names no group that decides"),
        (with(vec![clause("r", &["dba"], 0)]), "rule r asks for 0 people"),
        (with(vec![clause("r", &["dba"], 65)]), "rule r asks for 65 people"),
        (
            Terms {
                expires_seconds: 2,
                ..terms(1)
            },
            "no vote can be given within 2 s",
        ),
        (
            Terms {
                expires_seconds: u64::MAX,
                ..terms(1)
            },
            "they wait for 18446744073709551615 s",
        ),
    ] {
        assert_eq!(open(terms), Err(format!("these terms cannot be met: {why}")));
    }
}

#[test]
fn bounds_are_kept_and_leave_room_for_a_denial() {
    let long = Ballot {
        reason: Some("x".repeat(4001)),
        ..ballot(bob(), Choice::Deny)
    };
    check_refused(
        &pending(terms(1)),
        Change::Vote(long),
        at(1),
        "too long: the reason may have 4000 bytes",
    );
    let many: Vec<String> = (0..63).map(|number| format!("dba{number}")).collect();
    let names: Vec<&str> = many.iter().map(String::as_str).collect();
    let full = approved(&names, terms(64));
    check_refused(
        &full,
        approve("one-more"),
        at(9),
        "this approval has 64 votes: no more are counted",
    );
    assert!(full.apply(deny("one-more"), at(9)).is_ok());
}

#[test]
fn of_a_voters_groups_only_those_that_decide_are_kept() {
    let voter = person("bob", &["dba", "football", "staff"]);
    let voted = pending(terms(1))
        .apply(Change::Vote(ballot(voter, Choice::Approve)), at(1))
        .unwrap();
    assert_eq!(voted.votes[0].ballot.voter.groups, ["dba".to_owned()].into());
}

#[test]
fn a_rejection_of_an_unbelievable_record_says_so() {
    let mut forged = approved(&["bob"], terms(1));
    forged.votes[0].ballot.voter.name = "mallory".to_owned();
    let told = "the record cannot be trusted: vote 1 is not the one that was given";
    check_refused(&forged, Change::Execute { epoch: EPOCH }, at(9), told);
    let rejected = forged.apply(Change::Execute { epoch: EPOCH }, at(9));
    assert_eq!(rejected, Err(Rejected::Invalid(Invalid::BrokenVotes { number: 1 })));
}

/// Text of so many bytes, in characters of four.
fn wide(bytes: usize) -> String {
    "\u{1f511}".repeat(bytes / 4)
}

#[test]
fn the_largest_legal_record_can_still_be_denied_and_ends_within_its_bound() {
    let mut new = new_approval(terms(64));
    new.operation.display = wide(HEAD_BYTES_MAX);
    new.place.search_path = wide(OPENED_BYTES_MAX - HEAD_BYTES_MAX - 8_000);
    let mut full = Approval::open(new.clone(), start()).unwrap();
    let groups: Vec<String> = (0..200).map(|number| format!("{number:03}{}", wide(250))).collect();
    let voter = |name: &str, groups: &[String]| {
        let mut voter = person(name, &["dba"]);
        voter.groups.extend(groups.iter().cloned());
        voter
    };
    let vote = |voter: Person, choice: Choice| {
        Change::Vote(Ballot {
            reason: Some(wide(REASON_BYTES_MAX)),
            evidence: Some(wide(EVIDENCE_BYTES_MAX)),
            grants: false,
            ..ballot(voter, choice)
        })
    };
    let refused = (0..VOTES_MAX).find_map(|number| {
        let voted = full.apply(vote(voter(&format!("dba{number}"), &[]), Choice::Approve), at(5));
        voted.map(|voted| full = voted).err()
    });
    assert!(matches!(refused, Some(Rejected::TooLarge { .. })), "{refused:?}");
    assert!(full.votes.len() > 5, "{}", full.votes.len());

    let endless = || "\u{1}".repeat(1 << 20);
    let withdrawn = full.apply(Change::Withdraw { why: endless() }, at(6)).unwrap();
    let denied = full.apply(vote(voter("nora", &groups), Choice::Deny), at(6)).unwrap();
    for ended in [withdrawn, denied] {
        assert!(ended.size_bytes() <= RECORD_BYTES_MAX, "{}", ended.size_bytes());
    }
    new.place.search_path = wide(OPENED_BYTES_MAX);
    let refused = Approval::open(new, start());
    assert!(matches!(refused, Err(Rejected::TooLarge { .. })), "{refused:?}");
}

#[test]
fn texts_that_end_a_record_are_cut_between_characters() {
    let outcome = Outcome {
        ok: false,
        summary: format!("x{}", wide(2 * END_TEXT_BYTES_MAX)),
        rows: None,
        duration_ms: 1,
    };
    let finish = Change::Finish { epoch: EPOCH, outcome };
    let State::Done { outcome, .. } = executing().apply(finish, at(7)).unwrap().state else {
        panic!("it is not done");
    };
    assert_eq!(outcome.summary.len(), END_TEXT_BYTES_MAX - 3);
}
