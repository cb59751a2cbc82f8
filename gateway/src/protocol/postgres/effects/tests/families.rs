//! A family of statements after the other: effects with their objects, and whether changes are narrowed by a WHERE.

use super::analysis;
use countersign_infra::domain::effect::WriteKind;

fn check(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        let analysis = analysis(sql.as_bytes()).unwrap_or_else(|refused| panic!("{sql}: {refused}"));
        let words = analysis
            .statements
            .iter()
            .map(|facts| facts.effects.in_words())
            .collect::<Vec<_>>()
            .join(" | ");
        assert_eq!(words, *expected, "{sql}");
    }
}

#[test]
fn reads_name_their_tables_but_not_their_with_queries() {
    check(&[
        ("SELECT 1", "read"),
        (
            "SELECT * FROM orders o JOIN shop.items i USING (id)",
            "read orders, shop.items",
        ),
        (
            "WITH orders AS (SELECT * FROM orders) SELECT * FROM orders",
            "read orders",
        ),
        (
            "WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT * FROM t) SELECT * FROM t",
            "read",
        ),
        ("WITH t AS (SELECT 1) SELECT * FROM public.t", "read public.t"),
        ("WITH t AS (SELECT 1) DELETE FROM t WHERE id = 1", "write t"),
        ("SELECT * FROM \"a.b\"", "read \"a.b\""),
        ("TABLE orders", "read orders"),
        ("SHOW work_mem", "read"),
    ]);
}

#[test]
fn changes_name_what_they_change_and_what_they_show() {
    check(&[
        ("DELETE FROM orders WHERE id = 7", "write orders"),
        (
            "DELETE FROM orders WHERE id = 7 RETURNING *",
            "read orders; write orders",
        ),
        ("INSERT INTO a SELECT * FROM b", "read b; write a"),
        ("UPDATE a SET x = (SELECT max(y) FROM b)", "read b; write a"),
        (
            "WITH d AS (DELETE FROM a WHERE id = 1 RETURNING *) INSERT INTO b SELECT * FROM d",
            "read a; write a, b",
        ),
        ("SELECT * FROM a FOR UPDATE", "read a; lock a; write a"),
        ("SELECT * FROM a x, b FOR SHARE OF x", "read a, b; lock a; write a"),
        ("TRUNCATE a, b", "write a, b"),
        (
            "MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE",
            "read b; write a",
        ),
        ("SELECT nextval('invoice_seq')", "write invoice_seq"),
        ("COPY a FROM STDIN", "write a"),
        ("COPY a TO STDOUT", "read a"),
        ("COPY a TO '/tmp/a'", "read a; admin /tmp/a"),
        (
            "COPY (DELETE FROM a RETURNING 1) TO PROGRAM 'cat'",
            "read a; write a; admin program",
        ),
        ("SELECT * INTO b FROM a", "read a; write b; ddl b"),
        ("CREATE TABLE b AS SELECT * FROM a", "read a; write b; ddl b"),
    ]);
}

#[test]
fn calls_are_what_is_outside_the_servers_own_catalog() {
    check(&[
        ("SELECT lower(name), pg_catalog.upper(name) FROM a", "read a"),
        ("SELECT app.lower('a')", "call app.lower"),
        ("SELECT wipe(x) FROM a", "read a; call wipe"),
        ("SELECT a OPERATOR(app.+) b, a <~!~> b", "call <~!~>, app.+"),
        (
            "SELECT 'x'::app.tok, CAST('y' AS order_status[])",
            "call app.tok, order_status",
        ),
        (
            "SELECT * FROM json_to_recordset('[]') AS x(a int, b app.tok)",
            "call app.tok",
        ),
        (
            "SELECT * FROM JSON_TABLE('[]', '$' COLUMNS (a app.tok PATH '$.a'))",
            "call app.tok",
        ),
        ("SELECT set_config('role', 'x', false)", "session role; privilege role"),
        (
            "SELECT set_config('search_' || 'path', 'x', false)",
            "session set_config; privilege set_config",
        ),
        ("SELECT pg_terminate_backend(1)", "admin pg_terminate_backend"),
        ("SELECT query_to_xml('SELECT 1', true, true, '')", "call query_to_xml"),
        ("DO $$ BEGIN END $$", "call"),
        ("CALL p(1)", "call p"),
        (
            "SELECT information_schema._pg_expandarray(indkey) FROM pg_index",
            "read pg_index",
        ),
    ]);
}

#[test]
fn explain_has_the_effects_of_planning_or_of_running() {
    check(&[
        ("EXPLAIN DELETE FROM a", "read a"),
        ("EXPLAIN (ANALYZE) DELETE FROM a", "write a"),
        ("EXPLAIN (ANALYZE, ANALYZE off) DELETE FROM a", "read a"),
        ("EXPLAIN (ANALYZE off, ANALYZE) DELETE FROM a", "write a"),
        ("EXPLAIN SELECT wipe()", "read; call wipe"),
        ("EXPLAIN EXECUTE p(wipe())", "read; call wipe; unknown p"),
        ("EXECUTE p", "unknown p"),
        ("PREPARE p AS DELETE FROM a", "session"),
        ("DECLARE c CURSOR FOR SELECT * FROM a", "read a; session"),
    ]);
}

