//! Deep, huge and broken texts: an answer or an error, soon, and the process lives on.

use super::{LIMITS, analysis, on_a_deep_stack};
use crate::protocol::postgres::effects::{Analyst, analyse};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Generous for an unoptimised build on a busy machine; what is measured is told in the README.
const WITHIN: Duration = Duration::from_secs(20);

fn refused(sql: &[u8]) -> &'static str {
    let start = Instant::now();
    let sqlstate = analysis(sql).expect_err("must be refused").sqlstate;
    assert!(start.elapsed() < WITHIN, "took {:?}", start.elapsed());
    sqlstate
}

#[test]
fn texts_that_are_no_text_are_refused_with_their_reason() {
    assert_eq!(refused(b"SELECT 1\0; DELETE FROM staging"), "22021");
    assert_eq!(refused(b"SELECT '\xff'"), "22021");
    assert_eq!(refused(b"SELECT '\xc0\xa7'"), "22021");
    assert_eq!(refused(b"SELEC 1"), "42601");
    assert_eq!(refused(&vec![b' '; (16 << 20) + 1]), "54000");
}

#[test]
fn a_hundred_thousand_parentheses_are_refused() {
    assert_eq!(
        refused(format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)).as_bytes()),
        "54001"
    );
}

/// Every construct that nests, at growing depth: the deepest that is still answered is walked and dropped as well.
#[test]
fn every_construct_that_nests_is_answered_or_refused_at_any_depth() {
    type Nested = (&'static str, fn(usize) -> String);
    let constructs: &[Nested] = &[
        ("parentheses", |n| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n))),
        ("not", |n| format!("SELECT {} true", "NOT ".repeat(n))),
        ("minus", |n| format!("SELECT {}a", "- ".repeat(n))),
        ("plus", |n| format!("SELECT 1{}", "+1".repeat(n))),
        ("concat", |n| format!("SELECT 'a'{}", "||'a'".repeat(n))),
        ("where plus", |n| format!("DELETE FROM t WHERE a{} = 1", "+1".repeat(n))),
        ("and", |n| format!("SELECT 1 WHERE a{}", " AND a".repeat(n))),
        ("or and", |n| {
            format!("SELECT 1 WHERE {}a{}", "(a OR b AND ".repeat(n), ")".repeat(n))
        }),
        ("scalar subselects", |n| {
            format!("SELECT {}1{}", "(SELECT ".repeat(n), ")".repeat(n))
        }),
        ("derived tables", |n| {
            format!("{}SELECT 1{}", "SELECT * FROM (".repeat(n), ") x".repeat(n))
        }),
        ("exists", |n| {
            format!("SELECT {}true{}", "EXISTS (SELECT ".repeat(n), ")".repeat(n))
        }),
        ("in", |n| {
            format!("SELECT 1{}{}", " IN (SELECT 1".repeat(n), ")".repeat(n))
        }),
        ("case", |n| {
            format!("SELECT {}1{}", "CASE WHEN ".repeat(n), " THEN 1 END".repeat(n))
        }),
        ("case else", |n| {
            format!("SELECT {}1{}", "CASE 1 WHEN 2 THEN 3 ELSE ".repeat(n), " END".repeat(n))
        }),
        ("arrays", |n| format!("SELECT {}1{}", "ARRAY[".repeat(n), "]".repeat(n))),
        ("rows", |n| format!("SELECT {}1{}", "ROW(".repeat(n), ")".repeat(n))),
        ("calls", |n| format!("SELECT {}1{}", "abs(".repeat(n), ")".repeat(n))),
        ("coalesce", |n| {
            format!("SELECT {}1{}", "coalesce(".repeat(n), ")".repeat(n))
        }),
        ("casts", |n| format!("SELECT 1{}", "::int".repeat(n))),
        ("cast()", |n| {
            format!("SELECT {}1{}", "CAST(".repeat(n), " AS int)".repeat(n))
        }),
        ("collate", |n| format!("SELECT 'a'{}", " COLLATE \"C\"".repeat(n))),
        ("time zone", |n| {
            format!("SELECT now(){}", " AT TIME ZONE 'UTC'".repeat(n))
        }),
        ("subscripts", |n| format!("SELECT a{}", "[1]".repeat(n))),
        ("nested subscripts", |n| {
            format!("SELECT {}1{}", "a[".repeat(n), "]".repeat(n))
        }),
        ("fields", |n| format!("SELECT (a){}", ".b".repeat(n))),
        ("joins", |n| format!("SELECT 1 FROM t{}", " JOIN t ON true".repeat(n))),
        ("joins to the right", |n| {
            format!(
                "SELECT 1 FROM {}t JOIN t ON true{}",
                "t JOIN (".repeat(n),
                ") ON true".repeat(n)
            )
        }),
        ("cross joins", |n| {
            format!("SELECT 1 FROM t{}", " CROSS JOIN t".repeat(n))
        }),
        ("union", |n| format!("SELECT 1{}", " UNION SELECT 1".repeat(n))),
        ("union to the right", |n| {
            format!("{}SELECT 1{}", "SELECT 1 UNION (".repeat(n), ")".repeat(n))
        }),
        ("with", |n| {
            format!("{}SELECT 1{}", "WITH a AS (".repeat(n), ") SELECT 1".repeat(n))
        }),
        ("with insert", |n| {
            format!(
                "{}SELECT 1{}",
                "WITH a AS (INSERT INTO t VALUES ((".repeat(n),
                "))) SELECT 1".repeat(n)
            )
        }),
        ("lateral", |n| {
            format!(
                "SELECT 1 FROM {}t{}",
                "LATERAL (SELECT 1 FROM ".repeat(n),
                ") x".repeat(n)
            )
        }),
        ("json", |n| {
            format!("SELECT {}1{}", "JSON_ARRAY(".repeat(n), ")".repeat(n))
        }),
        ("xml", |n| {
            format!("SELECT {}'a'{}", "xmlconcat(".repeat(n), ")".repeat(n))
        }),
        ("strings", |n| format!("SELECT 'a'{}", "\n'a'".repeat(n))),
        ("comments", |n| {
            format!("{} {} SELECT 1", "/*".repeat(n), "*/".repeat(n))
        }),
        ("operators", |n| format!("SELECT 1 {} 1", "+".repeat(n))),
        ("signs and comments", |n| format!("SELECT {}1", "+/**/".repeat(n))),
        ("grouping sets", |n| {
            format!("SELECT 1 GROUP BY {}a{}", "GROUPING SETS (".repeat(n), ")".repeat(n))
        }),
        ("is null", |n| {
            format!("SELECT {}a{}", "(".repeat(n), " IS NULL)".repeat(n))
        }),
        ("insert select", |n| {
            format!("INSERT INTO t (a) SELECT 1{}", " UNION ALL SELECT 1".repeat(n))
        }),
        ("windows", |n| {
            format!("SELECT {}1{}", "sum(1) OVER (ORDER BY ".repeat(n), ")".repeat(n))
        }),
        ("filters", |n| {
            format!(
                "SELECT {}true{}",
                "count(*) FILTER (WHERE ".repeat(n),
                " > 0)".repeat(n)
            )
        }),
        ("update from", |n| {
            format!("UPDATE t SET a = {}1{} WHERE b", "(".repeat(n), ")".repeat(n))
        }),
        ("explain", |n| format!("EXPLAIN SELECT 1{}", "+1".repeat(n))),
    ];
    on_a_deep_stack(move || {
        for (name, nested) in constructs {
            for depth in [
                10, 100, 500, 1_000, 1_400, 2_000, 3_300, 5_000, 7_000, 9_000, 10_500, 12_500, 15_000, 100_000,
            ] {
                let (sql, start) = (nested(depth), Instant::now());
                let outcome = analyse(sql.as_bytes(), LIMITS);
                assert!(start.elapsed() < WITHIN, "{name} at {depth} took {:?}", start.elapsed());
                if let Err(refused) = outcome {
                    assert!(depth > 100, "{name} at {depth}: {refused}");
                    assert!(
                        ["54001", "42601"].contains(&refused.sqlstate),
                        "{name} at {depth}: {refused}"
                    );
                }
            }
        }
    });
}

