// The lists of messages: what of a room is drawn, how much of it, and where one reads.
// A room may have thousands of messages: a page of them at a time becomes nodes, and what is out of sight is
// not laid out (`content-visibility` in the style sheet).

import { $, el } from "./dom.js";
import { message as drawMessage, signature } from "./render.js";
import { millis } from "./session.js";
import { handle, session, view } from "./view.js";

const PAGE = 100;
/** As many nodes may be there before those above are let go, once one is at the end again. */
const MOST = 300;
let most = PAGE;
let loading = null;
/** Somebody wants the focus on the last message of a list that has none: it goes there when one is. */
let focusOwed = null;

const sorted = () => [...(session().messages.get(view.rid)?.values() ?? [])].sort((a, b) => millis(a.ts) - millis(b.ts));
const inRoom = message => !message.tmid || message.tshow || (message.private && message.tmid !== view.thread);
const atEnd = list => list.scrollHeight - list.scrollTop - list.clientHeight < 60;

export function toEnd() {
  const list = $("messages");
  list.scrollTop = list.scrollHeight;
}

export function reset() {
  const list = $("messages");
  const reader = list.contains(document.activeElement);
  most = PAGE;
  loading = null;
  list.replaceChildren();
  if (reader) focusLast();
}

/** To the last message; also where they are still on their way. */
export function focusLast() {
  const list = $("messages");
  const last = [...list.querySelectorAll(".message")].at(-1);
  focusOwed = last ? null : list;
  (last ?? list).focus();
}

export function drawMessages(act, suggest) {
  const all = sorted();
  const room = all.filter(inRoom);
  if (most > MOST && atEnd($("messages"))) most = PAGE;
  const shown = room.slice(-most);
  const whole = shown.length === room.length && session().complete.get(view.rid) === true;
  drawList($("messages"), shown, { act, suggest, inThread: false, whole });
  $("thread").hidden = !view.thread;
  document.body.classList.toggle("with-thread", Boolean(view.thread));
  if (view.thread) drawList($("thread-messages"), all.filter(m => m._id === view.thread || m.tmid === view.thread), { act, suggest, inThread: true, whole: true });
  return room;
}

/** Makes only the nodes that changed, and stays at the end when it was there. */
function drawList(list, messages, { act, suggest, inThread, whole }) {
  const end = atEnd(list);
  const context = { me: view.me, rooms: new Set([...session().rooms.values()].map(handle)), suggest };
  const known = new Map([...list.children].map(node => [node.dataset.id, node]));
  const nodes = inThread || !messages.length ? [] : [start(whole)];
  let before = null;
  let marked = inThread || view.since === null;
  for (const message of messages) {
    const ts = millis(message.ts);
    const isNew = !marked && ts > view.since && message.u?.username !== view.me;
    if (isNew) {
      marked = true;
      nodes.push(known.get("new") ?? el("p", { class: "new", "data-id": "new" }, "New messages"));
    }
    const near = before && !isNew && !before.t && before.u?._id === message.u?._id && ts - millis(before.ts) < 300_000;
    const grouped = Boolean(near && !message.private && !before.private && !message.tmid === !before.tmid);
    before = message;
    const mark = view.me + signature(message, grouped);
    const old = known.get(message._id);
    if (old?.dataset.mark === mark) {
      nodes.push(old);
      continue;
    }
    const node = drawMessage(message, { grouped, context, act, inThread });
    Object.assign(node.dataset, { id: message._id, mark });
    if (old) node.classList.add("changed");
    nodes.push(node);
  }
  if (!messages.length) nodes.push(el("p", { class: "empty" }, session().state === "connected" ? "Nothing here yet. Say hello, or type !help." : "Connecting …"));
  place(list, nodes);
  if (end) list.scrollTop = list.scrollHeight;
}

const start = whole => el("p", { class: "start" }, whole ? "This is where the room begins." : "Earlier messages load as you scroll up.");

/** Only what differs is moved: a moved node would lose the focus and what is selected. */
function place(list, nodes) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const row = focused?.closest("[data-id]");
  const label = focused?.getAttribute("aria-label");
  const had = [...list.querySelectorAll(".message")];
  const wanted = new Set(nodes);
  for (const node of [...list.children]) if (!wanted.has(node)) node.remove();
  let next = list.firstChild;
  for (const node of nodes) {
    if (node === next) next = next.nextSibling;
    else list.insertBefore(node, next);
  }
  if (focusOwed === list) focused === list ? payFocus(list) : (focusOwed = null);
  else if (row && !focused.isConnected) refocus(list, row, label, had);
}

function payFocus(list) {
  const last = [...list.querySelectorAll(".message")].at(-1);
  if (!last) return;
  focusOwed = null;
  last.focus({ preventScroll: true }); // whoever enters a room reads on where the new messages begin
}

/** The row that had the focus was made again, or is gone: then its neighbour has it. */
function refocus(list, row, label, had) {
  const again = list.querySelector(`[data-id="${CSS.escape(row.dataset.id)}"]`);
  const same = label && again?.querySelector(`[aria-label="${CSS.escape(label)}"]`);
  const at = had.indexOf(row);
  const beside = () => [...had.slice(at + 1), ...had.slice(0, Math.max(at, 0)).reverse()].find(node => node.isConnected);
  const heir = same || again || beside();
  if (!heir) focusOwed = list;
  (heir ?? list).focus({ preventScroll: true });
}

/** Earlier messages, with what one reads staying where it is. */
export function earlier(draw) {
  if (loading) return loading;
  const list = $("messages");
  const rid = view.rid;
  const room = sorted();
  if (!room.length) return Promise.resolve(false);
  const enough = room.filter(inRoom).length > most;
  const more = enough ? Promise.resolve(true) : session().complete.get(rid) ? Promise.resolve(false) : session().history(rid, millis(room[0].ts));
  list.setAttribute("aria-busy", "true"); // what was said long ago is not read out
  loading = more
    .then(() => {
      if (rid !== view.rid) return false;
      const first = [...list.children].find(node => node.dataset.mark);
      const top = first?.getBoundingClientRect().top;
      const had = list.querySelectorAll(".message").length;
      most += PAGE;
      draw();
      if (first?.isConnected) list.scrollTop += first.getBoundingClientRect().top - top;
      return list.querySelectorAll(".message").length > had || session().complete.get(rid) !== true;
    })
    .catch(() => false)
    .finally(() => { loading = null; list.removeAttribute("aria-busy"); });
  return loading;
}

/** Shows one message, also one of long ago. */
export async function reveal(id, draw) {
  const find = () => $("messages").querySelector(`[data-id="${CSS.escape(id)}"]`);
  for (let tries = 0; !find() && tries < 60; tries++) if (!(await earlier(draw))) break;
  if (!find()) return false;
  await earlier(draw); // and what stands before it, so that showing it loads nothing that moves it
  const node = find();
  node.classList.add("target");
  // Again when those around it have their true heights.
  for (let n = 0; n < 3; n++) {
    node.scrollIntoView({ block: "center" });
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  node.focus({ preventScroll: true });
  return true;
}

/** The message after or before the one that has the focus. */
export function step(list, by) {
  const all = [...list.querySelectorAll(".message")];
  const at = all.indexOf(document.activeElement.closest(".message"));
  const next = at < 0 ? all.at(-1) : all[at + by];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
  return Boolean(next);
}
