// What is looked at: who acts, which room, which thread. The one place of state beside the sessions.

import { Session } from "./session.js";

export const PEOPLE = ["alice", "bob", "carol"];
export const sessions = new Map(PEOPLE.map(name => [name, new Session(name)]));
export const view = { me: null, rid: null, thread: null, editing: null, wanted: "ops", message: null, since: null };

export const session = () => sessions.get(view.me);
export const current = () => session()?.rooms.get(view.rid);
export const handle = sub => sub.name ?? sub.room.name ?? sub.rid;

export const go = (me, room) => { location.hash = new URLSearchParams({ as: me, room }); };

/** The rooms in the order of the list: what Alt and a number lead to. */
export function ordered() {
  const subs = [...session().rooms.values()].filter(sub => sub.open !== false);
  const of = kinds => subs.filter(sub => kinds.includes(sub.t)).sort((a, b) => handle(a).localeCompare(handle(b)));
  return { rooms: of(["c", "p"]), direct: of(["d"]) };
}

export const address = sub => (sub.t === "d" ? `@${handle(sub)}` : handle(sub));
