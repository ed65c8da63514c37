// Rocket.Chat's Markdown as DOM nodes: what it renders and what it leaves as text (tables, nested lists,
// rules, raw HTML). Text from messages only ever becomes text nodes.

export const EMOJI = {
  white_check_mark: "✅", "+1": "👍", thumbsup: "👍", x: "❌", "-1": "👎", thumbsdown: "👎", octagonal_sign: "🛑",
  eyes: "👀", rocket: "🚀", tada: "🎉", heart: "❤️", joy: "😂", smile: "😄", slight_smile: "🙂", thinking: "🤔",
  pray: "🙏", clap: "👏", fire: "🔥", warning: "⚠️", rotating_light: "🚨", hourglass: "⌛", hourglass_flowing_sand: "⏳",
  arrows_counterclockwise: "🔄", repeat: "🔁", rewind: "⏪", leftwards_arrow_with_hook: "↩️", lock: "🔒", unlock: "🔓",
  package: "📦", mag: "🔍", memo: "📝", clipboard: "📋", bulb: "💡", question: "❓", grey_question: "❔",
  exclamation: "❗", no_entry: "⛔", no_entry_sign: "🚫", stop_sign: "🛑", stopwatch: "⏱️", clock1: "🕐", alarm_clock: "⏰",
  calendar: "📆", bar_chart: "📊", floppy_disk: "💾", whale: "🐳", bug: "🐛", wrench: "🔧", gear: "⚙️", link: "🔗",
  white_circle: "⚪", red_circle: "🔴", large_blue_circle: "🔵", green_circle: "🟢", yellow_circle: "🟡",
  orange_circle: "🟠", black_circle: "⚫", heavy_check_mark: "✔️", ballot_box_with_check: "☑️", point_right: "👉",
  wave: "👋", ok_hand: "👌", muscle: "💪", robot: "🤖", robot_face: "🤖", sparkles: "✨", zzz: "💤", skull: "💀",
  raised_hand: "✋", raising_hand: "🙋", sos: "🆘", arrow_forward: "▶️", double_vertical_bar: "⏸️", pause_button: "⏸️",
  hand: "✋", see_no_evil: "🙈", sweat_smile: "😅", sob: "😭", information_source: "ℹ️",
};

const TONES = ["🏻", "🏼", "🏽", "🏾", "🏿"];

/** `:+1_tone3:` and the like; null for a name that is not known. */
export function emoji(code) {
  const [, name, tone] = /^:?(.+?)(?:_tone([1-5]))?:?$/.exec(code) ?? [];
  const sign = Object.hasOwn(EMOJI, name) ? EMOJI[name] : null;
  return sign && tone ? sign + TONES[tone - 1] : sign;
}

/** An element with attributes, properties for events, and children. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (key.startsWith("on")) node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

const link = (href, ...label) => el("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...label);

const INLINE = [
  [/\\([*_~`|\\[\]#>!])/g, m => m[1]],
  [/`([^`\n]+)`/g, m => el("code", {}, m[1])],
  [/!\[([^\]\n]*)\]\((https?:\/\/[^\s)]+)\)/g, m => link(m[2], el("img", { src: m[2], alt: m[1], loading: "lazy" }))],
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
  [/:([a-z0-9_+-]+):/g, m => (emoji(m[1]) ? el("span", { class: "emoji", title: m[0], role: "img", "aria-label": m[1] }, emoji(m[1])) : m[0])],
];

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
