// node-postgres through the gateway.
import assert from 'node:assert';
import { readFileSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import pg from 'pg';
import copy from 'pg-copy-streams';

const ssl = { ca: readFileSync(process.env.PGSSLROOTCERT, 'utf8') };
const connect = async (who) => {
  const client = new pg.Client({ user: who, password: process.env[`TOKEN_${who}`], ssl });
  await client.connect();
  return client;
};
const refused = async (promise, code) => {
  const error = await promise.then(() => assert.fail('it was not refused'), (error) => error);
  assert.equal(error.code, code, error);
  return error;
};

const dave = await connect('dave');
await dave.query('create table n (id int primary key, note text)');
for (let n = 0; n < 10; n++) await dave.query('insert into n values ($1, $2)', [n, `n${n}`]);
for (let n = 0; n < 3; n++) {
  const { rows } = await dave.query({ name: 'by-id', text: 'select note from n where id = $1', values: [n] });
  assert.deepEqual(rows, [{ note: `n${n}` }]);
}
const answers = await Promise.all([1, 2, 3].map((n) => dave.query('select $1::int as n', [n])));
assert.deepEqual(answers.map(({ rows }) => rows[0].n), [1, 2, 3]);
assert.equal((await dave.query('select 1; select 2')).length, 2);
await dave.query('begin');
await refused(dave.query('insert into n values (1)'), '23505');
await refused(dave.query('select 1'), '25P02');
await dave.query('rollback');
await pipeline(Readable.from(['100\tx\n', '101\ty\n']), dave.query(copy.from('copy n from stdin')));
let copied = '';
for await (const chunk of dave.query(copy.to('copy n to stdout'))) copied += chunk;
assert.equal(copied.trim().split('\n').length, 12);
const notices = [];
dave.on('notice', (notice) => notices.push(notice.message));
await dave.query("do $$ begin raise notice 'hello'; end $$");
assert.deepEqual(notices, ['hello']);
const heard = new Promise((resolve) => dave.on('notification', resolve));
await dave.query('listen news');
await dave.query("notify news, 'there'");
assert.equal((await heard).payload, 'there');
await dave.end();

const carol = await connect('carol');
for (let n = 0; n < 2; n++) {
  const error = await refused(carol.query('delete from t where id = $1', [1]), '42501');
  assert.match(error.message, /countersign/);
}
assert.equal((await carol.query('select * from t')).rowCount, 10);
await carol.end();

const alice = await connect('alice');
const told = new Promise((resolve) => alice.on('notice', resolve));
const update = await alice.query('update t set note = $1 where id = $2', ['five', 5]);
assert.equal(update.rowCount, 1);
assert.match((await told).message, /held for approval/);
await alice.end();
