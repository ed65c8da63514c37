// The message boxes: sending, editing, drafts, what is being typed, shortcodes, commands to try.

import { $, el, toast } from "./dom.js";
import { emoji, suggest as shortcodes } from "./emoji.js";
import * as files from "./files.js";
import { focusLast } from "./list.js";
import { millis } from "./session.js";
import { session, view } from "./view.js";

let slash = null; // {known, allowUnknown}, asked for once
let lastTyping = 0;
/** Slash words that Rocket.Chat keeps for itself, and that people mean Houston by. */
const OF_BOTS_TOO = new Set(["help", "status"]);

/** As high as what stands in it; one that is not seen has no height to tell. */
export const fit = box => {
  if (!box.offsetParent) return;
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, 220)}px`;
};
const draftKey = tmid => `houston.draft.${view.me}.${view.rid}${tmid ? `.${tmid}` : ""}`;

/** What was begun here, also before a reload. */
export function restoreDraft(box, tmid) {
  box.value = sessionStorage.getItem(draftKey(tmid)) ?? "";
  fit(box);
}

const saveDraft = (box, tmid) => {
  if (!view.rid || view.editing) return;
  if (box.value) sessionStorage.setItem(draftKey(tmid), box.value);
  else sessionStorage.removeItem(draftKey(tmid));
};

export function suggest(text) {
  if (view.editing) stopEditing();
  $("composer").value = text;
  fit($("composer"));
  saveDraft($("composer"), null);
  $("composer").focus();
}

/** As Rocket.Chat's web client: its own slash words are run, unknown ones are kept back unless the workspace allows them. */
export async function submit(rid, text, tmid) {
  const [, command, params] = /^\/(\S+)([\s\S]*)$/.exec(text) ?? [];
  if (!command) return session().send(rid, text, tmid);
  if (!slash) {
    const [{ commands }, { settings }] = await Promise.all([
      session().rest("GET", "commands.list?count=100"),
      session().rest("GET", "settings.public?_id=Message_AllowUnrecognizedSlashCommand"),
    ]);
    slash = { known: new Set(commands.map(c => c.command)), allowUnknown: settings[0]?.value === true };
  }
  if (slash.known.has(command)) {
    await session().rest("POST", "commands.run", { command, params: params.trim(), roomId: rid, ...(tmid && { tmid }) });
    if (OF_BOTS_TOO.has(command)) session().local(rid, `\`/${command}\` is Rocket.Chat’s own command; Houston’s is \`!${command}\`.`, tmid);
    return null;
  }
  if (slash.allowUnknown) return session().send(rid, text, tmid);
  const plain = command.replaceAll("`", "");
  session().local(rid, `No such command: \`/${plain}\`. The workspace does not send unknown slash commands; try \`!${plain}\`.`, tmid);
}

export function edit(message) {
  if (!view.editing) saveDraft($("composer"), null);
  view.editing = message;
  $("editing").hidden = false;
  $("composer").value = message.msg;
  fit($("composer"));
  $("composer").focus();
}

export function stopEditing() {
  view.editing = null;
  $("editing").hidden = true;
  restoreDraft($("composer"), null);
}

function typing(active, tmid) {
  if (!view.rid || (active && Date.now() - lastTyping < 4_000) || (!active && !lastTyping)) return;
  lastTyping = active ? Date.now() : 0;
  session().call("stream-notify-room", `${view.rid}/user-activity`, view.me, active ? ["user-typing"] : [], tmid ? { tmid } : {}).catch(() => {});
}

function editLast() {
  const own = [...(session().messages.get(view.rid)?.values() ?? [])].filter(m => m.u?.username === view.me && !m.t && !m.tmid && !m.private && !m.sending);
  const last = own.sort((a, b) => millis(a.ts) - millis(b.ts)).pop();
  if (last) edit(last);
  return Boolean(last);
}

/** `:roc` before the cursor: what it may become. */
function codes(box, list) {
  const part = /(?:^|\s):([a-z0-9_+-]{2,})$/.exec(box.value.slice(0, box.selectionStart))?.[1];
  const found = part ? shortcodes(part) : [];
  list.hidden = !found.length;
  box.setAttribute("aria-expanded", String(found.length > 0));
  const take = name => {
    const at = box.selectionStart - part.length - 1;
    box.setRangeText(`:${name}: `, at, box.selectionStart, "end");
    list.hidden = true;
    box.focus();
  };
  list.replaceChildren(...found.map(name => el("li", {}, el("button", { type: "button", tabindex: -1, onclick: () => take(name) }, `${emoji(name)} :${name}:`))));
}

export function wire({ box, form, list, tmid, closeThread }) {
  const done = promise => promise.catch(error => { toast(error.message); });
  form.addEventListener("submit", async event => {
    event.preventDefault();
    const text = box.value.trim();
    const { editing, rid } = view;
    if (!view.rid || (!text && (tmid() || !files.waiting()))) return;
    typing(false, tmid());
    list.hidden = true;
    if (editing && !tmid()) {
      stopEditing();
      return done(session().call("updateMessage", { _id: editing._id, rid: editing.rid, msg: text }).catch(error => { edit(editing); box.value = text; throw error; }));
    }
    const key = draftKey(tmid());
    box.value = "";
    fit(box);
    sessionStorage.removeItem(key);
    const back = () => { if (view.rid === rid && !box.value) { box.value = text; fit(box); saveDraft(box, tmid()); } else sessionStorage.setItem(key, text); };
    if (!tmid() && files.waiting()) {
      if (!(await files.send(session(), rid, text, null))) back();
    } else await done(submit(rid, text, tmid()).catch(error => { back(); throw error; }));
    $("messages").scrollTop = $("messages").scrollHeight;
  });
  box.addEventListener("input", () => {
    fit(box);
    saveDraft(box, tmid());
    codes(box, list);
    typing(box.value !== "", tmid());
  });
  box.addEventListener("blur", event => { if (!list.contains(event.relatedTarget)) list.hidden = true; });
  box.addEventListener("keydown", event => {
    const open = !list.hidden && list.querySelector("button");
    if (open && event.key === "Tab" && !event.shiftKey) { event.preventDefault(); open.click(); }
    else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
    else if (event.key === "ArrowUp" && box.value === "" && !tmid()) { if (editLast()) event.preventDefault(); }
    else if (event.key === "Escape") {
      event.stopPropagation();
      if (open) list.hidden = true;
      else if (view.editing && !tmid()) stopEditing();
      else if (tmid()) closeThread();
      else focusLast();
    }
  });
}
