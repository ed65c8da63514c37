// The left side and the heads: people, rooms with what is unread, connection. It only draws.

import { $, el } from "./dom.js";
import { avatar } from "./render.js";
import { PEOPLE, address, current, go, handle, ordered, session, sessions, view } from "./view.js";

const STATES = { connected: me => `Connected as ${me}`, waiting: () => "Connection lost, trying again", connecting: () => "Connecting …", idle: () => "Connecting …" };
let connectedOnce = false;

export function drawPeople() {
  const focused = $("people").contains(document.activeElement);
  $("people").replaceChildren(
    ...PEOPLE.map(name => {
      const unread = [...sessions.get(name).rooms.values()].some(sub => sub.unread > 0);
      return el(
        "button",
        { type: "button", role: "radio", "aria-checked": String(name === view.me), tabindex: name === view.me ? 0 : -1, title: `Act as ${name}`, onclick: () => go(name, view.wanted) },
        avatar(name),
        el("span", {}, name[0].toUpperCase() + name.slice(1)),
        unread && name !== view.me && el("i", { class: "dot", role: "img", "aria-label": "unread messages" }),
      );
    }),
  );
  if (focused) $("people").querySelector("[aria-checked=true]").focus();
  const state = session().state;
  connectedOnce ||= state === "connected";
  const words = STATES[state](view.me);
  if ($("connection").textContent !== words) $("connection").textContent = words;
  $("connection").className = state;
  $("lost").hidden = state !== "waiting" || !connectedOnce;
}

export function drawRooms() {
  const { rooms, direct } = ordered();
  let number = 0;
  const item = sub => {
    const here = sub.rid === view.rid;
    const unread = sub.unread > 0 && !here;
    const key = ++number;
    return el(
      "li",
      {},
      el(
        "a",
        { href: `#${new URLSearchParams({ as: view.me, room: address(sub) })}`, class: [here && "here", unread && "unread"].filter(Boolean).join(" ") || null, "aria-current": here && "page", title: key < 10 ? `Alt+${key}` : null },
        sub.t === "d" ? avatar(handle(sub)) : el("span", { class: "sign", "aria-hidden": "true" }, sub.t === "p" ? "🔒" : "#"),
        el("span", { dir: "auto" }, sub.t === "d" ? sub.fname ?? handle(sub) : handle(sub)),
        unread && el("b", { class: sub.userMentions ? "count mention" : "count", "aria-label": `${sub.unread} unread` }, String(sub.unread)),
      ),
    );
  };
  const group = (title, list) => (list.length ? [el("h2", {}, title), el("ul", {}, ...list.map(item))] : []);
  const at = $("rooms").contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  $("rooms").replaceChildren(...group("Rooms", rooms), ...group("Direct messages", direct));
  if (at) $("rooms").querySelector(`a[href="${CSS.escape(at)}"]`)?.focus();
}

export function drawHead() {
  const sub = current();
  const name = sub ? (sub.t === "d" ? sub.fname ?? handle(sub) : `#${handle(sub)}`) : "…";
  $("name").textContent = name;
  const people = sub?.room.usersCount;
  $("topic").textContent = [sub?.room.topic, sub?.t !== "d" && people && `${people} people`].filter(Boolean).join(" · ");
  const unread = [...session().rooms.values()].reduce((sum, one) => sum + (one.rid === view.rid && !document.hidden ? 0 : one.unread ?? 0), 0);
  document.title = `${unread ? `(${unread}) ` : ""}${name} · Houston sandbox`;
  $("composer").placeholder = sub ? `Message ${name}, or try !help` : "Message";
}

export function drawTyping() {
  const all = [...(session().typing.get(view.rid) ?? [])].filter(([, { until }]) => until > Date.now());
  const words = list => (list.length ? `${list.map(([name]) => name).join(", ")} ${list.length > 1 ? "are" : "is"} typing …` : "");
  const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
  set("typing", words(all.filter(([, { tmid }]) => !tmid)));
  set("thread-typing", words(all.filter(([, { tmid }]) => tmid && tmid === view.thread)));
}
