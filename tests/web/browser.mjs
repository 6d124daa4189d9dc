// Opens a page in Chromium and prints, as JSON, what the browser has to say of it.
// node browser.mjs '{"url", "chromium", "modules", "width", "height", "scheme", "offline", "scripts",
//                    "steps": [[name, argument]...]}'
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const asked = JSON.parse(process.argv[2]);
const require = createRequire(asked.modules + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", ...quiet];
const browser = await chromium.launch({ executablePath: asked.chromium, headless: true, args });
const context = await browser.newContext({
  // axe is injected, which the page's own policy would refuse.
  bypassCSP: Boolean(asked.axe),
  colorScheme: asked.scheme ?? "light",
  deviceScaleFactor: asked.scale ?? 1,
  javaScriptEnabled: asked.scripts ?? true,
  viewport: { width: asked.width ?? 1200, height: asked.height ?? 900 },
});
const page = await context.newPage();
const told = { console: [], requests: [], answers: [] };
page.on("console", (message) => told.console.push(`${message.type()}: ${message.text()}`));
page.on("pageerror", (error) => told.console.push(`error: ${error}`));
page.on("dialog", (dialog) => { told.console.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
page.on("request", (request) => told.requests.push(request.url()));
const started = performance.now();
await page.goto(asked.url, { waitUntil: "load" });
if (asked.scripts ?? true) await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done))));
told.loaded = performance.now() - started;
const steps = {
  shot: (path) => page.screenshot({ path }),
  full: (path) => page.screenshot({ path, fullPage: true }),
  click: (selector) => page.locator(selector).first().click(),
  fill: ([selector, text]) => page.locator(selector).first().fill(text),
  press: (key) => page.keyboard.press(key),
  text: async (selector) => told.answers.push(await page.locator(selector).first().innerText()),
  wait: ([selector, text]) => page.locator(selector).filter({ hasText: text }).first().waitFor(),
  count: async (selector) => told.answers.push(await page.locator(selector).count()),
  evaluate: async (source) => told.answers.push(await page.evaluate(source)),
  timed: async (source) => {
    const begin = performance.now();
    await page.evaluate(source);
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done))));
    told.answers.push(performance.now() - begin);
  },
  axe: async () => {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    told.answers.push(violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 140) + " " + node.failureSummary).slice(0, 3).join(" | ")}`));
  },
};
for (const [name, argument] of asked.steps ?? []) await steps[name](argument);
await browser.close();
console.log(JSON.stringify(told));
