// Nodes, and the one way to make them: foreign text only ever becomes text nodes and plain attributes.

export const $ = id => document.getElementById(id);

/** An element with attributes, properties for events, and children. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (key.startsWith("on")) node[key] = value;
    else if (key.startsWith("--")) node.style.setProperty(key, value); // a `style` attribute is against the page's policy
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

/** A link that leads away. */
export const link = (href, ...label) => el("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...label);

/** The address if it is one of the web, otherwise null: never `javascript:` and the like. */
export const safe = url => (typeof url === "string" && /^https?:\/\//i.test(url) ? url : null);

/** A line at the bottom of the window that goes by itself. */
export function toast(text) {
  const note = el("p", { class: "toast" }, text);
  $("toasts").append(note);
  setTimeout(() => note.remove(), 7_000);
}
