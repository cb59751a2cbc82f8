// postgres.js through the gateway: it parses, describes and flushes first, and pipelines everything.
import assert from 'node:assert';
import { readFileSync } from 'node:fs';
import postgres from 'postgres';

const ssl = { ca: readFileSync(process.env.PGSSLROOTCERT, 'utf8') };
const { PGHOST: host, PGPORT: port, PGDATABASE: database } = process.env;
const connect = (who, more) =>
  postgres({ host, port: Number(port), database, user: who, password: process.env[`TOKEN_${who}`], ssl, max: 1, ...more });
const refused = async (promise, code) => {
  const error = await promise.then(() => assert.fail('it was not refused'), (error) => error);
  assert.equal(error.code, code, error);
};

const dave = connect('dave');
await dave`create table j (id int primary key, note text)`;
await dave`insert into j ${dave([...Array(20).keys()].map((id) => ({ id, note: `n${id}` })))}`;
assert.deepEqual([...(await dave`select note from j where id = ${3}`)], [{ note: 'n3' }]);
const answers = await Promise.all([...Array(30).keys()].map((n) => dave`select ${n}::int as n`));
assert.deepEqual(answers.map(([row]) => row.n), [...Array(30).keys()]);
await dave.begin(async (sql) => {
  await sql`insert into j values (100, 'x')`;
  await refused(sql.savepoint((sql) => sql`insert into j values (100, 'y')`), '23505');
  await sql`insert into j values (101, 'z')`;
});
let rows = 0;
for await (const batch of dave`select * from j`.cursor(5)) rows += batch.length;
assert.equal(rows, 22);
const sleeping = dave`select pg_sleep(30)`.execute();
setTimeout(() => sleeping.cancel(), 500);
await refused(sleeping, '57014');
await dave.listen('news', (payload) => assert.equal(payload, 'there'));
await dave.notify('news', 'there');
await dave.end({ timeout: 5 });

const carol = connect('carol', { max: 3 });
for (let n = 0; n < 3; n++) await refused(carol`delete from t where id = ${n}`, '42501');
await refused(carol.begin((sql) => sql`delete from t where id = ${1}`), '42501');
assert.equal((await carol`select * from t`).length, 10);
await carol.end({ timeout: 5 });

const notices = [];
const alice = connect('alice', { onnotice: (notice) => notices.push(notice.message) });
assert.equal((await alice`update t set note = ${'six'} where id = ${6}`).count, 1);
assert.match(notices.join(), /held for approval/);
await alice.end({ timeout: 5 });
