// Looks at the fleet page as a person does, in a real browser: what it loads, how it looks, and how it is used by keyboard and by
// a screen reader. `node look.mjs BROWSER FOLDER NAME=URL…`; writes FOLDER/NAME-*.png, prints what it measured, and ends with 1 at the
// first thing that is not as it should be.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import puppeteer from "puppeteer-core";

const [browserPath, folder, ...pages] = process.argv.slice(2);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await puppeteer.launch({
  executablePath: browserPath,
  // The tests' machine is a container without user namespaces; the only page is our own.
  args: ["--no-sandbox", "--hide-scrollbars", "--font-render-hinting=none"],
});

/** Opens the page, and fails for whatever it loads, logs or is refused beside itself. */
const open = async (url, { width = 1200, height = 800, dark = false, scripts = true } = {}) => {
  const page = await browser.newPage();
  const loaded = [];
  page.on("request", (request) => loaded.push(request.url()));
  page.on("console", (message) => assert.fail(`the console has: ${message.text()}`));
  page.on("pageerror", (error) => assert.fail(`a script failed: ${error}`));
  // Also of a reload: other tests may run beside this, and thousands of units take their time.
  page.setDefaultNavigationTimeout(120_000);
  await page.setViewport({ width, height });
  await page.setJavaScriptEnabled(scripts);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  const began = performance.now();
  await page.goto(url, { waitUntil: "load" });
  const took = performance.now() - began;
  assert.deepEqual([...new Set(loaded.map((one) => one.split("#")[0]))], [url.split("#")[0]], "nothing comes from elsewhere");
  return { page, took };
};

/** All of a page that a person would scroll through, but not of thousands of units. */
const shot = (page, name, units) => page.screenshot({ path: `${folder}/${name}.png`, fullPage: units <= 100 });
const visible = (page) =>
  page.$$eval(".unit", (units) => units.filter((unit) => getComputedStyle(unit).display !== "none").length);
const focused = (page) =>
  page.evaluate(() => {
    const element = document.activeElement;
    return element.id || element.type || element.className || element.tagName.toLowerCase();
  });

/** What axe finds of WCAG 2.2 A and AA, as rule and place. */
const accessible = async (page) => {
  await page.evaluate(axe);
  const found = await page.evaluate(() =>
    globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
  );
  const violations = found.violations.map((one) => `${one.id}: ${one.nodes[0].html} (${one.nodes[0].failureSummary})`);
  assert.deepEqual(violations, []);
  return found.passes.length;
};

/** From the address bar by Tab and Enter alone: skip link, filters, search, a unit's details. */
const byKeyboard = async (page, units) => {
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "units");
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "summary");
  const is_open = () => page.$eval(".unit details", (details) => details.open);
  await page.keyboard.press("Enter");
  assert.equal(await is_open(), true);
  await page.keyboard.press("Space");
  assert.equal(await is_open(), false);
  await page.reload();
  const reached = [];
  for (let step = 0; step < 12 && reached.at(-1) !== "search"; step += 1) {
    await page.keyboard.press("Tab");
    reached.push(await focused(page));
    if (reached.at(-1) === "state-all") {
      // The arrow goes on to the first state.
      await page.keyboard.press("ArrowRight");
      assert.ok((await visible(page)) < units, "a state shows fewer");
      await page.keyboard.press("ArrowLeft");
      assert.equal(await visible(page), units);
    }
  }
  assert.ok(reached.includes("state-all") && reached.at(-1) === "search", reached.join(" "));
};

const search = async (page, words, expected) => {
  await page.focus("#search input");
  const began = performance.now();
  await page.keyboard.type(words);
  assert.equal(await visible(page), expected, `units that have “${words}”`);
  const took = performance.now() - began;
  assert.match(await page.$eval("#shown", (shown) => shown.textContent), new RegExp(`^${expected} of `));
  return took / words.length;
};

for (const [name, url] of pages.map((page) => page.split(/=(.*)/s))) {
  const { page, took } = await open(url);
  const units = await page.$$eval(".unit", (found) => found.length);
  await shot(page, name, units);
  const measured = [`${units} units`, `loaded in ${Math.round(took)} ms`];
  if (units <= 100) {
    measured.push(`${await accessible(page)} rules of axe hold`);
  }
  if (units > 0) {
    const first = await page.$(".unit summary");
    await first.click();
    await shot(page, `${name}-open`, units);
    if (units <= 100) {
      measured.push(`${await accessible(page)} with a unit open`);
    }
    await page.reload();
    await byKeyboard(page, units);
    const path = await page.$eval(".unit:last-child summary", (summary) => summary.children[1].textContent);
    measured.push(`a key of the search takes ${Math.round(await search(page, path, 1))} ms`);
    await shot(page, `${name}-search`, units);
    // The choice is in the address: another person sees the same.
    const { page: again } = await open(page.url());
    assert.equal(await visible(again), 1);
    await again.close();
    const { page: dark } = await open(url, { dark: true });
    await shot(dark, `${name}-dark`, units);
    if (units <= 100) {
      await accessible(dark);
    }
    await dark.close();
    const { page: narrow } = await open(url, { width: 390 });
    assert.ok(await narrow.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "no sideways scrolling");
    await shot(narrow, `${name}-narrow`, units);
    await narrow.close();
    // Without scripts the filters work, and nothing promises a search.
    const { page: plain } = await open(url, { scripts: false });
    const label = await plain.$('label:has([name="state"]:not(#state-all))');
    await label.click();
    assert.ok((await visible(plain)) < units, "filters need no script");
    assert.equal(await plain.$eval("#search", (box) => getComputedStyle(box).display), "none");
    await plain.close();
  }
  await page.close();
  console.log(`${name}: ${measured.join(", ")}`);
}
await browser.close();
