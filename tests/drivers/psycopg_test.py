"""psycopg 3 through the gateway: dave may do anything, carol only reads, alice's changes are approved by somebody."""

import os
import threading

import psycopg


def connect(who, **more):
    return psycopg.connect(user=who, password=os.environ[f"TOKEN_{who}"], **more)


with connect("dave") as c:
    c.execute("create table p (id int primary key, note text)")
    c.cursor().executemany("insert into p values (%s, %s)", [(n, f"n{n}") for n in range(50)])
    c.commit()
    # Prepared after five runs, and then binary too.
    for n in range(8):
        assert c.execute("select note from p where id = %s", (n,)).fetchone() == (f"n{n}",)
    for n in range(8):
        assert c.execute("select id from p where id = %s", (n,), prepare=True, binary=True).fetchone() == (n,)
    c.commit()

    with c.pipeline():
        cursors = [c.execute("select %s::int", (n,)) for n in range(20)]
        c.execute("insert into p values (1000, 'piped')")
        assert [cur.fetchone()[0] for cur in cursors] == list(range(20))
    c.commit()
    try:
        with c.pipeline():
            c.execute("insert into p values (1001, 'lost')")
            c.execute("select 1/0")
        raise SystemExit("an error in a pipeline was lost")
    except psycopg.errors.DivisionByZero:
        c.rollback()
    assert c.execute("select count(*) from p where id >= 1000").fetchone() == (1,)

    with c.cursor().copy("copy p from stdin") as copy:
        for n in range(2000, 2100):
            copy.write_row((n, "copied"))
    with c.cursor().copy("copy (select id from p where id >= 2000) to stdout") as copy:
        assert sum(1 for _ in copy.rows()) == 100
    try:
        with c.cursor().copy("copy p from stdin") as copy:
            copy.write_row(("no number", "x"))
        raise SystemExit("an error in a COPY was lost")
    except psycopg.errors.InvalidTextRepresentation:
        c.rollback()

    with c.cursor(name="server_side") as cur:
        cur.execute("select * from generate_series(1, 1000)")
        assert len(cur.fetchmany(10)) == 10 and len(cur.fetchall()) == 990
    with c.cursor(name="holds", withhold=True) as cur:
        cur.execute("select * from generate_series(1, 10)")
        c.commit()
        assert len(cur.fetchall()) == 10
    c.commit()

    with c.transaction():
        try:
            with c.transaction():
                c.execute("insert into p values (1, 'twice')")
        except psycopg.errors.UniqueViolation:
            pass
        c.execute("select 1")

    notices = []
    c.add_notice_handler(lambda d: notices.append(d.message_primary))
    c.execute("do $$ begin raise notice 'hello'; end $$")
    assert notices == ["hello"], notices
    c.commit()

    threading.Timer(0.5, c.cancel_safe).start()
    try:
        c.execute("select pg_sleep(30)")
        raise SystemExit("it was not cancelled")
    except psycopg.errors.QueryCanceled:
        c.rollback()

    c.autocommit = True
    c.execute("listen news")
    with connect("dave", autocommit=True) as other:
        other.execute("notify news, 'there'")
    assert [n.payload for n in c.notifies(timeout=20, stop_after=1)] == ["there"]

for level in psycopg.IsolationLevel:
    with connect("carol") as c:
        c.isolation_level = level
        c.read_only = True
        c.execute("select count(*) from t")

with connect("carol") as c:
    for _ in range(2):
        try:
            c.execute("delete from t where id = %s", (1,))
            raise SystemExit("carol deleted")
        except psycopg.errors.InsufficientPrivilege as e:
            assert "countersign" in str(e), e
        assert c.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        c.rollback()
    assert c.execute("select count(*) from t").fetchone()[0] == 10
    c.rollback()
    with c.pipeline() as p:
        one = c.execute("select 1")
        p.sync()
        two = c.execute("delete from t")
        try:
            p.sync()
            raise SystemExit("carol deleted in a pipeline")
        except psycopg.errors.InsufficientPrivilege:
            assert one.fetchone() == (1,)
    c.rollback()
    assert c.execute("select 5").fetchone() == (5,)

with connect("alice", autocommit=True) as c:
    notices = []
    c.add_notice_handler(lambda d: notices.append(d.message_primary))
    assert c.execute("update t set note = %s where id = %s", ("new", 3)).rowcount == 1
    assert any("held for approval" in n for n in notices), notices
    assert c.execute("select note from t where id = 3").fetchone() == ("new",)
