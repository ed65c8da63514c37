// Messages, reactions and people as DOM nodes. It must not speak to the server.

import { el, emoji, inline, markdown } from "./markdown.js";
import { millis } from "./session.js";

const HUES = [8, 32, 150, 190, 214, 262, 300, 335];

export function avatar(username = "?") {
  const hue = HUES[[...username].reduce((sum, c) => sum + c.codePointAt(0), 0) % HUES.length];
  const bot = username === "houston";
  return el("span", { class: bot ? "avatar bot" : "avatar", style: `--hue:${hue}`, "aria-hidden": "true" }, bot ? "🚀" : username[0].toUpperCase());
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
export const signature = (message, grouped) => JSON.stringify([message._updatedAt, message.msg, message.reactions, message.tcount, message.attachments, message.editedAt, grouped]);

export function message(message, { grouped, context, act, inThread }) {
  const ts = millis(message.ts);
  const name = message.u?.username ?? "?";
  if (message.t) {
    const words = SYSTEM[message.t]?.(message) ?? message.t.replace(/[-_]/g, " ");
    return el("article", { class: "message system", id: `m-${message._id}` }, el("em", {}, `${name} ${words}`), " ", time(ts));
  }
  const own = name === context.me;
  const shown = message.alias || message.u?.name || name;
  const body = el("div", { class: "body" }, markdown(message.msg ?? "", context), ...(message.attachments ?? []).map(a => attachment(a, context, act)));
  return el(
    "article",
    { class: ["message", grouped && "grouped", message.private && "private"].filter(Boolean).join(" "), id: `m-${message._id}`, "aria-label": `${shown}, ${when(ts)}` },
    grouped ? el("span", { class: "avatar-gap" }) : avatar(name),
    el(
      "div",
      { class: "content" },
      !grouped && el("header", {}, el("strong", {}, shown), name !== shown && el("span", { class: "username" }, `@${name}`), name === "houston" && el("span", { class: "tag" }, "bot"), time(ts), message.private && el("span", { class: "tag" }, "only you see this")),
      body,
      message.editedAt && el("span", { class: "edited", title: `edited by ${message.editedBy?.username ?? "?"}` }, "(edited)"),
      reactions(message, context, act),
      !inThread && message.tcount > 0 && el("button", { type: "button", class: "thread-link", onclick: () => act.thread(message) }, `💬 ${message.tcount} ${message.tcount === 1 ? "reply" : "replies"}`),
    ),
    !message.private && toolbar(message, { own, act, inThread }),
  );
}

function toolbar(message, { own, act, inThread }) {
  const button = (label, sign, onclick) => el("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick }, sign);
  return el(
    "div",
    { class: "toolbar", role: "toolbar", "aria-label": "Message actions" },
    button("Approve or agree", "👍", () => act.react(message, ":+1:")),
    button("Add a reaction", "☺", event => act.pick(message, event.currentTarget)),
    !inThread && button("Reply in thread", "💬", () => act.thread(message)),
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

const safe = url => (/^https?:\/\//.test(url ?? "") ? url : null);

function attachment(a, context, act) {
  const color = CSS.supports("color", a.color ?? "") ? a.color : "var(--line)";
  const title = a.title && (safe(a.title_link) ? el("a", { href: a.title_link, target: "_blank", rel: "noopener noreferrer" }, a.title) : a.title);
  return el(
    "div",
    { class: "attachment", style: `border-color:${color}` },
    title && el("strong", {}, title),
    a.text && el("div", {}, markdown(a.text, context)),
    safe(a.image_url) && el("img", { src: a.image_url, alt: a.title ?? "", loading: "lazy" }),
    a.fields?.length && el("dl", {}, ...a.fields.flatMap(f => [el("dt", {}, f.title ?? ""), el("dd", {}, ...inline(String(f.value ?? ""), context))])),
    a.actions?.length && el("div", { class: "actions" }, ...a.actions.filter(b => b.type === "button").map(b => el("button", { type: "button", onclick: () => act.press(b) }, b.text ?? "…"))),
  );
}
