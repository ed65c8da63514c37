// Puts newer drawings of the server in place, and lines of output under those that are there. It draws nothing itself.
const main = document.querySelector("main");
const [now, output, line, said] = ["now", "output", "line", "said"].map(id => document.getElementById(id));
/** Characters of output that are kept on the page; the file has the whole. */
const MOST = 1_000_000;
// The server escapes what it draws; this is the one place where a text becomes elements.
const drawing = globalThis.trustedTypes?.createPolicy("drawing", { createHTML: html => html }) ?? { createHTML: html => html };

let waiting = null;
function draw(html) {
  const selection = getSelection();
  // What somebody is copying is not taken from under them.
  if (!selection.isCollapsed && now.contains(selection.anchorNode)) { waiting = html; return; }
  waiting = null;
  now.innerHTML = drawing.createHTML(html);
}
document.addEventListener("selectionchange", () => { if (waiting !== null) draw(waiting); });

function write(text) {
  const below = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
  output.append(text);
  while (output.textContent.length > MOST && output.childNodes.length > 1) output.firstChild.remove();
  if (below) output.scrollTop = output.scrollHeight;
}

function follow() {
  const address = `${main.dataset.live}${location.search}&from=${main.dataset.to}`;
  const source = new EventSource(address);
  source.addEventListener("open", () => { line.textContent = "live"; });
  source.addEventListener("output", event => {
    main.dataset.to = event.lastEventId;
    write(JSON.parse(event.data).text);
  });
  source.addEventListener("now", event => {
    const { html, said: sentence } = JSON.parse(event.data);
    draw(html);
    if (said.textContent !== sentence) said.textContent = sentence;
  });
  source.addEventListener("end", event => {
    source.close();
    line.textContent = event.data === "expired" ? "This link has expired: say !show in the run's room for a new one." : "";
  });
  source.addEventListener("error", () => {
    // The browser tries again by itself, unless it was refused.
    line.textContent = "not connected, trying again";
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 10_000);
  });
}
output.scrollTop = output.scrollHeight;
follow();
