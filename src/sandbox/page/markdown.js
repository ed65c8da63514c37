// Rocket.Chat's Markdown as DOM nodes: what it renders and what it leaves as text (tables, nested lists,
// rules, raw HTML). Text from messages only ever becomes text nodes.

import { el, link } from "./dom.js";
import { EMOTICONS, emoji } from "./emoji.js";

const INLINE = [
  [/\\([*_~`|\\[\]#>!])/g, m => m[1]],
  [/`([^`\n]+)`/g, (m, c) => code(m[1], c)],
  [/!\[([^\]\n]*)\]\((https?:\/\/[^\s)]+)\)/g, m => link(m[2], `🖼 ${m[1] || m[2]}`)], // a picture from elsewhere would tell elsewhere who reads
  [/\[([^\]\n]+)\]\(((?:https?:\/\/|mailto:)[^\s)]+)\)/g, (m, c) => link(m[2], ...inline(m[1], c))],
  [/https?:\/\/[^\s<>()]*[^\s<>().,;:!?'"*_~`]/g, m => link(m[0], m[0])],
  [/[\w.+-]+@[\w-]+\.[\w.-]*\w/g, m => link(`mailto:${m[0]}`, m[0])],
  [/\*\*(?=\S)([^\n]+?)(?<=\S)\*\*/g, (m, c) => el("strong", {}, ...inline(m[1], c))],
  [/(?<!\w)\*(?=[^\s*])([^*\n]*)(?<=\S)\*(?!\w)/g, (m, c) => el("strong", {}, ...inline(m[1], c))],
  [/(?<!\w)__?(?=[^\s_])([^\n]+?)(?<=[^\s_])__?(?!\w)/g, (m, c) => el("em", {}, ...inline(m[1], c))],
  [/~~(?=\S)([^\n]+?)~~|~(?=[^\s~])([^~\n]+)~/g, (m, c) => el("s", {}, ...inline(m[1] ?? m[2], c))],
  [/\|\|([^\n]+?)\|\|/g, (m, c) => spoiler(inline(m[1], c))],
  [/<t:(\d{1,12})(?::\w)?>/g, m => el("time", {}, new Date(m[1] * 1000).toLocaleString())],
  [/(?<![\w@/])@([\w.-]*\w)/g, (m, c) => el("span", { class: mention(m[1], c) }, m[0])],
  [/(?<![\w#/&])#([a-zA-Z][\w.-]*)/g, (m, c) => room(m, c)],
  [/(?<!\S)(?::'\(|[:;]-?[)(DP]|<3)(?!\S)/g, m => EMOTICONS[m[0]] ?? m[0]],
  [/:([a-z0-9_+-]+):/g, m => (emoji(m[1]) ? el("span", { class: "emoji", title: m[0], role: "img", "aria-label": m[1] }, emoji(m[1])) : m[0])],
];

/** A command in code is one to try: a click puts it into the message box, and sends nothing. */
function code(text, context) {
  if (!context.suggest || !/^[!/][a-z]/.test(text)) return el("code", {}, text);
  return el("button", { type: "button", class: "try", title: "Put this into the message box", onclick: () => context.suggest(text) }, el("code", {}, text));
}

const mention = (name, context) => ["mention", name === context.me && "me", ["all", "here"].includes(name) && "all"].filter(Boolean).join(" ");

function room([text, name], context) {
  if (!context.rooms?.has(name)) return text;
  return el("a", { href: `#as=${context.me}&room=${encodeURIComponent(name)}`, class: "mention" }, text);
}

function spoiler(children) {
  const show = event => event.currentTarget.classList.add("shown");
  return el("span", { class: "spoiler", tabindex: 0, role: "button", title: "Show the spoiler", onclick: show, onkeydown: e => e.key === "Enter" && show(e) }, ...children);
}

/** A line as text and elements: the earliest match wins, then the rest. */
export function inline(text, context) {
  const out = [];
  let at = 0;
  while (at < text.length) {
    let best = null;
    for (const [pattern, make] of INLINE) {
      pattern.lastIndex = at;
      const match = pattern.exec(text);
      if (match && (!best || match.index < best.match.index)) best = { match, make };
    }
    if (!best) break;
    if (best.match.index > at) out.push(text.slice(at, best.match.index));
    at = best.match.index + best.match[0].length; // before `make`, which may use the same patterns
    out.push(best.make(best.match, context));
  }
  if (at < text.length) out.push(text.slice(at));
  return out;
}

const BLOCKS = { task: /^- \[( |x)\] (.*)$/, bullet: /^[-*] (.*)$/, number: /^(\d+)\. (.*)$/, quote: /^> ?(.*)$/, heading: /^(#{1,4}) (.+)$/ };

/** A message's text as a fragment. */
export function markdown(text, context) {
  const out = document.createDocumentFragment();
  const lines = text.replace(/\r/g, "").split("\n");
  const run = (at, pattern) => {
    const found = [];
    for (let match; at < lines.length && (match = pattern.exec(lines[at])); at++) found.push(match);
    return found;
  };
  for (let at = 0; at < lines.length; ) {
    const fence = /^```\s*(\S*)\s*$/.exec(lines[at]);
    const end = fence ? lines.findIndex((line, n) => n > at && /^```\s*$/.test(line)) : -1;
    if (end > at) {
      out.append(el("pre", { tabindex: 0 }, el("code", { class: fence[1] && `language-${fence[1]}` }, lines.slice(at + 1, end).join("\n"))));
      at = end + 1;
      continue;
    }
    const one = /^```(.+)```$/.exec(lines[at]);
    const kind = one ? "one" : Object.keys(BLOCKS).find(name => BLOCKS[name].test(lines[at]));
    const items = kind && kind !== "one" ? run(at, BLOCKS[kind]) : [];
    if (kind === "one") out.append(el("pre", { tabindex: 0 }, el("code", {}, one[1])));
    else if (kind === "heading") out.append(el(`h${items[0][1].length + 2}`, {}, ...inline(items[0][2], context)));
    else if (kind === "quote") out.append(el("blockquote", {}, markdown(items.map(m => m[1]).join("\n"), context)));
    else if (kind === "number") out.append(el("ol", { start: items[0][1] }, ...items.map(m => el("li", {}, ...inline(m[2], context)))));
    else if (kind === "bullet") out.append(el("ul", {}, ...items.map(m => el("li", {}, ...inline(m[1], context)))));
    else if (kind === "task") out.append(el("ul", { class: "tasks" }, ...items.map(m => el("li", {}, m[1] === "x" ? "☑ " : "☐ ", ...inline(m[2], context)))));
    else out.append(lines[at] ? el("p", {}, ...inline(lines[at], context)) : el("p", { class: "gap" }));
    at += kind === "heading" ? 1 : Math.max(items.length, 1);
  }
  return out;
}
