"""asyncpg through the gateway."""

import asyncio
import os
import ssl

import asyncpg

TLS = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])


async def connect(who):
    return await asyncpg.connect(user=who, password=os.environ[f"TOKEN_{who}"], ssl=TLS)


async def main():
    c = await connect("dave")
    await c.execute("create table a (id int primary key, note text, at timestamptz default now())")
    await c.executemany("insert into a (id, note) values ($1, $2)", [(n, f"n{n}") for n in range(100)])
    statement = await c.prepare("select note from a where id = $1")
    assert [await statement.fetchval(n) for n in range(3)] == ["n0", "n1", "n2"]
    assert len(await c.fetch("select * from a where id = any($1::int[])", [1, 2, 3])) == 3
    async with c.transaction(isolation="serializable"):
        await c.execute("insert into a (id) values (1000)")
        try:
            async with c.transaction():
                await c.execute("insert into a (id) values (1000)")
        except asyncpg.UniqueViolationError:
            pass
        assert len([row async for row in c.cursor("select id from a order by id", prefetch=7)]) == 101
    copied = await c.copy_records_to_table("a", records=[(n, "copied") for n in range(2000, 2050)], columns=["id", "note"])
    assert copied == "COPY 50", copied
    assert await c.copy_from_query("select id from a", output=os.devnull) == "COPY 151"
    try:
        await c.copy_records_to_table("a", records=[(1, "twice")], columns=["id", "note"])
        raise SystemExit("an error in a COPY was lost")
    except asyncpg.UniqueViolationError:
        pass
    try:
        await c.fetchval("select pg_sleep(30)", timeout=0.5)
        raise SystemExit("it was not cancelled")
    except asyncio.TimeoutError:
        pass
    assert await c.fetchval("select 1") == 1
    heard = asyncio.get_running_loop().create_future()
    await c.add_listener("news", lambda *args: heard.done() or heard.set_result(args[-1]))
    other = await connect("dave")
    await other.execute("select pg_notify('news', 'there')")
    assert await asyncio.wait_for(heard, 20) == "there"
    await other.close()
    await c.set_type_codec("json", encoder=str, decoder=str, schema="pg_catalog")
    await c.reset()
    await c.close()

    c = await connect("carol")
    for _ in range(2):
        try:
            await c.execute("delete from t where id = $1", 1)
            raise SystemExit("carol deleted")
        except asyncpg.InsufficientPrivilegeError as e:
            assert "countersign" in str(e), e
    async with c.transaction(readonly=True):
        assert await c.fetchval("select count(*) from t") == 10
    await c.reload_schema_state()
    await c.close()

    c = await connect("alice")
    assert await c.execute("update t set note = $1 where id = $2", "newer", 4) == "UPDATE 1"
    async with c.transaction():
        assert await c.execute("update t set note = $1 where id = $2", "newest", 4) == "UPDATE 1"
    assert await c.fetchval("select note from t where id = 4") == "newest"
    await c.close()

    pool = await asyncpg.create_pool(user="carol", password=os.environ["TOKEN_carol"], ssl=TLS, min_size=1, max_size=3)
    assert await asyncio.gather(*(pool.fetchval("select $1::int", n) for n in range(20))) == list(range(20))
    await pool.close()


asyncio.run(asyncio.wait_for(main(), 100))
