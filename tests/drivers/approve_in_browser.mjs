// Signs in with a real browser, on a phone's screen, reads a held operation to its end and approves it.
// Usage: node approve_in_browser.mjs JSON, with { page, person, pictures, chromium }.

import assert from 'node:assert/strict';
import { given, onPhones, signIn } from './phone.mjs';

const { page: address, person } = given;
const here = new URL(address).origin;

await onPhones(here, async ({ page, scheme, fits }) => {
  await page.goto(address);
  assert.notEqual(new URL(page.url()).origin, here, 'the browser is at the issuer');
  await signIn(page, here, person);
  assert.equal(page.url(), address, 'it is back at the page that it wanted');
  await fits('first-part');

  const approve = page.locator('button[value=approve]');
  if (scheme === 'dark') {
    // Decided by the first round: the page says what stands, and offers nothing.
    assert.equal(await approve.count(), 0);
    await fits('decided');
    await page.goto(`${here}/approvals?all=true`);
    await fits('list');
    return;
  }
  assert.ok(await approve.isDisabled(), 'not before the end was served');
  let parts = 1;
  while (await page.getByText('Next part').count()) {
    await page.getByText('Next part').tap();
    await page.waitForURL(new RegExp(`part=${++parts}`));
    assert.equal(await approve.isEnabled(), (await page.getByText('Next part').count()) === 0);
  }
  assert.ok(parts > 2, `${parts} parts`);
  await fits('last-part');
  const box = await approve.boundingBox();
  assert.ok(box.height >= 44, `a finger finds it: ${box.height}`);
  await page.fill('input[name=reason]', 'read to the end <b>');
  await approve.scrollIntoViewIfNeeded();
  await fits('form');
  await approve.tap();
  await page.waitForURL(address);
  await page.getByText('UPDATE').first().waitFor();
  await page.locator('.stands.good').waitFor();
  await fits('done');
  await page.goto(`${here}/approvals`);
  await fits('list');
});
console.log('approved');
process.exit();