#[test]
fn long_lists_and_chains_are_answered() {
    let cases = [
        format!("SELECT 1 FROM t WHERE a IN ({})", vec!["12345"; 1_700_000].join(",")),
        format!("SELECT 1 FROM t WHERE {}", vec!["a = 1"; 20_000].join(" OR ")),
        format!("SELECT 1 FROM t0 {}", "JOIN t ON t.a = t0.a ".repeat(500)),
        format!("SELECT 'a'{}", "||'a'".repeat(2_000)),
        format!("INSERT INTO t VALUES {}", vec!["(1, 'abc', now())"; 20_000].join(",")),
        "SELECT 1;".repeat(20_000),
        format!(
            "WITH q0 AS (SELECT 1){} SELECT 1",
            (1..8_000).map(|n| format!(", q{n} AS (TABLE q0)")).collect::<String>()
        ),
        format!(
            "INSERT INTO t (a, email) VALUES {}",
            vec!["(f(1), lower('x'))"; 10_000].join(",")
        ),
    ];
    for sql in cases {
        let start = Instant::now();
        let answer = analysis(sql.as_bytes());
        assert!(answer.is_ok(), "{:?}", answer.err());
        assert!(start.elapsed() < 3 * WITHIN, "took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn the_analyst_answers_the_same_text_from_memory_and_refuses_what_is_too_long() {
    let analyst = Analyst::new(1 << 20).unwrap();
    let first = analyst.analyse(b"DELETE FROM orders WHERE id = 7").await.unwrap();
    let again = analyst
        .clone()
        .analyse(b"DELETE FROM orders WHERE id = 7")
        .await
        .unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &again));
    let long = vec![b' '; (1 << 20) + 1];
    let refused = analyst.analyse(&long).await.unwrap_err();
    assert_eq!(refused.sqlstate, "54000");
    assert!(refused.hint.is_some());
}

