// The page: who acts, in which room, what stands there. State lives in the sessions; this draws it.

import { EMOJI, el, emoji } from "./markdown.js";
import { avatar, message as drawMessage, signature, when } from "./render.js";
import { Session, millis } from "./session.js";

const PEOPLE = ["alice", "bob", "carol"];
const PICKER_FIRST = ["white_check_mark", "+1", "x", "-1", "octagonal_sign"];
const $ = id => document.getElementById(id);
const sessions = new Map(PEOPLE.map(name => [name, new Session(name)]));
const view = { me: null, rid: null, thread: null, editing: null };
let slash = null; // {known, allowUnknown}, asked for once
let lastTyping = 0;

const session = () => sessions.get(view.me);
const current = () => session()?.rooms.get(view.rid);
const handle = sub => sub.name ?? sub.room.name ?? sub.rid;

function toast(text) {
  const note = el("p", { class: "toast" }, text);
  $("toasts").append(note);
  setTimeout(() => note.remove(), 6_000);
}

const attempt = promise => promise.catch(error => toast(error.message));

// ---- who and where: `#as=alice&room=ops`

function readHash() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const me = PEOPLE.includes(wanted.get("as")) ? wanted.get("as") : view.me ?? PEOPLE[0];
  const changed = me !== view.me;
  view.me = me;
  view.wanted = wanted.get("room") ?? view.wanted ?? "ops";
  if (changed) {
    Object.assign(view, { rid: null, thread: null, editing: null });
    session().start();
  }
  draw();
  enter();
}

const go = (me, room) => { location.hash = new URLSearchParams({ as: me, room }); };

/** Enters the wanted room once its list is there. */
async function enter() {
  const { rooms, state } = session();
  if (state !== "connected") return;
  let sub = [...rooms.values()].find(sub => handle(sub) === view.wanted.replace(/^@/, ""));
  if (!sub && view.wanted === "@houston") {
    await attempt(session().call("createDirectMessage", "houston").then(() => session().refresh()));
    sub = [...rooms.values(), ...session().rooms.values()].find(sub => handle(sub) === "houston");
  }
  sub ??= [...rooms.values()].find(sub => handle(sub) === "general") ?? [...rooms.values()][0];
  if (!sub) return draw();
  if (sub.rid !== view.rid) Object.assign(view, { rid: sub.rid, thread: null });
  $("messages").replaceChildren();
  draw();
  await attempt(session().watch(view.rid));
  markRead();
  $("messages").scrollTop = $("messages").scrollHeight;
}

let reading = null;
function markRead() {
  if (document.hidden || reading || !(current()?.unread || current()?.alert)) return;
  reading = setTimeout(() => {
    reading = null;
    if (session().state === "connected") session().call("readMessages", view.rid).catch(() => {});
  }, 1_200);
}

// ---- drawing

function draw() {
  drawPeople();
  drawRooms();
  drawHead();
  drawMessages();
  drawTyping();
}

function drawPeople() {
  $("people").replaceChildren(
    ...PEOPLE.map(name => {
      const unread = [...sessions.get(name).rooms.values()].some(sub => sub.unread > 0);
      return el(
        "button",
        { type: "button", role: "radio", "aria-checked": String(name === view.me), tabindex: name === view.me ? 0 : -1, title: `Act as ${name}`, onclick: () => go(name, view.wanted) },
        avatar(name),
        el("span", {}, name[0].toUpperCase() + name.slice(1)),
        unread && name !== view.me && el("i", { class: "dot", "aria-label": "unread messages" }),
      );
    }),
  );
  const state = session().state;
  $("connection").className = state;
  $("connection").textContent = state === "connected" ? `Connected as ${view.me}` : state === "waiting" ? "Connection lost. Trying again …" : "Connecting …";
}

function drawRooms() {
  const subs = [...session().rooms.values()].filter(sub => sub.open !== false);
  const group = (title, kinds) => {
    const list = subs.filter(sub => kinds.includes(sub.t)).sort((a, b) => handle(a).localeCompare(handle(b)));
    const item = sub => {
      const label = handle(sub);
      const here = sub.rid === view.rid;
      return el(
        "li",
        {},
        el(
          "a",
          { href: `#${new URLSearchParams({ as: view.me, room: sub.t === "d" ? `@${label}` : label })}`, class: [here && "here", sub.unread && !here && "unread"].filter(Boolean).join(" ") || null, "aria-current": here && "page" },
          sub.t === "d" ? avatar(label) : el("span", { class: "sign", "aria-hidden": "true" }, sub.t === "p" ? "🔒" : "#"),
          el("span", {}, sub.t === "d" ? sub.fname ?? label : label),
          sub.unread > 0 && !here && el("b", { class: sub.userMentions ? "count mention" : "count", "aria-label": `${sub.unread} unread` }, String(sub.unread)),
        ),
      );
    };
    return list.length ? [el("h2", {}, title), el("ul", {}, ...list.map(item))] : [];
  };
  $("rooms").replaceChildren(...group("Rooms", ["c", "p"]), ...group("Direct messages", ["d"]));
}

