// The first deployment with no mouse: rooms, people, a card, its approval, an edit, the list of keys.
/** In the page: which elements have less contrast than 4.5 to what is behind them. */
function contrasts(selector) {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = colours => { canvas.clearRect(0, 0, 1, 1); for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); } return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const light = rgb => { const [r, g, b] = rgb.map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  return [...document.querySelectorAll(selector)].filter(node => node.checkVisibility() && node.textContent).map(node => {
    const behind = [];
    for (let at = node; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const [a, b] = [light(over(behind)), light(over([...behind, getComputedStyle(node).color]))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), node.className || node.id || node.tagName];
  }).filter(([ratio]) => ratio < 4.5).map(([ratio, name]) => `${name} ${ratio.toFixed(2)}`);
}

/** Lets the test decide when rooms get their history, however slow or quick the machine is. */
async function holdHistory(page) {
  const held = [];
  let holding = false;
  await page.routeWebSocket(/websocket/, socket => {
    const server = socket.connectToServer();
    const asked = new Set();
    const frame = text => { try { return JSON.parse(text); } catch { return {}; } };
    socket.onMessage(text => {
      const { method, id } = frame(text);
      if (method === "loadHistory") asked.add(id);
      server.send(text);
    });
    server.onMessage(text => {
      const { msg, id } = frame(text);
      if (holding && msg === "result" && asked.has(id)) held.push(() => socket.send(text));
      else socket.send(text);
    });
  });
  return { hold: () => { holding = true; }, release: () => { holding = false; held.splice(0).forEach(send => send()); } };
}

export default async ({ page, check, messages, said, connected }) => {
  const focused = selector => page.waitForFunction(s => document.activeElement?.matches(s), selector);
  await said("Welcome to the demo").waitFor();
  await page.keyboard.press("Alt+2");
  await page.waitForFunction(() => /general/.test(document.querySelector("#name").textContent));
  await page.keyboard.press("Alt+ArrowDown");
  await page.waitForFunction(() => /ops/.test(document.querySelector("#name").textContent));

  await page.keyboard.press("/");
  await focused("#composer");
  await page.keyboard.type("a misteak");
  await page.keyboard.press("Enter");
  await said("misteak").locator(".toolbar").waitFor({ state: "attached" });
  await page.keyboard.press("ArrowUp");
  check((await page.inputValue("#composer")) === "a misteak", "the arrow brings the last message back");
  await page.keyboard.press("Escape");
  check((await page.inputValue("#composer")) === "", "Esc leaves the message as it was");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Control+a");
  await page.keyboard.type("a mistake :tad");
  await page.keyboard.press("Tab"); // the first emoji that fits
  await page.keyboard.press("Enter");
  await said("a mistake 🎉").waitFor();

  await page.keyboard.type("!deploy prod worker 1.8");
  await page.keyboard.press("Enter");
  const card = messages.filter({ hasText: "R-1" }).filter({ hasText: "asked by alice" });
  await card.waitFor();
  // Bob is quicker than his room: he asks for the last message while none is there, and gets it when it comes.
  const history = await holdHistory(page);
  await page.reload();
  await connected("Alice");
  history.hold();
  await page.keyboard.press("Alt+b");
  await connected("Bob");
  await page.locator("#messages .empty").waitFor();
  await page.keyboard.press("/");
  await focused("#composer");
  await page.keyboard.press("Escape"); // to the last message, which is the card
  await focused("#messages");
  history.release();
  await focused("#messages .message:last-child");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  check(outline !== "none", "where the focus is can be seen");
  await page.keyboard.press("+");
  await card.filter({ hasText: "approved by bob" }).waitFor();
  await said("deployed in").first().waitFor({ timeout: 30_000 });
  check(await page.evaluate(() => document.activeElement.matches("#messages .message")), "what is drawn anew keeps the focus");

  // Whoever reads goes on reading as somebody else, and in another room.
  await page.keyboard.press("Alt+c");
  await connected("Carol");
  await focused("#messages .message:last-child");
  await page.keyboard.press("Alt+b");
  await connected("Bob");
  await focused("#messages .message:last-child");

  await page.keyboard.press("Escape");
  await focused("#composer");
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  await page.locator("#shortcuts[open] kbd").first().waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#shortcuts[open]").waitFor({ state: "detached" });
  await page.keyboard.press("t");
  await focused("#thread-composer");
  check((await page.locator("#thread-composer").boundingBox()).height > 30, "the box for a reply is cut off");
  await page.keyboard.type("seen");
  await page.keyboard.press("Enter");
  await page.locator("#thread .message", { hasText: "seen" }).waitFor();
  await page.keyboard.press("Escape");
  await focused("#composer");

  // Soft texts and tinted ones can be read, in both looks (WCAG AA: 4.5 to 1).
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const faint = await page.evaluate(contrasts, "#topic, .hint, #connection, #rooms a, .username, time, .tag, .edited, .try code, .tries button, .thread-link, .body p, .chip");
    check(faint.length === 0, `too faint in ${colorScheme}: ${faint.join(", ")}`);
  }
  await page.emulateMedia({ colorScheme: "light" });

  // The look is chosen, and kept.
  await page.getByRole("button", { name: /^Colours/ }).click();
  await page.getByRole("button", { name: /^Colours/ }).click();
  const dark = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const was = await dark();
  check(was !== "rgb(255, 255, 255)", `dark is ${was}`);
  await page.reload();
  await connected("Bob");
  check((await dark()) === was, "a reload keeps the colours and the person");
};
