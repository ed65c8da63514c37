// A newcomer's story: Alice deploys, Bob approves by a click, Carol denies another, one fails, one goes back.
export default async ({ page, check, messages, said, become, ask, picture }) => {
  const begun = Date.now();
  await said("Welcome to the demo").waitFor();
  await picture("welcome");

  // First contact to the first approved deployment: three clicks and one key.
  await page.locator("#tries button").first().click();
  const first = await page.locator("#composer").inputValue();
  check(first.startsWith("!deploy prod web"), `the first thing to try is ${first}`);
  await page.keyboard.press("Enter");
  const card = messages.filter({ hasText: "R-1" }).filter({ hasText: "asked by alice" });
  await card.waitFor();
  await become("Bob");
  await card.hover();
  await picture("card");
  await card.getByRole("button", { name: "Approve or agree" }).click();
  await card.filter({ hasText: "approved by bob" }).waitFor();
  await said("deployed in").first().waitFor({ timeout: 30_000 });
  check(Date.now() - begun < 120_000, "the first deployment took longer than two minutes");
  check((await card.locator(".chip", { hasText: "👍" }).count()) === 1, "Bob's reaction is on the card");
  await picture("deployed");

  await become("Alice");
  await ask("!deploy prod api 1.8");
  const second = messages.filter({ hasText: "R-2" }).filter({ hasText: "asked by alice" });
  await second.waitFor();
  await become("Carol");
  await second.hover();
  await second.getByRole("button", { name: "Deny or disagree" }).click();
  await second.filter({ hasText: "denied by carol" }).waitFor();

  await become("Alice");
  await ask("!deploy prod web 1.9");
  const third = messages.filter({ hasText: "R-3" }).filter({ hasText: "asked by alice" });
  await third.waitFor();
  await become("Bob");
  await third.hover();
  await third.getByRole("button", { name: "Add a reaction" }).click();
  await page.getByRole("dialog", { name: "Pick a reaction" }).getByRole("button", { name: "white_check_mark" }).click();
  const failed = messages.filter({ hasText: "R-3" }).filter({ hasText: "failed" }).last();
  await failed.waitFor({ timeout: 30_000 });
  await page.waitForFunction(() => document.querySelectorAll("#messages pre").length > 0 || /exited with/.test(document.querySelector("#messages").innerText));

  // A word about it, beside the room.
  await failed.hover();
  await failed.getByRole("button", { name: "Reply in thread" }).click();
  await page.fill("#thread-composer", "The database of *prod* was not reachable. I look at it :eyes:");
  await page.keyboard.press("Enter");
  await page.locator("#thread .message", { hasText: "not reachable" }).waitFor();
  await failed.locator(".thread-link").waitFor();
  await picture("thread");
  await page.getByRole("button", { name: "Close thread" }).click();

  await become("Alice");
  await ask("!rollback prod web 1.7");
  const fourth = messages.filter({ hasText: "R-4" }).filter({ hasText: "asked by alice" });
  await fourth.waitFor();
  await become("Bob");
  await fourth.hover();
  await fourth.getByRole("button", { name: "Approve or agree" }).click();
  await fourth.filter({ hasText: "approved by bob" }).waitFor();
  await messages.filter({ hasText: "R-4" }).filter({ hasText: /\d in \d|rolled back|deployed|done/ }).last().waitFor({ timeout: 30_000 });

  // What Houston says is rendered, not shown as it is written.
  await become("Alice");
  await ask("!status prod");
  await page.waitForFunction(() => /services? well|3 services/.test(document.querySelector("#messages").innerText));
  const all = (await messages.locator(".body p, .body li").allInnerTexts()).join("\n");
  check(!/:[a-z][a-z_]+:|\*\*|^```/m.test(all), `a sign or mark is shown as text:\n${all}`);
  await picture("status");
  await page.emulateMedia({ colorScheme: "dark" });
  await picture("dark");
  await page.setViewportSize({ width: 390, height: 800 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(wide <= 0, `on a phone the page is ${wide} px too wide`);
  await page.evaluate(() => { const list = document.querySelector("#messages"); list.scrollTop = list.scrollHeight; });
  await picture("phone-dark");
  await page.emulateMedia({ colorScheme: "light" });
  await picture("phone");
  await page.getByRole("button", { name: "Rooms and people" }).click();
  await page.waitForTimeout(250);
  await picture("phone-menu");
};
