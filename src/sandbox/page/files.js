// Files: chosen, pasted or dropped, looked at before they are sent, and shown or saved when they came.
// A file is in the room only when its second step is confirmed: a reload in the middle leaves nothing there.

import { $, el, toast } from "./dom.js";
import { size } from "./render.js";

const UNFINISHED = "houston.uploading";
const pictures = new Map(); // path → object URL
const INLINE = /^image\/(png|jpeg|gif|webp|avif)$/;

let staged = []; // {file, url, node}
let running = null;
let leaving = false; // a reload ends what is under way; that is no answer to it

export const waiting = () => staged.length > 0;

/** Fetches with the headers of the person who looks: a token in an address would be in histories. */
async function fetchFile(session, path) {
  const response = await fetch(path, { headers: { "X-User-Id": session.uid, "X-Auth-Token": session.token } });
  if (!response.ok) throw new Error(`The file cannot be read: HTTP ${response.status}.`);
  return response.blob();
}

export function picture(session, path, alt) {
  const image = el("img", { alt, loading: "lazy", class: "picture", dir: "auto" });
  const show = url => { image.src = url; };
  if (pictures.has(path)) show(pictures.get(path));
  else {
    fetchFile(session, path).then(blob => {
      if (!INLINE.test(blob.type)) return image.remove(); // an SVG is a document: it can be saved
      pictures.set(path, URL.createObjectURL(blob));
      show(pictures.get(path));
    }).catch(() => image.remove());
  }
  return image;
}

export async function download(session, path, name) {
  const url = URL.createObjectURL(await fetchFile(session, path));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function draw() {
  $("uploads").hidden = !staged.length;
  $("uploads").replaceChildren(...staged.map(one => one.node));
}

function remove(one) {
  if (one.url) URL.revokeObjectURL(one.url);
  staged = staged.filter(other => other !== one);
  if (running?.one === one) running.abort();
  draw();
  $("composer").focus();
}

export function stage(files) {
  for (const file of files) {
    const one = { file, url: INLINE.test(file.type) ? URL.createObjectURL(file) : null, bar: el("progress", { max: 1, value: 0, hidden: true, "aria-label": `Upload of ${file.name}` }) };
    one.node = el(
      "li",
      {},
      one.url ? el("img", { src: one.url, alt: "" }) : el("span", { class: "sheet", "aria-hidden": "true" }, "📄"),
      el("span", {}, el("b", { dir: "auto" }, file.name), el("small", {}, size(file.size)), one.bar),
      el("button", { type: "button", class: "icon", "aria-label": `Remove ${file.name}`, onclick: () => remove(one) }, "✕"),
    );
    staged.push(one);
  }
  draw();
  $("composer").focus();
}

function post(session, path, form, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // `fetch` does not say how far an upload is
    request.open("POST", `/api/v1/${path}`);
    request.setRequestHeader("X-User-Id", session.uid);
    request.setRequestHeader("X-Auth-Token", session.token);
    request.responseType = "json";
    request.upload.onprogress = event => event.lengthComputable && progress(event.loaded / event.total);
    request.onload = () => resolve(request);
    request.onerror = () => reject(new Error("The connection was lost during the upload. Send it again."));
    request.onabort = () => reject(new Error("The upload was stopped."));
    running.abort = () => request.abort();
    request.send(form);
  });
}

/** Sends what is staged with the text; what was not sent stays staged. Gives whether all went. */
export async function send(session, rid, text, tmid) {
  let msg = text;
  for (const one of [...staged]) {
    running = { one, abort: () => {} };
    one.bar.hidden = false;
    sessionStorage.setItem(UNFINISHED, one.file.name);
    try {
      const form = new FormData();
      form.append("file", one.file, one.file.name);
      const answer = await post(session, `rooms.media/${rid}`, form, part => { one.bar.value = part; });
      if (answer.status === 405 || answer.status === 404) {
        // A server before 7.0 takes it in one step.
        if (msg) form.append("msg", msg);
        if (tmid) form.append("tmid", tmid);
        const old = await post(session, `rooms.upload/${rid}`, form, part => { one.bar.value = part; });
        if (old.status !== 200) throw new Error(old.response?.error ?? `HTTP ${old.status}`);
      } else if (answer.status === 200) {
        await session.rest("POST", `rooms.mediaConfirm/${rid}/${answer.response.file._id}`, { ...(msg && { msg }), ...(tmid && { tmid }) });
      } else throw new Error(answer.response?.error ?? answer.response?.message ?? `HTTP ${answer.status}`);
    } catch (error) {
      one.bar.hidden = true;
      toast(`${one.file.name}: ${error.message}`);
      return !msg;
    } finally {
      running = null;
      if (!leaving) sessionStorage.removeItem(UNFINISHED);
    }
    msg = "";
    remove(one);
  }
  return true;
}

export function wire() {
  const cut = sessionStorage.getItem(UNFINISHED);
  sessionStorage.removeItem(UNFINISHED);
  if (cut) toast(`${cut} was not sent: the page was reloaded during the upload. Choose it again.`);
  addEventListener("pagehide", () => { leaving = true; });
  addEventListener("beforeunload", event => running && event.preventDefault());
  $("attach").onclick = () => $("file").click();
  $("file").onchange = () => { stage($("file").files); $("file").value = ""; };
  $("composer").addEventListener("paste", event => {
    if (event.clipboardData?.files.length) { event.preventDefault(); stage(event.clipboardData.files); }
  });
  const main = document.querySelector("main");
  const over = on => main.classList.toggle("dropping", on);
  main.addEventListener("dragover", event => { if (event.dataTransfer?.types.includes("Files")) { event.preventDefault(); over(true); } });
  main.addEventListener("dragleave", event => main.contains(event.relatedTarget) || over(false));
  main.addEventListener("drop", event => { event.preventDefault(); over(false); if (event.dataTransfer?.files.length) stage(event.dataTransfer.files); });
}