function drawHead() {
  const sub = current();
  $("name").textContent = sub ? (sub.t === "d" ? sub.fname ?? handle(sub) : `#${handle(sub)}`) : "…";
  const people = sub?.room.usersCount;
  $("topic").textContent = [sub?.room.topic, sub?.t !== "d" && people && `${people} people`].filter(Boolean).join(" · ");
  document.title = `${$("name").textContent} · Houston sandbox`;
}

function drawMessages() {
  const all = [...(session().messages.get(view.rid)?.values() ?? [])].sort((a, b) => millis(a.ts) - millis(b.ts));
  drawList($("messages"), all.filter(m => !m.tmid || m.tshow || (m.private && m.tmid !== view.thread)), false);
  $("thread").hidden = !view.thread;
  document.body.classList.toggle("with-thread", Boolean(view.thread));
  if (view.thread) drawList($("thread-messages"), all.filter(m => m._id === view.thread || m.tmid === view.thread), true);
}

/** Makes only the nodes that changed, and stays at the end when it was there. */
function drawList(list, messages, inThread) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  const context = { me: view.me, rooms: new Set([...session().rooms.values()].map(handle)) };
  const known = new Map([...list.children].map(node => [node.dataset.id, node]));
  let before = null;
  const nodes = messages.map(message => {
    const near = before && !before.t && before.u?._id === message.u?._id && millis(message.ts) - millis(before.ts) < 300_000;
    const grouped = Boolean(near && !message.private && !before.private);
    before = message;
    const mark = view.me + signature(message, grouped);
    const old = known.get(message._id);
    if (old?.dataset.mark === mark) return old;
    const node = drawMessage(message, { grouped, context, act, inThread });
    if (inThread) node.removeAttribute("id");
    Object.assign(node.dataset, { id: message._id, mark });
    if (old) node.classList.add("changed");
    return node;
  });
  const focused = list.contains(document.activeElement) ? document.activeElement.closest("[data-id]")?.dataset.id : null;
  if (nodes.length !== list.children.length || nodes.some((node, n) => node !== list.children[n])) list.replaceChildren(...nodes);
  if (focused && !list.contains(document.activeElement)) list.querySelector(`[data-id="${CSS.escape(focused)}"] button`)?.focus();
  if (!messages.length) list.replaceChildren(el("p", { class: "empty" }, "Nothing here yet. Say hello, or type !help."));
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function drawTyping() {
  const typing = [...(session().typing.get(view.rid) ?? [])].filter(([, { until }]) => until > Date.now()).map(([name]) => name);
  $("typing").textContent = typing.length ? `${typing.join(", ")} ${typing.length > 1 ? "are" : "is"} typing …` : "";
}

// ---- what a person does to a message

