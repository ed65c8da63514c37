// The page: brings sessions, lists, boxes and keys together. State lives in the sessions and in `view`.

import { actions } from "./actions.js";
import * as compose from "./compose.js";
import { $, el, toast } from "./dom.js";
import * as files from "./files.js";
import * as keys from "./keys.js";
import * as list from "./list.js";
import { when } from "./render.js";
import { millis } from "./session.js";
import { drawHead, drawPeople, drawRooms, drawTyping } from "./side.js";
import { PEOPLE, current, go, handle, session, sessions, view } from "./view.js";

const attempt = promise => promise.catch(error => toast(error.message));
let entering = 0;

// ---- who and where: `#as=alice&room=ops&msg=…`

function readHash() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const remembered = sessionStorage.getItem("houston.as");
  const given = [wanted.get("as"), view.me, remembered].find(name => PEOPLE.includes(name));
  const me = given ?? PEOPLE[0];
  const changed = me !== view.me;
  Object.assign(view, { me, wanted: wanted.get("room") ?? view.wanted, message: wanted.get("msg") });
  sessionStorage.setItem("houston.as", me);
  if (changed) {
    Object.assign(view, { rid: null, thread: null, editing: null });
    $("editing").hidden = true;
    session().start();
  }
  document.body.classList.remove("menu");
  draw();
  enter();
}

/** Enters the wanted room once its list is there. */
async function enter() {
  if (session().state !== "connected") return;
  const turn = ++entering;
  const find = name => [...session().rooms.values()].find(sub => handle(sub) === name);
  let sub = find(view.wanted.replace(/^@/, ""));
  if (!sub && view.wanted === "@houston") {
    await attempt(session().call("createDirectMessage", "houston").then(() => session().refresh()));
    sub = find("houston");
  }
  sub ??= find("general") ?? [...session().rooms.values()][0];
  if (!sub || turn !== entering) return draw();
  const moved = sub.rid !== view.rid;
  if (moved) {
    Object.assign(view, { rid: sub.rid, thread: null, since: sub.unread ? millis(sub.ls) : null, editing: null });
    $("editing").hidden = true;
    list.reset();
    compose.restoreDraft($("composer"), null);
  }
  draw();
  await attempt(session().watch(view.rid));
  if (view.thread) await attempt(session().thread(view.thread));
  if (turn !== entering) return;
  if (view.message) {
    if (!(await list.reveal(view.message, drawMessages))) toast("That message is not here.");
    view.message = null;
  } else if (moved) {
    const mark = $("messages").querySelector(".new");
    if (mark) mark.scrollIntoView({ block: "center" });
    else list.toEnd();
  }
  markRead();
  fill();
}

/** A page may hold nothing but replies: as much is loaded as the window shows. */
async function fill() {
  const box = $("messages");
  for (let n = 0; n < 5 && box.scrollHeight <= box.clientHeight && session().complete.get(view.rid) !== true; n++) if (!(await list.earlier(drawMessages))) break;
}

let reading = null;
function markRead() {
  if (document.hidden || reading || !(current()?.unread || current()?.alert)) return;
  reading = setTimeout(() => {
    reading = null;
    if (session().state === "connected" && view.rid) session().call("readMessages", view.rid).catch(() => {});
  }, 1_200);
}

// ---- drawing: at most once a frame, however many messages come

let wanted = false;
function soon() {
  if (wanted) return;
  wanted = true;
  const run = () => { if (wanted) { wanted = false; drawMessages(); } };
  requestAnimationFrame(run);
  setTimeout(run, 200); // a hidden tab has no frames
}

function draw() {
  drawPeople();
  drawRooms();
  drawHead();
  drawMessages();
  drawTyping();
}

function drawMessages() {
  const room = list.drawMessages(act, compose.suggest);
  drawTries(room);
}

/** Things to try: the commands of the room's first message that names several. */
function drawTries(room) {
  const welcome = room.find(m => (m.msg?.match(/`!/g)?.length ?? 0) > 2);
  const hidden = !welcome || sessionStorage.getItem("houston.tried") === welcome._id;
  $("tries").hidden = hidden;
  if (hidden || $("tries").dataset.of === welcome._id) return;
  $("tries").dataset.of = welcome._id;
  const commands = [...new Set(welcome.msg.match(/`![^`\n]+`/g).map(code => code.slice(1, -1)))].slice(0, 4);
  const dismiss = () => { sessionStorage.setItem("houston.tried", welcome._id); $("tries").hidden = true; $("composer").focus(); };
  $("tries").replaceChildren(
    el("span", {}, "Try"),
    ...commands.map(command => el("button", { type: "button", onclick: () => compose.suggest(command) }, command)),
    el("button", { type: "button", class: "icon", "aria-label": "Hide the suggestions", onclick: dismiss }, "✕"),
  );
}

// ---- threads

const act = actions(message => {
  view.thread = message.tmid ?? message._id;
  $("thread-messages").replaceChildren();
  drawMessages();
  compose.restoreDraft($("thread-composer"), view.thread); // its box is seen by now, and has a height
  attempt(session().thread(view.thread));
  $("thread-composer").focus();
});

function closeThread() {
  view.thread = null;
  drawMessages();
  $("composer").focus();
}

// ---- wiring

for (const [name, one] of sessions) {
  const mine = run => ({ detail }) => { if (name === view.me && detail === view.rid) run(); };
  one.addEventListener("state", () => { if (name === view.me) { draw(); if (one.state === "connected") enter(); } else drawPeople(); });
  one.addEventListener("rooms", () => { drawPeople(); if (name === view.me) { drawRooms(); drawHead(); markRead(); } });
  one.addEventListener("messages", mine(soon));
  one.addEventListener("typing", mine(drawTyping));
  one.addEventListener("trouble", ({ detail }) => toast(`${name}: ${detail}`));
}
compose.wire({ box: $("composer"), form: $("composer-form"), list: $("codes"), tmid: () => null, closeThread });
compose.wire({ box: $("thread-composer"), form: $("thread-form"), list: $("thread-codes"), tmid: () => view.thread, closeThread });
keys.wire(act);
files.wire();
$("thread-close").onclick = closeThread;
$("dm").onclick = () => go(view.me, "@houston");
$("retry").onclick = () => session().now();
$("menu").onclick = () => { document.body.classList.toggle("menu"); $("people").querySelector("[aria-checked=true]")?.focus(); };
$("scrim").onclick = () => document.body.classList.remove("menu");
$("messages").addEventListener("scroll", () => { if ($("messages").scrollTop < 300 && view.rid && session().messages.get(view.rid)?.size) list.earlier(drawMessages); }, { passive: true });
addEventListener("resize", () => ["composer", "thread-composer"].forEach(id => compose.fit($(id))));
addEventListener("online", () => sessions.forEach(one => one.now()));
addEventListener("hashchange", readHash);
document.addEventListener("visibilitychange", () => { markRead(); sessions.forEach(one => document.hidden || one.now()); });
setInterval(() => {
  drawTyping();
  for (const node of document.querySelectorAll("time[data-ts]")) {
    const text = when(Number(node.dataset.ts));
    if (node.textContent !== text) node.textContent = text;
  }
}, 3_000);
readHash();
// The others log in a little later, so that their unread marks are seen.
setTimeout(() => sessions.forEach(one => one.start()), 1_500);
