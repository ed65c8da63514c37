// One person's connection: login over REST, then the realtime API over one WebSocket, for ever.
// It must not touch the page.

/** As many messages as the server gives at once. */
const PAGE = 100;
const IDLE_MS = 20_000;
const DEAD_MS = 45_000;
const ALPHABET = "23456789ABCDEFGHJKLMNPQRSTWXYZabcdefghijkmnopqrstuvwxyz";

/** A message id of Rocket.Chat's own shape. Made here, so that a resend is no second message. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(17)), n => ALPHABET[n % ALPHABET.length]).join("");
}

/** Milliseconds of a date as the realtime API (`{$date}`) or REST (ISO) writes it. */
export function millis(date) {
  if (date == null) return 0;
  if (typeof date === "object") return date.$date ?? 0;
  return typeof date === "number" ? date : Date.parse(date) || 0;
}

export class Session extends EventTarget {
  constructor(username) {
    super();
    Object.assign(this, { username, state: "idle", rooms: new Map(), messages: new Map(), typing: new Map() });
    Object.assign(this, { uid: null, token: null, calls: new Map(), watched: new Map(), complete: new Map(), next: 1, tries: 0 });
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  become(state) {
    this.state = state;
    this.emit("state", state);
  }

  /** Connects, and again after every loss. */
  async start() {
    if (this.state !== "idle") return;
    this.become("connecting");
    try {
      if (!this.token) await this.login();
      this.open();
    } catch (error) {
      this.emit("trouble", error.message);
      this.retry();
    }
  }

  async login() {
    const stored = sessionStorage.getItem(`houston.${this.username}`);
    if (stored) {
      [this.uid, this.token] = stored.split(" ");
      return;
    }
    const { data } = await this.rest("POST", "login", { user: this.username, password: this.username });
    this.uid = data.userId;
    this.token = data.authToken;
    sessionStorage.setItem(`houston.${this.username}`, `${this.uid} ${this.token}`);
  }

  forget() {
    sessionStorage.removeItem(`houston.${this.username}`);
    this.token = null;
  }

  async rest(verb, path, body) {
    const headers = { "Content-Type": "application/json" };
    if (this.token) Object.assign(headers, { "X-User-Id": this.uid, "X-Auth-Token": this.token });
    const response = await fetch(`/api/v1/${path}`, { method: verb, headers, body: body && JSON.stringify(body) });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok || answer.success === false) {
      throw new Error(answer.error || answer.message || `${path}: HTTP ${response.status}`);
    }
    return answer;
  }

