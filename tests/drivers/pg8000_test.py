"""pg8000 through the gateway: it binds without Describe and reads columns by itself."""

import io
import os
import ssl

import pg8000.native

TLS = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])


def connect(who):
    return pg8000.native.Connection(
        who,
        host=os.environ["PGHOST"],
        port=int(os.environ["PGPORT"]),
        database=os.environ["PGDATABASE"],
        password=os.environ[f"TOKEN_{who}"],
        ssl_context=TLS,
    )


c = connect("dave")
c.run("create table g (id int primary key, note text)")
for n in range(20):
    c.run("insert into g values (:id, :note)", id=n, note=f"n{n}")
assert c.run("select note from g where id = :id", id=3) == [["n3"]]
prepared = c.prepare("select id from g where note = :note")
assert [prepared.run(note=f"n{n}") for n in (1, 2)] == [[[1]], [[2]]]
prepared.close()
c.run("start transaction")
c.run("delete from g where id = 1")
c.run("rollback")
assert c.run("select count(*) from g") == [[20]]
for n in range(30):
    c.run("copy g from stdin", stream=io.BytesIO(b"%d\tcopied\n" % (100 + n)))
    out = io.BytesIO()
    c.run("copy g to stdout", stream=out)
    assert out.getvalue().count(b"copied") == n + 1, out.getvalue()
try:
    c.run("select 1/0")
    raise SystemExit("an error was lost")
except pg8000.native.DatabaseError as e:
    assert e.args[0]["C"] == "22012", e
c.close()

c = connect("carol")
for _ in range(2):
    try:
        c.run("delete from t where id = :id", id=1)
        raise SystemExit("carol deleted")
    except pg8000.native.DatabaseError as e:
        assert e.args[0]["C"] == "42501", e
assert c.run("select count(*) from t") == [[10]]
c.close()

c = connect("alice")
c.run("update t set note = :note where id = :id", note="eight", id=8)
assert c.row_count == 1 and c.run("select note from t where id = 8") == [["eight"]]
c.close()
