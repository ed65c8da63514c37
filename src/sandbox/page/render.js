// Messages, reactions and people as DOM nodes. It must not speak to the server.

import { el, link, safe } from "./dom.js";
import { emoji } from "./emoji.js";
import { inline, markdown } from "./markdown.js";
import { millis } from "./session.js";

const HUES = [8, 32, 150, 190, 214, 262, 300, 335];
/** A text with more lines, or more characters, is folded. */
const MOST_LINES = 40;
const MOST_CHARACTERS = 4_000;
const shownWhole = new Set(); // ids, so that an edit does not fold it again

export function avatar(username = "?") {
  const hue = HUES[[...username].reduce((sum, c) => sum + c.codePointAt(0), 0) % HUES.length];
  const bot = username === "houston";
  return el("span", { class: bot ? "avatar bot" : "avatar", "--hue": hue, "aria-hidden": "true" }, bot ? "🚀" : ([...username][0] ?? "?").toUpperCase());
}

/** "just now", "5 min", then the time, then the date. */
export function when(ts) {
  const age = (Date.now() - ts) / 60_000;
  const date = new Date(ts);
  if (age < 1) return "just now";
  if (age < 60) return `${Math.floor(age)} min ago`;
  if (date.toDateString() === new Date().toDateString()) return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return date.toLocaleDateString([], { day: "numeric", month: "short" });
}

export const time = ts => el("time", { datetime: new Date(ts).toISOString(), title: new Date(ts).toLocaleString(), "data-ts": ts }, when(ts));

const SYSTEM = {
  uj: () => "joined the room", ul: () => "left the room", au: m => `added ${m.msg}`, ru: m => `removed ${m.msg}`,
  room_changed_topic: m => `changed the topic to: ${m.msg}`, rm: () => "deleted a message", r: m => `renamed the room to ${m.msg}`,
  "user-muted": m => `muted ${m.msg}`, "user-unmuted": m => `unmuted ${m.msg}`, "room-archived": () => "archived the room",
  "room-unarchived": () => "unarchived the room", message_pinned: () => "pinned a message",
};

/** What a message looks like now, for the question whether its node has to be made again. */
export const signature = (m, grouped) => JSON.stringify([m._updatedAt, m.msg, m.reactions, m.tcount, m.attachments, m.editedAt, m.sending, grouped]);

/** `show`: who looks (`me`, `rooms`), and what can be done (`act`). */
export function message(message, { grouped, context, act, inThread }) {
  const ts = millis(message.ts);
  const name = message.u?.username ?? "?";
  if (message.t) {
    const words = SYSTEM[message.t]?.(message) ?? String(message.t).replace(/[-_]/g, " ");
    return el("article", { class: "message system", tabindex: -1 }, el("em", { dir: "auto" }, `${name} ${words}`), " ", time(ts));
  }
  const own = name === context.me;
  const shown = message.alias || message.u?.name || name;
  const classes = ["message", grouped && "grouped", message.private && "private", message.sending && `sending ${message.sending}`];
  return el(
    "article",
    { class: classes.filter(Boolean).join(" "), tabindex: -1, "aria-label": `${shown}, ${when(ts)}` },
    grouped ? el("span", { class: "avatar-gap" }) : avatar(name),
    el(
      "div",
      { class: "content" },
      !grouped && head(message, { shown, name, ts }),
      body(message, context, act),
      el(
        "div",
        { class: "foot" },
        reactions(message, context, act),
        !inThread && message.tcount > 0 && el("button", { type: "button", class: "thread-link", onclick: () => act.thread(message) }, `💬 ${message.tcount} ${message.tcount === 1 ? "reply" : "replies"}`),
        message.editedAt && el("span", { class: "edited", title: `edited by ${message.editedBy?.username ?? "?"}` }, "(edited)"),
        message.sending && unsent(message, act),
      ),
    ),
    !message.private && !message.sending && toolbar(message, { own, act, inThread }),
  );
}

const head = (message, { shown, name, ts }) =>
  el(
    "header",
    {},
    el("strong", {}, el("bdi", {}, shown)),
    name !== shown && el("span", { class: "username" }, `@${name}`),
    name === "houston" && el("span", { class: "tag" }, "bot"),
    time(ts),
    message.private && el("span", { class: "tag" }, "only you see this"),
  );

function body(message, context, act) {
  const text = String(message.msg ?? "");
  const lines = text.split("\n");
  const long = (lines.length > MOST_LINES || text.length > MOST_CHARACTERS) && !shownWhole.has(message._id);
  const node = el("div", { class: long ? "body folded" : "body", dir: "auto" }, markdown(text, context));
  const parts = text ? [node] : []; // a file may come without a word
  if (long) {
    const more = el("button", { type: "button", class: "more", "aria-expanded": "false", onclick: () => {
      shownWhole.add(message._id);
      node.classList.remove("folded");
      more.remove();
    } }, `Show more (${lines.length} ${lines.length === 1 ? "line" : "lines"})`);
    parts.push(more);
  }
  for (const a of Array.isArray(message.attachments) ? message.attachments : []) if (a && typeof a === "object") parts.push(attachment(a, message, context, act));
  for (const b of Array.isArray(message.blocks) ? message.blocks : []) parts.push(block(b, message, context, act));
  return el("div", {}, ...parts);
}

