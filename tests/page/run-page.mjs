// The page of a run, by the link in its message: live, on a phone, in the dark, without a script, when it is refused.
export default async ({ page, context, check, messages, said, become, ask, pictures, forgive }) => {
  await said("Welcome to the demo").waitFor();
  const shots = async (page, name) => { if (pictures) await page.screenshot({ path: `${pictures}/run-${name}.png`, fullPage: true }); };
  const contrast = selector => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const over = colours => { canvas.clearRect(0, 0, 1, 1); for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); } return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
    const light = rgb => { const [r, g, b] = rgb.map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    return [...document.querySelectorAll(selector)].filter(node => node.textContent).map(node => {
      const behind = ["Canvas"];
      for (let at = node, own = []; at; at = at.parentElement) { own.unshift(getComputedStyle(at).backgroundColor); if (!at.parentElement) behind.push(...own); }
      const [a, b] = [light(over(behind)), light(over([...behind, getComputedStyle(node).color]))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), node.className || node.tagName];
    }).filter(([ratio]) => ratio < 4.5).map(([ratio, name]) => `${name} ${ratio.toFixed(2)}`);
  };

  await ask("!deploy staging web 1.8");
  const progress = messages.filter({ hasText: "R-1" }).filter({ hasText: "Steps and live output" }).first();
  await progress.waitFor();
  const address = await progress.getByRole("link", { name: "Steps and live output" }).getAttribute("href");
  const run = await context.newPage();
  const trouble = [];
  run.on("pageerror", error => trouble.push(String(error)));
  run.on("console", message => message.type() === "error" && trouble.push(message.text()));
  await run.goto(address);
  check((await run.evaluate(() => document.referrer)) === "", "the page is told where its reader came from");
  await run.locator(".steps .busy", { hasText: "running" }).waitFor();
  await run.locator("#line", { hasText: "live" }).waitFor();
  await shots(run, "live");
  // Nothing is loaded again: what comes is put in its place.
  await run.evaluate(() => { window.same = true; });
  await run.locator(".state.good", { hasText: "R-1 succeeded" }).waitFor({ timeout: 30_000 });
  await run.locator("#output", { hasText: "── succeeded" }).waitFor();
  check(await run.evaluate(() => window.same), "the page was loaded again");
  check((await run.locator("#said").textContent()) === "R-1 succeeded", "it is said to who cannot see");
  const lines = (await run.locator("#output").textContent()).split("\n").filter(line => line.startsWith("── "));
  check(lines.length === 2, `each line is there once: ${lines}`);

  // One that fails, with the last words of what crashed; and what was approved, with a hostile reason.
  await ask("!deploy staging web 1.9");
  const failed = messages.filter({ hasText: "R-2" }).filter({ hasText: "Steps and live output" }).first();
  await failed.filter({ hasText: "failed" }).waitFor({ timeout: 30_000 });
  await run.goto(await failed.getByRole("link", { name: "Steps and live output" }).getAttribute("href"));
  await run.locator(".error pre").waitFor();
  await shots(run, "failed");
  await ask("!deploy prod web 1.8 --reason \"<img src=x onerror=window.hacked=1> for the release\"");
  const card = messages.filter({ hasText: "R-3" }).filter({ hasText: "asked by alice" });
  await card.waitFor();
  await become("Bob");
  await card.hover();
  await card.getByRole("button", { name: "Approve or agree" }).click();
  const third = messages.filter({ hasText: "R-3" }).filter({ hasText: "Steps and live output" }).first();
  await third.filter({ hasText: "deployed in" }).waitFor({ timeout: 30_000 });
  const link = await third.getByRole("link", { name: "Steps and live output" }).getAttribute("href");
  await run.goto(link);
  await run.locator(".consents", { hasText: "approved by bob" }).waitFor();
  check((await run.evaluate(() => window.hacked)) === undefined && (await run.locator("img").count()) === 0, "the reason became an element");
  check((await run.locator("q").textContent()).startsWith("<img src=x"), "it is shown as it was written");
  for (const colorScheme of ["light", "dark"]) {
    await run.emulateMedia({ colorScheme });
    const faint = await run.evaluate(contrast, "p, b, h1, h2, code, pre, .tag, .quiet, time, a, footer");
    check(faint.length === 0, `too faint in ${colorScheme}: ${faint.join(", ")}`);
    await run.setViewportSize({ width: 1280, height: 860 });
    await shots(run, colorScheme);
    await run.setViewportSize({ width: 360, height: 740 });
    const wide = await run.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    check(wide <= 0, `on a phone the page is ${wide} px too wide`);
    await shots(run, `phone-${colorScheme}`);
  }
  const download = run.waitForEvent("download");
  await run.getByRole("link", { name: "Whole output as a file" }).click();
  check((await download).suggestedFilename() === "R-3.log", "the file has the run's name");
  check(trouble.length === 0, trouble.join("\n"));

  // A link that opens nothing says what to do.
  const refused = await run.goto(link.replace(/key=../, "key=00"));
  check(refused.status() === 403, `a wrong key is answered with ${refused.status()}`);
  await run.getByText("say !show").waitFor();
  await shots(run, "refused");

  // Without a script the whole is there, and loads itself again while it moves.
  const plain = await (await context.browser().newContext({ javaScriptEnabled: false })).newPage();
  await plain.goto(link);
  check((await plain.locator("#output").textContent()).includes("── succeeded"), "without a script there is no output");
  await become("Alice");
  await ask("!deploy prod api 1.8");
  const fourth = messages.filter({ hasText: "R-4" }).filter({ hasText: "asked by alice" });
  await fourth.waitFor();
  await ask("!show R-4");
  const shown = messages.filter({ hasText: "R-4" }).filter({ hasText: "Steps and live output" }).last();
  await plain.goto(await shown.getByRole("link", { name: "Steps and live output" }).getAttribute("href"));
  await plain.locator(".consents .asks", { hasText: "open" }).waitFor();
  await shots(plain, "asks");
  await ask("!deny R-4 not today");
  await plain.locator(".consents .bad", { hasText: "denied by alice" }).waitFor({ timeout: 20_000 });
  await plain.close();

  // One that is stuck says what is left to do by hand, and what to say then; when that is said, the page goes on.
  await ask("!open-shop staging");
  const stuck = messages.filter({ hasText: "R-5" }).filter({ hasText: "Steps and live output" }).first();
  await stuck.filter({ hasText: "is stuck" }).waitFor({ timeout: 60_000 });
  await run.goto(await stuck.getByRole("link", { name: "Steps and live output" }).getAttribute("href"));
  const needs = run.locator(".needs");
  for (const part of ["undoing failed for good", "By hand", "curl --include", "!retry R-5", "!resolve R-5 undone", "!abandon R-5 why"]) {
    check((await needs.textContent()).includes(part), `what it needs does not say ${part}`);
  }
  await run.locator(".steps .bad", { hasText: "could not be undone" }).waitFor();
  for (const colorScheme of ["light", "dark"]) {
    await run.emulateMedia({ colorScheme });
    const faint = await run.evaluate(contrast, "p, b, h1, h2, code, pre, .tag, .quiet, time, a, footer");
    check(faint.length === 0, `a stuck run is too faint in ${colorScheme}: ${faint.join(", ")}`);
    for (const width of [360, 390, 1280]) {
      await run.setViewportSize({ width, height: 800 });
      const wide = await run.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      check(wide <= 0, `at ${width} px the page of a stuck run is ${wide} px too wide`);
    }
    await shots(run, `stuck-${colorScheme}`);
  }
  await run.evaluate(() => { window.same = true; });
  await ask("!resolve R-5 undone");
  await run.locator(".state.bad", { hasText: "R-5 failed" }).waitFor();
  await needs.waitFor({ state: "detached" });
  check(await run.evaluate(() => window.same), "the page was loaded again");
};
