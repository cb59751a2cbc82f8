// A phone's screen in a real browser, in light and in dark, for the scripts that use pages as people do.

import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

export const given = JSON.parse(process.argv[2]);
export const width = 390;

const limit = 20_000;
const quiet = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

// What the pages of `origin` complain about, or show without being asked, fails; `expected` says which complaints are none.
export async function onPhones(origin, use, expected = () => false) {
  const browser = await chromium.launch({ executablePath: given.chromium, headless: true, args: quiet });
  try {
    for (const scheme of ['light', 'dark']) {
      const screen = { viewport: { width, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
      const context = await browser.newContext({ ...screen, colorScheme: scheme });
      const page = await context.newPage();
      page.setDefaultTimeout(limit);
      const complaints = [];
      page.on('dialog', (dialog) => complaints.push(`dialog: ${dialog.message()}`));
      page.on('console', (message) => {
        const { url } = message.location();
        // Nobody has an icon; the issuer's pages are its own.
        const ours = url.startsWith(origin) && !url.endsWith('/favicon.ico');
        if (ours && !expected(message.text())) complaints.push(message.text());
      });
      await use({ page, context, scheme, fits: (name, options) => fits(page, scheme, name, options) });
      assert.deepEqual(complaints, []);
      await context.close();
    }
  } finally {
    await browser.close();
  }
}

// Nothing is wider than the screen; takes a picture.
async function fits(page, scheme, name, options = {}) {
  const widest = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(widest <= width, `${name} is ${widest} wide`);
  await page.screenshot({ path: `${given.pictures}/${scheme}-${name}.png`, ...options });
}

// Fills the issuer's forms until the browser is back.
export async function signIn(page, origin, person) {
  const back = (url) => url.origin === origin;
  while (!back(new URL(page.url()))) {
    const before = page.url();
    if (await page.locator('input[name=login]').count()) {
      await page.fill('input[name=login]', person);
      await page.fill('input[name=password]', 'any');
    }
    await page.click('button[type=submit]');
    await page.waitForURL((url) => url.href !== before);
  }
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Asks the test for something, and waits until it is done.
export async function ask(text) {
  console.log(`ask ${text}`);
  assert.equal((await answers.next()).value, 'done');
}
