// Decides in the demo's own Slack, with a real browser on a phone's screen.
// Usage: node channel_in_browser.mjs JSON, with { url, light, dark, pictures, chromium }; `light` and `dark` each name the
// approval that is decided in that round: approved in light, denied in dark.

import assert from 'node:assert/strict';
import { given, onPhones } from './phone.mjs';

const { url } = given;

await onPhones(url, async ({ page, scheme, fits }) => {
  await page.goto(url);
  const approval = given[scheme];
  // The card itself: what follows in its thread is not of one approval alone.
  const card = page.locator('article.message:not(.reply):not(.own)').filter({ hasText: approval });
  const button = (name) => card.getByRole('button', { name, exact: true });
  const shows = (text) => card.filter({ hasText: text }).waitFor();
  await card.waitFor();
  for (const each of await card.getByRole('button').all()) {
    assert.ok((await each.boundingBox()).height >= 44, 'a finger finds it');
  }
  const picture = async (name) => {
    await fits(name);
    await card.screenshot({ path: `${given.pictures}/${scheme}-${name}-card.png` });
  };
  await picture('channel-pending');

  // Who asked is told why that is not theirs to decide.
  await page.selectOption('#user', 'U0ALICE');
  await button('Approve').tap();
  await page.locator('article.own').filter({ hasText: 'You asked for this yourself' }).waitFor();
  await fits('channel-refused');
  await page.selectOption('#user', 'U0BOB');
  await button('Deny').waitFor();

  if (scheme === 'light') {
    await button('Approve').tap();
    await shows('DELETE 1');
    await picture('channel-done');
  } else {
    // Closed without a word it denies nothing.
    await button('Deny').tap();
    await page.locator('dialog[open]').waitFor();
    await page.locator('#close').tap();
    await page.locator('dialog[open]').waitFor({ state: 'detached' });
    assert.ok(await button('Approve').isVisible());
    await button('Deny').tap();
    await page.locator('dialog[open]').waitFor();
    await page.fill('#reason', 'the customer <b>was</b> not asked');
    await fits('channel-form');
    await page.locator('#send').tap();
    await page.locator('dialog').filter({ hasText: `${approval} is denied` }).waitFor();
    assert.ok(await page.locator('#send').isHidden() && await page.locator('#reason').isHidden());
    await fits('channel-form-sent');
    await page.locator('#close').tap();
    await page.locator('dialog[open]').waitFor({ state: 'detached' });
    await shows('the customer <b>was</b> not asked');
    await picture('channel-denied');
  }
  assert.equal(await button('Approve').count(), 0);

  for (const command of ['audit', 'help']) {
    await page.fill('#text', `/countersign ${command}`);
    await page.locator('#command button').tap();
    const answer = page.locator('article.own').filter({ hasText: command === 'audit' ? 'operations' : '/countersign help' });
    await answer.last().waitFor();
    await fits(`channel-${command}`);
  }
});
console.log('decided');
process.exit();