#[test]
fn definitions_rights_and_the_server_have_their_own_kinds() {
    check(&[
        ("CREATE TABLE a (id int DEFAULT wipe())", "ddl a"),
        (
            "CREATE TABLE a PARTITION OF b FOR VALUES FROM (wipe()) TO (2)",
            "ddl a; call wipe",
        ),
        ("CREATE INDEX ON a (wipe(x)) WHERE ok(x)", "ddl a; call ok, wipe"),
        ("ALTER TABLE a ADD COLUMN b int DEFAULT wipe()", "ddl a; call wipe"),
        ("ALTER TABLE a ALTER COLUMN b SET DEFAULT wipe()", "ddl a"),
        (
            "ALTER TABLE a ALTER COLUMN b TYPE int USING wipe(b)",
            "ddl a; call wipe",
        ),
        ("ALTER TABLE a OWNER TO b", "ddl a; privilege a"),
        ("CREATE VIEW v AS SELECT wipe()", "ddl v"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ddl f"),
        ("DROP TABLE a, s.b", "ddl a, s.b"),
        ("DROP FUNCTION f(int)", "ddl f"),
        ("GRANT SELECT ON a TO b", "privilege a"),
        ("CREATE ROLE x SUPERUSER", "privilege x"),
        ("SET ROLE x", "session role; privilege role, x"),
        ("SET search_path = app", "session search_path"),
        ("ALTER SYSTEM SET work_mem = '1MB'", "admin work_mem"),
        ("VACUUM a", "admin a"),
        ("CREATE EXTENSION dblink", "admin dblink"),
        ("BEGIN", "transaction"),
        ("COMMIT PREPARED 'x'", "transaction; write x"),
        ("LOCK a", "session; lock a"),
        ("SELECT 1; DELETE FROM a", "read | write a"),
    ]);
}

#[test]
fn a_backslash_is_read_in_both_modes() {
    check(&[
        ("SELECT '\\'; DELETE FROM a; --'", "read | write a"),
        ("SELECT '\\''; DELETE FROM a; --'", "read | write a"),
        ("SELECT E'\\''; DELETE FROM a; --'", "read | write a"),
        ("SELECT '\\' FROM a WHERE b = 'x'", "read a"),
        (
            "BEGIN; SELECT '\\''; COMMIT; --'",
            "transaction; unknown | read | transaction",
        ),
    ]);
}

#[test]
fn only_a_condition_on_a_column_counts_as_where() {
    let cases = [
        ("DELETE FROM a WHERE id = 7", true),
        ("DELETE FROM a", false),
        ("DELETE FROM a WHERE true", false),
        ("DELETE FROM a WHERE 1 = 1", false),
        ("DELETE FROM a WHERE id = 7 OR true", false),
        ("DELETE FROM a WHERE id = id", false),
        ("DELETE FROM a WHERE id = 7 AND true", true),
        ("DELETE FROM a WHERE $1", false),
        ("UPDATE a SET b = 1 WHERE CURRENT OF c", true),
        (
            "UPDATE a SET b = 1 WHERE EXISTS (SELECT FROM b WHERE b.id = a.id)",
            true,
        ),
        ("WITH d AS (DELETE FROM a) SELECT 1", false),
        ("TRUNCATE a", false),
        ("INSERT INTO a VALUES (1)", true),
        ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE", true),
        ("MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE", false),
        (
            "MERGE INTO a USING b ON a.id = b.id WHEN NOT MATCHED BY SOURCE THEN DELETE",
            false,
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(
            analysis(sql.as_bytes()).unwrap().statements[0].has_where,
            expected,
            "{sql}"
        );
    }
}

#[test]
fn ways_of_writing_are_told_apart() {
    let cases: [(&str, &[WriteKind]); 16] = [
        ("SELECT 1", &[]),
        ("INSERT INTO a VALUES (1)", &[WriteKind::Insert]),
        ("INSERT INTO a VALUES (1) ON CONFLICT DO NOTHING", &[WriteKind::Insert]),
        (
            "INSERT INTO a VALUES (1) ON CONFLICT (id) DO UPDATE SET b = 1",
            &[WriteKind::Insert, WriteKind::Upsert],
        ),
        ("UPDATE a SET b = 1 WHERE id = 1", &[WriteKind::Update]),
        ("DELETE FROM a WHERE id = 1", &[WriteKind::Delete]),
        (
            "WITH d AS (DELETE FROM a WHERE id = 1 RETURNING *) INSERT INTO b SELECT * FROM d",
            &[WriteKind::Insert, WriteKind::Delete],
        ),
        (
            "MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE",
            &[WriteKind::MergeDelete],
        ),
        (
            "MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN UPDATE SET c = 1 WHEN NOT MATCHED THEN INSERT VALUES (1)",
            &[WriteKind::MergeInsert, WriteKind::MergeUpdate],
        ),
        ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DO NOTHING", &[]),
        ("TRUNCATE a", &[WriteKind::Truncate]),
        ("TRUNCATE a CASCADE", &[WriteKind::Other]),
        ("SELECT nextval('s')", &[WriteKind::NextValue]),
        ("SELECT setval('s', 1)", &[WriteKind::Other]),
        ("SELECT * FROM a WHERE id = 1 FOR UPDATE", &[WriteKind::RowLock]),
        ("COMMIT PREPARED 'g'", &[WriteKind::Other]),
    ];
    for (sql, expected) in cases {
        let writes = &analysis(sql.as_bytes()).unwrap().statements[0].writes;
        assert_eq!(writes.iter().copied().collect::<Vec<_>>(), expected, "{sql}");
    }
}

#[test]
fn names_are_cut_where_the_server_cuts_them() {
    let name = "ä".repeat(40);
    let analysis = analysis(format!("PREPARE {name} AS SELECT 1").as_bytes()).unwrap();
    let expected = "ä".repeat(31);
    let role = &analysis.statements[0].role;
    assert!(
        matches!(role, super::super::Role::Prepare { name, .. } if *name == expected),
        "{role:?}"
    );
}
