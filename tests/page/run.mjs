// The page in a real browser: node run.mjs STORY URL CHROMIUM PLAYWRIGHT_FOLDER [FOLDER_FOR_PICTURES]
// A story is a file beside this one. Exits with 1 when something is not as it should be.
import { createRequire } from "node:module";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

const [story, url, executablePath, folder, pictures] = process.argv.slice(2);
const { chromium } = createRequire(join(folder, "package.json"))("playwright-core");
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export function check(holds, what) {
  if (!holds) throw new Error(what);
}

/** The control endpoint of the sandbox. */
async function control(act, body) {
  const response = await fetch(`${url}/_sandbox/${act}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const answer = await response.text();
  check(response.ok, `${act}: HTTP ${response.status} ${answer}`);
  return JSON.parse(answer || "{}");
}

/** REST as a person. */
async function rest(user, path, body) {
  const call = async (path, headers, body) => (await fetch(`${url}/api/v1/${path}`, { method: body ? "POST" : "GET", headers: { "content-type": "application/json", ...headers }, body: body && JSON.stringify(body) })).json();
  const { data } = await call("login", {}, { user, password: user });
  return call(path, { "x-user-id": data.userId, "x-auth-token": data.authToken }, body);
}

const browser = await chromium.launch({ executablePath, args });
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: url });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const trouble = [];
  let forgiven = null; // what a story provokes
  page.on("pageerror", error => trouble.push(String(error)));
  // A refused connection is a part of some stories; a policy that is broken is not of any.
  page.on("console", message => message.type() === "error" && !/WebSocket|ERR_|status of 50/.test(message.text()) && trouble.push(message.text()));
  const messages = page.locator("#messages .message");
  const connected = name => page.locator("#connection.connected", { hasText: name.toLowerCase() }).waitFor();
  const house = {
    page, context, url, check, control, rest, messages, connected, pictures,
    said: text => messages.filter({ hasText: text }),
    become: async name => {
      await page.getByRole("radio", { name }).click();
      await connected(name);
    },
    ask: async text => {
      await page.fill("#composer", text);
      await page.keyboard.press("Enter");
    },
    forgive: pattern => { forgiven = pattern; },
    /** A PNG to look at, and a WebP for the README. */
    picture: async name => {
      if (!pictures) return;
      await page.waitForTimeout(1_300); // what flashes when it changes has calmed down
      await page.screenshot({ path: join(pictures, `${name}.png`) });
      const { data } = await (await context.newCDPSession(page)).send("Page.captureScreenshot", { format: "webp", quality: 82 });
      await writeFile(join(pictures, `${name}.webp`), Buffer.from(data, "base64"));
    },
  };
  await page.goto(url);
  await connected("Alice");
  try {
    await (await import(`./${story}.mjs`)).default(house);
  } catch (error) {
    await house.picture(`${story}-failed`);
    throw error;
  }
  const left = trouble.filter(text => !forgiven?.test(text));
  check(left.length === 0, left.join("\n"));
} finally {
  await browser.close();
}
