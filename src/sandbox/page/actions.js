// What a person does to a message that is there.

import { $, el, toast } from "./dom.js";
import { EMOJI, emoji } from "./emoji.js";
import * as compose from "./compose.js";
import * as files from "./files.js";
import { safe } from "./dom.js";
import { address, current, session, view } from "./view.js";

const PICKER_FIRST = ["white_check_mark", "+1", "x", "-1", "octagonal_sign"];
const attempt = promise => promise.catch(error => toast(error.message));

export const actions = openThread => ({
  react(message, code) {
    const mine = message.reactions?.[code]?.usernames?.includes(view.me);
    attempt(session().call("setReaction", code, message._id, !mine));
  },
  thread: openThread,
  edit: compose.edit,
  remove(message) {
    if (confirm("Delete this message?")) attempt(session().rest("POST", "chat.delete", { roomId: message.rid, msgId: message._id }));
  },
  again: message => session().again(message._id),
  discard: message => session().discard(message._id),
  picture: (path, alt) => files.picture(session(), path, alt),
  download: (path, name) => attempt(files.download(session(), path, name)),
  /** Without `as`: whoever opens it sees it as themselves. */
  copy(message) {
    const url = new URL(location);
    url.hash = new URLSearchParams({ room: address(current()), msg: message._id });
    attempt(navigator.clipboard.writeText(url.href).then(() => toast("Link copied.")));
  },
  /** As Rocket.Chat: a button's text is said by who clicked, or put into the message box. */
  press(button, message) {
    if (safe(button.url)) return void window.open(button.url, "_blank", "noopener,noreferrer");
    if (button.block) {
      const { appId, ...action } = button.block;
      const body = { type: "blockAction", ...action, payload: { value: action.value }, rid: view.rid, mid: message._id, container: { type: "message", id: message._id } };
      return attempt(session().rest("POST", `../apps/ui.interaction/${encodeURIComponent(appId ?? "none")}`, body).catch(() => { throw new Error("No app of this workspace answers that button."); }));
    }
    const msg = String(button.msg ?? "");
    if (!msg) return;
    if (button.msg_processing_type === "respondWithMessage") compose.suggest(msg);
    else if (button.msg_processing_type === "respondWithQuotedMessage") compose.suggest(`> ${String(message.msg).split("\n")[0]}\n${msg}`);
    else attempt(session().send(view.rid, msg, message.tmid));
  },
  pick(message, anchor) {
    document.querySelector(".picker")?.remove();
    const signs = new Set(PICKER_FIRST.map(emoji)); // several names may mean one sign
    const rest = Object.keys(EMOJI).filter(name => !signs.has(emoji(name)) && signs.add(emoji(name)));
    const list = anchor.closest(".messages").id; // an edit may have made the row again meanwhile
    const back = () => (anchor.isConnected ? anchor : document.querySelector(`#${list} [data-id="${CSS.escape(message._id)}"]`));
    const close = () => { picker.remove(); back()?.focus({ preventScroll: true }); };
    const button = name => el("button", { type: "button", title: `:${name}:`, "aria-label": name, onclick: () => { close(); this.react(message, `:${name}:`); } }, emoji(name));
    const all = el("div", {}, ...rest.map(button));
    const search = el("input", { type: "search", placeholder: "Find an emoji", "aria-label": "Find an emoji", oninput: () => all.replaceChildren(...rest.filter(name => name.includes(search.value.toLowerCase())).map(button)) });
    const picker = el("div", { class: "picker", role: "dialog", "aria-label": "Pick a reaction" }, el("div", { class: "first" }, ...PICKER_FIRST.map(button)), search, all);
    const box = anchor.getBoundingClientRect();
    picker.style.top = `${Math.max(8, Math.min(box.bottom + 4, innerHeight - 330))}px`;
    picker.style.left = `${Math.max(8, Math.min(box.right - 300, innerWidth - 316))}px`;
    picker.onkeydown = event => {
      event.stopPropagation();
      const buttons = [...picker.querySelectorAll("button")];
      const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8 }[event.key];
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && event.target === search) all.querySelector("button")?.click();
      else if (by && (event.target !== search || event.key.startsWith("ArrowD"))) { event.preventDefault(); buttons[Math.max(0, Math.min(buttons.length - 1, event.target === search ? PICKER_FIRST.length : buttons.indexOf(event.target) + by))].focus(); }
    };
    document.body.append(picker);
    picker.querySelector("button").focus();
  },
});

document.addEventListener("pointerdown", event => {
  const picker = document.querySelector(".picker");
  if (picker && !picker.contains(event.target)) picker.remove();
});
