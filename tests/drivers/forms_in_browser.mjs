// Chooses an issuer, links a chat account, answers a client that waits, confirms a vote, and meets an error, with a real
// browser on a phone's screen.
// Usage: node forms_in_browser.mjs JSON, with { gateway, issuer, person, light, dark, pictures, chromium }; `light` and `dark`
// each name { link, connect, code, confirm, approval }. In light everything is said yes to, in dark no.

import assert from 'node:assert/strict';
import { ask, given, onPhones, signIn } from './phone.mjs';

const { gateway: here, issuer, person } = given;

const heading = (page) => page.locator('h1').innerText();
// The error page, the wrong code and the form that is too late are answered with 4xx, which the browser remarks.
const refusal = (text) => /status of (403|404|422)/.test(text);

await onPhones(here, async ({ page, context, scheme, fits }) => {
  const { link, connect, code, confirm, approval } = given[scheme];
  const button = (name) => page.getByRole('button', { name, exact: true });
  const yes = scheme === 'light';

  await page.goto(`${here}/approvals`);
  assert.equal(await heading(page), 'Sign in');
  const issuers = page.locator('main a.button');
  assert.equal(await issuers.count(), 2);
  for (const each of await issuers.all()) assert.ok((await each.boundingBox()).height >= 44, 'a finger finds it');
  await fits('choice-of-issuer');
  await issuers.filter({ hasText: issuer }).tap();
  await page.waitForURL((url) => url.href.startsWith(issuer));
  await signIn(page, here, person);
  assert.equal(page.url(), `${here}/approvals`);

  await page.goto(`${here}/link/nobody-knows-this-link`);
  assert.equal(await page.locator('[role=alert]').count(), 1);
  await fits('error');

  await page.goto(link);
  await fits('link');
  // The browser itself asks for the mark.
  await button('Yes, link them').tap();
  assert.ok(await page.locator('input[name=own]').evaluate((mark) => mark.validity.valueMissing));
  assert.equal(await heading(page), 'Link your chat account?');
  await page.locator('input[name=own]').check();
  await button('Yes, link them').tap();
  await page.getByRole('heading', { name: 'Linked', exact: true }).waitFor();
  await fits('linked');

  await page.goto(connect);
  await fits('connect');
  await page.fill('input[name=code]', '0000-0000');
  await button('Connect').tap();
  await page.getByText('That code was wrong.').waitFor();
  await fits('connect-wrong-code');
  if (yes) {
    await page.fill('input[name=code]', code.toLowerCase());
    // As a keyboard's Go key does: it is the first button's.
    await page.press('input[name=code]', 'Enter');
    await page.getByRole('heading', { name: 'Connected' }).waitFor();
    await fits('connected');
  } else {
    await button('Refuse').tap();
    await page.getByRole('heading', { name: 'Refused' }).waitFor();
    await fits('connect-refused');
  }

  const vote = button(yes ? 'Approve' : 'Deny');
  const choose = async () => {
    // Who has to prove anew who they are chooses the issuer again.
    await page.locator('main a.button').filter({ hasText: issuer }).tap();
    await page.waitForURL((url) => url.href.startsWith(issuer));
    await signIn(page, here, person);
    assert.equal(page.url(), confirm);
  };
  await page.goto(confirm);
  await choose();
  await fits('confirm', { fullPage: true });
  const session = (await context.cookies(here)).find(({ name }) => name.endsWith('countersign-session'));
  await ask(`age ${session.value}`);
  await vote.tap();
  await page.getByRole('heading', { name: 'Sign in once more' }).waitFor();
  await fits('confirm-too-late');
  await page.getByText('Sign in and confirm').tap();
  await choose();
  await vote.tap();
  await page.waitForURL(`${here}/approvals/${approval}`);
  await page.locator(yes ? '.stands.good' : '.stands.bad').waitFor();
  await fits('confirmed');

  // The link was good once.
  await page.goto(confirm);
  assert.equal(await page.locator('[role=alert]').count(), 1);
}, refusal);
console.log('answered');
process.exit();