function unsent(message, act) {
  if (message.sending === "waiting") return el("span", { class: "edited" }, "sending …");
  return el(
    "span",
    { class: "unsent" },
    "Not sent. ",
    el("button", { type: "button", onclick: () => act.again(message) }, "Send again"),
    el("button", { type: "button", onclick: () => act.discard(message) }, "Discard"),
  );
}

function toolbar(message, { own, act, inThread }) {
  const button = (label, sign, onclick) => el("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick }, sign);
  return el(
    "div",
    { class: "toolbar", role: "toolbar", "aria-label": "Message actions" },
    button("Approve or agree", "👍", () => act.react(message, ":+1:")),
    button("Deny or disagree", "👎", () => act.react(message, ":-1:")),
    button("Add a reaction", "☺", event => act.pick(message, event.currentTarget)),
    !inThread && button("Reply in thread", "💬", () => act.thread(message)),
    button("Copy link", "🔗", () => act.copy(message)),
    own && button("Edit", "✎", () => act.edit(message)),
    own && button("Delete", "🗑", () => act.remove(message)),
  );
}

function reactions(message, context, act) {
  const all = Object.entries(message.reactions ?? {});
  if (!all.length) return null;
  const chip = ([code, { usernames = [] }]) => {
    const mine = usernames.includes(context.me);
    return el(
      "button",
      { type: "button", class: mine ? "chip mine" : "chip", "aria-pressed": String(mine), title: `${usernames.join(", ")} ${code}`, "aria-label": `${code} ${usernames.length}: ${usernames.join(", ")}`, onclick: () => act.react(message, code) },
      emoji(code) ?? code,
      el("span", {}, String(usernames.length)),
    );
  };
  return el("div", { class: "reactions" }, ...all.map(chip));
}

function attachment(a, message, context, act) {
  const file = /^\/file-upload\/[\w-]+\//.test(a.title_link ?? "") ? a.title_link : null;
  const title = a.title && (file ? el("button", { type: "button", class: "file", onclick: () => act.download(file, a.title) }, `⬇ ${a.title}`) : safe(a.title_link) ? link(a.title_link, a.title) : el("strong", {}, a.title));
  const picture = file && a.image_url === a.title_link && act.picture(file, a.title ?? "picture");
  const elsewhere = safe(a.image_url) && link(a.image_url, `🖼 ${a.image_url}`);
  const fields = Array.isArray(a.fields) ? a.fields : [];
  const actions = Array.isArray(a.actions) ? a.actions : [];
  // As Rocket.Chat: a button shows when it leads somewhere, or may speak in the window.
  const buttons = actions.filter(b => b?.type === "button" && (b.text || b.image_url) && (b.url || b.msg_in_chat_window));
  const box = el(
    "div",
    { class: file || buttons.length ? "attachment bare" : "attachment", dir: "auto" },
    title && el("div", {}, title, file && a.size && el("span", { class: "edited" }, ` ${size(a.size)}`)),
    a.text && el("div", {}, markdown(String(a.text), context)),
    picture || elsewhere,
    a.description && el("div", {}, markdown(String(a.description), context)),
    fields.length && el("dl", {}, ...fields.flatMap(f => [el("dt", {}, String(f?.title ?? "")), el("dd", {}, ...inline(String(f?.value ?? ""), context))])),
    buttons.length && el("div", { class: "actions" }, ...buttons.map(b => el("button", { type: "button", onclick: () => act.press(b, message) }, String(b.text ?? "…")))),
  );
  if (CSS.supports("color", a.color ?? "")) box.style.borderColor = a.color;
  return box;
}

export const size = bytes => (bytes < 1024 ? `${bytes} B` : bytes < 1 << 20 ? `${Math.round(bytes / 1024)} kB` : `${(bytes / (1 << 20)).toFixed(1)} MB`);

/** UIKit: what a bot without an app can send, and what of it is seen. */
function block(b, message, context, act) {
  const text = t => (t?.type === "mrkdwn" ? inline(String(t.text ?? ""), context) : [String(t?.text ?? "")]);
  const press = e => act.press({ url: e.url, block: { actionId: e.actionId, blockId: b.blockId, value: e.value, appId: e.appId ?? b.appId } }, message);
  const element = e =>
    e?.type === "button" && el("button", { type: "button", class: ["primary", "danger"].includes(e.style) ? e.style : null, onclick: () => press(e) }, ...text(e.text));
  switch (b?.type) {
    case "section": return el("div", { class: "block", dir: "auto" }, b.text && el("div", {}, ...text(b.text)), b.accessory && element(b.accessory));
    case "actions": return el("div", { class: "actions" }, ...(Array.isArray(b.elements) ? b.elements : []).map(element));
    case "context": return el("div", { class: "block edited", dir: "auto" }, ...(Array.isArray(b.elements) ? b.elements : []).flatMap(text));
    case "divider": return el("hr");
    default: return null;
  }
}