  open() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/websocket`);
    this.socket = socket;
    this.heard = Date.now();
    socket.onopen = () => this.frame({ msg: "connect", version: "1", support: ["1"] });
    socket.onmessage = event => {
      this.heard = Date.now();
      try {
        this.receive(JSON.parse(event.data));
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error; // a frame that is no JSON is no concern of ours
      }
    };
    socket.onclose = () => socket === this.socket && this.retry();
    this.beat = setInterval(() => {
      const silent = Date.now() - this.heard;
      if (silent > DEAD_MS) this.lost();
      else if (silent > IDLE_MS) this.frame({ msg: "ping" });
    }, 5_000);
  }

  lost() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.retry();
  }

  retry() {
    clearInterval(this.beat);
    for (const { reject } of this.calls.values()) reject(new Error("The connection was lost."));
    this.calls.clear();
    this.watched.clear();
    this.typing.clear();
    this.become("waiting");
    clearTimeout(this.timer);
    const wait = Math.min(500 * 2 ** this.tries++, 10_000) * (0.5 + Math.random());
    this.timer = setTimeout(() => this.now(), wait);
  }

  /** Tries at once what it would try later. */
  now() {
    if (this.state !== "waiting") return;
    clearTimeout(this.timer);
    this.state = "idle";
    this.start();
  }

  frame(frame) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  call(method, ...params) {
    return new Promise((resolve, reject) => {
      if (this.socket?.readyState !== WebSocket.OPEN) return reject(new Error("Not connected."));
      const id = String(this.next++);
      this.calls.set(id, { resolve, reject });
      this.frame({ msg: "method", method, id, params });
    });
  }

  subscribe(name, event) {
    const id = String(this.next++);
    this.frame({ msg: "sub", id, name, params: [event, { useCollection: false, args: [] }] });
    return id;
  }

  receive(frame) {
    if (frame.msg === "connected") this.resume();
    else if (frame.msg === "ping") this.frame(frame.id ? { msg: "pong", id: frame.id } : { msg: "pong" });
    else if (frame.msg === "result") {
      const call = this.calls.get(frame.id);
      this.calls.delete(frame.id);
      if (frame.error) call?.reject(new Error(frame.error.reason || frame.error.message || String(frame.error.error)));
      else call?.resolve(frame.result);
    } else if (frame.msg === "changed" && frame.fields) this.changed(frame.collection, frame.fields);
  }

  async resume() {
    try {
      await this.call("login", { resume: this.token });
    } catch {
      this.forget(); // the token is not valid any more: log in again
      return this.lost();
    }
    this.subscribe("stream-room-messages", "__my_messages__");
    for (const event of ["subscriptions-changed", "rooms-changed", "message"]) {
      this.subscribe("stream-notify-user", `${this.uid}/${event}`);
    }
    try {
      await this.refresh();
    } catch (error) {
      this.emit("trouble", error.message);
      return this.lost();
    }
    this.tries = 0;
    this.become("connected");
    this.flush();
  }

  async refresh() {
    const [rooms, subscriptions] = await Promise.all([this.call("rooms/get"), this.call("subscriptions/get")]);
    const byId = new Map(rooms.map(room => [room._id, room]));
    this.rooms = new Map(subscriptions.map(sub => [sub.rid, { ...sub, room: byId.get(sub.rid) ?? {} }]));
    this.emit("rooms");
  }

  changed(collection, { eventName = "", args = [] }) {
    const event = eventName.split("/").pop();
    if (collection === "stream-room-messages") return this.take(args[0]);
    if (collection === "stream-notify-user") {
      if (event === "message") return this.take({ ...args[0], private: true });
      const [action, doc] = args;
      if (event === "subscriptions-changed") this.subscriptionChanged(action, doc);
      if (event === "rooms-changed" && this.rooms.has(doc?._id)) this.rooms.get(doc._id).room = doc;
      this.emit("rooms");
    }
    if (collection === "stream-notify-room") {
      const rid = eventName.split("/")[0];
      if (event === "deleteMessage") {
        this.messages.get(rid)?.delete(args[0]?._id);
        this.emit("messages", rid);
      }
      if (event === "user-activity") this.activity(rid, args);
    }
  }

  subscriptionChanged(action, doc) {
    if (!doc?.rid) return;
    if (action === "removed") this.rooms.delete(doc.rid);
    else this.rooms.set(doc.rid, { room: {}, ...this.rooms.get(doc.rid), ...doc });
  }

  activity(rid, [username, activities = [], options = {}]) {
    if (username === this.username) return;
    const typing = this.typing.get(rid) ?? new Map();
    this.typing.set(rid, typing);
    if (activities.includes("user-typing")) typing.set(username, { until: Date.now() + 8_000, tmid: options?.tmid });
    else typing.delete(username);
    this.emit("typing", rid);
  }

  take(message) {
    if (!message?._id) return;
    const room = this.messages.get(message.rid) ?? new Map();
    this.messages.set(message.rid, room);
    if (message.sending && room.has(message._id) && !room.get(message._id).sending) return; // it is there
    room.set(message._id, message);
    this.typing.get(message.rid)?.delete(message.u?.username);
    this.emit("messages", message.rid);
    this.emit("typing", message.rid);
  }

  /** Loads the room's last messages and listens to its typing and deletions. */
  async watch(rid) {
    if (!this.watched.has(rid)) {
      const ids = ["user-activity", "deleteMessage"].map(event => this.subscribe("stream-notify-room", `${rid}/${event}`));
      this.watched.set(rid, ids);
    }
    await this.history(rid, null);
  }

  /** One page of messages before this time, or the last; gives whether there may be more. */
  async history(rid, before) {
    // One millisecond later, for messages of the same one as the oldest that is here.
    const { messages } = await this.call("loadHistory", rid, before ? { $date: before + 1 } : null, PAGE, null);
    const room = this.messages.get(rid) ?? new Map();
    this.messages.set(rid, room);
    if (before === null) this.forgetMissing(rid, room, messages);
    const known = room.size;
    for (const message of messages) room.set(message._id, message);
    const more = messages.length === PAGE && (before === null || room.size > known);
    if (before !== null || !more) this.complete.set(rid, !more);
    this.emit("messages", rid);
    return more;
  }

  /** What was deleted while the connection was lost goes; and all of the room when more was said than one page. */
  forgetMissing(rid, room, page) {
    const there = new Set(page.map(message => message._id));
    const oldest = page.length ? Math.min(...page.map(message => millis(message.ts))) : 0;
    const gap = page.length === PAGE && !page.some(message => room.has(message._id));
    for (const [id, message] of room) {
      const kept = message.private || message.sending || there.has(id);
      if (!kept && (gap || millis(message.ts) > oldest)) room.delete(id);
    }
    if (gap) this.complete.delete(rid);
  }

  async thread(tmid) {
    const { messages } = await this.rest("GET", `chat.getThreadMessages?tmid=${encodeURIComponent(tmid)}&count=100`);
    for (const message of messages) this.take(message);
  }

  /** A line that only this page shows. */
  local(rid, msg, tmid) {
    const u = { _id: "rocket.cat", username: "rocket.cat" };
    this.take({ _id: randomId(), rid, tmid, msg, u, ts: { $date: Date.now() }, private: true });
  }

  // ---- what is to be sent: kept here and in the tab until the server has it

  get outbox() {
    return (this.unsent ??= JSON.parse(sessionStorage.getItem(`houston.unsent.${this.username}`) ?? "[]"));
  }

  keep() {
    sessionStorage.setItem(`houston.unsent.${this.username}`, JSON.stringify(this.outbox));
  }

  send(rid, msg, tmid) {
    const one = { _id: randomId(), rid, msg, ...(tmid && { tmid }), at: Date.now() };
    this.outbox.push(one);
    this.keep();
    this.show(one, "waiting");
    return this.deliver(one);
  }

  show(one, sending) {
    const { _id, rid, msg, tmid, at } = one;
    this.take({ _id, rid, msg, tmid, ts: { $date: at }, u: { _id: this.uid, username: this.username }, sending });
  }

  /** One id is one message, however often it is sent. */
  async deliver(one) {
    const { at, ...message } = one;
    try {
      // No result means "not sent", or "is there already": the server swallows most reasons.
      if (!(await this.call("sendMessage", message))) await this.rest("GET", `chat.getMessage?msgId=${one._id}`);
      this.discard(one._id, false);
    } catch (error) {
      if (this.socket?.readyState !== WebSocket.OPEN) return; // sent again when the connection is back
      this.show(one, "failed");
      this.emit("trouble", `The message was not sent. ${error.message}`);
    }
  }

  discard(id, gone = true) {
    const one = this.outbox.find(one => one._id === id);
    this.unsent = this.outbox.filter(one => one._id !== id);
    this.keep();
    if (gone && one) {
      this.messages.get(one.rid)?.delete(id);
      this.emit("messages", one.rid);
    }
  }

  again(id) {
    const one = this.outbox.find(one => one._id === id);
    if (!one) return;
    one.at = Date.now();
    this.show(one, "waiting");
    this.deliver(one);
  }

  /** After a loss. A command that is a minute old is not sent without asking: the world may have changed. */
  flush() {
    for (const one of this.outbox) {
      const fresh = Date.now() - one.at < 60_000;
      this.show(one, fresh ? "waiting" : "failed");
      if (fresh) this.deliver(one);
    }
  }
}
