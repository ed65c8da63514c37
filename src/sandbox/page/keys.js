// Keys, the list of them, and the look: light, dark, or as the system says.

import { $, el } from "./dom.js";
import { step } from "./list.js";
import { PEOPLE, address, go, ordered, session, view } from "./view.js";

const SHORTCUTS = [
  ["Everywhere", [["Alt 1 … 9", "room of the list"], ["Alt ↑ ↓", "room before, after"], ["Alt A B C", "be Alice, Bob, Carol"], ["Ctrl /", "this list"], ["/", "to the message box"]]],
  ["In the message box", [["Enter", "send"], ["Shift Enter", "new line"], ["↑", "edit your last message"], [":ab Tab", "emoji"], ["Esc", "stop editing; to the messages"]]],
  ["On a message", [["↑ ↓", "the one before, after"], ["+ −", "approve, deny (👍 👎)"], ["R", "another reaction"], ["T", "reply in thread"], ["E", "edit"], ["Del", "delete"], ["C", "copy link"], ["Esc", "to the message box"]]],
];

export function showShortcuts() {
  const rows = list => el("dl", {}, ...list.flatMap(([keys, what]) => [el("dt", {}, ...keys.split(" ").map(key => el("kbd", {}, key))), el("dd", {}, what)]));
  $("shortcuts-list").replaceChildren(...SHORTCUTS.map(([title, list]) => el("section", {}, el("h3", {}, title), rows(list))));
  if (!$("shortcuts").open) $("shortcuts").showModal();
}

const THEMES = { auto: "◐", light: "☀", dark: "☾" };

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("houston.theme", name);
  $("theme").textContent = THEMES[name];
  $("theme").setAttribute("aria-label", `Colours: ${name === "auto" ? "as the system" : name}. Change`);
  $("theme").title = $("theme").getAttribute("aria-label");
}

function everywhere(event) {
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
  const letter = /^Key([ABC])$/.exec(event.code)?.[1];
  if ((event.ctrlKey || event.metaKey) && event.key === "/") return showShortcuts(), true;
  if (!event.altKey || event.ctrlKey || event.metaKey) return false;
  const { rooms, direct } = ordered();
  const all = [...rooms, ...direct];
  const at = all.findIndex(sub => sub.rid === view.rid);
  const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const room = digit ? all[digit - 1] : by && all[(at + by + all.length) % all.length];
  if (room) return go(view.me, address(room)), true;
  if (letter) return go(PEOPLE["ABC".indexOf(letter)], view.wanted), true;
  return false;
}

/** Keys on a message that has the focus. */
function onMessage(event, act) {
  const row = event.target.closest(".message");
  const list = row?.parentElement ?? event.target;
  const by = { ArrowUp: -1, ArrowDown: 1, k: -1, j: 1 }[event.key];
  if (by && (row === event.target || list === event.target)) return step(list, by) || event.key !== "ArrowDown";
  const message = row && session().messages.get(view.rid)?.get(row.dataset.id);
  if (!message || message.t || message.private || message.sending) return false;
  const own = message.u?.username === view.me;
  const reply = list.id === "messages";
  const keys = {
    "+": () => act.react(message, ":+1:"), "-": () => act.react(message, ":-1:"), r: () => act.pick(message, row),
    t: reply && (() => act.thread(message)), c: () => act.copy(message), e: own && (() => act.edit(message)), Delete: own && (() => act.remove(message)),
  };
  const key = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
  key?.call();
  return Boolean(key);
}

export function wire(act) {
  theme(Object.hasOwn(THEMES, localStorage.getItem("houston.theme") ?? "") ? localStorage.getItem("houston.theme") : "auto");
  $("theme").onclick = () => { const names = Object.keys(THEMES); theme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]); };
  $("keys").onclick = showShortcuts;
  $("shortcuts-close").onclick = () => $("shortcuts").close();
  document.addEventListener("keydown", event => {
    if (event.defaultPrevented || event.isComposing || $("shortcuts").open) return;
    if (everywhere(event)) return event.preventDefault();
    const writing = event.target.closest("textarea, input, .picker");
    if (writing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      event.preventDefault();
      document.body.classList.remove("menu");
      (event.target.closest("#thread") ? $("thread-composer") : $("composer")).focus();
    } else if (event.key === "?") { event.preventDefault(); showShortcuts(); }
    else if (event.key === "/") { event.preventDefault(); $("composer").focus(); }
    else if (event.target.closest(".messages") && onMessage(event, act)) event.preventDefault();
  });
  $("people").addEventListener("keydown", event => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by || event.altKey) return;
    event.preventDefault();
    go(PEOPLE[(PEOPLE.indexOf(view.me) + by + PEOPLE.length) % PEOPLE.length], view.wanted);
  });
}
