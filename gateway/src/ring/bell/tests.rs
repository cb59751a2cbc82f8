use super::*;
use countersign_infra::domain::approval::{Change, Choice};
use countersign_infra::domain::example::{at, ballot, bob, pending, terms};

const SECOND: Duration = Duration::from_secs(1);

fn record(number: u32) -> Approval {
    let [a, b, c, d] = number.to_be_bytes();
    Approval {
        id: ApprovalId::from_random([0, a, b, c, d]),
        ..pending(terms(2))
    }
}

fn voted(record: &Approval) -> Approval {
    let ballot = ballot(bob(), Choice::Approve);
    record.apply(Change::Vote(ballot), at(1)).unwrap()
}

fn ended(record: &Approval) -> Approval {
    let why = "by alice".to_owned();
    record.apply(Change::Withdraw { why }, at(2)).unwrap()
}

fn ids(due: &[(ApprovalId, u64)]) -> Vec<ApprovalId> {
    due.iter().map(|(id, _)| id.clone()).collect()
}

fn only(record: &Approval) -> Vec<ApprovalId> {
    vec![record.id.clone()]
}

/// Rings what is due, and says what it was.
fn ring(bell: &Bell, is_shown: bool, now: Instant) -> Vec<ApprovalId> {
    let due = bell.due(now, 1000);
    for (id, news) in &due {
        bell.rang(id, *news, is_shown, now);
    }
    ids(&due)
}

#[test]
fn an_approval_is_rung_until_it_is_shown_and_again_when_it_changes() {
    let (bell, now, held) = (Bell::default(), Instant::now(), record(1));
    bell.opened(&held, now);
    assert_eq!(ring(&bell, false, now), only(&held));
    assert_eq!(ring(&bell, true, now + PAUSE_MAX), only(&held));
    let again = now + PAUSE_MAX + AGAIN_AFTER;
    assert_eq!((bell.next(), bell.untold()), (Some(again), 0));
    assert!(ring(&bell, true, again - SECOND).is_empty());
    assert_eq!(ring(&bell, true, again), only(&held), "while it is held");
    for next in [voted(&held), ended(&held)] {
        bell.changed_to(&next, now, at(0));
        assert_eq!(ring(&bell, true, now), only(&held));
    }
    assert!(bell.entries().is_empty(), "what is over and shown is forgotten");
}

#[test]
fn many_changes_are_one_ring_and_one_during_a_ring_is_another() {
    let (bell, now, held) = (Bell::default(), Instant::now(), record(1));
    bell.opened(&held, now);
    for _ in 0..1000 {
        bell.changed_to(&voted(&held), now, at(0));
    }
    let due = bell.due(now, 1000);
    assert_eq!(ids(&due), only(&held));
    bell.changed_to(&ended(&held), now, at(0));
    assert!(bell.due(now, 1000).is_empty(), "it is being rung");
    bell.rang(&held.id, due[0].1, true, now);
    assert_eq!(ring(&bell, true, now), only(&held));
    assert_eq!(bell.untold(), 0);
}

#[test]
fn pauses_grow_and_a_change_is_rung_at_once() {
    let (bell, mut now, held) = (Bell::default(), Instant::now(), record(1));
    bell.opened(&held, now);
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        assert_eq!(ring(&bell, false, now).len(), 1);
        let next = bell.next().unwrap();
        longest = longest.max(next - now);
        assert!(next - now <= PAUSE_MAX);
        now = next;
    }
    assert!(longest > PAUSE_MAX / 4, "{longest:?}");
    bell.changed_to(&voted(&held), now, at(0));
    assert_eq!(bell.next(), Some(now));
    assert_eq!(ring(&bell, false, now).len(), 1);
    assert!(bell.next().unwrap() <= now + FIRST_PAUSE);
}

#[test]
fn what_others_did_to_a_held_approval_is_rung_and_a_renewed_lease_is_not() {
    let (bell, now, held) = (Bell::default(), Instant::now(), record(1));
    bell.saw(&held, now);
    assert_eq!(bell.untold(), 0, "it is not held here");
    bell.opened(&held, now);
    ring(&bell, true, now);
    bell.saw(&held, now);
    assert_eq!(bell.untold(), 0, "nothing changed");
    for next in [voted(&held), ended(&held)] {
        bell.saw(&next, now);
        assert_eq!(ring(&bell, true, now), only(&held));
        bell.saw(&next, now);
        assert_eq!(bell.untold(), 0);
    }
}

#[test]
fn what_is_over_is_rung_for_ten_minutes_and_what_is_held_for_ever() {
    let (bell, now, held) = (Bell::default(), Instant::now(), record(1));
    let (over, others) = (record(2), record(3));
    bell.opened(&held, now);
    bell.changed_to(&ended(&over), now, at(0));
    bell.changed_to(&voted(&others), now, others.deadline - SECOND);
    for (later, wanted) in [
        (OVER_FOR - SECOND, vec![&held, &over, &others]),
        (OVER_FOR, vec![&held, &others]),
        (OVER_FOR + SECOND, vec![&held]),
        (OVER_FOR * 100, vec![&held]),
    ] {
        // A change of nothing makes all that is left due.
        let mut rung: Vec<_> = bell.due(now + later, 1000);
        for (id, news) in &rung {
            bell.rang(id, *news, false, now);
        }
        rung.sort();
        assert_eq!(
            ids(&rung),
            wanted.iter().map(|record| record.id.clone()).collect::<Vec<_>>(),
            "{later:?}"
        );
    }
}

#[test]
fn the_bell_is_bounded_by_what_is_held_and_a_constant() {
    let (bell, now) = (Bell::default(), Instant::now());
    for number in 0..100 {
        bell.opened(&record(number), now);
    }
    for number in 100..(OTHERS_MAX as u32 + 200) {
        bell.changed_to(
            &ended(&record(number)),
            now + Duration::from_millis(u64::from(number)),
            at(0),
        );
    }
    assert_eq!(bell.entries().len(), 100 + OTHERS_MAX);
    let rung = ids(&bell.due(now + SECOND * 60, usize::MAX));
    for (number, is_there) in [(0, true), (99, true), (100, false), (199, false), (200, true)] {
        assert_eq!(rung.contains(&record(number).id), is_there, "{number}");
    }
}

#[test]
fn a_stop_takes_what_is_not_rung_due_or_not() {
    let (bell, now) = (Bell::default(), Instant::now());
    let (shown, refused, fresh) = (record(1), record(2), record(3));
    for held in [&shown, &refused] {
        bell.opened(held, now);
    }
    for (id, news) in bell.due(now, 2) {
        bell.rang(&id, news, id == shown.id, now);
    }
    bell.opened(&fresh, now);
    let mut tried = HashSet::new();
    let mut last = bell.take_untried(&mut tried);
    last.sort();
    assert_eq!(ids(&last), [refused.id, fresh.id.clone()]);
    bell.changed_to(&ended(&fresh), now, at(0));
    for (id, news) in &last {
        assert!(bell.take_untried(&mut tried).is_empty(), "it is being rung");
        bell.rang(id, *news, false, now);
    }
    assert_eq!(
        ids(&bell.take_untried(&mut tried)),
        only(&fresh),
        "it changed during its ring"
    );
    assert_eq!(bell.untold(), 2);
}
