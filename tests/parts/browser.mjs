// The first minute of the demo in a real browser: node browser.mjs URL CHROMIUM PLAYWRIGHT_FOLDER
// Prints the last form of the message that follows the run; exits with 1 when something is not as it should be.
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, executablePath, folder] = process.argv.slice(2);
const { chromium } = createRequire(join(folder, "package.json"))("playwright-core");
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

function check(holds, what) {
  if (!holds) throw new Error(what);
}

const browser = await chromium.launch({ executablePath, args });
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 850 } });
  page.setDefaultTimeout(10_000);
  const trouble = [];
  page.on("pageerror", error => trouble.push(String(error)));
  page.on("console", message => message.type() === "error" && trouble.push(message.text()));
  const messages = page.locator("#messages .message");
  const become = async name => {
    await page.getByRole("radio", { name }).click();
    await page.locator("#connection", { hasText: `Connected as ${name.toLowerCase()}` }).waitFor();
  };
  const ask = async text => {
    await page.fill("#composer", text);
    await page.keyboard.press("Enter");
  };

  await page.goto(url);
  await messages.filter({ hasText: "Welcome to the demo" }).waitFor();
  await ask("!deploy prod web 1.8");
  const card = messages.filter({ hasText: "asked by alice" });
  await card.filter({ hasText: "nobody yet" }).waitFor();

  await become("Bob");
  await card.hover();
  await card.getByRole("button", { name: "Approve or agree" }).click();
  await card.filter({ hasText: "approved by bob" }).waitFor();
  const end = messages.filter({ hasText: "deployed in" });
  await end.waitFor({ timeout: 20_000 });

  // What Houston says is rendered, not shown as it is written.
  await ask("!status prod");
  await messages.filter({ hasText: "services well" }).waitFor();
  const all = (await messages.locator(".body p, .body li").allInnerTexts()).join("\n");
  check(!/:[a-z][a-z_]+:|\*\*|^```/m.test(all), `a sign or mark is shown as text:\n${all}`);
  await page.setViewportSize({ width: 390, height: 800 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(wide <= 0, `on a phone the page is ${wide} px too wide`);
  check(trouble.length === 0, trouble.join("\n"));
  console.log(await end.locator(".body").innerText());
} finally {
  await browser.close();
}