const act = {
  react(message, code) {
    const mine = message.reactions?.[code]?.usernames?.includes(view.me);
    attempt(session().call("setReaction", code, message._id, !mine));
  },
  thread(message) {
    view.thread = message.tmid ?? message._id;
    $("thread-messages").replaceChildren();
    drawMessages();
    attempt(session().thread(view.thread));
    $("thread-composer").focus();
  },
  edit(message) {
    view.editing = message;
    $("editing").hidden = false;
    $("composer").value = message.msg;
    $("composer").focus();
  },
  remove(message) {
    if (confirm("Delete this message?")) attempt(session().rest("POST", "chat.delete", { roomId: message.rid, msgId: message._id }));
  },
  press(button) {
    if (/^https?:\/\//.test(button.url ?? "")) window.open(button.url, "_blank", "noopener");
    else if (button.msg) attempt(session().send(view.rid, button.msg));
  },
  pick(message, anchor) {
    document.querySelector(".picker")?.remove();
    const signs = new Set(PICKER_FIRST.map(emoji)); // several names may mean one sign
    const rest = Object.keys(EMOJI).filter(name => !signs.has(emoji(name)) && signs.add(emoji(name)));
    const button = name =>
      el("button", { type: "button", title: `:${name}:`, "aria-label": name, onclick: () => { picker.remove(); act.react(message, `:${name}:`); } }, emoji(name));
    const picker = el("div", { class: "picker", role: "dialog", "aria-label": "Pick a reaction" }, el("div", { class: "first" }, ...PICKER_FIRST.map(button)), el("div", {}, ...rest.map(button)));
    const box = anchor.getBoundingClientRect();
    picker.style.top = `${Math.max(8, Math.min(box.bottom + 4, innerHeight - 290))}px`;
    picker.style.left = `${Math.max(8, Math.min(box.right - 300, innerWidth - 316))}px`;
    picker.onkeydown = event => event.key === "Escape" && (picker.remove(), anchor.focus());
    document.body.append(picker);
    picker.querySelector("button").focus();
  },
};

document.addEventListener("pointerdown", event => {
  const picker = document.querySelector(".picker");
  if (picker && !picker.contains(event.target)) picker.remove();
});

// ---- writing

/** As Rocket.Chat's web client: its own slash words are run, unknown ones are kept back unless the workspace allows them. */
async function submit(text, tmid) {
  const [, command, params] = /^\/(\S+)([\s\S]*)$/.exec(text) ?? [];
  if (!command) return session().send(view.rid, text, tmid);
  if (!slash) {
    const [{ commands }, { settings }] = await Promise.all([
      session().rest("GET", "commands.list?count=100"),
      session().rest("GET", "settings.public?_id=Message_AllowUnrecognizedSlashCommand"),
    ]);
    slash = { known: new Set(commands.map(c => c.command)), allowUnknown: settings[0]?.value === true };
  }
  if (slash.known.has(command)) {
    const body = { command, params: params.trim(), roomId: view.rid, ...(tmid && { tmid }) };
    return session().rest("POST", "commands.run", body);
  }
  if (slash.allowUnknown) return session().send(view.rid, text, tmid);
  session().local(view.rid, `No such command: \`/${command.replaceAll("`", "")}\`. The workspace does not send unknown slash commands; try \`!${command.replaceAll("`", "")}\`.`, tmid);
}

function stopEditing() {
  view.editing = null;
  $("editing").hidden = true;
  $("composer").value = "";
}

function typing(active, tmid) {
  if (!view.rid || (active && Date.now() - lastTyping < 4_000) || (!active && !lastTyping)) return;
  lastTyping = active ? Date.now() : 0;
  const extra = tmid ? [{ tmid }] : [{}];
  session().call("stream-notify-room", `${view.rid}/user-activity`, view.me, active ? ["user-typing"] : [], ...extra).catch(() => {});
}

function composer(box, form, tmid) {
  const fit = () => { box.style.height = "auto"; box.style.height = `${Math.min(box.scrollHeight, 200)}px`; };
  form.addEventListener("submit", event => {
    event.preventDefault();
    const text = box.value.trim();
    const edited = tmid() ? null : view.editing;
    if (!text || !view.rid) return;
    typing(false, tmid());
    if (edited) stopEditing();
    box.value = "";
    fit();
    const done = edited ? session().call("updateMessage", { _id: edited._id, rid: edited.rid, msg: text }) : submit(text, tmid());
    done.catch(error => { toast(error.message); box.value ||= text; });
    $("messages").scrollTop = $("messages").scrollHeight;
  });
  box.addEventListener("input", () => { fit(); typing(box.value !== "", tmid()); });
  box.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "ArrowUp" && box.value === "" && !tmid()) {
      const own = [...(session().messages.get(view.rid)?.values() ?? [])].filter(m => m.u?.username === view.me && !m.t && !m.tmid && !m.private);
      const last = own.sort((a, b) => millis(a.ts) - millis(b.ts)).pop();
      if (last) { event.preventDefault(); act.edit(last); }
    } else if (event.key === "Escape" && view.editing && !tmid()) stopEditing();
    else if (event.key === "Escape" && tmid()) closeThread();
  });
}

function closeThread() {
  view.thread = null;
  drawMessages();
  $("composer").focus();
}

// ---- wiring

for (const [name, one] of sessions) {
  one.addEventListener("state", () => { if (name === view.me) { draw(); if (one.state === "connected") enter(); } else drawPeople(); });
  one.addEventListener("rooms", () => { drawPeople(); if (name === view.me) { drawRooms(); drawHead(); markRead(); } });
  one.addEventListener("messages", ({ detail }) => { if (name === view.me && detail === view.rid) drawMessages(); });
  one.addEventListener("typing", ({ detail }) => { if (name === view.me && detail === view.rid) drawTyping(); });
  one.addEventListener("trouble", ({ detail }) => toast(`${name}: ${detail}`));
}
composer($("composer"), $("composer-form"), () => null);
composer($("thread-composer"), $("thread-form"), () => view.thread);
$("thread-close").onclick = closeThread;
$("dm").onclick = () => go(view.me, "@houston");
$("menu").onclick = () => document.body.classList.toggle("menu");
$("side").addEventListener("click", event => event.target.closest("a, #dm, [role=radio]") && document.body.classList.remove("menu"));
$("people").addEventListener("keydown", event => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  go(PEOPLE[(PEOPLE.indexOf(view.me) + step + PEOPLE.length) % PEOPLE.length], view.wanted);
  setTimeout(() => $("people").querySelector("[aria-checked=true]").focus());
});
window.addEventListener("hashchange", readHash);
document.addEventListener("visibilitychange", markRead);
setInterval(() => {
  if (view.me) drawTyping();
  for (const node of document.querySelectorAll("time[data-ts]")) node.textContent = when(Number(node.dataset.ts));
}, 3_000);
readHash();
// The others log in a little later, so that their unread marks are seen.
setTimeout(() => sessions.forEach(one => one.start()), 1_500);