#[tokio::test]
async fn many_askers_at_once_are_all_answered() {
    let analyst = Analyst::new(1 << 20).unwrap();
    let asked = (0..200).map(|number| {
        let analyst = analyst.clone();
        tokio::spawn(async move { analyst.analyse(format!("SELECT {number} FROM t").as_bytes()).await })
    });
    for answer in asked.collect::<Vec<_>>() {
        assert!(answer.await.unwrap().is_ok());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let corpus = include_str!("../../../../../../tests/corpus/sql_effects.public.jsonl");
    let rows = corpus.lines().filter(|line| line.len() < 2_000);
    let rows = rows.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.filter_map(|row| row["sql"].as_str().map(|sql| sql.as_bytes().to_vec()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Cut, spliced and flipped statements: whatever comes out, there is an answer or an error.
    #[test]
    fn mutated_statements_never_end_the_process(
        one in prop::sample::select(seeds()),
        two in prop::sample::select(seeds()),
        at in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut sql = one[..at.index(one.len() + 1)].to_vec();
        sql.extend_from_slice(&two[from.index(two.len() + 1)..]);
        for (place, byte) in flips {
            let length = sql.len();
            if length > 0 {
                sql[place.index(length)] = byte;
            }
        }
        let text = String::from_utf8_lossy(&sql).into_owned();
        let answer = analysis(&sql);
        let shown = crate::mask::display(&text, answer.as_ref().ok(), &["email".to_owned(), "balance".to_owned()]);
        prop_assert!(!shown.contains('\0'));
        if let Ok(answer) = answer {
            for statement in answer.statements {
                prop_assert!(!statement.effects.is_empty());
            }
        }
    }
}
