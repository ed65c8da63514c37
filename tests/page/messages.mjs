// What people do to a room: hostile texts, buttons, very long ones, other scripts, files, five thousand of them.
export default async ({ page, check, control, rest, messages, said, become, ask, connected, picture, forgive }) => {
  const say = (msg, user = "bob", room = "ops") => control("say", { user, room, msg });
  await said("Welcome to the demo").waitFor();

  // Nothing of these runs, leads astray or becomes an element.
  const hostile = [
    "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>",
    "[click](javascript:window.hacked=1) ![x](javascript:alert(1)) [d](data:text/html,<script>1</script>)",
    "`<svg onload=window.hacked=1>` **<b onmouseover=window.hacked=1>bold</b>** ||<i>spoiler</i>||",
    "```html\n<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>\n```",
    "![elsewhere](http://192.0.2.1/pixel.png) :__proto__: :constructor: @__proto__ #constructor",
  ];
  for (const text of hostile) await say(text);
  await said("elsewhere").waitFor();
  const bad = await page.evaluate(() => ({ hacked: window.hacked, elements: document.querySelectorAll("#messages :is(script, iframe, svg, b[onmouseover], a[href^='javascript'], a[href^='data'], img[src^='http'])").length }));
  check(bad.hacked === undefined && bad.elements === 0, `hostile text became more than text: ${JSON.stringify(bad)}`);
  check((await messages.filter({ hasText: "<script>window.hacked=1</script>" }).count()) === 1, "it is shown as it was written");
  const policy = (await page.request.get(page.url().split("#")[0])).headers()["content-security-policy"] ?? "";
  check(/script-src 'self'/.test(policy) && !/unsafe/.test(policy), `the policy is ${policy}`);
  forgive(/TrustedScript/);
  const blocked = await page.evaluate(() => { const s = document.createElement("script"); try { s.text = "window.hacked=2"; document.body.append(s); } catch { /* refused */ } return window.hacked === undefined; });
  check(blocked, "the policy does not hold");

  // Buttons: what they say is said by whoever clicks. The one that may not speak in the window is not shown.
  const actions = [{ type: "button", text: "Approve it", msg: "a click said this", msg_in_chat_window: true }, { type: "button", text: "Mute", msg: "no" }];
  await rest("bob", "chat.postMessage", { channel: "#ops", text: "Shall I?", attachments: [{ text: "choose", actions }] });
  await page.getByRole("button", { name: "Approve it" }).click();
  await messages.filter({ hasText: "Alice" }).filter({ hasText: "a click said this" }).waitFor();
  check((await page.getByRole("button", { name: "Mute" }).count()) === 0, "a button that Rocket.Chat hides is shown");
  const blocks = [{ type: "section", text: { type: "mrkdwn", text: "a *block*" } }, { type: "actions", elements: [{ type: "button", text: { type: "plain_text", text: "In a block" }, actionId: "a", value: "1" }] }];
  const { room } = await rest("bob", "rooms.info?roomName=ops");
  await rest("bob", "chat.sendMessage", { message: { rid: room._id, msg: "blocks", blocks } });
  await page.getByRole("button", { name: "In a block" }).waitFor();

  // Three hundred lines are folded; other scripts run their own way; emoji are everywhere.
  await say(Array.from({ length: 300 }, (_, n) => `line ${n}`).join("\n"));
  const folded = said("line 299");
  await folded.waitFor();
  check((await folded.boundingBox()).height < 450, "300 lines are not folded");
  await folded.getByRole("button", { name: /^Show more/ }).click();
  check((await folded.boundingBox()).height > 3_000, "they do not unfold");
  await say("مرحبا بالعالم `web:1.8` شكرا");
  check((await said("مرحبا").locator(".body").evaluate(node => getComputedStyle(node).direction)) === "rtl", "Arabic does not run from the right");
  await say(":rocket: :tada: :+1_tone3: :no_such_sign: 🏳️‍🌈👩‍🚒 <3 :)");
  await said("🚀 🎉 👍🏽 :no_such_sign: 🏳️‍🌈👩‍🚒 ❤️ 🙂").waitFor();

  // A word that Rocket.Chat keeps for itself is answered, and leads to Houston's.
  await ask("/status");
  await said("Status message changed successfully.").waitFor();
  await said("Houston’s is !status").waitFor();

  // A file is looked at before it is sent, and is a picture in the room.
  const png = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGP8z8DAwMDAxMDAwMDAAAANHQEDasKb6QAAAABJRU5ErkJggg==", "base64");
  const file = name => ({ name, mimeType: "image/png", buffer: png });
  await page.setInputFiles("#file", file("graph.png"));
  await page.locator("#uploads img").waitFor();
  await ask("how it looks");
  await said("how it looks").locator("img.picture[src^='blob:']").waitFor();
  await page.locator("#uploads").waitFor({ state: "hidden" });
  // A reload in the middle: nothing half in the room, and one is told.
  await page.route("**/rooms.mediaConfirm/**", () => {}); // never answered
  await page.setInputFiles("#file", file("half.png"));
  await page.keyboard.press("Enter");
  await page.locator("#uploads progress:not([hidden])").waitFor();
  page.once("dialog", dialog => dialog.accept());
  await page.reload();
  await page.locator(".toast", { hasText: "half.png" }).waitFor();
  await page.unroute("**/rooms.mediaConfirm/**");
  await connected("Alice");
  check((await said("half.png").count()) === 0, "half an upload is in the room");

  // What others say elsewhere is counted, and marked where one begins to read.
  await say("look here", "bob", "sales");
  await page.locator("#rooms a", { hasText: "sales" }).locator(".count", { hasText: "1" }).waitFor();
  await page.locator("#rooms a", { hasText: "sales" }).click();
  await page.locator("#messages .new + .message", { hasText: "look here" }).waitFor();
  await page.locator("#rooms a", { hasText: "ops" }).click();

  // Lost and back: what is typed stays, what is sent meanwhile goes out once.
  await page.fill("#composer", "half a thought");
  await page.waitForFunction(() => /ops/.test(document.querySelector("#name").textContent));
  await page.fill("#composer", "said in the dark");
  const gone = await say("deleted meanwhile");
  await said("deleted meanwhile").waitFor();
  await control("drop", { user: "alice" });
  await rest("carol", "chat.delete", { roomId: room._id, msgId: gone.message._id });
  await control("refuse", { requests: 3 });
  await page.locator("#lost").waitFor();
  await page.keyboard.press("Enter");
  await said("said in the dark").filter({ hasText: "sending" }).waitFor();
  await page.fill("#composer", "half a thought");
  await connected("Alice");
  await said("said in the dark").locator(".toolbar").waitFor({ state: "attached" });
  await said("deleted meanwhile").waitFor({ state: "detached" });
  check((await said("said in the dark").count()) === 1, "it was sent more than once");
  await page.reload();
  await connected("Alice");
  await page.waitForFunction(() => document.querySelector("#composer").value === "half a thought");
  await page.fill("#composer", "");

  // Five thousand messages.
  for (let n = 0; n < 5_000; n += 50) await Promise.all(Array.from({ length: 50 }, (_, m) => say(`number ${n + m}`, "carol", "backups")));
  const begun = Date.now();
  await page.locator("#rooms a", { hasText: "backups" }).click();
  await page.waitForFunction(() => document.querySelectorAll("#messages .message").length >= 100);
  const entered = Date.now() - begun;
  const nodes = await messages.count();
  const times = [];
  for (let n = 0; n < 8; n++) {
    const before = await messages.count();
    const start = Date.now();
    await page.evaluate(() => { const list = document.querySelector("#messages"); list.scrollTop = list.scrollTop < 2 ? 1 : 0; list.dispatchEvent(new Event("scroll")); });
    await page.waitForFunction(count => document.querySelectorAll("#messages .message").length > count, before);
    times.push(Date.now() - start);
  }
  const drawn = await page.evaluate(() => new Promise(resolve => { const start = performance.now(); requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - start))); }));
  console.log(`5000 messages: entered in ${entered} ms with ${nodes} nodes; a page of earlier ones in ${times.join(", ")} ms; two frames in ${Math.round(drawn)} ms`);
  check(nodes <= 300, `${nodes} messages are drawn at once`);
  check(entered < 5_000 && Math.max(...times) < 5_000, "a long room is slow");
  // A link to an old one finds it.
  const { messages: found } = await rest("carol", `chat.search?roomId=${(await rest("carol", "rooms.info?roomName=backups")).room._id}&searchText=${encodeURIComponent("number 3210")}`);
  await page.evaluate(id => { location.hash = `room=backups&msg=${id}`; }, found[0]._id);
  await page.locator(`.message.target[data-id="${found[0]._id}"]`).waitFor({ timeout: 30_000 });
  await page.waitForFunction(id => document.activeElement?.dataset.id === id, found[0]._id);
  const at = await page.locator(".message.target").boundingBox();
  check(at.y > 60 && at.y < 800, `what the link names is at ${at.y}`);
  await picture("long-room");
  await become("Bob");
};
