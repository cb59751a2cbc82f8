// Signs in with a real browser, on a phone's screen, reads a held operation to its end and approves it.
// Usage: node approve_in_browser.mjs JSON, with { page, person, pictures, chromium, more }; `more` names further pages to
// look at.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const { page: address, person, pictures, chromium: executablePath, more } = JSON.parse(process.argv[2]);
const quiet = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
const limit = 20_000;

const browser = await chromium.launch({ executablePath, headless: true, args: quiet });
try {
  for (const colorScheme of ['light', 'dark']) {
    const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
    const context = await browser.newContext({ ...phone, colorScheme });
    const page = await context.newPage();
    page.setDefaultTimeout(limit);
    const complaints = [];
    page.on('dialog', (dialog) => complaints.push(`dialog: ${dialog.message()}`));
    const here = new URL(address).origin;
    page.on('console', (message) => {
      const { url } = message.location();
      // Nobody has an icon; the issuer's pages are its own.
      if (url.startsWith(here) && !url.endsWith('/favicon.ico')) complaints.push(message.text());
    });
    const picture = (name) => page.screenshot({ path: `${pictures}/${colorScheme}-${name}.png` });
    // Nothing is wider than the screen.
    const fits = async (name) => {
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 390, `${name} is ${width} wide`);
      await picture(name);
    };

    await page.goto(address);
    assert.notEqual(new URL(page.url()).origin, here, 'the browser is at the issuer');
    await page.fill('input[name=login]', person);
    await page.fill('input[name=password]', 'any');
    await page.click('button[type=submit]');
    await page.waitForURL(/interaction/);
    if (new URL(page.url()).origin !== here) await page.click('button[type=submit]');
    await page.waitForURL((url) => url.origin === here);
    assert.equal(page.url(), address, 'it is back at the page that it wanted');
    await fits('first-part');

    const approve = page.locator('button[value=approve]');
    if (colorScheme === 'dark') {
      // Decided by the first round: the page says what stands, and offers nothing.
      assert.equal(await approve.count(), 0);
      await fits('decided');
      await page.goto(`${here}/approvals?all=true`);
      await fits('list');
    } else {
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
    }
    for (const [name, url] of more) {
      await page.goto(url);
      assert.equal(page.url(), url);
      await fits(name);
    }
    assert.deepEqual(complaints, []);
    await context.close();
  }
} finally {
  await browser.close();
}
console.log('approved');
